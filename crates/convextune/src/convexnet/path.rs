//! Regularisation paths: one program after the other with falling `lambda`, each from the solution of the
//! one before, and the choice of `lambda` by validation.
//!
//! Every fold learns its own encoder and draws its own gates from its training rows, so that nothing of its
//! validation rows is used. All folds share the grid of the whole training set. The best `lambda` has the
//! least mean error; of equals the largest.

use std::time::Instant;

use convextune_solve::faer::Mat;
use convextune_solve::gated::Neuron;
use serde::Serialize;

use super::fit::{Data, Program};
use super::table::Folds;
use super::{NetModel, NetOptions};
use crate::error::Error;
use crate::progress::Reporter;

/// Relative gap at which a program is good enough for validation.
const ROUGH: f64 = 1e-3;

/// The grid of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathOptions {
    /// Values of `lambda`, spaced evenly by their logarithms.
    pub count: usize,
    /// The smallest, as a share of the `lambda` at which the network is zero; it is the last, and the first
    /// is as far from that `lambda` as the values are from each other.
    pub smallest: f64,
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            count: 10,
            smallest: 1e-4,
        }
    }
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
    /// From the largest `lambda` on.
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
    let mut program = Program::new(data, options, given.clone())?;
    let lambdas = values(program.lambda_max()?, grid);
    let mut errors = vec![Vec::new(); lambdas.len()];
    reporter.stage("validation", (folds.folds.len() * lambdas.len()) as u64);
    for fold in &folds.folds {
        let part = Data {
            table: data.table,
            train: fold.train.clone(),
            test: fold.test.clone(),
            target: data.target.clone(),
        };
        let mut program = Program::new(&part, options, given.clone())?;
        let mut warm: Vec<Neuron> = Vec::new();
        for (lambda, errors) in lambdas.iter().zip(&mut errors) {
            let solution = program.solve(*lambda, ROUGH.max(options.tolerance), &warm, reporter)?;
            let network = program.network(&solution);
            errors.extend(program.test_error(&network, part.table, &part.test)?);
            warm = solution.neurons;
            reporter.advance(1);
        }
    }
    let best = best(&errors);
    reporter.stage("path", lambdas.len() as u64);
    let mut points = Vec::new();
    let mut chosen = None;
    let mut warm: Vec<Neuron> = Vec::new();
    for (k, lambda) in lambdas.iter().enumerate() {
        let start = Instant::now();
        let tolerance = if k == best {
            options.tolerance
        } else {
            ROUGH.max(options.tolerance)
        };
        let solution = program.solve(*lambda, tolerance, &warm, reporter)?;
        let (mean, deviation) = moments(&errors[k]);
        points.push(PathPoint {
            lambda: *lambda,
            objective: solution.certificate.objective,
            relative_duality_gap: solution.certificate.relative_duality_gap,
            neurons: solution.neurons.len(),
            validation_error: mean,
            validation_error_std: deviation,
            train_error: program.train_error(&program.network(&solution)),
            seconds: start.elapsed().as_secs_f64(),
        });
        warm.clone_from(&solution.neurons);
        if k == best {
            chosen = Some(program.model(data, solution, began.elapsed().as_secs_f64())?);
        }
        reporter.advance(1);
    }
    let model = chosen.ok_or_else(|| Error::Usage("a path needs at least one lambda".into()))?;
    Ok((PathReport { points, best }, model))
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

/// The first index with the least mean.
fn best(errors: &[Vec<f64>]) -> usize {
    let means: Vec<f64> = errors.iter().map(|e| moments(e).0).collect();
    (1..means.len()).fold(0, |best, k| if means[k] < means[best] { k } else { best })
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
        };
        let values = values(2.0, &grid);
        let expected = [0.2, 0.02, 0.002, 0.0002];
        assert!(
            values
                .iter()
                .zip(expected)
                .all(|(a, b)| (a / b - 1.0).abs() < 1e-12)
        );
        let errors = [
            vec![0.3, 0.5],
            vec![0.1, 0.3],
            vec![0.2, 0.2],
            vec![0.9, 0.0],
        ];
        assert_eq!(best(&errors), 1);
    }
}
