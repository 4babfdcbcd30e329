//! Measurements that are run by hand. See `dev/bench/README.md`.

mod approximate;
mod convergence;
mod dual;
mod engine;
mod gated;
mod gradients;
mod influence;
mod layers;
mod study;

use clap::{Parser, Subcommand};

/// Measurements of convextune; results go to standard output as JSON lines.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Passes of a backbone: images per second.
    Engine(engine::Args),
    /// Solvers and preconditioners on one problem.
    Convergence(convergence::Args),
    /// The dual kernel, its sketch and a product with J'J: seconds and memory.
    Dual(dual::Args),
    /// A gated program, from `.npy` files: seconds to a duality gap.
    Gated(gated::Args),
    /// Features and sketched gradients, for experiments.
    Gradients(gradients::Args),
    /// Leaving out, label errors and dropped images against true fits.
    Influence(influence::Args),
    /// Test error over options.
    Study(study::Args),
}

fn main() -> anyhow::Result<()> {
    convextune::keep_freed_memory();
    match Args::parse().what {
        What::Engine(args) => engine::run(&args),
        What::Convergence(args) => convergence::run(&args),
        What::Dual(args) => dual::run(&args),
        What::Gated(args) => gated::run(&args),
        What::Gradients(args) => gradients::run(&args),
        What::Influence(args) => influence::run(&args),
        What::Study(args) => study::run(&args),
    }
}
