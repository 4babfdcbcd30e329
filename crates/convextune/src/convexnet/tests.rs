//! Fits from end to end on small tables.

use std::fmt::Write as _;

use convextune_solve::Status;
use convextune_solve::gated::{Activation, Penalty};

use super::table::{Folds, Table};
use super::{
    Bias, Choice, Data, GateChoice, NetModel, NetOptions, PathOptions, Trial, certify, fit, path,
};
use crate::progress::Silent;
use crate::rng::Rng;

/// A table of `n` rows with two features and a target that bends.
fn table(n: usize, seed: u64) -> (tempfile::TempDir, Table) {
    let mut rng = Rng::new(seed, "table");
    let mut text = String::from("a,b,y\n");
    for _ in 0..n {
        let (a, b) = (rng.normal(), rng.normal());
        let y = (a + 0.5 * b).abs() - 0.7 * (b - 0.3 * a).max(0.0) + 0.1 * rng.normal();
        writeln!(text, "{a},{b},{y}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.csv");
    std::fs::write(&file, text).unwrap();
    let table = Table::read(&file).unwrap();
    (folder, table)
}

fn choice(gates: usize, penalty: Penalty) -> Choice {
    Choice {
        gates: GateChoice::Sampled(gates),
        ..Choice::with(penalty)
    }
}

fn data(table: &Table, train: usize) -> Data<'_> {
    Data {
        table,
        train: (0..train).collect(),
        test: (train..table.rows()).collect(),
        target: "y".into(),
    }
}

fn fitted(table: &Table, train: usize, options: &NetOptions) -> NetModel {
    fit(&data(table, train), options, None, &Silent).unwrap()
}

#[test]
fn adaptive_gates_end_at_the_optimum_over_all_patterns() {
    for (activation, bias) in [
        (Activation::Gated, Bias::None),
        (Activation::Gated, Bias::Penalized),
        (Activation::Relu, Bias::None),
        (Activation::Relu, Bias::Free),
    ] {
        for seed in 0..3 {
            let (_folder, table) = table(18, seed);
            let options = |gates| NetOptions {
                activation,
                bias,
                gates,
                lambda: Some(0.01),
                seed,
                ..NetOptions::default()
            };
            let all = fitted(&table, 18, &options(GateChoice::All)).header.report;
            let model = fitted(&table, 18, &options(GateChoice::Adaptive));
            let adaptive = &model.header.report;
            assert!(all.exhaustive && !adaptive.exhaustive);
            assert_eq!(
                (all.status, adaptive.status),
                (Status::Converged, Status::Converged)
            );
            let (best, found) = (all.certificate.objective, adaptive.certificate.objective);
            assert!(
                (found / best - 1.0).abs() < 3e-6,
                "{activation:?} {bias:?} {seed}: {found} {best}, {} of {} gates",
                adaptive.gates,
                all.gates
            );
        }
    }
}

#[test]
fn a_fit_without_a_lambda_is_refused() {
    let (_folder, table) = table(20, 1);
    let error = fit(&data(&table, 20), &NetOptions::default(), None, &Silent).unwrap_err();
    assert!(
        error.to_string().contains("let a path choose it"),
        "{error}"
    );
}

#[test]
fn a_models_certificate_can_be_recomputed_from_the_table() {
    let (_folder, table) = table(60, 7);
    for activation in [Activation::Gated, Activation::Relu] {
        let options = NetOptions {
            activation,
            gates: GateChoice::Sampled(30),
            lambda: Some(0.02),
            linear: true,
            bias: Bias::Free,
            ..NetOptions::default()
        };
        let model = fitted(&table, 40, &options);
        let report = &model.header.report;
        assert_eq!(report.status, Status::Converged);
        let again = certify(&model, &table, &model.header.training_rows).unwrap();
        assert!((again.objective - report.certificate.objective).abs() < 1e-12);
        assert!(again.relative_duality_gap < 1e-6 && again.constraint_violation < 1e-9);
        // On other rows the point is no optimum: a certificate that says so can fail.
        let other: Vec<usize> = (10..50).collect();
        assert!(
            certify(&model, &table, &other)
                .unwrap()
                .relative_duality_gap
                > 1e-3
        );
    }
}

