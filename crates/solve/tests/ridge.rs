//! Conjugate gradients on the ridge problem, against elimination and against known answers.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

mod common;

use std::cell::Cell;
use std::ops::ControlFlow;

use common::{Matrix, ridge, ridge_with_bias};
use convextune_solve::quadratic::{
    Identity, PcgOptions, PcgState, Preconditioner, RidgeProblem, Start, solve_dual, solve_primal,
};
use convextune_solve::{
    Centred, Certificate, LinearOperator, OperatorError, Progress, Quiet, Solution, SolveError,
    Status,
};
use convextune_testkit::{Rng, dot, relative_error};
use proptest::prelude::*;

const TIGHT: PcgOptions = PcgOptions {
    tolerance: 1e-12,
    max_iterations: 500,
};

fn solve_both(problem: &RidgeProblem<'_>, options: &PcgOptions) -> [Solution; 2] {
    let (rows, cols) = (problem.operator().rows(), problem.operator().cols());
    let primal = solve_primal(problem, &Identity(cols), options, Start::Zero, &mut Quiet);
    let dual = solve_dual(problem, &Identity(rows), options, Start::Zero, &mut Quiet);
    [primal.unwrap(), dual.unwrap()]
}

/// `L(u)` as written.
fn objective(a: &Matrix, t: &[f64], lambda: f64, u: &[f64]) -> f64 {
    let residual: Vec<f64> = t
        .iter()
        .zip(a.times_vector(u))
        .map(|(t, f)| t - f)
        .collect();
    0.5 * dot(&residual, &residual) + 0.5 * lambda * dot(u, u)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn both_formulations_agree_with_elimination(
        rows in 1usize..15, cols in 1usize..15, seed: u64, lambda in 0.01f64..10.0,
    ) {
        let rng = &mut Rng::new(seed);
        let (a, t) = (Matrix::random(rows, cols, rng), rng.normals(rows));
        let operator = a.operator();
        let problem = RidgeProblem::new(&operator, t.clone(), lambda).unwrap();
        let exact = ridge(&a, &t, lambda);
        for solution in solve_both(&problem, &TIGHT) {
            prop_assert_eq!(solution.status, Status::Converged);
            prop_assert!(relative_error(&solution.x, &exact) < 1e-9);
        }
    }

    #[test]
    fn the_bound_holds_and_the_gap_is_sharper_at_dual_points(
        rows in 2usize..12, cols in 1usize..12, seed: u64, lambda in 0.01f64..10.0,
    ) {
        let rng = &mut Rng::new(seed);
        let (a, t) = (Matrix::random(rows, cols, rng), rng.normals(rows));
        let operator = a.operator();
        let problem = RidgeProblem::new(&operator, t.clone(), lambda).unwrap();
        let least = objective(&a, &t, lambda, &ridge(&a, &t, lambda));
        let slack = 1e-10 * (1.0 + least);
        let u = rng.normals(cols);
        let here = objective(&a, &t, lambda, &u);
        let certificate = Certificate::compute(&problem, &u).unwrap();
        prop_assert!((certificate.objective - here).abs() < 1e-10 * here);
        prop_assert!(here - least <= certificate.suboptimality_bound + slack);
        let dual_point = rng.normals(rows);
        let (u, certificate) = Certificate::compute_dual(&problem, &dual_point).unwrap();
        let distance = objective(&a, &t, lambda, &u) - least;
        prop_assert!(distance <= certificate.duality_gap.unwrap() + slack);
        prop_assert!(distance <= certificate.suboptimality_bound + slack);
    }
}

#[test]
fn diagonal_problem_has_its_known_answer() {
    // u_j = s_j t_j / (s_j^2 + lambda), L* = sum_j (lambda/2) t_j^2 / (s_j^2 + lambda).
    let a = Matrix::from_fn(3, 3, |i, j| if i == j { (i + 1) as f64 } else { 0.0 });
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, vec![2.0, 5.0, 10.0], 1.0).unwrap();
    for solution in solve_both(&problem, &TIGHT) {
        assert!(relative_error(&solution.x, &[1.0, 2.0, 3.0]) < 1e-12);
        assert!((solution.certificate.objective - 0.5 * (2.0 + 5.0 + 10.0)).abs() < 1e-12);
    }
}

#[test]
fn the_gradient_bound_is_tight_where_a_vanishes() {
    // A = 0: L(u) - L* = (lambda/2) ||u||^2 = ||lambda u||^2 / (2 lambda).
    let a = Matrix::from_fn(2, 3, |_, _| 0.0);
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, vec![1.0, 1.0], 4.0).unwrap();
    let certificate = Certificate::compute(&problem, &[1.0, 2.0, 2.0]).unwrap();
    assert!((certificate.suboptimality_bound - 18.0).abs() < 1e-14);
    assert!((certificate.objective - 19.0).abs() < 1e-14);
}

