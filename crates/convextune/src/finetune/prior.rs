//! The prior when nothing is said: Lambda, and the weight of the backbone against the head.
//!
//! ```text
//!     (Lambda/2) ( ||u_head||^2 + ||u_back||^2 / s^2 ) ,      K(s) = K_head + s^2 K_back
//! ```
//!
//! Both are chosen by leave-one-out, never by test data: `share = s^2 tr K_back / tr K_head` among
//! [`SHARES`], Lambda / mean diag K among [`GRID`], from the exact residuals of the kernel of
//! [`evidence`](super::evidence), summed over the samples for which the head is honest (a random
//! head: all; a split head: those outside the anchor part). Lambda is a ratio of variances, noise to
//! prior, and does not grow with N, so a part of a large set may decide.
//!
//! With a ridge head leave-one-out is not honest (w0 itself has seen every label): the ratio
//! Lambda / mean diag that leave-one-out picks for the head alone is used, and [`DEFAULT_SHARE`].

use convextune_solve::quadratic::{
    FeaturePreconditioner, HeadRidge, Identity, Intercept, KernelInverse, KernelRidge,
    Preconditioner, dual_iterations,
};
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::features::{Features, targets};
use super::head::{anchor_part, choose_lambda};
use super::lqf::TrainingSet;
use super::options::{BackboneWeight, FitOptions, HeadInit, WeightDecay};
use super::plan::Iterations;
use crate::error::Error;
use crate::linearize::Linearization;
use crate::progress::Reporter;

/// Ratios Lambda / mean diag K that are tried.
pub const GRID: [f64; 11] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Shares of the backbone that are tried.
pub const SHARES: [f64; 6] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// The share where no honest sample can choose it.
pub const DEFAULT_SHARE: f64 = 0.1;
/// Iterations after which a prediction gives up.
const LIMIT: usize = 300;
/// Where in [`GRID`] the search begins.
const BEGIN: usize = 7;

/// Where Lambda comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LambdaSource {
    /// The user gave it.
    Given,
    /// Leave-one-out of the kernel or of its sketch.
    LeaveOneOut,
    /// Leave-one-out of the head alone.
    HeadLeaveOneOut,
    /// Cross validation (`fc`).
    CrossValidation,
    /// The squared error on held-out images ([`crate::tune`]).
    Validation,
    /// A checkpoint.
    Checkpoint,
}

/// A Gaussian prior of the weights.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    /// Lambda.
    pub lambda: f64,
    /// s, standard deviation of the backbone's weights in units of the head's.
    pub scale: f64,
    /// How Lambda was chosen.
    pub source: LambdaSource,
    /// Mean diagonal of the centred kernel: the unit of Lambda.
    pub unit: f64,
    /// The backbone's part of it.
    pub backbone_unit: f64,
}

impl Prior {
    /// Mean diagonal of the backbone's kernel in units of that of the head's.
    pub fn share(&self) -> f64 {
        self.backbone_unit / (self.unit - self.backbone_unit)
    }
}

/// Mean diagonals of the two parts of the kernel.
#[derive(Clone, Copy)]
struct Units {
    head: f64,
    backbone: f64,
}

impl Units {
    fn of(evidence: &[Evidence]) -> Self {
        let mut sum = Self {
            head: 0.0,
            backbone: 0.0,
        };
        for part in evidence {
            let (head, backbone) = part.parts.mean_diagonals();
            sum.head += head / evidence.len() as f64;
            sum.backbone += backbone / evidence.len() as f64;
        }
        sum
    }

    /// s for a share; 1 where the backbone has no gradient.
    fn scale(self, share: f64) -> f64 {
        let square = share * self.head / self.backbone;
        if square.is_normal() {
            square.sqrt()
        } else {
            1.0
        }
    }

    /// The values of s to try.
    fn scales(self, weight: BackboneWeight, shares: &[f64]) -> Vec<f64> {
        match weight {
            BackboneWeight::Auto => shares.iter().map(|share| self.scale(*share)).collect(),
            BackboneWeight::Share(share) => vec![self.scale(share)],
            BackboneWeight::Scale(scale) => vec![scale],
        }
    }

    /// Mean diagonal of `K(s)`.
    fn total(self, scale: f64) -> f64 {
        self.head + scale * scale * self.backbone
    }
}

