//! Gathers what a page about a model shows, from the model's file and the folder that it was fitted
//! on.
//!
//! The folder is divided as at the fit, and its training set must be the one of the model's
//! fingerprint: otherwise nothing could be said about training images, and the held-out ones might
//! not be.

use std::path::PathBuf;

use convextune_model::images::{ImageSource, ImagesError, Item, Thumbnail};
use convextune_solve::faer::Mat;
use rayon::prelude::*;

use crate::error::Error;
use crate::finetune::{Method, predicted};
use crate::influence::Ranker;
use crate::job::{ReadOptions, decode, find, labelled};
use crate::model_file::Model;
use crate::page::words;
use crate::page::{
    ClassCount, Contents, DataCard, ErrorExplained, Listing, ModelCard, Picture, Tested,
};
use crate::progress::Reporter;
use crate::samples::Samples;

mod influence;

/// Test errors that are shown with their pictures, at most.
const ERRORS: usize = 60;
/// Longer side of a picture on the page, in pixels.
const SIDE: u32 = 96;

/// What to make a page of.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// The folder that the model was fitted on.
    pub folder: PathBuf,
    /// A folder of class folders to test on instead of what the fit held out.
    pub test: Option<PathBuf>,
    /// Bytes of decoded images to keep in memory.
    pub cache_memory: usize,
    /// Leave images out that cannot be decoded, instead of stopping.
    pub skip_unreadable: bool,
}

/// A model, and the images that it was fitted to and is tested on.
struct Gathered<'a> {
    model: &'a Model,
    /// In the order of the fit.
    train: Vec<Item>,
    test: Option<TestSet>,
    skipped: Vec<String>,
    /// What orders the training images, where the training problem is quadratic.
    ranker: Option<Ranker>,
}

/// Images to test on.
struct TestSet {
    /// Where they come from, in words.
    on: String,
    items: Vec<Item>,
    /// The model's outputs for them, `n x C`.
    outputs: Mat<f64>,
}

/// Everything that a page about `model` can show; `name` is what it is called there.
///
/// # Errors
/// When an image cannot be read, or the folder is not the one that the model was fitted on.
pub fn gather(
    name: String,
    model: &Model,
    options: &PageOptions,
    reporter: &dyn Reporter,
) -> Result<Contents, Error> {
    let mut gathered = Gathered::open(model, options, reporter)?;
    gathered.ranker = influence::ranker(&gathered, options, reporter)?;
    let (spectrum, path) = gathered.curvature(options, reporter)?;
    Ok(Contents {
        model: Some(model_card(model)),
        data: Some(gathered.data_card(options)),
        tested: gathered.tested(),
        errors: gathered.errors(reporter)?,
        informative: gathered.informative(reporter)?,
        suspects: gathered.suspects(reporter)?,
        spectrum,
        path,
        ..Contents::new(name, model.header.report.clone())
    })
}

impl<'a> Gathered<'a> {
    fn open(
        model: &'a Model,
        options: &PageOptions,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let header = &model.header;
        let read = ReadOptions {
            folder: Some(options.folder.clone()),
            cache_memory: options.cache_memory,
        };
        let found = find(header, &read, reporter)?;
        let (on, items) = match &options.test {
            Some(folder) => (
                folder.display().to_string(),
                labelled(folder, &header.classes)?,
            ),
            None => (words::held_out(&header.split), found.held_out),
        };
        let train = found.train.items().to_vec();
        let left_out = found.train.skipped().iter();
        let skipped = left_out.map(|(path, why)| format!("{}: {why}", path.display()));
        let skipped = skipped.collect();
        let mut gathered = Self {
            model,
            train,
            test: None,
            skipped,
            ranker: None,
        };
        if !items.is_empty() {
            reporter.stage("test images", items.len() as u64);
            let source = source(items, model, options, reporter, &mut gathered.skipped)?;
            let items = source.items().to_vec();
            reporter.stage("outputs", items.len() as u64);
            let outputs = model.outputs(&Samples::images(source), reporter)?;
            gathered.test = Some(TestSet { on, items, outputs });
        }
        Ok(gathered)
    }

    fn data_card(&self, options: &PageOptions) -> DataCard {
        let header = &self.model.header;
        let of = |items: &[Item], c: usize| items.iter().filter(|i| i.label == c).count();
        let test = self.test.as_ref().map_or(&[][..], |t| &t.items);
        let count = |(c, class): (usize, &String)| ClassCount {
            class: class.clone(),
            train: of(&self.train, c),
            test: of(test, c),
        };
        DataCard {
            folder: options.folder.display().to_string(),
            classes: header.classes.iter().enumerate().map(count).collect(),
            split: words::split(&header.split),
            training_set: header.training_set.clone(),
            skipped: self.skipped.clone(),
        }
    }

