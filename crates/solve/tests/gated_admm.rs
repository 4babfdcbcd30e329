//! ADMM, the second opinion on squared losses: the same minimum as the Newton method.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::gated::{Kind, random};
use convextune_solve::gated::{Activation, AdmmOptions, Loss, Penalty, SolveOptions, admm, solve};
use convextune_solve::{Quiet, SolveError, Status};
use convextune_testkit::Rng;

fn kind(outputs: usize) -> Kind {
    Kind {
        loss: Loss::Squared,
        outputs,
        penalty: Penalty::Neuron,
        activation: Activation::Gated,
        intercept: false,
        linear: false,
    }
}

#[test]
fn it_agrees_with_the_newton_method() {
    for (seed, outputs, lambda) in [(1, 1, 0.05), (2, 3, 0.05), (3, 1, 0.005)] {
        let problem = random(kind(outputs), 60, 5, 25, lambda, seed);
        let mut rng = Rng::new(seed);
        let mut normal = || rng.normal();
        let options = AdmmOptions::default();
        let slow = admm(&problem, &options, &mut normal, &mut Quiet).unwrap();
        let fast = solve(&problem, &SolveOptions::default(), &[], &mut Quiet).unwrap();
        assert_eq!(
            (slow.status, fast.status),
            (Status::Converged, Status::Converged)
        );
        let (a, b) = (slow.certificate.objective, fast.certificate.objective);
        assert!((a / b - 1.0).abs() < 2e-6, "{a} {b}");
        assert!(slow.history.len() > 2 && slow.neurons.len() < 25 * outputs);
    }
}

#[test]
fn what_it_does_not_cover_is_refused() {
    let problem = random(
        Kind {
            intercept: true,
            ..kind(1)
        },
        20,
        3,
        5,
        0.1,
        1,
    );
    let mut rng = Rng::new(1);
    let refused = admm(
        &problem,
        &AdmmOptions::default(),
        &mut || rng.normal(),
        &mut Quiet,
    );
    assert!(matches!(refused, Err(SolveError::Unsupported(_))));
}
