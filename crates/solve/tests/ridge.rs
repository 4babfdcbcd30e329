//! Conjugate gradients on the ridge problem, against elimination and against known answers. How
//! they begin and end: `ridge_endings.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

mod common;

use std::ops::ControlFlow;

use common::{Matrix, TIGHT, objective, ridge, ridge_with_bias, solve_both};
use convextune_solve::quadratic::{
    Identity, PcgOptions, RidgeProblem, Start, solve_dual, solve_primal,
};
use convextune_solve::{Centred, Certificate, LinearOperator, Progress, Quiet, SolveError, Status};
use convextune_testkit::{Rng, dot, relative_error};
use proptest::prelude::*;

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
        let (mut u, mut residual) = (vec![0.0; cols], vec![0.0; rows]);
        operator.apply_adjoint(&dual_point, &mut u).unwrap();
        operator.apply(&u, &mut residual).unwrap();
        residual.iter_mut().zip(&t).for_each(|(r, t)| *r = t - *r);
        let square = |x: &[f64]| {
            let mut image = vec![0.0; cols];
            operator.apply_adjoint(x, &mut image).unwrap();
            dot(&image, &image)
        };
        let at = (dot(&u, &u), residual.as_slice());
        let told = Certificate::from_dual(&problem, &dual_point, at, square).unwrap();
        let fresh = Certificate::compute(&problem, &u).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs() + 1e-12;
        prop_assert!(near(told.objective, fresh.objective));
        prop_assert!(near(told.gradient_norm, fresh.gradient_norm));
        prop_assert!(near(told.relative_gradient_norm, fresh.relative_gradient_norm));
        let distance = objective(&a, &t, lambda, &u) - least;
        prop_assert!(distance <= told.suboptimality_bound + slack);
        // (2) is at most (1) at s = r0 - A u only along singular directions above Lambda; it is the gap at s = Lambda a.
        let gap = told.duality_gap.unwrap();
        let conjugate = dot(&dual_point, &t) * lambda
            - 0.5 * lambda * lambda * dot(&dual_point, &dual_point)
            - 0.5 * lambda * dot(&u, &u);
        prop_assert!(near(gap, told.objective - conjugate) || gap < slack);
        prop_assert!((told.suboptimality_bound - gap).abs() < 1e-12 * (1.0 + gap));
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
