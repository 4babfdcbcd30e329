//! The choice against a search of the whole grid, and errors and iterations known beforehand.

use convextune_solve::faer::Mat;
use convextune_solve::faer::linalg::solvers::DenseSolveCore;
use convextune_solve::quadratic::KernelParts;

use super::*;
use crate::linearize::tests::{CLASSES, network, samples};
use crate::progress::Silent;

const N: usize = 12;

#[test]
fn the_walk_ends_in_the_valley_on_either_side() {
    for valley in 0..GRID.len() {
        for begin in 0..GRID.len() {
            let error = |i: usize| Ok((i as f64 - valley as f64).powi(2));
            assert_eq!(descend(begin, error).unwrap().1, valley);
        }
    }
}

/// Nothing on the grid has a smaller error on the honest samples, by the kernel's eigenvalues,
/// than what the walk along Cholesky factors finds.
#[test]
fn the_choice_has_the_least_leave_one_out_error_of_the_honest_samples() {
    let labels: Vec<usize> = (0..N).map(|i| i % CLASSES).collect();
    let (network, samples) = (network(), samples(N));
    let data = TrainingSet {
        samples: &samples,
        labels: &labels,
        classes: CLASSES,
    };
    let lin = Linearization::new(&network, 0, &samples, 4, &Silent).unwrap();
    let parts = lin.kernel(1 << 20).unwrap();
    let (head, rest) = parts.mean_diagonals();
    let ridge = |share: f64| {
        let scale = (share * head / rest).sqrt();
        let ridge = KernelRidge::new(parts.kernel(scale), CLASSES, Intercept::Free).unwrap();
        (scale, ridge)
    };
    // Targets that a kernel of the grid can learn, and noise: the error has one valley.
    let (_, truth) = ridge(SHARES[2]);
    let target = |r: usize| {
        let entry = |q: usize| truth.kernel()[(r, q)] * ((q * q) as f64).cos();
        let learnt: f64 = (0..N * CLASSES).map(entry).sum();
        learnt / truth.mean_diagonal() + 0.3 * ((r * r) as f64).sin()
    };
    let t: Vec<f64> = (0..N * CLASSES).map(target).collect();
    let evidence = [Evidence {
        samples: (0..N).collect(),
        classes: (0..CLASSES).collect(),
        parts: parts.clone(),
    }];
    for head_init in [HeadInit::Random, HeadInit::Split] {
        let options = FitOptions {
            head_init,
            ..FitOptions::default()
        };
        let seen = match head_init {
            HeadInit::Split => anchor_part(&labels, CLASSES, options.seed),
            _ => Vec::new(),
        };
        let mut best = (f64::INFINITY, 0.0, 0.0, 0.0);
        for share in SHARES {
            let (scale, ridge) = ridge(share);
            let spectrum = ridge.spectrum().unwrap();
            for ratio in GRID {
                let lambda = ratio * ridge.mean_diagonal();
                let residuals = spectrum.leave_one_out(&t, lambda).unwrap();
                let of_sample = |(i, e): (usize, &[f64])| {
                    let square = e.iter().map(|e| e * e).sum::<f64>();
                    if seen.contains(&i) { 0.0 } else { square }
                };
                let chunks = residuals.chunks_exact(CLASSES).enumerate();
                let error: f64 = chunks.map(of_sample).sum();
                if error < best.0 {
                    best = (error, lambda, scale, ridge.mean_diagonal());
                }
            }
        }
        let prior = choose(&lin, &evidence, &t, data, &options, &Silent).unwrap();
        let chosen = [prior.lambda, prior.scale, prior.unit];
        for (chosen, best) in chosen.into_iter().zip([best.1, best.2, best.3]) {
            assert!((chosen / best - 1.0).abs() < 1e-9, "{chosen} {best}");
        }
    }
}

fn part(samples: Vec<usize>, classes: Vec<usize>, rest: Mat<f64>, phi: &Mat<f64>) -> Evidence {
    Evidence {
        samples,
        classes,
        parts: KernelParts::new(rest, phi.as_ref()).unwrap(),
    }
}

