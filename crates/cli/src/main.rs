//! The `convextune` command: parse, resolve, run. This file alone knows the exit codes.
//!
//! ```text
//! args ─► plan ─► commands ─► table or JSON on standard output
//!                     └─► progress on standard error
//! ```

mod args;
mod commands;
mod failure;
mod output;
mod plan;
mod progress;
mod table;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Parser;

use args::{Cli, Command};
use failure::{Kind, kind, one_line, parse_error, sentence};

/// The work failed.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    convextune::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Help and version; whoever closes the pipe early has read enough.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&parse_error(&error), USAGE),
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match kind(&error) {
            Kind::Usage => fail(&sentence(&error), USAGE),
            Kind::Work => fail(&sentence(&error), FAILED),
            Kind::ReaderGone => ExitCode::SUCCESS,
        },
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("convextune: error: {}", one_line(message));
    ExitCode::from(code)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Fit(args) => {
            use_threads(args.run.threads)?;
            commands::fit::run(&plan::FitPlan::try_from(*args)?)
        }
        Command::Compare(args) => {
            use_threads(args.run.threads)?;
            commands::compare::run(&plan::ComparePlan::try_from(*args)?)
        }
        Command::Evaluate(args) => {
            use_threads(args.run.threads)?;
            commands::evaluate::run(&args)
        }
        Command::Predict(args) => {
            use_threads(args.run.threads)?;
            commands::predict::run(&args)
        }
        Command::Explain(args) => {
            use_threads(args.run.threads)?;
            commands::explain::run(&args)
        }
        Command::Rank(args) => {
            use_threads(args.run.threads)?;
            commands::rank::run(&args)
        }
        Command::Spectrum(args) => {
            use_threads(args.run.threads)?;
            commands::spectrum::run(&args)
        }
        Command::Tune(args) => {
            use_threads(args.run.threads)?;
            commands::tune::run(&args)
        }
        Command::Forget(args) => {
            use_threads(args.run.threads)?;
            commands::forget::run(&args)
        }
        Command::Add(args) => {
            use_threads(args.change.run.threads)?;
            commands::add::run(&args)
        }
        Command::Constrain(args) => {
            use_threads(args.change.run.threads)?;
            commands::constrain::run(&args)
        }
        Command::Nn { command } => {
            use_threads(command.run_args().threads)?;
            commands::nn::run(command)
        }
        Command::Report(args) => {
            use_threads(args.run.threads)?;
            commands::report::run(&args)
        }
        Command::Info(args) => commands::info::run(&args),
        Command::Backbone { command } => commands::backbone::run(&command),
    }
}

fn use_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else {
        return Ok(());
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global()
        .map_err(|e| anyhow!("cannot start {threads} threads ({e})"))
}
