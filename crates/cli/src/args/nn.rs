//! Arguments of `nn`.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use convextune::convexnet::{Bias, GateChoice, NetOptions, PathOptions, Sampler, Task};
use convextune_model::images::Holdout;
use convextune_solve::gated::{Activation, Loss, Penalty};

use super::RunArgs;
use super::values::{choice, count, fraction, gates, holdout, more_gates, name_of, positive};

const TASKS: &[&str] = &["classification", "regression"];
const ACTIVATIONS: &[&str] = &["gated", "relu"];
const SAMPLERS: &[&str] = &["gaussian", "null-vector", "sparse", "convolutional"];
const LOSSES: &[&str] = &["squared", "cross-entropy", "squared-hinge"];
const BIASES: &[&str] = &["none", "penalized", "free"];

/// The library's defaults, for the help texts.
static DEFAULTS: LazyLock<NetOptions> = LazyLock::new(NetOptions::default);

/// What to do with networks on tables.
#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Fit a two-layer network to a table.
    Fit(Box<NetFitArgs>),
    /// Fit for a series of lambdas, the weight of the penalty, and choose one by cross validation.
    Path(Box<NetPathArgs>),
    /// Predict the target for the rows of a table.
    Predict(NetPredictArgs),
    /// Recompute what was proved about a model, from its file and the table.
    Certify(NetCertifyArgs),
    /// Write a model as a plain network for other programs.
    Export(NetExportArgs),
    /// Compare a network that was trained elsewhere with the minimum of its training problem.
    Check(Box<NetCheckArgs>),
}

impl NetCommand {
    /// How to run.
    pub fn run_args(&self) -> RunArgs {
        match self {
            Self::Fit(args) => args.run,
            Self::Path(args) => args.run,
            Self::Predict(args) => args.run,
            Self::Certify(args) => args.run,
            Self::Export(args) => args.run,
            Self::Check(args) => args.run,
        }
    }
}

/// Arguments of `nn fit`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune nn fit data.csv --target class -o model.safetensors
  convextune nn fit data.csv --target price --activation relu --gates all
  convextune nn fit data.csv --target class --folds folds.txt --fold 0 \\
      --lambda 0.01 --json

A table is a CSV file with a header, or a matrix in a .npy file whose columns are called f1, f2, ... \
Columns of texts become one feature a category, missing cells are allowed, and numbers are \
standardised by the training rows. What the fit prints was recomputed at the point returned.")]
pub struct NetFitArgs {
    /// The table
    pub table: PathBuf,
    /// Where to write the model; without it, the fit is only reported
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Weight of the penalty [default: chosen by cross validation, as `nn path` does]
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true)]
    pub lambda: Option<f64>,
    /// The rows.
    #[command(flatten)]
    pub data: TableArgs,
    /// The network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// The training problem.
    #[command(flatten)]
    pub problem: NetProblemArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `nn path`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune nn path data.csv --target class -o best.safetensors
  convextune nn path data.csv --target class --val-folds folds.txt --points 30 \\
      --json
  convextune nn path data.csv --target class --try-gates 20,100,500 \\
      --try-penalties l2,neuron

