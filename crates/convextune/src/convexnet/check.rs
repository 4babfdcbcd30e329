//! A two-layer ReLU network that was trained elsewhere, against its own convex program.
//!
//! The network has `m` hidden units, `Z = sum_k (X w1_k)_+ w2_k' + 1 b2'`, and was trained on
//!
//! ```text
//!     F(Z) + (lambda/2) sum_k ( ||w1_k||^2 + ||w2_k||^2 ) ,                               (1)
//! ```
//!
//! where `X` has a column of ones if hidden units have biases, so that these are among `w1`; `b2` is free. With
//! `M_k = diag(1[X w1_k > 0])` and `G = grad F(Z)` its gradient is
//!
//! ```text
//!     X' M_k G w2_k + lambda w1_k ,     G' (X w1_k)_+ + lambda w2_k ,     G' 1 .             (2)
//! ```
//!
//! Let `(P)` be the ReLU program of [`convextune_solve::gated`] with the patterns of the network's own
//! units. Each unit, split into one for every output that it feeds, is a point of `(P)`, at
//!
//! ```text
//!     F(Z) + lambda sum_k ||w1_k|| sum_c |w2_kc| .                                      (3)
//! ```
//!
//! With one output (3) is at most (1), and equal to it for balanced units. A network with one output and zero
//! gradient is a minimum of `(P)`: for a live unit (2) says that `w1_k` is `-X' M_k G w2_k / lambda` and
//! `||w1_k|| = |w2_k|`, so the correlation of block `V_i` (or `W_i`, by the sign of `w2_k`) is `lambda w1_k / ||w1_k||`,
//! a vector of length `lambda` in the cone; and the other of the two blocks has the negative of it, whose
//! projection on the cone is no longer than `lambda` (Wang, Lacotte, Pilanci, *The hidden convex optimization
//! landscape of regularized two-layer ReLU networks*, ICLR 2022). That a network is such a minimum says
//! nothing about other patterns: with more of them the minimum may be lower, and the lowest is that with all.

mod foreign;

use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::gated::{Activation, GapCertificate, GatedMatrix, Loss, Penalty, Problem};
use serde::Serialize;

pub use foreign::ReluNetwork;

use super::fit::solve_problem;
use super::gates::{Gates, enumerate, given, sample};
use super::table::{Encoder, Table, Target};
use super::{Bias, GateChoice, Sampler, Task, targets};
use crate::error::Error;
use crate::progress::Reporter;

/// A gradient so small, relative to its parts, counts as zero; a relative distance to a minimum so small
/// counts as none.
pub const NEGLIGIBLE: f64 = 1e-3;
/// All patterns are looked for up to so many.
const MOST_PATTERNS: usize = 100_000;

/// What the network was trained on.
pub struct CheckOptions {
    /// Name of the target's column.
    pub target: String,
    /// `None`: found out from the target column.
    pub task: Option<Task>,
    /// `lambda` of (1).
    pub lambda: f64,
    /// `F`.
    pub loss: Loss,
    /// Whether the network reads features (and predicts values) as they are in the table, not standardised.
    pub raw: bool,
    /// More patterns than the network's own; `None`: not asked for.
    pub gates: Option<GateChoice>,
    /// Seed of sampled gates.
    pub seed: u64,
    /// Relative duality gap to which programs are solved.
    pub tolerance: f64,
}

/// A solved program beside the network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Optimum {
    /// Its certificate.
    #[serde(flatten)]
    pub certificate: GapCertificate,
    /// Patterns.
    pub gates: usize,
    /// Whether these are all patterns there are: the minimum is the global one.
    pub exhaustive: bool,
    /// Live neurons.
    pub neurons: usize,
    /// By how much (3) is above the objective, relative to it; negative when it is below.
    pub excess: f64,
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// Hidden units.
    pub units: usize,
    /// Those that are on for a training row and feed an output.
    pub live_units: usize,
    /// Rows.
    pub rows: usize,
    /// (1).
    pub objective: f64,
    /// `F(Z)`.
    pub loss: f64,
    /// (3).
    pub split_objective: f64,
    /// Length of (2).
    pub gradient_norm: f64,
    /// The same over the lengths of the loss's gradient and of the decay's, added.
    pub relative_gradient_norm: f64,
    /// Whether that is at most [`NEGLIGIBLE`].
    pub stationary: bool,
    /// What is predicted.
    pub task: Task,
    /// Share of rows classified wrongly; with regression the root mean square error in deviations of the target, or
    /// for a network that is [`raw`](CheckOptions::raw) in the target's units.
    pub error: f64,
    /// `(P)`.
    pub own_program: Optimum,
    /// Whether `own_program.excess` is at most [`NEGLIGIBLE`].
    pub optimal_for_own_program: bool,
    /// The program with more patterns, if it was asked for.
    pub larger_program: Option<Optimum>,
}

