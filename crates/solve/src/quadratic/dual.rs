//! Ridge regression in closed form through a given kernel `K = A A'` (`NC x NC`, sample-major).
//!
//! **Solution.** `a = M t` with `M = (K + Lambda I)^-1`, and `u = A' a`.
//!
//! **Free bias.** Minimising also over an unpenalised bias `b` in R^C gives the saddle system
//!
//! ```text
//!     [ K + Lambda I   B ] [a]   [t]
//!     [ B'             0 ] [b] = [0] ,      B = 1 (x) I_C .
//! ```
//!
//! With `P = I - B B'/N` the upper left block of its inverse is
//! `M = P (P K P + Lambda I)^-1 P = (P K P + Lambda I)^-1 - B B' / (N Lambda)`, because `P K P`
//! vanishes on the range of `B`. Again `a = M t`; then `b` is the class mean of `t - K a`.
//!
//! **Leaving samples out.** The residual of the fit is `t - f = Lambda a`. Let `G` be a set of rows
//! and shift their targets by `-e_G`, which changes `a_G` by `-M_GG e_G`. With
//!
//! ```text
//!     e_G = (M_GG)^-1 a_G
//! ```
//!
//! the new `a_G` is zero: the rows of `G` are fitted without residual and pull at nothing, so this is
//! the model fitted without `G`, bias included, and `f_{-G}(x_G) = t_G - e_G`. For one sample `G`
//! has `C` rows; for `C = 1` this is the PRESS formula (Allen 1974). `Lambda`, the total weight
//! decay, is the same in both fits.

use faer::linalg::solvers::{DenseSolveCore, Llt, Solve};
use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;

use super::lambda::{Intercept, LambdaChoice, mean_square};
use crate::dense::{centre, class_means, map_columns};
use crate::error::{self, SolveError, check_len, check_positive};
use crate::factor::{check_square, cholesky, column, eigen};

/// A kernel for ridge regression.
#[derive(Clone, Debug)]
pub struct KernelRidge {
    /// `K`, or `P K P` with a free bias.
    kernel: Mat<f64>,
    /// Class means of the rows of `K` before centring, `C x NC`; for the bias.
    row_means: Option<Mat<f64>>,
    classes: usize,
}

impl KernelRidge {
    /// Ridge regression with the symmetric kernel `K` (`NC x NC`, rows and columns sample-major).
    ///
    /// # Errors
    /// When `K` is not square or not finite, or its size is not a positive multiple of `classes`.
    pub fn new(kernel: Mat<f64>, classes: usize, bias: Intercept) -> Result<Self, SolveError> {
        let n = kernel.nrows();
        check_square("kernel", n, kernel.as_ref())?;
        if classes == 0 || n == 0 || !n.is_multiple_of(classes) {
            let (what, domain) = ("size of the kernel", "a positive multiple of the classes");
            return Err(SolveError::Parameter {
                what,
                domain,
                got: n as f64,
            });
        }
        let mut ridge = Self {
            kernel,
            row_means: None,
            classes,
        };
        if bias == Intercept::Free {
            ridge.centre_kernel();
        }
        Ok(ridge)
    }

    /// `K <- P K P`, keeping the class means of its rows.
    fn centre_kernel(&mut self) {
        let (n, c) = (self.kernel.nrows(), self.classes);
        let mut means = Mat::zeros(c, n);
        for j in 0..n {
            let column_means = centre(self.kernel.col_as_slice_mut(j), c);
            for (k, mean) in column_means.into_iter().enumerate() {
                means[(k, j)] = mean;
            }
        }
        for i in 0..n {
            let mut row: Vec<f64> = (0..n).map(|j| self.kernel[(i, j)]).collect();
            centre(&mut row, c);
            for (j, value) in row.into_iter().enumerate() {
                self.kernel[(i, j)] = value;
            }
        }
        self.row_means = Some(means);
    }

