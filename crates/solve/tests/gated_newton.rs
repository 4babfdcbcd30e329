//! The solver of gated programs with the squared loss and neuron-wise norms: certified optima, known ones,
//! and what must not change them.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::ops::ControlFlow;

use common::gated::{Kind, every_gate, problem, random};
use common::network::Network;
use convextune_solve::faer::Mat;
use convextune_solve::gated::{
    Activation, GatedMatrix, Loss, Neuron, Patterns, Penalty, Problem, Solution, SolveOptions,
    lambda_max, solve,
};
use convextune_solve::{Observer, Progress, Quiet, Record, Status};
use convextune_testkit::Rng;

const ACTIVATIONS: [Activation; 2] = [Activation::Gated, Activation::Relu];

fn kind(activation: Activation, outputs: usize, intercept: bool, linear: bool) -> Kind {
    Kind {
        loss: Loss::Squared,
        outputs,
        penalty: Penalty::Neuron,
        activation,
        intercept,
        linear,
    }
}

fn all_kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for activation in ACTIVATIONS {
        for (intercept, linear) in [(false, false), (false, true), (true, false), (true, true)] {
            kinds.extend([1, 3].map(|outputs| kind(activation, outputs, intercept, linear)));
        }
    }
    kinds
}

fn solved_from(problem: &Problem, warm: &[Neuron]) -> Solution {
    let options = SolveOptions {
        tolerance: 1e-8,
        max_iterations: 200,
    };
    solve(problem, &options, warm, &mut Quiet).unwrap()
}

/// Solved to a certified gap of 1e-8.
fn solved(problem: &Problem) -> Solution {
    let solution = solved_from(problem, &[]);
    assert_is_optimal(&solution, "");
    solution
}

fn assert_is_optimal(solution: &Solution, name: &str) {
    let c = solution.certificate;
    assert!(c.relative_duality_gap <= 1e-8, "{name} {c:?}");
    assert!(c.constraint_violation <= 1e-9, "{name} {c:?}");
    assert_eq!(solution.status, Status::Converged, "{name} {c:?}");
}

fn assert_close(a: f64, b: f64, relative: f64, name: &str) {
    assert!((a - b).abs() <= relative * b.abs(), "{name}: {a} {b}");
}

/// The Newton systems' rounding would spoil the residual of these, were `sigma` not made smaller.
#[test]
fn the_residual_becomes_as_good_a_dual_point_as_the_solvers() {
    let options = SolveOptions {
        tolerance: 1e-10,
        max_iterations: 200,
    };
    for (which, seed) in [
        (12, 8012),
        (11, 10_011),
        (12, 19_012),
        (10, 42_010),
        (8, 52_008),
    ] {
        let mut problem = random(all_kinds()[which], 40, 4, 40, 1.0, seed);
        problem.lambda = 0.003 * lambda_max(&problem).unwrap();
        let solution = solve(&problem, &options, &[], &mut Quiet).unwrap();
        let c = solution.certificate;
        assert!(c.relative_duality_gap <= 1e-10, "{seed} {c:?}");
        assert_eq!(solution.status, Status::Converged, "{seed} {c:?}");
    }
}

/// Where rounding allows no smaller gap, the solver says so after some rounds, and does not use up all it may.
#[test]
fn a_tolerance_below_rounding_ends_soon() {
    let mut stalled = 0;
    for (seed, kind) in all_kinds().into_iter().enumerate() {
        let mut problem = random(kind, 40, 4, 40, 1.0, seed as u64);
        problem.lambda = 0.003 * lambda_max(&problem).unwrap();
        let options = SolveOptions {
            tolerance: 1e-18,
            max_iterations: 1000,
        };
        let solution = solve(&problem, &options, &[], &mut Quiet).unwrap();
        let gap = solution.certificate.relative_duality_gap;
        assert!(gap <= 1e-7, "{kind:?} {gap:e}");
        assert!(solution.iterations < 100, "{}", solution.iterations);
        assert_ne!(solution.status, Status::MaxIterations, "{kind:?}");
        stalled += usize::from(solution.status == Status::Stalled);
    }
    assert!(stalled > 0);
}

