//! The main job from end to end, on three coloured classes and a small network.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Place, text};
use serde_json::Value;

const WEIGHTS: &str = "--weights=weights.safetensors";

fn fit(place: &Place, more: &[&str]) -> Value {
    place.json(&[&["fit", "photos", WEIGHTS, "--json"], more].concat())
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn fit_evaluate_predict_and_info_agree() {
    let place = Place::new();
    let report = fit(&place, &["-o", "m.safetensors", "--threads", "2"]);
    for key in [
        "accuracy",
        "objective",
        "relative_gradient_norm",
        "suboptimality_bound_relative",
        "passes",
        "seconds",
        "lambda_total",
        "weight_decay",
        "train_error",
        "test_error",
    ] {
        assert!(number(&report, key).is_finite(), "{key}");
    }
    assert_eq!(report["method"], "lqf");
    assert_eq!(report["model"], "m.safetensors");
    assert_eq!(report["status"], "Converged");
    assert!(number(&report, "relative_gradient_norm") <= 1e-3);
    assert!(number(&report, "accuracy") >= 0.9, "{report}");
    assert_eq!(
        place.names(),
        ["m.safetensors", "photos", "weights.safetensors"]
    );

    let evaluation = place.json(&["evaluate", "m.safetensors", "photos/test", "--json"]);
    assert_eq!(evaluation["accuracy"], report["accuracy"]);
    assert_eq!(evaluation["images"], 9);
    fs::create_dir(place.path("one")).unwrap();
    fs::rename(place.path("photos/test/red"), place.path("one/red")).unwrap();
    let one = place.json(&["evaluate", "m.safetensors", "one", "--json"]);
    assert_eq!(one["images"], 3, "one class is enough to test on");
    fs::rename(place.path("one/red"), place.path("photos/test/red")).unwrap();
    let table = place.run(&["evaluate", "m.safetensors", "photos/test"]);
    assert!(
        text(&table.stdout).contains("green"),
        "{}",
        text(&table.stdout)
    );

    let predictions = place.json(&["predict", "m.safetensors", "photos/test/red", "--json"]);
    let predictions = predictions.as_array().unwrap();
    assert_eq!(predictions.len(), 3);
    let right = predictions.iter().filter(|p| p["class"] == "red").count();
    assert_eq!(evaluation["per_class"][2]["right"], right);
    let lines = place.run(&["predict", "m.safetensors", "photos/test/red", "--top=1"]);
    assert_eq!(text(&lines.stdout).lines().count(), 3);

    let info = place.json(&["info", "m.safetensors", "--json"]);
    assert_eq!(info["classes"], serde_json::json!(["blue", "green", "red"]));
    assert_eq!(info["report"]["objective"], report["objective"]);
    let table = text(&place.run(&["info", "m.safetensors"]).stdout);
    for part in ["cifar-resnet20", "relative gradient norm", "format version"] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

#[test]
fn the_same_threads_and_seed_give_the_same_bits() {
    let place = Place::new();
    let run = |name: &str, more: &[&str]| {
        fit(&place, &[&["-o", name, "--threads=2"], more].concat());
        let model = convextune::model_file::Model::load(&place.path(name)).unwrap();
        (model.body.u, model.body.bias)
    };
    for more in [
        &["--solver=pcg"][..],
        &["--solver=dual"],
        &["--solver=pcg", "--precondition=none"],
    ] {
        assert_eq!(
            run("a.safetensors", more),
            run("b.safetensors", more),
            "{more:?}"
        );
    }
    assert_ne!(
        run("a.safetensors", &[]),
        run("b.safetensors", &["--seed=1"])
    );
}

#[test]
fn a_loaded_model_predicts_what_the_fitted_one_did() {
    let place = Place::new();
    for method in ["lqf", "lqf-fc", "fc"] {
        let report = fit(&place, &["-o", "m.safetensors", "--method", method]);
        let again = place.json(&["evaluate", "m.safetensors", "photos/train", "--json"]);
        assert!(
            (number(&again, "error") - number(&report, "train_error")).abs() < 1e-12,
            "{method}"
        );
        let test = place.json(&["evaluate", "m.safetensors", "photos/test", "--json"]);
        assert_eq!(test["error"], report["test_error"], "{method}");
    }
}

#[test]
fn compare_shows_all_methods_in_one_table() {
    let place = Place::new();
    let reports = place.json(&["compare", "photos", WEIGHTS, "--json"]);
    let methods: Vec<&Value> = reports
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["method"])
        .collect();
    assert_eq!(methods, ["fc", "lqf-fc", "lqf"]);
    let output = place.run(&["compare", "photos", WEIGHTS, "--methods=lqf-fc,fc"]);
    let table = text(&output.stdout);
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn a_plain_folder_and_a_stage_to_start_from_work() {
    let place = Place::new();
    let args = [
        "fit",
        "photos/train",
        WEIGHTS,
        "--linearize-from=layer3",
        "--holdout=0.5",
        "--json",
    ];
    let output = place.run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("nothing was written"),
        "{}",
        text(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["train_samples"], &report["test_samples"]),
        (&9.into(), &9.into())
    );
    assert_eq!(report["split"]["seeded"]["fraction"], 0.5);
    let quiet = place.run(&[&args[..], &["--quiet"]].concat());
    assert!(quiet.stderr.is_empty(), "{}", text(&quiet.stderr));
}

#[test]
fn a_backbone_is_checked_by_using_it() {
    let place = Place::new();
    let checked = place.json(&["backbone", "check", "weights.safetensors", "--json"]);
    assert_eq!(checked["backbone"], "cifar-resnet20");
    assert_eq!(checked["format"], "safetensors");
    let listed = text(&place.run(&["backbone", "list"]).stdout);
    assert!(
        listed.contains("efficientnet-lite0") && listed.contains("1280"),
        "{listed}"
    );
}

#[test]
fn help_and_version_are_no_errors() {
    let place = Place::new();
    for args in [
        &["--help"][..],
        &["--version"],
        &["fit", "--help"],
        &["backbone", "pull", "--help"],
    ] {
        let output = place.run(args);
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{args:?}"
        );
    }
}

