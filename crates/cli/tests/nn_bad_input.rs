//! Bad input to `nn`: every case ends with the right exit code, one clear line that names the culprit, and
//! nothing half-written.

mod common;

use std::fs;

use common::cases::{case, check, fit_model};
use common::tables::npy;
use common::{Place, listing, text};
use convextune_model::weights::{read_safetensors_with_metadata, write_safetensors};

/// A fit that would succeed.
const GOOD: &str = "nn fit data.csv --target class --lambda 0.01 -o out.safetensors";

fn good(more: &str) -> String {
    format!("{GOOD} {more}")
}

/// A fit of another table.
fn fit(table: &str) -> String {
    format!("nn fit {table} --target class --lambda 0.01 -o out.safetensors")
}

#[test]
fn wrong_usage() {
    let place = Place::tables();
    fs::write(place.path("g.npy"), npy(8, 1, &[1.0; 8])).unwrap();
    check(
        &place,
        2,
        &[
            case("nn", "a command is missing"),
            case("nn train data.csv", "unrecognized subcommand + train"),
            case("nn fit data.csv", "--target"),
            case("nn fit --target class", "TABLE"),
            case(&good("--task ranking"), "--task + classification"),
            case(&good("--activation tanh"), "--activation + relu"),
            case(&good("--gates 0"), "--gates + from 1"),
            case(&good("--gates some"), "--gates + `all` + `adaptive`"),
            case(&good("--sampler uniform"), "--sampler + gaussian"),
            case(&good("--gates all --sampler sparse"), "--sampler + all"),
            case(
                &good("--gates-file g.npy --gates 9"),
                "--gates-file + adaptive",
            ),
            case(&good("--penalty l7"), "--penalty + nuclear"),
            case(&good("--loss absolute"), "--loss + squared-hinge"),
            case(&good("--bias some"), "--bias + penalized"),
            case(&good("--tolerance 0"), "--tolerance + between 0 and 1"),
            case(&good("--max-iterations 0"), "--max-iterations + from 1"),
            case(&good("--threads 0"), "--threads + from 1"),
            case(&good("--seed -5"), "-5"),
            case(&good("--holdout 1"), "--holdout + between 0 and 1"),
            case(&good("--folds folds.txt"), "--fold"),
            case(&good("--fold 1"), "--folds"),
            case(
                &good("--folds folds.txt --fold 1 --holdout 0.2"),
                "cannot be used with",
            ),
            case(
                &good("--task regression --loss cross-entropy"),
                "--loss + regression takes squared",
            ),
            case(
                "nn fit data.csv --target class --lambda NaN",
                "--lambda + finite",
            ),
            case("nn path data.csv --target class --lambda 1", "--lambda"),
            case(
                "nn path data.csv --target class --points 0",
                "--points + from 1",
            ),
            case("nn path data.csv --target class --smallest 1", "--smallest"),
            case("nn predict m.safetensors", "TABLE"),
            case("nn certify m.safetensors", "TABLE"),
            case(
                "nn export m.safetensors n.txt",
                "n.txt + .onnx or .safetensors",
            ),
            case("nn check n.pt data.csv --target class", "--lambda"),
            case(
                "nn check n.pt data.csv --target class --lambda 1 --gates adaptive",
                "--gates + `all`",
            ),
        ],
    );
}

#[test]
fn tables_that_cannot_be_learned_from() {
    let place = Place::tables();
    let rows = |row: &str| format!("a,b,class\n1,2,x\n2,1,y\n3,5,x\n{row}\n4,4,y\n");
    for (name, text) in [
        ("empty.csv", String::new()),
        ("header.csv", "a,b,class\n".into()),
        ("inf.csv", rows("inf,1,y")),
        ("huge.csv", rows("1,1e300,y")),
        ("overflow.csv", rows("1,1e999,y")),
        ("ragged.csv", rows("1,1,y,9")),
        ("unlabelled.csv", rows("1,1,")),
        ("nan.csv", rows("1,1,NaN")),
        ("single.csv", "a,b,class\n1,2,x\n2,1,x\n3,5,x\n".into()),
        ("one.csv", "a,b,class\n1,2,x\n".into()),
        ("constant.csv", "a,b,class\n1,2,x\n1,2,y\n1,2,x\n".into()),
        ("alone.csv", "class\nx\ny\nx\ny\n".into()),
        ("twins.csv", "a,a,class\n1,2,x\n2,1,y\n".into()),
        ("unique.csv", "a,class\n1,u\n2,v\n3,w\n4,x\n5,y\n".into()),
    ] {
        place.write(name, &text);
    }
    let numbers: Vec<String> = (0..30).map(|i| format!("{i},{}", i % 2)).collect();
    let numbers = format!("x,class\n{}\n", numbers.join("\n"));
    place.write("stray.csv", &numbers.replace("7,1", "seven,1"));
    place.write("level.csv", "a,price\n1,5.5\n2,5.5\n3,5.5\n");
    fs::write(place.path("binary.csv"), b"a,b\0\x01\x02").unwrap();
    fs::write(place.path("sheet.xlsx"), b"PK\x03\x04rest").unwrap();
    fs::write(place.path("cut.npy"), &npy(3, 2, &[1.0; 6])[..100]).unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    check(
        &place,
        1,
        &[
            case(&fit("nowhere.csv"), "nowhere.csv + cannot be opened"),
            case(&fit("folder"), "folder + regular file"),
            case(&fit("empty.csv"), "empty.csv + it is empty"),
            case(&fit("header.csv"), "header.csv + no rows"),
            case(&fit("binary.csv"), "binary.csv + binary"),
            case(&fit("sheet.xlsx"), "sheet.xlsx + export the sheet as CSV"),
            case(&fit("cut.npy"), "cut.npy + damaged"),
            case(&fit("inf.csv"), "inf.csv + line 5 + `a` + beyond 1e150"),
            case(&fit("huge.csv"), "huge.csv + line 5 + `b` + beyond 1e150"),
            case(&fit("overflow.csv"), "overflow.csv + `b` + beyond 1e150"),
            case(&fit("ragged.csv"), "ragged.csv + line 5 + 4"),
            case(
                &fit("unlabelled.csv"),
                "line 5 + `class` + target is missing",
            ),
            case(&fit("nan.csv"), "line 5 + `class` + target is missing"),
            case(&fit("stray.csv"), "line 9 + `x` + `seven` is not a number"),
            case(&fit("single.csv"), "single.csv + one class `x`"),
            case(&fit("one.csv"), "one.csv + at least 2"),
            case(&fit("constant.csv"), "constant.csv + always the same"),
            case(&fit("alone.csv"), "alone.csv + no column is left"),
            case(&fit("twins.csv"), "twins.csv + `a`"),
            case(&fit("unique.csv"), "unique.csv + too many to learn"),
            case(
                "nn fit data.csv --target classs --lambda 1",
                "data.csv + no column `classs` + `colour`",
            ),
            case(
                "nn fit level.csv --target price --task regression --lambda 1",
                "level.csv + nothing to learn",
            ),
            case(
                "nn fit data.csv --target class --task regression --lambda 1",
                "data.csv + `class` + not a number",
            ),
            case(
                "nn fit prices.csv --target price --lambda 1 --loss squared-hinge",
                "loss + price + --task classification",
            ),
            case(&good("--gates all"), "patterns + --gates N"),
        ],
    );
}