#[test]
fn every_kind_is_solved_to_a_certified_gap() {
    for (seed, kind) in all_kinds().into_iter().enumerate() {
        let mut problem = random(kind, 40, 4, 40, 1.0, seed as u64);
        let largest = lambda_max(&problem).unwrap();
        for factor in [0.3, 0.03, 0.003] {
            problem.lambda = factor * largest;
            let solution = solved_from(&problem, &[]);
            assert_is_optimal(&solution, &format!("{kind:?} {factor}"));
            assert!(!solution.neurons.is_empty(), "{kind:?} {factor}");
        }
    }
}

/// Every round that an observer is told of brackets the minimum, outputs whose turn has not come among them.
#[test]
fn progress_brackets_the_minimum_from_the_first_round_on() {
    struct Told(Vec<Record>);
    impl Observer for Told {
        fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
            self.0.push(progress.record);
            ControlFlow::Continue(())
        }
    }
    let problem = random(kind(Activation::Gated, 3, true, false), 40, 4, 40, 0.05, 9);
    let best = solved(&problem).certificate;
    let mut told = Told(Vec::new());
    solve(&problem, &SolveOptions::default(), &[], &mut told).unwrap();
    assert!(told.0.len() >= 6);
    let rounding = 1e-9 * best.objective;
    for record in told.0 {
        let lower = record.objective - record.suboptimality_bound;
        assert!(record.objective >= best.dual_value - rounding, "{record:?}");
        assert!(lower <= best.objective + rounding, "{record:?}");
    }
}

/// A feature twice, one that is constant, one of another scale, a sample twice, one that is zero, fewer
/// samples than features.
#[test]
fn degenerate_data_is_solved_too() {
    for (seed, kind) in all_kinds().into_iter().enumerate() {
        let mut problem = random(kind, 12, 16, 30, 1.0, 50 + seed as u64);
        let x = problem.matrix.x();
        let x = Mat::from_fn(12, 16, |s, j| match (s, j) {
            (3, _) => 0.0,
            (5, j) => x[(4, j)],
            (s, 1) => x[(s, 0)],
            (s, 3) => 1e3 * x[(s, 3)],
            (s, j) => x[(s, j)],
        });
        let mut rng = Rng::new(seed as u64);
        let normals = Mat::from_fn(16, 30, |_, _| rng.normal());
        let mut patterns = Patterns::of(x.as_ref(), normals.as_ref());
        problem.linear = kind.linear.then_some(30);
        if kind.linear {
            patterns.push((0..12).map(|_| true));
        }
        problem.matrix = GatedMatrix::new(x, patterns);
        let largest = lambda_max(&problem).unwrap();
        for factor in [0.3, 0.01] {
            problem.lambda = factor * largest;
            let solution = solved_from(&problem, &[]);
            assert_is_optimal(&solution, &format!("{kind:?} {factor}"));
        }
    }
}

#[test]
fn from_lambda_max_on_there_is_no_neuron_and_just_below_there_is() {
    for (seed, kind) in all_kinds().into_iter().enumerate() {
        let mut problem = random(kind, 20, 3, 15, 1.0, 90 + seed as u64);
        let largest = lambda_max(&problem).unwrap();
        for factor in [1.0 + 1e-12, 2.0, 1e6] {
            problem.lambda = factor * largest;
            assert!(solved(&problem).neurons.is_empty(), "{kind:?} {factor}");
        }
        problem.lambda = 0.999 * largest;
        assert!(!solved(&problem).neurons.is_empty(), "{kind:?}");
    }
}

