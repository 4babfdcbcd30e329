//! Resolved plans of `nn`.

use std::path::PathBuf;

use anyhow::Result;
use convextune::convexnet::check::CheckOptions;
use convextune::convexnet::{Bias, Choice, GateChoice, NetOptions, PathOptions, Task};
use convextune_model::images::Holdout;
use convextune_solve::gated::{Loss, Penalty};

use crate::args::RunArgs;
use crate::args::nn::{
    NetCheckArgs, NetFitArgs, NetPathArgs, NetProblemArgs, NetworkArgs, TableArgs,
};
use crate::failure::wrong_usage;

/// Held out where nothing is said.
const HELD_OUT: f64 = 0.2;

/// How rows are told apart.
#[derive(Clone, Debug, PartialEq)]
pub enum RowChoice {
    /// All are for training.
    All,
    /// So large a share of every class is for testing.
    Holdout(f64),
    /// A fold of a file, counted from 0.
    Fold(PathBuf, usize),
}

/// What to train on.
pub struct DataPlan {
    /// The table.
    pub table: PathBuf,
    /// The column to predict.
    pub target: String,
    /// Which rows.
    pub rows: RowChoice,
}

/// A resolved `nn fit`.
pub struct NetFitPlan {
    /// What to train on.
    pub data: DataPlan,
    /// How.
    pub options: NetOptions,
    /// Where gates come from, if not from the options.
    pub gates_file: Option<PathBuf>,
    /// What may be chosen together with `lambda`.
    pub open: Open,
    /// Where the model goes.
    pub output: Option<PathBuf>,
    /// How to print.
    pub run: RunArgs,
}

/// What the command line leaves open about a program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// To choose from; none: as the penalty takes.
    gates: Vec<GateChoice>,
    /// To choose from; none: the usual ones.
    penalties: Vec<Penalty>,
    /// That of the command line; none: as the penalty takes.
    bias: Option<Bias>,
}

impl Open {
    /// The programs to choose from, where `usual` are the penalties unless some were asked for.
    pub fn choices(&self, usual: &[Penalty]) -> Vec<Choice> {
        let penalties = if !self.penalties.is_empty() {
            &self.penalties
        } else if self.gates.contains(&GateChoice::Adaptive) {
            // Gates are priced for this one.
            &[Penalty::Neuron][..]
        } else {
            usual
        };
        let with = |penalty: &Penalty| {
            let choice = Choice::with(*penalty);
            let gates = match &self.gates[..] {
                [] => vec![choice.gates],
                gates => gates.to_vec(),
            };
            let bias = self.bias.unwrap_or(choice.bias);
            gates.into_iter().map(move |gates| Choice {
                gates,
                bias,
                ..choice
            })
        };
        penalties.iter().flat_map(with).collect()
    }
}

/// A resolved `nn path`.
pub struct NetPathPlan {
    /// The fits.
    pub fit: NetFitPlan,
    /// The values of `lambda`.
    pub grid: PathOptions,
    /// A file of folds to validate on.
    pub val_folds: Option<PathBuf>,
}

impl TryFrom<NetFitArgs> for NetFitPlan {
    type Error = anyhow::Error;

    fn try_from(args: NetFitArgs) -> Result<Self> {
        let mut options = options(args.data.task, &args.network, &args.problem)?;
        options.lambda = args.lambda;
        Ok(Self {
            data: data(args.table, args.data, RowChoice::Holdout(HELD_OUT)),
            open: open(&args.network, &args.problem, Vec::new(), Vec::new()),
            options,
            gates_file: args.network.gates_file,
            output: args.output,
            run: args.run,
        })
    }
}

impl TryFrom<NetPathArgs> for NetPathPlan {
    type Error = anyhow::Error;

    fn try_from(args: NetPathArgs) -> Result<Self> {
        let otherwise = match args.val_folds {
            Some(_) => RowChoice::All,
            None => RowChoice::Holdout(HELD_OUT),
        };
        let options = options(args.data.task, &args.network, &args.problem)?;
        Ok(Self {
            fit: NetFitPlan {
                data: data(args.table, args.data, otherwise),
                open: open(
                    &args.network,
                    &args.problem,
                    args.try_gates,
                    args.try_penalties,
                ),
                options,
                gates_file: args.network.gates_file,
                output: args.output,
                run: args.run,
            },
            grid: PathOptions {
                count: args.points,
                smallest: args.smallest,
                choices: Vec::new(),
            },
            val_folds: args.val_folds,
        })
    }
}

