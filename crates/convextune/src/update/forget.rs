//! Taking training images out of a model, as if it had never seen them.

use std::sync::Arc;
use std::time::Instant;

use convextune_model::images::Item;

use super::changed::{Changed, Way, closed};
use super::iterated::Iterated;
use super::manifest::hashes;
use super::minimum::DualSolution;
use super::{Removal, SampleList, What};
use crate::error::Error;
use crate::influence::{Linearised, Setting, check_size};
use crate::job::decode;
use crate::job::{Found, ReadOptions, find};
use crate::kept_kernel::KeptKernel;
use crate::model_file::Model;
use crate::progress::Reporter;
use crate::samples::Samples;

/// A model after images were taken out.
#[derive(Clone, Debug)]
pub struct Forgotten {
    /// The model; its last change is this one.
    pub model: Model,
    /// What was taken out, for the manifest.
    pub removal: Removal,
    /// Names of what was taken out, sorted.
    pub names: Vec<String>,
}

/// The minimum over the training images of `model` that `list` does not name, with the model's Lambda
/// and s.
///
/// # Errors
/// When the model's loss is not quadratic; when its training images are not there or not the same; when the
/// list names something else, all of a class, or all.
pub fn forget(
    model: &Model,
    list: &SampleList,
    options: &ReadOptions,
    reporter: &dyn Reporter,
) -> Result<Forgotten, Error> {
    let (begin, header) = (Instant::now(), &model.header);
    let setting = Setting::of(model)?;
    let Found {
        mut train,
        held_out,
    } = find(header, options, reporter)?;
    let group = list.find(train.items(), &held_out)?;
    let labels = train.labels();
    let keep: Vec<bool> = (0..labels.len())
        .map(|i| group.binary_search(&i).is_err())
        .collect();
    check_left(&labels, &keep, &header.classes)?;
    reporter.stage("images", labels.len() as u64);
    decode(&mut train, reporter)?;

    let some = |wanted: bool| -> Vec<Item> {
        let items = train.items().iter().zip(&keep);
        let items = items.filter(|(_, keep)| **keep == wanted);
        items.map(|(item, _)| item.clone()).collect()
    };
    let (removed, items) = (some(false), some(true));
    let sha256 = hashes(&removed, &header.classes)?;
    let samples = Samples::images(train);
    let (mut linearised, way, kernel) = way(model, &setting, samples, &labels, &keep, reporter)?;
    linearised.retain(&keep);
    let changed = Changed {
        setting,
        linearised,
        way,
        kernel,
        classes: header.classes.clone(),
        items,
        held_out,
        what: What::Forgotten,
        count: removed.len(),
        begin,
        cache_memory: options.cache_memory,
    };
    let model = changed.model(header, reporter)?;
    let mut names: Vec<String> = removed.into_iter().map(|item| item.name).collect();
    names.sort_unstable();
    let removal = Removal {
        training_set_before: header.training_set.clone(),
        training_set: model.header.training_set.clone(),
        count: names.len(),
        sha256,
        names: None,
        certified: model.header.changes.last().is_some_and(|c| c.certified),
    };
    Ok(Forgotten {
        model,
        removal,
        names,
    })
}

/// The way to the minimum over the samples for which `keep` is true, and their kernel where it is to be kept.
fn way(
    model: &Model,
    setting: &Setting,
    samples: Samples,
    labels: &[usize],
    keep: &[bool],
    reporter: &dyn Reporter,
) -> Result<(Linearised, Way, Option<Arc<KeptKernel>>), Error> {
    let group: Vec<usize> = (0..keep.len()).filter(|i| !keep[*i]).collect();
    if check_size(setting, labels.len()).is_err() {
        let linearised = Linearised::new(setting, samples, reporter)?;
        let way = Iterated::new(model, setting, group.len(), labels.len());
        return Ok((linearised, Way::Iterated(way), None));
    }
    let wanted = model.header.options.keep_kernel;
    let (linearised, dual, kernel) = closed(setting, samples, labels, wanted, reporter)?;
    let solution = DualSolution::without(&dual, &group)?;
    let kernel = kernel.map(|kernel| Arc::new(kernel.of_samples(keep)));
    Ok((linearised, Way::Closed(solution), kernel))
}

/// That every class keeps an image.
fn check_left(labels: &[usize], keep: &[bool], classes: &[String]) -> Result<(), Error> {
    let mut left = vec![0_usize; classes.len()];
    let kept = labels.iter().zip(keep).filter(|(_, keep)| **keep);
    kept.for_each(|(label, _)| left[*label] += 1);
    if left.iter().all(|n| *n == 0) {
        let text = "the list names all training images; to forget them all, delete the model";
        return Err(Error::Usage(text.into()));
    }
    match left.iter().position(|n| *n == 0) {
        Some(class) => Err(Error::Usage(format!(
            "the list names all training images of class `{0}`, and a class without images cannot be \
             fitted; keep one, or fit again without the folder of `{0}`",
            classes[class]
        ))),
        None => Ok(()),
    }
}
