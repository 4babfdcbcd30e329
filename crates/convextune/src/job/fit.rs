//! Fitting one model of a job, testing it, and the figures of both.

use std::sync::Arc;
use std::time::Instant;

use convextune_model::graph::Network;
use convextune_model::tensor::Shape;
use convextune_solve::Work;
use convextune_solve::faer::Mat;

use super::Job;
use crate::error::Error;
use crate::finetune::features::Features;
use crate::finetune::{
    Checkpoints, FitOptions, HeadInit, HeadOnlyFit, LqfModel, Method, TrainingSet, error_rate,
    first_trainable, fit_fc, fit_lqf, fit_lqf_fc,
};
use crate::kept_kernel::KeptKernel;
use crate::linearize::{UNKNOWNS, batch_within};
use crate::model_file::{FORMAT_VERSION, HEAD, Header, Model};
use crate::progress::Reporter;
use crate::report::{FitReport, peak_memory};

/// The options, or with weights shared by the classes where a copy for each would be too much and
/// the stage is not given.
fn within_reach(
    (network, features): (&Network<f32>, usize),
    classes: usize,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<FitOptions, Error> {
    let (copies, mut options) = (options.copies(classes), options.clone());
    if copies == 1 || options.linearize_from.is_some() {
        return Ok(options);
    }
    let first = first_trainable(network, &options)?;
    let weights = network.parameters().len() - network.parameter_range(first).start + features;
    if weights * copies <= UNKNOWNS {
        return Ok(options);
    }
    let stage = &network.graph().nodes()[first].name;
    reporter.note(&format!(
        "{classes} copies of the {weights} weights from {stage} on are too many: the classes share them"
    ));
    options.head_init = HeadInit::Random;
    options.linearize_from = Some(stage.clone());
    Ok(options)
}

/// The options, with as many images in a batch as the memory allows.
fn within_memory(
    network: &Network<f32>,
    shape: Shape,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<FitOptions, Error> {
    let mut options = options.clone();
    if let Some(limit) = options.memory {
        let first = match options.method {
            // The head is not there yet: a stage that is not found is in it.
            Method::Lqf => {
                first_trainable(network, &options).unwrap_or(network.graph().nodes().len())
            }
            Method::LqfFc | Method::Fc => network.graph().nodes().len(),
        };
        options.batch = batch_within(network, first, shape, (limit, options.batch))?;
        reporter.note(&format!("at most {} images in a batch", options.batch));
    }
    Ok(options)
}

/// What a fit leaves.
struct Fitted {
    body: LqfModel,
    report: FitReport,
    kernel: Option<KeptKernel>,
}

/// The kernel for the model file; says so where the user wanted one and there is none.
fn kept(
    kernel: Option<KeptKernel>,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Option<Arc<KeptKernel>> {
    let kernel = kernel.filter(KeptKernel::is_writable);
    if options.keep_kernel == Some(true) && kernel.is_none() {
        let why = match options.method {
            Method::Lqf => "the fit formed none (`--solver dual` does)",
            _ => "there are too many images, or its numbers are too large",
        };
        reporter.note(&format!("the model keeps no kernel: {why}"));
    }
    kernel.map(Arc::new)
}

impl Job {
    /// Fits one model and tests it.
    ///
    /// # Errors
    /// Everything that can go wrong on the way.
    pub fn fit(
        &self,
        options: &FitOptions,
        checkpoints: &mut dyn Checkpoints,
        reporter: &dyn Reporter,
    ) -> Result<Model, Error> {
        let start = Instant::now();
        let network = self.leaky_network(options);
        let options = &within_reach(
            (&network, self.backbone.features()),
            self.classes.len(),
            options,
            reporter,
        )?;
        let options = &within_memory(&network, self.train.shape(), options, reporter)?;
        let Fitted {
            body,
            mut report,
            kernel,
        } = match options.method {
            Method::Lqf => self.fit_linearised(&network, options, checkpoints, reporter)?,
            Method::LqfFc | Method::Fc => self.fit_head(&network, options, reporter)?,
        };
        report.seconds = start.elapsed().as_secs_f64();
        let first = network.graph().nodes();
        let first_trainable = first
            .get(body.first_trainable)
            .map_or(HEAD, |n| &n.name)
            .to_owned();
        let header = Header {
            format_version: FORMAT_VERSION,
            backbone: self.backbone.name().to_owned(),
            classes: self.classes.clone(),
            transform: self.transform.clone(),
            first_trainable,
            options: options.clone(),
            training_set: self.training_set.clone(),
            split: self.split.origin.clone(),
            folder: self.folder.clone(),
            training_images: None,
            added_folders: Vec::new(),
            changes: Vec::new(),
            report,
        };
        let mut model = Model {
            header,
            body,
            kernel: kept(kernel, options, reporter),
        };
        // What the file will hold, so that a model predicts the same before and after.
        model
            .body
            .bias
            .iter_mut()
            .for_each(|b| *b = f64::from(*b as f32));
        self.measure(&mut model, reporter)?;
        Ok(model)
    }

    /// Adds test accuracy and peak memory to the report.
    fn measure(&self, model: &mut Model, reporter: &dyn Reporter) -> Result<(), Error> {
        if let Some((samples, labels)) = &self.test {
            reporter.stage("test", samples.len() as u64);
            let error = error_rate(&model.outputs(samples, reporter)?, labels);
            model.header.report.test_error = Some(error);
            model.header.report.accuracy = Some(1.0 - error);
        }
        model.header.report.peak_memory_bytes = peak_memory();
        Ok(())
    }

    fn fit_linearised(
        &self,
        network: &Network<f32>,
        options: &FitOptions,
        checkpoints: &mut dyn Checkpoints,
        reporter: &dyn Reporter,
    ) -> Result<Fitted, Error> {
        let data = TrainingSet {
            samples: &self.train,
            labels: &self.train_labels,
            classes: self.classes.len(),
        };
        let fit = fit_lqf(network, data, options, checkpoints, reporter)?;
        let r = fit.record;
        let report = FitReport {
            objective: r.certificate.objective,
            relative_gradient_norm: r.certificate.relative_gradient_norm,
            suboptimality_bound_relative: r.certificate.suboptimality_bound_relative,
            status: r.status,
            lambda_total: r.lambda,
            lambda_source: r.lambda_source,
            backbone_scale: Some(r.backbone_scale),
            backbone_share: Some(r.backbone_share),
            prior_cost: r.prior_cost,
            leave_one_out_error: r.leave_one_out_error,
            leave_one_of_each_out_error: r.leave_one_of_each_out_error,
            kernel_mean_diagonal: r.kernel_mean_diagonal,
            plan: Some(r.plan),
            iterations: r.iterations,
            descent: r.descent,
            passes: r.work.passes,
            jvps: r.work.jvps,
            vjps: r.work.vjps,
            solver_work: r.solver_work,
            preconditioner_cost: r.preconditioner_cost,
            ..self.report(options.method, r.lambda, &fit.outputs)
        };
        Ok(Fitted {
            body: fit.model,
            report,
            kernel: fit.kernel,
        })
    }

    fn fit_head(
        &self,
        network: &Network<f32>,
        options: &FitOptions,
        reporter: &dyn Reporter,
    ) -> Result<Fitted, Error> {
        let features = Features::of(network, &self.train, options.batch, reporter)?;
        let data = (self.train_labels.as_slice(), self.classes.len());
        let HeadOnlyFit {
            head,
            record,
            outputs,
            kernel,
        } = match options.method {
            Method::Fc => fit_fc(&features, data, options, reporter)?,
            _ => fit_lqf_fc(&features, data, options)?,
        };
        let (d, classes) = (head.weights.nrows(), data.1);
        let weights: Vec<f32> = (0..d * classes)
            .map(|i| head.weights[(i / classes, i % classes)] as f32)
            .collect();
        let network = network.with_head(HEAD, classes, &weights);
        let report = FitReport {
            objective: record.objective,
            relative_gradient_norm: record.relative_gradient_norm,
            suboptimality_bound_relative: record.suboptimality_bound_relative,
            status: record.status,
            lambda_source: record.lambda_source,
            leave_one_out_error: record.leave_one_out_error,
            leave_one_of_each_out_error: record.leave_one_of_each_out_error,
            descent: record.descent,
            ..self.report(options.method, record.lambda, &outputs)
        };
        let first_trainable = network.graph().output();
        let (u, bias, keep_f0) = (Vec::new(), head.bias, true);
        let body = LqfModel {
            network,
            first_trainable,
            u,
            bias,
            keep_f0,
        };
        Ok(Fitted {
            body,
            report,
            kernel,
        })
    }

    /// The figures that every method has; the others are zero.
    fn report(&self, method: Method, lambda: f64, outputs: &Mat<f64>) -> FitReport {
        let n = self.train_labels.len();
        FitReport {
            method,
            backbone: self.backbone.name().to_owned(),
            image_size: self.transform.size(),
            classes: self.classes.len(),
            train_samples: n,
            test_samples: self.test.as_ref().map_or(0, |(_, labels)| labels.len()),
            accuracy: None,
            test_error: None,
            train_error: error_rate(outputs, &self.train_labels),
            leave_one_out_error: None,
            leave_one_of_each_out_error: None,
            objective: 0.0,
            relative_gradient_norm: 0.0,
            suboptimality_bound_relative: 0.0,
            status: convextune_solve::Status::Converged,
            lambda_total: lambda,
            weight_decay: lambda / n.max(1) as f64,
            lambda_source: crate::finetune::LambdaSource::Given,
            backbone_scale: None,
            backbone_share: None,
            kernel_mean_diagonal: None,
            plan: None,
            iterations: 0,
            descent: Vec::new(),
            passes: 1.0,
            jvps: 0,
            vjps: 0,
            solver_work: Work::default(),
            preconditioner_cost: 0.0,
            prior_cost: 0.0,
            seconds: 0.0,
            peak_memory_bytes: None,
            skipped: self.skipped.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linearize::tests::network;
    use crate::progress::Silent;

    #[test]
    fn classes_share_the_weights_where_copies_would_be_too_many() {
        let whole = network();
        let body = whole.truncated(whole.graph().output() - 1);
        let asked = FitOptions::default();
        let of = |classes| within_reach((&body, 6), classes, &asked, &Silent).unwrap();
        assert_eq!(of(1000), asked);
        let shared = of(UNKNOWNS / 100);
        assert_eq!(shared.head_init, HeadInit::Random);
        assert_eq!(shared.linearize_from.as_deref(), Some("blocks.1.grouped"));
    }
}
