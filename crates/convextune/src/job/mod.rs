//! From a folder of photos and a weight file to fitted models: what the command line runs.

use std::path::{Path, PathBuf};

use convextune_model::backbones::{Backbone, by_name, cache_dir, detect, locate};
use convextune_model::graph::Network;
use convextune_model::images::{
    Dataset, Holdout, ImageFolder, ImageSource, ImagesError, Item, Split, Transform, fingerprint,
};
use convextune_model::tensor::Shape;
use convextune_model::weights::WeightFile;

use crate::error::Error;
use crate::finetune::FitOptions;
use crate::model_file::check_no_model;
use crate::progress::Reporter;
use crate::samples::Samples;

mod fit;
mod found;
mod members;
mod reopen;

pub use found::ReadOptions;
pub(crate) use found::{Found, find, read};
pub(crate) use members::{added_images, name_prefix};
pub use reopen::Reopen;

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
    folder: Option<String>,
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
        (Some(backbone), Some(path)) => (backbone, read_weights(path)?),
        (None, Some(path)) => {
            let file = read_weights(path)?;
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

fn read_weights(path: &Path) -> Result<WeightFile, Error> {
    let file = WeightFile::read(path)?;
    check_no_model(&file)?;
    Ok(file)
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
        let test_share = held_out.len() as f64 / (dataset.train.len() + held_out.len()) as f64;
        let source = |items: Vec<Item>, share: f64| {
            let cache = (options.cache_memory as f64 * share) as usize;
            ImageSource::new(items, transform.clone(), cache, options.skip_unreadable)
        };
        let mut train = source(dataset.train, 1.0 - test_share);
        let mut test = source(held_out, test_share);
        decode_together(&mut train, &mut test, reporter)?;
        let left_out = train.skipped().iter().chain(test.skipped());
        let skipped = left_out.map(|(path, why)| format!("{}: {why}", path.display()));
        let skipped = skipped.collect();
        let training_set = fingerprint(train.items(), &dataset.classes)?.to_string();
        let train_labels = train.labels();
        still_complete(&train_labels, &dataset.classes)?;
        let test = (!test.is_empty()).then(|| {
            let labels = test.labels();
            (Samples::images(test), labels)
        });
        Ok(Self {
            folder: recorded(&options.folder),
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

    /// Images to test on and their labels, where there are any.
    pub fn test(&self) -> Option<(&Samples, &[usize])> {
        let (samples, labels) = self.test.as_ref()?;
        Some((samples, labels))
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
}

/// The absolute path of a folder as a model file records it; none where it is no text.
fn recorded(folder: &Path) -> Option<String> {
    let path = std::path::absolute(folder).ok()?;
    path.to_str().map(str::to_owned)
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

/// As [`decode`] for images to train on and to test on, so that one error names all bad ones.
///
/// # Errors
/// When an image of either cannot be decoded.
pub(crate) fn decode_together(
    train: &mut ImageSource,
    test: &mut ImageSource,
    reporter: &dyn Reporter,
) -> Result<(), Error> {
    let total = train.len() + test.len();
    let mut problems = Vec::new();
    for source in [train, test] {
        match decode(source, reporter) {
            Err(Error::Images(ImagesError::Undecodable {
                problems: found, ..
            })) => problems.extend(found),
            other => other?,
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ImagesError::Undecodable { total, problems }.into())
}

/// Images of a folder of class folders whose classes are among `classes`; labels are indices into
/// `classes`.
///
/// # Errors
/// When the folder cannot be listed or has a class that is not among `classes`.
pub fn labelled(folder: &Path, classes: &[String]) -> Result<Vec<Item>, Error> {
    let mut found = ImageFolder::held_out(folder)?;
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
