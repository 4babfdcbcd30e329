//! A model file with the images that it was fitted to, found again and checked to the byte.

use convextune_model::images::{ImageSource, Item};

use super::linearised::head_has_seen_labels;
use crate::error::Error;
use crate::finetune::honest_samples;
use crate::job::{Found, ReadOptions, decode, find, read};
use crate::model_file::Model;
use crate::progress::Reporter;
use crate::samples::Samples;

/// A fitted model and its training images.
pub struct Trained {
    model: Model,
    items: Vec<Item>,
    held_out: Vec<Item>,
    labels: Vec<usize>,
    cache_memory: usize,
}

impl Trained {
    /// Finds the training images of `model` again.
    ///
    /// # Errors
    /// When they are not there or not the same.
    pub fn find(
        model: Model,
        options: &ReadOptions,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let found = find(&model.header, options, reporter)?;
        Ok(Self::of(model, found, options.cache_memory).0)
    }

    /// Finds the training images of `model` again, and decodes them.
    ///
    /// # Errors
    /// When they are not there or not the same.
    pub fn read_all(
        model: Model,
        options: &ReadOptions,
        reporter: &dyn Reporter,
    ) -> Result<(Self, Samples), Error> {
        let found = read(&model.header, options, reporter)?;
        let (trained, source) = Self::of(model, found, options.cache_memory);
        Ok((trained, Samples::images(source)))
    }

    fn of(model: Model, found: Found, cache_memory: usize) -> (Self, ImageSource) {
        let trained = Self {
            model,
            items: found.train.items().to_vec(),
            labels: found.train.labels(),
            held_out: found.held_out,
            cache_memory,
        };
        (trained, found.train)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The training images, in the order of the rows of every matrix of influences.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Their labels: indices into the model's classes.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The images that the fit held out by the folder's rule; may be empty.
    pub fn held_out(&self) -> &[Item] {
        &self.held_out
    }

    /// Training images whose labels w0 has not seen, sorted: for them leaving out is exact for the
    /// whole model, for the others only for the fit that keeps the head.
    /// None where a head that has seen labels was kept while the training images changed: which it
    /// has seen is then not known.
    pub fn honest(&self) -> Vec<usize> {
        let seen = head_has_seen_labels(&self.model.header.options);
        if seen && self.model.header.training_images.is_some() {
            return Vec::new();
        }
        if seen {
            let classes = self.model.header.classes.len();
            honest_samples(&self.labels, classes, &self.model.header.options)
        } else {
            (0..self.labels.len()).collect()
        }
    }

    /// Decodes images as the model wants them.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn read(&self, items: Vec<Item>, reporter: &dyn Reporter) -> Result<Samples, Error> {
        let transform = self.model.header.transform.clone();
        reporter.stage("images", items.len() as u64);
        let mut source = ImageSource::new(items, transform, self.cache_memory, false);
        decode(&mut source, reporter)?;
        Ok(Samples::images(source))
    }
}
