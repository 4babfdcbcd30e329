//! A data set: classes, training images and held-out images, and how the two were told apart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::ImagesError;
use super::folder::{ImageFolder, Item, images_in, subfolders};

/// The folder of training images, when the data come split.
const TRAIN: &str = "train";
/// Folders of held-out images beside [`TRAIN`], the preferred one first.
const HELD_OUT: [&str; 4] = ["test", "val", "valid", "validation"];
/// The fraction held out when nothing else is said.
const DEFAULT_FRACTION: f64 = 0.2;

/// What to hold out of training for measuring.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Holdout {
    /// The held-out folder where there is one, otherwise a seeded fifth of every class.
    #[default]
    Auto,
    /// A seeded fraction of every class, strictly between 0 and 1. An error where a folder
    /// already says what is held out.
    Fraction(f64),
    /// Nothing: every image of the folder (or of `train/`) is for training.
    Nothing,
}

/// Where the split comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitOrigin {
    /// `train/` and a held-out folder beside it.
    Folders {
        /// The held-out folder's name.
        held_out: String,
        /// Further held-out folders, which are not used.
        unused: Vec<String>,
    },
    /// A stratified draw from the images' names.
    Seeded {
        /// The fraction that was asked for.
        fraction: f64,
        /// The draw's seed.
        seed: u64,
    },
    /// Nothing is held out.
    Nothing,
}

/// The record of which image was used for what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Where the split comes from.
    pub origin: SplitOrigin,
    /// Names of the training images, in the order of [`Dataset::train`].
    pub train: Vec<String>,
    /// Names of the held-out images, in the order of [`Dataset::held_out`].
    pub held_out: Vec<String>,
}

/// A folder of labelled images, ready to train on and to measure on.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Class names, sorted by their bytes; a label is an index into them.
    pub classes: Vec<String>,
    /// Images to train on; every class has one at least.
    pub train: Vec<Item>,
    /// Images to measure on; may be empty, and may lack classes.
    pub held_out: Vec<Item>,
    /// How the two were told apart.
    pub split: Split,
}

impl Dataset {
    /// Opens `dir/<class>/<image>`, or `dir/train/<class>/<image>` with an optional held-out
    /// folder (`test`, else `val`, `valid`, `validation`) of the same form beside it.
    ///
    /// A plain folder is split by `holdout`: every class gives its share (largest remainders, so
    /// that the total is right as well) but keeps one training image. The split depends only on
    /// the images' names below `dir` and on `seed`.
    ///
    /// A class that happens to be called `train` is recognised: the folder counts as split only
    /// if `train/` holds folders or has no neighbours but held-out folders.
    ///
    /// # Errors
    /// Those of [`ImageFolder::open`]; a held-out class that training lacks; a held-out folder
    /// without images; a fraction outside (0, 1) or beside an existing held-out folder.
    pub fn open(dir: &Path, holdout: Holdout, seed: u64) -> Result<Self, ImagesError> {
        if let Holdout::Fraction(fraction) = holdout
            && !(fraction > 0.0 && fraction < 1.0)
        {
            return Err(ImagesError::Fraction(fraction));
        }
        if !comes_split(dir)? {
            return Ok(Self::drawn(ImageFolder::open(dir)?, holdout, seed));
        }
        let train_dir = dir.join(TRAIN);
        let mut train = ImageFolder::open(&train_dir)?;
        for item in &mut train.items {
            item.name = format!("{TRAIN}/{}", item.name);
        }
        let mut beside = HELD_OUT.into_iter().filter(|name| dir.join(name).is_dir());
        match (beside.next(), holdout) {
            (Some(name), Holdout::Fraction(_)) => Err(ImagesError::AlreadySplit(dir.join(name))),
            (Some(name), Holdout::Auto) => {
                let held_out = held_out_folder(&dir.join(name), name, &train_dir, &train.classes)?;
                let unused = beside.map(str::to_owned).collect();
                let origin = SplitOrigin::Folders {
                    held_out: name.to_owned(),
                    unused,
                };
                Ok(Self::new(train.classes, train.items, held_out, origin))
            }
            _ => Ok(Self::drawn(train, holdout, seed)),
        }
    }

    fn new(
        classes: Vec<String>,
        train: Vec<Item>,
        held_out: Vec<Item>,
        origin: SplitOrigin,
    ) -> Self {
        let names = |items: &[Item]| items.iter().map(|item| item.name.clone()).collect();
        let split = Split {
            origin,
            train: names(&train),
            held_out: names(&held_out),
        };
        Self {
            classes,
            train,
            held_out,
            split,
        }
    }

