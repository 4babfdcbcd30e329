//! The squared norm with the squared loss, in closed form: certified, as the normal equations have it, and its scale
//! of `lambda`.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::gated::{Kind, random};
use convextune_solve::faer::linalg::solvers::Solve;
use convextune_solve::faer::{Mat, Scale, Side};
use convextune_solve::gated::{
    Activation, GatedRidge, Loss, Patterns, Penalty, Problem, SolveOptions, cross_kernel,
    leading_lambda, solve,
};
use convextune_solve::{Quiet, Status};
use convextune_testkit::relative_error;

fn squared(outputs: usize, intercept: bool, seed: u64) -> Problem {
    let kind = Kind {
        loss: Loss::Squared,
        outputs,
        penalty: Penalty::SquaredL2,
        activation: Activation::Gated,
        intercept,
        linear: intercept,
    };
    random(kind, 30, 4, 70, 1.0, seed)
}

/// `[D_1 X ... D_P X]`, its columns centred if there is an intercept.
fn dense(problem: &Problem) -> Mat<f64> {
    let (x, patterns) = (problem.matrix.x(), problem.matrix.patterns());
    let (n, d) = (x.nrows(), x.ncols());
    let mut a = Mat::from_fn(n, d * patterns.len(), |s, k| {
        x[(s, k % d)] * f64::from(u8::from(patterns.get(k / d, s)))
    });
    if problem.intercept {
        for k in 0..a.ncols() {
            let mean = a.col(k).iter().sum::<f64>() / n as f64;
            a.col_mut(k).iter_mut().for_each(|v| *v -= mean);
        }
    }
    a
}

#[test]
fn the_minimum_is_that_of_the_normal_equations() {
    for (outputs, intercept) in [(1, false), (3, false), (1, true), (3, true)] {
        let mut problem = squared(outputs, intercept, 7 + outputs as u64);
        let (a, n, d) = (dense(&problem), 30.0, problem.matrix.features());
        for lambda in [1.0, 1e-2, 1e-5] {
            problem.lambda = lambda;
            let options = SolveOptions {
                tolerance: 1e-9,
                ..SolveOptions::default()
            };
            let solution = solve(&problem, &options, &[], &mut Quiet).unwrap();
            let name = format!("{outputs} {intercept} {lambda} {:?}", solution.certificate);
            assert_eq!(solution.status, Status::Converged, "{name}");
            let unit = Mat::<f64>::identity(a.ncols(), a.ncols());
            let hessian = a.transpose() * &a + unit * Scale(n * lambda);
            let u = hessian
                .llt(Side::Lower)
                .unwrap()
                .solve(a.transpose() * &problem.targets);
            let mut found = Mat::<f64>::zeros(a.ncols(), outputs);
            for neuron in &solution.neurons {
                for (j, w) in neuron.weights.iter().enumerate() {
                    found[(neuron.gate * d + j, neuron.output)] = neuron.sign * w;
                }
            }
            for c in 0..outputs {
                let error = relative_error(found.col_as_slice(c), u.col_as_slice(c));
                assert!(error < 1e-7, "{name}: {error:e}");
            }
            let nothing = solution.intercept.iter().all(|b| *b == 0.0);
            assert!(
                solution.intercept.len() == outputs && nothing != intercept,
                "{name}"
            );
        }
    }
}

#[test]
fn the_scale_of_lambda_is_the_largest_eigenvalue_nearly() {
    for intercept in [false, true] {
        let problem = squared(2, intercept, 3);
        let a = dense(&problem);
        let eigenvalues = (&a * a.transpose())
            .self_adjoint_eigenvalues(Side::Lower)
            .unwrap();
        let largest = eigenvalues.last().unwrap() / 30.0;
        let found = leading_lambda(&problem).unwrap();
        let share = found / largest;
        assert!(share > 0.9 && share <= 1.0 + 1e-12, "{found} {largest}");
    }
}

/// Without weights: objective, dual value, and the outputs on the samples and on others, are those of the weights.
#[test]
fn the_kernel_says_what_the_weights_say() {
    for (outputs, intercept) in [(1, false), (3, true)] {
        let mut problem = squared(outputs, intercept, 11);
        let mut ridge = GatedRidge::new(&problem).unwrap().unwrap();
        let x = Mat::from_fn(5, problem.matrix.features(), |s, j| {
            ((3 * s + j) as f64).sin()
        });
        let gates = Mat::from_fn(x.ncols(), problem.matrix.gates(), |j, i| {
            ((j + 5 * i) as f64).cos()
        });
        let on = Patterns::of(x.as_ref(), gates.as_ref());
        let cross = cross_kernel(&problem, x.as_ref(), &on);
        for lambda in [1.0, 1e-3] {
            problem.lambda = lambda;
            let options = SolveOptions::default();
            let solution = solve(&problem, &options, &[], &mut Quiet).unwrap();
            let point = ridge.point(lambda).unwrap();
            let same = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs(), "{a} {b}");
            same(point.objective, solution.certificate.objective);
            same(point.dual_value, solution.certificate.dual_value);
            let z = problem.outputs_at(&solution.neurons, &solution.intercept);
            assert!((&point.outputs - &z).norm_l2() < 1e-9 * z.norm_l2());
            let new = &cross * &point.a;
            for s in 0..x.nrows() {
                for c in 0..outputs {
                    let of = |neuron: &&convextune_solve::gated::Neuron| {
                        neuron.output == c && on.get(neuron.gate, s)
                    };
                    let by_weights: f64 = solution
                        .neurons
                        .iter()
                        .filter(of)
                        .map(|neuron| {
                            (0..x.ncols())
                                .map(|j| neuron.sign * neuron.weights[j] * x[(s, j)])
                                .sum::<f64>()
                        })
                        .sum();
                    assert!((new[(s, c)] - by_weights).abs() < 1e-9 * z.norm_l2());
                }
            }
        }
    }
}
