//! A randomised Nyström preconditioner for `M + mu I`, `M` symmetric positive semi-definite, known by its
//! products.
//!
//! With a seeded Gaussian test matrix `Omega` (`n x l`, orthonormalised) and `Y = M Omega`, the Nyström
//! approximation is `Y (Omega' Y)^-1 Y' = U diag(lambda) U'`, and the preconditioner
//!
//! ```text
//!     P^-1 = (lambda_l + mu) U diag(1 / (lambda_i + mu)) U' + (I - U U') .                   (1)
//! ```
//!
//! If `l` is about twice the effective dimension `sum lambda_i / (lambda_i + mu)`, the preconditioned
//! condition number is bounded by a constant, whatever that of `M + mu I` is.
//!
//! The approximation is computed stably by a shift `nu` of the size of rounding (algorithm 2.1): `C` the
//! Cholesky factor of `Omega' (Y + nu Omega)`, `B = (Y + nu Omega) C^-1`, `B = U S V'`,
//! `lambda = (S^2 - nu)_+`.
//!
//! Source: Z. Frangella, J. A. Tropp, M. Udell, *Randomized Nyström preconditioning*, SIAM J. Matrix Anal.
//! Appl. 2023, algorithms 2.1 and 2.2, theorem 5.1.

use faer::linalg::solvers::Qr;
use faer::{Mat, MatRef};

use super::pcg::SymmetricOperator;
use super::preconditioner::Preconditioner;
use crate::dense::{axpy, norm};
use crate::error::SolveError;
use crate::factor::{ThinSvd, cholesky, column};

/// (1), for a shift `mu` that may be changed.
#[derive(Debug)]
pub struct NystroemPreconditioner {
    /// `U`, `n x l`.
    basis: Mat<f64>,
    /// `lambda`, falling.
    eigenvalues: Vec<f64>,
    /// `mu`.
    shift: f64,
}

impl NystroemPreconditioner {
    /// Of `operator` (`M`, without the shift), from `rank` products with the columns of a test matrix whose
    /// normal entries `normal` draws. The rank is cut to the dimension.
    ///
    /// # Errors
    /// When the operator fails, or a factorisation does.
    pub fn new(
        operator: &dyn SymmetricOperator,
        rank: usize,
        shift: f64,
        normal: &mut dyn FnMut() -> f64,
    ) -> Result<Self, SolveError> {
        let n = operator.dim();
        let omega = Self::test_matrix(n, rank.min(n), normal);
        let mut y = Mat::zeros(n, omega.ncols());
        let mut image = vec![0.0; n];
        for k in 0..omega.ncols() {
            operator.apply(omega.col_as_slice(k), &mut image)?;
            y.col_as_slice_mut(k).copy_from_slice(&image);
        }
        Self::from_products(&omega, y, shift, f64::EPSILON)
    }

    /// `Omega`, `n x rank`, from normal entries.
    pub fn test_matrix(n: usize, rank: usize, normal: &mut dyn FnMut() -> f64) -> Mat<f64> {
        Qr::new(Mat::from_fn(n, rank, |_, _| normal()).as_ref()).compute_thin_Q()
    }

    /// From `Omega` ([`Self::test_matrix`]) and `Y = M Omega`, known to a relative `precision`.
    ///
    /// # Errors
    /// When a factorisation fails.
    pub fn from_products(
        omega: &Mat<f64>,
        mut y: Mat<f64>,
        shift: f64,
        precision: f64,
    ) -> Result<Self, SolveError> {
        crate::error::check_positive("shift", shift)?;
        let (n, rank) = (omega.nrows(), omega.ncols());
        let size: f64 = (0..rank).map(|k| norm(y.col_as_slice(k)).powi(2)).sum();
        let size = if size > 0.0 { size.sqrt() } else { 1.0 };
        let nu = (n as f64).sqrt() * precision * size;
        for k in 0..rank {
            axpy(nu, omega.col_as_slice(k), y.col_as_slice_mut(k));
        }
        let inner = omega.transpose() * &y;
        let symmetric = Mat::from_fn(rank, rank, |i, j| 0.5 * (inner[(i, j)] + inner[(j, i)]));
        let factor = cholesky("Nyström approximation", symmetric.as_ref(), 0.0)?;
        let b = right_solve(&y, factor.L());
        let svd = ThinSvd::new("Nyström approximation", b.as_ref())?;
        Ok(Self {
            eigenvalues: svd.s.iter().map(|s| (s * s - nu).max(0.0)).collect(),
            basis: svd.u,
            shift,
        })
    }

    /// Approximate eigenvalues of `M`, the largest first.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// `U diag(lambda)^(1/2)`, whose product with its transpose is the approximation.
    pub fn square_root(&self) -> Mat<f64> {
        let basis = &self.basis;
        Mat::from_fn(basis.nrows(), basis.ncols(), |s, k| {
            basis[(s, k)] * self.eigenvalues[k].sqrt()
        })
    }

