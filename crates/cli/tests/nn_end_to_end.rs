//! Networks on tables from end to end.

mod common;

use std::fs;

use common::tables::{ROWS, close, npy, number};
use common::{Place, text};
use serde_json::Value;

/// The usual fit, with a lambda, as the choice of one takes 40 fits.
const FIT: &str = "nn fit data.csv --target class --gates 50 --lambda 0.01 --json";

#[test]
fn fit_predict_certify_and_info_agree() {
    let place = Place::tables();
    let report = place.told(&format!("{FIT} -o m.safetensors"));
    for key in [
        "objective",
        "dual_value",
        "duality_gap",
        "relative_duality_gap",
        "constraint_violation",
        "gates",
        "neurons",
        "train_error",
        "test_error",
        "seconds",
        "lambda",
        "lambda_max",
        "iterations",
        "features",
    ] {
        assert!(number(&report, key).is_finite(), "{key}");
    }
    assert_eq!(report["status"], "Converged");
    assert_eq!(report["model"], "m.safetensors");
    assert_eq!(report["task"], "classification");
    assert_eq!(report["class_names"], serde_json::json!(["no", "yes"]));
    assert!(number(&report, "relative_duality_gap") <= 1e-6);
    assert!(number(&report, "dual_value") <= number(&report, "objective"));
    // a, b, whether each is missing, three colours, the bias.
    assert_eq!(report["features"], 8);
    let (train, test) = (number(&report, "train_rows"), number(&report, "test_rows"));
    close(train + test, ROWS as f64, 0.0);
    assert_eq!(report["test_rows"], 12);

    let proof = place.told("nn certify m.safetensors data.csv --json");
    assert_eq!(proof["agrees"], true);
    assert_eq!(proof["rows"], report["train_rows"]);
    for key in ["objective", "dual_value"] {
        close(number(&proof, key), number(&report, key), 1e-12);
        assert_eq!(proof["stored"][key], report[key]);
    }
    close(
        number(&proof, "network_objective"),
        number(&report, "objective"),
        1e-12,
    );
    assert!(number(&proof, "output_difference") < 1e-12);

    let told = place.told("nn predict m.safetensors data.csv --json");
    let wrong = train * number(&report, "train_error") + test * number(&report, "test_error");
    close(number(&told, "error") * ROWS as f64, wrong, 1e-9);
    place.does("nn predict m.safetensors data.csv -o p.csv --quiet");
    let lines = fs::read_to_string(place.path("p.csv")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[0], "class,score of no,score of yes");
    assert_eq!(lines.len(), ROWS + 1);
    for (line, prediction) in lines[1..]
        .iter()
        .zip(told["predictions"].as_array().unwrap())
    {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[0], prediction["class"]);
        let score: f64 = cells[2].parse().unwrap();
        close(score, number(&prediction["scores"], "yes"), 0.0);
        assert_eq!(score > 0.0, cells[0] == "yes");
    }
    // Without the target's column, and to standard output, the same.
    let bare: Vec<String> = fs::read_to_string(place.path("data.csv"))
        .unwrap()
        .lines()
        .map(|line| line.rsplit_once(',').unwrap().0.to_owned())
        .collect();
    place.write("bare.csv", &bare.join("\n"));
    let printed = place.does("nn predict m.safetensors bare.csv");
    assert_eq!(text(&printed.stdout).lines().collect::<Vec<_>>(), lines);
    assert!(printed.stderr.is_empty(), "{}", text(&printed.stderr));

    let info = place.told("info m.safetensors --json");
    assert_eq!(info["kind"], "convex-network");
    assert_eq!(info["report"]["objective"], report["objective"]);
    let table = text(&place.does("info m.safetensors").stdout);
    for part in ["gated ReLU", "relative duality gap", "colour=red", "yes"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let expected = [
        "bare.csv",
        "data.csv",
        "folds.txt",
        "m.safetensors",
        "p.csv",
    ];
    let rest = ["plane.csv", "prices.csv"];
    assert_eq!(place.names(), [&expected[..], &rest].concat());
}

#[test]
fn all_patterns_of_a_plane_and_adaptive_gates_reach_the_same_minimum() {
    let place = Place::tables();
    for activation in ["relu", "gated"] {
        let fit = format!(
            "nn fit plane.csv --target class --holdout none --lambda 0.02 --tolerance 1e-8 \
             --activation {activation} --json --gates"
        );
        let all = place.told(&format!("{fit} all"));
        // 12 rows of rank 3 have 134 patterns; one of them is off everywhere.
        assert_eq!(
            (&all["gates"], &all["exhaustive"]),
            (&133.into(), &true.into())
        );
        assert!(number(&all, "constraint_violation") <= 1e-9);
        assert_eq!(all["test_error"], Value::Null);
        let few = place.told(&format!("{fit} 5"));
        assert_eq!(few["exhaustive"], false);
        assert!(number(&few, "objective") > number(&all, "objective") * (1.0 + 1e-6));
        let adaptive = place.told(&format!("{fit} adaptive"));
        close(
            number(&adaptive, "objective"),
            number(&all, "objective"),
            1e-6,
        );
    }
}

