//! Preconditioned conjugate gradients for `H x = b`, `H` symmetric positive definite.
//!
//! ```text
//!     r = b - H x,  z = B^-1 r,  p = z,  rho = <r, z>
//!     repeat   q     = H p
//!              alpha = rho / <p, q>
//!              x    += alpha p,   r -= alpha q
//!              z     = B^-1 r
//!              beta  = <r, z> / rho,   rho = <r, z>
//!              p     = z + beta p
//! ```
//!
//! (Hestenes and Stiefel 1952; Golub and Van Loan, 4th ed., algorithm 11.5.1.)
//!
//! **Error estimate.** `||x* - x_k||_H^2 = sum_{j >= k} alpha_j rho_j` (Hestenes and Stiefel,
//! theorem 6:1), so the last `d` terms are a lower bound for the squared energy norm of the error `d`
//! iterations ago, tight once `d` more iterations have reduced it a good deal (Golub and Meurant
//! 1997; Strakos and Tichy 2002). As errors decrease, it is an estimate, mostly a pessimistic one, for the
//! current point.
//!
//! [`Pcg`] owns the recurrences; [`Pcg::run`] owns the budget, the check for values that are not
//! finite and the observer; a [`Criterion`] knows what is being solved and when it is good enough.

use serde::{Deserialize, Serialize};

use super::preconditioner::Preconditioner;
use crate::dense::{axpy, dot, norm, ratio, xpby};
use crate::error::{SolveError, check_finite, check_len};
use crate::operator::OperatorError;
use crate::status::{Observer, Progress, Record, Status};

/// Terms in the error estimate, the delay `d`.
const DELAY: usize = 4;

/// A symmetric positive definite map on `R^dim`.
pub trait SymmetricOperator {
    /// Length of `x` and `y`.
    fn dim(&self) -> usize;

    /// `y = H x`; overwrites `y`.
    ///
    /// # Errors
    /// When the data behind the operator cannot be read.
    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError>;
}

/// Everything conjugate gradients remember between iterations, as plain numbers. Saving it and
/// calling [`Pcg::resume`] continues the iteration bit for bit, given the same operator and
/// preconditioner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PcgState {
    /// The current point.
    pub x: Vec<f64>,
    /// `b - H x`, by recurrence.
    pub r: Vec<f64>,
    /// The search direction.
    pub p: Vec<f64>,
    /// `<r, B^-1 r>`.
    pub rho: f64,
    /// `||r||`.
    pub residual_norm: f64,
    /// `||b||`, to which residuals are relative.
    pub reference: f64,
    /// Iterations done.
    pub iteration: usize,
    /// The latest terms `alpha_j rho_j`, oldest first.
    pub energy: Vec<f64>,
    /// Applications of the preconditioner so far.
    pub preconditioner_applications: u64,
    /// The relative gradient norm at the last fresh check, if any.
    pub fresh_gradient: Option<f64>,
    /// Dual form: the last measured ratio of the relative gradient norm to the relative residual.
    pub gradient_ratio: Option<f64>,
}

impl PcgState {
    /// `||r|| / ||b||`.
    pub fn relative_residual(&self) -> f64 {
        ratio(self.residual_norm, self.reference)
    }

    /// The estimate of `||x* - x||_H` described in the module's documentation; `None` in the first
    /// iterations.
    pub fn energy_norm_estimate(&self) -> Option<f64> {
        (self.energy.len() == DELAY).then(|| self.energy.iter().sum::<f64>().sqrt())
    }
}

/// What is being solved, and when it is good enough.
pub trait Criterion {
    /// The figures of the current iterate.
    fn record(&mut self, state: &PcgState) -> Record;

    /// Whether the iterate is good enough. May do work and note its findings in `record` and
    /// `state`.
    ///
    /// # Errors
    /// When the operator fails.
    fn satisfied(
        &mut self,
        state: &mut PcgState,
        record: &mut Record,
    ) -> Result<bool, OperatorError>;
}

/// The conjugate gradient iteration.
pub struct Pcg<'a> {
    operator: &'a dyn SymmetricOperator,
    preconditioner: &'a dyn Preconditioner,
    state: PcgState,
    z: Vec<f64>,
    q: Vec<f64>,
}

