//! `convextune forget`.

use std::path::Path;

use anyhow::{Result, bail};
use convextune::influence::quadratic_model;
use convextune::job::ReadOptions;
use convextune::progress::Reporter;
use convextune::update::{Manifest, SampleList, forget};
use serde::Serialize;

use super::update::{note_uncertified, report};
use crate::args::update::ForgetArgs;
use crate::output::check_writable;
use crate::progress::Terminal;

/// The keys of `forget --json` beside those of both commands.
#[derive(Serialize)]
struct More<'a> {
    /// The file with the hashes of what was removed.
    manifest: &'a Path,
}

/// Takes training images out of a model.
pub fn run(args: &ForgetArgs) -> Result<()> {
    check_writable(&args.output)?;
    let path = Manifest::path_of(&args.output);
    check_writable(&path)?;
    let mut manifest = Manifest::open(&path)?;
    let list = SampleList::read(&args.samples)?;
    if args.output.exists() && same_file(&args.output, &args.samples) {
        bail!(
            "{}: is the list of images; give another -o",
            args.output.display()
        );
    }
    let model = quadratic_model(&args.model)?;
    let reporter = Terminal::new(args.run.quiet, model.header.options.tolerance);
    let read = ReadOptions {
        folder: Some(args.folder.clone()),
        cache_memory: args.cache_memory,
    };
    let forgotten = forget(&model, &list, &read, &reporter)?;
    reporter.finish();
    let mut removal = forgotten.removal;
    let count = removal.count;
    removal.names = args.names.then_some(forgotten.names);
    if !manifest.record(removal) {
        let shown = path.display();
        reporter.note(&format!(
            "{shown}: has this removal already; it is listed once"
        ));
    }
    // The manifest first: without it nobody could tell what a smaller model has lost.
    manifest.save(&path)?;
    forgotten.model.save(&args.output)?;
    note_uncertified(&forgotten.model.header, &reporter);
    let rows = vec![
        ("forgotten", format!("{count} images")),
        ("manifest", path.display().to_string()),
    ];
    let models = (&model.header, &forgotten.model);
    report(
        models,
        &args.output,
        More { manifest: &path },
        rows,
        args.run.json,
    )
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
