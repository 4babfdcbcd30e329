//! Arguments of `forget` and `add`.

use std::path::PathBuf;

use clap::Args;

use super::values::bytes;
use super::{ReadArgs, RunArgs};

/// Arguments of `forget`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune forget flowers.safetensors photos/ --samples list.txt \\
      -o smaller.safetensors
  convextune forget flowers.safetensors photos/ --samples list.txt \\
      -o flowers.safetensors --names

list.txt names one training image a line, as `explain` and `rank` print them: its path below FOLDER. \
Empty lines and lines that begin with # do not count. The result is the minimum over the other images, \
with the same Lambda and the same scale of the backbone's weights, proved by a new certificate. \
OUTPUT.removed.json gets the SHA-256 of what was removed. The pictures themselves stay where they are: \
delete them afterwards, or keep them; the model finds its training images either way.")]
pub struct ForgetArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// The folder that it was fitted on, with what is to be forgotten still in it
    pub folder: PathBuf,
    /// A text file with the training images to forget
    #[arg(long, value_name = "FILE")]
    pub samples: PathBuf,
    /// Where to write the smaller model; may be MODEL itself
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Write the names of what was removed into the manifest as well
    #[arg(long)]
    pub names: bool,
    /// Memory for decoded images; what does not fit is read again when needed
    #[arg(long, value_name = "BYTES", default_value = "2GiB", value_parser = bytes)]
    pub cache_memory: usize,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `add`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune add flowers.safetensors more_photos/ -o larger.safetensors
  convextune add flowers.safetensors more_photos/ --photos moved/photos \\
      -o larger.safetensors

more_photos/ holds one folder of images per class; a folder of a new name is a new class. The old \
training images are needed too. The result is the minimum over all of them, with the same Lambda and the \
same scale of the backbone's weights, as a fit from the beginning would find it.")]
pub struct AddArgs {
    /// A model that `convextune fit` wrote
    pub model: PathBuf,
    /// The images to add, one folder per class; all of them are for training
    #[arg(value_name = "MORE_FOLDER")]
    pub folder: PathBuf,
    /// Training images, output, and how to run.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What `add` and `constrain` have in common.
#[derive(Args, Debug)]
pub struct ChangeArgs {
    /// The folder that MODEL was fitted on, if it is no longer where it was
    #[arg(long, value_name = "FOLDER")]
    pub photos: Option<PathBuf>,
    /// Where to write the new model; may be MODEL itself
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}
