//! A network on a table in words.

use std::path::Path;

use anyhow::Result;
use convextune::convexnet::table::Encoder;
use convextune::convexnet::{Bias, NetHeader, NetModel, NetReport, Task};
use convextune_solve::Status;
use convextune_solve::gated::{Activation, GapCertificate, Loss, Penalty};

use crate::output::{print, print_json};
use crate::table::{number, pairs, percent, precise, small};

/// Classes that a table names.
const NAMED: usize = 10;

/// `convextune info` on a network.
pub fn info(path: &Path, json: bool) -> Result<()> {
    let model = NetModel::load(path)?;
    let header = &model.header;
    if json {
        return print_json(header);
    }
    let mut rows = vec![
        ("model", path.display().to_string()),
        ("format version", header.format_version.to_string()),
    ];
    rows.extend(self::rows(header));
    rows.push(("seed", header.options.seed.to_string()));
    rows.push(("features", header.encoder.feature_names().join(", ")));
    print(&pairs(&rows))
}

/// The rows of the table that `nn fit` and `info` print.
pub fn rows(header: &NetHeader) -> Vec<(&'static str, String)> {
    let (encoder, report, task) = (&header.encoder, &header.report, header.encoder.task());
    let classes = encoder.classes();
    let target = match task {
        Task::Regression => format!("{}, a number", encoder.target()),
        Task::Classification => format!("{}, one of {}", encoder.target(), named(classes)),
    };
    let mut rows = vec![
        ("target", target),
        ("program", program(header)),
        ("training rows", report.train_rows.to_string()),
        ("lambda", lambda(header)),
    ];
    rows.extend(certificate(&report.certificate));
    rows.extend([
        ("gates", gates(report.gates, report.exhaustive)),
        ("neurons used", report.neurons.to_string()),
        ("training error", error(report.train_error, task)),
        ("test error", tested(report, task)),
        ("errors are", measure(encoder)),
        (
            "status",
            format!(
                "{}, {} iterations",
                status(report.status),
                report.iterations
            ),
        ),
        ("seconds", number(report.seconds)),
    ]);
    rows
}

/// The rows of a certificate.
pub fn certificate(certificate: &GapCertificate) -> [(&'static str, String); 4] {
    [
        ("objective", precise(certificate.objective)),
        ("dual value", precise(certificate.dual_value)),
        (
            "relative duality gap",
            small(certificate.relative_duality_gap),
        ),
        (
            "constraint violation",
            small(certificate.constraint_violation),
        ),
    ]
}

/// A number of gates.
pub fn gates(count: usize, exhaustive: bool) -> String {
    let all = if exhaustive { ", all there are" } else { "" };
    format!("{count}{all}")
}

/// A number of what [`measure`] says.
pub fn error(error: f64, task: Task) -> String {
    match task {
        Task::Classification => percent(Some(error)),
        Task::Regression => number(error),
    }
}

/// What errors measure, and their unit.
pub fn measure(encoder: &Encoder) -> String {
    match encoder.task() {
        Task::Classification => "share of rows classified wrongly".to_owned(),
        Task::Regression => format!(
            "root mean square error in training deviations ({}) of {}",
            number(encoder.target_scale().1),
            encoder.target()
        ),
    }
}

/// How a solver ended.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Converged => "converged",
        Status::MaxIterations => "stopped at --max-iterations",
        Status::Interrupted => "was interrupted",
        Status::Stalled => "stalled at the precision of the arithmetic",
        Status::Breakdown => "broke down",
    }
}

fn tested(report: &NetReport, task: Task) -> String {
    match report.test_error {
        Some(e) => format!("{} on {} rows", error(e, task), report.test_rows),
        None => "no test rows".to_owned(),
    }
}

fn lambda(header: &NetHeader) -> String {
    let report = &header.report;
    let source = match header.options.lambda {
        Some(_) => "given",
        None => "by cross validation",
    };
    let zero = report.lambda_max.map_or_else(String::new, |largest| {
        format!("; at {} the network is zero", number(largest))
    });
    format!("{} ({source}{zero})", number(report.lambda))
}

fn program(header: &NetHeader) -> String {
    let options = &header.options;
    let activation = match options.activation {
        Activation::Gated => "gated ReLU",
        Activation::Relu => "ReLU",
    };
    let loss = match options.loss {
        Loss::Squared => "squared loss",
        Loss::CrossEntropy => "cross entropy",
        Loss::SquaredHinge => "squared hinge",
    };
    let penalty = penalty(options.penalty);
    let bias = match options.bias {
        Bias::None => "no bias",
        Bias::Penalized => "penalised biases",
        Bias::Free => "penalised biases, free output biases",
    };
    let linear = if options.linear {
        ", linear neuron"
    } else {
        ""
    };
    format!("{activation}, {loss}, {penalty}, {bias}{linear}")
}

/// A penalty in words.
pub fn penalty(penalty: Penalty) -> &'static str {
    match penalty {
        Penalty::Neuron => "neuron-wise norm",
        Penalty::Feature => "feature-wise norm",
        Penalty::L1 => "l1 norm",
        Penalty::SquaredL2 => "squared l2 norm",
        Penalty::Nuclear => "nuclear norm",
    }
}

fn named(classes: &[String]) -> String {
    let first = classes.iter().take(NAMED).cloned().collect::<Vec<_>>();
    match classes.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
