//! The job that a model came from: its data, found again, and its backbone, from the model file.

use std::path::{Path, PathBuf};

use convextune_model::backbones::by_name;
use convextune_model::images::{Dataset, Holdout, ImageSource, Item, SplitOrigin, fingerprint};

use super::{Job, decode, labelled, recorded};
use crate::error::Error;
use crate::model_file::Model;
use crate::progress::Reporter;
use crate::samples::Samples;

/// Where the images of a model are, and how they are read.
#[derive(Clone, Debug)]
pub struct Reopen {
    /// The folder that the model was fitted on.
    pub folder: PathBuf,
    /// A folder of class folders to test on instead of what the fit held out.
    pub test: Option<PathBuf>,
    /// Bytes of decoded images to keep in memory.
    pub cache_memory: usize,
    /// Leave images out that cannot be decoded, as the fit did if it left any out.
    pub skip_unreadable: bool,
}

impl Job {
    /// The job of a fitted model, so that a fit with the model's options gives that model. Images that
    /// the fit left out are left out again.
    ///
    /// # Errors
    /// When the folder does not hold exactly the training images of the fit, or an image cannot be
    /// read.
    pub fn of_model(
        model: &Model,
        options: &Reopen,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let (header, network) = (&model.header, &model.body.network);
        let dataset = Dataset::open(
            &options.folder,
            holdout(&header.split, options),
            seed(&header.split),
        )?;
        if dataset.classes != header.classes {
            return Err(foreign(&options.folder, "its classes are others"));
        }
        let skip = options.skip_unreadable || !header.report.skipped.is_empty();
        let held_out = match &options.test {
            Some(folder) => labelled(folder, &dataset.classes)?,
            None => dataset.held_out,
        };
        reporter.stage("images", (dataset.train.len() + held_out.len()) as u64);
        let share = held_out.len() as f64 / (dataset.train.len() + held_out.len()).max(1) as f64;
        let open = |items: Vec<Item>, share: f64| -> Result<ImageSource, Error> {
            let cache = (options.cache_memory as f64 * share) as usize;
            let mut source = ImageSource::new(items, header.transform.clone(), cache, skip);
            decode(&mut source, reporter)?;
            Ok(source)
        };
        let train = open(dataset.train, 1.0 - share)?;
        let training_set = fingerprint(train.items(), &header.classes)?.to_string();
        if training_set != header.training_set {
            let (found, wanted) = (train.len(), header.report.train_samples);
            let why = if found == wanted {
                "a picture was altered or renamed".to_owned()
            } else {
                format!("it has {found} of them, and the model was fitted on {wanted}")
            };
            return Err(foreign(&options.folder, &why));
        }
        let test = open(held_out, share)?;
        let train_labels = train.labels();
        let test = (!test.is_empty()).then(|| {
            let labels = test.labels();
            (Samples::images(test), labels)
        });
        Ok(Self {
            backbone: by_name(&header.backbone)?,
            network: network.truncated(network.graph().output() - 1),
            transform: header.transform.clone(),
            classes: dataset.classes,
            split: dataset.split,
            train: Samples::images(train),
            train_labels,
            test,
            training_set,
            skipped: header.report.skipped.clone(),
            folder: recorded(&options.folder),
        })
    }
}

/// What the fit held out.
fn holdout(split: &SplitOrigin, options: &Reopen) -> Holdout {
    match split {
        SplitOrigin::Folders { held_out, .. } if options.folder.join(held_out).is_dir() => {
            Holdout::Auto
        }
        SplitOrigin::Folders { .. } | SplitOrigin::Nothing => Holdout::Nothing,
        SplitOrigin::Seeded { fraction, .. } => Holdout::Fraction(*fraction),
    }
}

fn seed(split: &SplitOrigin) -> u64 {
    match split {
        SplitOrigin::Seeded { seed, .. } => *seed,
        SplitOrigin::Folders { .. } | SplitOrigin::Nothing => 0,
    }
}

fn foreign(folder: &Path, why: &str) -> Error {
    Error::Usage(format!(
        "{}: these are not the training images of the model ({why}); give the folder as it was at the \
         fit, or fit again",
        folder.display()
    ))
}
