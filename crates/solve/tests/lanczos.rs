//! Lanczos' iteration against matrices whose eigenvalues are known.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::cell::Cell;

use common::Matrix;
use convextune_solve::faer::linalg::solvers::{Llt, SelfAdjointEigen, Solve};
use convextune_solve::faer::{Mat, Side};
use convextune_solve::lanczos::{
    Eigenvalue, Extremes, LanczosOptions, Pencil, histogram, lanczos, quadrature,
};
use convextune_solve::quadratic::pcg::SymmetricOperator;
use convextune_solve::quadratic::{
    GramSystem, Intercept, KernelRidge, KernelSystem, NormalSystem, Preconditioner,
};
use convextune_solve::{Centred, OperatorError};
use convextune_testkit::{Rng, dot};

/// A symmetric matrix that counts its products.
struct Dense {
    matrix: Matrix,
    products: Cell<usize>,
}

impl Dense {
    fn new(matrix: Matrix) -> Self {
        let products = Cell::new(0);
        Self { matrix, products }
    }

    /// `Q diag(values) Q'` with Q a product of three random reflections.
    fn with_spectrum(values: &[f64], rng: &mut Rng) -> Self {
        let n = values.len();
        let mut m = Matrix::from_fn(n, n, |i, j| if i == j { values[i] } else { 0.0 });
        for _ in 0..3 {
            let v = rng.normals(n);
            let scale = 2.0 / dot(&v, &v);
            let reflect = Matrix::from_fn(n, n, |i, j| {
                f64::from(u8::from(i == j)) - scale * v[i] * v[j]
            });
            m = reflect.times(&m).times(&reflect);
        }
        Self::new(Matrix::from_fn(n, n, |i, j| {
            0.5 * (m.at(i, j) + m.at(j, i))
        }))
    }
}

impl SymmetricOperator for Dense {
    fn dim(&self) -> usize {
        self.matrix.rows
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.products.set(self.products.get() + 1);
        y.copy_from_slice(&self.matrix.times_vector(x));
        Ok(())
    }
}

/// `B^-1` by elimination.
struct Inverse(Mat<f64>);

impl Preconditioner for Inverse {
    fn dim(&self) -> usize {
        self.0.nrows()
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        let factor = Llt::new(self.0.as_ref(), Side::Lower).unwrap();
        let r = Mat::from_fn(r.len(), 1, |i, _| r[i]);
        z.copy_from_slice(factor.solve(r).col_as_slice(0));
    }
}

fn run(
    operator: &dyn SymmetricOperator,
    preconditioner: Option<&dyn Preconditioner>,
    options: &LanczosOptions,
) -> Extremes {
    let mut rng = Rng::new(77);
    let n = operator.dim();
    let pencil = Pencil {
        operator,
        preconditioner,
    };
    lanczos(pencil, &mut || rng.normals(n), options).unwrap()
}

const WANTED: LanczosOptions = LanczosOptions {
    largest: 4,
    smallest: 2,
    tolerance: 1e-9,
    max_steps: 300,
};

/// Every value is within its bound of an eigenvalue, and within the tolerance of the expected one.
fn check(found: &[Eigenvalue], expected: &[f64], all: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let scale = all.iter().fold(0.0f64, |sum, x| sum.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let nearest = all
            .iter()
            .map(|x| (x - found.value).abs())
            .fold(f64::INFINITY, f64::min);
        assert!(
            nearest <= found.residual_bound + 1e-13 * scale,
            "{found:?}, {nearest:e} off"
        );
        assert!(
            (found.value - expected).abs() <= 1e-8 * scale,
            "{found:?} for {expected}"
        );
    }
}

fn check_both(found: &Extremes, all: &[f64]) {
    let mut rising = all.to_vec();
    rising.sort_by(f64::total_cmp);
    let falling: Vec<f64> = rising.iter().rev().copied().collect();
    check(&found.largest, &falling[..found.largest.len()], all);
    check(&found.smallest, &rising[..found.smallest.len()], all);
}

/// Spread evenly, by powers of ten, in two clusters, and with both signs.
#[test]
fn extreme_eigenvalues_are_those_of_the_dense_matrix() {
    let mut rng = Rng::new(1);
    let n = 60;
    let spectra: [Vec<f64>; 4] = [
        (0..n).map(|i| 1.0 + i as f64).collect(),
        (0..n)
            .map(|i| 10f64.powf(i as f64 * 4.0 / n as f64))
            .collect(),
        (0..n)
            .map(|i| if i < 50 { 1.0 } else { 100.0 } + 1e-3 * i as f64)
            .collect(),
        (0..n).map(|i| i as f64 - 20.0).collect(),
    ];
    for values in spectra {
        let a = Dense::with_spectrum(&values, &mut rng);
        let found = run(&a, None, &WANTED);
        assert!(found.converged);
        assert_eq!((found.largest.len(), found.smallest.len()), (4, 2));
        check_both(&found, &values);
        assert_eq!(found.products, a.products.get());
        for value in found.largest.iter().chain(&found.smallest) {
            assert!(
                value.residual_bound < 1e-8 * value.value.abs().max(1.0),
                "{value:?}"
            );
        }
    }
}