    /// `K`, or `P K P` with a free bias.
    pub fn kernel(&self) -> MatRef<'_, f64> {
        self.kernel.as_ref()
    }

    /// The mean of the diagonal of [`KernelRidge::kernel`], the natural unit of `Lambda`.
    pub fn mean_diagonal(&self) -> f64 {
        let n = self.kernel.nrows();
        (0..n).map(|i| self.kernel[(i, i)]).sum::<f64>() / n as f64
    }

    /// The bias that goes with the dual solution `a` of targets `t`: the class means of `t - K a`,
    /// or zeros without a free bias. Length `C`.
    ///
    /// # Errors
    /// When a length is wrong.
    pub fn bias(&self, target: &[f64], a: &[f64]) -> Result<Vec<f64>, SolveError> {
        check_len("target", self.kernel.nrows(), target.len())?;
        check_len("dual solution", self.kernel.nrows(), a.len())?;
        let Some(means) = &self.row_means else {
            return Ok(vec![0.0; self.classes]);
        };
        let fitted = means * column(a);
        let targets = class_means(target, self.classes);
        Ok(targets
            .iter()
            .enumerate()
            .map(|(c, t)| t - fitted[(c, 0)])
            .collect())
    }

    /// One Cholesky factorisation, for one `Lambda`.
    ///
    /// # Errors
    /// When `lambda` is not positive or `K + Lambda I` not positive definite.
    pub fn cholesky(&self, lambda: f64) -> Result<KernelCholesky, SolveError> {
        check_positive("Lambda", lambda)?;
        let factor = cholesky("Cholesky of the kernel", self.kernel.as_ref(), lambda)?;
        let (classes, bias) = (self.classes, self.intercept());
        Ok(KernelCholesky {
            factor,
            lambda,
            classes,
            bias,
        })
    }

    /// One eigendecomposition, for every `Lambda`.
    ///
    /// # Errors
    /// When the eigenvalue iteration fails.
    pub fn spectrum(&self) -> Result<KernelSpectrum, SolveError> {
        let (values, vectors) = eigen("eigenvalues of the kernel", self.kernel.as_ref())?;
        let rows = vectors.transpose().to_owned();
        Ok(KernelSpectrum {
            values,
            rows,
            classes: self.classes,
            bias: self.intercept(),
        })
    }

    /// `P t`, or `t` itself without a free bias.
    pub(super) fn project(&self, target: &[f64]) -> Vec<f64> {
        self.intercept().project(target, self.classes)
    }

    /// Whether the bias is free.
    pub fn intercept(&self) -> Intercept {
        if self.row_means.is_some() {
            Intercept::Free
        } else {
            Intercept::None
        }
    }
}

/// The kernel factorised for one `Lambda`.
#[derive(Clone, Debug)]
pub struct KernelCholesky {
    factor: Llt<f64>,
    lambda: f64,
    classes: usize,
    bias: Intercept,
}

impl KernelCholesky {
    /// `a = M t`, length `NC`.
    ///
    /// # Errors
    /// When the length is wrong or an entry is not finite.
    pub fn dual(&self, target: &[f64]) -> Result<Vec<f64>, SolveError> {
        check_target(self.factor.L().nrows(), target)?;
        let mut a = column(target).to_owned();
        self.dual_columns(a.as_mut());
        Ok(a.col_as_slice(0).to_vec())
    }

    /// `T <- M T`, for several targets at once, one a column.
    pub fn dual_columns(&self, mut t: MatMut<'_, f64>) {
        let project = |t: &[f64]| self.bias.project(t, self.classes);
        map_columns(t.as_mut(), project);
        self.factor.solve_in_place(t.as_mut());
        // M = P M: a mean left by rounding would meet the whole of K in the bias.
        map_columns(t, project);
    }

