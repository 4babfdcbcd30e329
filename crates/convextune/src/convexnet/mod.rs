//! Two-layer networks on tables, trained to the certified minimum of their convex program
//! ([`convextune_solve::gated`] has the programs).
//!
//! ```text
//!     table ─► Encoder ─► X, Y ─► gates ─► Problem ─► solve ─► neurons + certificate ─► NetModel
//! ```

mod adaptive;
mod along;
pub mod check;
pub mod export;
mod fit;
pub mod gates;
pub mod model;
mod network;
pub mod onnx;
pub mod path;
pub mod prune;
pub mod recovery;
pub mod table;
pub mod targets;

use convextune_solve::Status;
use convextune_solve::gated::{Activation, GapCertificate, Loss, Penalty};
pub use export::PLAIN_KIND;
pub use fit::{Data, certify, fit, inner_folds, problem};
pub use model::{KIND, NetHeader, NetModel, Predictions};
pub use network::Network;
pub use path::{Choice, PathOptions, PathPoint, PathReport, Trial, path};
use serde::{Deserialize, Serialize};

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A class.
    Classification,
    /// A number.
    Regression,
}

/// Where gates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateChoice {
    /// So many samples of the [`Sampler`].
    Sampled(usize),
    /// Every activation pattern.
    All,
    /// Vectors handed over beside the options.
    Given,
    /// Begun from a few samples, then priced by the dual until no better one is found.
    Adaptive,
}

/// How gates are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Standard normal vectors.
    Gaussian,
    /// Normals of hyperplanes through random samples, as many as determine one, tilted off them.
    NullVector,
    /// Normal weights on 1 to `sqrt(d)` random features, and on the bias.
    Sparse,
    /// Normal weights on a window of `max(3, sqrt(d))` neighbouring features, and on the bias.
    Convolutional,
}

/// Which biases there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// None.
    None,
    /// One a neuron, penalised as one of its weights.
    Penalized,
    /// The same, and a free one for every output.
    Free,
}

/// Options of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetOptions {
    /// `None`: found out from the target column.
    pub task: Option<Task>,
    /// Gated or ReLU.
    pub activation: Activation,
    /// Which gates.
    pub gates: GateChoice,
    /// How they are drawn.
    pub sampler: Sampler,
    /// `lambda`; `None`: for a [`path`](path()) to choose, or chosen by one.
    pub lambda: Option<f64>,
    /// The loss.
    pub loss: Loss,
    /// The penalty.
    pub penalty: Penalty,
    /// The biases.
    pub bias: Bias,
    /// Whether there is a linear neuron beside the others.
    pub linear: bool,
    /// Seed of gates and folds.
    pub seed: u64,
    /// Relative duality gap to reach.
    pub tolerance: f64,
    /// Iterations allowed to the outer loop of the solver.
    pub max_iterations: usize,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            task: None,
            activation: Activation::Gated,
            gates: GateChoice::Sampled(500),
            sampler: Sampler::Gaussian,
            lambda: None,
            loss: Loss::Squared,
            penalty: Penalty::Neuron,
            bias: Bias::Penalized,
            linear: false,
            seed: 0,
            tolerance: 1e-6,
            max_iterations: 200,
        }
    }
}

/// What was measured and proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetReport {
    /// Objective, dual value, gap and violation, recomputed at the returned point.
    #[serde(flatten)]
    pub certificate: GapCertificate,
    /// How the solver ended.
    pub status: Status,
    /// `lambda`.
    pub lambda: f64,
    /// The least `lambda` at which the network is zero; none with the squared norm.
    pub lambda_max: Option<f64>,
    /// Distinct patterns in the program.
    pub gates: usize,
    /// Whether these are all patterns there are.
    pub exhaustive: bool,
    /// Live neurons.
    pub neurons: usize,
    /// Training rows.
    pub train_rows: usize,
    /// Test rows.
    pub test_rows: usize,
    /// Share of training rows classified wrongly; with regression the root mean square error over the
    /// standard deviation of the training targets.
    pub train_error: f64,
    /// The same on the test rows, if there are any.
    pub test_error: Option<f64>,
    /// Iterations of the solver's outer loop.
    pub iterations: usize,
    /// Wall clock of the fit, without reading the data.
    pub seconds: f64,
}

#[cfg(test)]
mod tests;