    fn drawn(folder: ImageFolder, holdout: Holdout, seed: u64) -> Self {
        let fraction = match holdout {
            Holdout::Nothing => {
                return Self::new(folder.classes, folder.items, vec![], SplitOrigin::Nothing);
            }
            Holdout::Fraction(fraction) => fraction,
            Holdout::Auto => DEFAULT_FRACTION,
        };
        let held = draw(&folder.items, folder.classes.len(), fraction, seed);
        let (held_out, train): (Vec<_>, Vec<_>) = folder
            .items
            .into_iter()
            .zip(held)
            .partition(|(_, held)| *held);
        let items = |pairs: Vec<(Item, bool)>| pairs.into_iter().map(|(item, _)| item).collect();
        let origin = SplitOrigin::Seeded { fraction, seed };
        Self::new(folder.classes, items(train), items(held_out), origin)
    }
}

/// Whether `dir` is `train/` and neighbours rather than a folder of classes, one of them `train`.
fn comes_split(dir: &Path) -> Result<bool, ImagesError> {
    let folders = subfolders(dir)?;
    if !folders.iter().any(|name| name == TRAIN) {
        return Ok(false);
    }
    let train = dir.join(TRAIN);
    let has_classes = !subfolders(&train)?.is_empty();
    let alone = folders
        .iter()
        .all(|name| name == TRAIN || HELD_OUT.contains(&name.as_str()));
    Ok(has_classes || (alone && !images_in(&train)?.is_empty()) || folders.len() == 1)
}

/// The images below `dir`, labelled by the training classes of the same name.
fn held_out_folder(
    dir: &Path,
    name: &str,
    train_dir: &Path,
    classes: &[String],
) -> Result<Vec<Item>, ImagesError> {
    let folder = ImageFolder::scan(dir, &format!("{name}/"))?;
    let labels: HashMap<_, _> = classes.iter().zip(0..).collect();
    let mut by_own_label = Vec::with_capacity(folder.classes.len());
    for class in &folder.classes {
        by_own_label.push(*labels.get(class).ok_or_else(|| ImagesError::UnknownClass {
            class: class.clone(),
            held_out: dir.to_path_buf(),
            train: train_dir.to_path_buf(),
        })?);
    }
    if folder.items.is_empty() {
        return Err(ImagesError::NoImages(PathBuf::from(dir)));
    }
    let relabel = |item: Item| Item {
        label: by_own_label[item.label],
        ..item
    };
    Ok(folder.items.into_iter().map(relabel).collect())
}

/// Which items are held out. Within a class, the images whose names have the smallest seeded
/// hashes go; adding an image to the folder therefore moves few others.
fn draw(items: &[Item], classes: usize, fraction: f64, seed: u64) -> Vec<bool> {
    let mut members = vec![Vec::new(); classes];
    for (index, item) in items.iter().enumerate() {
        members[item.label].push((seeded_hash(seed, &item.name), index));
    }
    let counts: Vec<_> = members.iter().map(Vec::len).collect();
    let mut held = vec![false; items.len()];
    for (mut class, quota) in members.into_iter().zip(quotas(&counts, fraction, seed)) {
        class.sort_unstable();
        for (_, index) in class.into_iter().take(quota) {
            held[index] = true;
        }
    }
    held
}

/// How many images each class holds out: the floor of its share, then one more for the largest
/// remainders until the rounded total is met; never a whole class. Equal remainders are ranked
/// by a seeded hash.
fn quotas(counts: &[usize], fraction: f64, seed: u64) -> Vec<usize> {
    let shares: Vec<f64> = counts
        .iter()
        .map(|&count| fraction * count as f64)
        .collect();
    let most = |class: usize| counts[class].saturating_sub(1);
    let mut quotas: Vec<_> = (0..counts.len())
        .map(|class| (shares[class] as usize).min(most(class)))
        .collect();
    let target = shares.iter().sum::<f64>().round() as usize;
    let mut ranked: Vec<_> = (0..counts.len())
        .filter(|&class| quotas[class] < most(class))
        .collect();
    ranked.sort_by_cached_key(|&class| {
        let remainder = ((1.0 - shares[class].fract()) * 1e9).round() as u64;
        (remainder, seeded_hash(seed, &class.to_string()))
    });
    let missing = target.saturating_sub(quotas.iter().sum());
    for class in ranked.into_iter().take(missing) {
        quotas[class] += 1;
    }
    quotas
}

fn seeded_hash(seed: u64, text: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(text)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests;
