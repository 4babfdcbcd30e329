//! The job that a model came from: its data, found again, and its backbone, from the model file.

use std::path::PathBuf;

use convextune_model::backbones::by_name;
use convextune_model::images::{ImageSource, Item, Split};

use super::{Job, ReadOptions, decode_together, find, labelled, recorded};
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
        let read = ReadOptions {
            folder: Some(options.folder.clone()),
            cache_memory: options.cache_memory,
        };
        let found = find(header, &read, reporter)?;
        let mut train = found.train;
        let held_out = match &options.test {
            Some(folder) => labelled(folder, &header.classes)?,
            None => found.held_out,
        };
        reporter.stage("images", (train.len() + held_out.len()) as u64);
        let skip = options.skip_unreadable || !header.report.skipped.is_empty();
        let transform = header.transform.clone();
        let mut test = ImageSource::new(held_out, transform, options.cache_memory, skip);
        decode_together(&mut train, &mut test, reporter)?;
        let names = |items: &[Item]| items.iter().map(|item| item.name.clone()).collect();
        let split = Split {
            origin: header.split.clone(),
            train: names(train.items()),
            held_out: names(test.items()),
        };
        let train_labels = train.labels();
        let test = (!test.is_empty()).then(|| {
            let labels = test.labels();
            (Samples::images(test), labels)
        });
        Ok(Self {
            backbone: by_name(&header.backbone)?,
            network: network.truncated(network.graph().output() - 1),
            transform: header.transform.clone(),
            classes: header.classes.clone(),
            split,
            train: Samples::images(train),
            train_labels,
            test,
            training_set: header.training_set.clone(),
            skipped: header.report.skipped.clone(),
            folder: recorded(&options.folder),
        })
    }
}