    fn tested(&self) -> Option<Tested> {
        let test = self.test.as_ref()?;
        let classes = &self.model.header.classes;
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (i, item) in test.items.iter().enumerate() {
            counts[item.label][predicted(&test.outputs, i)] += 1;
        }
        Some(Tested {
            on: test.on.clone(),
            classes: classes.clone(),
            counts,
        })
    }

    /// Test images that were classified wrongly, by how much; the clearest errors first.
    fn errors(&self, reporter: &dyn Reporter) -> Result<Option<Listing<ErrorExplained>>, Error> {
        let Some(test) = &self.test else {
            return Ok(None);
        };
        let unit = match self.model.header.options.method {
            Method::Fc => 1.0,
            Method::Lqf | Method::LqfFc => self.model.header.options.alpha,
        };
        let mut wrong: Vec<(usize, usize, f64)> = (0..test.items.len())
            .map(|i| {
                let taken = predicted(&test.outputs, i);
                let excess = test.outputs[(i, taken)] - test.outputs[(i, test.items[i].label)];
                (i, taken, excess / unit)
            })
            .filter(|(i, taken, _)| *taken != test.items[*i].label)
            .collect();
        if wrong.is_empty() {
            return Ok(None);
        }
        wrong.sort_by(|a, b| b.2.total_cmp(&a.2));
        let total = wrong.len();
        wrong.truncate(ERRORS);
        let items: Vec<Item> = wrong.iter().map(|(i, ..)| test.items[*i].clone()).collect();
        let responsible = self.responsible(&wrong, reporter)?;
        let pictures = self.pictures(&items, reporter)?;
        let explained = pictures.into_iter().zip(wrong).zip(responsible);
        let items = explained
            .map(
                |((image, (_, taken, margin)), responsible)| ErrorExplained {
                    image,
                    predicted: self.model.header.classes[taken].clone(),
                    margin,
                    responsible,
                },
            )
            .collect();
        let scale = match self.model.header.options.method {
            Method::Fc => "the outputs are logarithms of odds",
            Method::Lqf | Method::LqfFc => "they aim at 1 for the right class and 0 for the others",
        };
        let how = format!(
            "The number is how much larger the predicted class's output is than the right one's; {scale}. \
             The clearest errors come first."
        );
        Ok(Some(Listing { how, total, items }))
    }

    /// Pictures of images, in their order.
    fn pictures(&self, items: &[Item], reporter: &dyn Reporter) -> Result<Vec<Picture>, Error> {
        reporter.stage("pictures", items.len() as u64);
        let picture = |item: &Item| {
            let thumbnail = Some(Thumbnail::of(&item.path, SIDE)?);
            reporter.advance(1);
            Ok(Picture {
                name: item.name.clone(),
                class: self.model.header.classes[item.label].clone(),
                thumbnail,
            })
        };
        let pictures: Result<Vec<Picture>, ImagesError> = items.par_iter().map(picture).collect();
        Ok(pictures?)
    }
}

/// Decodes `items` for `model`; those left out go to `skipped`.
fn source(
    items: Vec<Item>,
    model: &Model,
    options: &PageOptions,
    reporter: &dyn Reporter,
    skipped: &mut Vec<String>,
) -> Result<ImageSource, Error> {
    let transform = model.header.transform.clone();
    let (cache, skip) = (options.cache_memory, options.skip_unreadable);
    let mut source = ImageSource::new(items, transform, cache, skip);
    decode(&mut source, reporter)?;
    let left_out = source.skipped().iter();
    skipped.extend(left_out.map(|(path, why)| format!("{}: {why}", path.display())));
    Ok(source)
}

fn model_card(model: &Model) -> ModelCard {
    let header = &model.header;
    let copies = header.options.copies(header.classes.len());
    let trained_weights = if header.options.method == Method::Lqf {
        model.body.u.len()
    } else {
        let network = &model.body.network;
        network.parameter_range(model.body.first_trainable).len()
    };
    ModelCard {
        first_trainable: header.first_trainable.clone(),
        trained_weights,
        copies,
        options: header.options.clone(),
        changes: header.changes.clone(),
        written_by: format!("convextune {}", env!("CARGO_PKG_VERSION")),
    }
}