#[test]
fn the_certificate_is_that_of_the_returned_point() {
    let rng = &mut Rng::new(4);
    let (a, t) = (Matrix::random(20, 30, rng), rng.normals(20));
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, t, 0.1).unwrap();
    let loose = PcgOptions {
        tolerance: 1e-2,
        max_iterations: 500,
    };
    for solution in solve_both(&problem, &loose) {
        let again = Certificate::compute(&problem, &solution.x).unwrap();
        assert!(again.relative_gradient_norm <= 1e-2);
        let stated = solution.certificate.relative_gradient_norm;
        assert!((again.relative_gradient_norm - stated).abs() < 1e-9 * stated);
        assert!((again.objective - solution.certificate.objective).abs() < 1e-12);
        let last = solution.history.last().unwrap();
        assert!((last.objective - again.objective).abs() < 1e-10);
        assert!(solution.work.jvps > 0 && solution.work.vjps > 0);
    }
}

#[test]
fn a_free_bias_is_eliminated_exactly() {
    let rng = &mut Rng::new(5);
    let (classes, lambda) = (3, 0.2);
    let a = Matrix::random(24, 10, rng);
    let t: Vec<f64> = rng.normals(24).iter().map(|t| t + 3.0).collect();
    let (u, b) = ridge_with_bias(&a, &t, lambda, classes);
    let inner = a.operator();
    let centred = Centred::new(&inner, classes).unwrap();
    let problem = RidgeProblem::new(&centred, centred.target(&t).unwrap(), lambda).unwrap();
    for solution in solve_both(&problem, &TIGHT) {
        assert!(relative_error(&solution.x, &u) < 1e-9);
        assert!(relative_error(&centred.bias(&t, &solution.x).unwrap(), &b) < 1e-9);
    }
}

#[test]
fn warm_start_at_the_solution_takes_no_iteration() {
    let rng = &mut Rng::new(6);
    let (a, t) = (Matrix::random(12, 8, rng), rng.normals(12));
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, t, 0.5).unwrap();
    let [primal, dual] = solve_both(&problem, &TIGHT);
    let options = PcgOptions {
        tolerance: 1e-9,
        ..TIGHT
    };
    let again = solve_primal(
        &problem,
        &Identity(8),
        &options,
        Start::Warm(primal.x),
        &mut Quiet,
    );
    assert_eq!(again.unwrap().iterations, 0);
    let start = Start::Warm(dual.dual.unwrap());
    let again = solve_dual(&problem, &Identity(12), &options, start, &mut Quiet);
    assert_eq!(again.unwrap().iterations, 0);
}

#[test]
fn resuming_a_checkpoint_continues_to_the_bit() {
    let rng = &mut Rng::new(7);
    let (a, t) = (Matrix::random(40, 30, rng), rng.normals(40));
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, t, 0.01).unwrap();
    let options = PcgOptions {
        tolerance: 1e-8,
        max_iterations: 500,
    };
    let [whole, whole_dual] = solve_both(&problem, &options);
    let mut saved: Option<PcgState> = None;
    let mut stop_at_five = |progress: &Progress<'_>| {
        saved = progress.state.cloned();
        if progress.record.iteration == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let part = solve_primal(
        &problem,
        &Identity(30),
        &options,
        Start::Zero,
        &mut stop_at_five,
    );
    assert_eq!(part.unwrap().status, Status::Interrupted);
    let start = Start::Resume(Box::new(saved.take().unwrap()));
    let rest = solve_primal(&problem, &Identity(30), &options, start, &mut Quiet).unwrap();
    assert_eq!((rest.x, rest.iterations), (whole.x, whole.iterations));
    let mut stop_at_five = |progress: &Progress<'_>| {
        saved = progress.state.cloned();
        if progress.record.iteration == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    solve_dual(
        &problem,
        &Identity(40),
        &options,
        Start::Zero,
        &mut stop_at_five,
    )
    .unwrap();
    let start = Start::Resume(Box::new(saved.unwrap()));
    let rest = solve_dual(&problem, &Identity(40), &options, start, &mut Quiet).unwrap();
    assert_eq!(
        (rest.dual, rest.iterations),
        (whole_dual.dual, whole_dual.iterations)
    );
}

