//! `convextune spectrum`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use convextune::finetune::{PreconditionerChoice, System};
use convextune::job::{Job, Reopen};
use convextune::model_file::Model;
use convextune::progress::Reporter;
use convextune::spectrum::{
    Ends, Preconditioned, SpectrumMethod, SpectrumOptions, SpectrumReport, spectrum,
};
use convextune_solve::lanczos::{Bin, Eigenvalue};
use serde::Serialize;

use crate::args::curvature::SpectrumArgs;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::{columns, number, pairs, small};

/// Characters of the longest bar of the histogram.
const BAR: f64 = 40.0;

/// The JSON object of `spectrum --json`.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    #[serde(flatten)]
    report: &'a SpectrumReport,
}

/// Finds the eigenvalues and shows them.
pub fn run(args: &SpectrumArgs) -> Result<()> {
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = Model::load(&args.model)?;
    let job = Job::of_model(
        &model,
        &Reopen {
            folder: args.folder.clone(),
            test: None,
            cache_memory: args.read.cache_memory,
            skip_unreadable: args.read.skip_unreadable,
        },
        &reporter,
    )?;
    let options = SpectrumOptions {
        eigenvalues: args.eigenvalues,
        method: args.method,
        precondition: args.precondition,
    };
    let report = spectrum(&model, &job, &options, &reporter)?;
    reporter.finish();
    let ends = report
        .preconditioned
        .iter()
        .flat_map(|p| [p.before, p.after]);
    if !report.converged || ends.into_iter().any(|ends| !ends.converged) {
        reporter.note(
            "not every eigenvalue met the tolerance; the bounds say how far each can be from one",
        );
    }
    if args.run.json {
        let model = &args.model;
        return print_json(&Outcome {
            model,
            report: &report,
        });
    }
    print(&text(&report))
}

fn text(report: &SpectrumReport) -> String {
    let method = match report.method {
        SpectrumMethod::Exact => "exact, from the kernel",
        SpectrumMethod::Lanczos | SpectrumMethod::Auto => "Lanczos, from products",
    };
    let condition = match report.method {
        SpectrumMethod::Exact => number(report.condition_number),
        SpectrumMethod::Lanczos | SpectrumMethod::Auto => {
            format!("at least {}", number(report.condition_number))
        }
    };
    let mut rows = vec![
        ("method", method.to_owned()),
        ("weights", report.weights.to_string()),
        ("lambda", number(report.lambda)),
        ("condition number", condition),
    ];
    if let Some(p) = &report.preconditioned {
        rows.extend(preconditioned(p));
    }
    rows.push(("passes over the data", number(report.passes)));
    let mut text = pairs(&rows);
    let times = match report.multiplicity {
        1 => String::new(),
        copies => format!(" ({copies} times each)"),
    };
    let head = [format!("eigenvalue{times}"), "within".to_owned()];
    let mut rows = vec![head.to_vec()];
    let row = |e: &Eigenvalue| vec![number(e.value), small(e.residual_bound)];
    rows.extend(report.eigenvalues.iter().map(row));
    let _ = write!(text, "\n{}", columns(&rows, &[0, 1]));
    let _ = write!(text, "\n{}", histogram(&report.density));
    let _ = writeln!(
        text,
        "and {} eigenvalues equal to lambda, which no training image tells apart",
        report.at_lambda
    );
    text
}

fn preconditioned(p: &Preconditioned) -> [(&'static str, String); 2] {
    let system = match p.system {
        System::Primal => "of the weights",
        System::Dual => "of the outputs",
    };
    let name = match p.precondition {
        PreconditionerChoice::Features => "features",
        PreconditionerChoice::Sketch => "sketch",
        PreconditionerChoice::Kfac => "K-FAC",
        PreconditionerChoice::Ekfac => "EKFAC",
        PreconditionerChoice::Auto | PreconditionerChoice::None => "nothing",
    };
    [
        (
            "system solved",
            format!("{system}, condition number {}", condition(&p.before)),
        ),
        (
            "preconditioned",
            format!("with {name}, condition number {}", condition(&p.after)),
        ),
    ]
}

/// A quotient of Ritz values is a lower bound; how far each is from an eigenvalue says how good it is.
fn condition(ends: &Ends) -> String {
    let end = |e: &Eigenvalue| format!("{} within {}", number(e.value), small(e.residual_bound));
    format!(
        "at least {} (largest {}, smallest {})",
        number(ends.condition_number()),
        end(&ends.largest),
        end(&ends.smallest)
    )
}

/// A line a bin: its ends, how many eigenvalues, and a bar.
fn histogram(bins: &[Bin]) -> String {
    let most = bins.iter().fold(0.0f64, |sum, bin| sum.max(bin.count));
    let head = ["from", "to", "eigenvalues", ""].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(bins.iter().map(|bin| {
        let error = match bin.standard_error {
            Some(error) if error > 0.0 => format!(" +- {error:.1}"),
            _ => String::new(),
        };
        let bar = "#".repeat((BAR * bin.count / most.max(1e-9)).round() as usize);
        let count = format!("{:.*}{error}", usize::from(!error.is_empty()), bin.count);
        vec![number(bin.from), number(bin.to), count, bar]
    }));
    columns(&rows, &[0, 1, 2])
}
