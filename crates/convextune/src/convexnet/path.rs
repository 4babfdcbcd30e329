//! Regularisation paths: one program after the other with falling `lambda`, each from the solution of the
//! one before, and the choice of `lambda` by validation.
//!
//! Every fold learns its own encoder and draws its own gates from its training rows, so that nothing of its
//! validation rows is used. All folds share the grid of the whole training set. The best `lambda` has the
//! least mean error; of equals the largest. With several [`Choice`]s of the program each has a path of its own. They
//! are in the order of preference: a later one is taken only if its error is less by more than the standard error of
//! the difference over the folds. (The least of many noisy errors is as often luck as merit.)

use std::time::Instant;

use convextune_solve::faer::Mat;
use convextune_solve::gated::{self, Activation, Loss, Penalty};
use serde::Serialize;

use super::along::Along;
use super::fit::{Data, Program};
use super::table::{Encoder, Folds};
use super::{Bias, GateChoice, NetModel, NetOptions, targets};
use crate::error::Error;
use crate::progress::Reporter;

/// Rows times outputs up to which a second penalty is tried unasked.
const FEW: usize = 5000;
/// Relative gap at which a program is good enough for validation.
const ROUGH: f64 = 1e-3;

/// The grid of a path.
#[derive(Clone, Debug, PartialEq)]
pub struct PathOptions {
    /// Values of `lambda`, spaced evenly by their logarithms.
    pub count: usize,
    /// The smallest, as a share of the `lambda` at which the network is zero, or which halves what it would say
    /// ([`convextune_solve::gated::leading_lambda`], with the squared norm); it is the last, and the first is as far
    /// from that `lambda` as the values are from each other.
    pub smallest: f64,
    /// Programs to validate; none stands for that of the [`NetOptions`].
    pub choices: Vec<Choice>,
}

/// What paths may differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The gates.
    pub gates: GateChoice,
    /// The penalty.
    pub penalty: Penalty,
    /// The biases.
    pub bias: Bias,
}

impl Choice {
    /// That of the options.
    pub fn of(options: &NetOptions) -> Self {
        Self {
            gates: options.gates,
            penalty: options.penalty,
            bias: options.bias,
        }
    }

    /// A penalty with the biases that suit it and as many gates as it makes use of: the squared norm, which leaves none
    /// at zero and is solved at the same cost for any number, takes more of them.
    pub fn with(penalty: Penalty) -> Self {
        let defaults = Self::of(&NetOptions::default());
        match penalty {
            Penalty::SquaredL2 => Self {
                gates: GateChoice::Sampled(2000),
                penalty,
                bias: Bias::Free,
            },
            _ => Self {
                penalty,
                ..defaults
            },
        }
    }

    /// The penalties to choose from where none is asked for: the squared norm, where it has its closed form, and the
    /// neuron-wise one, where that has none or is tried quickly.
    ///
    /// # Errors
    /// When the target cannot be encoded.
    pub fn penalties(options: &NetOptions, data: &Data<'_>) -> Result<Vec<Penalty>, Error> {
        let (table, rows) = (data.table, data.train.len());
        let (task, bias) = (options.task, options.bias);
        let encoder = Encoder::learn(table, &data.train, &data.target, task, bias)?;
        let unknown = rows * targets::outputs(encoder.classes().len());
        let closed = options.activation == Activation::Gated
            && options.loss == Loss::Squared
            && rows <= gated::MOST_SAMPLES;
        Ok(match closed {
            true if unknown > FEW => vec![Penalty::SquaredL2],
            true => vec![Penalty::SquaredL2, Penalty::Neuron],
            false => vec![Penalty::Neuron],
        })
    }
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            count: 10,
            smallest: 1e-4,
            choices: Vec::new(),
        }
    }
}

/// A choice, at the best `lambda` of its path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// The choice.
    #[serde(flatten)]
    pub choice: Choice,
    /// `lambda`.
    pub lambda: f64,
    /// Mean over the validation folds.
    pub validation_error: f64,
    /// Its standard deviation over the folds.
    pub validation_error_std: f64,
}

