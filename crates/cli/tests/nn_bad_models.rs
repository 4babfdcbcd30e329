//! Models and tables that do not belong together: as `nn_bad_input.rs`.

mod common;

use std::fs;

use common::cases::{case, check, fit_model};
use common::tables::npy;
use common::{Place, text};
use convextune_model::weights::{read_safetensors_with_metadata, write_safetensors};

/// A fit that succeeds.
const FIT: &str = "nn fit data.csv --target class --lambda 0.01 -o m.safetensors -q";

#[test]
fn models_and_tables_that_do_not_fit() {
    let place = Place::tables();
    place.does(FIT);
    place.does("nn export m.safetensors plain.safetensors -q");
    let data = fs::read_to_string(place.path("data.csv")).unwrap();
    place.write("other.csv", "a,b,colour,class\n1,2,red,yes\n2,1,blue,no\n");
    place.write("narrow.csv", "a,colour\n1,red\n");
    place.write("text.csv", "a,b,colour\n1,2,red\n1,two,red\n");
    place.write("huge.csv", "a,b,colour\n1e300,2,red\n");
    place.write("far.csv", "a,b,colour\n1,inf,red\n");
    place.write("new.csv", &data.replacen(",yes", ",maybe", 4));
    let (tensors, mut metadata) =
        read_safetensors_with_metadata::<f64>(&place.path("m.safetensors")).unwrap();
    let header = metadata["convextune"].replace("\"format_version\":1", "\"format_version\":9");
    metadata.insert("convextune".into(), header);
    write_safetensors(&place.path("newer.safetensors"), &tensors, &metadata).unwrap();
    let bytes = fs::read(place.path("m.safetensors")).unwrap();
    fs::write(place.path("cut.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    // A matrix has no names: the number of its columns counts.
    fs::write(place.path("m.npy"), npy(6, 3, &MATRIX)).unwrap();
    fs::write(place.path("wide.npy"), npy(2, 5, &[1.0; 10])).unwrap();
    place.does("nn fit m.npy --target f3 --lambda 0.1 --holdout none -o matrix.safetensors -q");
    let predict = |table: &str| format!("nn predict m.safetensors {table} -o p.csv");
    let with = |model: &str| format!("nn predict {model} data.csv -o p.csv");
    check(
        &place,
        1,
        &[
            case(&predict("nowhere.csv"), "nowhere.csv + cannot be opened"),
            case(&predict("narrow.csv"), "narrow.csv + lacks 1 + `b`"),
            case(
                &predict("text.csv"),
                "text.csv + line 3 + `two` is not a number",
            ),
            case(&predict("huge.csv"), "huge.csv + line 2 + `a` + 1e150"),
            case(&predict("far.csv"), "far.csv + line 2 + `b` + 1e150"),
            case("nn predict matrix.safetensors wide.npy", "wide.npy + 5"),
            case(&with("nowhere.safetensors"), "nowhere.safetensors"),
            case(&with("data.csv"), "data.csv"),
            case(&with("cut.safetensors"), "cut.safetensors"),
            case(
                &with("newer.safetensors"),
                "newer.safetensors + newer convextune + version 9",
            ),
            case(
                &with("plain.safetensors"),
                "plain.safetensors + give the model",
            ),
            case(
                "info newer.safetensors",
                "newer.safetensors + newer convextune",
            ),
            case(
                "predict m.safetensors data.csv",
                "m.safetensors + nn predict",
            ),
            case(
                "evaluate m.safetensors folder",
                "m.safetensors + nn predict",
            ),
            case(
                "nn certify m.safetensors other.csv",
                "other.csv + 2 rows + the table of the fit",
            ),
            case(
                "nn certify m.safetensors new.csv",
                "new.csv + `maybe` is none of",
            ),
            case(
                "nn certify plain.safetensors data.csv",
                "plain.safetensors + the model",
            ),
            case(
                "nn export m.safetensors n.onnx --prune other.csv",
                "other.csv + 2 rows",
            ),
            case(
                "nn export plain.safetensors n.onnx",
                "plain.safetensors + the model",
            ),
            case(
                "nn check m.safetensors data.csv --target class --lambda 1",
                "m.safetensors + holds no two-layer network",
            ),
            case(
                "nn check plain.safetensors data.csv --target class --lambda 1",
                "plain.safetensors + has gates",
            ),
        ],
    );
}

const MATRIX: [f64; 18] = [
    0.0, 1.0, 5.0, 1.0, 0.0, 6.0, 0.0, 0.0, 5.5, 1.0, 1.0, 6.5, 2.0, 1.0, 7.1, 2.0, 0.0, 7.4,
];

/// What was recomputed is printed all the same.
#[test]
fn a_certificate_of_another_table_fails() {
    let place = Place::tables();
    place.does(FIT);
    let data = fs::read_to_string(place.path("data.csv")).unwrap();
    place.write(
        "swapped.csv",
        &data
            .replace(",yes", ",YES")
            .replace(",no", ",yes")
            .replace(",YES", ",no"),
    );
    let output = place.run(&["nn", "certify", "m.safetensors", "swapped.csv", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["agrees"], false);
    assert_ne!(told["objective"], told["stored"]["objective"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("swapped.csv") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn models_of_pictures_are_not_taken() {
    let place = Place::new();
    fit_model(&place);
    place.write("data.csv", "a,b,class\n1,2,x\n2,1,y\n");
    check(
        &place,
        1,
        &[
            case(
                "nn predict m.safetensors data.csv",
                "m.safetensors + convextune predict",
            ),
            case(
                "nn certify m.safetensors data.csv",
                "m.safetensors + model of pictures + a table is needed + convextune nn fit",
            ),
            case(
                "nn predict weights.safetensors data.csv",
                "weights.safetensors + weight file",
            ),
            case(
                "info weights.safetensors",
                "weights.safetensors + weight file",
            ),
        ],
    );
}

/// The predictions are written; the one line says why nothing is told about them.
#[test]
fn a_target_that_cannot_be_compared_is_mentioned() {
    let place = Place::tables();
    place.does(FIT);
    place.does("nn fit prices.csv --target price --lambda 0.1 -o p.safetensors -q");
    place.write("gap.csv", "a,b,colour,class\n1,2,red,yes\n2,1,blue,\n");
    place.write("new.csv", "a,b,colour,class\n1,2,red,maybe\n");
    place.write("commas.csv", "a;b;price\n1;2;3,5\n");
    place.write("good.csv", "a,b,colour,class\n1,2,red,yes\n2,1,blue,no\n");
    place.write("none.csv", "a,b,colour\n1,2,red\n");
    let said = |model: &str, table: &str| {
        let output = place.does(&format!("nn predict {model} {table}"));
        assert!(!output.stdout.is_empty());
        text(&output.stderr)
    };
    let why = "the table has the target's column, but no error is given";
    for (model, table, reason) in [
        (
            "m.safetensors",
            "gap.csv",
            "gap.csv: row 2 (line 3), column `class`: the target is missing",
        ),
        (
            "m.safetensors",
            "new.csv",
            "`maybe` is none of the model's classes",
        ),
        (
            "p.safetensors",
            "commas.csv",
            "`3,5` is not a number: write decimal points",
        ),
    ] {
        let said = said(model, table);
        assert!(said.contains(why) && said.contains(reason), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let told = said("m.safetensors", "good.csv");
    assert!(
        told.contains("share of rows classified wrongly") && !told.contains(why),
        "{told}"
    );
    assert_eq!(said("m.safetensors", "none.csv"), "");
    let told = place.told("nn predict m.safetensors gap.csv --json");
    assert_eq!(told["error"], serde_json::Value::Null);
}