#[test]
fn the_energy_estimate_brackets_the_true_error() {
    let rng = &mut Rng::new(8);
    let (a, t) = (Matrix::random(60, 40, rng), rng.normals(60));
    let lambda = 1.0;
    let exact = ridge(&a, &t, lambda);
    let h = a.transpose().times(&a).plus_diagonal(lambda);
    let energy = |x: &[f64]| {
        let e: Vec<f64> = x.iter().zip(&exact).map(|(x, s)| x - s).collect();
        dot(&e, &h.times_vector(&e)).sqrt()
    };
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, t, lambda).unwrap();
    let mut points = Vec::new();
    let mut watch = |progress: &Progress<'_>| {
        let state = progress.state.unwrap();
        points.push((state.x.clone(), state.energy_norm_estimate()));
        ControlFlow::Continue(())
    };
    let options = PcgOptions {
        tolerance: 1e-6,
        max_iterations: 500,
    };
    solve_primal(&problem, &Identity(40), &options, Start::Zero, &mut watch).unwrap();
    assert!(points.len() > 8);
    for k in 4..points.len() {
        let estimate = points[k].1.unwrap();
        let delayed = energy(&points[k - 4].0);
        assert!(
            estimate <= delayed * (1.0 + 1e-9),
            "a lower bound of the error 4 iterations ago"
        );
        assert!(estimate >= 0.3 * delayed, "and not a trivial one");
    }
}

/// A preconditioner that is not positive definite.
struct Negative(usize);

impl Preconditioner for Negative {
    fn dim(&self) -> usize {
        self.0
    }
    fn apply(&self, r: &[f64], z: &mut [f64]) {
        for (z, r) in z.iter_mut().zip(r) {
            *z = -r;
        }
    }
}

#[test]
fn an_indefinite_preconditioner_is_a_breakdown_with_a_sound_point() {
    let operator = Matrix::from_fn(3, 3, |i, j| (i + 2 * j) as f64).operator();
    let problem = RidgeProblem::new(&operator, vec![1.0; 3], 1.0).unwrap();
    let solution = solve_primal(&problem, &Negative(3), &TIGHT, Start::Zero, &mut Quiet).unwrap();
    assert_eq!(solution.status, Status::Breakdown);
    assert!(solution.x.iter().all(|x| x.is_finite()));
}

#[test]
fn a_zero_target_is_solved_by_zero() {
    let operator = Matrix::from_fn(3, 2, |i, j| (i + j) as f64).operator();
    let problem = RidgeProblem::new(&operator, vec![0.0; 3], 1.0).unwrap();
    for solution in solve_both(&problem, &TIGHT) {
        assert_eq!(
            (solution.status, solution.iterations),
            (Status::Converged, 0)
        );
        assert_eq!(solution.x, vec![0.0; 2]);
        assert_eq!(solution.certificate.relative_gradient_norm, 0.0);
    }
}

#[test]
fn the_budget_is_kept() {
    let rng = &mut Rng::new(9);
    let operator = Matrix::random(30, 30, rng).operator();
    let problem = RidgeProblem::new(&operator, rng.normals(30), 1e-6).unwrap();
    let options = PcgOptions {
        tolerance: 1e-10,
        max_iterations: 3,
    };
    for solution in solve_both(&problem, &options) {
        assert_eq!(
            (solution.status, solution.iterations),
            (Status::MaxIterations, 3)
        );
    }
}

fn round(v: &mut [f64]) {
    for x in v {
        *x = f64::from(*x as f32);
    }
}

/// Products rounded to single precision, as a network's are.
struct SinglePrecision<'a>(&'a dyn LinearOperator);

impl LinearOperator for SinglePrecision<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn cols(&self) -> usize {
        self.0.cols()
    }
    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.0.apply(x, y)?;
        round(y);
        Ok(())
    }
    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        self.0.apply_adjoint(y, x)?;
        round(x);
        Ok(())
    }
}

#[test]
fn single_precision_operators_end_honestly() {
    let rng = &mut Rng::new(10);
    let a = Matrix::random(40, 60, rng);
    let inner = a.operator();
    let operator = SinglePrecision(&inner);
    let problem = RidgeProblem::new(&operator, rng.normals(40), 0.1).unwrap();
    for solution in solve_both(
        &problem,
        &PcgOptions {
            tolerance: 1e-5,
            max_iterations: 500,
        },
    ) {
        assert_eq!(solution.status, Status::Converged);
        assert!(solution.certificate.relative_gradient_norm <= 1e-5);
    }
    for solution in solve_both(
        &problem,
        &PcgOptions {
            tolerance: 1e-14,
            max_iterations: 5000,
        },
    ) {
        assert_eq!(
            solution.status,
            Status::Stalled,
            "1e-14 is out of reach in single precision"
        );
        assert!(solution.certificate.relative_gradient_norm < 1e-4);
    }
}

