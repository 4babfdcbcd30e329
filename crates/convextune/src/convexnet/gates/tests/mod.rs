//! What all tests of gates share, and given gates.

mod enumeration;
mod sampling;

use std::collections::BTreeSet;

use convextune_solve::faer::Mat;
use convextune_solve::gated::Patterns;
use convextune_testkit::Rng;

use super::{Gates, given};

const LIMIT: usize = 100_000;

fn normal(n: usize, d: usize, seed: u64) -> Mat<f64> {
    let mut rng = Rng::new(seed);
    Mat::from_fn(n, d, |_, _| rng.normal())
}

fn with_bias(x: &Mat<f64>) -> Mat<f64> {
    let bias = x.ncols();
    Mat::from_fn(
        x.nrows(),
        bias + 1,
        |s, j| if j == bias { 1.0 } else { x[(s, j)] },
    )
}

fn rows<const D: usize>(rows: &[[f64; D]]) -> Mat<f64> {
    Mat::from_fn(rows.len(), D, |s, j| rows[s][j])
}

/// The patterns as sets of samples.
fn set(patterns: &Patterns) -> BTreeSet<Vec<bool>> {
    let pattern = |i| {
        (0..patterns.samples())
            .map(|s| patterns.get(i, s))
            .collect()
    };
    (0..patterns.len()).map(pattern).collect()
}

/// That gates are what they claim to be, whatever made them.
fn check(x: &Mat<f64>, gates: &Gates) {
    assert_eq!(gates.vectors.nrows(), x.ncols());
    assert_eq!(gates.vectors.ncols(), gates.patterns.len());
    assert_eq!(
        Patterns::of(x.as_ref(), gates.vectors.as_ref()),
        gates.patterns
    );
    assert_eq!(gates.patterns.distinct().len(), gates.patterns.len());
}

#[test]
fn given_gates_are_checked_and_made_distinct() {
    let x = rows(&[[1.0, 1.0], [-1.0, 1.0], [2.0, 1.0]]);
    let vectors = rows(&[[1.0, 2.0, 0.0, -1.0], [0.0, 0.0, -1.0, 0.0]]);
    let gates = given(x.as_ref(), vectors.as_ref()).unwrap();
    check(&x, &gates);
    assert!(!gates.exhaustive);
    assert_eq!(gates.vectors, rows(&[[1.0, -1.0], [0.0, 0.0]]));

    let message = |vectors: &Mat<f64>| given(x.as_ref(), vectors.as_ref()).unwrap_err().to_string();
    assert!(message(&normal(3, 2, 1)).starts_with("a gate has 3 numbers, but a sample has 2"));
    assert!(message(&rows(&[[0.0], [-1.0]])).starts_with("none of the given gates"));
    assert_eq!(
        message(&rows(&[[0.0, 1.0], [1.0, f64::INFINITY]])),
        "number 2 of gate 2 is not finite"
    );
}