    /// `M` itself, for leaving samples out and for influence; twice the cost of the factorisation.
    pub fn inverse(&self) -> KernelInverse {
        let mut m = self.factor.inverse();
        if self.bias == Intercept::Free {
            let samples = m.nrows() / self.classes;
            let excess = 1.0 / (samples as f64 * self.lambda);
            for j in 0..m.ncols() {
                for i in (j % self.classes..m.nrows()).step_by(self.classes) {
                    m[(i, j)] -= excess;
                }
            }
        }
        KernelInverse {
            m,
            classes: self.classes,
            bias: self.bias,
        }
    }
}

/// `M`, the inverse of the (saddle) system restricted to the dual unknowns, for one `Lambda`.
#[derive(Clone, Debug)]
pub struct KernelInverse {
    m: Mat<f64>,
    classes: usize,
    bias: Intercept,
}

impl KernelInverse {
    /// `M`, `NC x NC`.
    pub fn matrix(&self) -> MatRef<'_, f64> {
        self.m.as_ref()
    }

    /// `a = M t`.
    ///
    /// # Errors
    /// When the length is wrong or an entry is not finite.
    pub fn dual(&self, target: &[f64]) -> Result<Vec<f64>, SolveError> {
        check_target(self.m.nrows(), target)?;
        Ok((&self.m * column(target)).col_as_slice(0).to_vec())
    }

    /// For every sample the residual `t_i - f_{-i}(x_i)` of the model fitted without it; length
    /// `NC`.
    ///
    /// # Errors
    /// When the target does not fit, or a block is singular (a single sample with a free bias).
    pub fn leave_one_out(&self, target: &[f64]) -> Result<Vec<f64>, SolveError> {
        let (a, c) = (self.dual(target)?, self.classes);
        check_group(a.len() / c, &[0], self.bias)?;
        let block = |i: usize| self.m.submatrix(i * c, i * c, c, c).to_owned();
        block_residuals(&a, c, block)
    }

    /// The residuals at the samples in `group` of the model fitted without all of them; length
    /// `group.len() * C`, in the order of `group`.
    ///
    /// # Errors
    /// When the target does not fit, an index is out of range or repeated, or nothing is left.
    pub fn leave_group_out(&self, target: &[f64], group: &[usize]) -> Result<Vec<f64>, SolveError> {
        let (a, c) = (self.dual(target)?, self.classes);
        let samples = self.m.nrows() / c;
        check_group(samples, group, self.bias)?;
        let rows: Vec<usize> = group.iter().flat_map(|i| i * c..(i + 1) * c).collect();
        let block = Mat::from_fn(rows.len(), rows.len(), |i, j| self.m[(rows[i], rows[j])]);
        let a: Vec<f64> = rows.iter().map(|i| a[*i]).collect();
        solve_block(&block, &a)
    }
}

/// The kernel's eigendecomposition, for every `Lambda`.
#[derive(Clone, Debug)]
pub struct KernelSpectrum {
    pub(super) values: Vec<f64>,
    /// Column `r` is row `r` of the matrix of eigenvectors.
    pub(super) rows: Mat<f64>,
    pub(super) classes: usize,
    pub(super) bias: Intercept,
}

