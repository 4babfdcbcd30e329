//! Multinomial logistic regression with an l2 penalty on the weights and a free bias.
//!
//! Features `Phi` (`N x d`), labels `y_i` in `0..C` with one-hot rows `Y` (`N x C`):
//!
//! ```text
//!     min over W, b   L(W, b) = sum_i [ log sum_c exp z_ic - z_{i,y_i} ] + (Lambda/2) ||W||_F^2 ,
//!                     Z = Phi W + 1 b' .
//! ```
//!
//! **Duality gap.** With `lse(z) = max over p in the simplex of <p, z> + H(p)`, `H` the entropy,
//! exchanging min and max gives, for any `P` whose rows are in the simplex and whose column sums are
//! those of `Y` (the condition that a free bias demands),
//!
//! ```text
//!     D(P) = sum_i H(p_i) - ||Phi' (P - Y)||_F^2 / (2 Lambda)  <=  min L .
//! ```
//!
//! The probabilities of a model whose bias is not quite optimal miss the column sums `n` of `Y` by
//! some `delta`. Mixing them with one distribution for all rows mends that,
//!
//! ```text
//!     P~ = (1 - theta) P + 1 (theta n - (1 - theta) delta)' / N ,
//!     theta = max over c of  max(delta_c, 0) / (n_c + max(delta_c, 0)) ,
//! ```
//!
//! with the least `theta` that keeps the mixture in the simplex. So `L(W, b) - D(P~)` bounds the
//! distance to the minimum without any assumption on the bias. (The bound by strong convexity,
//! `||grad_W L||^2 / (2 Lambda)`, holds only if `b` is exactly optimal for `W`.)
//!
//! **Coordinates.** With the thin singular value decomposition `Phi - 1 mu' = U S V'` the problem is
//! solved for `V' W` on the features `U S`, an orthogonal change of variables that leaves the
//! penalty as it is, makes `d > N` as cheap as `d = N`, and the Gram matrix diagonal: its diagonal
//! then preconditions the Newton systems.

mod cross_validation;
mod newton;

use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

pub use cross_validation::CrossValidation;

use self::newton::{Data, Iterate};
use crate::error::{SolveError, check_len, check_positive};
use crate::factor::{ThinSvd, check_finite};
use crate::quadratic::HeadFit;
use crate::quadratic::head::centre_columns;
use crate::status::{Observer, Quiet, Record, Status};

/// Relative gradient norm reached on the path of penalties.
const ROUGH: f64 = 1e-2;
/// Quotient of two penalties of the path.
const FALL: f64 = 10.0;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogisticOptions {
    /// Gradient norm, relative to that at `W = 0, b = 0`, to reach; positive.
    pub tolerance: f64,
    /// Newton iterations allowed.
    pub max_iterations: usize,
    /// Conjugate gradient iterations allowed in each.
    pub max_inner_iterations: usize,
}

impl Default for LogisticOptions {
    fn default() -> Self {
        Self {
            tolerance: 1e-6,
            max_iterations: 100,
            max_inner_iterations: 500,
        }
    }
}

/// What is proved about a fitted model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogisticCertificate {
    /// `L(W, b)`.
    pub objective: f64,
    /// `||grad L||` in weights and bias.
    pub gradient_norm: f64,
    /// The same relative to `W = 0, b = 0`.
    pub relative_gradient_norm: f64,
    /// `L(W, b) - D(P~)`, an upper bound on `L(W, b) - min L`.
    pub duality_gap: f64,
    /// The gap divided by `L(W, b)`.
    pub duality_gap_relative: f64,
}

/// A fitted model.
#[derive(Clone, Debug)]
pub struct LogisticFit {
    /// Weights (`d x C`) and bias (`C`, mean zero: a common shift changes no probability).
    pub head: HeadFit,
    /// The penalty it was fitted with.
    pub lambda: f64,
    /// How the run ended.
    pub status: Status,
    /// Computed at this model.
    pub certificate: LogisticCertificate,
    /// Newton iterations.
    pub iterations: usize,
    /// One record a Newton iteration, the starting point first.
    pub history: Vec<Record>,
    /// Weights and bias in the solver's coordinates, `(r + 1) x C`; a warm start.
    theta: Mat<f64>,
}

/// A training set for logistic regression, decomposed once for all penalties.
pub struct LogisticRegression {
    data: Data,
    /// `V`, `d x r`.
    basis: Mat<f64>,
    /// `mu`, length `d`.
    means: Vec<f64>,
}

