//! What may stand on the command line. Parsing is pure: nothing here touches files.

pub mod constrain;
pub mod curvature;
pub mod fit;
pub mod influence;
pub mod nn;
pub mod report;
pub mod update;
pub mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use convextune_model::backbones::Backbone;

use constrain::ConstrainArgs;
use curvature::{SpectrumArgs, TuneArgs};
use fit::{CompareArgs, FitArgs};
use influence::{ExplainArgs, RankArgs};
use nn::NetCommand;
use report::ReportArgs;
use update::{AddArgs, ForgetArgs};
use values::{backbone, bytes, count};

const EXAMPLES: &str = "\
Examples:
  convextune fit photos/ --backbone efficientnet-lite0 -o flowers.safetensors
  convextune evaluate flowers.safetensors photos/test
  convextune predict flowers.safetensors new/*.jpg
  convextune explain flowers.safetensors new/one.jpg
  convextune rank flowers.safetensors photos/ --by mislabel --top 20
  convextune report flowers.safetensors photos/ -o report.html
  convextune forget flowers.safetensors photos/ --samples list.txt \\
      -o smaller.safetensors
  convextune add flowers.safetensors more_photos/ -o larger.safetensors
  convextune constrain new.safetensors checked/ --like old.safetensors \\
      -o both.safetensors
  convextune compare photos/ --backbone efficientnet-lite0
  convextune backbone list
  convextune nn fit data.csv --target class -o model.safetensors

photos/ holds one folder of images per class, or train/ and test/ with one folder per class each.
Exit codes: 0 success, 1 the work failed, 2 wrong usage.";

/// Train networks by convex optimisation, pre-trained ones on photos and two-layer ones on tables:
/// every model is the proven minimum of its training problem.
#[derive(Debug, Parser)]
#[command(name = "convextune", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fit a model to a folder of photos.
    Fit(Box<FitArgs>),
    /// Measure a model on a folder of labelled photos.
    Evaluate(EvaluateArgs),
    /// Name the classes of photos.
    Predict(PredictArgs),
    /// Say which training images made a prediction what it is, and what it would be without each.
    Explain(ExplainArgs),
    /// Order images by what they tell: informative, badly predicted, mislabelled, doubled, unsure.
    Rank(RankArgs),
    /// Take training images out of a model, as if it had never seen them.
    Forget(ForgetArgs),
    /// Add training images to a model, as if it had seen them from the beginning; classes may be new.
    Add(AddArgs),
    /// Make the best model that meets demands on single predictions, such as keeping those of another.
    Constrain(ConstrainArgs),
    /// Show what a model file holds and what was proved about it.
    Info(InfoArgs),
    /// Write one self-contained page about a model and the photos that it was fitted on.
    Report(ReportArgs),
    /// Fit several methods to one folder and print one table.
    Compare(Box<CompareArgs>),
    /// Show the eigenvalues of a model's training problem and what a preconditioner does to them.
    Spectrum(SpectrumArgs),
    /// Choose the weight decay of a model anew, by the gradient of its leave-one-out or held-out error.
    Tune(TuneArgs),
    /// Two-layer networks on tables, trained to their global minimum.
    Nn {
        /// What to do with networks on tables.
        #[command(subcommand)]
        command: NetCommand,
    },
    /// List, fetch and check pre-trained networks.
    Backbone {
        /// What to do with backbones.
        #[command(subcommand)]
        command: BackboneCommand,
    },
}

/// How to run and what to print; for all commands that compute.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Running and printing")]
pub struct RunArgs {
    /// Print JSON on standard output instead of a table
    #[arg(long)]
    pub json: bool,
    /// No progress and no notes on standard error
    #[arg(long, short)]
    pub quiet: bool,
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N", value_parser = count::<1024>)]
    pub threads: Option<usize>,
}

/// How images are read.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Images")]
pub struct ReadArgs {
    /// Memory for decoded images; what does not fit is read again when needed
    #[arg(long, value_name = "BYTES", default_value = "2GiB", value_parser = bytes)]
    pub cache_memory: usize,
    /// Leave out images that cannot be read instead of stopping; they are listed in the report
    #[arg(long)]
    pub skip_unreadable: bool,
}

/// Arguments of `evaluate`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  convextune evaluate flowers.safetensors photos/test --json")]
pub struct EvaluateArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// A folder with one folder of images per class, named as in training
    pub folder: PathBuf,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `predict`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune predict flowers.safetensors new/*.jpg
  convextune predict flowers.safetensors new/ --top 1 --json

One line per image: path, then classes with their scores, best first, between tabs. A score is the \
model's output; with squared loss (lqf, lqf-fc) it aims at 1 for the right class and 0 for the \
others. Scores are not probabilities.")]
pub struct PredictArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// Images, or folders of images
    #[arg(required = true, value_name = "FILE|FOLDER")]
    pub images: Vec<PathBuf>,
    /// How many classes to name for each image
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = count::<100_000>)]
    pub top: usize,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `info`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  convextune info flowers.safetensors")]
pub struct InfoArgs {
    /// A model that `convextune fit` or `convextune nn fit` wrote
    pub model: PathBuf,
    /// Print JSON on standard output instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What to do with backbones.
#[derive(Debug, Subcommand)]
pub enum BackboneCommand {
    /// List the known networks and where their weights are.
    List {
        /// Print JSON on standard output instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Fetch the weights of a network into the cache.
    #[command(after_help = "\
Example:
  convextune backbone pull resnet18

The cache is $CONVEXTUNE_CACHE, else $XDG_CACHE_HOME/convextune, else ~/.cache/convextune.")]
    Pull {
        /// The network
        #[arg(value_name = "NAME", value_parser = backbone)]
        backbone: &'static Backbone,
        /// No progress on standard error
        #[arg(long, short)]
        quiet: bool,
    },
    /// Read a weight file, say what it is, and prove that it works on one grey image.
    #[command(after_help = "\
Example:
  convextune backbone check resnet20-12fca82f.th")]
    Check {
        /// The weight file: safetensors, or a PyTorch state_dict of any age
        file: PathBuf,
        /// The network that it should be [default: found out from the names of its tensors]
        #[arg(long, value_name = "NAME", value_parser = backbone)]
        backbone: Option<&'static Backbone>,
        /// Print JSON on standard output instead of a table
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Lines of text are left to the parser to wrap, which knows the terminal; commands are short enough.
    #[test]
    fn epilogues_are_not_wrapped_twice() {
        let mut commands = vec![Cli::command()];
        let mut epilogues = 0;
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let Some(epilogue) = command.get_after_help().map(ToString::to_string) else {
                continue;
            };
            epilogues += 1;
            for line in epilogue.lines() {
                let good = match line.strip_prefix("  ") {
                    Some(_) => line.len() <= 80,
                    None => line.is_empty() || line.ends_with(['.', ':', '!']),
                };
                assert!(good, "{}: {line:?}", command.get_name());
            }
        }
        assert!(epilogues > 15, "{epilogues}");
    }
}
