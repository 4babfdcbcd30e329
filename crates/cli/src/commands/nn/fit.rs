//! `convextune nn fit`.

use std::path::Path;

use anyhow::Result;
use convextune::convexnet::{self, Choice, NetModel, NetReport, PathOptions, Task};
use convextune::progress::Reporter;
use convextune_solve::Status;
use convextune_solve::gated::{Activation, Loss, Penalty};
use serde::Serialize;

use super::{data, summary};
use crate::output::{check_writable, print, print_json};
use crate::plan::nn::NetFitPlan;
use crate::progress::Terminal;
use crate::table::pairs;

/// The JSON object of `nn fit --json`.
#[derive(Serialize)]
pub struct Outcome<'a> {
    /// The model file, if one was written.
    model: Option<&'a Path>,
    table: &'a Path,
    target: &'a str,
    task: Task,
    class_names: &'a [String],
    /// Numbers that a neuron reads, its bias included.
    features: usize,
    activation: Activation,
    loss: Loss,
    penalty: Penalty,
    #[serde(flatten)]
    report: &'a NetReport,
}

impl<'a> Outcome<'a> {
    /// Of a model, under a plan.
    pub fn of(model: &'a NetModel, plan: &'a NetFitPlan) -> Self {
        let header = &model.header;
        Self {
            model: plan.output.as_deref(),
            table: &plan.data.table,
            target: header.encoder.target(),
            task: header.encoder.task(),
            class_names: header.encoder.classes(),
            features: header.encoder.width(),
            activation: header.options.activation,
            loss: header.options.loss,
            penalty: header.options.penalty,
            report: &header.report,
        }
    }
}

/// Reads the table, fits, writes the model, and reports.
pub fn run(plan: &NetFitPlan) -> Result<()> {
    if let Some(output) = &plan.output {
        check_writable(output)?;
    }
    let reporter = Terminal::new(plan.run.quiet, plan.options.tolerance);
    let table = data::read(&plan.data.table, &reporter)?;
    let rows = data::rows(&plan.data, &table, &plan.options)?;
    let gates = data::gates(plan, &rows)?;
    let model = if plan.options.lambda.is_some() {
        convexnet::fit(&rows, &plan.options, gates, &reporter)?
    } else {
        let folds = data::validation(None, &rows, &plan.options)?;
        let grid = PathOptions {
            choices: plan.open.choices(&Choice::penalties(&plan.options, &rows)?),
            ..PathOptions::default()
        };
        convexnet::path(&rows, &plan.options, &grid, &folds, gates, &reporter)?.1
    };
    finish(&model, plan, &reporter)?;
    if plan.run.json {
        return print_json(&Outcome::of(&model, plan));
    }
    print(&pairs(&rows_of(&model, plan)))
}

/// Writes the model, and says whatever deserves a sentence.
pub fn finish(model: &NetModel, plan: &NetFitPlan, reporter: &Terminal) -> Result<()> {
    if let Some(output) = &plan.output {
        model.save(output)?;
    }
    reporter.finish();
    for note in model.header.encoder.notes() {
        reporter.note(note);
    }
    let report = &model.header.report;
    if report.status != Status::Converged {
        reporter.note(&format!(
            "the solver {} at a relative duality gap of {:.1e}, which says how far the minimum can be",
            summary::status(report.status),
            report.certificate.relative_duality_gap
        ));
    }
    if plan.output.is_none() {
        reporter.note("nothing was written; give -o FILE to keep the model");
    }
    Ok(())
}

/// The table for people.
pub fn rows_of(model: &NetModel, plan: &NetFitPlan) -> Vec<(&'static str, String)> {
    let mut rows = vec![("table", plan.data.table.display().to_string())];
    rows.extend(summary::rows(&model.header));
    if let Some(path) = &plan.output {
        rows.push(("model", path.display().to_string()));
    }
    rows
}