#[test]
fn from_its_own_solution_it_ends_at_once() {
    for (seed, kind) in all_kinds().into_iter().enumerate() {
        let problem = random(kind, 30, 4, 25, 0.01, 120 + seed as u64);
        let cold = solved(&problem);
        let warm = solved_from(&problem, &cold.neurons);
        assert_is_optimal(&warm, "warm");
        assert!(warm.iterations <= 2, "{kind:?}: {}", warm.iterations);
        assert!(cold.iterations > 2, "{kind:?}: {}", cold.iterations);
    }
}

/// The start counts as no iteration.
#[test]
fn no_more_iterations_than_allowed() {
    for (seed, kind) in all_kinds().into_iter().enumerate() {
        let problem = random(kind, 30, 4, 25, 0.01, 120 + seed as u64);
        for max_iterations in 1..4 {
            let options = SolveOptions {
                tolerance: 1e-15,
                max_iterations,
            };
            let solution = solve(&problem, &options, &[], &mut Quiet).unwrap();
            assert_eq!(
                (solution.status, solution.iterations),
                (Status::MaxIterations, max_iterations),
                "{kind:?}"
            );
            assert_eq!(solution.history.len(), max_iterations + 1, "{kind:?}");
        }
    }
}

/// The problem with these of its gates.
fn with_gates(problem: &Problem, gates: &[usize]) -> Problem {
    let patterns = problem.matrix.patterns().select(gates);
    Problem {
        matrix: GatedMatrix::new(problem.matrix.x().to_owned(), patterns),
        ..problem.clone()
    }
}

/// Outputs are unique, and within `(2 n gap)^(1/2)` of the optimal ones.
#[test]
fn the_order_of_gates_does_not_matter() {
    for activation in ACTIVATIONS {
        let problem = random(kind(activation, 1, true, false), 30, 4, 40, 0.01, 7);
        let gates = problem.matrix.gates();
        let mut rng = Rng::new(1);
        let mut order: Vec<usize> = (0..gates).collect();
        for i in (1..gates).rev() {
            order.swap(i, (rng.uniform() * (i + 1) as f64) as usize);
        }
        let other = with_gates(&problem, &order);
        let (a, b) = (solved(&problem), solved(&other));
        let (gap, objective) = (b.certificate.duality_gap, b.certificate.objective);
        assert_close(a.certificate.objective, objective, 1e-8, "objective");
        let gap = gap.max(a.certificate.duality_gap).max(1e-15 * objective);
        let (za, zb) = (
            problem.outputs_at(&a.neurons, &a.intercept),
            other.outputs_at(&b.neurons, &b.intercept),
        );
        let distance = (za - zb).norm_l2();
        assert!(distance <= 2.0 * (60.0 * gap).sqrt(), "{distance} {gap}");
    }
}

#[test]
fn more_gates_never_raise_the_objective() {
    for activation in ACTIVATIONS {
        let problem = random(kind(activation, 1, false, false), 30, 3, 60, 0.01, 8);
        let objectives: Vec<f64> = [1, 4, 16, problem.matrix.gates()]
            .map(|count| {
                let gates: Vec<usize> = (0..count).collect();
                solved(&with_gates(&problem, &gates)).certificate.objective
            })
            .to_vec();
        for pair in objectives.windows(2) {
            assert!(pair[1] <= pair[0] * (1.0 + 1e-8), "{objectives:?}");
        }
        assert!(objectives[3] < 0.99 * objectives[0], "{objectives:?}");
    }
}

/// Samples repeated `times` times: the same program.
fn repeated(problem: &Problem, times: usize) -> Problem {
    let (n, x) = (problem.matrix.samples(), problem.matrix.x());
    let old = problem.matrix.patterns();
    let mut patterns = Patterns::new(times * n);
    for gate in 0..old.len() {
        patterns.push((0..times * n).map(|s| old.get(gate, s % n)));
    }
    let x = Mat::from_fn(times * n, x.ncols(), |s, j| x[(s % n, j)]);
    let y = &problem.targets;
    Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets: Mat::from_fn(times * n, y.ncols(), |s, c| y[(s % n, c)]),
        ..problem.clone()
    }
}