#[test]
fn folds_and_gates_that_cannot_be_used() {
    let place = Place::tables();
    place.write("far.txt", "0 1 2\n99\n");
    place.write("both.txt", "0 1 2\n2 3\n");
    place.write("odd.txt", "0 1 2\n3 4\n5\n");
    place.write("words.txt", "train\ntest\n");
    place.write("first.txt", "0 1 2 3\n4 5\n");
    fs::write(place.path("short.npy"), npy(3, 1, &[1.0; 3])).unwrap();
    fs::write(place.path("nan.npy"), npy(8, 2, &[f64::NAN; 16])).unwrap();
    fs::write(place.path("off.npy"), npy(8, 1, &[0.0; 8])).unwrap();
    let fold = |file: &str| good(&format!("--folds {file} --fold 0"));
    let gates = |file: &str| format!("{} --gates-file {file}", fit("data.csv"));
    let path = "nn path data.csv --target class --points 2";
    check(
        &place,
        1,
        &[
            case(&fold("nowhere.txt"), "nowhere.txt + cannot be opened"),
            case(&fold("far.txt"), "far.txt + line 2 + no row 99"),
            case(&fold("both.txt"), "both.txt + row 2 + both"),
            case(&fold("odd.txt"), "odd.txt + 3 lines"),
            case(&fold("words.txt"), "words.txt + `train`"),
            case(&good("--folds folds.txt --fold 2"), "folds.txt + 2 folds"),
            case(
                &format!("{path} --holdout 0.3 --val-folds first.txt"),
                "first.txt + fold 0 + no training row",
            ),
            case(&gates("nowhere.npy"), "nowhere.npy + cannot be opened"),
            case(&gates("data.csv"), "data.csv + not a NumPy file"),
            case(
                &gates("short.npy"),
                "short.npy + 3 rows + 8 numbers + colour=red",
            ),
            case(&gates("nan.npy"), "nan.npy + gate 1 + not finite"),
            case(&gates("off.npy"), "off.npy + switches a sample on"),
        ],
    );
}

#[test]
fn models_and_tables_that_do_not_fit() {
    let place = Place::tables();
    place.does(&format!("{} -q", GOOD.replace("out.", "m.")));
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
    place.does(&format!("{} -q", GOOD.replace("out.", "m.")));
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

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::tables();
    place.does(&format!("{} -q", GOOD.replace("out.", "m.")));
    fs::create_dir(place.path("folder")).unwrap();
    let to = |path: &str| GOOD.replace("out.safetensors", path);
    let predict = |path: &str| format!("nn predict m.safetensors data.csv -o {path}");
    check(
        &place,
        1,
        &[
            case(&to("folder"), "folder: is a folder"),
            case(&to("nowhere/m.safetensors"), "no folder nowhere"),
            case(
                &to("/proc/m.safetensors"),
                "/proc/m.safetensors + cannot write",
            ),
            case(&to("/dev/full"), "/dev/full: is no regular file"),
            case(&predict("folder"), "folder: is a folder"),
            case(&predict("nowhere/p.csv"), "no folder nowhere"),
            case(&predict("/dev/full"), "/dev/full: is no regular file"),
            case(
                "nn export m.safetensors nowhere/n.onnx",
                "no folder nowhere",
            ),
            case(
                "nn path data.csv --target class -o folder",
                "folder: is a folder",
            ),
        ],
    );
    assert!(listing(&place.path("folder")).is_empty());
}

#[test]
fn a_failed_fit_leaves_an_existing_model_alone() {
    let place = Place::tables();
    place.does(&format!("{GOOD} -q"));
    let before = fs::read(place.path("out.safetensors")).unwrap();
    check(
        &place,
        1,
        &[case(&good("--folds folds.txt --fold 7"), "folds.txt")],
    );
    assert_eq!(fs::read(place.path("out.safetensors")).unwrap(), before);
}
