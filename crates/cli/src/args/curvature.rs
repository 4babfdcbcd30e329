//! Arguments of `spectrum` and `tune`: what the Hessian of a model's training problem says.

use std::path::PathBuf;

use clap::Args;
use convextune::finetune::PreconditionerChoice;
use convextune::spectrum::SpectrumMethod;
use convextune::tune::Criterion;

use super::values::{choice, count};
use super::{ReadArgs, RunArgs};

const METHODS: &[&str] = &["auto", "exact", "lanczos"];
const PRECONDITIONERS: &[&str] = &["auto", "features", "sketch", "kfac", "ekfac", "none"];
const CRITERIA: &[&str] = &["leave-one-out", "validation"];

/// Arguments of `spectrum`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune spectrum flowers.safetensors photos/
  convextune spectrum flowers.safetensors photos/ --precondition kfac --json

Every eigenvalue is printed with a bound: an eigenvalue of the Hessian lies within it. The model must be \
of the methods lqf or lqf-fc, and FOLDER must hold the images it was fitted on.")]
pub struct SpectrumArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// The folder that the model was fitted on
    pub folder: PathBuf,
    /// How many of the largest eigenvalues to show
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = count::<1000>)]
    pub eigenvalues: usize,
    /// exact: all, from the kernel; lanczos: the largest, from products with the Jacobian; auto: exact
    /// where the fit would form the kernel
    #[arg(long, default_value = "auto", value_parser = choice::<SpectrumMethod>(METHODS))]
    pub method: SpectrumMethod,
    /// The preconditioner to judge; auto: that of the fit, or the features' after a closed form
    #[arg(long, default_value = "auto", value_parser = choice::<PreconditionerChoice>(PRECONDITIONERS))]
    pub precondition: PreconditionerChoice,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `tune`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune tune flowers.safetensors photos/ --weight-decay \\
      -o better.safetensors
  convextune tune flowers.safetensors photos/ --weight-decay --by validation \\
      --json

The weight decay at which the exact leave-one-out error, or the error on held-out images, has slope zero; \
the other options of the fit stay. With -o the model is fitted again there.")]
pub struct TuneArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// The folder that the model was fitted on
    pub folder: PathBuf,
    /// Tune the weight decay
    #[arg(long, required = true)]
    pub weight_decay: bool,
    /// What to make small: the squared leave-one-out residual of the training images, or the squared
    /// residual of held-out images
    #[arg(long, default_value = "leave-one-out", value_parser = choice::<Criterion>(CRITERIA))]
    pub by: Criterion,
    /// Held-out images, if not those of the fit: a folder of class folders
    #[arg(long, value_name = "FOLDER")]
    pub test: Option<PathBuf>,
    /// Where to write the model fitted again; without it the search is only reported
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}
