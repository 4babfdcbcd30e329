//! Fitting: rows of a table to a program, its minimum, and a model.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use convextune_solve::Progress;
use convextune_solve::faer::Mat;
use convextune_solve::gated::{
    self, GapCertificate, GatedMatrix, Neuron, Patterns, Penalty, Problem, Solution, SolveOptions,
};

use super::gates::{Gates, enumerate, given as given_gates, sample};
use super::table::{Encoder, Fold, Folds, Table, Target};
use super::{Bias, GateChoice, NetModel, NetOptions, NetReport, Network, adaptive, targets};
use crate::error::Error;
use crate::progress::Reporter;

/// The most patterns that [`GateChoice::All`] takes.
const MOST_PATTERNS: usize = 100_000;
/// Folds by which `lambda` is chosen.
const FOLDS: usize = 4;

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

/// Fits a network to the training rows: to the minimum of its program, with a certificate recomputed at
/// the point that is returned. `given` holds gates (`d x P`) to use instead of those of the options.
///
/// # Errors
/// Without a `lambda`, which [`path`](super::path()) chooses; and when the data cannot be encoded, the gates cannot
/// be made, or no solver covers the options.
pub fn fit(
    data: &Data<'_>,
    options: &NetOptions,
    given: Option<Mat<f64>>,
    reporter: &dyn Reporter,
) -> Result<NetModel, Error> {
    let Some(lambda) = options.lambda else {
        return Err(Error::Usage(
            "a fit needs a lambda: give one, or let a path choose it".into(),
        ));
    };
    let mut program = Program::new(data, options, given)?;
    let began = Instant::now();
    reporter.stage("solver", 0);
    let solution = program.solve(lambda, options.tolerance, &[], reporter)?;
    program.model(data, solution, began.elapsed().as_secs_f64())
}

/// Stratified folds of the training rows to validate on, as rows of the table, drawn with the seed.
///
/// # Errors
/// When the target cannot be encoded.
pub fn inner_folds(data: &Data<'_>, options: &NetOptions) -> Result<Folds, Error> {
    let encoder = Encoder::learn(
        data.table,
        &data.train,
        &data.target,
        options.task,
        options.bias,
    )?;
    let labels = encoder.labels(data.table, &data.train)?;
    let mut folds = Folds::stratified(&labels, FOLDS, options.seed);
    keep_single_rows(&mut folds, &labels);
    let useful = |fold: &Fold| fold.train.len() >= 2 && !fold.test.is_empty();
    folds.folds.retain(useful);
    for fold in &mut folds.folds {
        for row in fold.train.iter_mut().chain(&mut fold.test) {
            *row = data.train[*row];
        }
    }
    Ok(folds)
}

/// Trains always on the only row of a class, without which the class would be unknown.
fn keep_single_rows(folds: &mut Folds, labels: &Target) {
    let Target::Classes(of) = labels else {
        return;
    };
    let mut counts = vec![0; of.iter().max().map_or(0, |c| c + 1)];
    of.iter().for_each(|c| counts[*c] += 1);
    for fold in &mut folds.folds {
        let (single, test) = fold
            .test
            .iter()
            .partition::<Vec<usize>, _>(|row| counts[of[**row]] == 1);
        fold.train.extend(single);
        fold.train.sort_unstable();
        fold.test = test;
    }
}

/// Training rows, encoded, with the gates of a program.
pub(super) struct Program {
    pub(super) options: NetOptions,
    pub(super) encoder: Encoder,
    pub(super) labels: Target,
    /// `d x P`; the linear gate's column is zero.
    pub(super) vectors: Mat<f64>,
    exhaustive: bool,
    pub(super) problem: Problem,
    /// Whether it was said that a search for gates was broken off.
    pub(super) told: bool,
}

