//! Influence in the dual: pure linear algebra on a kernel, exact in the bias as well.
//!
//! **Symbols.** N samples with q rows each, kernel `K` (`Nq x Nq`, sample-major) and p columns of
//! targets: `C = q p`. Where every class has a copy of the weights (and for a head alone) `q = 1`
//! and `p = C`, since the kernel is `K (x) I_C`; where classes share the weights `q = C`, `p = 1`.
//! `B = 1 (x) I_q` and `M = (P K P + Lambda I)^-1 - B B'/(N Lambda)`, the block of the saddle
//! system's inverse that belongs to the dual unknowns ([`convextune_solve::quadratic::dual`]); for
//! `q = 1` it is the bordered inverse `M0 - M0 1 1' M0 / (1' M0 1)`, `M0 = (K + Lambda I)^-1`.
//!
//! **The fit is linear in the targets.** With `a = M T` the outputs at queries X are
//! `k_X' a + b`, and `b = B'(T - K a)/N`. Put together,
//!
//! ```text
//!     f(X) = W' T ,    W = M k~ + B_X/N ,    k~ = P (k_X - K B_X/N)                           (1)
//! ```
//!
//! where `k_X` (`Nq x nq`) is the kernel of the samples with the queries and `B_X` (`Nq x nq`) has a
//! one where row and column are of the same class. On the samples themselves `W = I - Lambda M`.
//!
//! **Without a group G** the fit is the one whose targets of G are moved by `-e_G`, with
//! `e_G = (M_GG)^-1 a_G` (the dual unknowns of G are then zero, so G pulls at nothing, neither at the
//! weights nor at the bias). Hence
//!
//! ```text
//!     t_G - f_{-G}(x_G)      =  e_G                                                           (2)
//!     a - a_{-G}             =  M_{:G} e_G                                                    (3)
//!     f(X) - f_{-G}(X)       =  (W_G)' e_G                                                    (4)
//! ```
//!
//! In the primal (4) is `J(x) H^-1 J_G' (I - h_GG)^-1 (t - f)_G`: `Lambda M = I - h` and
//! `Lambda a = t - f`. (Eqs. 7 and 8 of Achille et al., "LQF: Linear Quadratic Fine-Tuning", CVPR
//! 2021, have the sign and the Woodbury step wrong; `docs/math/influence.md`.)
//!
//! **Variance.** With unit noise, the prior `u ~ N(0, I/Lambda)` and a flat prior on b, the outputs
//! at a query have the posterior covariance
//!
//! ```text
//!     V(x) = J~ (J~'J~ + Lambda I)^-1 J~' + I/N = ( k~~ - k~' M k~ ) / Lambda + I/N           (5)
//! ```
//!
//! with every Jacobian centred by the samples' mean: `k~~` is the query's own kernel, centred. At a
//! sample it is the leverage, the block of `I - Lambda M`.

use convextune_solve::SolveError;
use convextune_solve::quadratic::{Intercept, KernelInverse, KernelRidge};
use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatRef, Side};

use super::queries::Queries;
use crate::error::Error;
use crate::finetune::leave_one_out;

/// The exact dual of one fit: everything that a change of the training set does follows from it.
#[derive(Clone, Debug)]
pub struct Dual {
    /// `P K P`.
    ridge: KernelRidge,
    /// M.
    pub(super) inverse: KernelInverse,
    /// `B'K/N`, `q x Nq`.
    pub(super) row_means: Mat<f64>,
    /// T, `Nq x p`.
    pub(super) target: Mat<f64>,
    /// a, `Nq x p`.
    a: Mat<f64>,
    /// e of every sample alone, `Nq x p`.
    left_out: Mat<f64>,
    /// q.
    pub(super) rows: usize,
    pub(super) lambda: f64,
}

/// What the fit loses with a group of samples.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The group, in the order it was asked for.
    pub group: Vec<usize>,
    /// `e_G` (equation 2), `|G| x C`: residuals at the group of the fit without it.
    pub residuals: Mat<f64>,
    /// `a - a_{-G}` (equation 3), `Nq x p`.
    pub dual: Mat<f64>,
    /// Relative residual of the linear system that (3) solves, computed afterwards.
    pub residual: f64,
}

