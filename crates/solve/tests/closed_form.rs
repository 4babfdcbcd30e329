//! Closed forms against elimination, and leave-one-out against fitting again, sample by sample.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

mod common;

use common::{Matrix, ridge, ridge_with_bias};
use convextune_solve::faer::{self, Mat};
use convextune_solve::quadratic::{HeadRidge, Intercept, KernelRidge, log_grid};
use convextune_testkit::{Rng, relative_error};
use proptest::prelude::*;

const CLASSES: usize = 3;

/// Residuals on the samples in `group` of the model fitted, by elimination, without them.
fn refit_residuals(
    a: &Matrix,
    t: &[f64],
    lambda: f64,
    bias: Intercept,
    classes: usize,
    group: &[usize],
) -> Vec<f64> {
    let rows: Vec<usize> = (0..a.rows)
        .filter(|r| !group.contains(&(r / classes)))
        .collect();
    let kept = a.select_rows(&rows);
    let targets: Vec<f64> = rows.iter().map(|r| t[*r]).collect();
    let (u, b) = match bias {
        Intercept::None => (ridge(&kept, &targets, lambda), vec![0.0; classes]),
        Intercept::Free => ridge_with_bias(&kept, &targets, lambda, classes),
    };
    let fitted = a.times_vector(&u);
    let rows = group.iter().flat_map(|i| i * classes..(i + 1) * classes);
    rows.map(|r| t[r] - fitted[r] - b[r % classes]).collect()
}

fn every_refit(a: &Matrix, t: &[f64], lambda: f64, bias: Intercept, classes: usize) -> Vec<f64> {
    let one = |i| refit_residuals(a, t, lambda, bias, classes, &[i]);
    (0..a.rows / classes).flat_map(one).collect()
}

fn kernel_of(a: &Matrix) -> Mat<f64> {
    a.times(&a.transpose()).faer()
}

fn biased_problem(samples: usize, cols: usize, seed: u64) -> (Matrix, Vec<f64>) {
    let rng = &mut Rng::new(seed);
    let a = Matrix::random(samples * CLASSES, cols, rng);
    let t = rng
        .normals(samples * CLASSES)
        .iter()
        .map(|t| t + 2.0)
        .collect();
    (a, t)
}

#[test]
fn the_bias_is_exact_where_lambda_is_tiny() {
    // Dual unknowns grow as 1 / Lambda; a mean left in them by rounding would meet the whole of K.
    let (a, t) = biased_problem(12, 11, 8);
    let lambda = 1e-6;
    let ridge = KernelRidge::new(kernel_of(&a), CLASSES, Intercept::Free).unwrap();
    let (_, bias) = ridge_with_bias(&a, &t, lambda, CLASSES);
    let cholesky = ridge.cholesky(lambda).unwrap().dual(&t).unwrap();
    let spectrum = ridge.spectrum().unwrap().dual(&t, lambda).unwrap();
    for dual in [cholesky, spectrum] {
        let error = relative_error(&ridge.bias(&t, &dual).unwrap(), &bias);
        assert!(error < 1e-7, "{error}");
    }
}