/// The bound of a run that was stopped early holds, and is no better than it should be.
#[test]
fn bounds_hold_before_convergence() {
    let mut rng = Rng::new(2);
    let values: Vec<f64> = (0..80).map(|i| f64::from(1 + i * i)).collect();
    let a = Dense::with_spectrum(&values, &mut rng);
    for max_steps in [6, 9, 14, 20] {
        let options = LanczosOptions {
            max_steps,
            ..WANTED
        };
        let found = run(&a, None, &options);
        assert!(!found.converged);
        assert_eq!(found.products, max_steps + 6);
        for value in found.largest.iter().chain(&found.smallest) {
            let nearest = values.iter().map(|x| (x - value.value).abs());
            let nearest = nearest.fold(f64::INFINITY, f64::min);
            assert!(nearest <= value.residual_bound, "{value:?}, {nearest}");
        }
        assert!(found.largest[0].value <= values[79] * (1.0 + 1e-12));
        assert!(found.smallest[0].value >= values[0] - 1e-9);
    }
}

/// Three eigenvalues, each repeated: an invariant subspace after three steps, then another, until
/// no copy is missing among those wanted.
#[test]
fn repeated_eigenvalues_are_found_with_their_copies() {
    let mut rng = Rng::new(3);
    for copies in [[2, 3, 25], [10, 10, 10], [1, 1, 28], [25, 4, 1]] {
        let values: Vec<f64> = [9.0, 4.0, 1.0]
            .iter()
            .zip(copies)
            .flat_map(|(v, n)| std::iter::repeat_n(*v, n))
            .collect();
        let a = Dense::with_spectrum(&values, &mut rng);
        let found = run(&a, None, &WANTED);
        assert!(found.converged, "{copies:?}");
        check_both(&found, &values);
        assert_eq!(found.products, a.products.get());
    }
}

/// The identity ends at once, and a space smaller than what is asked for is given whole.
#[test]
fn a_space_that_is_spanned_ends_the_iteration() {
    let mut rng = Rng::new(4);
    let found = run(&Dense::with_spectrum(&[3.0; 12], &mut rng), None, &WANTED);
    assert!(found.converged && found.products <= 4 + 6, "{found:?}");
    check_both(&found, &[3.0; 12]);
    let values = [2.0, 5.0, 5.0];
    let found = run(&Dense::with_spectrum(&values, &mut rng), None, &WANTED);
    assert!(found.converged);
    assert_eq!(found.largest.len(), 3);
    check_both(&found, &values);
    // Zero is an eigenvalue that no relative tolerance reaches, until the space is spanned.
    let values = [0.0, 0.0, 1.0, 2.0];
    let found = run(&Dense::with_spectrum(&values, &mut rng), None, &WANTED);
    assert_eq!(found.largest.len(), 4);
    check_both(&found, &values);
}

#[test]
fn what_cannot_be_is_refused() {
    let a = Dense::new(Matrix::from_fn(3, 3, |i, j| f64::from(u8::from(i == j))));
    let pencil = Pencil {
        operator: &a,
        preconditioner: None,
    };
    assert!(lanczos(pencil, &mut || vec![0.0; 3], &WANTED).is_err());
    assert!(lanczos(pencil, &mut || vec![1.0; 2], &WANTED).is_err());
    assert!(lanczos(pencil, &mut || vec![f64::NAN; 3], &WANTED).is_err());
    let options = LanczosOptions {
        tolerance: 0.0,
        ..WANTED
    };
    assert!(lanczos(pencil, &mut || vec![1.0; 3], &options).is_err());
    let small = Inverse(Mat::identity(2, 2));
    let pencil = Pencil {
        preconditioner: Some(&small),
        ..pencil
    };
    assert!(lanczos(pencil, &mut || vec![1.0; 3], &WANTED).is_err());
}

