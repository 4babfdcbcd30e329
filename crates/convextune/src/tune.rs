//! The weight decay of a fitted model, chosen anew by the gradient of what one wants to be small.
//!
//! A path over Lambda (a fixed grid times the kernel's mean diagonal, the model's own Lambda among its points)
//! shows where the minimum is, and [`minimise`] goes there by the criterion's slope in log Lambda. Two
//! criteria, both mean squared residuals in units of the targets' scale alpha squared:
//!
//! - leave-one-out, exact, over the training images whose labels the head has not seen;
//! - held-out images.
//!
//! Two ways. Where the kernel is formed (up to some ten thousand rows), its eigendecomposition gives value
//! and slope at any Lambda exactly, without a pass over the data
//! ([`convextune_solve::quadratic::tuning`]). Otherwise, for held-out images, conjugate gradients, each
//! Lambda started from the solution at the one before (`iterative`). The prior's scale s is kept.

mod closed;
mod iterative;

use convextune_solve::quadratic::tuning::{CriterionPoint, Minimum, SearchOptions, minimise};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::finetune::{
    BackboneWeight, Checkpoints, FitOptions, GRID, LambdaSource, Method, SolverChoice, WeightDecay,
    formed_kernel, honest_samples, largest_kernel,
};
use crate::job::Job;
use crate::model_file::Model;
use crate::progress::Reporter;
use crate::spectrum::TrainedPart;

/// Points beyond either end of the path, at most, while the criterion falls there.
const BEYOND: usize = 6;
/// Least distance of the path's points from the model's own, in log Lambda.
const APART: f64 = 0.1;
/// Values of Lambda tried after the path, at most.
const TRIALS: usize = 30;
/// Slope to reach, relative to the criterion, in closed form.
const TOLERANCE: f64 = 1e-6;

/// What the weight decay is to make small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// The squared leave-one-out residual of the training images.
    LeaveOneOut,
    /// The squared residual of held-out images.
    Validation,
}

/// How criterion and slope are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TuneMethod {
    /// From the eigendecomposition of the kernel.
    Exact,
    /// By conjugate gradients.
    Pcg,
}

/// The outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tuned {
    /// What was made small.
    pub criterion: Criterion,
    /// How.
    pub method: TuneMethod,
    /// Images that the criterion is a mean over.
    pub images: usize,
    /// The model's own Lambda and the criterion there.
    pub before: CriterionPoint,
    /// The search.
    #[serde(flatten)]
    pub minimum: Minimum,
    /// Passes over the training images.
    pub passes: f64,
}

/// Chooses Lambda for `model`; `job` holds its images.
///
/// # Errors
/// When the model's loss is not quadratic, the criterion has no honest images to look at, the kernel
/// that leave-one-out needs is too large, or an image cannot be read.
pub fn tune_weight_decay(
    model: &Model,
    job: &Job,
    criterion: Criterion,
    reporter: &dyn Reporter,
) -> Result<Tuned, Error> {
    let images = judges(model, job, criterion)?;
    let part = TrainedPart::of(model, job.train(), reporter)?;
    let lin = part.over(part.samples(job.train()), reporter)?;
    let data = Data {
        model,
        job,
        part: &part,
        reporter,
    };
    let rows = job.train().len() * lin.outputs();
    let by_fit = model.header.report.plan;
    let formed = by_fit.is_none_or(|plan| plan.solver == SolverChoice::Dual);
    let largest = largest_kernel(part.copies > 1, formed_kernel(by_fit.as_ref()));
    match criterion {
        Criterion::LeaveOneOut if rows > largest => Err(Error::Usage(format!(
            "the exact leave-one-out error needs a kernel of {rows} rows, and this program forms {largest} \
             at most; use held-out images (`--by validation`)"
        ))),
        Criterion::LeaveOneOut => closed::by_leave_one_out(&data, &lin, &images),
        Criterion::Validation if formed && rows <= largest => closed::by_validation(&data, &lin),
        Criterion::Validation => iterative::by_validation(&data, &lin),
    }
}

/// Fits the model again with the Lambda that was found.
///
/// # Errors
/// As [`Job::fit`].
pub fn refit(
    model: &Model,
    job: &Job,
    tuned: &Tuned,
    checkpoints: &mut dyn Checkpoints,
    reporter: &dyn Reporter,
) -> Result<Model, Error> {
    let header = &model.header;
    let weight = header.report.backbone_scale.map(BackboneWeight::Scale);
    let options = FitOptions {
        weight_decay: WeightDecay::Total(tuned.minimum.best.lambda),
        backbone_weight: weight.unwrap_or(header.options.backbone_weight),
        ..header.options.clone()
    };
    let mut better = job.fit(&options, checkpoints, reporter)?;
    better.header.report.lambda_source = match tuned.criterion {
        Criterion::LeaveOneOut => LambdaSource::LeaveOneOut,
        Criterion::Validation => LambdaSource::Validation,
    };
    Ok(better)
}

