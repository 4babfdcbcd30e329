//! Time to a duality gap on one gated program, from matrices in `.npy` files.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use convextune::convexnet::table::read_npy;
use convextune::report::peak_memory;
use convextune_solve::gated::{
    Activation, GatedMatrix, Loss, Patterns, Penalty, Problem, SolveOptions, lambda_max, solve,
};
use convextune_solve::{Observer, Progress};

/// Options of `gated`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with X.npy (n x d), Y.npy (n x C) and G.npy (d x P).
    folder: PathBuf,
    /// Penalty.
    #[arg(long, required_unless_present = "lambda_of_max")]
    lambda: Option<f64>,
    /// Penalty, as a share of the least at which the network is zero.
    #[arg(long, conflicts_with = "lambda")]
    lambda_of_max: Option<f64>,
    /// `gated` or `relu`.
    #[arg(long, default_value = "gated")]
    activation: String,
    /// Relative duality gap.
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// How often to solve it.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Tell every round on standard error.
    #[arg(long)]
    verbose: bool,
}

/// Tells rounds, if asked to.
struct Rounds(bool, Instant);

impl Observer for Rounds {
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        if self.0 {
            let record = progress.record;
            let (seconds, gap) = (self.1.elapsed().as_secs_f64(), record.relative_residual);
            eprintln!("{seconds:9.1} s  F {:.9}  gap {gap:.2e}", record.objective);
        }
        ControlFlow::Continue(())
    }
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
    let (mut seconds, mut last) = (Vec::new(), None);
    let (mut lambda, mut pass) = (args.lambda.unwrap_or(0.0), None);
    for _ in 0..args.repeat.max(1) {
        // Everything that depends on the gates is made within the time.
        let start = Instant::now();
        let patterns = Patterns::of(x.as_ref(), g.as_ref());
        let mut problem = Problem {
            matrix: GatedMatrix::new(x.clone(), patterns),
            targets: y.clone(),
            loss: Loss::Squared,
            penalty: Penalty::Neuron,
            activation,
            lambda,
            linear: None,
            intercept: false,
        };
        if let Some(share) = args.lambda_of_max {
            // One product with every gate, as in any certificate.
            problem.lambda = 1.0;
            let start = Instant::now();
            lambda = share * lambda_max(&problem)?;
            pass = Some(start.elapsed().as_secs_f64());
            problem.lambda = lambda;
        }
        let mut rounds = Rounds(args.verbose, Instant::now());
        let solution = solve(&problem, &options, &[], &mut rounds)?;
        seconds.push(start.elapsed().as_secs_f64());
        last = Some(solution);
    }
    let Some(solution) = last else { return Ok(()) };
    let certificate = solution.certificate;
    println!(
        "{}",
        serde_json::json!({
            "solver": "convextune", "seconds": seconds, "gates": g.ncols(), "lambda": lambda,
            "activation": args.activation, "threads": rayon::current_num_threads(),
            "objective": certificate.objective, "dual_value": certificate.dual_value,
            "relative_duality_gap": certificate.relative_duality_gap,
            "constraint_violation": certificate.constraint_violation,
            "neurons": solution.neurons.len(), "status": solution.status,
            "iterations": solution.iterations, "pass_seconds": pass,
            "peak_memory_mib": peak_memory().map(|bytes| bytes as f64 / 1_048_576.0),
        })
    );
    Ok(())
}