/// Checks `network` on some rows of a table.
///
/// # Errors
/// When the network does not fit the table, or a program cannot be solved.
pub fn check(
    network: &ReluNetwork,
    table: &Table,
    rows: &[usize],
    options: &CheckOptions,
    reporter: &dyn Reporter,
) -> Result<CheckReport, Error> {
    let (x, y, target) = inputs(network, table, rows, options)?;
    let evaluation = Evaluation::new(network, x.as_ref(), y.as_ref(), options);
    let own = given(x.as_ref(), network.live(x.as_ref())?.as_ref())?;
    reporter.stage("the network's own program", 0);
    let own_program = evaluation.optimum((&x, &y), &own, options, reporter)?;
    let larger_program = match options.gates {
        None => None,
        Some(choice) => {
            reporter.stage("the larger program", 0);
            let gates = larger(&own, x.as_ref(), network.b1.is_some(), choice, options.seed)?;
            Some(evaluation.optimum((&x, &y), &gates, options, reporter)?)
        }
    };
    let relative =
        evaluation.gradient_norm / (evaluation.loss_gradient + evaluation.decay_gradient);
    Ok(CheckReport {
        units: network.w1.ncols(),
        live_units: network.live(x.as_ref())?.ncols(),
        rows: rows.len(),
        objective: evaluation.objective,
        loss: evaluation.loss,
        split_objective: evaluation.split_objective,
        gradient_norm: evaluation.gradient_norm,
        relative_gradient_norm: relative,
        stationary: relative <= NEGLIGIBLE,
        task: match target {
            Target::Classes(_) => Task::Classification,
            Target::Values(_) => Task::Regression,
        },
        error: targets::error(evaluation.z.as_ref(), &target),
        optimal_for_own_program: own_program.excess <= NEGLIGIBLE,
        own_program,
        larger_program,
    })
}

/// `X`, `Y` and the labels as the network saw them.
fn inputs(
    network: &ReluNetwork,
    table: &Table,
    rows: &[usize],
    options: &CheckOptions,
) -> Result<(Mat<f64>, Mat<f64>, Target), Error> {
    let bias = if network.b1.is_some() {
        Bias::Penalized
    } else {
        Bias::None
    };
    let encoder = Encoder::learn(table, rows, &options.target, options.task, bias)?;
    let mut x = encoder.features(table, rows)?;
    let mut labels = encoder.labels(table, rows)?;
    targets::check_loss(options.loss, &labels, &options.target)?;
    let classes = encoder.classes().len();
    let (shift, scale) = encoder.scales();
    network.check_fits(shift.len(), targets::outputs(classes))?;
    let mut y = targets::matrix(&labels, classes, options.loss);
    if options.raw {
        for (j, (m, s)) in shift.iter().zip(&scale).enumerate() {
            x.col_as_slice_mut(j)
                .iter_mut()
                .for_each(|x| *x = m + s * *x);
        }
        if let Target::Values(values) = &mut labels {
            values.iter_mut().for_each(|y| *y = encoder.value(*y));
            y.col_as_slice_mut(0).copy_from_slice(values);
        }
    }
    Ok((x, y, labels))
}

/// The network's own patterns and more.
fn larger(
    own: &Gates,
    x: MatRef<'_, f64>,
    bias: bool,
    choice: GateChoice,
    seed: u64,
) -> Result<Gates, Error> {
    let more = match choice {
        GateChoice::All => return enumerate(x, MOST_PATTERNS),
        GateChoice::Sampled(count) => sample(x, bias, Sampler::Gaussian, count, seed),
        GateChoice::Adaptive | GateChoice::Given => {
            return Err(Error::Usage(
                "a network is checked with --gates N or --gates all".into(),
            ));
        }
    };
    let (a, b) = (own.vectors.ncols(), more.vectors.ncols());
    let both = Mat::from_fn(x.ncols(), a + b, |j, i| {
        if i < a {
            own.vectors[(j, i)]
        } else {
            more.vectors[(j, i - a)]
        }
    });
    given(x, both.as_ref())
}

