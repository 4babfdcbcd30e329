//! Lambda when nothing is said: by leave-one-out, never by test data.
//!
//! Where the head is honest for a sample (a random head: all samples; a split head: those outside
//! the anchor part), the exact leave-one-out residuals of the kernel, or of its sketch, choose
//! among Lambda / mean diag K in [`GRID`]. With more rows than [`SUBSET`] a seeded subset of
//! samples decides: Lambda is a ratio of variances (noise to prior) and does not grow with N.
//! With a ridge head leave-one-out is not honest (w0 itself has seen every label); then, and
//! where there is no kernel, the ratio Lambda / mean diag that leave-one-out picks for the head
//! alone is used for the whole.

use convextune_solve::faer::Mat;
use convextune_solve::quadratic::{HeadRidge, Intercept, KernelRidge, SketchForm, SketchedKernel};
use serde::{Deserialize, Serialize};

use super::features::{Features, targets};
use super::head::{anchor_part, choose_lambda};
use super::lqf::TrainingSet;
use super::options::{FitOptions, HeadInit};
use super::prepared::{features, select};
use crate::error::Error;
use crate::linearize::{CurvatureOptions, Linearization, SketchedRows};
use crate::progress::Reporter;
use crate::rng::Rng;

/// Ratios Lambda / mean diag K that are tried.
pub const GRID: [f64; 9] = [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Rows of the kernel that the choice looks at, at most.
const SUBSET: usize = 4000;

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
    /// A checkpoint.
    Checkpoint,
}

/// A choice of Lambda.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Lambda.
    pub lambda: f64,
    /// How it was chosen.
    pub source: LambdaSource,
    /// Mean diagonal of the centred kernel.
    pub unit: Option<f64>,
}

/// What there is to look at.
#[derive(Clone, Copy)]
pub enum Evidence<'a> {
    /// The exact kernel.
    Kernel(&'a KernelRidge),
    /// A sketch of J.
    Sketch(&'a SketchedRows),
    /// Nothing yet.
    Nothing,
}

/// Chooses Lambda for targets `t` (length NC).
///
/// # Errors
/// When a sample cannot be read or a kernel has no Cholesky factor.
pub fn choose(
    lin: &Linearization<'_>,
    evidence: Evidence<'_>,
    t: &[f64],
    data: TrainingSet<'_>,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Choice, Error> {
    reporter.stage("weight decay", 0);
    let n = data.samples.len();
    let honest = honest_samples(data, options);
    match evidence {
        Evidence::Kernel(kernel) => {
            let unit = kernel.mean_diagonal();
            if honest.is_empty() {
                let phi = Features::of_head(lin, reporter)?;
                return by_head(&phi, unit, data);
            }
            by_leave_one_out(kernel, t, &honest, data.classes)
        }
        Evidence::Sketch(rows) => {
            let chosen = subset(n, data.classes, options.seed);
            let (sketch, phi) = select(rows, &chosen, n);
            let sketched = SketchedKernel::new(
                sketch,
                Some(phi.phi.as_ref()),
                Intercept::None,
                SketchForm::Gram,
            )?;
            let matrix = sketched.kernel().map_or_else(Mat::new, |k| k.to_owned());
            let kernel = KernelRidge::new(matrix, data.classes, Intercept::Free)?;
            if honest.is_empty() {
                return by_head(&features(rows, n), kernel.mean_diagonal(), data);
            }
            let c = data.classes;
            let t: Vec<f64> = chosen
                .iter()
                .flat_map(|i| t[i * c..(i + 1) * c].iter().copied())
                .collect();
            let honest: Vec<usize> = (0..chosen.len())
                .filter(|i| honest.binary_search(&chosen[*i]).is_ok())
                .collect();
            by_leave_one_out(&kernel, &t, &honest, c)
        }
        Evidence::Nothing => {
            let phi = Features::of_head(lin, reporter)?;
            let unit = lin.mean_diagonal(CurvatureOptions {
                probes: 1,
                seed: options.seed,
                rescale: false,
            })?;
            by_head(&phi, unit, data)
        }
    }
}

/// Samples whose labels the head has not seen, sorted.
fn honest_samples(data: TrainingSet<'_>, options: &FitOptions) -> Vec<usize> {
    let all = 0..data.labels.len();
    match options.head_init {
        HeadInit::Random => all.collect(),
        HeadInit::Ridge => Vec::new(),
        HeadInit::Split => {
            let anchor = anchor_part(data.labels, data.classes, options.seed);
            all.filter(|i| anchor.binary_search(i).is_err()).collect()
        }
    }
}

/// All samples, or a seeded subset of at most [`SUBSET`] rows, sorted.
fn subset(n: usize, classes: usize, seed: u64) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    let wanted = (SUBSET / classes).max(2);
    if n > wanted {
        Rng::new(seed, "weight decay").shuffle(&mut all);
        all.truncate(wanted);
        all.sort_unstable();
    }
    all
}

fn by_leave_one_out(
    kernel: &KernelRidge,
    t: &[f64],
    honest: &[usize],
    classes: usize,
) -> Result<Choice, Error> {
    let unit = kernel.mean_diagonal();
    let mut best = (f64::INFINITY, unit);
    for ratio in GRID {
        let lambda = ratio * unit;
        let residuals = kernel.cholesky(lambda)?.inverse().leave_one_out(t)?;
        let of = |i: &usize| {
            residuals[i * classes..(i + 1) * classes]
                .iter()
                .map(|e| e * e)
                .sum::<f64>()
        };
        let error = honest.iter().map(of).sum::<f64>();
        if error < best.0 {
            best = (error, lambda);
        }
    }
    Ok(Choice {
        lambda: best.1,
        source: LambdaSource::LeaveOneOut,
        unit: Some(unit),
    })
}

fn by_head(phi: &Features, unit: f64, data: TrainingSet<'_>) -> Result<Choice, Error> {
    let ridge = HeadRidge::new(phi.phi.as_ref(), Intercept::Free)?;
    let t = targets(data.labels, data.classes, 1.0);
    let choice = choose_lambda(&ridge, &t)?;
    let ratio = choice.lambda / ridge.mean_diagonal();
    Ok(Choice {
        lambda: ratio * unit,
        source: LambdaSource::HeadLeaveOneOut,
        unit: Some(unit),
    })
}