impl<'a> Pcg<'a> {
    /// Starts on `H x = b` at `start`, or at zero. A start costs one application of `H`.
    ///
    /// # Errors
    /// When lengths disagree, an entry is not finite, or the operator fails.
    pub fn new(
        operator: &'a dyn SymmetricOperator,
        preconditioner: &'a dyn Preconditioner,
        b: &[f64],
        start: Option<Vec<f64>>,
    ) -> Result<Self, SolveError> {
        check_len("right-hand side", operator.dim(), b.len())?;
        check_finite("right-hand side", b)?;
        let mut r = b.to_vec();
        if let Some(x) = &start {
            check_len("starting point", operator.dim(), x.len())?;
            check_finite("starting point", x)?;
            let mut image = vec![0.0; b.len()];
            operator.apply(x, &mut image)?;
            axpy(-1.0, &image, &mut r);
        }
        let state = PcgState {
            x: start.unwrap_or_else(|| vec![0.0; b.len()]),
            p: vec![0.0; b.len()],
            r: vec![0.0; b.len()],
            rho: 0.0,
            residual_norm: 0.0,
            reference: norm(b),
            iteration: 0,
            energy: Vec::with_capacity(DELAY),
            preconditioner_applications: 0,
            fresh_gradient: None,
            gradient_ratio: None,
        };
        let mut pcg = Self::resume(operator, preconditioner, state)?;
        pcg.restart(&r);
        Ok(pcg)
    }

    /// Continues from a saved state.
    ///
    /// # Errors
    /// When a vector of the state does not fit the operator, or the preconditioner does not.
    pub fn resume(
        operator: &'a dyn SymmetricOperator,
        preconditioner: &'a dyn Preconditioner,
        state: PcgState,
    ) -> Result<Self, SolveError> {
        let n = operator.dim();
        check_len("preconditioner", n, preconditioner.dim())?;
        check_len("x of the saved state", n, state.x.len())?;
        check_len("r of the saved state", n, state.r.len())?;
        check_len("p of the saved state", n, state.p.len())?;
        Ok(Self {
            operator,
            preconditioner,
            state,
            z: vec![0.0; n],
            q: vec![0.0; n],
        })
    }

    /// The current state.
    pub fn state(&self) -> &PcgState {
        &self.state
    }

    /// The current state, mutable; for notes such as [`PcgState::fresh_gradient`].
    pub(crate) fn state_mut(&mut self) -> &mut PcgState {
        &mut self.state
    }

    /// Ends the iteration and hands out its state.
    pub fn into_state(self) -> PcgState {
        self.state
    }

    /// Begins anew at the current point with the freshly computed residual `r = b - H x`, as is due
    /// when rounding has let the recurrence drift from it. Directions and the error estimate start
    /// over; the iteration count goes on.
    pub fn restart(&mut self, r: &[f64]) {
        self.state.r.copy_from_slice(r);
        self.state.energy.clear();
        self.precondition();
        self.state.rho = dot(&self.state.r, &self.z);
        self.state.residual_norm = norm(&self.state.r);
        self.state.p.copy_from_slice(&self.z);
    }

    /// One iteration. `false` means breakdown: `H` or `B` is not positive definite, or a value is
    /// not finite. The point is then the last sound one.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn step(&mut self) -> Result<bool, OperatorError> {
        self.operator.apply(&self.state.p, &mut self.q)?;
        let rho = self.state.rho;
        let curvature = dot(&self.state.p, &self.q);
        if !is_positive(rho) || !is_positive(curvature) {
            return Ok(false);
        }
        let alpha = rho / curvature;
        axpy(alpha, &self.state.p, &mut self.state.x);
        axpy(-alpha, &self.q, &mut self.state.r);
        self.precondition();
        self.state.rho = dot(&self.state.r, &self.z);
        self.state.residual_norm = norm(&self.state.r);
        xpby(&self.z, self.state.rho / rho, &mut self.state.p);
        self.state.iteration += 1;
        self.note_energy(alpha * rho);
        Ok(true)
    }

    /// Iterates until the criterion is satisfied, `max_iterations` in all are done, the observer
    /// breaks, or the iteration breaks down. Appends one record an iteration to `history`.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn run(
        &mut self,
        max_iterations: usize,
        criterion: &mut dyn Criterion,
        observer: &mut dyn Observer,
        history: &mut Vec<Record>,
    ) -> Result<Status, OperatorError> {
        loop {
            let mut record = criterion.record(&self.state);
            let satisfied = criterion.satisfied(&mut self.state, &mut record)?;
            history.push(record);
            let progress = Progress {
                record,
                state: Some(&self.state),
            };
            if observer.iteration(&progress).is_break() {
                return Ok(Status::Interrupted);
            }
            if satisfied || self.state.residual_norm == 0.0 {
                return Ok(Status::Converged);
            }
            if self.state.iteration >= max_iterations {
                return Ok(Status::MaxIterations);
            }
            if !self.step()? {
                return Ok(Status::Breakdown);
            }
        }
    }

    /// `z = B^-1 r`.
    fn precondition(&mut self) {
        self.preconditioner.apply(&self.state.r, &mut self.z);
        self.state.preconditioner_applications += 1;
    }

    fn note_energy(&mut self, term: f64) {
        if self.state.energy.len() == DELAY {
            self.state.energy.remove(0);
        }
        self.state.energy.push(term);
    }
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}
