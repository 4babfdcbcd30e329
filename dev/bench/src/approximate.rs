//! Influence by products, stopped early or preconditioned by the curvature, against the closed form.

use std::time::Instant;

use convextune::finetune::FitOptions;
use convextune::influence::{Curved, Directions};
use convextune::job::Job;
use convextune::linearize::CurvatureOptions;
use convextune_solve::faer::Mat;
use convextune_solve::quadratic::PcgOptions;
use serde_json::json;

use crate::influence::{Args, correlation, fitted, groups, tested};
use crate::study::Lines;

/// Preconditioner, passes over the data that it takes, iterations at most.
const WAYS: [(&str, usize, usize); 6] = [
    ("kfac", 1, 1),
    ("ekfac", 2, 1),
    ("ekfac", 2, 5),
    ("none", 0, 5),
    ("none", 0, 10),
    ("none", 0, 500),
];

/// One JSON line a way and group.
pub fn approximate(args: &Args, job: &Job, options: &FitOptions) -> anyhow::Result<()> {
    let (test, _) = tested(job)?;
    let asked = args.queries.min(test.len());
    let spread: Vec<usize> = (0..asked).map(|k| k * test.len() / asked).collect();
    let test = &test.pick(&spread)?;
    let (whole, fit, options) = fitted(job, options)?;
    let start = Instant::now();
    let (dual, queries) = whole.posterior(&fit, &options, test)?;
    let exact_seconds = start.elapsed().as_secs_f64();
    for (name, passes, iterations) in WAYS {
        let start = Instant::now();
        let how = (curvature(passes, options.seed), effort(iterations));
        let setting = whole.setting(&fit, &options);
        let curved = Curved::new(&setting, whole.samples()?, dual.residuals(), how, &Lines)?;
        let asked = curved.directions(test, &Lines)?;
        let prepared = start.elapsed().as_secs_f64();
        for group in groups(args, dual.samples()) {
            let exact = dual.change(&queries, &dual.removed(&group)?);
            let own = curved.own_directions(&group, &Lines)?;
            let found = changes(&curved, &group, (&own, &asked))?;
            let first = group[0] * dual.rows();
            println!(
                "{}",
                json!({
                    "what": "approximate", "by": name, "iterations": asked.iterations,
                    "folder": args.place.folder, "overrides": args.fit, "left_out": group.len(),
                    "sample": group[0], "train": dual.samples(), "queries": test.len(),
                    "correlation": correlation(&found, &exact),
                    "relative_error": (&found - &exact).norm_l2() / exact.norm_l2(),
                    "leverage": curved.leverages(&own)[(0, 0)],
                    "true_leverage": 1.0 - dual.lambda() * dual.inverse()[(first, first)],
                    "residual": asked.residuals.iter().sum::<f64>() / asked.residuals.len() as f64,
                    "prepare_seconds": prepared, "exact_seconds": exact_seconds,
                })
            );
        }
    }
    Ok(())
}

fn curvature(passes: usize, seed: u64) -> Option<CurvatureOptions> {
    (passes > 0).then_some(CurvatureOptions {
        probes: 1,
        seed,
        rescale: passes > 1,
    })
}

fn effort(max_iterations: usize) -> PcgOptions {
    PcgOptions {
        tolerance: 1e-3,
        max_iterations,
    }
}

/// Changes of the outputs of all queries, `n x C`.
fn changes(
    curved: &Curved,
    group: &[usize],
    (own, asked): (&Directions, &Directions),
) -> anyhow::Result<Mat<f64>> {
    let left_out = curved.left_out(group, own)?;
    let (weights, q) = (curved.between(own, asked), curved.rows());
    let of = |x: usize| curved.change(&weights.subcols(x * q, q).to_owned(), &left_out);
    let rows: Vec<Vec<f64>> = (0..weights.ncols() / q).map(of).collect();
    Ok(Mat::from_fn(rows.len(), left_out.ncols(), |x, c| {
        rows[x][c]
    }))
}
