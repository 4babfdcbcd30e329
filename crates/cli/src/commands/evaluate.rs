//! `convextune evaluate`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use convextune::finetune::predicted;
use convextune::job::labelled;
use convextune::model_file::Model;
use convextune::progress::Reporter;
use serde::Serialize;

use super::{note_skipped, open, summary};
use crate::args::EvaluateArgs;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::{columns, pairs, percent};

/// Confusions that the table shows.
const SHOWN: usize = 10;

/// What `evaluate --json` prints.
#[derive(Serialize)]
struct Evaluation<'a> {
    model: &'a Path,
    folder: &'a Path,
    method: &'static str,
    images: usize,
    right: usize,
    accuracy: f64,
    error: f64,
    per_class: Vec<ClassCount<'a>>,
    /// The most frequent first.
    confusions: Vec<Confusion<'a>>,
    /// Files that could not be read and were left out.
    skipped: Vec<String>,
}

#[derive(Serialize)]
struct ClassCount<'a> {
    class: &'a str,
    images: usize,
    right: usize,
}

#[derive(Serialize)]
struct Confusion<'a> {
    class: &'a str,
    taken_for: &'a str,
    images: usize,
}

/// Measures a model on labelled images.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = Model::load(&args.model)?;
    let items = labelled(&args.folder, &model.header.classes)?;
    let opened = open(&model, items, args.read, &reporter)?;
    reporter.stage("outputs", opened.samples.len() as u64);
    let outputs = model.outputs(&opened.samples, &reporter)?;
    reporter.finish();
    note_skipped(&opened.skipped, &reporter);
    let labels = opened.items.iter().enumerate();
    let pairs: Vec<(usize, usize)> = labels
        .map(|(i, item)| (item.label, predicted(&outputs, i)))
        .collect();
    let mut evaluation = tally(args, &model, &pairs);
    let name = |(path, why): &(std::path::PathBuf, String)| format!("{}: {why}", path.display());
    evaluation.skipped = opened.skipped.iter().map(name).collect();
    if args.run.json {
        print_json(&evaluation)
    } else {
        print(&table(&evaluation))
    }
}

/// Counts pairs of (class, predicted class).
fn tally<'a>(args: &'a EvaluateArgs, model: &'a Model, pairs: &[(usize, usize)]) -> Evaluation<'a> {
    let classes = &model.header.classes;
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for pair in pairs {
        *counts.entry(*pair).or_default() += 1;
    }
    let of = |class: usize| pairs.iter().filter(|(label, _)| *label == class).count();
    let right = |class: usize| counts.get(&(class, class)).copied().unwrap_or(0);
    let per_class: Vec<ClassCount<'a>> = classes
        .iter()
        .enumerate()
        .map(|(c, name)| ClassCount {
            class: name,
            images: of(c),
            right: right(c),
        })
        .collect();
    let mut confusions: Vec<Confusion<'a>> = counts
        .iter()
        .filter(|((label, taken), _)| label != taken)
        .map(|((label, taken), n)| Confusion {
            class: &classes[*label],
            taken_for: &classes[*taken],
            images: *n,
        })
        .collect();
    confusions.sort_by_key(|c| std::cmp::Reverse(c.images));
    let right: usize = per_class.iter().map(|c| c.right).sum();
    let accuracy = right as f64 / pairs.len().max(1) as f64;
    Evaluation {
        model: &args.model,
        folder: &args.folder,
        method: summary::method(model.header.options.method),
        images: pairs.len(),
        right,
        accuracy,
        error: 1.0 - accuracy,
        per_class,
        confusions,
        skipped: Vec::new(),
    }
}

fn table(e: &Evaluation<'_>) -> String {
    let mut text = pairs(&[
        ("images", e.images.to_string()),
        ("accuracy", percent(Some(e.accuracy))),
        ("error", percent(Some(e.error))),
    ]);
    let mut rows = vec![["class", "images", "right", ""].map(str::to_owned).to_vec()];
    rows.extend(e.per_class.iter().map(|c| {
        let share = (c.images > 0).then(|| c.right as f64 / c.images as f64);
        vec![
            c.class.to_owned(),
            c.images.to_string(),
            c.right.to_string(),
            percent(share),
        ]
    }));
    let _ = write!(text, "\n{}", columns(&rows, &[1, 2, 3]));
    if !e.confusions.is_empty() {
        let mut rows = vec![["class", "taken for", "images"].map(str::to_owned).to_vec()];
        rows.extend(e.confusions.iter().take(SHOWN).map(|c| {
            vec![
                c.class.to_owned(),
                c.taken_for.to_owned(),
                c.images.to_string(),
            ]
        }));
        let _ = write!(text, "\n{}", columns(&rows, &[2]));
    }
    text
}
