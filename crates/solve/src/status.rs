//! What solvers return, and who watches them.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::quadratic::pcg::PcgState;
use crate::work::Work;

/// How a solver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The certificate, recomputed at the returned point, meets the tolerance.
    Converged,
    /// The iterations allowed were used up.
    MaxIterations,
    /// The observer asked to stop.
    Interrupted,
    /// Fresh gradients no longer shrink: the precision of the operator is reached.
    Stalled,
    /// The operator or the preconditioner is not positive definite, or a value is not finite; the
    /// point returned is the last sound one.
    Breakdown,
}

/// One line of a solver's history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Iterations done.
    pub iteration: usize,
    /// `||residual|| / ||residual at zero||` of the system that is solved.
    pub relative_residual: f64,
    /// `||grad L(u)|| / ||grad L(0)||`, where it is known without extra work: always in the primal,
    /// in the dual only at iterations that checked it.
    pub relative_gradient_norm: Option<f64>,
    /// The objective at the current point.
    pub objective: f64,
    /// An upper bound on the objective's distance to its minimum, in the objective's units. It
    /// comes from recurrences; the certificate of the solution comes from fresh passes.
    pub suboptimality_bound: f64,
}

/// What an [`Observer`] is shown after each iteration.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The figures of this iteration.
    pub record: Record,
    /// The complete state of the conjugate gradient loop, to be saved as a checkpoint; `None` for
    /// other solvers.
    pub state: Option<&'a PcgState>,
}

/// Watches a solver. `Break` ends the run with [`Status::Interrupted`] at the current point.
pub trait Observer {
    /// Called once an iteration.
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()>;
}

/// An observer that neither looks nor stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn iteration(&mut self, _: &Progress<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A closure observes.
impl<F: FnMut(&Progress<'_>) -> ControlFlow<()>> Observer for F {
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self(progress)
    }
}

/// The outcome of a solver for the ridge problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Solution {
    /// The primal point `u`, length `D`.
    pub x: Vec<f64>,
    /// The dual point `a`, length `NC`, with `u = A' a`; only from a dual solver.
    pub dual: Option<Vec<f64>>,
    /// How the run ended.
    pub status: Status,
    /// Computed at `x` with fresh passes.
    pub certificate: Certificate,
    /// Iterations done, those before a resumed checkpoint included.
    pub iterations: usize,
    /// Work done by this call, certificate included.
    pub work: Work,
    /// One record an iteration of this call, the starting point first. An iteration at which the
    /// solver began anew from a fresh residual appears twice.
    pub history: Vec<Record>,
}
