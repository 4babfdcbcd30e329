//! Temporary: the interface of fitting, for one lambda, sampled or all gates.

use std::ops::ControlFlow;
use std::time::Instant;

use convextune_solve::Quiet;
use convextune_solve::faer::Mat;
use convextune_solve::gated::{
    self, GapCertificate, GatedMatrix, Patterns, Problem, Solution, SolveOptions,
};

use super::gates::{Gates, enumerate, given as given_gates, sample};
use super::table::{Encoder, Folds, Table};
use super::{Bias, GateChoice, NetModel, NetOptions, NetReport, Network, targets};
use crate::error::Error;
use crate::progress::Reporter;

/// Rows of a table and what is predicted.
pub struct Data<'a> {
    /// The table.
    pub table: &'a Table,
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to test on; may be none.
    pub test: Vec<usize>,
    /// Name of the target's column.
    pub target: String,
}

/// The grid of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathOptions {
    /// Values of `lambda`.
    pub count: usize,
    /// The smallest, as a share of the largest.
    pub smallest: f64,
}

/// A value of `lambda` along a path.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
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
    /// Its deviation over the folds.
    pub validation_error_std: f64,
    /// On the training rows.
    pub train_error: f64,
    /// Wall clock.
    pub seconds: f64,
}

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub struct PathReport {
    /// From the largest `lambda` on.
    pub points: Vec<PathPoint>,
    /// The index of the best.
    pub best: usize,
    /// Refitted there.
    pub model: NetModel,
}

/// Fits.
pub fn fit(
    data: &Data<'_>,
    options: &NetOptions,
    given: Option<Mat<f64>>,
    reporter: &dyn Reporter,
) -> Result<NetModel, Error> {
    let began = Instant::now();
    let (table, d) = (data.table, options);
    let encoder = Encoder::learn(table, &data.train, &data.target, d.task, d.bias)?;
    let x = encoder.features(table, &data.train)?;
    let labels = encoder.labels(table, &data.train)?;
    let bias = d.bias != Bias::None;
    let found = match (given, d.gates) {
        (Some(vectors), _) => given_gates(x.as_ref(), vectors.as_ref())?,
        (None, GateChoice::All) => enumerate(x.as_ref(), 100_000)?,
        (None, GateChoice::Sampled(n)) => sample(x.as_ref(), bias, d.sampler, n, d.seed),
        (None, GateChoice::Adaptive) => return Err(Error::Usage("not yet".into())),
    };
    let Gates {
        vectors,
        patterns,
        exhaustive,
    } = found;
    let (count, features) = (vectors.ncols(), vectors.nrows());
    let linear = d.linear.then_some(count);
    let width = count + usize::from(d.linear);
    let vectors = Mat::from_fn(features, width, |j, i| {
        if i < count { vectors[(j, i)] } else { 0.0 }
    });
    let mut problem = Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets: targets::matrix(&labels, encoder.classes().len(), d.loss),
        loss: d.loss,
        penalty: d.penalty,
        activation: d.activation,
        lambda: d.lambda.unwrap_or(0.01),
        linear,
        intercept: d.bias == Bias::Free,
    };
    if d.linear {
        problem
            .matrix
            .push(std::iter::repeat_n(true, data.train.len()));
    }
    reporter.stage("solver", 0);
    let solve = SolveOptions {
        tolerance: d.tolerance,
        max_iterations: d.max_iterations,
    };
    let mut observer = |p: &convextune_solve::Progress<'_>| {
        reporter.gap(p.record.iteration, p.record.relative_residual);
        ControlFlow::Continue(())
    };
    let solution = gated::solve(&problem, &solve, &[], &mut observer)?;
    let network = Network {
        activation: d.activation,
        gates: vectors,
        linear,
        neurons: solution.neurons,
        intercept: solution.intercept,
    };
    let z = network.predict(problem.matrix.x());
    let test_error = if data.test.is_empty() {
        None
    } else {
        let x = encoder.features(table, &data.test)?;
        let labels = encoder.labels(table, &data.test)?;
        Some(targets::error(
            network.predict(x.as_ref()).as_ref(),
            &labels,
        ))
    };
    let report = NetReport {
        certificate: solution.certificate,
        status: solution.status,
        lambda: problem.lambda,
        lambda_max: gated::lambda_max(&problem)?,
        gates: count,
        exhaustive,
        neurons: network.neurons.len(),
        train_rows: data.train.len(),
        test_rows: data.test.len(),
        train_error: targets::error(z.as_ref(), &labels),
        test_error,
        iterations: solution.iterations,
        seconds: began.elapsed().as_secs_f64(),
    };
    Ok(NetModel::new(
        encoder,
        d.clone(),
        report,
        data.train.clone(),
        network,
    ))
}

/// A path.
pub fn path(
    data: &Data<'_>,
    options: &NetOptions,
    grid: &PathOptions,
    _folds: &Folds,
    reporter: &dyn Reporter,
) -> Result<PathReport, Error> {
    let mut points = Vec::new();
    let mut options = options.clone();
    let mut last = None;
    for k in 0..grid.count {
        options.lambda = Some(0.1 * grid.smallest.powf(k as f64 / grid.count as f64));
        let model = fit(data, &options, None, reporter)?;
        let report = &model.header.report;
        points.push(PathPoint {
            lambda: report.lambda,
            objective: report.certificate.objective,
            relative_duality_gap: report.certificate.relative_duality_gap,
            neurons: report.neurons,
            validation_error: report.train_error,
            validation_error_std: 0.0,
            train_error: report.train_error,
            seconds: report.seconds,
        });
        last = Some(model);
    }
    let model = last.ok_or_else(|| Error::Usage("no point".into()))?;
    Ok(PathReport {
        best: points.len() - 1,
        points,
        model,
    })
}

/// The program of a model.
pub fn problem(model: &NetModel, table: &Table, rows: &[usize]) -> Result<Problem, Error> {
    let (encoder, d) = (&model.header.encoder, &model.header.options);
    let x = encoder.features(table, rows)?;
    let labels = encoder.labels(table, rows)?;
    let patterns = Patterns::of(x.as_ref(), model.network.gates.as_ref());
    let mut all = Patterns::new(x.nrows());
    for i in 0..patterns.len() {
        let on = |s| model.network.linear == Some(i) || patterns.get(i, s);
        all.push((0..x.nrows()).map(on));
    }
    Ok(Problem {
        matrix: GatedMatrix::new(x, all),
        targets: targets::matrix(&labels, encoder.classes().len(), d.loss),
        loss: d.loss,
        penalty: d.penalty,
        activation: d.activation,
        lambda: model.header.report.lambda,
        linear: model.network.linear,
        intercept: d.bias == Bias::Free,
    })
}

/// Recomputes.
pub fn certify(model: &NetModel, table: &Table, rows: &[usize]) -> Result<GapCertificate, Error> {
    let problem = problem(model, table, rows)?;
    let Network {
        neurons, intercept, ..
    } = &model.network;
    Ok(gated::certify(&problem, neurons, intercept)?)
}

/// Solves.
pub fn solve_problem(problem: &Problem, tolerance: f64) -> Result<Solution, Error> {
    let options = SolveOptions {
        tolerance,
        ..SolveOptions::default()
    };
    Ok(gated::solve(problem, &options, &[], &mut Quiet)?)
}