/// Chooses what the options leave open, for targets `t` (length NC).
///
/// # Errors
/// When a sample cannot be read or a kernel has no Cholesky factor.
pub(super) fn choose(
    lin: &Linearization<'_>,
    evidence: &[Evidence],
    t: &[f64],
    data: TrainingSet<'_>,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Prior, Error> {
    let units = Units::of(evidence);
    let given = match options.weight_decay {
        WeightDecay::Auto => None,
        WeightDecay::PerSample(each) => Some(each * data.samples.len() as f64),
        WeightDecay::Total(total) => Some(total),
    };
    let honest = honest_samples(data.labels, data.classes, options);
    if honest.is_empty() {
        let scale = units.scales(options.backbone_weight, &[DEFAULT_SHARE])[0];
        let unit = units.total(scale);
        let (lambda, source) = match given {
            Some(lambda) => (lambda, LambdaSource::Given),
            None => (
                unit * ratio_of_head(lin, data, options, reporter)?,
                LambdaSource::HeadLeaveOneOut,
            ),
        };
        return Ok(Prior {
            lambda,
            scale,
            source,
            unit,
            backbone_unit: unit - units.head,
        });
    }
    let scales = units.scales(options.backbone_weight, &SHARES);
    reporter.stage("prior", scales.len() as u64);
    let mut best = (f64::INFINITY, 1.0, 1.0);
    let mut begin = BEGIN;
    for scale in scales {
        let unit = units.total(scale);
        let kernels = ridges(evidence, scale)?;
        let error = |lambda: f64| error(evidence, &kernels, &honest, t, data.classes, lambda);
        let (e, lambda) = if let Some(lambda) = given {
            (error(lambda)?, lambda)
        } else {
            let (e, index) = descend(begin, |i| error(GRID[i] * unit))?;
            begin = index;
            (e, GRID[index] * unit)
        };
        if e < best.0 {
            best = (e, lambda, scale);
        }
        reporter.advance(1);
    }
    let (_, lambda, scale) = best;
    Ok(Prior {
        lambda,
        scale,
        source: given.map_or(LambdaSource::LeaveOneOut, |_| LambdaSource::Given),
        unit: units.total(scale),
        backbone_unit: units.total(scale) - units.head,
    })
}

/// Walks along [`GRID`] from `begin` while the error falls; the least error and where it is.
fn descend(
    begin: usize,
    mut error: impl FnMut(usize) -> Result<f64, Error>,
) -> Result<(f64, usize), Error> {
    let mut best = (error(begin)?, begin);
    for up in [false, true] {
        loop {
            let next = if up {
                best.1 + 1
            } else {
                best.1.wrapping_sub(1)
            };
            if next >= GRID.len() {
                break;
            }
            let e = error(next)?;
            if e >= best.0 {
                break;
            }
            best = (e, next);
        }
        if best.1 < begin {
            break;
        }
    }
    Ok(best)
}

fn ridges(evidence: &[Evidence], scale: f64) -> Result<Vec<KernelRidge>, Error> {
    let ridge = |part: &Evidence| {
        let (parts, bias) = (&part.parts, Intercept::Free);
        Ok(KernelRidge::new(
            parts.kernel(scale),
            parts.classes(),
            bias,
        )?)
    };
    evidence.iter().map(ridge).collect()
}

/// What conjugate gradients would need on the largest part of the evidence under `prior`, and what a sketch.
///
/// # Errors
/// When a kernel is not finite.
pub(super) fn iterations(
    evidence: &[Evidence],
    prior: &Prior,
    t: &[f64],
    classes: usize,
    tolerance: f64,
) -> Result<Iterations, Error> {
    let Some(part) = evidence.iter().max_by_key(|part| part.samples.len()) else {
        return Err(Error::NothingToTrain);
    };
    let classes_of_kernel = part.parts.classes();
    let kernel = KernelRidge::new(
        part.parts.kernel(prior.scale),
        classes_of_kernel,
        Intercept::Free,
    )?;
    let mu = prior.lambda + prior.backbone_unit;
    let features = FeaturePreconditioner::from_gram(
        part.parts.gram(),
        classes_of_kernel,
        Intercept::Free,
        mu,
    )?;
    let t = part.target(t, classes);
    let t = hardest(&t, part.classes.len() / classes_of_kernel);
    let plain = Identity(t.len());
    let count =
        |m: &dyn Preconditioner| dual_iterations(&kernel, prior.lambda, m, &t, (tolerance, LIMIT));
    Ok(Iterations {
        rows: t.len(),
        plain: count(&plain)?,
        features: count(&features)?,
        freedom: freedom(part, &kernel, prior)?,
    })
}