/// The images that may judge: training images whose label the head has not seen, or held-out ones.
fn judges(model: &Model, job: &Job, criterion: Criterion) -> Result<Vec<usize>, Error> {
    let options = &model.header.options;
    let images = match (criterion, options.method) {
        (Criterion::Validation, _) => {
            (0..job.test().map_or(0, |(_, labels)| labels.len())).collect()
        }
        (Criterion::LeaveOneOut, Method::Lqf) => {
            honest_samples(job.train_labels(), job.classes().len(), options)
        }
        (Criterion::LeaveOneOut, _) => (0..job.train_labels().len()).collect::<Vec<_>>(),
    };
    if images.is_empty() {
        let text = match criterion {
            Criterion::LeaveOneOut => {
                "the head was fitted to all training images, so that leaving one out is no honest test; \
                 use held-out images (`--by validation`)"
            }
            Criterion::Validation => {
                "the fit held out no images; name a folder of them with `--test FOLDER`, or use \
                 `--by leave-one-out`"
            }
        };
        return Err(Error::Usage(text.into()));
    }
    Ok(images)
}

/// What every way needs.
struct Data<'a> {
    model: &'a Model,
    job: &'a Job,
    part: &'a TrainedPart,
    reporter: &'a dyn Reporter,
}

impl Data<'_> {
    /// Targets of labels: `alpha onehot(y)`, less f0 where the model keeps it. Sample-major.
    fn targets(&self, labels: &[usize], f0: Option<Vec<f64>>) -> Vec<f64> {
        let (alpha, classes) = (self.model.header.options.alpha, self.job.classes().len());
        let one_hot = |l: &usize| {
            let label = *l;
            (0..classes).map(move |c| if c == label { alpha } else { 0.0 })
        };
        let mut t: Vec<f64> = labels.iter().flat_map(one_hot).collect();
        for (t, f) in t.iter_mut().zip(f0.unwrap_or_default()) {
            *t -= f;
        }
        t
    }

    /// Whether f0 stays in the model.
    fn keeps_f0(&self) -> bool {
        let options = &self.model.header.options;
        options.method == Method::Lqf && options.keep_f0
    }

    /// Walks the path, then minimises. `unit` is the kernel's mean diagonal.
    fn search(
        &self,
        unit: f64,
        tolerance: f64,
        mut evaluate: impl FnMut(f64) -> Result<CriterionPoint, Error>,
    ) -> Result<(CriterionPoint, Minimum), Error> {
        let square = self.model.header.options.alpha.powi(2);
        let mut scaled = |lambda: f64| {
            let point = evaluate(lambda)?;
            self.reporter.advance(1);
            Ok::<_, Error>(CriterionPoint {
                lambda,
                value: point.value / square,
                slope: point.slope / square,
            })
        };
        let own = self.part.prior.lambda;
        let mut lambdas: Vec<f64> = GRID.iter().map(|ratio| ratio * unit).collect();
        // The model's own is one of the path where leave-one-out chose it: points apart, not twice.
        lambdas.retain(|lambda| (lambda / own).ln().abs() > APART);
        lambdas.push(own);
        lambdas.sort_by(|a, b| b.total_cmp(a));
        self.reporter
            .stage("path of weight decays", lambdas.len() as u64);
        // From the largest on: the better conditioned first.
        let path = lambdas.into_iter().map(&mut scaled);
        let mut path = path.collect::<Result<Vec<_>, _>>()?;
        let before = path.iter().find(|p| p.lambda.to_bits() == own.to_bits());
        let before = before.copied().ok_or(Error::NothingToTrain)?;
        path.reverse();
        extend(&mut path, &mut scaled)?;
        let options = SearchOptions {
            tolerance,
            evaluations: TRIALS,
        };
        Ok((before, minimise(&path, options, &mut scaled)?))
    }
}

/// Goes on beyond the ends of a path while the criterion falls there.
fn extend(
    path: &mut Vec<CriterionPoint>,
    mut evaluate: impl FnMut(f64) -> Result<CriterionPoint, Error>,
) -> Result<(), Error> {
    let step = 10f64.sqrt();
    for _ in 0..BEYOND {
        let (Some(first), Some(last)) = (path.first().copied(), path.last().copied()) else {
            return Ok(());
        };
        let best = path.iter().fold(f64::INFINITY, |sum, p| sum.min(p.value));
        if last.value <= best && last.slope < 0.0 {
            path.push(evaluate(last.lambda * step)?);
        } else if first.value <= best && first.slope > 0.0 {
            path.insert(0, evaluate(first.lambda / step)?);
        } else {
            return Ok(());
        }
    }
    Ok(())
}
