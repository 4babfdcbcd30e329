//! Arguments of `report`.

use std::path::PathBuf;

use clap::Args;

use super::{ReadArgs, RunArgs};

/// Arguments of `report`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune report flowers.safetensors photos/ -o report.html
  convextune report flowers.safetensors photos/ --test more/ -o report.html
  convextune report flowers.safetensors photos/ --json

The page holds everything that it shows, pictures included; it loads nothing and runs no script. What \
each part shows and how it was computed: docs/report.md.")]
pub struct ReportArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// The folder of photos that it was fitted on, as it was then
    pub folder: PathBuf,
    /// The page to write
    #[arg(long, short, value_name = "FILE", required_unless_present = "json")]
    pub output: Option<PathBuf>,
    /// Test on this folder of class folders instead of what the fit held out
    #[arg(long, value_name = "FOLDER")]
    pub test: Option<PathBuf>,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}
