//! `convextune constrain`.

use std::path::Path;

use anyhow::{Result, bail};
use convextune::constrain::{Demand, Met, Wish, constrain};
use convextune::finetune::Method;
use convextune::influence::quadratic_model;
use convextune::job::{ReadOptions, labelled};
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune_model::images::list_images;
use serde::Serialize;

use super::update::{note_uncertified, report};
use super::{note_skipped, open, unlabelled};
use crate::args::constrain::ConstrainArgs;
use crate::output::check_writable;
use crate::progress::Terminal;
use crate::table::{number, small};

/// The keys of `constrain --json` beside those of `forget` and `add`.
#[derive(Serialize)]
struct More {
    #[serde(flatten)]
    met: Met,
}

/// Makes the best model that meets demands.
pub fn run(args: &ConstrainArgs) -> Result<()> {
    check_writable(&args.output)?;
    let model = quadratic_model(&args.model)?;
    let reporter = Terminal::new(args.run.quiet, model.header.options.tolerance);
    let mut demands = match &args.like {
        Some(old) => kept(args, &model, old, &reporter)?,
        None => Vec::new(),
    };
    if let Some(folder) = &args.right {
        let items = labelled(folder, &model.header.classes)?;
        demands.extend(items.into_iter().map(|item| Demand {
            wish: Wish::Class {
                class: item.label,
                margin: args.margin,
            },
            item,
        }));
    }
    let read = ReadOptions {
        folder: args.photos.clone(),
        cache_memory: args.read.cache_memory,
    };
    let made = constrain(&model, &demands, &read, &reporter)?;
    reporter.finish();
    made.model.save(&args.output)?;
    note_uncertified(&made.model.header, &reporter);
    let met = made.met;
    let rows = vec![
        (
            "demands",
            format!("{} on {} pictures", met.demands, met.pictures),
        ),
        ("not met before", met.unmet_before.to_string()),
        ("binding", met.binding.to_string()),
        (
            "largest violation",
            format!("{} of a score", small(met.violation)),
        ),
        ("objective before", number(met.objective_before)),
        ("relative duality gap", small(met.relative_duality_gap)),
    ];
    let models = (&model.header, &made.model);
    report(models, &args.output, More { met }, rows, args.run.json)
}

/// What `old` says about the pictures, as demands on `model`.
fn kept(
    args: &ConstrainArgs,
    model: &Model,
    old: &Path,
    reporter: &Terminal,
) -> Result<Vec<Demand>> {
    let before = Model::load(old)?;
    let shown = old.display();
    if before.header.options.method == Method::Fc && args.within.is_some() {
        bail!(
            "{shown}: its scores are logarithms of odds, which are no targets here; keep the classes, without --within"
        );
    }
    let (ours, theirs) = (&model.header.classes, &before.header.classes);
    let place = |name: &String| ours.iter().position(|c| c == name);
    let places: Option<Vec<usize>> = theirs.iter().map(place).collect();
    let Some(places) = places else {
        bail!(
            "{shown}: has a class that {} does not have",
            args.model.display()
        );
    };
    let items = unlabelled(list_images(&args.images)?);
    let opened = open(&before, items, args.read, reporter)?;
    reporter.stage("outputs", opened.samples.len() as u64);
    let outputs = before.outputs(&opened.samples, reporter)?;
    note_skipped(&opened.skipped, reporter);
    let alpha = before.header.options.alpha;
    let score = |x: usize, c: usize| outputs[(x, c)];
    let wish = |x: usize| {
        let best = |a: usize, b: usize| if score(x, b) > score(x, a) { b } else { a };
        let class = Wish::Class {
            class: places[(1..theirs.len()).fold(0, best)],
            margin: args.margin,
        };
        let all = places.iter().enumerate();
        let scores = all.map(|(c, place)| (*place, score(x, c) / alpha));
        args.within.map_or(class, |within| Wish::Scores {
            scores: scores.collect(),
            within,
        })
    };
    let demand = |(x, item)| Demand {
        item,
        wish: wish(x),
    };
    Ok(opened.items.into_iter().enumerate().map(demand).collect())
}