/// A value of `lambda` along a path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathPoint {
    /// `lambda`.
    pub lambda: f64,
    /// On all training rows.
    pub objective: f64,
    /// On all training rows.
    pub relative_duality_gap: f64,
    /// Live neurons.
    pub neurons: usize,
    /// Mean over the validation folds.
    pub validation_error: f64,
    /// Its standard deviation over the folds.
    pub validation_error_std: f64,
    /// On the training rows.
    pub train_error: f64,
    /// Wall clock of this value's fit on all training rows.
    pub seconds: f64,
}

/// A path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathReport {
    /// The choices.
    pub trials: Vec<Trial>,
    /// The path of the best choice, from the largest `lambda` on.
    pub points: Vec<PathPoint>,
    /// The index of the best.
    pub best: usize,
}

/// Runs the path on `folds` (rows of the table) and on all training rows, and returns it with the model
/// fitted to all training rows at the best `lambda`, to the tolerance of the options.
///
/// # Errors
/// As [`super::fit`]; and when there is no fold, or no value of `lambda`.
pub fn path(
    data: &Data<'_>,
    options: &NetOptions,
    grid: &PathOptions,
    folds: &Folds,
    given: Option<Mat<f64>>,
    reporter: &dyn Reporter,
) -> Result<(PathReport, NetModel), Error> {
    check(grid, folds)?;
    let began = Instant::now();
    let choices = match &grid.choices[..] {
        [] => vec![Choice::of(options)],
        choices => choices.to_vec(),
    };
    let fits = (folds.folds.len() * grid.count * choices.len()) as u64;
    reporter.stage("validation", fits);
    let validated = |choice: Choice| {
        let options = NetOptions {
            gates: choice.gates,
            penalty: choice.penalty,
            bias: choice.bias,
            ..options.clone()
        };
        Validated::new(data, &options, grid, folds, given.clone(), reporter)
    };
    let mut validated: Vec<Validated> = choices
        .into_iter()
        .map(validated)
        .collect::<Result<_, _>>()?;
    let trials: Vec<Trial> = validated.iter().map(Validated::trial).collect();
    let by_fold: Vec<&[f64]> = validated.iter().map(Validated::errors).collect();
    let chosen = validated.swap_remove(preferred(&by_fold));
    let best = chosen.best;
    let (points, model) = chosen.fit(data, began, reporter)?;
    let path = PathReport {
        trials,
        points,
        best,
    };
    Ok((path, model))
}

/// A choice: its program on all training rows, and what each `lambda` is worth.
struct Validated {
    program: Program,
    lambdas: Vec<f64>,
    /// By `lambda` and fold.
    errors: Vec<Vec<f64>>,
    /// Index of the best `lambda`.
    best: usize,
}

impl Validated {
    /// Runs the path on every fold.
    fn new(
        data: &Data<'_>,
        options: &NetOptions,
        grid: &PathOptions,
        folds: &Folds,
        given: Option<Mat<f64>>,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let program = Program::new(data, options, given.clone())?;
        let lambdas = values(program.largest_lambda()?, grid);
        let mut errors = vec![Vec::new(); lambdas.len()];
        for fold in &folds.folds {
            let part = Data {
                table: data.table,
                train: fold.train.clone(),
                test: fold.test.clone(),
                target: data.target.clone(),
            };
            let mut program = Program::new(&part, options, given.clone())?;
            let mut along = Along::new(&mut program, Some((part.table, &part.test)))?;
            let rough = ROUGH.max(options.tolerance);
            for (lambda, errors) in lambdas.iter().zip(&mut errors) {
                errors.push(along.at(*lambda, rough, reporter)?.error);
                reporter.advance(1);
            }
        }
        let means: Vec<f64> = errors.iter().map(|e| moments(e).0).collect();
        Ok(Self {
            program,
            lambdas,
            errors,
            best: least(&means),
        })
    }

    /// Of the best `lambda`, by fold.
    fn errors(&self) -> &[f64] {
        &self.errors[self.best]
    }

    fn trial(&self) -> Trial {
        let (mean, deviation) = moments(self.errors());
        Trial {
            choice: Choice::of(&self.program.options),
            lambda: self.lambdas[self.best],
            validation_error: mean,
            validation_error_std: deviation,
        }
    }

