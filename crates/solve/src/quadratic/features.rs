//! A preconditioner for the dual system from features alone, and how far it carries.
//!
//! ```text
//!     K = (Phi Phi') (x) I_C + R  ~  (Phi Phi') (x) I_C + rho I ,       rho = mean diagonal of R
//! ```
//!
//! The inverse of `(Phi Phi') (x) I_C + mu I` (`mu = rho + Lambda`) is one `N x N` factorisation for
//! all classes, or by Woodbury one of `d x d` where `d < N`:
//!
//! ```text
//!     (Phi Phi' + mu I)^-1 = ( I - Phi (Phi'Phi + mu I)^-1 Phi' ) / mu
//! ```
//!
//! It costs one pass over the data for Phi. The condition number left is at most
//! `1 + lambda_max(R) / Lambda` (`docs/math/preconditioners.md`): good while R weighs little.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatRef};

use super::dual::KernelRidge;
use super::lambda::Intercept;
use super::pcg::Pcg;
use super::preconditioner::Preconditioner;
use super::system::KernelSystem;
use crate::dense::{dot, ratio};
use crate::error::{SolveError, check_positive};
use crate::factor::{cholesky, row_major};

/// `((Phi Phi') (x) I_C + mu I)^-1`, applied to sample-major vectors of length `NC`.
#[derive(Clone, Debug)]
pub struct FeaturePreconditioner {
    form: Form,
    /// N.
    samples: usize,
    classes: usize,
}

#[derive(Clone, Debug)]
enum Form {
    /// The factor of `Phi Phi' + mu I`.
    Gram(Llt<f64>),
    /// Phi and the factor of `Phi'Phi + mu I`.
    Woodbury {
        phi: Mat<f64>,
        factor: Llt<f64>,
        mu: f64,
    },
}

impl FeaturePreconditioner {
    /// For features `N x d` and `mu > 0`; with a free bias the features are centred.
    ///
    /// # Errors
    /// When `mu` is not positive or a feature is not finite.
    pub fn new(
        features: MatRef<'_, f64>,
        classes: usize,
        bias: Intercept,
        mu: f64,
    ) -> Result<Self, SolveError> {
        check_positive("shift of a preconditioner", mu)?;
        if features.nrows() <= features.ncols() {
            let gram = features * features.transpose();
            return Self::from_gram(gram.as_ref(), classes, bias, mu);
        }
        let mut phi = features.to_owned();
        if bias == Intercept::Free {
            super::head::centre_columns(&mut phi);
        }
        let gram = phi.transpose() * &phi;
        let factor = cholesky("Cholesky of the features", gram.as_ref(), mu)?;
        Ok(Self {
            samples: phi.nrows(),
            form: Form::Woodbury { phi, factor, mu },
            classes,
        })
    }

    /// For `Phi Phi'` (`N x N`) itself; with a free bias it is centred.
    ///
    /// # Errors
    /// When `mu` is not positive or an entry is not finite.
    pub fn from_gram(
        gram: MatRef<'_, f64>,
        classes: usize,
        bias: Intercept,
        mu: f64,
    ) -> Result<Self, SolveError> {
        check_positive("shift of a preconditioner", mu)?;
        let kernel = KernelRidge::new(gram.to_owned(), 1, bias)?;
        Ok(Self {
            form: Form::Gram(cholesky("Cholesky of the features", kernel.kernel(), mu)?),
            samples: gram.nrows(),
            classes,
        })
    }
}

impl Preconditioner for FeaturePreconditioner {
    fn dim(&self) -> usize {
        self.samples * self.classes
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        let r = row_major(r, self.samples, self.classes);
        let solution = match &self.form {
            Form::Gram(factor) => factor.solve(r),
            Form::Woodbury { phi, factor, mu } => {
                let outer = phi * factor.solve(phi.transpose() * r);
                Mat::from_fn(r.nrows(), r.ncols(), |i, j| {
                    (r[(i, j)] - outer[(i, j)]) / mu
                })
            }
        };
        for (i, z) in z.chunks_exact_mut(self.classes).enumerate() {
            for (j, z) in z.iter_mut().enumerate() {
                *z = solution[(i, j)];
            }
        }
    }
}