/// The iteration that a checkpoint's header names; 0 without a checkpoint.
fn saved_iteration(path: &Path) -> u32 {
    let bytes = fs::read(path).unwrap_or_default();
    let header = text(&bytes[..bytes.len().min(400)]);
    let digits = header
        .split("\"iteration\":")
        .nth(1)
        .unwrap_or_default()
        .split(',')
        .next();
    digits.and_then(|d| d.parse().ok()).unwrap_or(0)
}

#[test]
fn a_killed_fit_is_resumed_to_the_same_minimum() {
    let place = Place::new();
    let slow = [
        "fit",
        "photos",
        WEIGHTS,
        "--precondition=none",
        "--solver-tolerance=1e-6",
        "--checkpoint-every=0",
        "--json",
        "--threads=1",
        "--lambda-total=0.02",
        "--linearize-from=layer3",
    ];
    let with = |more: &[&'static str]| [&slow[..], more].concat();
    let straight = place.json(&with(&["-o", "straight.safetensors"]));

    let mut child = place
        .command(&with(&["-o", "m.safetensors"]))
        .spawn()
        .unwrap();
    let checkpoint = place.path("m.safetensors.checkpoint");
    let began = Instant::now();
    while saved_iteration(&checkpoint) < 5 && began.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        checkpoint.exists() && !place.path("m.safetensors").exists(),
        "killed too late"
    );

    // Another problem's checkpoint is not taken.
    let other = place.run(
        &[
            &with(&["-o", "m.safetensors", "--resume"])[..],
            &["--seed=5"],
        ]
        .concat(),
    );
    assert_eq!(other.status.code(), Some(1));
    assert!(
        text(&other.stderr).contains("another fit"),
        "{}",
        text(&other.stderr)
    );

    let resumed = place.json(&with(&["-o", "m.safetensors", "--resume"]));
    assert!(
        !checkpoint.exists(),
        "the checkpoint goes when the model is written"
    );
    assert_eq!(
        resumed["iterations"], straight["iterations"],
        "bit for bit the same iteration"
    );
    assert_eq!(resumed["objective"], straight["objective"]);
    let passes = [&resumed, &straight].map(|report| number(report, "passes"));
    assert!(
        passes[0] < passes[1],
        "nothing was saved: {passes:?}, {}",
        straight["iterations"]
    );
    let load = |name: &str| {
        convextune::model_file::Model::load(&place.path(name))
            .unwrap()
            .body
            .u
    };
    assert_eq!(load("m.safetensors"), load("straight.safetensors"));
    assert!(fs::metadata(place.path("m.safetensors.checkpoint.tmp")).is_err());
}
