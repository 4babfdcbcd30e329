//! A linear head on fixed features, in closed form: `K = (Phi Phi') (x) I_C`.
//!
//! Targets `T` (`N x C`), weights `W` (`d x C`), bias `b` (`C`):
//!
//! ```text
//!     min over W, b    1/2 || T - Phi W - 1 b' ||_F^2 + (Lambda/2) ||W||_F^2 .
//! ```
//!
//! A free bias is eliminated by centring the columns of `Phi` and `T`. With the thin singular value
//! decomposition `Phi = U S V'` (one for all `Lambda`, whichever of `N`, `d` is larger),
//!
//! ```text
//!     W = V diag( s / (s^2 + Lambda) ) U' T ,
//!     M = (Phi Phi' + Lambda I)^-1 - [free bias] 11'/(N Lambda)
//!       = U diag( 1 / (s^2 + Lambda) ) U' + (I - U U' - [free bias] 11'/N) / Lambda .
//! ```
//!
//! All classes share `M` (`N x N`), so leaving out sample `i` leaves the residual
//! `t_i - f_{-i}(x_i) = (M T)_i / M_ii`, the bias fitted again (see [`super::dual`]).

use faer::{Mat, MatRef};

use super::lambda::{Intercept, LambdaChoice, mean_square};
use crate::certificate::Certificate;
use crate::error::{SolveError, check_len, check_positive};
use crate::factor::{ThinSvd, check_finite};

/// A head's features, decomposed once.
pub struct HeadRidge {
    svd: ThinSvd,
    /// Feature means with a free bias, zeros without.
    means: Vec<f64>,
    bias: Intercept,
    /// Whether `U` (and the constant vector) span all of `R^N`, so that the rest of `M` is zero.
    spans_all: bool,
}

/// A fitted head: `f(x) = W' phi(x) + b`.
#[derive(Clone, Debug)]
pub struct HeadFit {
    /// `W`, `d x C`.
    pub weights: Mat<f64>,
    /// `b`, length `C`; zeros without a free bias.
    pub bias: Vec<f64>,
}

impl HeadFit {
    /// Outputs (`n x C`) for features (`n x d`).
    ///
    /// # Errors
    /// When the features do not have `d` columns.
    pub fn predict(&self, features: MatRef<'_, f64>) -> Result<Mat<f64>, SolveError> {
        check_len(
            "columns of the features",
            self.weights.nrows(),
            features.ncols(),
        )?;
        let mut outputs = features * &self.weights;
        for (c, bias) in self.bias.iter().enumerate() {
            outputs
                .col_as_slice_mut(c)
                .iter_mut()
                .for_each(|f| *f += bias);
        }
        Ok(outputs)
    }
}

impl HeadRidge {
    /// Decomposes the features `Phi` (`N x d`).
    ///
    /// # Errors
    /// When there are no samples, a feature is not finite, or the decomposition fails.
    pub fn new(features: MatRef<'_, f64>, bias: Intercept) -> Result<Self, SolveError> {
        check_positive("number of samples", features.nrows() as f64)?;
        check_finite("features", features)?;
        let mut phi = features.to_owned();
        let means = match bias {
            Intercept::Free => centre_columns(&mut phi),
            Intercept::None => vec![0.0; phi.ncols()],
        };
        let svd = ThinSvd::new("singular values of the features", phi.as_ref())?;
        let constant = usize::from(bias == Intercept::Free);
        let spans_all = svd.s.len() + constant >= phi.nrows();
        Ok(Self {
            svd,
            means,
            bias,
            spans_all,
        })
    }

    /// The mean of the diagonal of the (centred) `Phi Phi'`, the natural unit of `Lambda`.
    pub fn mean_diagonal(&self) -> f64 {
        self.svd.s.iter().map(|s| s * s).sum::<f64>() / self.svd.u.nrows() as f64
    }