#[test]
fn the_dual_solution_gives_the_primal_one_and_its_bias() {
    let (a, t) = biased_problem(6, 11, 1);
    let lambda = 0.3;
    let (u, b) = ridge_with_bias(&a, &t, lambda, CLASSES);
    let kernel = KernelRidge::new(kernel_of(&a), CLASSES, Intercept::Free).unwrap();
    let duals = [
        kernel.cholesky(lambda).unwrap().dual(&t).unwrap(),
        kernel.cholesky(lambda).unwrap().inverse().dual(&t).unwrap(),
        kernel.spectrum().unwrap().dual(&t, lambda).unwrap(),
    ];
    for dual in duals {
        assert!(relative_error(&a.transpose().times_vector(&dual), &u) < 1e-10);
        assert!(relative_error(&kernel.bias(&t, &dual).unwrap(), &b) < 1e-10);
    }
    let plain = KernelRidge::new(kernel_of(&a), CLASSES, Intercept::None).unwrap();
    let dual = plain.cholesky(lambda).unwrap().dual(&t).unwrap();
    assert!(relative_error(&a.transpose().times_vector(&dual), &ridge(&a, &t, lambda)) < 1e-10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn kernel_leave_one_out_equals_refitting(
        samples in 3usize..7, cols in 1usize..25, seed: u64, lambda in 0.05f64..5.0, free: bool,
    ) {
        let (a, t) = biased_problem(samples, cols, seed);
        let bias = if free { Intercept::Free } else { Intercept::None };
        let kernel = KernelRidge::new(kernel_of(&a), CLASSES, bias).unwrap();
        let expected = every_refit(&a, &t, lambda, bias, CLASSES);
        let by_inverse = kernel.cholesky(lambda).unwrap().inverse().leave_one_out(&t).unwrap();
        let by_spectrum = kernel.spectrum().unwrap().leave_one_out(&t, lambda).unwrap();
        prop_assert!(relative_error(&by_inverse, &expected) < 1e-9);
        prop_assert!(relative_error(&by_spectrum, &expected) < 1e-9);
    }

    #[test]
    fn head_leave_one_out_equals_refitting(
        samples in 3usize..9, features in 1usize..12, seed: u64, lambda in 0.05f64..5.0, free: bool,
    ) {
        let rng = &mut Rng::new(seed);
        let phi = Matrix::random(samples, features, rng);
        let t = Matrix::from_fn(samples, 2, |i, j| ((i * 7 + j * 3) % 5) as f64 + 1.0);
        let bias = if free { Intercept::Free } else { Intercept::None };
        let head = HeadRidge::new(phi.faer().as_ref(), bias).unwrap();
        let targets = t.faer();
        let residuals = head.leave_one_out(targets.as_ref(), lambda).unwrap();
        let predictions = head.leave_one_out_predictions(targets.as_ref(), lambda).unwrap();
        let kernel = KernelRidge::new(kernel_of(&phi), 1, bias).unwrap();
        let inverse = kernel.cholesky(lambda).unwrap().inverse();
        let group = [2, 0];
        let block = head.inverse_block(&group, lambda);
        for (p, i) in group.iter().enumerate() {
            for (q, j) in group.iter().enumerate() {
                let truth = inverse.matrix()[(*i, *j)];
                prop_assert!((block[(p, q)] - truth).abs() < 1e-9 * (1.0 + 1.0 / lambda));
            }
        }
        for c in 0..2 {
            let column: Vec<f64> = (0..samples).map(|i| t.at(i, c)).collect();
            let expected = every_refit(&phi, &column, lambda, bias, 1);
            prop_assert!(relative_error(residuals.col_as_slice(c), &expected) < 1e-9);
            let sum: Vec<f64> =
                (0..samples).map(|i| predictions[(i, c)] + residuals[(i, c)]).collect();
            prop_assert!(relative_error(&sum, &column) < 1e-12);
        }
    }
}

#[test]
fn leaving_a_group_out_equals_refitting() {
    for bias in [Intercept::None, Intercept::Free] {
        let (a, t) = biased_problem(7, 9, 2);
        let kernel = KernelRidge::new(kernel_of(&a), CLASSES, bias).unwrap();
        let inverse = kernel.cholesky(0.4).unwrap().inverse();
        let group = [5, 1, 2];
        let expected = refit_residuals(&a, &t, 0.4, bias, CLASSES, &group);
        let residuals = inverse.leave_group_out(&t, &group).unwrap();
        assert!(relative_error(&residuals, &expected) < 1e-9);
        assert!(inverse.leave_group_out(&t, &[7]).is_err());
        assert!(inverse.leave_group_out(&t, &[1, 1]).is_err());
        let nobody = inverse.leave_group_out(&t, &[0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(
            nobody.is_err(),
            bias == Intercept::Free,
            "a bias needs a sample"
        );
    }
}

#[test]
fn the_head_equals_elimination_for_tall_and_wide_features() {
    for (samples, features) in [(9, 4), (4, 9), (5, 5)] {
        let rng = &mut Rng::new(3);
        let phi = Matrix::random(samples, features, rng);
        let t = Matrix::random(samples, CLASSES, rng);
        let (phi_f, t_f) = (phi.faer(), t.faer());
        for bias in [Intercept::None, Intercept::Free] {
            let head = HeadRidge::new(phi_f.as_ref(), bias).unwrap();
            let fit = head.fit(t_f.as_ref(), 0.7).unwrap();
            let dual = head.dual(t_f.as_ref(), 0.7).unwrap();
            let weights_by_dual = phi_f.transpose() * &dual;
            for c in 0..CLASSES {
                let column: Vec<f64> = (0..samples).map(|i| t.at(i, c)).collect();
                let (u, b) = match bias {
                    Intercept::None => (ridge(&phi, &column, 0.7), vec![0.0]),
                    Intercept::Free => ridge_with_bias(&phi, &column, 0.7, 1),
                };
                assert!(relative_error(fit.weights.col_as_slice(c), &u) < 1e-10);
                assert!((fit.bias[c] - b[0]).abs() < 1e-10);
                assert!(relative_error(weights_by_dual.col_as_slice(c), &u) < 1e-10);
            }
            let outputs = fit.predict(phi_f.as_ref()).unwrap();
            let expected = &t_f - &dual * faer::Scale(0.7);
            let error = (&outputs - &expected).norm_l2();
            assert!(error < 1e-10, "t - f = Lambda a");
        }
    }
}

#[test]
fn head_and_kernel_choose_the_same_lambda() {
    let rng = &mut Rng::new(4);
    let phi = Matrix::random(12, 20, rng);
    let t = Matrix::from_fn(12, CLASSES, |i, c| f64::from(u8::from(i % CLASSES == c)));
    let head = HeadRidge::new(phi.faer().as_ref(), Intercept::Free).unwrap();
    let kernel = phi.times(&phi.transpose()).kron_identity(CLASSES).faer();
    let kernel = KernelRidge::new(kernel, CLASSES, Intercept::Free).unwrap();
    assert!((head.mean_diagonal() - kernel.mean_diagonal()).abs() < 1e-10);
    let unit = head.mean_diagonal();
    let grid = log_grid(1e-3 * unit, 1e2 * unit, 11).unwrap();
    let by_head = head.choose_lambda(t.faer().as_ref(), &grid).unwrap();
    let by_kernel = kernel
        .spectrum()
        .unwrap()
        .choose_lambda(&t.entries, &grid)
        .unwrap();
    assert_eq!(by_head.index, by_kernel.index);
    assert!(relative_error(&by_head.errors, &by_kernel.errors) < 1e-9);
    let refit = every_refit(
        &phi.kron_identity(CLASSES),
        &t.entries,
        grid[3],
        Intercept::Free,
        CLASSES,
    );
    let mean = refit.iter().map(|e| e * e).sum::<f64>() / refit.len() as f64;
    assert!((by_head.errors[3] - mean).abs() < 1e-9);
}

#[test]
fn unusable_kernels_are_refused() {
    let square = Mat::<f64>::identity(4, 4);
    assert!(KernelRidge::new(square.clone(), 3, Intercept::None).is_err());
    assert!(KernelRidge::new(Mat::zeros(3, 4), 1, Intercept::None).is_err());
    assert!(KernelRidge::new(square.clone() * f64::NAN, 1, Intercept::None).is_err());
    let kernel = KernelRidge::new(-square, 2, Intercept::None).unwrap();
    assert!(kernel.cholesky(0.5).is_err(), "indefinite");
    assert!(kernel.cholesky(-1.0).is_err());
    let one = KernelRidge::new(Mat::identity(2, 2), 2, Intercept::Free).unwrap();
    let inverse = one.cholesky(1.0).unwrap().inverse();
    assert!(
        inverse.leave_one_out(&[1.0, 2.0]).is_err(),
        "nothing is left to fit a bias to"
    );
}
