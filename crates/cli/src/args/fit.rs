//! Arguments of `fit` and `compare`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::Args;
use convextune::finetune::{FitOptions, HeadInit, Method, PreconditionerChoice, SolverChoice};
use convextune_model::backbones::Backbone;
use convextune_model::images::Holdout;

use super::values::{backbone, bytes, choice, count, fraction, holdout, name_of, positive, slope};
use super::{ReadArgs, RunArgs};

const METHODS: &[&str] = &["lqf", "lqf-fc", "fc"];
const HEADS: &[&str] = &["common", "random", "ridge", "split"];
const SOLVERS: &[&str] = &["auto", "dual", "pcg"];
const PRECONDITIONERS: &[&str] = &["auto", "features", "sketch", "kfac", "ekfac", "none"];

/// The library's defaults, for the help texts.
static DEFAULTS: LazyLock<FitOptions> = LazyLock::new(FitOptions::default);

/// Arguments of `fit`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune fit photos/ --backbone efficientnet-lite0 -o flowers.safetensors
  convextune fit photos/ --weights resnet20-12fca82f.th \\
      --linearize-from layer3 --json
  convextune fit photos/ --backbone resnet18 -o big.safetensors --resume

photos/ holds one folder of images per class (a seeded fifth of every class is then held out for \
testing), or train/ and test/ with one folder per class each. Nothing has to be tuned: the defaults \
are one setting for all data sets, and the weight decay is chosen by leave-one-out.")]
pub struct FitArgs {
    /// The folder of photos
    pub folder: PathBuf,
    /// Where to write the model; without it, the fit is only reported
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Continue an interrupted fit from OUTPUT.checkpoint, if there is one
    #[arg(long, requires = "output")]
    pub resume: bool,
    /// Seconds between two checkpoints
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10,
        requires = "output"
    )]
    pub checkpoint_every: u32,
    /// Keep the kernel of the training images in the model, if the fit forms one: `rank` then needs
    /// no picture decoded, and `forget`, `explain` and `report` one pass less [default: up to
    /// 64 MiB, some 4,000 images]
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, requires = "output",
        default_missing_value = "true"
    )]
    pub keep_kernel: Option<bool>,
    /// lqf: the network, linearised; lqf-fc: the head alone, squared loss; fc: the head
    /// alone, logistic loss
    #[arg(long, default_value = name_of(METHODS, &DEFAULTS.method), value_parser = choice::<Method>(METHODS))]
    pub method: Method,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// The training problem.
    #[command(flatten)]
    pub problem: ProblemArgs,
    /// The solver.
    #[command(flatten)]
    pub solver: SolverArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `compare`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune compare photos/ --backbone efficientnet-lite0
  convextune compare photos/ --backbone efficientnet-lite0 --methods fc,lqf \\
      --json

All methods see the same images, the same split and the same backbone. No model is written.")]
pub struct CompareArgs {
    /// The folder of photos
    pub folder: PathBuf,
    /// Methods to compare, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "fc,lqf-fc,lqf", value_parser = choice::<Method>(METHODS))]
    pub methods: Vec<Method>,
    /// The backbone.
    #[command(flatten)]
    pub backbone: BackboneArgs,
    /// The data.
    #[command(flatten)]
    pub data: DataArgs,
    /// How images are read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// The training problem.
    #[command(flatten)]
    pub problem: ProblemArgs,
    /// The solver.
    #[command(flatten)]
    pub solver: SolverArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The backbone.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
#[command(next_help_heading = "Backbone")]
pub struct BackboneArgs {
    /// The pre-trained network (`convextune backbone list`); its weights come from the cache
    #[arg(long, value_name = "NAME", value_parser = backbone)]
    pub backbone: Option<&'static Backbone>,
    /// A weight file to use instead; says by itself which network it is, if that is known
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
}

/// The data.
#[derive(Args, Debug)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// Side of the network's input in pixels [default: the backbone's own]
    #[arg(long, value_name = "PIXELS", value_parser = count::<4096>)]
    pub image_size: Option<usize>,
    /// Share of every class to hold out of a plain folder, or `none` [default: 0.2]
    #[arg(long, value_name = "FRACTION", value_parser = holdout, conflicts_with = "test")]
    pub holdout: Option<Holdout>,
    /// Test on this folder of class folders; the whole data folder is then for training
    #[arg(long, value_name = "FOLDER")]
    pub test: Option<PathBuf>,
    /// Images in one batch
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.batch, value_parser = count::<4096>)]
    pub batch: usize,
    /// Memory for the activations of one pass, such as 500MiB: fewer images in a batch where needed
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<usize>,
    /// Seed of the split, the head, the sketch and the probes
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.seed)]
    pub seed: u64,
}

