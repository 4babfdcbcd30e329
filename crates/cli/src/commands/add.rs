//! `convextune add`.

use anyhow::Result;
use convextune::influence::quadratic_model;
use convextune::job::ReadOptions;
use convextune::progress::Reporter;
use convextune::update::{AddOptions, add};
use serde::Serialize;

use super::update::{note_uncertified, report};
use crate::args::update::AddArgs;
use crate::output::check_writable;
use crate::progress::Terminal;

/// The keys of `add --json` beside those of both commands.
#[derive(Serialize)]
struct More<'a> {
    new_classes: &'a [String],
}

/// Adds training images to a model.
pub fn run(args: &AddArgs) -> Result<()> {
    check_writable(&args.change.output)?;
    let model = quadratic_model(&args.model)?;
    let reporter = Terminal::new(args.change.run.quiet, model.header.options.tolerance);
    let options = AddOptions {
        folder: args.folder.clone(),
        read: ReadOptions {
            folder: args.change.photos.clone(),
            cache_memory: args.change.read.cache_memory,
        },
        skip_unreadable: args.change.read.skip_unreadable,
    };
    let added = add(&model, &options, &reporter)?;
    reporter.finish();
    added.model.save(&args.change.output)?;
    let before = model.header.report.skipped.len();
    for skipped in added.model.header.report.skipped.iter().skip(before) {
        reporter.note(&format!("{skipped}; it was left out"));
    }
    note_uncertified(&added.model.header, &reporter);
    let new_classes = if added.new_classes.is_empty() {
        "none".to_owned()
    } else {
        added.new_classes.join(", ")
    };
    let rows = vec![
        ("added", format!("{} images", added.items.len())),
        ("new classes", new_classes),
    ];
    let more = More {
        new_classes: &added.new_classes,
    };
    let models = (&model.header, &added.model);
    report(
        models,
        &args.change.output,
        more,
        rows,
        args.change.run.json,
    )
}
