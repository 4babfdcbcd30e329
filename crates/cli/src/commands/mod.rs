//! One module a command: run what was resolved, print what came out.

pub mod add;
pub mod backbone;
pub mod compare;
pub mod constrain;
pub mod evaluate;
pub mod explain;
pub mod fit;
pub mod forget;
pub mod info;
pub mod nn;
pub mod predict;
pub mod rank;
pub mod report;
pub mod spectrum;
mod summary;
pub mod tune;
mod update;
mod without;

use std::path::PathBuf;

use anyhow::Result;
use convextune::influence::Trained;
use convextune::job::decode;
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune::samples::Samples;
use convextune_model::images::{ImageSource, Item};

use crate::args::ReadArgs;

/// Images as a model wants them.
struct Opened {
    /// Those that can be read.
    items: Vec<Item>,
    samples: Samples,
    /// Those that were left out, each with the reason.
    skipped: Vec<(PathBuf, String)>,
}

/// Decodes `items` for `model`.
fn open(
    model: &Model,
    items: Vec<Item>,
    read: ReadArgs,
    reporter: &dyn Reporter,
) -> Result<Opened> {
    let transform = model.header.transform.clone();
    reporter.stage("images", items.len() as u64);
    let mut source = ImageSource::new(items, transform, read.cache_memory, read.skip_unreadable);
    decode(&mut source, reporter)?;
    let why = |(path, problem): &(PathBuf, _)| (path.clone(), format!("{problem}"));
    let skipped = source.skipped().iter().map(why).collect();
    let items = source.items().to_vec();
    Ok(Opened {
        items,
        samples: Samples::images(source),
        skipped,
    })
}

/// Says which images were left out.
fn note_skipped(skipped: &[(PathBuf, String)], reporter: &dyn Reporter) {
    for (path, reason) in skipped {
        reporter.note(&format!("{} {reason}; it was left out", path.display()));
    }
}

/// Images by their paths alone.
fn unlabelled(paths: Vec<PathBuf>) -> Vec<Item> {
    let item = |path: PathBuf| {
        let name = path.display().to_string();
        Item {
            path,
            name,
            label: 0,
        }
    };
    paths.into_iter().map(item).collect()
}

/// Says it where the head itself has seen labels.
fn note_seen(trained: &Trained, reporter: &dyn Reporter) {
    let (all, honest) = (trained.items().len(), trained.honest().len());
    if honest < all {
        reporter.note(&format!(
            "the head at which the network is linearised was fitted on {} of the {all} images: for them the figures are \
             those of a fit that keeps this head, which has seen their labels; `--head-init common` or `random` has \
             seen none",
            all - honest
        ));
    }
}
