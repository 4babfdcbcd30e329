//! The training images of a model, found again and proved to be the same.

use std::path::{Path, PathBuf};

use convextune_model::images::{Dataset, Holdout, ImageSource, Item, SplitOrigin, fingerprint};

use super::{decode, members};
use crate::error::Error;
use crate::model_file::Header;
use crate::progress::Reporter;

/// Where the images of a model are, and how they are read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The folder that the model was fitted on; `None`: where the model file says.
    pub folder: Option<PathBuf>,
    /// Bytes of decoded images to keep in memory.
    pub cache_memory: usize,
}

/// Training and held-out images, by the rule of the fit.
pub(crate) struct Found {
    pub train: ImageSource,
    pub held_out: Vec<Item>,
}

/// Lists, checks and decodes the images that the model of `header` was fitted on.
///
/// # Errors
/// When the folder is not known, or does not hold exactly the training images of the fit.
pub(crate) fn read(
    header: &Header,
    options: &ReadOptions,
    reporter: &dyn Reporter,
) -> Result<Found, Error> {
    let mut found = find(header, options, reporter)?;
    reporter.stage("images", found.train.len() as u64);
    decode(&mut found.train, reporter)?;
    Ok(found)
}

/// As [`read`], but decodes only where the fit left images out, which it must find again.
///
/// # Errors
/// As [`read`].
pub(crate) fn find(
    header: &Header,
    options: &ReadOptions,
    reporter: &dyn Reporter,
) -> Result<Found, Error> {
    let folder = folder(header, options)?;
    let (holdout, seed) = match &header.split {
        SplitOrigin::Folders { held_out, .. } if folder.join(held_out).is_dir() => {
            (Holdout::Auto, 0)
        }
        SplitOrigin::Folders { .. } | SplitOrigin::Nothing => (Holdout::Nothing, 0),
        SplitOrigin::Seeded { fraction, seed } => (Holdout::Fraction(*fraction), *seed),
    };
    let dataset = Dataset::open(&folder, holdout, seed)?;
    let source =
        |items, skip| ImageSource::new(items, header.transform.clone(), options.cache_memory, skip);
    if let Some(members) = &header.training_images {
        let (train, held_out) = members::find(header, members, &folder, dataset)?;
        let train = source(train, false);
        return Ok(Found { train, held_out });
    }
    let Dataset {
        classes,
        train,
        held_out,
        ..
    } = dataset;
    if classes != header.classes {
        return Err(foreign(&folder, "its classes are others"));
    }
    // Before decoding, so that an altered picture is called that and not undecodable; but what the
    // fit left out is not known yet then.
    let skips = !header.report.skipped.is_empty();
    if !skips {
        same(header, &folder, &train)?;
    }
    let mut train = source(train, skips);
    if skips {
        reporter.stage("images", train.len() as u64);
        decode(&mut train, reporter)?;
        same(header, &folder, train.items())?;
    }
    Ok(Found { train, held_out })
}

fn folder(header: &Header, options: &ReadOptions) -> Result<PathBuf, Error> {
    if let Some(folder) = &options.folder {
        return Ok(folder.clone());
    }
    let recorded = header.folder.as_ref().map(PathBuf::from).ok_or_else(|| {
        Error::Usage(
            "the model file does not say where its training images are; give their folder with \
             --photos FOLDER"
                .into(),
        )
    })?;
    if recorded.is_dir() {
        return Ok(recorded);
    }
    Err(Error::Usage(format!(
        "{}: the training images are no longer there; say where they are with --photos FOLDER",
        recorded.display()
    )))
}

/// That `items` are the training images of the fit, to the byte.
fn same(header: &Header, folder: &Path, items: &[Item]) -> Result<(), Error> {
    if fingerprint(items, &header.classes)?.as_str() == header.training_set {
        return Ok(());
    }
    let (found, wanted) = (items.len(), header.report.train_samples);
    let why = if found == wanted {
        "a picture was altered or renamed".to_owned()
    } else {
        format!("it has {found} of them, and the model was fitted on {wanted}")
    };
    Err(foreign(folder, &why))
}

pub(super) fn foreign(folder: &Path, why: &str) -> Error {
    Error::Usage(format!(
        "{}: these are not the training images of the model ({why}); give the folder as it was at the \
         fit, or fit again",
        folder.display()
    ))
}