impl Dual {
    /// The fit of targets `T` (`Nq x p`) with the kernel `K` (`Nq x Nq`), q rows a sample, a free
    /// bias and total weight decay `lambda`.
    ///
    /// # Errors
    /// When shapes disagree, a number is not finite, `lambda` is not positive, there is only one
    /// sample, or `K + Lambda I` is not positive definite.
    pub fn new(
        kernel: Mat<f64>,
        rows: usize,
        target: Mat<f64>,
        lambda: f64,
    ) -> Result<Self, Error> {
        let row_means = class_means(kernel.as_ref(), rows);
        let ridge = KernelRidge::new(kernel, rows, Intercept::Free)?;
        let inverse = ridge.cholesky(lambda)?.inverse();
        let (n, p) = (target.nrows(), target.ncols());
        let flat: Vec<f64> = (0..n * p).map(|k| target[(k / p, k % p)]).collect();
        let e = leave_one_out(&inverse, &flat, p)?;
        let a = inverse.matrix() * &target;
        Ok(Self {
            left_out: Mat::from_fn(n, p, |r, c| e[r * p + c]),
            ridge,
            inverse,
            row_means,
            target,
            a,
            rows,
            lambda,
        })
    }

    /// N.
    pub fn samples(&self) -> usize {
        self.target.nrows() / self.rows
    }

    /// C.
    pub fn classes(&self) -> usize {
        self.rows * self.target.ncols()
    }

