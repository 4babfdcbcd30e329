//! Two-layer networks as convex programs.
//!
//! Data `X` (`n x d`, a column of ones appended when neurons have a bias), targets `Y` (`n x C`). A gate
//! `g` in `R^d` switches samples on and off, `D = diag(1[X g > 0])`. With `P` gates the output is
//!
//! ```text
//!     Z = sum_i D_i X U_i + 1 b' ,      U_i  d x C ,
//! ```
//!
//! and training is the convex program
//!
//! ```text
//!     min over U, b    F(Z) + lambda R(U)                                             (1)
//! ```
//!
//! * **Gated ReLU** ([`Activation::Gated`]): `U_i` is free. With the neuron-wise norm, (1) is the exact
//!   training problem of a two-layer network of gated ReLU units with weight decay (Mishkin, Sahiner,
//!   Pilanci, ICML 2022, theorem 2.1): a group lasso.
//! * **ReLU** ([`Activation::Relu`]): `U_i = V_i - W_i` with every column of `V_i` and `W_i` in the cone
//!   `K_i = { u : (2 D_i - I) X u >= 0 }`, on which `D_i X u = (X u)_+`, and the norms of `V_i` and `W_i`
//!   are summed (Pilanci, Ergen, ICML 2020, theorem 1): exact when the gates hold every pattern, and for
//!   sampled gates the best network whose neurons have one of these patterns.
//! * A **linear** neuron is a gate that is always on and has no cone.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | `n, d, C, P` | | samples, features (bias included), outputs, gates |
//! | `X`, `Y`, `Z` | `n x d`, `n x C`, `n x C` | data, targets, outputs |
//! | `D_i` | `n x n` | diagonal 0/1 pattern of gate `i` |
//! | `U_i` | `d x C` | the weights behind gate `i` |
//! | `b` | `C` | free output bias (`intercept`), not penalised |
//! | `lambda` | | penalty, `> 0` |
//! | `Theta` | `n x C` | dual variable; at the optimum `-grad F(Z)` |
//!
//! A point is kept as the list of its live [`Neuron`]s.

mod admm;
mod certificate;
mod fista;
mod kernel_newton;
pub mod loss;
mod matrix;
mod newton;
mod newton_solver;
mod patterns;
mod proximal_newton;
mod ridge;
mod solution;
mod solve;
mod working_set;

use faer::Mat;
use serde::{Deserialize, Serialize};

pub use admm::{AdmmOptions, admm};
pub use certificate::{certify, lambda_max};
pub use loss::Loss;
pub use matrix::{Column, GatedMatrix};
pub use patterns::Patterns;
pub use ridge::{GatedRidge, MOST_SAMPLES, RidgePoint, cross_kernel, leading_lambda};
pub use solution::{Solution, SolveOptions};
pub use solve::solve;

use crate::error::{SolveError, check_len, check_positive};
use crate::factor::check_finite;

/// What a neuron does to what its gate lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Nothing: gate and weights are independent.
    Gated,
    /// Gate and weights agree on the training samples: the neuron is a ReLU.
    Relu,
}

/// `R(U)` of program (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Penalty {
    /// `sum over gates i and outputs c of ||U_i[:, c]||_2`: weight decay of a network whose neurons feed
    /// one output each. Exact.
    Neuron,
    /// `sum over features j and outputs c of || U[j, c] over all gates ||_2`: drops features. No theorem
    /// makes it a norm of the network's weights.
    Feature,
    /// `sum |U|`.
    L1,
    /// `1/2 sum U^2`: dense, unique. Weight decay of the network whose gates and output weights are fixed and whose
    /// first layer is trained, ridge regression.
    SquaredL2,
    /// `sum over i of ||U_i||_*`: weight decay of a network whose neurons feed all outputs. Exact for gated
    /// ReLU; with ReLU a relaxation for neurons whose output weights have one sign, and no bound for others.
    Nuclear,
}

/// One training problem of the form (1).
#[derive(Clone, Debug)]
pub struct Problem {
    /// `X` and the patterns of the gates.
    pub matrix: GatedMatrix,
    /// `Y`, `n x C`: values (squared loss); one column of `-1, 1` or one-hot rows (cross entropy); `-1, 1`
    /// (squared hinge).
    pub targets: Mat<f64>,
    /// `F`.
    pub loss: Loss,
    /// `R`.
    pub penalty: Penalty,
    /// Whether weights are tied to gates.
    pub activation: Activation,
    /// `lambda`.
    pub lambda: f64,
    /// The gate of the linear neuron, if there is one: always on, and without a cone.
    pub linear: Option<usize>,
    /// Whether there is a free output bias `b`.
    pub intercept: bool,
}

impl Problem {
    /// `C`.
    pub fn outputs(&self) -> usize {
        self.targets.ncols()
    }

    /// Whether the weights behind `gate` must lie in its cone.
    pub fn has_cone(&self, gate: usize) -> bool {
        self.activation == Activation::Relu && self.linear != Some(gate)
    }

    /// That shapes fit, numbers are finite, and `lambda` is positive.
    ///
    /// # Errors
    /// When they are not.
    pub fn check(&self) -> Result<(), SolveError> {
        check_len("targets", self.matrix.samples(), self.targets.nrows())?;
        check_finite("data", self.matrix.x())?;
        check_finite("targets", self.targets.as_ref())?;
        check_positive("lambda", self.lambda)?;
        check_positive("number of outputs", self.outputs() as f64)?;
        match self.linear {
            Some(gate) => check_len(
                "samples on which the linear gate is on",
                self.matrix.samples(),
                self.matrix.patterns().count(gate),
            ),
            None => Ok(()),
        }
    }

    /// The outputs `Z` of a point.
    pub fn outputs_at(&self, neurons: &[Neuron], intercept: &[f64]) -> Mat<f64> {
        let mut z = Mat::from_fn(self.matrix.samples(), self.outputs(), |_, c| {
            intercept.get(c).copied().unwrap_or(0.0)
        });
        let (columns, weights) = signed_columns(self.matrix.features(), neurons);
        self.matrix.apply(&columns, weights.as_ref(), &mut z);
        z
    }
}

/// A live neuron: it adds `sign * D_gate X weights` to one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neuron {
    /// Its gate.
    pub gate: usize,
    /// The output it feeds.
    pub output: usize,
    /// `1` (a column of `U_i` or `V_i`) or `-1` (of `W_i`).
    pub sign: f64,
    /// Length `d`; in the gate's cone for ReLU.
    pub weights: Vec<f64>,
}

/// Columns and a `d x k` matrix of `sign * weights`, for [`GatedMatrix::apply`].
fn signed_columns(features: usize, neurons: &[Neuron]) -> (Vec<Column>, Mat<f64>) {
    let columns = neurons.iter().map(|n| Column {
        gate: n.gate,
        output: n.output,
    });
    let weights = Mat::from_fn(features, neurons.len(), |j, k| {
        neurons[k].sign * neurons[k].weights[j]
    });
    (columns.collect(), weights)
}

/// What is proved about a point of a [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapCertificate {
    /// `F(Z) + lambda R(U)`, without any other term.
    pub objective: f64,
    /// The value of a feasible dual point: a lower bound on the minimum.
    pub dual_value: f64,
    /// `objective - dual_value`.
    pub duality_gap: f64,
    /// The gap divided by the objective.
    pub relative_duality_gap: f64,
    /// The most by which a weight leaves its cone: `max over neurons, samples of
    /// -(2 D_i - I) x_s' u / (||x_s|| ||u||)`, at least 0; 0 for gated ReLU.
    pub constraint_violation: f64,
}