/// 40 samples and up to some 20 live groups: systems are solved by samples. 640 samples: by weights where 4
/// features keep the unknowns of the live groups below 240, by products where 30 features make them more.
#[test]
fn the_three_ways_to_solve_newton_systems_agree() {
    for activation in ACTIVATIONS {
        for (d, lambda) in [(4, 0.02), (30, 0.01)] {
            for intercept in [false, true] {
                let kind = kind(activation, 1, intercept, false);
                let problem = random(kind, 40, d, 100, lambda, 3);
                let (few, many) = (solved(&problem), solved(&repeated(&problem, 16)));
                let objective = few.certificate.objective;
                assert_close(many.certificate.objective, objective, 1e-8, "objective");
            }
        }
    }
}

/// The points `x_1 = (2, 2)`, `x_2 = (3, 3)`, `x_3 = (1, 0)` with the patterns `111`, `110`, `001` that
/// lines through the origin make, and the targets `1, -1, 1`.
fn three_points(activation: Activation) -> Problem {
    let x = [[2.0, 2.0], [3.0, 3.0], [1.0, 0.0]];
    let mut patterns = Patterns::new(3);
    patterns.push([true, true, true]);
    patterns.push([true, true, false]);
    patterns.push([false, false, true]);
    let mut problem = random(kind(activation, 1, false, false), 3, 2, 1, LAMBDA, 1);
    problem.matrix = GatedMatrix::new(Mat::from_fn(3, 2, |s, j| x[s][j]), patterns);
    problem.targets = Mat::from_fn(3, 1, |s, _| [1.0, -1.0, 1.0][s]);
    problem
}

const LAMBDA: f64 = 0.1;

/// `1/6 ( (2a - 1)^2 + (3a + 1)^2 + (b - 1)^2 )`: the loss of the outputs `(2a, 3a, b)`.
fn three_points_loss(a: f64, b: f64) -> f64 {
    ((2.0 * a - 1.0).powi(2) + (3.0 * a + 1.0).powi(2) + (b - 1.0).powi(2)) / 6.0
}

/// `sum of sign * weights` by pattern.
fn weights(solution: &Solution) -> [[f64; 2]; 3] {
    let mut sum = [[0.0; 2]; 3];
    for neuron in &solution.neurons {
        for (sum, u) in sum[neuron.gate].iter_mut().zip(&neuron.weights) {
            *sum += neuron.sign * u;
        }
    }
    sum
}

/// Every neuron makes outputs of the form `(2a, 3a, b)`. With the residual `r`, its correlation with the
/// neuron `u` depends on `alpha = (2 r_1 + 3 r_2) / 3 = (-1 - 13 a) / 3` and `beta = r_3 / 3 = (1 - b) / 3`.
///
/// **Gated.** The dual constraints of the patterns are `||(alpha + beta, alpha)||`, `2^(1/2) |alpha|` and
/// `|beta|`, at most `lambda`. With the last two tight, `alpha = -lambda / 2^(1/2)` and `beta = lambda`, the
/// first is `0.765 lambda`: slack. So `a = -(1 - 3 lambda / 2^(1/2)) / 13` from `110`, whose weights are
/// `(a, a) / 2` of length `|a| / 2^(1/2)`, and `b = 1 - 3 lambda` from `001` with the weights `(b, 0)`.
#[test]
fn three_points_by_hand_gated() {
    let solution = solved(&three_points(Activation::Gated));
    let a = -(1.0 - 3.0 * LAMBDA / 2.0_f64.sqrt()) / 13.0;
    let b = 1.0 - 3.0 * LAMBDA;
    let objective = three_points_loss(a, b) + LAMBDA * (-a / 2.0_f64.sqrt() + b);
    assert_close(solution.certificate.objective, objective, 1e-8, "objective");
    let expected = [[0.0, 0.0], [a / 2.0, a / 2.0], [b, 0.0]];
    assert_weights(&solution, expected);
}