    /// `P^-1 R` for all columns of R.
    pub fn apply_columns(&self, r: MatRef<'_, f64>) -> Mat<f64> {
        let least = self.eigenvalues.last().copied().unwrap_or(0.0);
        let mut inner = self.basis.transpose() * r;
        for c in 0..inner.ncols() {
            let column = inner.col_as_slice_mut(c).iter_mut();
            column.zip(&self.eigenvalues).for_each(|(x, lambda)| {
                *x *= (least + self.shift) / (lambda + self.shift) - 1.0;
            });
        }
        r + &self.basis * inner
    }

    /// Changes `mu`; costs nothing.
    pub fn set_shift(&mut self, shift: f64) {
        self.shift = shift;
    }
}

/// `Y L^-T`, column by column: the solution `B` of `B L' = Y`.
fn right_solve(y: &Mat<f64>, l: MatRef<'_, f64>) -> Mat<f64> {
    let mut b = y.clone();
    for k in 0..b.ncols() {
        for i in 0..k {
            let factor = -l[(k, i)];
            let column = b.col_as_slice(i).to_vec();
            axpy(factor, &column, b.col_as_slice_mut(k));
        }
        let pivot = l[(k, k)];
        b.col_as_slice_mut(k).iter_mut().for_each(|x| *x /= pivot);
    }
    b
}

impl Preconditioner for NystroemPreconditioner {
    fn dim(&self) -> usize {
        self.basis.nrows()
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        z.copy_from_slice(self.apply_columns(column(r)).col_as_slice(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factor::eigen;
    use crate::operator::OperatorError;
    use convextune_testkit::Rng;

    struct Dense(Mat<f64>);

    impl SymmetricOperator for Dense {
        fn dim(&self) -> usize {
            self.0.nrows()
        }

        fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
            let image = &self.0 * Mat::from_fn(x.len(), 1, |i, _| x[i]);
            y.copy_from_slice(image.col_as_slice(0));
            Ok(())
        }
    }

    /// `Q diag(values) Q'` with a random orthogonal `Q`.
    fn with_spectrum(values: &[f64], rng: &mut Rng) -> Mat<f64> {
        let n = values.len();
        let q = Qr::new(Mat::from_fn(n, n, |_, _| rng.normal()).as_ref()).compute_thin_Q();
        let scaled = Mat::from_fn(n, n, |i, j| q[(i, j)] * values[j]);
        scaled * q.transpose()
    }

    /// The condition number of `P^-1/2 (M + mu I) P^-1/2`, from the eigenvalues of `P^-1 (M + mu I)` made
    /// symmetric through the Cholesky factor of `M + mu I`.
    fn condition(m: &Mat<f64>, mu: f64, p: &NystroemPreconditioner) -> f64 {
        let n = m.nrows();
        let l = cholesky("M", m.as_ref(), mu).unwrap().L().to_owned();
        let mut middle = Mat::zeros(n, n);
        for k in 0..n {
            p.apply(l.col_as_slice(k), middle.col_as_slice_mut(k));
        }
        let (values, _) = eigen("P^-1 H", (l.transpose() * middle).as_ref()).unwrap();
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(a, b), v| (a.min(*v), b.max(*v)));
        high / low
    }

    #[test]
    fn low_rank_is_inverted_exactly() {
        let mut rng = Rng::new(2);
        let mut values = vec![0.0; 30];
        values[..5].copy_from_slice(&[100.0, 50.0, 10.0, 3.0, 1.0]);
        let m = with_spectrum(&values, &mut rng);
        let mut normal = || rng.normal();
        let p = NystroemPreconditioner::new(&Dense(m.clone()), 8, 1e-2, &mut normal).unwrap();
        for (found, true_one) in p.eigenvalues().iter().zip(&values) {
            assert!((found - true_one).abs() < 1e-9, "{found} {true_one}");
        }
        assert!(condition(&m, 1e-2, &p) < 1.0 + 1e-8);
    }

    /// A spectrum that falls like 1 / j^2, mu = 1e-4: about 110 of 150 eigenvalues count, and already a
    /// quarter of them brings the condition number down from 1e4; more brings it further.
    #[test]
    fn the_condition_number_falls_with_the_rank() {
        let mut rng = Rng::new(9);
        let values: Vec<f64> = (1..=150).map(|j| 1.0 / f64::from(j * j)).collect();
        let m = with_spectrum(&values, &mut rng);
        let mut last = 1e4;
        for rank in [10, 40, 120] {
            let mut normal = || rng.normal();
            let p =
                NystroemPreconditioner::new(&Dense(m.clone()), rank, 1e-4, &mut normal).unwrap();
            let now = condition(&m, 1e-4, &p);
            assert!(now < last / 2.5, "rank {rank}: {now} after {last}");
            last = now;
        }
        assert!(last < 10.0, "{last}");
    }
}