/// Objectives and gradient of a network.
struct Evaluation {
    z: Mat<f64>,
    loss: f64,
    objective: f64,
    split_objective: f64,
    gradient_norm: f64,
    /// Lengths of the two parts of (2).
    loss_gradient: f64,
    decay_gradient: f64,
    intercept: bool,
}

impl Evaluation {
    fn new(
        network: &ReluNetwork,
        x: MatRef<'_, f64>,
        y: MatRef<'_, f64>,
        options: &CheckOptions,
    ) -> Self {
        let (w1, w2, lambda) = (&network.stacked(), &network.w2, options.lambda);
        let scores = x * w1;
        let on = |s: usize, k: usize| scores[(s, k)] > 0.0;
        let hidden = Mat::from_fn(x.nrows(), w1.ncols(), |s, k| scores[(s, k)].max(0.0));
        let b2 = |c: usize| network.b2.as_ref().map_or(0.0, |b| b[c]);
        let product = &hidden * w2;
        let z = Mat::from_fn(x.nrows(), w2.ncols(), |s, c| product[(s, c)] + b2(c));
        let g = options.loss.gradient(z.as_ref(), y);
        let back = &g * w2.transpose();
        let masked = Mat::from_fn(x.nrows(), w1.ncols(), |s, k| {
            if on(s, k) { back[(s, k)] } else { 0.0 }
        });
        let (g1, g2) = (x.transpose() * masked, hidden.transpose() * &g);
        let free: Vec<f64> = match network.b2 {
            Some(_) => (0..g.ncols())
                .map(|c| g.col_as_slice(c).iter().sum())
                .collect(),
            None => Vec::new(),
        };
        let free = free.iter().map(|g: &f64| g * g).sum::<f64>();
        let length = |a: f64, b: f64, free: f64| (a * a + b * b + free).sqrt();
        let sum = |g: &Mat<f64>, w: &Mat<f64>| {
            (g + Mat::from_fn(w.nrows(), w.ncols(), |i, j| lambda * w[(i, j)])).norm_l2()
        };
        let loss = options.loss.value(z.as_ref(), y);
        let decay = 0.5 * (w1.norm_l2().powi(2) + w2.norm_l2().powi(2));
        let column =
            |k: usize| w1.col(k).norm_l2() * (0..w2.ncols()).map(|c| w2[(k, c)].abs()).sum::<f64>();
        let split: f64 = (0..w1.ncols()).map(column).sum();
        Self {
            loss,
            objective: loss + lambda * decay,
            split_objective: loss + lambda * split,
            gradient_norm: length(sum(&g1, w1), sum(&g2, w2), free),
            loss_gradient: length(g1.norm_l2(), g2.norm_l2(), free),
            decay_gradient: lambda * (2.0 * decay).sqrt(),
            intercept: network.b2.is_some(),
            z,
        }
    }

    /// The ReLU program with these gates, solved.
    fn optimum(
        &self,
        (x, y): (&Mat<f64>, &Mat<f64>),
        gates: &Gates,
        options: &CheckOptions,
        reporter: &dyn Reporter,
    ) -> Result<Optimum, Error> {
        let problem = Problem {
            matrix: GatedMatrix::new(x.clone(), gates.patterns.clone()),
            targets: y.clone(),
            loss: options.loss,
            penalty: Penalty::Neuron,
            activation: Activation::Relu,
            lambda: options.lambda,
            linear: None,
            intercept: self.intercept,
        };
        let solution = solve_problem(&problem, options.tolerance, reporter)?;
        let least = solution.certificate.objective;
        Ok(Optimum {
            certificate: solution.certificate,
            gates: gates.patterns.len(),
            exhaustive: gates.exhaustive,
            neurons: solution.neurons.len(),
            excess: (self.split_objective - least) / least,
        })
    }
}

#[cfg(test)]
mod tests;
