//! Time to a duality gap on one gated program, from matrices in `.npy` files.

use std::path::{Path, PathBuf};
use std::time::Instant;

use convextune::convexnet::table::read_npy;
use convextune_solve::Quiet;
use convextune_solve::gated::{
    Activation, GatedMatrix, Loss, Patterns, Penalty, Problem, SolveOptions, solve,
};

/// Options of `gated`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with X.npy (n x d), Y.npy (n x C) and G.npy (d x P).
    folder: PathBuf,
    /// Penalty.
    #[arg(long)]
    lambda: f64,
    /// `gated` or `relu`.
    #[arg(long, default_value = "gated")]
    activation: String,
    /// Relative duality gap.
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// How often to solve it.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
}

fn read(folder: &Path, name: &str) -> anyhow::Result<convextune_solve::faer::Mat<f64>> {
    Ok(read_npy(&folder.join(name))?)
}

/// One JSON line.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (x, y, g) = (
        read(&args.folder, "X.npy")?,
        read(&args.folder, "Y.npy")?,
        read(&args.folder, "G.npy")?,
    );
    let activation = match args.activation.as_str() {
        "gated" => Activation::Gated,
        "relu" => Activation::Relu,
        other => anyhow::bail!("no activation `{other}`"),
    };
    let options = SolveOptions {
        tolerance: args.tolerance,
        ..SolveOptions::default()
    };
    let mut seconds = Vec::new();
    let mut last = None;
    for _ in 0..args.repeat.max(1) {
        // Everything that depends on the gates is made within the time.
        let start = Instant::now();
        let patterns = Patterns::of(x.as_ref(), g.as_ref());
        let problem = Problem {
            matrix: GatedMatrix::new(x.clone(), patterns),
            targets: y.clone(),
            loss: Loss::Squared,
            penalty: Penalty::Neuron,
            activation,
            lambda: args.lambda,
            linear: None,
            intercept: false,
        };
        let solution = solve(&problem, &options, &[], &mut Quiet)?;
        seconds.push(start.elapsed().as_secs_f64());
        last = Some(solution);
    }
    let Some(solution) = last else { return Ok(()) };
    let certificate = solution.certificate;
    println!(
        "{}",
        serde_json::json!({
            "solver": "convextune", "seconds": seconds, "gates": g.ncols(), "lambda": args.lambda,
            "activation": args.activation, "threads": rayon::current_num_threads(),
            "objective": certificate.objective, "dual_value": certificate.dual_value,
            "relative_duality_gap": certificate.relative_duality_gap,
            "constraint_violation": certificate.constraint_violation,
            "neurons": solution.neurons.len(), "status": solution.status,
        })
    );
    Ok(())
}