#[test]
fn invalid_input_is_refused() {
    let operator = Matrix::from_fn(2, 2, |_, _| 1.0).operator();
    let shape = RidgeProblem::new(&operator, vec![0.0; 3], 1.0);
    assert!(matches!(
        shape,
        Err(SolveError::Shape {
            expected: 2,
            got: 3,
            ..
        })
    ));
    for lambda in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let parameter = RidgeProblem::new(&operator, vec![0.0; 2], lambda);
        assert!(matches!(parameter, Err(SolveError::Parameter { .. })));
    }
    let infinite = RidgeProblem::new(&operator, vec![f64::NAN; 2], 1.0);
    assert!(matches!(infinite, Err(SolveError::NonFinite { .. })));
    let problem = RidgeProblem::new(&operator, vec![1.0; 2], 1.0).unwrap();
    assert!(solve_primal(&problem, &Identity(3), &TIGHT, Start::Zero, &mut Quiet).is_err());
}

/// The third fused product is a little too large, so that the recurrences drift from the truth.
struct OneWrongProduct<'a> {
    inner: &'a dyn LinearOperator,
    products: Cell<usize>,
}

impl OneWrongProduct<'_> {
    fn disturb(&self, out: &mut [f64]) {
        self.products.set(self.products.get() + 1);
        if self.products.get() == 3 {
            out.iter_mut()
                .enumerate()
                .for_each(|(k, x)| *x *= 1.0 + 1e-3 * (k % 3) as f64);
        }
    }
}

impl LinearOperator for OneWrongProduct<'_> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }
    fn cols(&self) -> usize {
        self.inner.cols()
    }
    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.inner.apply(x, y)
    }
    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        self.inner.apply_adjoint(y, x)
    }
    fn apply_normal(
        &self,
        x: &[f64],
        image: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.inner.apply_normal(x, image, out)?;
        self.disturb(out);
        Ok(())
    }
    fn apply_gram(
        &self,
        y: &[f64],
        preimage: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.inner.apply_gram(y, preimage, out)?;
        self.disturb(out);
        Ok(())
    }
}

#[test]
fn recurrences_that_drifted_are_corrected_from_fresh_residuals() {
    let rng = &mut Rng::new(11);
    let (a, t) = (Matrix::random(30, 20, rng), rng.normals(30));
    let (inner, exact) = (a.operator(), ridge(&a, &t, 0.5));
    let options = PcgOptions {
        tolerance: 1e-10,
        max_iterations: 300,
    };
    for formulation in 0..2 {
        let operator = OneWrongProduct {
            inner: &inner,
            products: Cell::new(0),
        };
        let problem = RidgeProblem::new(&operator, t.clone(), 0.5).unwrap();
        let solution = if formulation == 0 {
            solve_primal(&problem, &Identity(20), &options, Start::Zero, &mut Quiet).unwrap()
        } else {
            solve_dual(&problem, &Identity(30), &options, Start::Zero, &mut Quiet).unwrap()
        };
        assert_eq!(solution.status, Status::Converged);
        assert!(relative_error(&solution.x, &exact) < 1e-9);
        let repeated = solution
            .history
            .windows(2)
            .any(|w| w[0].iteration == w[1].iteration);
        assert!(repeated, "it began anew");
    }
}

#[test]
fn records_state_the_true_objective_and_a_true_bound_at_every_iteration() {
    let rng = &mut Rng::new(12);
    let (a, t, lambda) = (Matrix::random(25, 18, rng), rng.normals(25), 0.3);
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, t.clone(), lambda).unwrap();
    let least = objective(&a, &t, lambda, &ridge(&a, &t, lambda));
    let check = |progress: &Progress<'_>, u: &[f64]| {
        let (record, here) = (progress.record, objective(&a, &t, lambda, u));
        assert!((record.objective - here).abs() < 1e-10 * here);
        assert!(here - least <= record.suboptimality_bound + 1e-10);
        ControlFlow::Continue(())
    };
    let mut primal = |progress: &Progress<'_>| check(progress, &progress.state.unwrap().x);
    let mut dual = |progress: &Progress<'_>| {
        check(
            progress,
            &a.transpose().times_vector(&progress.state.unwrap().x),
        )
    };
    solve_primal(&problem, &Identity(18), &TIGHT, Start::Zero, &mut primal).unwrap();
    solve_dual(&problem, &Identity(25), &TIGHT, Start::Zero, &mut dual).unwrap();
}
