//! `convextune nn check`.

use std::path::Path;

use anyhow::Result;
use convextune::convexnet::check::{CheckOptions, CheckReport, Optimum, ReluNetwork, check};
use convextune::convexnet::{NetOptions, Task};
use serde::Serialize;

use super::{data, summary};
use crate::output::{print, print_json};
use crate::plan::nn::NetCheckPlan;
use crate::progress::Terminal;
use crate::table::{columns, pairs, percent, precise, small};

/// The JSON object of `nn check --json`.
#[derive(Serialize)]
struct Outcome<'a> {
    weights: &'a Path,
    table: &'a Path,
    lambda: f64,
    #[serde(flatten)]
    report: CheckReport,
}

/// Compares a network with the minimum of its training problem.
pub fn run(plan: &NetCheckPlan) -> Result<()> {
    let options = &plan.options;
    let reporter = Terminal::new(plan.run.quiet, options.tolerance);
    let network = ReluNetwork::read(&plan.weights)?;
    let table = data::read(&plan.data.table, &reporter)?;
    let problem = NetOptions {
        task: options.task,
        loss: options.loss,
        seed: options.seed,
        ..NetOptions::default()
    };
    let rows = data::rows(&plan.data, &table, &problem)?;
    let report = check(&network, &table, &rows.train, options, &reporter)?;
    reporter.finish();
    if plan.run.json {
        return print_json(&Outcome {
            weights: &plan.weights,
            table: &plan.data.table,
            lambda: options.lambda,
            report,
        });
    }
    print(&text(&report, options))
}

fn text(report: &CheckReport, options: &CheckOptions) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let units = format!("{}, {} of them live", report.units, report.live_units);
    let network = pairs(&[
        ("units", units),
        ("rows", report.rows.to_string()),
        ("error", error(report, options)),
        ("objective", precise(report.objective)),
        ("as a point of the program", precise(report.split_objective)),
        (
            "relative gradient norm",
            small(report.relative_gradient_norm),
        ),
        ("stationary", yes(report.stationary).to_owned()),
        (
            "minimum of its own program",
            yes(report.optimal_for_own_program).to_owned(),
        ),
    ]);
    let heads = [
        "program", "gates", "minimum", "rel. gap", "neurons", "excess",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.push(row("its own patterns", &report.own_program));
    if let Some(larger) = &report.larger_program {
        rows.push(row("more patterns", larger));
    }
    format!("{network}\n{}", columns(&rows, &[1, 2, 3, 4, 5]))
}

fn error(report: &CheckReport, options: &CheckOptions) -> String {
    let error = summary::error(report.error, report.task);
    let target = &options.target;
    match (report.task, options.raw) {
        (Task::Classification, _) => format!("{error} of the rows classified wrongly"),
        (Task::Regression, true) => format!("{error}, root mean square, in units of {target}"),
        (Task::Regression, false) => {
            format!("{error}, root mean square, in training deviations of {target}")
        }
    }
}

fn row(name: &str, optimum: &Optimum) -> Vec<String> {
    vec![
        name.to_owned(),
        summary::gates(optimum.gates, optimum.exhaustive),
        precise(optimum.certificate.objective),
        small(optimum.certificate.relative_duality_gap),
        optimum.neurons.to_string(),
        excess(optimum.excess),
    ]
}

/// A share of the minimum; below a tenth of a percent in powers of ten.
fn excess(share: f64) -> String {
    if share.abs() < 1e-3 {
        small(share)
    } else {
        percent(Some(share))
    }
}