    /// The head for targets `T` (`N x C`) and `Lambda`.
    ///
    /// # Errors
    /// When shapes disagree, a target is not finite, or `lambda` is not positive.
    pub fn fit(&self, targets: MatRef<'_, f64>, lambda: f64) -> Result<HeadFit, SolveError> {
        check_positive("Lambda", lambda)?;
        let (centred, target_means) = self.targets(targets)?;
        let mut rotated = self.svd.u.transpose() * &centred;
        scale_rows(
            &mut rotated,
            self.svd.s.iter().map(|s| s / (s * s + lambda)),
        );
        let weights = &self.svd.v * &rotated;
        let offset = |c: usize| -> f64 {
            self.means
                .iter()
                .zip(weights.col_as_slice(c))
                .map(|(m, w)| m * w)
                .sum()
        };
        let bias = target_means
            .iter()
            .enumerate()
            .map(|(c, t)| t - offset(c))
            .collect();
        Ok(HeadFit { weights, bias })
    }

    /// The certificate of `fit`, from the features themselves (not from their decomposition). The
    /// bias is the exact minimiser for its weights, so the reduced problem's gradient is
    /// `Lambda W - Phi' R` with the residual `R = T - Phi W - 1 b'`.
    ///
    /// # Errors
    /// When shapes disagree or `lambda` is not positive.
    pub fn certificate(
        &self,
        features: MatRef<'_, f64>,
        targets: MatRef<'_, f64>,
        fit: &HeadFit,
        lambda: f64,
    ) -> Result<Certificate, SolveError> {
        check_positive("Lambda", lambda)?;
        let (centred, _) = self.targets(targets)?;
        let residual = targets - fit.predict(features)?;
        let gradient = &fit.weights * faer::Scale(lambda) - features.transpose() * &residual;
        let at_zero = (features.transpose() * &centred).norm_l2();
        let penalty = lambda * fit.weights.squared_norm_l2();
        let objective = 0.5 * (residual.squared_norm_l2() + penalty);
        Ok(Certificate::from_gradient(
            objective,
            gradient.norm_l2(),
            at_zero,
            lambda,
        ))
    }

    /// The dual solution `M T`, `N x C`; `W = Phi' M T`.
    ///
    /// # Errors
    /// As for [`HeadRidge::fit`].
    pub fn dual(&self, targets: MatRef<'_, f64>, lambda: f64) -> Result<Mat<f64>, SolveError> {
        check_positive("Lambda", lambda)?;
        let (centred, _) = self.targets(targets)?;
        let mut rotated = self.svd.u.transpose() * &centred;
        let mut dual = Mat::zeros(centred.nrows(), centred.ncols());
        if !self.spans_all {
            dual = (&centred - &self.svd.u * &rotated) * faer::Scale(1.0 / lambda);
        }
        scale_rows(
            &mut rotated,
            self.svd.s.iter().map(|s| 1.0 / (s * s + lambda)),
        );
        dual += &self.svd.u * &rotated;
        Ok(dual)
    }

    /// The leave-one-out residuals `t_i - f_{-i}(x_i)`, `N x C`, at the same total `Lambda`.
    ///
    /// # Errors
    /// As for [`HeadRidge::fit`]; also when leaving a sample out leaves nothing to fit.
    pub fn leave_one_out(
        &self,
        targets: MatRef<'_, f64>,
        lambda: f64,
    ) -> Result<Mat<f64>, SolveError> {
        let mut residuals = self.dual(targets, lambda)?;
        for (i, m) in self.inverse_diagonal(lambda).into_iter().enumerate() {
            if m <= 0.0 {
                let (what, domain) = ("diagonal of M", "positive");
                return Err(SolveError::Parameter {
                    what,
                    domain,
                    got: m,
                });
            }
            for c in 0..residuals.ncols() {
                residuals[(i, c)] /= m;
            }
        }
        Ok(residuals)
    }

    /// The outputs `f_{-i}(x_i)` of the models each fitted without the sample it is asked about.
    ///
    /// # Errors
    /// As for [`HeadRidge::leave_one_out`].
    pub fn leave_one_out_predictions(
        &self,
        targets: MatRef<'_, f64>,
        lambda: f64,
    ) -> Result<Mat<f64>, SolveError> {
        Ok(targets - self.leave_one_out(targets, lambda)?)
    }

