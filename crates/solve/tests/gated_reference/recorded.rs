//! Problems of `dev/fixtures/convex/optima.json` with their minima, recorded by `dev/peers/reference_cvxpy.py`.

use convextune_solve::faer::Mat;
use convextune_solve::gated::{Activation, GatedMatrix, Loss, Patterns, Penalty, Problem};
use serde::Deserialize;

use crate::common::gated::Kind;

#[derive(Deserialize)]
struct File {
    x: Vec<Vec<f64>>,
    patterns: Vec<String>,
    targets: Vec<Targets>,
    problems: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Targets {
    loss: Loss,
    outputs: usize,
    rows: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Recorded {
    loss: Loss,
    outputs: usize,
    penalty: Penalty,
    activation: Activation,
    lambda: f64,
    intercept: bool,
    linear: Option<usize>,
    objective: f64,
}

/// Every problem, with its kind and its minimum.
pub fn problems() -> Vec<(Kind, Problem, f64)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../dev/fixtures/convex/optima.json"
    );
    let file: File = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let matrix = |rows: &[Vec<f64>]| Mat::from_fn(rows.len(), rows[0].len(), |s, j| rows[s][j]);
    let mut patterns = Patterns::new(file.x.len());
    for pattern in &file.patterns {
        patterns.push(pattern.chars().map(|on| on == '1'));
    }
    let problem = |recorded: &Recorded| {
        let mut targets = file.targets.iter();
        let same = |t: &&Targets| t.loss == recorded.loss && t.outputs == recorded.outputs;
        let problem = Problem {
            matrix: GatedMatrix::new(matrix(&file.x), patterns.clone()),
            targets: matrix(&targets.find(same).unwrap().rows),
            loss: recorded.loss,
            penalty: recorded.penalty,
            activation: recorded.activation,
            lambda: recorded.lambda,
            linear: recorded.linear,
            intercept: recorded.intercept,
        };
        let kind = Kind {
            loss: recorded.loss,
            outputs: recorded.outputs,
            penalty: recorded.penalty,
            activation: recorded.activation,
            intercept: recorded.intercept,
            linear: recorded.linear.is_some(),
        };
        (kind, problem, recorded.objective)
    };
    file.problems.iter().map(problem).collect()
}
