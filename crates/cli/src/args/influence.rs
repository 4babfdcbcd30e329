//! Arguments of `explain` and `rank`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::count;
use super::{ReadArgs, RunArgs};

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune explain flowers.safetensors new/one.jpg
  convextune explain flowers.safetensors new/one.jpg --class tulip --top 5
  convextune explain flowers.safetensors new/*.jpg --photos moved/photos --json
  convextune explain many.safetensors new/one.jpg --fast=ekfac
  convextune explain flowers.safetensors --without list.txt
  convextune explain flowers.safetensors new/*.jpg --without list.txt --json

For every picture the training images that pushed the score of the predicted class up, and those that \
pushed it down. An effect is the score less the score that the model has when it is fitted without \
that image: exact, not an estimate, unless you ask for --fast. The model must be of the methods lqf or \
lqf-fc.

With --without, what a whole group of training images did: to the weights, to the scores and predictions, \
and to the error on the images that the fit held out. `convextune forget` makes the model without them.

With more training images than the fit formed a kernel of (12,000 or what memory holds, fewer where \
classes share the weights), with --keep-f0 and with --fast, effects are computed for four times as many \
images as are shown, those whose weight and residual are largest.")]
pub struct ExplainArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// Images, or folders of images; with --without they may be left out: those that the fit held out
    #[arg(required_unless_present = "without", value_name = "PHOTO")]
    pub images: Vec<PathBuf>,
    /// What the training images that this text file names did together: one a line, as `explain` and
    /// `rank` print them
    #[arg(long, value_name = "LIST", conflicts_with_all = ["class", "fast"])]
    pub without: Option<PathBuf>,
    /// The folder that the model was fitted on, if it is no longer where it was
    #[arg(long, value_name = "FOLDER")]
    pub photos: Option<PathBuf>,
    /// How many training images to show in each direction; with --without, how many photos
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = count::<100_000>)]
    pub top: usize,
    /// The class whose score to explain [default: the predicted one]
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// Approximate effects, for many thousand training images: by ten iterations of conjugate gradients, or by the
    /// curvature alone; the residual says how roughly
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "iterations")]
    pub fast: Option<Fast>,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// How to approximate effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fast {
    /// Ten iterations of conjugate gradients
    Iterations,
    /// The inverse curvature by K-FAC
    Kfac,
    /// The inverse curvature by EKFAC
    Ekfac,
}

/// What to order images by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Mean square of the change of the held-out images' scores if the image were absent (F-SI)
    Informativeness,
    /// Square of the error that the model fitted without the image makes at it
    LeaveOneOut,
    /// How improbable its label is to the model fitted without the image
    Mislabel,
    /// Likeness to the most similar other training image; 1 for the same picture
    Duplicates,
    /// Variance of the scores of images that need no labels: which ones to label next
    Uncertainty,
}

/// Arguments of `rank`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune rank flowers.safetensors photos/ --by mislabel --top 20
  convextune rank flowers.safetensors photos/ --by informativeness --json
  convextune rank flowers.safetensors unlabelled/ --by uncertainty --top 50

FOLDER is the one that the model was fitted on; for `uncertainty` any folder of images. The largest comes \
first. Scores are exact for as many training images as the fit formed a kernel of (12,000 or what memory \
holds, fewer where classes share the weights), and for --method lqf-fc with any number. Beyond that, with \
--keep-f0 and with --fast the gradients of the pictures are made short (a sketch), and scores are \
approximate; how rough is printed.")]
pub struct RankArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// The folder that the model was fitted on; for `uncertainty` the images to order
    pub folder: PathBuf,
    /// What to order by
    #[arg(long, value_name = "SCORE")]
    pub by: By,
    /// Show the first K only [default: all]
    #[arg(long, value_name = "K", value_parser = count::<1_000_000_000>)]
    pub top: Option<usize>,
    /// Approximate scores by sketched gradients, for many thousand training images
    #[arg(long)]
    pub fast: bool,
    /// For `uncertainty`: the folder that the model was fitted on, if it is no longer where it was
    #[arg(long, value_name = "FOLDER")]
    pub photos: Option<PathBuf>,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}
