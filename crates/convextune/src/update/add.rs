//! Adding training images to a model, as if it had seen them from the beginning.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use convextune_model::images::{ImageSource, Item};

use super::changed::{Changed, Way, closed};
use super::iterated::Iterated;
use super::minimum::DualSolution;
use super::{Added, What, head_is_fitted};
use crate::error::Error;
use crate::finetune::head::random_head;
use crate::finetune::{HeadInit, Method};
use crate::influence::{Linearised, Setting, check_size};
use crate::job::decode;
use crate::job::{Found, ReadOptions, added_images, find, name_prefix};
use crate::model_file::{HEAD, Header, Model};
use crate::progress::Reporter;
use crate::samples::Samples;

/// What to add, and where the old training images are.
#[derive(Clone, Debug)]
pub struct AddOptions {
    /// A folder with one folder of images per class; classes may be new.
    pub folder: PathBuf,
    /// The old training images.
    pub read: ReadOptions,
    /// Leave new images out that cannot be decoded, instead of stopping.
    pub skip_unreadable: bool,
}

/// The minimum over the training images of `model` and those of a folder, with the model's Lambda and
/// s. Classes are sorted by name, as a fit to all of them sorts them.
///
/// # Errors
/// When the model's loss is not quadratic or its head was fitted; when its training images are not
/// there or not the same; when new images cannot be used or have the names of old ones.
pub fn add(model: &Model, options: &AddOptions, reporter: &dyn Reporter) -> Result<Added, Error> {
    let (begin, old) = (Instant::now(), &model.header);
    check_head(old)?;
    let setting = Setting::of(model)?;
    let Found { train, held_out } = find(old, &options.read, reporter)?;
    let union = Union::of(old, train.items(), &options.folder)?;
    let setting = with_classes(setting, model, &union.classes)?;
    let (transform, cache) = (old.transform.clone(), options.read.cache_memory);
    let skip = options.skip_unreadable;
    let mut source = ImageSource::new(union.items, transform, cache, skip);
    reporter.stage("images", source.len() as u64);
    decode(&mut source, reporter)?;

    let (items, labels) = (source.items().to_vec(), source.labels());
    let is_new = |item: &&Item| union.new_names.contains(&item.name);
    let new: Vec<Item> = items.iter().filter(is_new).cloned().collect();
    check_new(&options.folder, &new, &union.new_classes, &union.classes)?;
    let reason = |(path, why): &(PathBuf, _)| format!("{}: {why}", path.display());
    let skipped: Vec<String> = source.skipped().iter().map(reason).collect();
    let samples = Samples::images(source);
    let (linearised, way, kernel) = if check_size(&setting, labels.len()).is_ok() {
        let wanted = old.options.keep_kernel;
        let (linearised, dual, kernel) = closed(&setting, samples, &labels, wanted, reporter)?;
        (linearised, Way::Closed(DualSolution::of(&dual)), kernel)
    } else {
        let linearised = Linearised::new(&setting, samples, reporter)?;
        let way = Iterated::new(model, &setting, new.len(), labels.len());
        (linearised, Way::Iterated(way), None)
    };
    let held_out = held_out.into_iter().map(|item| Item {
        label: union.relabelled[item.label],
        ..item
    });
    let changed = Changed {
        setting,
        linearised,
        way,
        kernel,
        classes: union.classes,
        items,
        held_out: held_out.collect(),
        what: What::Added,
        count: new.len(),
        begin,
        cache_memory: cache,
    };
    let mut header = old.clone();
    header.report.skipped.extend(skipped);
    let folder = std::path::absolute(&options.folder).ok();
    let folder = folder.and_then(|f| f.to_str().map(str::to_owned));
    let known = |folder: &String| !header.added_folders.contains(folder);
    let folder = folder.filter(known);
    header.added_folders.extend(folder);
    Ok(Added {
        model: changed.model(&header, reporter)?,
        items: new,
        new_classes: union.new_classes,
    })
}

/// Old and new images together.
struct Union {
    /// Sorted.
    classes: Vec<String>,
    new_classes: Vec<String>,
    /// By class, then by name, as a folder of all of them is listed.
    items: Vec<Item>,
    /// Of the new ones among them.
    new_names: HashSet<String>,
    /// The new label of each old one.
    relabelled: Vec<usize>,
}

