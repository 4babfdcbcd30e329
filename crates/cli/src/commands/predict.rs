//! `convextune predict`.

use std::path::Path;

use anyhow::Result;
use convextune::finetune::Method;
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune_model::images::list_images;
use convextune_solve::faer::Mat;
use serde::Serialize;

use super::{note_skipped, open, unlabelled};
use crate::args::PredictArgs;
use crate::output::{print, print_json};
use crate::progress::Terminal;

/// One element of the array that `predict --json` prints.
#[derive(Serialize)]
struct Prediction<'a> {
    path: &'a Path,
    /// The class with the highest score.
    class: &'a str,
    /// The best classes, the best first.
    top: Vec<Score<'a>>,
}

#[derive(Serialize)]
struct Score<'a> {
    class: &'a str,
    score: f64,
}

/// Names the classes of images.
pub fn run(args: &PredictArgs) -> Result<()> {
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = Model::load(&args.model)?;
    let items = unlabelled(list_images(&args.images)?);
    let opened = open(&model, items, args.read, &reporter)?;
    reporter.stage("outputs", opened.samples.len() as u64);
    let outputs = model.outputs(&opened.samples, &reporter)?;
    reporter.finish();
    note_skipped(&opened.skipped, &reporter);
    let predictions: Vec<Prediction<'_>> = opened
        .items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| best(&model, &outputs, i, &item.path, args.top))
        .collect();
    if args.run.json {
        print_json(&predictions)
    } else {
        print(&lines(&predictions))
    }
}

/// The best classes of image `i`.
fn best<'a>(
    model: &'a Model,
    outputs: &Mat<f64>,
    i: usize,
    path: &'a Path,
    top: usize,
) -> Option<Prediction<'a>> {
    let options = &model.header.options;
    let scale = if options.method == Method::Fc {
        1.0
    } else {
        options.alpha
    };
    let names = model.header.classes.iter().enumerate();
    let mut scores: Vec<Score<'a>> = names
        .map(|(c, class)| Score {
            class,
            score: outputs[(i, c)] / scale,
        })
        .collect();
    scores.sort_by(|a, b| b.score.total_cmp(&a.score));
    scores.truncate(top);
    let class = scores.first()?.class;
    Some(Prediction {
        path,
        class,
        top: scores,
    })
}

fn lines(predictions: &[Prediction<'_>]) -> String {
    let line = |p: &Prediction<'_>| {
        let scores: Vec<String> = p
            .top
            .iter()
            .map(|s| format!("{} {:.3}", s.class, s.score))
            .collect();
        format!("{}\t{}\n", p.path.display(), scores.join("\t"))
    };
    predictions.iter().map(line).collect()
}
