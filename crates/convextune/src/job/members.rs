//! The training images of a model that was changed after its fit: listed one by one, by digest.
//!
//! A fresh fit names its training images by a rule, the folder and the split, and by one fingerprint
//! for all. After [`crate::update`] no rule of a folder gives them: a forgotten image may still lie
//! there, or its deletion moves a seeded split, and added ones lie elsewhere. So the header of such a
//! model lists the digest of every training image (name, class, contents), and whatever lies in its
//! folders is a training image exactly if its digest is in the list.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use convextune_model::images::{Dataset, ImageFolder, Item, digests};

use super::found::foreign;
use crate::error::Error;
use crate::model_file::Header;

/// The training images among those of the folder of the fit and of the added folders, by class and
/// name; and what the folder's rule holds out, less those.
pub(super) fn find(
    header: &Header,
    members: &[String],
    folder: &Path,
    dataset: Dataset,
) -> Result<(Vec<Item>, Vec<Item>), Error> {
    let prefix = name_prefix(&dataset.train);
    let mut candidates = of_model(header, dataset.held_out, &dataset.classes);
    let held_out = candidates.len();
    candidates.extend(of_model(header, dataset.train, &dataset.classes));
    for more in header.added_folders.iter().map(PathBuf::from) {
        if more.is_dir() {
            let added = added_images(&more, prefix)?;
            candidates.extend(of_model(header, added.items, &added.classes));
        }
    }
    let mut wanted: HashSet<&str> = members.iter().map(String::as_str).collect();
    let (mut train, mut rest) = (Vec::with_capacity(members.len()), Vec::new());
    let found = digests(&candidates, &header.classes)?;
    for (i, (item, digest)) in candidates.into_iter().zip(found).enumerate() {
        if wanted.remove(digest.member.as_str()) {
            train.push(item);
        } else if i < held_out {
            rest.push(item);
        }
    }
    if train.len() < members.len() {
        let why = format!(
            "{} of {} are neither there nor where images were added from, or were altered or renamed",
            members.len() - train.len(),
            members.len()
        );
        return Err(foreign(folder, &why));
    }
    train.sort_by(|a, b| (a.label, &a.name).cmp(&(b.label, &b.name)));
    Ok((train, rest))
}

/// The images of a folder of class folders, named as those of the training folder: one class is
/// enough, and a class may be empty.
pub(crate) fn added_images(folder: &Path, prefix: &str) -> Result<ImageFolder, Error> {
    let mut found = ImageFolder::held_out(folder)?;
    for item in &mut found.items {
        item.name = format!("{prefix}{}", item.name);
    }
    Ok(found)
}

/// What stands before `<class>/<file>` in the names of the training images.
pub(crate) fn name_prefix(train: &[Item]) -> &'static str {
    let below = |item: &Item| item.name.matches('/').count();
    if train.iter().any(|item| below(item) > 1) {
        "train/"
    } else {
        ""
    }
}

/// Items of classes that the model has, with its labels.
fn of_model(header: &Header, items: Vec<Item>, classes: &[String]) -> Vec<Item> {
    let label = |class: &String| header.classes.iter().position(|c| c == class);
    let labels: Vec<Option<usize>> = classes.iter().map(label).collect();
    let relabel = |item: Item| {
        let label = labels[item.label]?;
        Some(Item { label, ..item })
    };
    items.into_iter().filter_map(relabel).collect()
}