/// A resolved `nn check`.
pub struct NetCheckPlan {
    /// The network's file.
    pub weights: PathBuf,
    /// What it was trained on.
    pub data: DataPlan,
    /// How.
    pub options: CheckOptions,
    /// How to print.
    pub run: RunArgs,
}

impl TryFrom<NetCheckArgs> for NetCheckPlan {
    type Error = anyhow::Error;

    fn try_from(args: NetCheckArgs) -> Result<Self> {
        check_loss(args.task, args.loss)?;
        Ok(Self {
            weights: args.weights,
            data: DataPlan {
                table: args.table,
                target: args.target.clone(),
                rows: rows(args.folds, args.fold, args.holdout, RowChoice::All),
            },
            options: CheckOptions {
                target: args.target,
                task: args.task,
                lambda: args.lambda,
                loss: args.loss,
                raw: args.raw,
                gates: args.gates,
                seed: args.seed,
                tolerance: args.tolerance,
            },
            run: args.run,
        })
    }
}

fn data(table: PathBuf, args: TableArgs, otherwise: RowChoice) -> DataPlan {
    DataPlan {
        table,
        target: args.target,
        rows: rows(args.folds, args.fold, args.holdout, otherwise),
    }
}

fn rows(
    folds: Option<PathBuf>,
    fold: Option<usize>,
    holdout: Option<Holdout>,
    otherwise: RowChoice,
) -> RowChoice {
    match (folds, fold, holdout) {
        (Some(file), Some(fold), _) => RowChoice::Fold(file, fold),
        (_, _, Some(Holdout::Fraction(share))) => RowChoice::Holdout(share),
        (_, _, Some(Holdout::Nothing)) => RowChoice::All,
        (_, _, Some(Holdout::Auto) | None) => otherwise,
    }
}

fn options(
    task: Option<Task>,
    network: &NetworkArgs,
    problem: &NetProblemArgs,
) -> Result<NetOptions> {
    check_loss(task, problem.loss)?;
    let adaptive = network.gates == Some(GateChoice::Adaptive);
    if network.gates_file.is_some() && network.gates.is_some() && !adaptive {
        let text = "--gates-file: the gates of a file stand alone or with --gates adaptive";
        return Err(wrong_usage(text.into()));
    }
    if network.gates == Some(GateChoice::All) && network.sampler.is_some() {
        let text = "--sampler: with --gates all no gate is drawn; give one of the two";
        return Err(wrong_usage(text.into()));
    }
    let chosen = Choice::with(problem.penalty.unwrap_or(NetOptions::default().penalty));
    Ok(NetOptions {
        task,
        activation: network.activation,
        gates: network.gates.unwrap_or(chosen.gates),
        sampler: network.sampler.unwrap_or(NetOptions::default().sampler),
        lambda: None,
        loss: problem.loss,
        penalty: chosen.penalty,
        bias: network.bias.unwrap_or(chosen.bias),
        linear: network.linear,
        seed: problem.seed,
        tolerance: problem.tolerance,
        max_iterations: problem.max_iterations,
    })
}

/// What is open, with choices of gates and penalties that were asked for.
fn open(
    network: &NetworkArgs,
    problem: &NetProblemArgs,
    gates: Vec<GateChoice>,
    penalties: Vec<Penalty>,
) -> Open {
    let given = network.gates_file.as_ref().map(|_| GateChoice::Given);
    let alone = network.gates.or(given);
    Open {
        gates: gates.into_iter().chain(alone).collect(),
        penalties: penalties.into_iter().chain(problem.penalty).collect(),
        bias: network.bias,
    }
}

/// Numbers have one loss.
fn check_loss(task: Option<Task>, loss: Loss) -> Result<()> {
    if task == Some(Task::Regression) && loss != Loss::Squared {
        let text =
            "--loss: cross-entropy and squared-hinge are for classes; regression takes squared";
        return Err(wrong_usage(text.into()));
    }
    Ok(())
}