impl KernelSpectrum {
    /// The eigenvalues of the (centred) kernel, ascending.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.values
    }

    /// The eigenvector of eigenvalue `k`, length `NC`.
    pub fn eigenvector(&self, k: usize) -> Vec<f64> {
        self.rows.row(k).iter().copied().collect()
    }

    /// `a = M t`, length `NC`.
    ///
    /// # Errors
    /// When the target does not fit or `lambda` is not positive.
    pub fn dual(&self, target: &[f64], lambda: f64) -> Result<Vec<f64>, SolveError> {
        check_positive("Lambda", lambda)?;
        let mut rotated = self.rotate(target)?;
        for (t, value) in rotated.iter_mut().zip(&self.values) {
            *t /= value.max(0.0) + lambda;
        }
        let a = self.rows.transpose() * column(&rotated);
        Ok(self.bias.project(a.col_as_slice(0), self.classes))
    }

    /// The leave-one-out residuals `t_i - f_{-i}(x_i)` at `lambda`, length `NC`.
    ///
    /// # Errors
    /// As for [`KernelInverse::leave_one_out`].
    pub fn leave_one_out(&self, target: &[f64], lambda: f64) -> Result<Vec<f64>, SolveError> {
        let (a, c) = (self.dual(target, lambda)?, self.classes);
        check_group(a.len() / c, &[0], self.bias)?;
        let weights: Vec<f64> = self
            .values
            .iter()
            .map(|v| 1.0 / (v.max(0.0) + lambda))
            .collect();
        let samples = (a.len() / c) as f64;
        let excess = if self.bias == Intercept::Free {
            1.0 / (samples * lambda)
        } else {
            0.0
        };
        let entry = |p: usize, q: usize| {
            let (p, q) = (self.rows.col_as_slice(p), self.rows.col_as_slice(q));
            p.iter()
                .zip(q)
                .zip(&weights)
                .map(|((p, q), w)| p * q * w)
                .sum::<f64>()
        };
        block_residuals(&a, c, |i| {
            Mat::from_fn(c, c, |p, q| {
                entry(i * c + p, i * c + q) - if p == q { excess } else { 0.0 }
            })
        })
    }

    /// The point of `grid` with the least mean squared leave-one-out residual.
    ///
    /// # Errors
    /// When the grid is empty or not positive, or the target does not fit.
    pub fn choose_lambda(&self, target: &[f64], grid: &[f64]) -> Result<LambdaChoice, SolveError> {
        let error = |lambda: &f64| {
            Ok(mean_square(
                self.leave_one_out(target, *lambda)?.into_iter(),
            ))
        };
        LambdaChoice::from_errors(
            grid,
            grid.iter().map(error).collect::<Result<_, SolveError>>()?,
        )
    }

    /// The (centred) target in the eigenbasis.
    fn rotate(&self, target: &[f64]) -> Result<Vec<f64>, SolveError> {
        check_target(self.values.len(), target)?;
        let t = self.bias.project(target, self.classes);
        Ok((&self.rows * column(&t)).col_as_slice(0).to_vec())
    }
}

fn check_target(n: usize, target: &[f64]) -> Result<(), SolveError> {
    check_len("target", n, target.len())?;
    error::check_finite("target", target)
}

/// `Ok` when `group` lists samples, none twice, and leaves one to fit a free bias to.
fn check_group(samples: usize, group: &[usize], bias: Intercept) -> Result<(), SolveError> {
    let mut left_out = vec![false; samples];
    for i in group {
        match left_out.get_mut(*i) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                let (what, domain) = ("sample to leave out", "a sample, listed once");
                return Err(SolveError::Parameter {
                    what,
                    domain,
                    got: *i as f64,
                });
            }
        }
    }
    let left = samples - group.len();
    if bias == Intercept::Free {
        check_positive("samples left in", left as f64)
    } else {
        Ok(())
    }
}

/// `e_i = (M_ii)^-1 a_i` for every sample.
fn block_residuals(
    a: &[f64],
    classes: usize,
    block: impl Fn(usize) -> Mat<f64> + Sync,
) -> Result<Vec<f64>, SolveError> {
    let residuals: Result<Vec<Vec<f64>>, SolveError> = a
        .par_chunks(classes)
        .enumerate()
        .map(|(i, a)| solve_block(&block(i), a))
        .collect();
    Ok(residuals?.concat())
}

/// `block \ a`.
fn solve_block(block: &Mat<f64>, a: &[f64]) -> Result<Vec<f64>, SolveError> {
    let factor = cholesky("Cholesky of a leave-out block", block.as_ref(), 0.0)?;
    Ok(factor.solve(column(a)).col_as_slice(0).to_vec())
}