#[test]
fn a_number_is_predicted_in_its_own_units() {
    let place = Place::tables();
    let report = place.told(
        "nn fit prices.csv --target price --lambda 1e-3 --bias free --linear -o m.safetensors --json",
    );
    assert_eq!(report["task"], "regression");
    assert!(number(&report, "test_error") < 0.3, "{report}");
    let told = place.told("nn predict m.safetensors prices.csv --json");
    let table = fs::read_to_string(place.path("prices.csv")).unwrap();
    for (line, prediction) in table
        .lines()
        .skip(1)
        .zip(told["predictions"].as_array().unwrap())
    {
        let price: f64 = line.rsplit(',').next().unwrap().parse().unwrap();
        assert!(
            (price - number(prediction, "value")).abs() < 20.0,
            "{line}: {prediction}"
        );
    }
    // Errors are told with their unit, the deviation of the training rows.
    let said = text(&place.does("nn predict m.safetensors prices.csv").stderr);
    let unit = said.split("root mean square error in training deviations (");
    let unit: f64 = unit
        .last()
        .unwrap()
        .split(')')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let info = text(&place.does("info m.safetensors").stdout);
    assert!(
        info.contains("errors are") && info.contains("of price"),
        "{info}"
    );
    let off = |(line, prediction): (&str, &Value)| {
        let price: f64 = line.rsplit(',').next().unwrap().parse().unwrap();
        (price - number(prediction, "value")).powi(2)
    };
    let lines = table.lines().skip(1);
    let squares: f64 = lines
        .zip(told["predictions"].as_array().unwrap())
        .map(off)
        .sum();
    let error = (squares / ROWS as f64).sqrt();
    close(unit * number(&told, "error"), error, 1e-2);
    let printed = text(&place.does("nn predict m.safetensors prices.csv -q").stdout);
    assert_eq!(printed.lines().next(), Some("price"));
    assert_eq!(
        place.told("nn certify m.safetensors prices.csv --json")["agrees"],
        true
    );
}

/// A class of one row is trained on in every validation fold; two rows are too few to validate.
#[test]
fn a_fold_is_trained_and_tested_on() {
    let place = Place::tables();
    for (fold, train, test) in [(0, 45, 15), (1, 15, 15)] {
        let report = place.told(&format!("{FIT} --folds folds.txt --fold {fold}"));
        assert_eq!(
            (&report["train_rows"], &report["test_rows"]),
            (&train.into(), &test.into())
        );
    }
    let none = place.told(&format!("{FIT} --holdout none"));
    assert_eq!(
        (&none["train_rows"], &none["test_error"]),
        (&60.into(), &Value::Null)
    );
}

/// Every loss ends with its certificate, and a heavy penalty with the zero network, which is a model too.
#[test]
fn every_loss_is_certified_and_so_is_the_zero_network() {
    let place = Place::tables();
    for loss in ["squared", "cross-entropy", "squared-hinge"] {
        let fit =
            format!("nn fit data.csv --target class --gates 50 --loss {loss} -o m.safetensors");
        let report = place.told(&format!("{fit} --lambda 0.01 --json"));
        assert!(number(&report, "relative_duality_gap") <= 1e-6, "{report}");
        assert!(number(&report, "train_error") < 0.2, "{report}");
        let proof = place.told("nn certify m.safetensors data.csv --json");
        assert_eq!(proof["agrees"], true);
        close(
            number(&proof, "network_objective"),
            number(&report, "objective"),
            1e-12,
        );
        let zero = number(&report, "lambda_max");
        for (factor, live) in [(0.99, true), (1.01, false)] {
            let report = place.told(&format!("{fit} --lambda {} --json", factor * zero));
            assert_eq!(number(&report, "neurons") > 0.0, live, "{loss}: {report}");
        }
        place.does("nn certify m.safetensors data.csv");
        place.does("nn predict m.safetensors data.csv");
        place.does("nn export m.safetensors n.onnx");
        let zero = place.told("nn export m.safetensors n.safetensors --prune data.csv --json");
        assert_eq!(zero["units"], 0);
    }
}

