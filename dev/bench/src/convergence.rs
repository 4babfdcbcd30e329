//! Iterations and work of every solver and preconditioner on one problem, at one Lambda.

use convextune::finetune::NoCheckpoints;

use crate::study::{Lines, Place, options};

/// Options of `convergence`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to measure.
    #[command(flatten)]
    place: Place,
    /// Options that all solvers share, as a JSON object.
    #[arg(long, default_value = "{}")]
    shared: String,
    /// Solvers to run.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "auto,none,features,sketch:2048,sketch:8192,sketch:32768,kfac,ekfac,dual"
    )]
    solvers: Vec<String>,
}

/// One JSON line a solver. The first one chooses the prior; the others use it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let job = args.place.open()?;
    let mut shared: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&args.shared)?;
    for solver in &args.solvers {
        let mut given = shared.clone();
        let (name, size) = solver.split_once(':').unwrap_or((solver, ""));
        if name == "dual" {
            given.insert("solver".into(), "dual".into());
        } else if name != "auto" {
            given.insert("solver".into(), "pcg".into());
            given.insert("precondition".into(), name.into());
        }
        if let Ok(size) = size.parse::<usize>() {
            given.insert("sketch_size".into(), size.into());
        }
        let options = options(&serde_json::to_string(&given)?)?;
        let model = job.fit(&options, &mut NoCheckpoints, &Lines)?;
        let report = &model.header.report;
        println!(
            "{}",
            serde_json::json!({
                "folder": args.place.folder, "solver": solver, "lambda": report.lambda_total,
                "iterations": report.iterations, "preconditioner_cost": report.preconditioner_cost,
                "relative_gradient_norm": report.relative_gradient_norm,
                "bound": report.suboptimality_bound_relative, "objective": report.objective,
                "test_error": report.test_error, "seconds": report.seconds,
                "solver_work": report.solver_work, "status": report.status,
                "kernel_mean_diagonal": report.kernel_mean_diagonal,
                "backbone_scale": report.backbone_scale, "share": report.backbone_share,
                "prior_cost": report.prior_cost, "plan": report.plan,
            })
        );
        shared.insert(
            "weight_decay".into(),
            serde_json::json!({ "total": report.lambda_total }),
        );
        shared.insert(
            "backbone_weight".into(),
            serde_json::json!({ "scale": report.backbone_scale }),
        );
    }
    Ok(())
}
