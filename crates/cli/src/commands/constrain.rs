//! `convextune constrain`.

use std::path::Path;

use anyhow::{Result, bail};
use convextune::constrain::{CERTIFIED_GAP, Demand, Met, VIOLATION, Wish, constrain};
use convextune::finetune::Method;
use convextune::influence::quadratic_model;
use convextune::job::{ReadOptions, labelled};
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune_model::images::list_images;
use serde::Serialize;

use super::update::report;
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
    check_writable(&args.change.output)?;
    let model = quadratic_model(&args.model)?;
    let reporter = Terminal::new(args.change.run.quiet, model.header.options.tolerance);
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
        folder: args.change.photos.clone(),
        cache_memory: args.change.read.cache_memory,
    };
    let made = constrain(&model, &demands, &read, &reporter)?;
    reporter.finish();
    made.model.save(&args.change.output)?;
    let (met, header) = (made.met, &made.model.header);
    if header
        .changes
        .last()
        .is_some_and(|change| !change.certified)
    {
        let gradient = header.report.relative_gradient_norm;
        reporter.note(&uncertified(&met, gradient, header.options.tolerance));
    }
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
    report(
        models,
        &args.change.output,
        More { met },
        rows,
        args.change.run.json,
    )
}

/// Why a model under demands is not certified, and the way out.
fn uncertified(met: &Met, gradient: f64, tolerance: f64) -> String {
    if met.violation > VIOLATION {
        return format!(
            "not certified: a demand is missed by {:.1e} of a score, and {VIOLATION:.0e} is allowed; \
             demand less, with a smaller --margin, a larger --within or fewer pictures",
            met.violation
        );
    }
    format!(
        "not certified: the demands are met, but it may not be the best model that meets them (relative \
         duality gap {:.1e}, {CERTIFIED_GAP:.0e} is allowed; relative gradient norm {gradient:.1e}, \
         {tolerance:.0e} is allowed); demand less, or fit MODEL again with a larger --solver-tolerance",
        met.relative_duality_gap
    )
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
    let opened = open(&before, items, args.change.read, reporter)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_demand_and_an_open_gap_are_told_apart() {
        let mut met = Met {
            pictures: 1,
            demands: 2,
            unmet_before: 1,
            binding: 1,
            violation: 2e-3,
            objective_before: 1.0,
            dual_value: 1.0,
            relative_duality_gap: 3e-3,
        };
        let missed = uncertified(&met, 1e-4, 1e-3);
        assert!(missed.contains("missed by 2.0e-3 of a score") && missed.contains("--margin"));
        met.violation = 0.0;
        let open = uncertified(&met, 1e-4, 1e-3);
        assert!(open.contains("gap 3.0e-3") && !open.contains("missed"));
    }
}