/// Iterations that conjugate gradients need on a formed kernel, to a relative gradient norm
/// `sqrt(r'Kr / t'Kt)` of `tolerance`; `limit` if they need more. For predictions: no pass over data.
///
/// # Errors
/// When lengths disagree or the iteration breaks down at once.
pub fn dual_iterations(
    kernel: &KernelRidge,
    lambda: f64,
    preconditioner: &dyn Preconditioner,
    target: &[f64],
    (tolerance, limit): (f64, usize),
) -> Result<usize, SolveError> {
    let (system, curvature) = (
        KernelSystem::new(kernel, lambda),
        KernelSystem::new(kernel, 0.0),
    );
    let target = kernel.project(target);
    let gradient = |r: &[f64]| {
        let mut image = vec![0.0; r.len()];
        curvature.multiply(r, &mut image);
        dot(r, &image).max(0.0).sqrt()
    };
    let reference = gradient(&target);
    let mut pcg = Pcg::new(&system, preconditioner, &target, None)?;
    for iteration in 0..limit {
        if ratio(gradient(&pcg.state().r), reference) <= tolerance || !pcg.step()? {
            return Ok(iteration);
        }
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quadratic::Identity;

    fn phi(n: usize, d: usize) -> Mat<f64> {
        Mat::from_fn(n, d, |i, j| ((i * d + j) as f64).powi(2).sin())
    }

    /// With R = 0 the preconditioner is the inverse: one iteration; without it more.
    #[test]
    fn it_inverts_the_kernel_of_the_features_in_either_form() {
        for (n, d) in [(6, 9), (9, 4)] {
            let c = 2;
            let mut features = phi(n, d);
            crate::quadratic::head::centre_columns(&mut features);
            let gram = &features * features.transpose();
            let kernel = Mat::from_fn(n * c, n * c, |i, j| {
                if i % c == j % c {
                    gram[(i / c, j / c)]
                } else {
                    0.0
                }
            });
            let kernel = KernelRidge::new(kernel, c, Intercept::Free).unwrap();
            let t: Vec<f64> = (0..n * c).map(|i| (i as f64).cos()).collect();
            let m =
                FeaturePreconditioner::new(phi(n, d).as_ref(), c, Intercept::Free, 0.1).unwrap();
            let run =
                |m: &dyn Preconditioner| dual_iterations(&kernel, 0.1, m, &t, (1e-10, 50)).unwrap();
            assert_eq!(run(&m), 1);
            // Five distinct eigenvalues in the space of centred targets, or four and zero.
            assert_eq!(run(&Identity(n * c)), 5);
        }
    }

    #[test]
    fn its_product_with_the_shifted_kernel_is_the_identity() {
        let (c, mu) = (2, 0.3);
        for ((n, d), bias) in [
            ((6, 9), Intercept::None),
            ((6, 9), Intercept::Free),
            ((9, 4), Intercept::None),
            ((9, 4), Intercept::Free),
        ] {
            let phi = phi(n, d);
            let kernel = KernelRidge::new(&phi * phi.transpose(), 1, bias).unwrap();
            let m = FeaturePreconditioner::new(phi.as_ref(), c, bias, mu).unwrap();
            let r: Vec<f64> = (0..n * c).map(|i| (i as f64).cos()).collect();
            let mut z = vec![0.0; n * c];
            m.apply(&r, &mut z);
            for (i, r) in r.iter().enumerate() {
                let product: f64 = (0..n)
                    .map(|j| kernel.kernel()[(i / c, j)] * z[j * c + i % c])
                    .sum();
                assert!((product + mu * z[i] - r).abs() < 1e-12);
            }
        }
    }

    /// `K = diag(1, 3)`, `Lambda = 1`, `t = (1, 2)`: the first step has length 5/18 and leaves
    /// `r = (4, -2)/9`, so that the gradient norm falls by `sqrt(28/1053) = 0.163`; the second ends.
    #[test]
    fn iterations_end_where_the_gradient_norm_reaches_the_tolerance() {
        let kernel = Mat::from_fn(2, 2, |i, j| if i == j { (1 + 2 * i) as f64 } else { 0.0 });
        let kernel = KernelRidge::new(kernel, 1, Intercept::None).unwrap();
        let count = |tolerance, limit| {
            let until = (tolerance, limit);
            dual_iterations(&kernel, 1.0, &Identity(2), &[1.0, 2.0], until).unwrap()
        };
        assert_eq!([1.0, 0.164, 0.162].map(|t| count(t, 9)), [0, 1, 2]);
        assert_eq!(count(0.162, 1), 1);
    }
}