/// The best of several choices is what a path of its own finds, and no other is better.
#[test]
fn a_path_chooses_its_gates() {
    let (_folder, table) = table(80, 3);
    let data = data(&table, 60);
    let folds = Folds::stratified(&super::table::Target::Values(vec![0.0; 60]), 3, 1);
    let run = |gates: &[usize]| {
        let grid = PathOptions {
            count: 5,
            smallest: 1e-3,
            choices: gates.iter().map(|n| choice(*n, Penalty::Neuron)).collect(),
        };
        path(&data, &NetOptions::default(), &grid, &folds, None, &Silent).unwrap()
    };
    let (report, model) = run(&[1, 40, 5]);
    let error = |choice: usize| report.trials[choice].validation_error;
    let best = (0..3)
        .min_by(|a, b| error(*a).total_cmp(&error(*b)))
        .unwrap();
    assert!(error(0) > error(best), "one gate is too few here");
    let count = [1, 40, 5][best];
    assert_eq!(report.trials[best].choice.gates, GateChoice::Sampled(count));
    let (alone, same) = run(&[count]);
    assert_eq!(alone.trials[0], report.trials[best]);
    let chosen = alone.points[alone.best].lambda;
    assert!((chosen / model.header.report.lambda - 1.0).abs() < 1e-12);
    assert_eq!(same.network, model.network);
}

/// Every choice has a trial, and the model written is of the best of them.
#[test]
fn a_path_chooses_its_penalty() {
    let (_folder, table) = table(80, 3);
    let data = data(&table, 60);
    let folds = Folds::stratified(&super::table::Target::Values(vec![0.0; 60]), 3, 1);
    let choices = vec![
        choice(1, Penalty::SquaredL2),
        choice(40, Penalty::SquaredL2),
        choice(1, Penalty::Neuron),
        choice(40, Penalty::Neuron),
    ];
    let grid = PathOptions {
        count: 4,
        choices: choices.clone(),
        ..PathOptions::default()
    };
    let options = NetOptions::default();
    let (report, model) = path(&data, &options, &grid, &folds, None, &Silent).unwrap();
    let tried: Vec<Choice> = report.trials.iter().map(|t| t.choice).collect();
    assert_eq!(tried, choices);
    let error = |t: &Trial| t.validation_error;
    let best = report.trials.iter();
    let best = best.min_by(|a, b| error(a).total_cmp(&error(b))).unwrap();
    assert_eq!(Choice::of(&model.header.options), best.choice);
    let points = &report.points;
    assert!(
        points
            .iter()
            .all(|p| p.validation_error >= best.validation_error)
    );
    assert_eq!(model.header.report.status, Status::Converged);
}

#[test]
fn a_path_ends_with_a_model_at_its_best_lambda() {
    let (_folder, table) = table(80, 3);
    let data = data(&table, 60);
    let options = NetOptions {
        gates: GateChoice::Sampled(40),
        ..NetOptions::default()
    };
    let folds = Folds::stratified(&super::table::Target::Values(vec![0.0; 60]), 3, 1);
    let grid = PathOptions {
        count: 6,
        smallest: 1e-4,
        ..PathOptions::default()
    };
    let (report, model) = path(&data, &options, &grid, &folds, None, &Silent).unwrap();
    let best = &report.points[report.best];
    assert_eq!(report.points.len(), 6);
    assert_eq!(report.trials.len(), 1);
    assert!((model.header.report.lambda - best.lambda).abs() < 1e-15);
    assert!(
        report
            .points
            .iter()
            .all(|p| p.validation_error >= best.validation_error)
    );
    assert!(
        report
            .points
            .windows(2)
            .all(|p| p[1].objective < p[0].objective)
    );
    // The same problem from zero.
    let alone = fitted(
        &table,
        60,
        &NetOptions {
            lambda: Some(best.lambda),
            ..options
        },
    );
    let (a, b) = (
        alone.header.report.certificate,
        model.header.report.certificate,
    );
    assert!((a.objective / b.objective - 1.0).abs() < 2e-6);
}
