//! A fit in words.

pub use convextune::page::words::{method, split, status};
use convextune::page::words::{plan, source};
use convextune::report::FitReport;

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
        let alone = percent(report.leave_one_out_error);
        let text = match report.leave_one_of_each_out_error {
            Some(error) => {
                let of_each = percent(Some(error));
                format!("{alone} ({of_each} with one image of every other class left out too)")
            }
            None => alone,
        };
        rows.push(("leave-one-out error", text));
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
