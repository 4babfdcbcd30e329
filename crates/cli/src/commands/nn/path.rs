//! `convextune nn path`.

use anyhow::Result;
use convextune::convexnet::{self, Choice, GateChoice, PathOptions, PathReport, Task, Trial};
use serde::Serialize;

use super::fit::{Outcome, finish, rows_of};
use super::{data, summary};
use crate::output::{check_writable, print, print_json};
use crate::plan::nn::NetPathPlan;
use crate::progress::Terminal;
use crate::table::{columns, number, pairs, small};

/// The JSON object of `nn path --json`.
#[derive(Serialize)]
struct PathOutcome<'a> {
    /// The best model.
    #[serde(flatten)]
    fit: Outcome<'a>,
    validation_folds: usize,
    #[serde(flatten)]
    path: &'a PathReport,
}

/// Reads the table, runs the path, writes the best model, and reports.
pub fn run(plan: &NetPathPlan) -> Result<()> {
    let fit = &plan.fit;
    if let Some(output) = &fit.output {
        check_writable(output)?;
    }
    let reporter = Terminal::new(fit.run.quiet, fit.options.tolerance);
    let table = data::read(&fit.data.table, &reporter)?;
    let rows = data::rows(&fit.data, &table, &fit.options)?;
    let gates = data::gates(fit, &rows)?;
    let folds = data::validation(plan.val_folds.as_deref(), &rows, &fit.options)?;
    let grid = PathOptions {
        choices: fit.open.choices(&Choice::penalties(&fit.options, &rows)?),
        ..plan.grid.clone()
    };
    let (path, model) = convexnet::path(&rows, &fit.options, &grid, &folds, gates, &reporter)?;
    finish(&model, fit, &reporter)?;
    if fit.run.json {
        return print_json(&PathOutcome {
            fit: Outcome::of(&model, fit),
            validation_folds: folds.folds.len(),
            path: &path,
        });
    }
    let task = model.header.encoder.task();
    let trials = match &path.trials[..] {
        [_] => String::new(),
        trials => format!("{}\n", choices(trials, task)),
    };
    let points = points(&path, task);
    print(&format!(
        "{trials}{points}\n{}",
        pairs(&rows_of(&model, fit))
    ))
}

/// One row a choice, at its best `lambda`.
fn choices(trials: &[Trial], task: Task) -> String {
    let heads = ["gates", "penalty", "lambda", "validation error", "+-"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(trials.iter().map(|t| {
        let gates = match t.choice.gates {
            GateChoice::Sampled(count) => count.to_string(),
            GateChoice::All => "all".to_owned(),
            GateChoice::Given => "given".to_owned(),
            GateChoice::Adaptive => "adaptive".to_owned(),
        };
        vec![
            gates,
            summary::penalty(t.choice.penalty).to_owned(),
            number(t.lambda),
            summary::error(t.validation_error, task),
            summary::error(t.validation_error_std, task),
        ]
    }));
    columns(&rows, &[0, 2, 3, 4])
}

/// One row a value of `lambda`; the best has a star.
fn points(path: &PathReport, task: Task) -> String {
    let heads = [
        "lambda",
        "",
        "validation error",
        "+-",
        "training error",
        "neurons",
        "objective",
        "rel. gap",
        "seconds",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(path.points.iter().enumerate().map(|(k, p)| {
        vec![
            number(p.lambda),
            if k == path.best { "*" } else { "" }.to_owned(),
            summary::error(p.validation_error, task),
            summary::error(p.validation_error_std, task),
            summary::error(p.train_error, task),
            p.neurons.to_string(),
            number(p.objective),
            small(p.relative_duality_gap),
            number(p.seconds),
        ]
    }));
    columns(&rows, &[0, 2, 3, 4, 5, 6, 7, 8])
}
