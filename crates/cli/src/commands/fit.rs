//! `convextune fit`.

use std::path::Path;

use anyhow::Result;
use convextune::checkpoint::{FileCheckpoints, Found, fingerprint};
use convextune::finetune::NoCheckpoints;
use convextune::job::Job;
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune::report::FitReport;
use convextune_model::images::SplitOrigin;
use convextune_solve::Status;
use serde::Serialize;

use super::summary;
use crate::output::{check_writable, print, print_json};
use crate::plan::FitPlan;
use crate::progress::Terminal;
use crate::table::pairs;

/// The JSON object of `fit --json`.
#[derive(Serialize)]
struct Outcome<'a> {
    /// The model file, if one was written.
    model: Option<&'a Path>,
    /// SHA-256 of the training set.
    training_set: &'a str,
    class_names: &'a [String],
    /// How training and test images were told apart.
    split: &'a SplitOrigin,
    #[serde(flatten)]
    report: &'a FitReport,
}

/// Opens the data, fits, writes the model, and reports.
pub fn run(plan: &FitPlan) -> Result<()> {
    if let Some(output) = &plan.output {
        check_writable(output)?;
    }
    let reporter = Terminal::new(plan.run.quiet, plan.options.tolerance);
    let job = Job::open(&plan.job, &reporter)?;
    let model = fit(&job, plan, &reporter)?;
    reporter.finish();
    note_all(&model.header.report, plan.output.as_deref(), &reporter);
    report(&model, plan)
}

/// Fits and writes.
fn fit(job: &Job, plan: &FitPlan, reporter: &Terminal) -> Result<Model> {
    let Some(output) = &plan.output else {
        return Ok(job.fit(&plan.options, &mut NoCheckpoints, reporter)?);
    };
    let mut checkpoints = checkpoints(job, plan, output, reporter)?;
    let model = job.fit(&plan.options, &mut checkpoints, reporter)?;
    if let Some(failure) = checkpoints.failure() {
        reporter.note(&format!("{failure}; the fit went on without a checkpoint"));
    }
    model.save(output)?;
    checkpoints.remove();
    Ok(model)
}

/// Checkpoints beside the output, loaded if the fit is to be resumed.
fn checkpoints(
    job: &Job,
    plan: &FitPlan,
    output: &Path,
    reporter: &Terminal,
) -> Result<FileCheckpoints> {
    let mut name = output.as_os_str().to_owned();
    name.push(".checkpoint");
    let fingerprint = fingerprint(job, &plan.options);
    let mut checkpoints = FileCheckpoints::new(name.into(), fingerprint, plan.checkpoint_every);
    if plan.resume {
        if checkpoints.resume()? {
            reporter.note("continuing from the checkpoint");
        } else {
            reporter.note("there is no checkpoint; starting from the beginning");
        }
    } else if checkpoints.found() == Found::Same {
        reporter.note("an interrupted fit left a checkpoint, which --resume would have continued");
    }
    Ok(checkpoints)
}

/// Whatever deserves a sentence.
fn note_all(report: &FitReport, output: Option<&Path>, reporter: &Terminal) {
    for skipped in &report.skipped {
        reporter.note(&format!("{skipped}; it was left out"));
    }
    if report.status != Status::Converged {
        reporter.note(&format!(
            "the solver {} at a relative gradient norm of {:.1e}; the bound says how far the \
             minimum can be",
            summary::status(report.status),
            report.relative_gradient_norm
        ));
    }
    if output.is_none() {
        reporter.note("nothing was written; give -o FILE to keep the model");
    }
}

fn report(model: &Model, plan: &FitPlan) -> Result<()> {
    let header = &model.header;
    let output = plan.output.as_deref();
    if plan.run.json {
        return print_json(&Outcome {
            model: output,
            training_set: &header.training_set,
            class_names: &header.classes,
            split: &header.split,
            report: &header.report,
        });
    }
    let mut rows = summary::rows(&header.report);
    rows.push(("split", summary::split(&header.split)));
    if let Some(path) = output {
        rows.push(("model", path.display().to_string()));
    }
    print(&pairs(&rows))
}
