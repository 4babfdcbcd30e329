//! `nn path`, and `nn fit` without a lambda, from end to end: what is chosen, and by what.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::tables::{close, number};
use common::{Place, text};
use serde_json::Value;

#[test]
fn a_path_chooses_the_lambda_with_the_least_validation_error() {
    let place = Place::tables();
    let path = "nn path data.csv --target class --penalty neuron --gates 20 --points 5 --smallest 1e-3 --json";
    let report = place.told(&format!("{path} -o m.safetensors"));
    let points = report["points"].as_array().unwrap();
    let lambdas: Vec<f64> = points.iter().map(|p| number(p, "lambda")).collect();
    assert_eq!(points.len(), 5);
    assert!(lambdas.is_sorted_by(|a, b| a > b), "{lambdas:?}");
    close(lambdas[4], 1e-3 * number(&report, "lambda_max"), 1e-9);
    let errors: Vec<f64> = points
        .iter()
        .map(|p| number(p, "validation_error"))
        .collect();
    let best = report["best"].as_u64().unwrap() as usize;
    let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(errors[best] <= least, "{errors:?} {best}");
    close(number(&report, "lambda"), lambdas[best], 1e-12);
    assert_eq!(report["validation_folds"], 4);
    assert!(number(&report, "relative_duality_gap") <= 1e-6);
    assert_eq!(
        place.told("nn certify m.safetensors data.csv --json")["agrees"],
        true
    );

    // A fit without a lambda goes the usual path.
    let usual = "data.csv --target class --gates 20 --json";
    let (fit, path) = (
        place.told(&format!("nn fit {usual}")),
        place.told(&format!("nn path {usual}")),
    );
    assert_eq!(fit["lambda"], path["lambda"]);
    assert_eq!(fit["objective"], path["objective"]);
    let table = "nn path data.csv --target class --gates 20 --points 3 --val-folds folds.txt -q";
    let table = text(&place.does(table).stdout);
    assert_eq!(
        table.lines().filter(|line| line.contains('*')).count(),
        1,
        "{table}"
    );
    assert!(table.contains("no test rows"), "{table}");
}

/// One value is the smallest, as the help says.
#[test]
fn a_path_of_one_point_tries_the_smallest_lambda() {
    let place = Place::tables();
    let path =
        "nn path data.csv --target class --penalty neuron --gates 20 --points 1 --smallest 0.05";
    let report = place.told(&format!("{path} --json"));
    assert_eq!(report["points"].as_array().unwrap().len(), 1);
    close(
        number(&report, "lambda"),
        0.05 * number(&report, "lambda_max"),
        1e-9,
    );
}

#[test]
fn a_path_chooses_among_penalties() {
    let place = Place::tables();
    let tried = |options: &str| -> Vec<(String, u64, String)> {
        let path = format!("nn path data.csv --target class --points 3 --json {options}");
        let report = place.told(&path);
        let trials = report["trials"].as_array().unwrap();
        let least = trials.iter().map(|t| number(t, "validation_error"));
        let least = least.fold(f64::INFINITY, f64::min);
        let best = trials
            .iter()
            .find(|t| t["penalty"] == report["penalty"])
            .unwrap();
        assert!(number(best, "validation_error") <= least, "{report}");
        let text = |t: &Value, key: &str| t[key].as_str().unwrap().to_owned();
        let choice = |t: &Value| {
            let gates = t["gates"]["sampled"].as_u64().unwrap();
            (text(t, "penalty"), gates, text(t, "bias"))
        };
        trials.iter().map(choice).collect()
    };
    let of = |penalty: &str, gates, bias: &str| (penalty.to_owned(), gates, bias.to_owned());
    let neuron = of("neuron", 500, "penalized");
    assert_eq!(tried(""), [of("squared-l2", 2000, "free"), neuron.clone()]);
    let fixed = [of("squared-l2", 20, "none"), of("neuron", 20, "none")];
    assert_eq!(tried("--gates 20 --bias none"), fixed);
    assert_eq!(
        tried("--activation relu --gates 5"),
        [of("neuron", 5, "penalized")]
    );
    let feature = of("feature", 20, "penalized");
    assert_eq!(tried("--try-penalties feature --gates 20"), [feature]);
    assert_eq!(tried("--penalty neuron"), [neuron]);
}

#[test]
fn rare_classes_and_few_rows_are_no_trouble() {
    let place = Place::empty();
    let row = |i: usize| format!("{},{},c{}\n", i % 7, i % 5, i % 2);
    let rows: String = (0..30).map(row).collect();
    fs::write(place.path("rare.csv"), format!("a,b,t\n{rows}9,9,rare\n")).unwrap();
    let fit = place.told("nn fit rare.csv --target t --holdout none --gates 20 --json");
    assert_eq!(fit["class_names"].as_array().unwrap().len(), 3);
    fs::write(place.path("two.csv"), "a,t\n1,2\n3,5\n").unwrap();
    let output = place.run(&["nn", "fit", "two.csv", "--target=t", "--holdout=none"]);
    let message = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && message.contains("give --lambda"),
        "{message}"
    );
}

#[test]
fn a_path_chooses_among_numbers_of_gates() {
    let place = Place::tables();
    let path = "nn path data.csv --target class --points 3 --try-gates 1,20";
    let report = place.told(&format!("{path} --json"));
    let trials = report["trials"].as_array().unwrap();
    assert_eq!(trials[0]["gates"], serde_json::json!({"sampled": 1}));
    let error = |trial: &Value| number(trial, "validation_error");
    assert!(error(&trials[1]) < error(&trials[0]), "{trials:?}");
    assert_eq!(report["gates"], 20);
    let table = text(&place.does(&format!("{path} -q")).stdout);
    assert!(table.starts_with("gates"), "{table}");
}
