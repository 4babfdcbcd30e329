//! Logistic regression: known answers, stationarity by plain loops, the gap, cross validation.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

mod common;

use common::Matrix;
use convextune_solve::faer::Mat;
use convextune_solve::logistic::{LogisticFit, LogisticOptions, LogisticRegression};
use convextune_solve::{Quiet, Status};
use convextune_testkit::{Rng, relative_error};
use proptest::prelude::*;

const TIGHT: LogisticOptions = LogisticOptions {
    tolerance: 1e-10,
    max_iterations: 100,
    max_inner_iterations: 500,
};

/// Three overlapping clouds.
fn clouds(samples: usize, features: usize, seed: u64) -> (Matrix, Vec<usize>) {
    let rng = &mut Rng::new(seed);
    let noise = Matrix::random(samples, features, rng);
    let labels: Vec<usize> = (0..samples)
        .map(|i| if i % 7 == 0 { 0 } else { i % 3 })
        .collect();
    let phi = Matrix::from_fn(samples, features, |i, j| {
        noise.at(i, j) + if j % 3 == labels[i] { 1.0 } else { 0.0 } + 5.0
    });
    (phi, labels)
}

/// The objective and its gradient in `W` and `b`, by plain loops.
fn by_hand(
    phi: &Matrix,
    labels: &[usize],
    lambda: f64,
    w: &Mat<f64>,
    b: &[f64],
) -> (f64, Vec<f64>) {
    let (d, classes) = (w.nrows(), w.ncols());
    let mut objective = 0.0;
    let mut gradient = vec![0.0; (d + 1) * classes];
    for (i, label) in labels.iter().enumerate() {
        let z: Vec<f64> = (0..classes)
            .map(|c| b[c] + (0..d).map(|j| phi.at(i, j) * w[(j, c)]).sum::<f64>())
            .collect();
        let total: f64 = z.iter().map(|z| z.exp()).sum();
        objective += total.ln() - z[*label];
        for c in 0..classes {
            let error = z[c].exp() / total - f64::from(u8::from(c == *label));
            for j in 0..d {
                gradient[c * (d + 1) + j] += error * phi.at(i, j);
            }
            gradient[c * (d + 1) + d] += error;
        }
    }
    for c in 0..classes {
        for j in 0..d {
            objective += 0.5 * lambda * w[(j, c)] * w[(j, c)];
            gradient[c * (d + 1) + j] += lambda * w[(j, c)];
        }
    }
    (objective, gradient)
}

fn fit(
    phi: &Matrix,
    labels: &[usize],
    classes: usize,
    lambda: f64,
    options: &LogisticOptions,
) -> LogisticFit {
    let problem = LogisticRegression::new(phi.faer().as_ref(), labels, classes).unwrap();
    problem.fit(lambda, options, None, &mut Quiet).unwrap()
}

#[test]
fn without_features_the_probabilities_are_the_shares() {
    let phi = Matrix::from_fn(8, 2, |_, _| 3.0);
    let fit = fit(&phi, &[0, 0, 0, 0, 0, 1, 1, 2], 3, 1.0, &TIGHT);
    let outputs = fit.head.predict(phi.faer().as_ref()).unwrap();
    let total: f64 = (0..3).map(|c| outputs[(0, c)].exp()).sum();
    for (c, share) in [5.0 / 8.0, 2.0 / 8.0, 1.0 / 8.0].into_iter().enumerate() {
        assert!((outputs[(0, c)].exp() / total - share).abs() < 1e-9);
    }
}

#[test]
fn two_points_have_the_answer_of_a_scalar_equation() {
    // x = 1 in class 0, x = -1 in class 1: W = (w, -w), and 2 sigma(-2 w) = Lambda w.
    let phi = Matrix {
        rows: 2,
        cols: 1,
        entries: vec![1.0, -1.0],
    };
    let lambda = 0.3;
    let (mut low, mut high) = (0.0f64, 10.0f64);
    for _ in 0..200 {
        let w = 0.5 * (low + high);
        if 2.0 / (1.0 + (2.0 * w).exp()) > lambda * w {
            low = w;
        } else {
            high = w;
        }
    }
    let fit = fit(&phi, &[0, 1], 2, lambda, &TIGHT);
    assert!((fit.head.weights[(0, 0)] - low).abs() < 1e-9);
    assert!((fit.head.weights[(0, 1)] + low).abs() < 1e-9);
    assert!(fit.head.bias.iter().all(|b| b.abs() < 1e-9));
}

