//! The model over a changed training set, its header and its figures.

use std::sync::Arc;
use std::time::Instant;

use convextune_model::images::{ImageSource, Item, digests, fingerprint};

use super::iterated::Iterated;
use super::minimum::{DualSolution, Minimum, minimum};
use super::{Change, What, head_is_fitted};
use crate::error::Error;
use crate::finetune::features::targets;
use crate::finetune::{
    FitOptions, LqfModel, Method, Plan, PreconditionerChoice, SolverChoice, cost, error_rate,
};
use crate::influence::{Dual, Linearised, Setting, dual_of, fit_targets};
use crate::job::decode;
use crate::kept_kernel::{KeptKernel, is_kept};
use crate::model_file::{HEAD, Header, Model};
use crate::progress::Reporter;
use crate::report::{FitReport, peak_memory};
use crate::samples::Samples;

/// How the minimum over a changed training set is found.
pub(super) enum Way {
    /// From the exact solution of the dual.
    Closed(DualSolution),
    /// By conjugate gradients.
    Iterated(Iterated),
}

/// What the closed form needs: the linearised network over `samples`, the dual of their fit, and their kernel where it
/// is to be kept (`wanted`: whether that was asked for).
pub(super) fn closed(
    setting: &Setting,
    samples: Samples,
    labels: &[usize],
    wanted: Option<bool>,
    reporter: &dyn Reporter,
) -> Result<(Linearised, Dual, Option<Arc<KeptKernel>>), Error> {
    let linearised = Linearised::new(setting, samples, reporter)?;
    let t = fit_targets(setting, labels, &linearised, reporter)?;
    let kernel = linearised.kernel(reporter)?;
    let kept = is_kept(kernel.nrows(), wanted).then(|| linearised.keep(&kernel));
    let dual = dual_of(setting, &t, kernel)?;
    Ok((linearised, dual, kept))
}

/// A changed training set, and the way to the minimum over it.
pub(super) struct Changed {
    pub setting: Setting,
    pub linearised: Linearised,
    pub way: Way,
    /// Of the training images, where it is to be kept.
    pub kernel: Option<Arc<KeptKernel>>,
    /// Class names.
    pub classes: Vec<String>,
    /// The training images, in the order of `linearised`.
    pub items: Vec<Item>,
    /// Images to test on; may be empty.
    pub held_out: Vec<Item>,
    pub what: What,
    /// How many images were put in or taken out.
    pub count: usize,
    pub begin: Instant,
    /// Bytes of decoded images to keep in memory.
    pub cache_memory: usize,
}

