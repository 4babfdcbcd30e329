//! `convextune nn export`.

use std::path::Path;

use anyhow::Result;
use convextune::convexnet::export::{Format, write};
use convextune::convexnet::prune::prune;
use convextune::convexnet::recovery::PlainNetwork;
use convextune::convexnet::{self, Bias, NetModel};
use convextune::progress::Reporter;
use convextune_solve::gated::Penalty;
use serde::Serialize;

use super::certify::is_equivalent;
use super::data;
use crate::args::nn::NetExportArgs;
use crate::failure::wrong_usage;
use crate::output::{check_writable, print, print_json};
use crate::progress::Terminal;
use crate::table::{pairs, precise, small};

/// The JSON object of `nn export --json`.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    file: &'a Path,
    format: &'static str,
    /// Hidden units written.
    units: usize,
    pruned: Option<Pruned>,
}

/// What pruning did.
#[derive(Clone, Copy, Serialize)]
struct Pruned {
    units_before: usize,
    /// Largest change of an output on the training rows.
    output_difference: f64,
    /// Of the plain network's training problem, where it is the program's.
    objective_before: Option<f64>,
    objective: Option<f64>,
}

/// Writes a model as a plain network.
pub fn run(args: &NetExportArgs) -> Result<()> {
    let Some(format) = Format::of(&args.output) else {
        return Err(wrong_usage(format!(
            "{}: the name of the file to write must end in .onnx or .safetensors",
            args.output.display()
        )));
    };
    check_writable(&args.output)?;
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = NetModel::load(&args.model)?;
    let mut network = model.plain()?;
    let mut pruned = None;
    if let Some(table) = &args.prune {
        let (smaller, what) = prune_on(&model, &network, table, &reporter)?;
        (network, pruned) = (smaller, Some(what));
    }
    write(&model, &network, format, &args.output)?;
    reporter.finish();
    let outcome = Outcome {
        model: &args.model,
        file: &args.output,
        format: match format {
            Format::Onnx => "onnx",
            Format::Safetensors => "safetensors",
        },
        units: network.units.len(),
        pruned,
    };
    if args.run.json {
        print_json(&outcome)
    } else {
        print(&text(&outcome))
    }
}

/// The network without the units that the training rows do not need.
fn prune_on(
    model: &NetModel,
    network: &PlainNetwork,
    table: &Path,
    reporter: &dyn Reporter,
) -> Result<(PlainNetwork, Pruned)> {
    if model.header.options.penalty == Penalty::SquaredL2 {
        let text = "--prune: with the squared norm the minimum is unique and uses every unit; export it whole, or \
                    fit with --penalty neuron, which needs few";
        return Err(wrong_usage(text.into()));
    }
    let table = data::read(table, reporter)?;
    model.check_training_rows(&table)?;
    let problem = convexnet::problem(model, &table, &model.header.training_rows)?;
    reporter.stage("pruning", 0);
    let x = problem.matrix.x();
    let smaller = prune(network, x, model.header.options.bias == Bias::Free);
    let objective = |network: &PlainNetwork| {
        is_equivalent(&problem).then(|| NetModel::nonconvex_objective(&problem, network))
    };
    let what = Pruned {
        units_before: network.units.len(),
        output_difference: (network.predict(x) - smaller.predict(x)).norm_max(),
        objective_before: objective(network),
        objective: objective(&smaller),
    };
    Ok((smaller, what))
}

fn text(outcome: &Outcome<'_>) -> String {
    let mut rows = vec![
        ("network", outcome.file.display().to_string()),
        ("format", outcome.format.to_owned()),
    ];
    match outcome.pruned {
        None => rows.push(("units", outcome.units.to_string())),
        Some(pruned) => {
            let units = format!("{} of {}", outcome.units, pruned.units_before);
            rows.push(("units", units));
            rows.push((
                "largest change of an output",
                small(pruned.output_difference),
            ));
            if let (Some(before), Some(after)) = (pruned.objective_before, pruned.objective) {
                let objective = format!("{}, before {}", precise(after), precise(before));
                rows.push(("objective", objective));
            }
        }
    }
    pairs(&rows)
}
