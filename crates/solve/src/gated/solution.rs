//! Options and outcome that the solvers of gated programs share.

use serde::{Deserialize, Serialize};

use super::{GapCertificate, Neuron};
use crate::status::{Record, Status};

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SolveOptions {
    /// Relative duality gap to reach; positive.
    pub tolerance: f64,
    /// Iterations of the outer loop allowed.
    pub max_iterations: usize,
}

impl Default for SolveOptions {
    fn default() -> Self {
        Self {
            tolerance: 1e-6,
            max_iterations: 200,
        }
    }
}

/// A solved program.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Live neurons.
    pub neurons: Vec<Neuron>,
    /// `b`, length `C`; zeros without a free intercept.
    pub intercept: Vec<f64>,
    /// Recomputed at this point.
    pub certificate: GapCertificate,
    /// How the run ended.
    pub status: Status,
    /// Iterations of the outer loop.
    pub iterations: usize,
    /// One record an iteration: `relative_residual` is the relative duality gap, `suboptimality_bound` the gap.
    pub history: Vec<Record>,
}
