//! The kernel in single precision with conjugate gradients against the factorised one.

use convextune_testkit::Rng;
use faer::Mat;

use super::products::Products;
use super::{GatedRidge, Kernel, minimum};
use crate::gated::{Activation, GatedMatrix, Loss, Patterns, Penalty, Problem, certify};

fn problem(intercept: bool) -> Problem {
    let mut rng = Rng::new(5);
    let (n, d) = (400, 6);
    let x = Mat::from_fn(n, d, |_, _| rng.normal());
    let gates = Mat::from_fn(d, 130, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), gates.as_ref());
    let targets = Mat::from_fn(n, 2, |s, c| {
        (3.0 * x[(s, 0)] * x[(s, c + 1)]).sin() + 0.1 * rng.normal() + 0.7
    });
    Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets,
        loss: Loss::Squared,
        penalty: Penalty::SquaredL2,
        activation: Activation::Gated,
        lambda: 0.1,
        linear: None,
        intercept,
    }
}

/// Many samples that are the same: the kernel has a low rank.
fn with_repeated_samples() -> Problem {
    let whole = problem(true);
    let x = Mat::from_fn(400, 6, |s, j| {
        f64::from(u8::from((s >> (j % 3)) & 1 == 1)) - 0.5
    });
    let mut rng = Rng::new(6);
    let gates = Mat::from_fn(6, 130, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), gates.as_ref());
    Problem {
        matrix: GatedMatrix::new(x, patterns),
        ..whole
    }
}

fn by_products(problem: &Problem) -> GatedRidge {
    GatedRidge {
        kernel: Kernel::Products(Products::new(problem, problem.intercept).unwrap()),
        targets: problem.targets.clone(),
    }
}

#[test]
fn products_come_near_the_factorised_kernel() {
    for intercept in [false, true] {
        let problem = problem(intercept);
        let (mut exact, mut rough) = (GatedRidge::of(&problem).unwrap(), by_products(&problem));
        for lambda in [10.0, 0.1, 1e-3] {
            let (a, b) = (exact.point(lambda).unwrap(), rough.point(lambda).unwrap());
            let error = (&a.outputs - &b.outputs).norm_l2() / a.outputs.norm_l2();
            assert!(error < 1e-3, "{intercept} {lambda}: {error:e}");
            assert!((&a.a - &b.a).norm_l2() < 1e-2 * a.a.norm_l2());
            for (x, y) in a.intercept.iter().zip(&b.intercept) {
                assert!((x - y).abs() < 1e-3 * (1.0 + x.abs()), "{x} {y}");
            }
            assert!((a.objective / b.objective - 1.0).abs() < 1e-3);
            assert!(b.objective >= b.dual_value - 1e-6 * b.objective);
            assert!(b.objective - b.dual_value < 1e-2 * b.objective);
        }
    }
}

#[test]
fn weights_are_refined_to_the_minimum() {
    for problem in [problem(false), problem(true), with_repeated_samples()] {
        for lambda in [10.0, 0.1, 1e-3] {
            let intercept = problem.intercept;
            let problem = Problem {
                lambda,
                ..problem.clone()
            };
            let found = minimum(&problem, by_products(&problem)).unwrap();
            let gap = certify(&problem, &found.neurons, &found.intercept).unwrap();
            assert!(
                gap.relative_duality_gap.abs() < 1e-8,
                "{intercept} {lambda}: {gap:?}"
            );
            let exact = minimum(&problem, GatedRidge::of(&problem).unwrap()).unwrap();
            for (x, y) in exact.intercept.iter().zip(&found.intercept) {
                assert!((x - y).abs() < 1e-6 * (1.0 + x.abs()), "{x} {y}");
            }
        }
    }
}