One row a value of lambda, the weight of the penalty, from the largest on. The model written is the one with the lowest validation \
error, fitted to all training rows.")]
pub struct NetPathArgs {
    /// The table
    pub table: PathBuf,
    /// Where to write the best model; without it, the path is only reported
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Folds to validate on, of training rows; without --holdout or --folds, all rows are then for
    /// training [default: 4 seeded, stratified folds of the training rows]
    #[arg(long, value_name = "FILE")]
    pub val_folds: Option<PathBuf>,
    /// How many values of lambda to try; 1 tries that of --smallest alone
    #[arg(long, value_name = "N", default_value_t = PathOptions::default().count, value_parser = count::<1000>)]
    pub points: usize,
    /// The smallest lambda to try, as a share of the least at which the network is zero (with the
    /// penalty l2, at which its outputs are halved); the others are spaced evenly in between, by
    /// their logarithms
    #[arg(long, value_name = "X", default_value_t = PathOptions::default().smallest, value_parser = fraction, allow_negative_numbers = true)]
    pub smallest: f64,
    /// Choose also among these numbers of gates; the path printed is that of the best
    #[arg(long, value_name = "N|all|adaptive,...", value_delimiter = ',', value_parser = gates, conflicts_with_all = ["gates", "gates_file"])]
    pub try_gates: Vec<GateChoice>,
    /// Choose also among these penalties [default: l2 and neuron]; the path printed is that of the best
    #[arg(long, value_name = "PENALTY,...", value_delimiter = ',', value_parser = penalty(), conflicts_with = "penalty")]
    pub try_penalties: Vec<Penalty>,
    /// The rows.
    #[command(flatten)]
    pub data: TableArgs,
    /// The network.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// The training problem.
    #[command(flatten)]
    pub problem: NetProblemArgs,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The rows.
#[derive(Args, Debug)]
#[command(next_help_heading = "Data")]
pub struct TableArgs {
    /// The column to predict; in a .npy file f1, f2, ... by its place
    #[arg(long, value_name = "COLUMN")]
    pub target: String,
    /// Whether the target is a class or a number [default: found out from the column]
    #[arg(long, value_parser = choice::<Task>(TASKS))]
    pub task: Option<Task>,
    /// Share of every class, or of every range of values, to test on, or `none` [default: 0.2]
    #[arg(long, value_name = "FRACTION", value_parser = holdout, conflicts_with = "folds")]
    pub holdout: Option<Holdout>,
    /// A file of two lines a fold, training rows and test rows, counted from 0
    #[arg(long, value_name = "FILE", requires = "fold")]
    pub folds: Option<PathBuf>,
    /// Which fold to train and test on, counted from 0 as the rows are
    #[arg(long, value_name = "K", requires = "folds")]
    pub fold: Option<usize>,
}

/// The network.
#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// gated: a unit's gate is a vector of its own, fixed in advance; relu: a unit is its own gate
    #[arg(long, default_value = name_of(ACTIVATIONS, &DEFAULTS.activation), value_parser = choice::<Activation>(ACTIVATIONS))]
    pub activation: Activation,
    /// A number of sampled gates; `all` activation patterns there are; or `adaptive`: some, and more
    /// until the dual finds none that helps [default: 500; 2000 with the penalty l2]
    #[arg(long, value_name = "N|all|adaptive", value_parser = gates)]
    pub gates: Option<GateChoice>,
    /// Gates from a matrix in a .npy file, one a column, a number a feature, the bias last; together
    /// with `--gates adaptive` the first gates
    #[arg(long, value_name = "FILE", conflicts_with = "sampler")]
    pub gates_file: Option<PathBuf>,
    /// How gates are drawn [default: gaussian]
    #[arg(long, value_parser = choice::<Sampler>(SAMPLERS))]
    pub sampler: Option<Sampler>,
    /// A bias for every neuron, penalised like its weights, or also a free one for every output [default: penalized;
    /// free with the penalty l2]
    #[arg(long, value_parser = choice::<Bias>(BIASES))]
    pub bias: Option<Bias>,
    /// Add a linear neuron
    #[arg(long)]
    pub linear: bool,
}

/// The training problem.
#[derive(Args, Debug)]
#[command(next_help_heading = "Training problem")]
pub struct NetProblemArgs {
    /// The loss; cross-entropy and squared-hinge are for classes
    #[arg(long, default_value = name_of(LOSSES, &DEFAULTS.loss), value_parser = choice::<Loss>(LOSSES))]
    pub loss: Loss,
    /// neuron: weight decay of a network; feature: drops features; nuclear: weight decay of a network
    /// whose neurons feed all outputs; l1, l2: of all weights, the latter squared, in closed form [default: neuron;
    /// with the choice of a lambda the better of l2 and neuron]
    #[arg(long, value_parser = penalty())]
    pub penalty: Option<Penalty>,
    /// Seed of gates, held-out rows and validation folds
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.seed)]
    pub seed: u64,
    /// Relative duality gap to reach
    #[arg(long, value_name = "X", default_value_t = DEFAULTS.tolerance, value_parser = fraction, allow_negative_numbers = true)]
    pub tolerance: f64,
    /// Limit on the iterations of the solver's outer loop
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.max_iterations, value_parser = count::<10_000_000>)]
    pub max_iterations: usize,
}

/// Arguments of `nn predict`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune nn predict model.safetensors new.csv -o predictions.csv
  convextune nn predict model.safetensors new.csv --json

