//! From a folder of photos and a weight file to fitted models: what the command line runs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use convextune_model::backbones::{Backbone, by_name, cache_dir, detect, locate};
use convextune_model::graph::Network;
use convextune_model::images::{
    Dataset, Holdout, ImageFolder, ImageSource, Item, Split, Transform, fingerprint,
};
use convextune_model::tensor::Shape;
use convextune_model::weights::WeightFile;
use convextune_solve::Work;
use convextune_solve::faer::Mat;

use crate::error::Error;
use crate::finetune::features::Features;
use crate::finetune::{
    Checkpoints, FitOptions, HeadOnlyFit, LqfModel, Method, TrainingSet, error_rate, fit_fc,
    fit_lqf, fit_lqf_fc,
};
use crate::model_file::{FORMAT_VERSION, HEAD, Header, Model};
use crate::progress::Reporter;
use crate::report::{FitReport, peak_memory};
use crate::samples::Samples;

/// What to train on, and with which backbone.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// The folder of photos.
    pub folder: PathBuf,
    /// Name of the backbone; may be left out when `weights` says enough.
    pub backbone: Option<String>,
    /// A weight file instead of the cache's.
    pub weights: Option<PathBuf>,
    /// Side of the network's input, in pixels; the backbone's own if left out.
    pub image_size: Option<usize>,
    /// What to hold out of a plain folder.
    pub holdout: Holdout,
    /// A folder of class folders to test on instead.
    pub test: Option<PathBuf>,
    /// Bytes of decoded images to keep in memory.
    pub cache_memory: usize,
    /// Leave images out that cannot be decoded, instead of stopping.
    pub skip_unreadable: bool,
    /// Seed of the split.
    pub seed: u64,
}

/// Opened data and backbone, ready to fit.
pub struct Job {
    backbone: &'static Backbone,
    network: Network<f32>,
    transform: Transform,
    classes: Vec<String>,
    split: Split,
    train: Samples,
    train_labels: Vec<usize>,
    test: Option<(Samples, Vec<usize>)>,
    training_set: String,
    skipped: Vec<String>,
}

/// A backbone and its weight file, from what the user gave.
///
/// # Errors
/// When there is no such backbone or file, or the two do not fit.
pub fn open_backbone(
    name: Option<&str>,
    weights: Option<&Path>,
) -> Result<(&'static Backbone, Network<f32>), Error> {
    let named = name.map(by_name).transpose()?;
    let (backbone, file) = match (named, weights) {
        (Some(backbone), None) => (
            backbone,
            WeightFile::read(&locate(backbone, &cache_dir()?)?)?,
        ),
        (Some(backbone), Some(path)) => (backbone, WeightFile::read(path)?),
        (None, Some(path)) => {
            let file = WeightFile::read(path)?;
            let backbone = detect(&file).ok_or_else(|| {
                let path = path.display();
                Error::Usage(format!(
                    "{path}: its tensors are not those of a known backbone; name one with \
                     --backbone (`convextune backbone list`)"
                ))
            })?;
            (backbone, file)
        }
        (None, None) => {
            let text = "name a backbone with --backbone (`convextune backbone list`), or give its \
                        weights with --weights FILE";
            return Err(Error::Usage(text.into()));
        }
    };
    Ok((backbone, backbone.load(&file)?.network))
}

impl Job {
    /// Reads the weights, lists the folders and decodes every image once.
    ///
    /// # Errors
    /// Everything that is wrong with the weights, the folders or the images.
    pub fn open(options: &JobOptions, reporter: &dyn Reporter) -> Result<Self, Error> {
        let (backbone, network) =
            open_backbone(options.backbone.as_deref(), options.weights.as_deref())?;
        let mut transform = backbone.transform();
        if let Some(size) = options.image_size {
            transform = transform.with_size(size)?;
        }
        network
            .graph()
            .shapes(Shape::new(1, transform.size(), transform.size(), 3))?;
        let holdout = if options.test.is_some() {
            Holdout::Nothing
        } else {
            options.holdout
        };
        let dataset = Dataset::open(&options.folder, holdout, options.seed)?;
        let held_out = match &options.test {
            Some(folder) => labelled(folder, &dataset.classes)?,
            None => dataset.held_out,
        };
        reporter.stage("images", (dataset.train.len() + held_out.len()) as u64);
        let training_set = fingerprint(&dataset.train, &dataset.classes)?.to_string();
        let test_share = held_out.len() as f64 / (dataset.train.len() + held_out.len()) as f64;
        let mut skipped = Vec::new();
        let mut open = |items: Vec<Item>, share: f64| -> Result<ImageSource, Error> {
            let cache = (options.cache_memory as f64 * share) as usize;
            let mut source =
                ImageSource::new(items, transform.clone(), cache, options.skip_unreadable);
            decode(&mut source, reporter)?;
            skipped.extend(
                source
                    .skipped()
                    .iter()
                    .map(|(path, why)| format!("{}: {why}", path.display())),
            );
            Ok(source)
        };
        let train = open(dataset.train, 1.0 - test_share)?;
        let train_labels = train.labels();
        still_complete(&train_labels, &dataset.classes)?;
        let test = if held_out.is_empty() {
            None
        } else {
            Some(open(held_out, test_share)?)
        };
        let test = test.filter(|t| !t.is_empty()).map(|t| {
            let labels = t.labels();
            (Samples::images(t), labels)
        });
        Ok(Self {
            backbone,
            network,
            transform,
            classes: dataset.classes,
            split: dataset.split,
            train: Samples::images(train),
            train_labels,
            test,
            training_set,
            skipped,
        })
    }

