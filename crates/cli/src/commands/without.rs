//! `convextune explain --without`.

use std::path::Path;

use anyhow::Result;
use convextune::finetune::predicted;
use convextune::influence::{Posterior, Quality, Without, quadratic_model};
use convextune::job::ReadOptions;
use convextune::update::SampleList;
use convextune_model::images::{Item, list_images};
use convextune_solve::faer::Mat;
use serde::Serialize;

use super::{note_seen, note_skipped, open, unlabelled};
use crate::args::influence::ExplainArgs;
use crate::failure::wrong_usage;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::{columns, pairs, percent};

/// What `explain --without --json` prints.
#[derive(Serialize)]
struct Group<'a> {
    /// Training images in the group.
    samples: usize,
    /// Relative change of the trained weights.
    weights_change: f64,
    /// Relative change of the scores, root mean square over all photos and classes.
    scores_change: f64,
    /// Photos whose predicted class is another one without the group.
    predictions_changed: usize,
    /// Of the photos that the fit held out, with and without the group; null for other photos, whose labels are not
    /// known.
    #[serde(flatten)]
    quality: Option<Qualities>,
    exact: bool,
    /// Relative residual of the linear system behind the change.
    residual: f64,
    photos: Vec<Changed<'a>>,
}

#[derive(Serialize)]
struct Qualities {
    test_error: f64,
    test_error_without: f64,
    /// Mean over the photos of the squared distance of their scores from 1 for the right class and 0 for the others.
    squared_error: f64,
    squared_error_without: f64,
}

/// One photo.
#[derive(Serialize)]
struct Changed<'a> {
    photo: &'a Path,
    /// Predicted by the model.
    class: &'a str,
    /// Predicted without the group.
    class_without: &'a str,
    /// Score less the score of the model fitted without the group, for every class.
    effect: Vec<f64>,
    #[serde(skip)]
    scores: [f64; 2],
}

/// Says what a group of training images did.
pub fn run(args: &ExplainArgs, list: &Path) -> Result<()> {
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let images = list_images(&args.images)?;
    let list = SampleList::read(list)?;
    let read = ReadOptions {
        folder: args.photos.clone(),
        cache_memory: args.read.cache_memory,
    };
    let posterior = Posterior::of(quadratic_model(&args.model)?, &read, &reporter)?;
    let trained = posterior.trained();
    let group = list.find(trained.items(), trained.held_out())?;
    let labelled = images.is_empty();
    if labelled && trained.held_out().is_empty() {
        return Err(wrong_usage(
            "the fit held no images out; give the photos whose scores are asked about".into(),
        ));
    }
    let asked = if labelled {
        trained.held_out().to_vec()
    } else {
        unlabelled(images)
    };
    let opened = open(trained.model(), asked, args.read, &reporter)?;
    let without = posterior.without(&group, &opened.samples, &reporter)?;
    reporter.finish();
    note_skipped(&opened.skipped, &reporter);
    note_seen(trained, &reporter);
    let found = Group::new(&posterior, group.len(), (&opened.items, labelled), &without);
    if args.run.json {
        return print_json(&found);
    }
    print(&text(&found, trained.items().len(), args.top))
}

impl<'a> Group<'a> {
    /// `labelled`: whether the items have their labels.
    fn new(
        posterior: &'a Posterior,
        samples: usize,
        (items, labelled): (&'a [Item], bool),
        without: &Without,
    ) -> Self {
        let header = &posterior.model().header;
        let (alpha, after) = (header.options.alpha, without.outputs_without());
        let quality = |f, labels: &[usize]| Quality::of(f, labels, alpha);
        let quality = labelled.then(|| {
            let labels: Vec<usize> = items.iter().map(|item| item.label).collect();
            let (with, out) = (quality(&without.outputs, &labels), quality(&after, &labels));
            Qualities {
                test_error: with.error,
                test_error_without: out.error,
                squared_error: with.squared_error / (alpha * alpha),
                squared_error_without: out.squared_error / (alpha * alpha),
            }
        });
        let class_of = |f: &Mat<f64>| (0..items.len()).map(|i| predicted(f, i)).collect();
        let before: Vec<usize> = class_of(&without.outputs);
        let then: Vec<usize> = class_of(&after);
        let photo = |(i, item): (usize, &'a Item)| Changed {
            photo: &item.path,
            class: &header.classes[before[i]],
            class_without: &header.classes[then[i]],
            effect: without.change.row(i).iter().map(|f| f / alpha).collect(),
            scores: [without.outputs[(i, before[i])], after[(i, then[i])]].map(|f| f / alpha),
        };
        let photos: Vec<Changed<'_>> = items.iter().enumerate().map(photo).collect();
        let changed = |photo: &&Changed<'_>| photo.class != photo.class_without;
        Self {
            samples,
            weights_change: without.weights,
            scores_change: without.change.norm_l2() / without.outputs.norm_l2(),
            predictions_changed: photos.iter().filter(changed).count(),
            quality,
            exact: true,
            residual: without.residual,
            photos,
        }
    }
}

/// The figures, and the `top` photos whose scores change most.
fn text(group: &Group<'_>, all: usize, top: usize) -> String {
    let (photos, moved) = (group.photos.len(), group.predictions_changed);
    let by = |share: f64| format!("change by {}", percent(Some(share)));
    let mut rows = vec![
        ("weights", by(group.weights_change)),
        ("scores", by(group.scores_change)),
        ("predictions", format!("{moved} of {photos} change")),
    ];
    if let Some(q) = &group.quality {
        let [with, out] = [q.test_error, q.test_error_without].map(|e| percent(Some(e)));
        rows.push(("test error", format!("{with}, without them {out}")));
        let (with, out) = (q.squared_error, q.squared_error_without);
        let text = format!("{with:.4}, without them {out:.4}");
        rows.push(("squared error", text));
    }
    let mut photos: Vec<&Changed<'_>> = group.photos.iter().collect();
    let largest = |photo: &Changed<'_>| photo.effect.iter().map(|e| e.abs()).fold(0.0, f64::max);
    photos.sort_by(|a, b| largest(b).total_cmp(&largest(a)));
    let head = ["most changed", "class", "score", "without", "score"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    table.extend(photos.iter().take(top).map(|photo| {
        let [with, out] = photo.scores.map(|score| format!("{score:.3}"));
        let shown = photo.photo.display().to_string();
        vec![
            shown,
            photo.class.into(),
            with,
            photo.class_without.into(),
            out,
        ]
    }));
    format!(
        "without {} of {all} training images:\n{}\n{}",
        group.samples,
        pairs(&rows),
        columns(&table, &[2, 4])
    )
}
