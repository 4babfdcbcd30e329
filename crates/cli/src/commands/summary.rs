//! A fit in words.

use convextune::finetune::{LambdaSource, Method, Plan, PreconditionerChoice, SolverChoice};
use convextune::report::FitReport;
use convextune_model::images::SplitOrigin;
use convextune_solve::Status;

use crate::table::{bytes, number, percent, small};

/// The rows of the table that `fit` and `info` print.
pub fn rows(report: &FitReport) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("method", method(report.method).to_owned()),
        (
            "backbone",
            format!("{}, {} pixels", report.backbone, report.image_size),
        ),
        (
            "training images",
            format!("{} in {} classes", report.train_samples, report.classes),
        ),
        ("training error", percent(Some(report.train_error))),
    ];
    let tested = match report.test_error {
        Some(_) => format!("{} of {}", percent(report.test_error), report.test_samples),
        None => "no test images".to_owned(),
    };
    rows.push(("test error", tested));
    if report.leave_one_out_error.is_some() {
        rows.push(("leave-one-out error", percent(report.leave_one_out_error)));
    }
    let lambda = format!(
        "{} ({}; {} per sample)",
        number(report.lambda_total),
        source(report.lambda_source),
        number(report.weight_decay)
    );
    rows.extend([
        ("objective", number(report.objective)),
        (
            "relative gradient norm",
            small(report.relative_gradient_norm),
        ),
        (
            "suboptimality bound",
            format!("{} relative", small(report.suboptimality_bound_relative)),
        ),
        ("status", status(report.status).to_owned()),
        ("lambda", lambda),
    ]);
    if let Some(p) = &report.plan {
        rows.push((
            "solver",
            format!("{}, {} iterations", plan(p), report.iterations),
        ));
    }
    rows.extend([
        ("passes over the data", number(report.passes)),
        ("JVPs / VJPs", format!("{} / {}", report.jvps, report.vjps)),
        ("seconds", number(report.seconds)),
        ("peak memory", bytes(report.peak_memory_bytes)),
    ]);
    if !report.skipped.is_empty() {
        rows.push(("images left out", report.skipped.len().to_string()));
    }
    rows
}

/// A method's name on the command line.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::Lqf => "lqf",
        Method::LqfFc => "lqf-fc",
        Method::Fc => "fc",
    }
}

/// How training and test images were told apart.
pub fn split(origin: &SplitOrigin) -> String {
    match origin {
        SplitOrigin::Folders { held_out, .. } => format!("train/ and {held_out}/"),
        SplitOrigin::Seeded { fraction, seed } => {
            format!(
                "{} of every class held out, seed {seed}",
                percent(Some(*fraction))
            )
        }
        SplitOrigin::Nothing => "all images of the folder for training".to_owned(),
    }
}

/// How a solver ended.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Converged => "converged",
        Status::MaxIterations => "stopped at --max-passes",
        Status::Interrupted => "interrupted",
        Status::Stalled => "stalled at the precision of the network",
        Status::Breakdown => "broke down",
    }
}

fn source(source: LambdaSource) -> &'static str {
    match source {
        LambdaSource::Given => "given",
        LambdaSource::LeaveOneOut => "by leave-one-out",
        LambdaSource::HeadLeaveOneOut => "by leave-one-out of the head",
        LambdaSource::CrossValidation => "by cross validation",
        LambdaSource::Validation => "by held-out images",
        LambdaSource::Checkpoint => "from the checkpoint",
    }
}

fn plan(plan: &Plan) -> String {
    let k = plan.sketch_size;
    match (plan.solver, plan.precondition) {
        (SolverChoice::Dual, _) => "dual kernel, closed form".to_owned(),
        (_, PreconditionerChoice::Sketch) => format!("conjugate gradients, sketch of {k}"),
        (_, PreconditionerChoice::Features) => "conjugate gradients, features".to_owned(),
        (_, PreconditionerChoice::Kfac) => "conjugate gradients, K-FAC".to_owned(),
        (_, PreconditionerChoice::Ekfac) => "conjugate gradients, EKFAC".to_owned(),
        _ => "conjugate gradients, no preconditioner".to_owned(),
    }
}