    /// Runs the path on all training rows; its points, and the model of the best.
    fn fit(
        mut self,
        data: &Data<'_>,
        began: Instant,
        reporter: &dyn Reporter,
    ) -> Result<(Vec<PathPoint>, NetModel), Error> {
        reporter.stage("path", self.lambdas.len() as u64);
        let tolerance = self.program.options.tolerance;
        let mut along = Along::new(&mut self.program, None)?;
        let (mut points, mut chosen) = (Vec::new(), None);
        let mut order: Vec<usize> = (0..self.lambdas.len()).collect();
        if along.has_kernel() {
            // The best last, whose solver needs the memory of the kernel.
            order.sort_by_key(|k| *k == self.best);
        }
        for k in order {
            let (lambda, start) = (self.lambdas[k], Instant::now());
            let place = if k == self.best {
                let solution = along.solution(lambda, tolerance, reporter)?;
                let place = along.place(&solution);
                chosen = Some(along.model(data, solution, began.elapsed().as_secs_f64())?);
                place
            } else {
                along.at(lambda, ROUGH.max(tolerance), reporter)?
            };
            let (mean, deviation) = moments(&self.errors[k]);
            points.push(PathPoint {
                lambda,
                objective: place.objective,
                relative_duality_gap: place.relative_duality_gap,
                neurons: place.neurons,
                validation_error: mean,
                validation_error_std: deviation,
                train_error: place.error,
                seconds: start.elapsed().as_secs_f64(),
            });
            reporter.advance(1);
        }
        points.sort_by(|a, b| b.lambda.total_cmp(&a.lambda));
        let none = || Error::Usage("a path needs at least one lambda".into());
        Ok((points, chosen.ok_or_else(none)?))
    }
}

fn check(grid: &PathOptions, folds: &Folds) -> Result<(), Error> {
    if folds.folds.is_empty() {
        let reason = "there are too few rows to choose lambda by cross validation; give --lambda";
        return Err(Error::Usage(reason.into()));
    }
    if grid.count == 0 || !(grid.smallest > 0.0 && grid.smallest < 1.0) {
        let reason = "a path needs at least one lambda, and its smallest between 0 and 1";
        return Err(Error::Usage(reason.into()));
    }
    Ok(())
}

/// `lambda_max smallest^(k / count)`, `k = 1 ..= count`.
fn values(largest: f64, grid: &PathOptions) -> Vec<f64> {
    let value = |k: usize| largest * grid.smallest.powf(k as f64 / grid.count as f64);
    (1..=grid.count).map(value).collect()
}

/// The first index of the least value.
fn least(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, k| if values[k] < values[best] { k } else { best })
}

/// The first of several choices, or a later one that is better by more than the standard error of their difference
/// over the folds.
fn preferred(errors: &[&[f64]]) -> usize {
    (1..errors.len()).fold(0, |best, k| {
        let pairs = errors[best].iter().zip(errors[k]);
        let gains: Vec<f64> = pairs.map(|(best, other)| best - other).collect();
        let (gain, deviation) = moments(&gains);
        if gain > deviation / (gains.len() as f64).sqrt() {
            k
        } else {
            best
        }
    })
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
    (mean, (square / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_ends_where_it_is_told_and_the_largest_of_equals_wins() {
        let grid = PathOptions {
            count: 4,
            smallest: 1e-4,
            ..PathOptions::default()
        };
        let values = values(2.0, &grid);
        let expected = [0.2, 0.02, 0.002, 0.0002];
        assert!(
            values
                .iter()
                .zip(expected)
                .all(|(a, b)| (a / b - 1.0).abs() < 1e-12)
        );
        assert_eq!(least(&[0.4, 0.2, 0.2, 0.45]), 1);
    }

    #[test]
    fn a_later_choice_must_be_better_beyond_doubt() {
        let first: &[f64] = &[0.2, 0.3, 0.2, 0.3];
        let lucky: &[f64] = &[0.0, 0.4, 0.2, 0.3];
        let better: &[f64] = &[0.18, 0.28, 0.19, 0.28];
        assert_eq!(preferred(&[first]), 0);
        assert_eq!(preferred(&[first, first, lucky]), 0);
        assert_eq!(preferred(&[first, lucky, better]), 2);
        assert_eq!(preferred(&[better, first]), 0);
    }
}
