//! `convextune explain`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use convextune::finetune::predicted;
use convextune::influence::{Posterior, Queries, quadratic_model};
use convextune::job::ReadOptions;
use convextune::model_file::Model;
use convextune_model::images::{Item, list_images};
use convextune_solve::faer::Mat;
use serde::Serialize;

use super::{note_seen, note_skipped, open, unlabelled};
use crate::args::influence::ExplainArgs;
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

/// A picture and what made its scores.
struct Explained<'a> {
    photo: &'a Path,
    /// Scores of all classes at the minimum.
    scores: Vec<f64>,
    logit: usize,
    /// Those that pushed the score up, the strongest first.
    up: Vec<Influence<'a>>,
    /// Those that pushed it down, the strongest first.
    down: Vec<Influence<'a>>,
}

/// Explains predictions by training images.
pub fn run(args: &ExplainArgs) -> Result<()> {
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let images = list_images(&args.images)?;
    let read = ReadOptions {
        folder: args.photos.clone(),
        cache_memory: args.read.cache_memory,
    };
    let model = quadratic_model(&args.model)?;
    let logit = args.class.as_deref().map(|name| class(&model, name));
    let logit = logit.transpose()?;
    let posterior = Posterior::of(model, &read, &reporter)?;
    let opened = open(posterior.model(), unlabelled(images), args.read, &reporter)?;
    let queries = posterior.queries(&opened.samples, &reporter)?;
    reporter.finish();
    note_skipped(&opened.skipped, &reporter);
    note_seen(&posterior, &reporter);
    let mut residuals = BTreeMap::new();
    let mut explained = Vec::new();
    for (x, item) in opened.items.iter().enumerate() {
        explained.push(explain(
            (&posterior, &queries),
            (x, item),
            logit,
            args.top,
            &mut residuals,
        ));
    }
    if args.run.json {
        let lists = explained.into_iter();
        let all: Vec<Influence<'_>> = lists.flat_map(|e| e.up.into_iter().chain(e.down)).collect();
        return print_json(&all);
    }
    let texts: Vec<String> = explained.iter().map(|e| text(&posterior, e)).collect();
    print(&texts.join("\n"))
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

/// Query `x`, with the samples that moved it most.
fn explain<'a>(
    (posterior, queries): (&'a Posterior, &Queries),
    (x, item): (usize, &'a Item),
    logit: Option<usize>,
    top: usize,
    residuals: &mut BTreeMap<usize, f64>,
) -> Explained<'a> {
    let header = &posterior.model().header;
    let (dual, alpha) = (posterior.dual(), header.options.alpha);
    let logit = logit.unwrap_or_else(|| predicted(&queries.outputs, x));
    let effects = dual.effects(queries, x);
    let mut order: Vec<usize> = (0..dual.samples()).collect();
    order.sort_by(|i, j| effects[(*j, logit)].total_cmp(&effects[(*i, logit)]));
    let mut influence = |i: &usize| Influence {
        photo: &item.path,
        logit: &header.classes[logit],
        sample: &posterior.items()[*i].name,
        class: &header.classes[posterior.labels()[*i]],
        effect: row(&effects, *i, alpha),
        exact: true,
        residual: *residuals
            .entry(*i)
            .or_insert_with(|| dual.residual_without(*i)),
    };
    let effect = |i: &usize| effects[(*i, logit)];
    let ups = order.iter().filter(|i| effect(i) > 0.0).take(top);
    let up = ups.map(&mut influence).collect();
    let downs = order.iter().rev().filter(|i| effect(i) < 0.0).take(top);
    let down = downs.map(&mut influence).collect();
    Explained {
        photo: &item.path,
        scores: row(&queries.outputs, x, alpha),
        logit,
        up,
        down,
    }
}

fn row(m: &Mat<f64>, i: usize, unit: f64) -> Vec<f64> {
    m.row(i).iter().map(|f| f / unit).collect()
}

fn text(posterior: &Posterior, e: &Explained<'_>) -> String {
    let classes = &posterior.model().header.classes;
    let (name, score) = (&classes[e.logit], e.scores[e.logit]);
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
                format!("{:+.4}", i.effect[e.logit]),
                format!("{:.4}", score - i.effect[e.logit]),
            ]
        }));
        let _ = write!(text, "{}", columns(&rows, &[2, 3]));
    }
    text
}
