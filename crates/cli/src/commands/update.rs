//! What `forget` and `add` have in common.

use std::path::Path;

use anyhow::Result;
use convextune::model_file::{Header, Model};
use convextune::progress::Reporter;
use convextune::report::FitReport;
use convextune::update::{Change, head_is_fitted, prior_is_chosen};
use convextune_solve::Status;
use serde::Serialize;

use super::summary;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::pairs;

/// The JSON object of `forget --json` and `add --json`.
#[derive(Serialize)]
struct Outcome<'a, M> {
    /// The model file that was written.
    model: &'a Path,
    /// SHA-256 of the training set before.
    training_set_before: &'a str,
    /// SHA-256 of the training set.
    training_set: &'a str,
    class_names: &'a [String],
    #[serde(flatten)]
    change: &'a Change,
    /// Whether Lambda or the scale was chosen on the training set before.
    prior_chosen_before: bool,
    #[serde(flatten)]
    more: M,
    #[serde(flatten)]
    report: &'a FitReport,
}

/// Prints a changed model: JSON with the keys of `more`, or a table with `rows` before the figures.
pub fn report(
    (before, model): (&Header, &Model),
    output: &Path,
    more: impl Serialize,
    rows: Vec<(&'static str, String)>,
    json: bool,
) -> Result<()> {
    let header = &model.header;
    let Some(change) = header.changes.last() else {
        return Ok(());
    };
    if json {
        return print_json(&Outcome {
            model: output,
            training_set_before: &before.training_set,
            training_set: &header.training_set,
            class_names: &header.classes,
            change,
            prior_chosen_before: prior_is_chosen(before),
            more,
            report: &header.report,
        });
    }
    let mut table = rows;
    let certified = if change.certified { "yes" } else { "no" };
    table.push(("certified", certified.to_owned()));
    if prior_is_chosen(before) {
        let text = "kept; chosen on the training images before the change";
        table.push(("Lambda and scale", text.to_owned()));
    }
    table.extend(summary::rows(&header.report));
    table.push(("model", output.display().to_string()));
    print(&pairs(&table))
}

/// Says why a change is not certified, and how to get one that is.
pub fn note_uncertified(header: &Header, reporter: &Terminal) {
    if header.changes.last().is_none_or(|change| change.certified) {
        return;
    }
    if head_is_fitted(header) {
        reporter.note(
            "NOT as if never seen: the head at which the network is linearised was fitted on training \
             images (`--head-init ridge` or `split`) and is kept, so that the model remembers them in \
             it; fit to the remaining images, with `--head-init common` or `random` if more is to be \
             forgotten later",
        );
    }
    let report = &header.report;
    if report.status != Status::Converged {
        reporter.note(&format!(
            "not certified: the solver {} at a relative gradient norm of {:.1e}; fit again with a \
             larger --solver-tolerance or more --max-passes",
            summary::status(report.status),
            report.relative_gradient_norm
        ));
    }
}