/// Without any kernel a sample is predicted by the mean of the others of its part.
#[test]
fn the_error_adds_up_the_honest_samples_of_every_part() {
    let zero = |n: usize| Mat::zeros(n, n);
    let evidence = [
        part(vec![0, 2, 3], vec![0, 2], zero(6), &Mat::zeros(3, 1)),
        part(vec![1, 4], vec![1], zero(2), &Mat::zeros(2, 1)),
    ];
    let t: Vec<f64> = (0..15).map(|i| f64::from(i * i)).collect();
    let kernels = ridges(&evidence, 1.0).unwrap();
    let sum = error(&evidence, &kernels, &[1, 2], &t, 3, 0.7).unwrap();
    // Sample 2: classes 0 and 2 (36, 64) from samples 0 and 3 (0 and 81, 4 and 121). Sample 1:
    // class 1 (16) from sample 4 (169).
    let off: [f64; 3] = [36.0 - 40.5, 64.0 - 62.5, 16.0 - 169.0];
    let expected: f64 = off.iter().map(|e| e * e).sum();
    assert!((sum / expected - 1.0).abs() < 1e-12, "{sum} {expected}");
}

/// Where the rest is a multiple of the identity, the features' preconditioner is the inverse;
/// without it, one iteration for each feature and one for the rest.
#[test]
fn iterations_are_counted_on_the_largest_part_with_the_diagonal_of_the_rest() {
    let phi = |n| Mat::from_fn(n, 4, |i, j| ((i * 4 + j) as f64).powi(2).sin());
    let rest = |n| Mat::<f64>::identity(n, n);
    let evidence = [
        part(vec![0, 1, 2, 3], vec![0, 1], rest(8), &phi(4)),
        part((4..N).collect(), vec![2], rest(8), &phi(8)),
        part(vec![0, 1], vec![0], rest(2), &phi(2)),
    ];
    let prior = Prior {
        lambda: 0.1,
        scale: 0.5,
        source: LambdaSource::Given,
        unit: 1.0,
        backbone_unit: 0.25,
    };
    let t: Vec<f64> = (0..N * CLASSES).map(|i| (i as f64).cos()).collect();
    let counted = iterations(&evidence, &prior, &t, CLASSES, 1e-10).unwrap();
    assert_eq!((counted.rows, counted.plain, counted.features), (8, 5, 1));
    // The largest part: s^2 tr P (P K P + Lambda I)^-1 P, with K_back = I, by a dense inverse.
    let centre = Mat::from_fn(8, 8, |i, j| f64::from(u8::from(i == j)) - 1.0 / 8.0);
    let kernel = &centre * (phi(8) * phi(8).transpose() + 0.25 * rest(8)) * &centre;
    let inverse = (kernel + 0.1 * rest(8)).partial_piv_lu().inverse();
    let traced = 0.25 * (0..8).map(|i| (&centre * &inverse)[(i, i)]).sum::<f64>();
    assert!((counted.freedom / traced - 1.0).abs() < 1e-9);
}

/// Copies of one kernel are the kernel `K (x) I`.
#[test]
fn leaving_out_is_the_same_for_copies_and_for_the_whole_kernel() {
    let (n, copies) = (7, 3);
    let entry = |i: usize, j: usize| (-((i as f64 - j as f64) / 2.0).powi(2)).exp();
    let one = KernelRidge::new(Mat::from_fn(n, n, entry), 1, Intercept::Free).unwrap();
    let whole = Mat::from_fn(n * copies, n * copies, |a, b| {
        let same = f64::from(u8::from(a % copies == b % copies));
        same * entry(a / copies, b / copies)
    });
    let whole = KernelRidge::new(whole, copies, Intercept::Free).unwrap();
    let t: Vec<f64> = (0..n * copies).map(|i| ((i * i) as f64).sin()).collect();
    let inverse = |ridge: &KernelRidge| ridge.cholesky(0.3).unwrap().inverse();
    let want = inverse(&whole).leave_one_out(&t).unwrap();
    let got = leave_one_out(&inverse(&one), &t, copies).unwrap();
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() < 1e-12);
    }
}

/// A class that the part has no sample of has the target 0, and says nothing about iterations.
#[test]
fn iterations_are_counted_for_the_target_that_varies_most() {
    assert_eq!(hardest(&[0.0, 1.0, 9.0, 0.0, -1.0, 9.0], 3), [1.0, -1.0]);
}