    /// q, rows of the kernel a sample: 1 where every class has a copy of the weights, else C.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Lambda.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// The centred kernel `P K P`, `Nq x Nq`.
    pub fn kernel(&self) -> MatRef<'_, f64> {
        self.ridge.kernel()
    }

    /// M, `Nq x Nq`.
    pub fn inverse(&self) -> MatRef<'_, f64> {
        self.inverse.matrix()
    }

    /// a, `Nq x p`; the change of the weights is `u = S^2 J' a`.
    pub fn a(&self) -> MatRef<'_, f64> {
        self.a.as_ref()
    }

    /// T, `Nq x p`.
    pub fn target(&self) -> MatRef<'_, f64> {
        self.target.as_ref()
    }

    /// The targets, `N x C`.
    pub fn targets(&self) -> Mat<f64> {
        self.by_sample(self.target.as_ref())
    }

    /// The residuals `t - f = Lambda a` of the fit, `N x C`.
    pub fn residuals(&self) -> Mat<f64> {
        self.by_sample((&self.a * faer::Scale(self.lambda)).as_ref())
    }

    /// The outputs of the fit on its samples, `N x C`.
    pub fn outputs(&self) -> Mat<f64> {
        self.targets() - self.residuals()
    }

    /// For every sample the residuals `t_i - f_{-i}(x_i)` of the fit without it, `N x C`.
    pub fn leave_one_out_residuals(&self) -> Mat<f64> {
        self.by_sample(self.left_out.as_ref())
    }

    /// For every sample the outputs `f_{-i}(x_i)` of the fit without it, `N x C`.
    pub fn leave_one_out(&self) -> Mat<f64> {
        self.targets() - self.leave_one_out_residuals()
    }

    /// Relative residual of the dual system `(P K P + Lambda I) a = P T`, computed afterwards.
    pub fn residual(&self) -> f64 {
        self.system_residual(&self.a, &self.target)
    }

    /// What the fit loses with the samples `group`.
    ///
    /// # Errors
    /// When an index is out of range or repeated, or nothing is left.
    pub fn removed(&self, group: &[usize]) -> Result<Removal, Error> {
        self.check_group(group)?;
        let rows = self.rows_of(group);
        let m = self.inverse.matrix();
        let (size, p) = (rows.len(), self.target.ncols());
        let block = Mat::from_fn(size, size, |i, j| m[(rows[i], rows[j])]);
        let a = Mat::from_fn(size, p, |i, c| self.a[(rows[i], c)]);
        let factor =
            Llt::new(block.as_ref(), Side::Lower).map_err(|_| SolveError::Factorisation {
                what: "Cholesky of a leave-out block",
                reason: "it is not positive definite to rounding; give a larger weight decay"
                    .into(),
            })?;
        let e = factor.solve(&a);
        let mut shift = Mat::zeros(self.target.nrows(), p);
        let mut dual = Mat::zeros(self.target.nrows(), p);
        for (i, r) in rows.iter().enumerate() {
            for c in 0..p {
                shift[(*r, c)] = e[(i, c)];
                let column = dual.col_as_slice_mut(c).iter_mut();
                column
                    .zip(m.col(*r).iter())
                    .for_each(|(d, m)| *d += m * e[(i, c)]);
            }
        }
        Ok(Removal {
            group: group.to_vec(),
            residuals: self.by_sample(e.as_ref()),
            residual: self.system_residual(&dual, &shift),
            dual,
        })
    }

    /// `f - f_{-G}` at the queries (equation 4), `n x C`: what the group has added to every output.
    pub fn change(&self, queries: &Queries, removal: &Removal) -> Mat<f64> {
        self.effect(queries, &self.rows_of(&removal.group), |i, c| {
            let (sample, class) = self.entry(i, c);
            removal.residuals[(sample, class)]
        })
    }

    /// `f - f_{-i}` at the queries for the sample i alone, `n x C`.
    pub fn change_without(&self, queries: &Queries, i: usize) -> Mat<f64> {
        let rows = self.rows_of(&[i]);
        self.effect(queries, &rows, |r, c| self.left_out[(rows[r], c)])
    }

    /// `f(x) - f_{-i}(x)` at query `x` for every sample i alone, `N x C`.
    pub fn effects(&self, queries: &Queries, x: usize) -> Mat<f64> {
        let (q, p) = (self.rows, self.target.ncols());
        let effect = |i: usize, c: usize| {
            let w = queries.weights.col_as_slice(x * q + c / p);
            let e = self.left_out.col_as_slice(c % p);
            dot(&w[i * q..(i + 1) * q], &e[i * q..(i + 1) * q])
        };
        Mat::from_fn(self.samples(), self.classes(), effect)
    }

    /// Relative residual of the linear system behind the removal of sample i alone, computed
    /// afterwards: of the columns of M that belong to it.
    pub fn residual_without(&self, i: usize) -> f64 {
        let (rows, q, n) = (self.rows_of(&[i]), self.rows, self.target.nrows());
        let m = self.inverse.matrix();
        let one = |r: usize, s: usize| f64::from(u8::from(r == rows[s]));
        self.system_residual(
            &Mat::from_fn(n, q, |r, s| m[(r, rows[s])]),
            &Mat::from_fn(n, q, one),
        )
    }

    /// `(W_G)' e_G` by sample.
    fn effect(
        &self,
        queries: &Queries,
        rows: &[usize],
        e: impl Fn(usize, usize) -> f64,
    ) -> Mat<f64> {
        let (w, p) = (&queries.weights, self.target.ncols());
        let e = Mat::from_fn(rows.len(), p, e);
        let w = Mat::from_fn(w.ncols(), rows.len(), |x, i| w[(rows[i], x)]);
        self.by_sample((w * e).as_ref())
    }

    /// Rows of a group's samples.
    fn rows_of(&self, group: &[usize]) -> Vec<usize> {
        let q = self.rows;
        group.iter().flat_map(|i| i * q..(i + 1) * q).collect()
    }

    /// Sample and class of row `r`, column `c`.
    fn entry(&self, r: usize, c: usize) -> (usize, usize) {
        (r / self.rows, (r % self.rows) * self.target.ncols() + c)
    }

    /// From rows and columns (`nq x p`) to samples and classes (`n x C`).
    pub(super) fn by_sample(&self, m: MatRef<'_, f64>) -> Mat<f64> {
        let (q, p) = (self.rows, self.target.ncols());
        Mat::from_fn(m.nrows() / q, q * p, |i, c| m[(i * q + c / p, c % p)])
    }

    /// `||P t - (P K P + Lambda I) a|| / ||P t||`; a has no class means.
    fn system_residual(&self, a: &Mat<f64>, t: &Mat<f64>) -> f64 {
        let mut t = t.clone();
        let means = class_means(t.as_ref(), self.rows);
        for c in 0..t.ncols() {
            let column = t.col_as_slice_mut(c).iter_mut().enumerate();
            column.for_each(|(r, t)| *t -= means[(r % self.rows, c)]);
        }
        let size = t.norm_l2();
        t -= self.ridge.kernel() * a + a * faer::Scale(self.lambda);
        if size > 0.0 { t.norm_l2() / size } else { 0.0 }
    }

    fn check_group(&self, group: &[usize]) -> Result<(), Error> {
        let n = self.samples();
        let mut seen = vec![false; n];
        for i in group {
            match seen.get_mut(*i) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(Error::Usage(format!("sample {i} is in the group twice"))),
                None => {
                    let text = format!(
                        "there is no sample {i}: they are counted from 0 to {}",
                        n - 1
                    );
                    return Err(Error::Usage(text));
                }
            }
        }
        if group.len() == n {
            return Err(Error::Usage("no sample would be left to fit to".into()));
        }
        Ok(())
    }
}

/// Means over the samples of the rows of each class, `q x columns`.
pub(super) fn class_means(m: MatRef<'_, f64>, q: usize) -> Mat<f64> {
    let n = (m.nrows() / q).max(1) as f64;
    Mat::from_fn(q, m.ncols(), |c, j| {
        m.col(j).iter().skip(c).step_by(q).sum::<f64>() / n
    })
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