/// `tr s^2 K_back M`: [`Iterations::freedom`], as M vanishes on what centring takes away.
fn freedom(part: &Evidence, kernel: &KernelRidge, prior: &Prior) -> Result<f64, Error> {
    let inverse = kernel.cholesky(prior.lambda)?.inverse();
    let (m, gram, c) = (inverse.matrix(), part.parts.gram(), part.parts.classes());
    let whole = part.parts.kernel(prior.scale);
    let column = |j: usize| {
        let rows = (0..m.nrows()).map(|i| {
            let head = if i % c == j % c {
                gram[(i / c, j / c)]
            } else {
                0.0
            };
            (whole[(i, j)] - head) * m[(i, j)]
        });
        rows.sum::<f64>()
    };
    Ok((0..m.ncols()).map(column).sum())
}

/// Sum of the squared leave-one-out residuals of the honest samples.
fn error(
    evidence: &[Evidence],
    kernels: &[KernelRidge],
    honest: &[usize],
    t: &[f64],
    classes: usize,
    lambda: f64,
) -> Result<f64, Error> {
    let mut sum = 0.0;
    for (part, kernel) in evidence.iter().zip(kernels) {
        let q = part.classes.len();
        let t = part.target(t, classes);
        let inverse = kernel.cholesky(lambda)?.inverse();
        let residuals = leave_one_out(&inverse, &t, q / part.parts.classes())?;
        for (i, e) in part.samples.iter().zip(residuals.chunks_exact(q)) {
            if honest.binary_search(i).is_ok() {
                sum += e.iter().map(|e| e * e).sum::<f64>();
            }
        }
    }
    Ok(sum)
}

/// The leave-one-out residuals of `copies` targets (columns of `t`) under one kernel.
///
/// # Errors
/// As those of [`KernelInverse::leave_one_out`].
pub(crate) fn leave_one_out(
    inverse: &KernelInverse,
    t: &[f64],
    copies: usize,
) -> Result<Vec<f64>, Error> {
    if copies == 1 {
        return Ok(inverse.leave_one_out(t)?);
    }
    let mut residuals = vec![0.0; t.len()];
    for copy in 0..copies {
        let residual = inverse.leave_one_out(&column(t, copy, copies))?;
        let out = residuals.iter_mut().skip(copy).step_by(copies);
        out.zip(residual).for_each(|(out, r)| *out = r);
    }
    Ok(residuals)
}

/// Of a row-major matrix of `columns` columns the one that varies most.
fn hardest(t: &[f64], columns: usize) -> Vec<f64> {
    let variance = |c: &Vec<f64>| {
        let mean = c.iter().sum::<f64>() / c.len() as f64;
        c.iter().map(|t| (t - mean).powi(2)).sum::<f64>()
    };
    (0..columns)
        .map(|j| column(t, j, columns))
        .max_by(|a, b| variance(a).total_cmp(&variance(b)))
        .unwrap_or_default()
}

/// Column `j` of a row-major matrix of `columns` columns.
fn column(t: &[f64], j: usize, columns: usize) -> Vec<f64> {
    t.iter().skip(j).step_by(columns).copied().collect()
}

/// Samples whose labels the head has not seen, sorted.
pub(crate) fn honest_samples(labels: &[usize], classes: usize, options: &FitOptions) -> Vec<usize> {
    let all = 0..labels.len();
    match options.head_init {
        HeadInit::Common | HeadInit::Random => all.collect(),
        HeadInit::Ridge => Vec::new(),
        HeadInit::Split => {
            let anchor = anchor_part(labels, classes, options.seed);
            all.filter(|i| anchor.binary_search(i).is_err()).collect()
        }
    }
}

/// Lambda / mean diagonal that leave-one-out picks for the head alone.
fn ratio_of_head(
    lin: &Linearization<'_>,
    data: TrainingSet<'_>,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<f64, Error> {
    let phi = Features::of_head(lin, options.batch, reporter)?;
    let ridge = HeadRidge::new(phi.phi.as_ref(), Intercept::Free)?;
    let t = targets(data.labels, data.classes, 1.0);
    Ok(choose_lambda(&ridge, &t)?.lambda / ridge.mean_diagonal())
}

#[cfg(test)]
mod tests;