impl LogisticRegression {
    /// Features `Phi` (`N x d`) and labels (length `N`, below `classes`).
    ///
    /// # Errors
    /// When shapes disagree, a feature is not finite, a label is out of range, a class has no sample
    /// (its bias would run to minus infinity), or the decomposition fails.
    pub fn new(
        features: MatRef<'_, f64>,
        labels: &[usize],
        classes: usize,
    ) -> Result<Self, SolveError> {
        check_len("labels", features.nrows(), labels.len())?;
        check_finite("features", features)?;
        check_labels(labels, classes)?;
        let mut phi = features.to_owned();
        let means = centre_columns(&mut phi);
        let svd = ThinSvd::new("singular values of the features", phi.as_ref())?;
        let (n, r) = (phi.nrows(), svd.s.len());
        let scores = Mat::from_fn(
            n,
            r + 1,
            |i, j| if j < r { svd.u[(i, j)] * svd.s[j] } else { 1.0 },
        );
        Ok(Self {
            data: Data::new(scores, labels.to_vec(), classes),
            basis: svd.v,
            means,
        })
    }

    /// The mean squared length of the centred features. `N` times it is the trace of their Gram
    /// matrix, a unit for `Lambda` that follows the features' scale and the number of samples.
    pub fn mean_square(&self) -> f64 {
        let (n, r) = (self.data.samples(), self.basis.ncols());
        (0..r).map(|j| self.data.column_square(j)).sum::<f64>() / n as f64
    }

    /// Minimises with `Lambda = lambda`, from `warm` (a fit on the same training set), or along a path
    /// of falling penalties from zero: with little penalty the first steps from zero would go so far
    /// that probabilities are 0 or 1 to rounding, where the Hessian is no guide.
    ///
    /// # Errors
    /// When `lambda` or the tolerance is not positive, or `warm` belongs to another training set.
    pub fn fit(
        &self,
        lambda: f64,
        options: &LogisticOptions,
        warm: Option<&LogisticFit>,
        observer: &mut dyn Observer,
    ) -> Result<LogisticFit, SolveError> {
        check_positive("Lambda", lambda)?;
        check_positive("tolerance", options.tolerance)?;
        let start = match warm {
            Some(fit) => Some(fit.theta.clone()),
            None => self.along_the_path(lambda, options)?,
        };
        let end = newton::minimise(&self.data, lambda, options, start.as_ref(), observer)?;
        let certificate = certificate(&self.data, lambda, &end.iterate);
        Ok(LogisticFit {
            head: self.head(&end.iterate.theta),
            lambda,
            status: end.status,
            certificate,
            iterations: end.history.last().map_or(0, |record| record.iteration),
            history: end.history,
            theta: end.iterate.theta,
        })
    }

    /// Rough minimisers for penalties from [`Self::mean_square`] down to just above `lambda`, each the
    /// start of the next; the last of them, if there is any.
    fn along_the_path(
        &self,
        lambda: f64,
        options: &LogisticOptions,
    ) -> Result<Option<Mat<f64>>, SolveError> {
        let rough = LogisticOptions {
            tolerance: ROUGH.max(options.tolerance),
            ..*options
        };
        let mut theta = None;
        let mut penalty = self.mean_square();
        while penalty > lambda * FALL.sqrt() {
            let end = newton::minimise(&self.data, penalty, &rough, theta.as_ref(), &mut Quiet)?;
            theta = Some(end.iterate.theta);
            penalty /= FALL;
        }
        Ok(theta)
    }

    /// Weights and bias in the features' own coordinates.
    fn head(&self, theta: &Mat<f64>) -> HeadFit {
        let (r, classes) = (self.basis.ncols(), theta.ncols());
        let weights = &self.basis * theta.subrows(0, r);
        let bias = |c: usize| -> f64 {
            let offset = self
                .means
                .iter()
                .zip(weights.col_as_slice(c))
                .map(|(m, w)| m * w);
            theta[(r, c)] - offset.sum::<f64>()
        };
        let mut bias: Vec<f64> = (0..classes).map(bias).collect();
        crate::dense::centre(&mut bias, 1);
        HeadFit { weights, bias }
    }
}

/// The certificate of an iterate.
fn certificate(data: &Data, lambda: f64, iterate: &Iterate) -> LogisticCertificate {
    let gap = newton::duality_gap(data, lambda, iterate);
    LogisticCertificate {
        objective: iterate.objective,
        gradient_norm: iterate.gradient_norm(),
        relative_gradient_norm: crate::dense::ratio(
            iterate.gradient_norm(),
            data.gradient_norm_at_zero(),
        ),
        duality_gap: gap,
        duality_gap_relative: crate::dense::ratio(gap, iterate.objective),
    }
}

fn check_labels(labels: &[usize], classes: usize) -> Result<(), SolveError> {
    let mut counts = vec![0usize; classes];
    for label in labels {
        let Some(count) = counts.get_mut(*label) else {
            let (what, domain) = ("label", "below the number of classes");
            return Err(SolveError::Parameter {
                what,
                domain,
                got: *label as f64,
            });
        };
        *count += 1;
    }
    if let Some(class) = counts.iter().position(|count| *count == 0) {
        let (what, domain) = ("class", "one that has a sample");
        return Err(SolveError::Parameter {
            what,
            domain,
            got: class as f64,
        });
    }
    check_positive("number of classes", classes as f64)
}