/// **ReLU.** A unit `u` correlates as `alpha (u_1 + u_2)_+ + beta (u_1)_+`. For `alpha = -lambda` and
/// `beta = 2^(1/2) lambda` this is largest, `lambda`, at `(1, -1) / 2^(1/2)`, and smallest, `-lambda`, at
/// `(0, 1)`: on the cone of `111`, the directions between -45 and 90 degrees, it is `lambda` times
/// `(2^(1/2) - 1, -1)'u`, whose own direction is -67.5 degrees, and those two are the ends; `001` and `110`
/// share them. So `a = -(1 - 3 lambda) / 13` from the neuron `-(0, |a|)`, and `b = 1 - 3 2^(1/2) lambda` from
/// the neuron `(b, -b)` of length `2^(1/2) b`. Which of the two patterns an end counts to is arbitrary.
#[test]
fn three_points_by_hand_relu() {
    let problem = three_points(Activation::Relu);
    assert_close(
        lambda_max(&problem).unwrap(),
        1.0 / 3.0,
        1e-14,
        "lambda_max",
    );
    let solution = solved(&problem);
    let root = 2.0_f64.sqrt();
    let (a, b) = (-(1.0 - 3.0 * LAMBDA) / 13.0, 1.0 - 3.0 * root * LAMBDA);
    let objective = three_points_loss(a, b) + LAMBDA * (-a + root * b);
    assert_close(solution.certificate.objective, objective, 1e-8, "objective");
    let (mut plus, mut minus) = ([0.0; 2], [0.0; 2]);
    for neuron in &solution.neurons {
        let sum = if neuron.sign > 0.0 {
            &mut plus
        } else {
            &mut minus
        };
        (0..2).for_each(|j| sum[j] += neuron.weights[j]);
    }
    let found = [plus[0], plus[1], minus[0], minus[1]];
    let expected = [b, -b, 0.0, -a];
    assert!(distance(&found, &expected) < 1e-4, "{found:?} {expected:?}");
}

fn assert_weights(solution: &Solution, expected: [[f64; 2]; 3]) {
    let found = weights(solution);
    let off = distance(found.as_flattened(), expected.as_flattened());
    assert!(off < 1e-4, "{found:?} {expected:?}");
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

/// Eight samples in `R^3` have `2 (1 + 7 + 21) = 58` patterns with the empty one. The program over all of
/// them has the minimum of the network's own training problem (Pilanci and Ergen, 2020), which descent does
/// not get below, and from some start comes near.
#[test]
fn descent_on_the_network_never_goes_below_the_program_and_comes_near() {
    let kind = kind(Activation::Relu, 1, false, false);
    let drawn = random(kind, 8, 3, 1, 0.02, 21);
    let gates = every_gate(&drawn.matrix.x().to_owned());
    let x = drawn.matrix.x().to_owned();
    let problem = problem(kind, x, &drawn.targets, &gates, 0.02);
    assert_eq!(problem.matrix.gates(), 57);
    let solution = solved(&problem);
    let c = solution.certificate;
    let row = |s: usize| (0..3).map(|j| problem.matrix.x()[(s, j)]).collect();
    let x: Vec<Vec<f64>> = (0..8).map(row).collect();
    let y = problem.targets.col_as_slice(0);
    let own = Network::of(&solution.neurons).step(&x, y, problem.lambda, 0.0);
    assert_close(own, c.objective, 1e-12, "the network of the solution");
    let mut rng = Rng::new(4);
    let mut best = f64::INFINITY;
    for _ in 0..50 {
        let mut network = Network::random(20, 3, &mut rng);
        for _ in 0..3000 {
            network.step(&x, y, problem.lambda, 0.1);
        }
        let reached = network.step(&x, y, problem.lambda, 0.0);
        assert!(reached >= c.dual_value, "{reached} {c:?}");
        best = best.min(reached);
    }
    assert!(best <= 1.001 * c.objective, "{best} {c:?}");
}