#[test]
fn three_classes_have_three_outputs() {
    let place = Place::tables();
    let table = fs::read_to_string(place.path("data.csv")).unwrap();
    let colours = table.replace(",red,no", ",red,maybe");
    place.write("three.csv", &colours);
    let fit = "nn fit three.csv --target class --gates 50 --lambda 0.005 -o m.safetensors --json";
    let report = place.told(fit);
    assert_eq!(
        report["class_names"],
        serde_json::json!(["maybe", "no", "yes"])
    );
    assert!(number(&report, "train_error") < 0.2, "{report}");
    let told = place.told("nn predict m.safetensors three.csv --json");
    for prediction in told["predictions"].as_array().unwrap() {
        let scores = prediction["scores"].as_object().unwrap();
        let best = &scores[prediction["class"].as_str().unwrap()];
        assert!(
            scores.values().all(|s| s.as_f64() <= best.as_f64()),
            "{prediction}"
        );
    }
    assert_eq!(
        place.told("nn certify m.safetensors three.csv --json")["agrees"],
        true
    );
}

#[test]
fn gates_come_from_a_file() {
    let place = Place::tables();
    // a, b, bias; the third has the first one's pattern, the fourth is off everywhere.
    let gates = [1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.1, 0.2, 0.2, -1.0];
    fs::write(place.path("g.npy"), npy(3, 4, &gates)).unwrap();
    let fit = "nn fit plane.csv --target class --lambda 0.01 --gates-file g.npy --json";
    let given = place.told(fit);
    assert_eq!(given["gates"], 2);
    let more = place.told(&format!("{fit} --gates adaptive"));
    assert!(number(&more, "gates") > 2.0);
    assert!(number(&more, "objective") < number(&given, "objective"));
}

#[test]
fn the_seed_decides_and_threads_do_not() {
    let place = Place::tables();
    let fit = |more: &str, name: &str| {
        place.does(&format!("{FIT} {more} -o {name}"));
        let model = convextune::convexnet::NetModel::load(&place.path(name)).unwrap();
        (model.network, model.header.report.certificate.objective)
    };
    let one = fit("--threads 2", "a.safetensors");
    assert_eq!(one, fit("--threads 2", "b.safetensors"));
    close(fit("--threads 1", "c.safetensors").1, one.1, 1e-9);
    assert_ne!(one.0.gates, fit("--seed 1", "d.safetensors").0.gates);
}

/// Data that look bad but can be learned from; what was done about them is said.
#[test]
fn odd_tables_work() {
    let place = Place::empty();
    let names: Vec<String> = (0..40).map(|j| format!("f{j}")).collect();
    let mut lines = vec![format!("{},constant,empty,class", names.join(","))];
    let mut numbers = common::Numbers::new(2);
    for i in 0..12 {
        let cells: Vec<String> = names.iter().map(|_| numbers.next().to_string()).collect();
        lines.push(format!("{},7,,{}", cells.join(","), i % 2));
    }
    place.write("wide.csv", &lines.join("\n"));
    let output = place.does("nn fit wide.csv --target class --lambda 0.01 --holdout none --json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["features"], &report["train_error"]),
        (&41.into(), &0.0.into())
    );
    let said = text(&output.stderr);
    for part in ["`constant`", "`empty`", "nothing was written"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let quiet = place.does("nn fit wide.csv --target class --lambda 0.01 -q");
    assert!(quiet.stderr.is_empty(), "{}", text(&quiet.stderr));

    // Large offsets and scales, semicolons, a matrix without a header.
    place.write(
        "scaled.csv",
        "a;b;t\n1e140;1e-140;1\n2e140;3e-140;2\n4e140;1e-140;4\n3e140;2e-140;3\n",
    );
    let fit = "nn fit scaled.csv --target t --task regression --lambda 1e-3 --holdout none --json";
    assert!(number(&place.told(fit), "train_error") < 0.1);
    let matrix = npy(
        4,
        3,
        &[0.0, 1.0, 5.0, 1.0, 0.0, 6.0, 0.0, 0.0, 5.5, 1.0, 1.0, 6.5],
    );
    fs::write(place.path("m.npy"), matrix).unwrap();
    let fit = "nn fit m.npy --target f3 --lambda 1e-3 --holdout none --json";
    assert_eq!(place.told(fit)["task"], "regression");
}

#[test]
fn help_is_no_error() {
    let place = Place::empty();
    for command in ["", "fit", "path", "predict", "certify", "export", "check"] {
        let help = text(&place.does(&format!("nn {command} --help")).stdout);
        assert!(help.contains("Usage:"), "{help}");
        assert!(command.is_empty() || help.contains("Example"), "{help}");
    }
}
