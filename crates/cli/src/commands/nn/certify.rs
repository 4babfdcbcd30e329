//! `convextune nn certify`.

use std::path::Path;

use anyhow::{Result, bail};
use convextune::convexnet::{self, NetModel};
use convextune::progress::Reporter;
use convextune_solve::gated::{Activation, GapCertificate, Penalty, Problem, certify};
use serde::Serialize;

use super::{data, summary};
use crate::args::nn::NetCertifyArgs;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::{columns, pairs, precise, small};

/// Certificates that differ by no more than this share of the objective agree.
const AGREE: f64 = 1e-9;

/// The JSON object of `nn certify --json`.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    table: &'a Path,
    rows: usize,
    lambda: f64,
    gates: usize,
    neurons: usize,
    #[serde(flatten)]
    recomputed: GapCertificate,
    stored: GapCertificate,
    agrees: bool,
    /// Objective of the plain network's training problem, where a theorem says that it is the program's.
    network_objective: Option<f64>,
    /// Largest difference between the outputs of the program and of the plain network.
    output_difference: f64,
}

/// Recomputes a model's certificate.
pub fn run(args: &NetCertifyArgs) -> Result<()> {
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = NetModel::load(&args.model)?;
    let table = data::read(&args.table, &reporter)?;
    model.check_training_rows(&table)?;
    reporter.stage("certificate", 0);
    let problem = convexnet::problem(&model, &table, &model.header.training_rows)?;
    let (network, report) = (&model.network, &model.header.report);
    let recomputed = certify(&problem, &network.neurons, &network.intercept)?;
    let plain = model.plain()?;
    let z = problem.outputs_at(&network.neurons, &network.intercept);
    let outcome = Outcome {
        model: &args.model,
        table: &args.table,
        rows: problem.matrix.samples(),
        lambda: report.lambda,
        gates: report.gates,
        neurons: report.neurons,
        recomputed,
        stored: report.certificate,
        agrees: agree(&recomputed, &report.certificate),
        network_objective: is_equivalent(&problem)
            .then(|| NetModel::nonconvex_objective(&problem, &plain)),
        output_difference: (plain.predict(problem.matrix.x()) - z).norm_max(),
    };
    reporter.finish();
    if args.run.json {
        print_json(&outcome)?;
    } else {
        print(&text(&outcome))?;
    }
    if !outcome.agrees {
        bail!(
            "{}: its objective on {} is {}, not {} as stored in the model; give the table of the fit",
            args.model.display(),
            args.table.display(),
            precise(recomputed.objective),
            precise(report.certificate.objective)
        );
    }
    Ok(())
}

/// Whether the program is the training problem of a network with weight decay.
pub fn is_equivalent(problem: &Problem) -> bool {
    match problem.penalty {
        Penalty::Neuron => true,
        Penalty::Nuclear => problem.activation == Activation::Gated,
        Penalty::Feature | Penalty::L1 | Penalty::SquaredL2 => false,
    }
}

fn agree(a: &GapCertificate, b: &GapCertificate) -> bool {
    let close = |x: f64, y: f64| (x - y).abs() <= AGREE * b.objective.abs();
    close(a.objective, b.objective)
        && close(a.dual_value, b.dual_value)
        && (a.constraint_violation - b.constraint_violation).abs() <= AGREE
}

fn text(outcome: &Outcome<'_>) -> String {
    let mut rows = vec![["", "recomputed", "stored"].map(str::to_owned).to_vec()];
    let both = summary::certificate(&outcome.recomputed)
        .into_iter()
        .zip(summary::certificate(&outcome.stored));
    rows.extend(both.map(|((name, now), (_, then))| vec![name.to_owned(), now, then]));
    let mut more = vec![("rows", outcome.rows.to_string())];
    if let Some(objective) = outcome.network_objective {
        more.push(("objective as a plain network", precise(objective)));
    }
    more.push((
        "largest difference of outputs",
        small(outcome.output_difference),
    ));
    format!("{}\n{}", columns(&rows, &[]), pairs(&more))
}