/// The training problem.
#[derive(Args, Debug)]
#[command(next_help_heading = "Training problem")]
pub struct ProblemArgs {
    /// Weight decay per sample, lambda [default: chosen by leave-one-out]
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true, conflicts_with = "lambda_total")]
    pub weight_decay: Option<f64>,
    /// Total weight decay, Lambda = samples x lambda
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true)]
    pub lambda_total: Option<f64>,
    /// Train only from this node on: any beginning of a node's name, such as `layer3` [default: the
    /// last layer before the head with `--head-init common`, otherwise the whole network]
    #[arg(long, value_name = "NODE")]
    pub linearize_from: Option<String>,
    /// The head at which the network is linearised; with `common` every class has a copy of the
    /// trained weights, with the others they share one
    #[arg(long, default_value = name_of(HEADS, &DEFAULTS.head_init), value_parser = choice::<HeadInit>(HEADS))]
    pub head_init: HeadInit,
    /// Weight of the backbone's kernel against the head's [default: chosen by leave-one-out]
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true, conflicts_with = "backbone_scale")]
    pub backbone_share: Option<f64>,
    /// The same as the prior's scale of the backbone's weights in units of the head's
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true)]
    pub backbone_scale: Option<f64>,
    /// Slope that replaces the zero slopes of ReLU and ReLU6
    #[arg(long, value_name = "X", default_value_t = DEFAULTS.leaky_slope, value_parser = slope, allow_negative_numbers = true)]
    pub leaky_slope: f64,
    /// Keep the network's own output in the model instead of fitting J(x) u + b alone
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = DEFAULTS.keep_f0, default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub keep_f0: bool,
    /// Scale of the targets
    #[arg(long, value_name = "X", default_value_t = DEFAULTS.alpha, value_parser = positive, allow_negative_numbers = true)]
    pub alpha: f64,
}

/// The solver.
#[derive(Args, Debug)]
#[command(next_help_heading = "Solver")]
pub struct SolverArgs {
    /// dual: closed form through the kernel; pcg: preconditioned conjugate gradients
    #[arg(long, default_value = name_of(SOLVERS, &DEFAULTS.solver), value_parser = choice::<SolverChoice>(SOLVERS))]
    pub solver: SolverChoice,
    /// Preconditioner of the conjugate gradients
    #[arg(long, default_value = name_of(PRECONDITIONERS, &DEFAULTS.precondition), value_parser = choice::<PreconditionerChoice>(PRECONDITIONERS))]
    pub precondition: PreconditionerChoice,
    /// Buckets of the sketch [default: by the cost model]
    #[arg(long, value_name = "N", value_parser = count::<1_048_576>)]
    pub sketch_size: Option<usize>,
    /// Relative gradient norm to reach
    #[arg(long, value_name = "X", default_value_t = DEFAULTS.tolerance, value_parser = fraction, allow_negative_numbers = true)]
    pub solver_tolerance: f64,
    /// Limit on the solver's passes over the data
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.max_passes, value_parser = count::<10_000_000>)]
    pub max_passes: usize,
}
