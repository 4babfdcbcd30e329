//! `convextune explain`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use convextune::influence::{
    Approximation, Effect, Explainer, Explanation, Trained, quadratic_model,
};
use convextune::job::ReadOptions;
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune_model::images::{Item, list_images};
use serde::Serialize;

use super::{note_seen, note_skipped, open, unlabelled, without};
use crate::args::influence::{ExplainArgs, Fast};
use crate::failure::wrong_usage;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::columns;

/// One element of the array that `explain --json` prints.
#[derive(Serialize)]
struct Influence<'a> {
    /// The picture that is explained.
    photo: &'a Path,
    /// The class whose score orders the list: the predicted one, or the one that was asked for.
    logit: &'a str,
    /// The training image.
    sample: &'a str,
    /// Its label.
    class: &'a str,
    /// Score less the score of the model fitted without the image, for every class.
    effect: Vec<f64>,
    exact: bool,
    /// Relative residual of the linear system behind the effect.
    residual: f64,
}

/// Explains predictions by training images.
pub fn run(args: &ExplainArgs) -> Result<()> {
    if let Some(list) = &args.without {
        return without::run(args, list);
    }
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let images = list_images(&args.images)?;
    let read = ReadOptions {
        folder: args.photos.clone(),
        cache_memory: args.read.cache_memory,
    };
    let model = quadratic_model(&args.model)?;
    let asked = args.class.as_deref().map(|name| class(&model, name));
    let asked = asked.transpose()?;
    let explainer = Explainer::of(model, args.fast.map(approximation), &read, &reporter)?;
    let trained = explainer.trained();
    let opened = open(trained.model(), unlabelled(images), args.read, &reporter)?;
    let explained = explainer.explain(&opened.samples, asked, args.top, &reporter)?;
    reporter.finish();
    note_skipped(&opened.skipped, &reporter);
    note_seen(trained, &reporter);
    let lists: Vec<Lists<'_>> = opened
        .items
        .iter()
        .zip(&explained)
        .map(|(item, explanation)| Lists::new(trained, item, explanation))
        .collect();
    note_approximate(&lists, &reporter);
    if args.run.json {
        let lists = lists.into_iter();
        let all: Vec<Influence<'_>> = lists.flat_map(|e| e.up.into_iter().chain(e.down)).collect();
        return print_json(&all);
    }
    let texts: Vec<String> = lists.iter().map(|lists| text(trained, lists)).collect();
    print(&texts.join("\n"))
}

fn approximation(fast: Fast) -> Approximation {
    match fast {
        Fast::Iterations => Approximation::Iterations,
        Fast::Kfac => Approximation::Kfac,
        Fast::Ekfac => Approximation::Ekfac,
    }
}

/// Says it where effects are not exact.
fn note_approximate(lists: &[Lists<'_>], reporter: &dyn Reporter) {
    let all = lists
        .iter()
        .flat_map(|lists| lists.up.iter().chain(&lists.down));
    let inexact = all.filter(|influence| !influence.exact).map(|i| i.residual);
    let worst = inexact.fold(0.0, f64::max);
    if worst > 0.0 {
        reporter.note(&format!(
            "these effects are approximate: the linear systems behind them were solved to a relative residual of \
             {worst:.1e}"
        ));
    }
}

/// Index of a class by name.
fn class(model: &Model, name: &str) -> Result<usize> {
    let classes = &model.header.classes;
    classes.iter().position(|c| c == name).ok_or_else(|| {
        wrong_usage(format!(
            "--class {name}: the model knows {}",
            classes.join(", ")
        ))
    })
}

/// A picture and what made its scores.
struct Lists<'a> {
    photo: &'a Path,
    /// Scores of all classes at the minimum.
    scores: Vec<f64>,
    class: usize,
    /// Those that pushed the score up, the strongest first.
    up: Vec<Influence<'a>>,
    /// Those that pushed it down, the strongest first.
    down: Vec<Influence<'a>>,
}

impl<'a> Lists<'a> {
    fn new(trained: &'a Trained, item: &'a Item, explanation: &Explanation) -> Self {
        let header = &trained.model().header;
        let units = |values: &[f64]| values.iter().map(|f| f / header.options.alpha).collect();
        let influence = |effect: &Effect| Influence {
            photo: &item.path,
            logit: &header.classes[explanation.class],
            sample: &trained.items()[effect.sample].name,
            class: &header.classes[trained.labels()[effect.sample]],
            effect: units(&effect.change),
            exact: effect.exact,
            residual: effect.residual,
        };
        Self {
            photo: &item.path,
            scores: units(&explanation.outputs),
            class: explanation.class,
            up: explanation.up.iter().map(influence).collect(),
            down: explanation.down.iter().map(influence).collect(),
        }
    }
}

fn text(trained: &Trained, e: &Lists<'_>) -> String {
    let classes = &trained.model().header.classes;
    let (name, score) = (&classes[e.class], e.scores[e.class]);
    let mut text = format!("{}: {name} {score:.3}\n", e.photo.display());
    for (direction, list) in [("up", &e.up), ("down", &e.down)] {
        let mut rows = vec![vec![
            format!("  pushed {name} {direction}"),
            "class".to_owned(),
            "effect".to_owned(),
            "without".to_owned(),
        ]];
        rows.extend(list.iter().map(|i| {
            vec![
                format!("  {}", i.sample),
                i.class.to_owned(),
                format!("{:+.4}", i.effect[e.class]),
                format!("{:.4}", score - i.effect[e.class]),
            ]
        }));
        let _ = write!(text, "{}", columns(&rows, &[2, 3]));
    }
    text
}
