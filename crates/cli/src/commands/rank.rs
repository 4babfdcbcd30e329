//! `convextune rank`.

use std::path::Path;

use anyhow::Result;
use convextune::influence::{Ranker, Suspicion, quadratic_model};
use convextune::job::ReadOptions;
use convextune::progress::Reporter;
use convextune_model::images::{ImageFolder, ImagesError, Item, list_images};
use serde::Serialize;

use super::{note_seen, note_skipped, open, unlabelled};
use crate::args::influence::{By, RankArgs};
use crate::failure::wrong_usage;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::{columns, number};

/// One element of the array that `rank --json` prints.
#[derive(Serialize)]
struct Ranked {
    sample: String,
    score: f64,
    exact: bool,
    residual: f64,
    /// Its label, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    /// `mislabel`: the class that the others vote for; `duplicates`: the image that it is like.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<String>,
    /// `mislabel`: score of that class less the label's, in the model fitted without the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
}

/// Orders images.
pub fn run(args: &RankArgs) -> Result<()> {
    let folder = match (args.by, &args.photos) {
        (By::Uncertainty, photos) => photos.clone(),
        (_, None) => Some(args.folder.clone()),
        (_, Some(_)) => {
            let text = "--photos goes with --by uncertainty; otherwise FOLDER is the one that the \
                        model was fitted on";
            return Err(wrong_usage(text.into()));
        }
    };
    let to_order = match args.by {
        By::Uncertainty => any_images(&args.folder)?,
        _ => Vec::new(),
    };
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let read = ReadOptions {
        folder,
        cache_memory: args.read.cache_memory,
    };
    let ranker = Ranker::of(quadratic_model(&args.model)?, args.fast, &read, &reporter)?;
    if args.by != By::Duplicates && args.by != By::Uncertainty {
        note_seen(ranker.trained(), &reporter);
    }
    let mut ranked = match args.by {
        By::Informativeness => informativeness(&ranker, args, &reporter)?,
        By::LeaveOneOut => {
            let errors = ranker.leave_one_out_errors().into_iter();
            of_training(&ranker, errors.map(|e| (e / unit(&ranker), None)))
        }
        By::Mislabel => mislabel(&ranker),
        By::Duplicates => {
            let name = |i: usize| ranker.trained().items()[i].name.clone();
            let nearest = ranker.nearest(&reporter).into_iter();
            of_training(&ranker, nearest.map(|n| (n.cosine, Some(name(n.sample)))))
        }
        By::Uncertainty => uncertainty(&ranker, to_order, args, &reporter)?,
    };
    note_trust(&ranker, &reporter);
    reporter.finish();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    ranked.truncate(args.top.unwrap_or(usize::MAX));
    if args.run.json {
        print_json(&ranked)
    } else {
        print(&table(&ranked, args.by))
    }
}

/// The square of the targets' scale, in which squared changes and errors are told.
fn unit(ranker: &Ranker) -> f64 {
    ranker.trained().model().header.options.alpha.powi(2)
}

/// Says how rough scores are that are approximate.
fn note_trust(ranker: &Ranker, reporter: &Terminal) {
    let trust = ranker.trust();
    if !trust.exact {
        reporter.note(&format!(
            "scores are approximate: by gradients made short, whose own fit has outputs within {:.1} % of the model's",
            100.0 * trust.residual
        ));
    }
}

/// Scores of the training images, in their order.
fn of_training(
    ranker: &Ranker,
    scores: impl Iterator<Item = (f64, Option<String>)>,
) -> Vec<Ranked> {
    let (trained, trust) = (ranker.trained(), ranker.trust());
    let classes = &trained.model().header.classes;
    let items = trained.items().iter().zip(scores);
    let ranked = |(item, (score, other)): (&Item, _)| Ranked {
        sample: item.name.clone(),
        score,
        exact: trust.exact,
        residual: trust.residual,
        class: Some(classes[item.label].clone()),
        other,
        margin: None,
    };
    items.map(ranked).collect()
}