One line a row, in the table's order, below a header: for classes the class and a score of every \
class, which is no probability; for numbers the value in the target's units. Columns are found by \
name, and the target's column is not needed.")]
pub struct NetPredictArgs {
    /// A model that `convextune nn fit` wrote
    pub model: PathBuf,
    /// A table with the columns that the model was trained on
    pub table: PathBuf,
    /// Where to write the predictions as CSV [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `nn certify`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  convextune nn certify model.safetensors data.csv

Objective, dual value, gap and constraint violation are computed anew on the rows that were trained \
on, by code that the solver does not use. It fails, after printing them, when they are not those of \
the model file.")]
pub struct NetCertifyArgs {
    /// A model that `convextune nn fit` wrote
    pub model: PathBuf,
    /// The table of the fit
    pub table: PathBuf,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `nn export`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune nn export model.safetensors network.onnx
  convextune nn export model.safetensors network.safetensors --prune data.csv

The ending of the file's name says the format. An ONNX graph reads features as they are in the table \
once encoded (see docs/model-file.md) and gives values in the target's units.")]
pub struct NetExportArgs {
    /// A model that `convextune nn fit` wrote
    pub model: PathBuf,
    /// The file to write, .onnx or .safetensors
    pub output: PathBuf,
    /// Drop units that the training rows do not need, the fit unchanged; needs the table of the fit
    #[arg(long, value_name = "TABLE")]
    pub prune: Option<PathBuf>,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `nn check`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  convextune nn check sgd.pt data.csv --target class --lambda 0.001
  convextune nn check sgd.safetensors data.csv --target price --lambda 0.01 \\
      --gates 1000

The file holds a two-layer ReLU network: w1, b1, w2, b2, or 0.weight, 0.bias, 2.weight, 2.bias, the \
biases if there are any. Lambda is the factor of (||w1||^2 + ||w2||^2) / 2 beside the mean loss. \
Printed are the network's gradient, its distance from the minimum of the program with its own \
activation patterns, and with --gates from the minimum with more.")]
pub struct NetCheckArgs {
    /// The network's weights: safetensors, or a PyTorch state_dict
    pub weights: PathBuf,
    /// The table that it was trained on
    pub table: PathBuf,
    /// The column that it predicts
    #[arg(long, value_name = "COLUMN")]
    pub target: String,
    /// Whether the target is a class or a number [default: found out from the column]
    #[arg(long, value_parser = choice::<Task>(TASKS))]
    pub task: Option<Task>,
    /// It was trained on what is left when so large a share is held out with this seed [default: none]
    #[arg(long, value_name = "FRACTION", value_parser = holdout, conflicts_with = "folds")]
    pub holdout: Option<Holdout>,
    /// A file of two lines a fold: it was trained on the training rows of --fold
    #[arg(long, value_name = "FILE", requires = "fold")]
    pub folds: Option<PathBuf>,
    /// Which fold, counted from 0
    #[arg(long, value_name = "K", requires = "folds")]
    pub fold: Option<usize>,
    /// Weight of the weight decay
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true)]
    pub lambda: f64,
    /// The loss
    #[arg(long, default_value = name_of(LOSSES, &DEFAULTS.loss), value_parser = choice::<Loss>(LOSSES))]
    pub loss: Loss,
    /// The network reads and predicts numbers as they are in the table, not standardised
    #[arg(long)]
    pub raw: bool,
    /// Compare also with the program that has so many sampled patterns more, or `all` there are
    #[arg(long, value_name = "N|all", value_parser = more_gates)]
    pub gates: Option<GateChoice>,
    /// Seed of sampled gates and of held-out rows
    #[arg(long, value_name = "N", default_value_t = DEFAULTS.seed)]
    pub seed: u64,
    /// Relative duality gap to which programs are solved
    #[arg(long, value_name = "X", default_value_t = DEFAULTS.tolerance, value_parser = fraction, allow_negative_numbers = true)]
    pub tolerance: f64,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// A penalty by its short name or the one in model files.
fn penalty() -> impl TypedValueParser<Value = Penalty> {
    let names = [
        PossibleValue::new("neuron"),
        PossibleValue::new("feature"),
        PossibleValue::new("l1"),
        PossibleValue::new("l2").alias("squared-l2"),
        PossibleValue::new("nuclear"),
    ];
    PossibleValuesParser::new(names).map(|name| match name.as_str() {
        "feature" => Penalty::Feature,
        "l1" => Penalty::L1,
        "l2" | "squared-l2" => Penalty::SquaredL2,
        "nuclear" => Penalty::Nuclear,
        _ => Penalty::Neuron,
    })
}