#[test]
fn the_returned_model_is_stationary_by_hand_for_tall_and_wide_features() {
    for (samples, features) in [(40, 5), (12, 30)] {
        let (phi, labels) = clouds(samples, features, 1);
        for lambda in [1e-3, 0.1, 10.0] {
            let fit = fit(&phi, &labels, 3, lambda, &TIGHT);
            assert_eq!(fit.status, Status::Converged);
            let (head, zero) = (&fit.head, Mat::zeros(features, 3));
            let (objective, g) = by_hand(&phi, &labels, lambda, &head.weights, &head.bias);
            let (_, start) = by_hand(&phi, &labels, lambda, &zero, &[0.0; 3]);
            let norm = |g: &[f64]| g.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(norm(&g) < 1e-8 * norm(&start));
            assert!((fit.certificate.objective - objective).abs() < 1e-9 * objective);
            assert!(fit.certificate.duality_gap < 1e-8 * objective);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_gap_bounds_the_distance_at_unfinished_points(
        seed: u64, lambda in 0.01f64..10.0, iterations in 0usize..4, inner in 1usize..4,
    ) {
        let (phi, labels) = clouds(25, 4, seed);
        let least = fit(&phi, &labels, 3, lambda, &TIGHT).certificate.objective;
        let options = LogisticOptions {
            tolerance: 1e-10, max_iterations: iterations, max_inner_iterations: inner,
        };
        let early = fit(&phi, &labels, 3, lambda, &options);
        let distance = early.certificate.objective - least;
        prop_assert!(distance >= -1e-9);
        prop_assert!(distance <= early.certificate.duality_gap + 1e-9);
    }
}

#[test]
fn a_warm_start_saves_iterations_and_changes_nothing() {
    let (phi, labels) = clouds(40, 6, 2);
    let problem = LogisticRegression::new(phi.faer().as_ref(), &labels, 3).unwrap();
    let near = problem.fit(0.1, &TIGHT, None, &mut Quiet).unwrap();
    let cold = problem.fit(0.09, &TIGHT, None, &mut Quiet).unwrap();
    let warm = problem.fit(0.09, &TIGHT, Some(&near), &mut Quiet).unwrap();
    assert!(warm.iterations < cold.iterations);
    let (w, c) = (
        warm.head.weights.col_as_slice(0),
        cold.head.weights.col_as_slice(0),
    );
    assert!(relative_error(w, c) < 1e-7);
}

#[test]
fn cross_validation_equals_fitting_every_fold_apart() {
    let (phi, labels) = clouds(30, 5, 3);
    let grid = [0.01, 1.0, 30.0];
    let problem = LogisticRegression::new(phi.faer().as_ref(), &labels, 3).unwrap();
    let result = problem.cross_validate(&grid, 4, 7, &TIGHT).unwrap();
    for (k, lambda) in grid.iter().enumerate() {
        let (mut cross_entropy, mut right) = (0.0, 0.0);
        for fold in 0..4 {
            let (test, train): (Vec<usize>, Vec<usize>) =
                (0..30).partition(|i| result.folds[*i] == Some(fold));
            let of = |rows: &[usize]| rows.iter().map(|i| labels[*i]).collect::<Vec<_>>();
            let share = train.len() as f64 / 30.0;
            let model = fit(
                &phi.select_rows(&train),
                &of(&train),
                3,
                lambda * share,
                &TIGHT,
            );
            let outputs = model
                .head
                .predict(phi.select_rows(&test).faer().as_ref())
                .unwrap();
            for (row, label) in of(&test).into_iter().enumerate() {
                let z: Vec<f64> = (0..3).map(|c| outputs[(row, c)]).collect();
                cross_entropy += z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[label];
                let best = (0..3).max_by(|a, b| z[*a].total_cmp(&z[*b])).unwrap();
                right += f64::from(u8::from(best == label));
            }
        }
        assert!((result.choice.errors[k] - cross_entropy / 30.0).abs() < 1e-7);
        assert!((result.accuracies[k] - right / 30.0).abs() < 1e-12);
    }
    let least = result
        .choice
        .errors
        .iter()
        .copied()
        .fold(f64::INFINITY, f64::min);
    assert_eq!(result.choice.errors[result.choice.index], least);
}

#[test]
fn separable_classes_stay_finite() {
    let phi = Matrix::from_fn(20, 1, |i, _| if i % 2 == 0 { 100.0 } else { -100.0 });
    let labels: Vec<usize> = (0..20).map(|i| i % 2).collect();
    let fit = fit(&phi, &labels, 2, 1e-8, &LogisticOptions::default());
    assert_eq!(fit.status, Status::Converged);
    assert!(fit.head.weights[(0, 0)].is_finite() && fit.head.weights[(0, 0)] > 0.0);
}

#[test]
fn unusable_input_is_refused() {
    let phi = Matrix::from_fn(4, 2, |i, j| (i + j) as f64).faer();
    let new = |labels: &[usize]| LogisticRegression::new(phi.as_ref(), labels, 2);
    assert!(new(&[0, 1, 0]).is_err());
    assert!(new(&[0, 1, 2, 0]).is_err(), "label out of range");
    assert!(new(&[0, 0, 0, 0]).is_err(), "a class without samples");
    let problem = new(&[0, 1, 0, 1]).unwrap();
    assert!(problem.fit(0.0, &TIGHT, None, &mut Quiet).is_err());
    assert!(problem.cross_validate(&[1.0], 1, 0, &TIGHT).is_err());
    assert!(problem.cross_validate(&[], 2, 0, &TIGHT).is_err());
}

/// Many classes, little penalty, labels against the evidence: from zero the first steps go so far
/// that probabilities are 0 or 1 to rounding, and the Hessian there is no guide.
#[test]
fn many_saturated_classes_converge() {
    let (classes, features) = (100, 150);
    let rng = &mut Rng::new(4);
    let (centres, noise) = (
        Matrix::random(classes, features, rng),
        Matrix::random(8 * classes, features, rng),
    );
    let phi = Matrix::from_fn(8 * classes, features, |i, j| {
        (centres.at(i % classes, j) + 0.3 * noise.at(i, j)).max(0.0)
    });
    let label = |i: usize| if i.is_multiple_of(17) { i / 17 } else { i };
    let labels: Vec<usize> = (0..8 * classes).map(|i| label(i) % classes).collect();
    let problem = LogisticRegression::new(phi.faer().as_ref(), &labels, classes).unwrap();
    let (lambda, options) = (1e-4 * problem.mean_square(), LogisticOptions::default());
    let fit = problem.fit(lambda, &options, None, &mut Quiet).unwrap();
    assert_eq!(fit.status, Status::Converged);
}
