//! `convextune tune`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use convextune::finetune::NoCheckpoints;
use convextune::influence::check_unconstrained;
use convextune::job::{Job, Reopen};
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune::report::FitReport;
use convextune::tune::{Criterion, TuneMethod, Tuned, refit, tune_weight_decay};
use serde::Serialize;

use super::summary;
use crate::args::curvature::TuneArgs;
use crate::output::{check_writable, print, print_json};
use crate::progress::Terminal;
use crate::table::{columns, number, pairs, small};

/// The JSON object of `tune --json`.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    /// The model fitted again, if one was written.
    output: Option<&'a Path>,
    #[serde(flatten)]
    tuned: &'a Tuned,
    /// Its report.
    report: Option<&'a FitReport>,
}

/// Chooses the weight decay, fits again, and reports.
pub fn run(args: &TuneArgs) -> Result<()> {
    if let Some(output) = &args.output {
        check_writable(output)?;
    }
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = Model::load(&args.model)?;
    check_unconstrained(&model)?;
    let job = Job::of_model(
        &model,
        &Reopen {
            folder: args.folder.clone(),
            test: args.test.clone(),
            cache_memory: args.read.cache_memory,
            skip_unreadable: args.read.skip_unreadable,
        },
        &reporter,
    )?;
    let tuned = tune_weight_decay(&model, &job, args.by, &reporter)?;
    let better = match &args.output {
        Some(output) => {
            let better = refit(&model, &job, &tuned, &mut NoCheckpoints, &reporter)?;
            better.save(output)?;
            Some(better)
        }
        None => None,
    };
    reporter.finish();
    note_all(&tuned, better.is_some(), &reporter);
    let report = better.as_ref().map(|model| &model.header.report);
    if args.run.json {
        return print_json(&Outcome {
            model: &args.model,
            output: args.output.as_deref(),
            tuned: &tuned,
            report,
        });
    }
    print(&text(&tuned, report, args.output.as_deref()))
}

/// Whatever deserves a sentence.
fn note_all(tuned: &Tuned, written: bool, reporter: &Terminal) {
    if tuned.minimum.at_end {
        reporter.note(
            "the error still falls at the end of the path: the best weight decay lies outside, and \
             makes little difference",
        );
    } else if !tuned.minimum.converged {
        reporter.note("the slope did not reach the tolerance; the best value tried was taken");
    }
    if written && tuned.criterion == Criterion::Validation {
        reporter.note(
            "the held-out images have chosen the weight decay: their error is no honest test any more",
        );
    }
    if !written {
        reporter.note("nothing was written; give -o FILE to fit the model again and keep it");
    }
}

fn text(tuned: &Tuned, report: Option<&FitReport>, output: Option<&Path>) -> String {
    let (before, best) = (tuned.before, tuned.minimum.best);
    let criterion = match tuned.criterion {
        Criterion::LeaveOneOut => "squared leave-one-out residual",
        Criterion::Validation => "squared residual of held-out images",
    };
    let method = match tuned.method {
        TuneMethod::Exact => "exact, from the kernel",
        TuneMethod::Pcg => "conjugate gradients",
    };
    let mut text = pairs(&[
        ("criterion", format!("{criterion}, {} images", tuned.images)),
        ("method", method.to_owned()),
        (
            "lambda before",
            format!("{} (error {})", number(before.lambda), number(before.value)),
        ),
        (
            "lambda now",
            format!("{} (error {})", number(best.lambda), number(best.value)),
        ),
        (
            "slope there",
            format!("{} per unit of log lambda", small(best.slope)),
        ),
    ]);
    let mut rows = vec![["lambda", "error", "slope", ""].map(str::to_owned).to_vec()];
    rows.extend(tuned.minimum.points.iter().map(|p| {
        let mark = if p == &best { "best" } else { "" };
        vec![
            number(p.lambda),
            number(p.value),
            small(p.slope),
            mark.to_owned(),
        ]
    }));
    let _ = write!(text, "\n{}", columns(&rows, &[0, 1, 2]));
    if let Some(report) = report {
        let mut rows = summary::rows(report);
        rows.extend(output.map(|path| ("model", path.display().to_string())));
        let _ = write!(text, "\n{}", pairs(&rows));
    }
    text
}