/// F-SI over the held-out images; over the other training images where nothing was held out.
fn informativeness(ranker: &Ranker, args: &RankArgs, reporter: &Terminal) -> Result<Vec<Ranked>> {
    let trained = ranker.trained();
    let mut scores = vec![0.0; trained.items().len()];
    let mut asked = 0;
    for part in trained.held_out().chunks(ranker.most_queries()) {
        let opened = open(trained.model(), part.to_vec(), args.read, reporter)?;
        note_skipped(&opened.skipped, reporter);
        let n = opened.items.len();
        if n == 0 {
            continue;
        }
        let told = ranker.informativeness(&opened.samples, reporter)?;
        scores
            .iter_mut()
            .zip(told)
            .for_each(|(s, t)| *s += n as f64 * t);
        asked += n;
    }
    if asked == 0 {
        reporter.note(
            "no images were held out of the fit; the change is that of the other training images",
        );
        (scores, asked) = (ranker.informativeness_among(reporter), 1);
    }
    let unit = asked as f64 * unit(ranker);
    Ok(of_training(
        ranker,
        scores.into_iter().map(|s| (s / unit, None)),
    ))
}

fn mislabel(ranker: &Ranker) -> Vec<Ranked> {
    let header = &ranker.trained().model().header;
    let score = |s: Suspicion| {
        let other = header.classes[s.class].clone();
        (s.surprise, Some(other))
    };
    let suspicions = ranker.suspicions();
    let margins: Vec<f64> = suspicions.iter().map(|s| s.margin).collect();
    let mut ranked = of_training(ranker, suspicions.into_iter().map(score));
    for (ranked, margin) in ranked.iter_mut().zip(margins) {
        ranked.margin = Some(margin / header.options.alpha);
    }
    ranked
}

/// Posterior variance of images without labels.
fn uncertainty(
    ranker: &Ranker,
    items: Vec<Item>,
    args: &RankArgs,
    reporter: &Terminal,
) -> Result<Vec<Ranked>> {
    let (model, trust) = (ranker.trained().model(), ranker.trust());
    let mut ranked = Vec::with_capacity(items.len());
    for part in items.chunks(ranker.most_queries()) {
        let opened = open(model, part.to_vec(), args.read, reporter)?;
        note_skipped(&opened.skipped, reporter);
        if opened.items.is_empty() {
            continue;
        }
        let variances = ranker.variances(&opened.samples, reporter)?;
        let images = opened.items.into_iter().zip(variances);
        ranked.extend(images.map(|(item, score)| Ranked {
            sample: item.name,
            score,
            exact: trust.exact,
            residual: trust.residual,
            class: None,
            other: None,
            margin: None,
        }));
    }
    Ok(ranked)
}

/// The images of a folder, or of the folders in it.
fn any_images(folder: &Path) -> Result<Vec<Item>> {
    match list_images(&[folder.to_owned()]) {
        Ok(images) => Ok(unlabelled(images)),
        Err(ImagesError::NoImages(_)) => {
            let images = ImageFolder::held_out(folder)?.items.into_iter();
            Ok(unlabelled(images.map(|item| item.path).collect()))
        }
        Err(error) => Err(error.into()),
    }
}

fn table(ranked: &[Ranked], by: By) -> String {
    let other = match by {
        By::Mislabel => "rather",
        By::Duplicates => "like",
        _ => "",
    };
    let head = ["score", "image", "class", other, "margin"].map(str::to_owned);
    let shown = match by {
        By::Uncertainty => 2,
        By::Mislabel => 5,
        _ => 4,
    };
    let mut rows = vec![head[..shown].to_vec()];
    rows.extend(ranked.iter().map(|r| {
        let mut row = vec![number(r.score), r.sample.clone()];
        row.extend(r.class.clone());
        row.extend(r.other.clone());
        row.extend(r.margin.map(|margin| format!("{margin:+.3}")));
        row
    }));
    columns(&rows, &[0, 4])
}