/// The eigenvalues of `B^-1 A` against those of `L^-1 A L^-T`, formed.
#[test]
fn preconditioned_eigenvalues_are_those_of_the_formed_pencil() {
    let mut rng = Rng::new(5);
    let n = 40;
    let values: Vec<f64> = (0..n).map(|i| 1.1f64.powi(3 * i)).collect();
    let a = Dense::with_spectrum(&values, &mut rng);
    // B: the large eigenvalues of A, and noise.
    let w = Matrix::random(n as usize, 6, &mut rng);
    let noise = w.times(&w.transpose());
    let b = Matrix::from_fn(n as usize, n as usize, |i, j| {
        a.matrix.at(i, j) + 0.5 * noise.at(i, j) + if i == j { 2.0 } else { 0.0 }
    });
    let factor = Llt::new(b.faer().as_ref(), Side::Lower).unwrap();
    let l = factor.L().to_owned();
    let solve = |m: &Mat<f64>| {
        let mut out = m.clone();
        for j in 0..out.ncols() {
            for i in 0..out.nrows() {
                let known: f64 = (0..i).map(|k| l[(i, k)] * out[(k, j)]).sum();
                out[(i, j)] = (out[(i, j)] - known) / l[(i, i)];
            }
        }
        out
    };
    let half = solve(&a.matrix.faer());
    let formed = solve(&half.transpose().to_owned());
    let dense = SelfAdjointEigen::new(formed.as_ref(), Side::Lower).unwrap();
    let all: Vec<f64> = dense.S().column_vector().iter().copied().collect();
    let found = run(&a, Some(&Inverse(b.faer())), &WANTED);
    assert!(found.converged);
    check_both(&found, &all);
    let condition = |found: &Extremes| found.largest[0].value / found.smallest[0].value;
    assert!((condition(&found) / (all[39] / all[0]) - 1.0).abs() < 1e-7);
    assert!(
        condition(&found) < 0.2 * condition(&run(&a, None, &WANTED)),
        "B is no preconditioner"
    );
    // The inverse itself: one eigenvalue, 1.
    let exact = run(&a, Some(&Inverse(a.matrix.faer())), &WANTED);
    assert!((condition(&exact) - 1.0).abs() < 1e-9);
}

/// Primal, dual and formed: the same eigenvalues, on centred vectors those of the centred kernel.
#[test]
fn the_systems_of_a_ridge_problem_share_their_spectrum() {
    let mut rng = Rng::new(6);
    let (samples, classes, d) = (7, 2, 30);
    let a = Matrix::random(samples * classes, d, &mut rng);
    let operator = a.operator();
    let centred = Centred::new(&operator, classes).unwrap();
    let lambda = 0.3;
    let kernel =
        KernelRidge::new(a.times(&a.transpose()).faer(), classes, Intercept::Free).unwrap();
    let formed = KernelSystem::new(&kernel, lambda);
    let options = LanczosOptions {
        largest: 12,
        smallest: 0,
        ..WANTED
    };
    let spectrum = kernel.spectrum().unwrap();
    let falling = spectrum.eigenvalues().iter().rev().take(12);
    let expected: Vec<f64> = falling.map(|v| v + lambda).collect();
    let primal = NormalSystem::new(&centred, lambda);
    let dual = GramSystem::new(&centred, lambda);
    for system in [&formed as &dyn SymmetricOperator, &primal, &dual] {
        let found = run(system, None, &options);
        check(&found.largest, &expected, &expected);
    }
    // On the range of P the smallest eigenvalue is not Lambda.
    let mut rng = Rng::new(8);
    let mut draw = || {
        let v = rng.normals(samples * classes);
        let mean = |c: usize| v.iter().skip(c).step_by(classes).sum::<f64>() / samples as f64;
        (0..v.len()).map(|r| v[r] - mean(r % classes)).collect()
    };
    let pencil = Pencil {
        operator: &dual,
        preconditioner: None,
    };
    let found = lanczos(pencil, &mut draw, &WANTED).unwrap();
    assert!((found.smallest[0].value / expected[11] - 1.0).abs() < 1e-8);
}

/// The quadrature of one direction has the moments `q' A^k q`, and the histogram of many the counts.
#[test]
fn the_density_counts_the_eigenvalues() {
    let mut rng = Rng::new(9);
    let values: Vec<f64> = (0..200)
        .map(|i| {
            if i < 150 {
                1.0 + 0.001 * f64::from(i)
            } else {
                50.0 + f64::from(i)
            }
        })
        .collect();
    let a = Dense::with_spectrum(&values, &mut rng);
    let pencil = Pencil {
        operator: &a,
        preconditioner: None,
    };
    let q = rng.normals(200);
    let rule = quadrature(pencil, &mut || q.clone(), 6).unwrap();
    assert_eq!(a.products.get(), 6);
    let mut power = q.clone();
    for k in 0..12 {
        let moment: f64 = rule.nodes.iter().map(|(x, w)| w * x.powi(k)).sum();
        let expected = dot(&q, &power) / dot(&q, &q);
        assert!((moment / expected - 1.0).abs() < 1e-9, "moment {k}");
        power = a.matrix.times_vector(&power);
    }
    let rules: Vec<_> = (0..8)
        .map(|_| quadrature(pencil, &mut || rng.normals(200), 20).unwrap())
        .collect();
    let bins = histogram(&rules, &[0.0, 10.0, 225.0, 300.0], 200);
    let expected = [150.0, 25.0, 25.0];
    for (bin, expected) in bins.iter().zip(expected) {
        let error = bin.standard_error.unwrap();
        assert!(error > 0.0 && error < 12.0, "{bin:?}");
        assert!((bin.count - expected).abs() < 4.0 * error, "{bin:?}");
    }
    let total: f64 = bins.iter().map(|bin| bin.count).sum();
    assert!((total - 200.0).abs() < 1e-9);
    assert!(
        histogram(&rules[..1], &[0.0, 300.0], 200)[0]
            .standard_error
            .is_none()
    );
}