impl Program {
    pub(super) fn new(
        data: &Data<'_>,
        options: &NetOptions,
        given: Option<Mat<f64>>,
    ) -> Result<Self, Error> {
        if options.gates == GateChoice::Adaptive && options.penalty != Penalty::Neuron {
            return Err(Error::Usage(
                "the price of a gate is that of the neuron-wise penalty: take `--penalty neuron`, or gates that are \
                 sampled"
                    .into(),
            ));
        }
        let table = data.table;
        let encoder = Encoder::learn(table, &data.train, &data.target, options.task, options.bias)?;
        let x = encoder.features(table, &data.train)?;
        let labels = encoder.labels(table, &data.train)?;
        targets::check_loss(options.loss, &labels, &data.target)?;
        let is_given = given.is_some();
        let Gates {
            vectors,
            patterns,
            exhaustive,
        } = choose(&x, options, given)?;
        let mut problem = Problem {
            targets: targets::matrix(&labels, encoder.classes().len(), options.loss),
            loss: options.loss,
            penalty: options.penalty,
            activation: options.activation,
            lambda: 1.0,
            linear: None,
            intercept: options.bias == Bias::Free,
            matrix: GatedMatrix::new(x, patterns),
        };
        let mut vectors = vectors;
        let mut options = options.clone();
        if is_given && options.gates != GateChoice::Adaptive {
            options.gates = GateChoice::Given;
        }
        if options.linear {
            problem.linear = Some(problem.matrix.gates());
            problem
                .matrix
                .push(std::iter::repeat_n(true, data.train.len()));
            vectors.resize_with(vectors.nrows(), vectors.ncols() + 1, |_, _| 0.0);
        }
        Ok(Self {
            options,
            encoder,
            labels,
            vectors,
            exhaustive,
            problem,
            told: false,
        })
    }

    /// The top of a path: the `lambda` at which the network is zero, or, with the squared norm, is halved.
    pub(super) fn largest_lambda(&self) -> Result<f64, Error> {
        match self.options.penalty {
            Penalty::SquaredL2 => Ok(gated::leading_lambda(&self.problem)?),
            _ => Ok(gated::lambda_max(&self.problem)?),
        }
    }

    /// The minimum at `lambda`, from `warm`; adaptive gates are priced and added on the way.
    pub(super) fn solve(
        &mut self,
        lambda: f64,
        tolerance: f64,
        warm: &[Neuron],
        reporter: &dyn Reporter,
    ) -> Result<Solution, Error> {
        self.problem.lambda = lambda;
        if self.options.gates == GateChoice::Adaptive {
            return self.price(tolerance, warm, reporter);
        }
        watched(&self.problem, &self.up_to(tolerance), warm, reporter)
    }

    /// The solver's options.
    pub(super) fn up_to(&self, tolerance: f64) -> SolveOptions {
        SolveOptions {
            tolerance,
            max_iterations: self.options.max_iterations,
        }
    }

    /// Adds gates, `d x k`.
    pub(super) fn add(&mut self, gates: &Mat<f64>) {
        let patterns = Patterns::of(self.problem.matrix.x(), gates.as_ref());
        let before = self.vectors.ncols();
        self.vectors
            .resize_with(self.vectors.nrows(), before + gates.ncols(), |j, i| {
                gates[(j, i - before)]
            });
        for i in 0..gates.ncols() {
            let on = |s| patterns.get(i, s);
            self.problem.matrix.push((0..patterns.samples()).map(on));
        }
    }

    /// The network of a solution.
    pub(super) fn network(&self, solution: &Solution) -> Network {
        Network {
            activation: self.options.activation,
            gates: self.vectors.clone(),
            linear: self.problem.linear,
            neurons: solution.neurons.clone(),
            intercept: solution.intercept.clone(),
        }
    }

    /// How wrong `network` is on the training rows.
    fn train_error(&self, network: &Network) -> f64 {
        let z = network.predict(self.problem.matrix.x());
        targets::error(z.as_ref(), &self.labels)
    }

    /// How wrong `network` is on other rows; `None` for none.
    fn test_error(
        &self,
        network: &Network,
        table: &Table,
        rows: &[usize],
    ) -> Result<Option<f64>, Error> {
        if rows.is_empty() {
            return Ok(None);
        }
        let x = self.encoder.features(table, rows)?;
        let labels = self.encoder.labels(table, rows)?;
        let z = network.predict(x.as_ref());
        Ok(Some(targets::error(z.as_ref(), &labels)))
    }