impl Union {
    fn of(old: &Header, train: &[Item], folder: &Path) -> Result<Self, Error> {
        let more = added_images(folder, name_prefix(train))?;
        let new = more.classes.iter().filter(|c| !old.classes.contains(c));
        let new_classes: Vec<String> = new.cloned().collect();
        let mut classes = [old.classes.as_slice(), &new_classes].concat();
        classes.sort_unstable();
        check_case(folder, &old.classes, &new_classes)?;
        let labels: HashMap<&str, usize> = classes.iter().map(String::as_str).zip(0..).collect();
        let relabel = |item: &Item, names: &[String]| Item {
            label: labels[names[item.label].as_str()],
            ..item.clone()
        };
        let known: HashMap<&str, &Path> = train
            .iter()
            .map(|i| (i.name.as_str(), i.path.as_path()))
            .collect();
        if let Some(item) = more
            .items
            .iter()
            .find(|i| known.contains_key(i.name.as_str()))
        {
            return Err(Error::Usage(format!(
                "{}: the model has a training image of the name {} already ({}), and names tell \
                 images apart; rename the new one, or leave it out if it is the same",
                item.path.display(),
                item.name,
                known[item.name.as_str()].display()
            )));
        }
        let old_items = train.iter().map(|item| relabel(item, &old.classes));
        let new_items = more.items.iter().map(|item| relabel(item, &more.classes));
        let mut items: Vec<Item> = old_items.chain(new_items).collect();
        items.sort_by(|a, b| (a.label, &a.name).cmp(&(b.label, &b.name)));
        let relabelled = old.classes.iter().map(|c| labels[c.as_str()]).collect();
        Ok(Self {
            new_names: more.items.iter().map(|item| item.name.clone()).collect(),
            relabelled,
            items,
            new_classes,
            classes,
        })
    }
}

/// That the head is drawn from the seed, so that it is the one that a fit to all images would have.
fn check_head(header: &Header) -> Result<(), Error> {
    if !head_is_fitted(header) {
        return Ok(());
    }
    Err(Error::Usage(
        "the head at which the network is linearised was fitted on the old training images \
         (`--head-init ridge` or `split`), so that adding cannot equal a fit from the beginning; fit \
         to all images, or fit once with `--head-init common` or `random` and add to that model"
            .into(),
    ))
}

/// The setting for other classes: their number, and a random head drawn for them.
fn with_classes(setting: Setting, model: &Model, classes: &[String]) -> Result<Setting, Error> {
    let (options, old) = (&model.header.options, &model.header.classes);
    let count = classes.len();
    let copies = match options.method {
        Method::Lqf => options.copies(count),
        Method::LqfFc | Method::Fc => count,
    };
    let mut network = setting.network;
    if options.method == Method::Lqf && options.head_init == HeadInit::Random && classes != old {
        let output = network.graph().output();
        let head = network.node_weights(output).parameters;
        let width = head.len() / old.len();
        if head != random_head(width, old.len(), options.seed) {
            return Err(Error::Usage(
                "the model's random head is not the one that this program draws from its seed, so \
                 that a head for more classes cannot be drawn by the same rule; fit to all images"
                    .into(),
            ));
        }
        let head = random_head(width, count, options.seed);
        network = network.truncated(output - 1).with_head(HEAD, count, &head);
    }
    Ok(Setting {
        network,
        copies,
        classes: count,
        kept: None,
        ..setting
    })
}

/// That there is something new, and something of every new class.
fn check_new(
    folder: &Path,
    new: &[Item],
    new_classes: &[String],
    classes: &[String],
) -> Result<(), Error> {
    let empty = |class: &&String| !new.iter().any(|item| classes[item.label] == **class);
    match new_classes.iter().find(empty) {
        Some(class) => Err(Error::Usage(format!(
            "{}: no image of the new class `{class}` can be read; put images into its folder or \
             remove it",
            folder.display()
        ))),
        None if new.is_empty() => Err(Error::Usage(format!(
            "{}: none of its images can be read",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// That no new class has the name of an old one in other letters.
fn check_case(folder: &Path, old: &[String], new: &[String]) -> Result<(), Error> {
    let pairs = new.iter().flat_map(|n| old.iter().map(move |o| (n, o)));
    let same = |(n, o): &(&String, &String)| n.to_lowercase() == o.to_lowercase();
    match pairs.into_iter().find(same) {
        Some((n, o)) => Err(Error::Usage(format!(
            "{}: class `{n}` differs only in case from the model's class `{o}`; rename the folder if \
             they are the same",
            folder.display()
        ))),
        None => Ok(()),
    }
}