    /// The point of `grid` with the least mean squared leave-one-out residual.
    ///
    /// # Errors
    /// As for [`HeadRidge::leave_one_out`], or when the grid is empty.
    pub fn choose_lambda(
        &self,
        targets: MatRef<'_, f64>,
        grid: &[f64],
    ) -> Result<LambdaChoice, SolveError> {
        let error = |lambda: &f64| {
            let residuals = self.leave_one_out(targets, *lambda)?;
            Ok(mean_square(
                residuals.col_iter().flat_map(|c| c.iter().copied()),
            ))
        };
        LambdaChoice::from_errors(
            grid,
            grid.iter().map(error).collect::<Result<_, SolveError>>()?,
        )
    }

    /// `M_GG`: rows and columns `group` of M.
    ///
    /// # Panics
    /// When an index is out of range.
    pub fn inverse_block(&self, group: &[usize], lambda: f64) -> Mat<f64> {
        let (u, s) = (&self.svd.u, &self.svd.s);
        let rows = Mat::from_fn(group.len(), s.len(), |p, k| u[(group[p], k)]);
        let scaled = Mat::from_fn(group.len(), s.len(), |p, k| {
            rows[(p, k)] / (s[k] * s[k] + lambda)
        });
        let mut block = &scaled * rows.transpose();
        if self.spans_all {
            return block;
        }
        let covered = &rows * rows.transpose();
        let constant = self.constant();
        for (p, i) in group.iter().enumerate() {
            for (q, j) in group.iter().enumerate() {
                let identity = f64::from(u8::from(i == j));
                block[(p, q)] += (identity - covered[(p, q)] - constant) / lambda;
            }
        }
        block
    }

    /// What the free bias covers of every entry of `M`: `[free bias] 1/N`.
    fn constant(&self) -> f64 {
        match self.bias {
            Intercept::Free => 1.0 / self.svd.u.nrows() as f64,
            Intercept::None => 0.0,
        }
    }

    /// `M_ii` for every sample.
    fn inverse_diagonal(&self, lambda: f64) -> Vec<f64> {
        let u = &self.svd.u;
        let constant = self.constant();
        let entry = |i: usize| {
            let (mut inside, mut covered) = (0.0, constant);
            for (j, s) in self.svd.s.iter().enumerate() {
                let square = u[(i, j)] * u[(i, j)];
                inside += square / (s * s + lambda);
                covered += square;
            }
            let outside = if self.spans_all {
                0.0
            } else {
                (1.0 - covered).max(0.0)
            };
            inside + outside / lambda
        };
        (0..u.nrows()).map(entry).collect()
    }

    /// The (centred) targets and the means taken away.
    fn targets(&self, targets: MatRef<'_, f64>) -> Result<(Mat<f64>, Vec<f64>), SolveError> {
        check_len("rows of the targets", self.svd.u.nrows(), targets.nrows())?;
        check_finite("targets", targets)?;
        let mut t = targets.to_owned();
        let means = match self.bias {
            Intercept::Free => centre_columns(&mut t),
            Intercept::None => vec![0.0; t.ncols()],
        };
        Ok((t, means))
    }
}

/// Takes away the mean of each column, and returns the means.
pub(crate) fn centre_columns(m: &mut Mat<f64>) -> Vec<f64> {
    let rows = m.nrows().max(1) as f64;
    let mut means = Vec::with_capacity(m.ncols());
    for j in 0..m.ncols() {
        let column = m.col_as_slice_mut(j);
        let mean = column.iter().sum::<f64>() / rows;
        for x in &mut *column {
            *x -= mean;
        }
        means.push(mean);
    }
    means
}

/// Multiplies row `j` by the `j`-th factor.
fn scale_rows(m: &mut Mat<f64>, factors: impl Iterator<Item = f64>) {
    for (j, factor) in factors.enumerate() {
        for c in 0..m.ncols() {
            m[(j, c)] *= factor;
        }
    }
}
