//! Gated programs against a conic solver ([`conic`]): certificates at its points, and our own minima.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod conic;
mod recorded;

use std::path::Path;

use common::gated::{Kind, kinds, problem, random};
use conic::{Reference, reference};
use convextune_solve::faer::Mat;
use convextune_solve::gated::{Activation, Penalty, Problem, SolveOptions, certify, solve};
use convextune_solve::{Quiet, SolveError};
use convextune_testkit::Rng;

/// What our solver may differ by from the reference, relative to the objective.
const SAME: f64 = 1e-7;

/// Whether the certificate's gap vanishes at the optimum.
fn is_tight(kind: Kind) -> bool {
    !(kind.activation == Activation::Relu && kind.penalty == Penalty::Nuclear && kind.outputs > 1)
}

/// That certificate and reference agree at the reference's point.
fn check_certificate(name: &str, kind: Kind, problem: &Problem, found: &Reference) {
    let c = certify(problem, &found.neurons, &found.intercept).unwrap();
    let off = (c.objective - found.objective).abs() / found.objective;
    assert!(
        off < SAME,
        "{name} {kind:?}: {c:?}, reference {}",
        found.objective
    );
    assert!(
        c.dual_value <= found.objective * (1.0 + 1e-9),
        "{name} {kind:?}: {c:?}"
    );
    if is_tight(kind) {
        // The dual point is made from the outputs, so its error is the root of the objective's.
        assert!(c.relative_duality_gap < 1e-4, "{name} {kind:?}: {c:?}");
    }
    assert!(c.constraint_violation < 1e-8, "{name} {kind:?}: {c:?}");
}

/// That our solver finds the reference's minimum. `false` where it does not cover the problem.
fn check_solver(name: &str, kind: Kind, problem: &Problem, objective: f64) -> bool {
    let options = SolveOptions {
        tolerance: 1e-8,
        max_iterations: 100_000,
    };
    let solution = match solve(problem, &options, &[], &mut Quiet) {
        Err(SolveError::Unsupported(_)) => return false,
        solution => solution.unwrap(),
    };
    let c = solution.certificate;
    let off = (c.objective - objective).abs() / objective;
    assert!(off < SAME, "{name} {kind:?}: {c:?}, reference {objective}");
    assert!(c.constraint_violation <= 1e-9, "{name} {kind:?}: {c:?}");
    if is_tight(kind) {
        assert!(c.relative_duality_gap < SAME, "{name} {kind:?}: {c:?}");
    }
    true
}

/// Whether certificate and conic form exist; the nuclear norm of larger blocks has no conic form here.
fn has_reference(kind: &Kind) -> bool {
    kind.has_certificate() && !(kind.penalty == Penalty::Nuclear && kind.outputs > 1)
}

#[test]
fn random_problems() {
    let mut solved = 0;
    for (seed, kind) in kinds().into_iter().filter(has_reference).enumerate() {
        let problem = random(kind, 12, 3, 6, 0.03, 40 + seed as u64);
        let found = reference(&problem);
        check_certificate("random", kind, &problem, &found);
        solved += usize::from(check_solver("random", kind, &problem, found.objective));
    }
    assert!(solved >= 12, "{solved}");
}

/// Blocks of two by two, whose nuclear norm takes second-order cones only.
#[test]
fn nuclear_norms_of_two_by_two() {
    for (seed, kind) in kinds().into_iter().enumerate() {
        if kind.penalty != Penalty::Nuclear || kind.outputs == 1 {
            continue;
        }
        let kind = Kind { outputs: 2, ..kind };
        let problem = random(kind, 12, 2, 6, 0.03, 400 + seed as u64);
        let found = reference(&problem);
        check_certificate("nuclear", kind, &problem, &found);
        check_solver("nuclear", kind, &problem, found.objective);
    }
}

/// The first `rows` rows and `features` columns of a table that is standardised already, a column of ones, and its
/// class in `-1, 1`; `None`, with a note, where the table is not at hand.
fn breast_cancer(rows: usize, features: usize) -> Option<(Mat<f64>, Vec<f64>)> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("CONVEXTUNE_DATA").map_or(default, Into::into);
    let file = data.join("uci/breast-cancer-wisc-diag/data.csv");
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!(
            "skipped: no {}; set CONVEXTUNE_DATA to the data folder",
            file.display()
        );
        return None;
    };
    let line = |line: &str| -> Vec<f64> { line.split(',').map(|v| v.parse().unwrap()).collect() };
    let lines: Vec<Vec<f64>> = text.lines().skip(1).take(rows).map(line).collect();
    let x = Mat::from_fn(rows, features + 1, |s, j| {
        if j < features { lines[s][j] } else { 1.0 }
    });
    let class = lines.iter().map(|line| 2.0 * line.last().unwrap() - 1.0);
    Some((x, class.collect()))
}

/// Rows of a table, with the outputs: its class, and how two of its features lie.
#[test]
fn real_problems() {
    let Some((x, class)) = breast_cancer(40, 6) else {
        return;
    };
    let mut rng = Rng::new(5);
    let normals = Mat::from_fn(7, 12, |_, _| rng.normal());
    let mut solved = 0;
    for kind in kinds().into_iter().filter(has_reference) {
        let scores = Mat::from_fn(x.nrows(), kind.outputs, |s, c| match c {
            0 => class[s],
            c => x[(s, c)],
        });
        let problem = problem(kind, x.clone(), &scores, &normals, 0.02);
        let found = reference(&problem);
        check_certificate("breast cancer", kind, &problem, &found);
        solved += usize::from(check_solver(
            "breast cancer",
            kind,
            &problem,
            found.objective,
        ));
    }
    assert!(solved >= 12, "{solved}");
}

/// Minima recorded from another model of the same programs, nuclear norms of larger blocks included.
#[test]
fn recorded_problems() {
    let mut solved = 0;
    for (kind, problem, objective) in recorded::problems() {
        if has_reference(&kind) {
            let off = (reference(&problem).objective - objective).abs() / objective;
            assert!(off < SAME, "{kind:?}: {off}");
        }
        let zero = certify(&problem, &[], &[]).unwrap();
        assert!(
            zero.dual_value <= objective && objective <= zero.objective,
            "{kind:?}: {zero:?}"
        );
        solved += usize::from(check_solver("recorded", kind, &problem, objective));
    }
    assert!(solved >= 4, "{solved}");
}
