//! Arguments of `constrain`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::update::ChangeArgs;
use super::values::not_negative;

/// Arguments of `constrain`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("demands").required(true).multiple(true).args(["images", "right"]), after_help = "\
Examples:
  convextune constrain new.safetensors checked/*.jpg --like old.safetensors \\
      -o both.safetensors
  convextune constrain new.safetensors checked/*.jpg --like old.safetensors \\
      --within 0.05 -o both.safetensors
  convextune constrain flowers.safetensors --right important/ \\
      -o flowers2.safetensors

The best model among those that meet demands on single predictions: pictures keep the class that another \
model gave them, or its scores, or have the class of their folder. It is the minimum of the training \
problem of MODEL under linear constraints, with the same training images, Lambda and scale, proved by \
a duality gap. It cannot be changed further; make demands last.")]
pub struct ConstrainArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// Images, or folders of images, whose predictions must stay as --like has them
    #[arg(value_name = "PHOTO", requires = "like")]
    pub images: Vec<PathBuf>,
    /// The model whose predictions on PHOTO are kept
    #[arg(long, value_name = "OLD", requires = "images")]
    pub like: Option<PathBuf>,
    /// Keep the scores of PHOTO, give or take X (0: exactly), not only the class
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true, requires = "images")]
    pub within: Option<f64>,
    /// A folder with one folder of images per class, which must get their class
    #[arg(long, value_name = "FOLDER")]
    pub right: Option<PathBuf>,
    /// By how much the class must be ahead of every other, in units of the scores
    #[arg(long, value_name = "X", default_value_t = 0.05, value_parser = not_negative, allow_negative_numbers = true)]
    pub margin: f64,
    /// Training images, output, and how to run.
    #[command(flatten)]
    pub change: ChangeArgs,
}