    /// The model of a solution, measured.
    pub(super) fn model(
        &self,
        data: &Data<'_>,
        solution: Solution,
        seconds: f64,
    ) -> Result<NetModel, Error> {
        let network = self.network(&solution);
        let linear = usize::from(self.problem.linear.is_some());
        let report = NetReport {
            certificate: solution.certificate,
            status: solution.status,
            lambda: self.problem.lambda,
            lambda_max: gated::lambda_max(&self.problem).ok(),
            gates: self.problem.matrix.gates() - linear,
            exhaustive: self.exhaustive,
            neurons: network.neurons.len(),
            train_rows: data.train.len(),
            test_rows: data.test.len(),
            train_error: self.train_error(&network),
            test_error: self.test_error(&network, data.table, &data.test)?,
            iterations: solution.iterations,
            seconds,
        };
        Ok(NetModel::new(
            self.encoder.clone(),
            self.options.clone(),
            report,
            data.train.clone(),
            network,
        ))
    }
}

/// Solves on a thread of its own, while this one passes the gap on to the reporter, which need not be one
/// for several threads.
pub(super) fn watched(
    problem: &Problem,
    options: &SolveOptions,
    warm: &[Neuron],
    reporter: &dyn Reporter,
) -> Result<Solution, Error> {
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        let solver = scope.spawn(move || {
            let mut observer = |progress: &Progress<'_>| match send.send(progress.record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            gated::solve(problem, options, warm, &mut observer)
        });
        for record in receive {
            reporter.gap(record.iteration, record.relative_residual);
        }
        match solver.join() {
            Ok(solution) => Ok(solution?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The gates that the options ask for, or those that are given.
fn choose(x: &Mat<f64>, options: &NetOptions, given: Option<Mat<f64>>) -> Result<Gates, Error> {
    let bias = options.bias != Bias::None;
    let drawn = |count| sample(x.as_ref(), bias, options.sampler, count, options.seed);
    match (given, options.gates) {
        (Some(vectors), _) => given_gates(x.as_ref(), vectors.as_ref()),
        (None, GateChoice::Given) => Err(Error::Usage(
            "the gates are to be given, but none are".into(),
        )),
        (None, GateChoice::All) => enumerate(x.as_ref(), MOST_PATTERNS),
        (None, GateChoice::Sampled(count)) => Ok(drawn(count)),
        (None, GateChoice::Adaptive) => Ok(drawn(adaptive::FIRST)),
    }
}

/// The program that `model` is said to solve, on these rows.
///
/// # Errors
/// When the table lacks columns or holds what cannot be encoded.
pub fn problem(model: &NetModel, table: &Table, rows: &[usize]) -> Result<Problem, Error> {
    let (encoder, options) = (&model.header.encoder, &model.header.options);
    let x = encoder.features(table, rows)?;
    let labels = encoder.labels(table, rows)?;
    let network = &model.network;
    let found = Patterns::of(x.as_ref(), network.gates.as_ref());
    let mut patterns = Patterns::new(x.nrows());
    for i in 0..found.len() {
        let on = |s| network.linear == Some(i) || found.get(i, s);
        patterns.push((0..x.nrows()).map(on));
    }
    Ok(Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets: targets::matrix(&labels, encoder.classes().len(), options.loss),
        loss: options.loss,
        penalty: options.penalty,
        activation: options.activation,
        lambda: model.header.report.lambda,
        linear: network.linear,
        intercept: options.bias == Bias::Free,
    })
}

/// Recomputes a model's certificate on these rows.
///
/// # Errors
/// As [`problem`].
pub fn certify(model: &NetModel, table: &Table, rows: &[usize]) -> Result<GapCertificate, Error> {
    let problem = problem(model, table, rows)?;
    let network = &model.network;
    Ok(gated::certify(
        &problem,
        &network.neurons,
        &network.intercept,
    )?)
}

/// The minimum of a program, to a relative gap of `tolerance`.
pub(super) fn solve_problem(
    problem: &Problem,
    tolerance: f64,
    reporter: &dyn Reporter,
) -> Result<Solution, Error> {
    let options = SolveOptions {
        tolerance,
        ..SolveOptions::default()
    };
    watched(problem, &options, &[], reporter)
}