impl Changed {
    /// Solves, and writes the new header from the old one.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn model(self, old: &Header, reporter: &dyn Reporter) -> Result<Model, Error> {
        let kernel_cost = cost(self.linearised.work());
        let solved = self.minimum(old, reporter)?;
        let tolerance = match &self.way {
            Way::Closed(_) => old.options.tolerance,
            Way::Iterated(iterated) => iterated.tolerance,
        };
        let mut training_images: Vec<String> = digests(&self.items, &self.classes)?
            .into_iter()
            .map(|digest| digest.member)
            .collect();
        training_images.sort_unstable();
        let mut changes = old.changes.clone();
        changes.push(Change {
            what: self.what,
            samples: self.count,
            certified: !head_is_fitted(old)
                && solved.certificate.relative_gradient_norm <= tolerance,
        });
        let header = Header {
            training_set: fingerprint(&self.items, &self.classes)?.to_string(),
            training_images: Some(training_images),
            changes,
            report: self.report((&old.options, &old.report), &solved, kernel_cost),
            classes: self.classes,
            ..old.clone()
        };
        let body = body(&self.setting, old.options.method, &solved);
        let kernel = self.kernel.filter(|kernel| kernel.is_writable());
        let mut model = Model {
            header,
            body,
            kernel,
        };
        let report = &mut model.header.report;
        report.seconds = self.begin.elapsed().as_secs_f64();
        test(&mut model, self.held_out, self.cache_memory, reporter)?;
        model.header.report.peak_memory_bytes = peak_memory();
        Ok(model)
    }

    fn minimum(&self, old: &Header, reporter: &dyn Reporter) -> Result<Minimum, Error> {
        let (linearised, setting, options) = (&self.linearised, &self.setting, &old.options);
        match &self.way {
            Way::Closed(solution) => minimum(linearised, setting, solution, options, reporter),
            Way::Iterated(way) => {
                way.minimum(linearised, setting, &self.labels(), options, reporter)
            }
        }
    }

    fn labels(&self) -> Vec<usize> {
        self.items.iter().map(|item| item.label).collect()
    }

    fn report(
        &self,
        (options, old): (&FitOptions, &FitReport),
        solved: &Minimum,
        kernel_cost: f64,
    ) -> FitReport {
        let labels = self.labels();
        let work = self.linearised.work();
        let y = targets(&labels, self.classes.len(), options.alpha);
        let (honest, unit, share, solver, precondition) = match &self.way {
            Way::Closed(solution) => (
                solution.left_out(&y, &labels, options.seed),
                Some(solution.mean_diagonal),
                None,
                SolverChoice::Dual,
                PreconditionerChoice::None,
            ),
            Way::Iterated(way) => (
                None,
                old.kernel_mean_diagonal,
                old.backbone_share,
                SolverChoice::Pcg,
                way.plan.precondition,
            ),
        };
        FitReport {
            classes: self.classes.len(),
            train_samples: labels.len(),
            train_error: error_rate(&solved.outputs, &labels),
            leave_one_out_error: honest.map(|errors| errors.leave_one_out),
            leave_one_of_each_out_error: honest.and_then(|errors| errors.one_of_each),
            objective: solved.certificate.objective,
            relative_gradient_norm: solved.certificate.relative_gradient_norm,
            suboptimality_bound_relative: solved.certificate.suboptimality_bound_relative,
            status: solved.status,
            weight_decay: self.setting.lambda / labels.len() as f64,
            backbone_share: share,
            kernel_mean_diagonal: old.plan.and(unit),
            plan: old.plan.map(|plan| Plan {
                solver,
                precondition,
                expected_cost: 0.0,
                ..plan
            }),
            iterations: solved.iterations,
            passes: work.passes,
            jvps: work.jvps,
            vjps: work.vjps,
            solver_work: solved.solver_work,
            preconditioner_cost: kernel_cost,
            prior_cost: 0.0,
            ..old.clone()
        }
    }
}

/// The model's numbers, rounded as its file will hold them.
pub(crate) fn body(setting: &Setting, method: Method, solved: &Minimum) -> LqfModel {
    let u: Vec<f32> = solved.u.iter().map(|u| *u as f32).collect();
    let bias = solved.bias.iter().map(|b| f64::from(*b as f32)).collect();
    if method == Method::Lqf {
        return LqfModel {
            network: setting.network.clone(),
            first_trainable: setting.first_trainable,
            u,
            bias,
            keep_f0: setting.keep_f0,
        };
    }
    let network = &setting.network;
    let features = network.truncated(network.graph().output() - 1);
    let network = features.with_head(HEAD, setting.classes, &u);
    LqfModel {
        first_trainable: network.graph().output(),
        network,
        u: Vec::new(),
        bias,
        keep_f0: true,
    }
}

/// Adds the test accuracy to the report.
pub(crate) fn test(
    model: &mut Model,
    items: Vec<Item>,
    cache_memory: usize,
    reporter: &dyn Reporter,
) -> Result<(), Error> {
    let report = &mut model.header.report;
    (report.test_samples, report.test_error, report.accuracy) = (items.len(), None, None);
    if items.is_empty() {
        return Ok(());
    }
    reporter.stage("test", 2 * items.len() as u64);
    let skip = !report.skipped.is_empty();
    let transform = model.header.transform.clone();
    let mut source = ImageSource::new(items, transform, cache_memory, skip);
    decode(&mut source, reporter)?;
    let labels = source.labels();
    let error = error_rate(&model.outputs(&Samples::images(source), reporter)?, &labels);
    let report = &mut model.header.report;
    report.test_samples = labels.len();
    (report.test_error, report.accuracy) = (Some(error), Some(1.0 - error));
    Ok(())
}
