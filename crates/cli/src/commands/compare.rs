//! `convextune compare`.

use anyhow::Result;
use convextune::finetune::NoCheckpoints;
use convextune::job::Job;
use convextune::report::FitReport;

use super::summary;
use crate::output::{print, print_json};
use crate::plan::ComparePlan;
use crate::progress::Terminal;
use crate::table::{columns, number, percent, small};

/// Fits every method to the same data.
pub fn run(plan: &ComparePlan) -> Result<()> {
    let tolerance = plan.fits.first().map_or(1e-3, |options| options.tolerance);
    let reporter = Terminal::new(plan.run.quiet, tolerance);
    let job = Job::open(&plan.job, &reporter)?;
    let mut reports = Vec::new();
    for options in &plan.fits {
        reporter.set_prefix(summary::method(options.method));
        reports.push(
            job.fit(options, &mut NoCheckpoints, &reporter)?
                .header
                .report,
        );
    }
    reporter.finish();
    if plan.run.json {
        print_json(&reports)
    } else {
        print(&table(&reports))
    }
}

fn table(reports: &[FitReport]) -> String {
    let heads = [
        "method",
        "test error",
        "training error",
        "objective",
        "rel. gradient",
        "rel. bound",
        "passes",
        "seconds",
        "lambda",
        "status",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(reports.iter().map(|r| {
        vec![
            summary::method(r.method).to_owned(),
            percent(r.test_error),
            percent(Some(r.train_error)),
            number(r.objective),
            small(r.relative_gradient_norm),
            small(r.suboptimality_bound_relative),
            number(r.passes),
            number(r.seconds),
            number(r.lambda_total),
            summary::status(r.status).to_owned(),
        ]
    }));
    columns(&rows, &[1, 2, 3, 4, 5, 6, 7, 8])
}