    /// Class names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Which image was used for what.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// SHA-256 of the training set.
    pub fn training_set(&self) -> &str {
        &self.training_set
    }

    /// Images to train on.
    pub fn train(&self) -> &Samples {
        &self.train
    }

    /// Their labels.
    pub fn train_labels(&self) -> &[usize] {
        &self.train_labels
    }

    /// Which backbone.
    pub fn backbone(&self) -> &'static Backbone {
        self.backbone
    }

    /// The backbone as its weight file has it.
    pub fn network(&self) -> &Network<f32> {
        &self.network
    }

    /// Preprocessing.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// The backbone with its activations made leaky.
    pub fn leaky_network(&self, options: &FitOptions) -> Network<f32> {
        let mut network = self.network.clone();
        let slope = options.leaky_slope as f32;
        network.swap_activation(|activation| activation.leaky(slope));
        network
    }

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
        let (body, mut report) = match options.method {
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
            report,
        };
        let mut model = Model { header, body };
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
    ) -> Result<(LqfModel, FitReport), Error> {
        let data = TrainingSet {
            samples: &self.train,
            labels: &self.train_labels,
            classes: self.classes.len(),
        };
        let fit = fit_lqf(network, data, options, checkpoints, reporter)?;
        let r = &fit.record;
        let report = FitReport {
            objective: r.certificate.objective,
            relative_gradient_norm: r.certificate.relative_gradient_norm,
            suboptimality_bound_relative: r.certificate.suboptimality_bound_relative,
            status: r.status,
            lambda_total: r.lambda,
            lambda_source: r.lambda_source,
            kernel_mean_diagonal: r.kernel_mean_diagonal,
            plan: Some(r.plan),
            iterations: r.iterations,
            passes: r.work.passes,
            jvps: r.work.jvps,
            vjps: r.work.vjps,
            solver_work: r.solver_work,
            preconditioner_cost: r.preconditioner_cost,
            ..self.report(options.method, r.lambda, &fit.outputs)
        };
        Ok((fit.model, report))
    }

    fn fit_head(
        &self,
        network: &Network<f32>,
        options: &FitOptions,
        reporter: &dyn Reporter,
    ) -> Result<(LqfModel, FitReport), Error> {
        let features = Features::of(network, &self.train, options.batch, reporter)?;
        let data = (self.train_labels.as_slice(), self.classes.len());
        let HeadOnlyFit {
            head,
            record,
            outputs,
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
            ..self.report(options.method, record.lambda, &outputs)
        };
        let first_trainable = network.graph().output();
        let (u, bias, keep_f0) = (Vec::new(), head.bias, true);
        Ok((
            LqfModel {
                network,
                first_trainable,
                u,
                bias,
                keep_f0,
            },
            report,
        ))
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
            objective: 0.0,
            relative_gradient_norm: 0.0,
            suboptimality_bound_relative: 0.0,
            status: convextune_solve::Status::Converged,
            lambda_total: lambda,
            weight_decay: lambda / n.max(1) as f64,
            lambda_source: crate::finetune::LambdaSource::Given,
            kernel_mean_diagonal: None,
            plan: None,
            iterations: 0,
            passes: 1.0,
            jvps: 0,
            vjps: 0,
            solver_work: Work::default(),
            preconditioner_cost: 0.0,
            seconds: 0.0,
            peak_memory_bytes: None,
            skipped: self.skipped.clone(),
        }
    }
}

/// Decodes every image of `source` once, with progress.
///
/// # Errors
/// When an image cannot be decoded.
pub fn decode(source: &mut ImageSource, reporter: &dyn Reporter) -> Result<(), Error> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let total = source.len() as u64;
    let result = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            source.preload(&move |_, _| {
                let _ = sender.send(());
            })
        });
        let mut seen = 0;
        while receiver.recv().is_ok() {
            seen += 1;
            reporter.advance(1);
            if seen == total {
                break;
            }
        }
        worker.join()
    });
    match result {
        Ok(result) => Ok(result?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Images of a folder of class folders whose classes are among `classes`; labels are indices into
/// `classes`.
///
/// # Errors
/// When the folder cannot be listed or has a class that is not among `classes`.
pub fn labelled(folder: &Path, classes: &[String]) -> Result<Vec<Item>, Error> {
    let mut found = ImageFolder::open(folder)?;
    for item in &mut found.items {
        let class = &found.classes[item.label];
        item.label = classes.iter().position(|c| c == class).ok_or_else(|| {
            Error::Usage(format!(
                "{}: class `{class}` is not among the {} classes of the training images",
                folder.display(),
                classes.len()
            ))
        })?;
    }
    Ok(found.items)
}

/// After leaving out unreadable images every class must still have one.
fn still_complete(labels: &[usize], classes: &[String]) -> Result<(), Error> {
    match (0..classes.len()).find(|c| !labels.contains(c)) {
        Some(class) => Err(Error::Usage(format!(
            "no image of class `{}` could be read; mend its images or remove its folder",
            classes[class]
        ))),
        None => Ok(()),
    }
}
