//! Bad input to `nn`: every case ends with the right exit code, one clear line that names the culprit, and
//! nothing half-written.

mod common;

use std::fs;

use common::cases::{case, check};
use common::tables::npy;
use common::{Place, listing};

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
            case("nn fit data.csv", "--target + .npy file f1, f2"),
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
    let commas: Vec<String> = (0..30).map(|i| format!("\"{i},5\",{}", i % 2)).collect();
    place.write("commas.csv", &format!("x,class\n{}\n", commas.join("\n")));
    fs::write(place.path("m.npy"), npy(4, 3, &[1.0; 12])).unwrap();
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
            case(
                &fit("commas.csv"),
                "commas.csv: row 1 (line 2), column `x`: `0,5` + write decimal points",
            ),
            case(&fit("m.npy"), "m.npy + no column `class` + called f1 to f3"),
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
    let rare: Vec<String> = (0..20).map(|i| format!("{i},{}", i % 2)).collect();
    place.write(
        "rare.csv",
        &format!("a,class\n{}\n20,rare\n", rare.join("\n")),
    );
    place.write("rare.txt", "0 1 2 3 20\n4 5\n0 1 2 3\n4 20 5\n");
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
            case(
                "nn path rare.csv --target class --points 2 --val-folds rare.txt",
                "rare.txt: fold 1 validates on row 20, of the class rare + (line 3) + (line 4)",
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
