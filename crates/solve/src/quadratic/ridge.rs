//! Conjugate gradients on the ridge problem, in two formulations with one certificate.
//!
//! **Primal.** `(A'A + Lambda I) u = A' r0`. The residual of this system is `-grad L(u)`, so its
//! relative norm is the certificate's. One normal product an iteration, vectors of length `D`.
//! From `b = A' r0` and the residual `r`, without extra products,
//! `L(u) = 1/2 ||r0||^2 - 1/2 <u, b + r>`.
//!
//! **Dual.** `(A A' + Lambda I) a = r0`, `u = A' a`. One product with `A'` and one with `A` an
//! iteration, vectors of length `NC`. With the residual `r = r0 - (K + Lambda I) a`:
//!
//! - `r0 - A u = r + Lambda a` and `||u||^2 = <a, r0 - r - Lambda a>` give `L(u)` for free;
//! - `1/2 ||r||^2` is a duality gap (`crate::certificate`, equation 2), for free as well;
//! - `grad L(u) = -A' r` costs a product with `A'`. So the gradient is checked only when
//!   `(ratio) * ||r|| / ||r0||` falls below the tolerance, where `ratio` is the quotient of the
//!   relative gradient norm and the relative residual at the previous check (at first a guess). Each check
//!   corrects the ratio.
//!
//! In both, when the recurrences say "converged", the certificate is computed with fresh passes. If
//! it does not meet the tolerance, the iteration begins anew at the same point from the fresh
//! residual; if fresh gradients no longer halve from one such restart to the next, the operator's precision
//! is reached and the status is [`Status::Stalled`].

use super::pcg::{Criterion, Pcg, PcgState, SymmetricOperator};
use super::preconditioner::Preconditioner;
use super::problem::RidgeProblem;
use super::system::{GramSystem, NormalSystem};
use crate::certificate::{Certificate, Evaluation, dual_residual};
use crate::dense::{dot, norm, norm_squared, ratio};
use crate::error::{SolveError, check_positive};
use crate::operator::OperatorError;
use crate::status::{Observer, Record, Solution, Status};
use crate::work::Work;

/// The first guess of the dual's ratio of relative gradient norm to relative residual.
const FIRST_RATIO: f64 = 0.25;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PcgOptions {
    /// Relative gradient norm `||grad L(u)|| / ||grad L(0)||` to reach; positive.
    pub tolerance: f64,
    /// Iterations allowed in all, those of a resumed checkpoint included.
    pub max_iterations: usize,
}

impl Default for PcgOptions {
    fn default() -> Self {
        Self {
            tolerance: 1e-3,
            max_iterations: 1000,
        }
    }
}

/// Where to start.
#[derive(Clone, Debug, Default)]
pub enum Start {
    /// At zero.
    #[default]
    Zero,
    /// At this point: `u` in the primal (length `D`), `a` in the dual (length `NC`). Costs one
    /// application of the system's matrix.
    Warm(Vec<f64>),
    /// Where a checkpoint of the same problem and preconditioner left off.
    Resume(Box<PcgState>),
}

/// Solves in the primal; the preconditioner approximates `(A'A + Lambda I)^-1`, dimension `D`.
///
/// # Errors
/// When the operator fails, dimensions disagree, or the tolerance is not positive.
pub fn solve_primal(
    problem: &RidgeProblem<'_>,
    preconditioner: &dyn Preconditioner,
    options: &PcgOptions,
    start: Start,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    check_positive("tolerance", options.tolerance)?;
    let work_before = problem.operator().work();
    let system = NormalSystem::new(problem.operator(), problem.lambda());
    let b = problem.gradient_at_zero()?;
    let reference = norm(&b);
    let mut pcg = begin(&system, preconditioner, &b, start)?;
    let applications_before = preconditioner_count(&pcg);
    let mut criterion = PrimalCriterion {
        problem,
        b: &b,
        tolerance: options.tolerance,
    };
    let mut history = Vec::new();
    let (status, mut certificate) = loop {
        let status = pcg.run(
            options.max_iterations,
            &mut criterion,
            observer,
            &mut history,
        )?;
        let fresh = Evaluation::at(problem, &pcg.state().x)?;
        let certificate = fresh.certificate(problem, reference, None);
        match verdict(status, &certificate, options, pcg.state_mut()) {
            Some(status) => break (status, certificate),
            None => pcg.restart(&fresh.gradient.iter().map(|g| -g).collect::<Vec<_>>()),
        }
    };
    let state = pcg.into_state();
    certificate.energy_norm_estimate = state.energy_norm_estimate();
    let work = work_since(problem, work_before, &state, applications_before);
    let iterations = state.iteration;
    Ok(Solution {
        x: state.x,
        dual: None,
        status,
        certificate,
        iterations,
        work,
        history,
    })
}

/// Solves in the dual; the preconditioner approximates `(A A' + Lambda I)^-1`, dimension `NC`.
///
/// # Errors
/// When the operator fails, dimensions disagree, or the tolerance is not positive.
pub fn solve_dual(
    problem: &RidgeProblem<'_>,
    preconditioner: &dyn Preconditioner,
    options: &PcgOptions,
    start: Start,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    check_positive("tolerance", options.tolerance)?;
    let work_before = problem.operator().work();
    let system = GramSystem::new(problem.operator(), problem.lambda());
    let reference = norm(&problem.gradient_at_zero()?);
    let mut pcg = begin(&system, preconditioner, problem.target(), start)?;
    let applications_before = preconditioner_count(&pcg);
    let tolerance = options.tolerance;
    let mut criterion = DualCriterion {
        problem,
        gradient: vec![0.0; problem.operator().cols()],
        reference,
        tolerance,
    };
    let mut history = Vec::new();
    let (status, u, certificate) = loop {
        let status = pcg.run(
            options.max_iterations,
            &mut criterion,
            observer,
            &mut history,
        )?;
        let a = &pcg.state().x;
        let mut u = vec![0.0; problem.operator().cols()];
        problem.operator().apply_adjoint(a, &mut u)?;
        let fresh = Evaluation::at(problem, &u)?;
        let residual = dual_residual(&fresh.residual, problem.lambda(), a);
        let gap = 0.5 * norm_squared(&residual);
        let certificate = fresh.certificate(problem, reference, Some(gap));
        match verdict(status, &certificate, options, pcg.state_mut()) {
            Some(status) => break (status, u, certificate),
            None => pcg.restart(&residual),
        }
    };
    let state = pcg.into_state();
    let work = work_since(problem, work_before, &state, applications_before);
    let iterations = state.iteration;
    Ok(Solution {
        x: u,
        dual: Some(state.x),
        status,
        certificate,
        iterations,
        work,
        history,
    })
}

/// The status to return with, or `None` to begin anew from the fresh residual.
fn verdict(
    status: Status,
    certificate: &Certificate,
    options: &PcgOptions,
    state: &mut PcgState,
) -> Option<Status> {
    let fresh = certificate.relative_gradient_norm;
    if fresh <= options.tolerance && status != Status::Interrupted {
        return Some(Status::Converged);
    }
    if status != Status::Converged {
        return Some(status);
    }
    let halved = state
        .fresh_gradient
        .is_none_or(|before| fresh <= 0.5 * before);
    state.fresh_gradient = Some(fresh);
    if !halved {
        return Some(Status::Stalled);
    }
    (state.iteration >= options.max_iterations).then_some(Status::MaxIterations)
}

/// What the recurrences must reach: the tolerance, or half of it once a fresh gradient has shown
/// that they drift.
fn goal(tolerance: f64, state: &PcgState) -> f64 {
    if state.fresh_gradient.is_some() {
        0.5 * tolerance
    } else {
        tolerance
    }
}

fn begin<'a>(
    system: &'a dyn SymmetricOperator,
    preconditioner: &'a dyn Preconditioner,
    b: &[f64],
    start: Start,
) -> Result<Pcg<'a>, SolveError> {
    match start {
        Start::Zero => Pcg::new(system, preconditioner, b, None),
        Start::Warm(x) => Pcg::new(system, preconditioner, b, Some(x)),
        Start::Resume(state) => Pcg::resume(system, preconditioner, *state),
    }
}

/// Applications of the preconditioner counted in the state.
fn preconditioner_count(pcg: &Pcg<'_>) -> u64 {
    pcg.state().preconditioner_applications
}

fn work_since(
    problem: &RidgeProblem<'_>,
    before: Work,
    state: &PcgState,
    applications_before: u64,
) -> Work {
    let preconditioner_applications = state
        .preconditioner_applications
        .saturating_sub(applications_before);
    problem.operator().work() - before
        + Work {
            preconditioner_applications,
            ..Work::default()
        }
}

/// The residual is the negative gradient.
struct PrimalCriterion<'a> {
    problem: &'a RidgeProblem<'a>,
    b: &'a [f64],
    tolerance: f64,
}

impl Criterion for PrimalCriterion<'_> {
    fn record(&mut self, state: &PcgState) -> Record {
        let energy = dot(&state.x, self.b) + dot(&state.x, &state.r);
        Record {
            iteration: state.iteration,
            relative_residual: state.relative_residual(),
            relative_gradient_norm: Some(state.relative_residual()),
            objective: 0.5 * (norm_squared(self.problem.target()) - energy),
            suboptimality_bound: state.residual_norm.powi(2) / (2.0 * self.problem.lambda()),
        }
    }

    fn satisfied(&mut self, state: &mut PcgState, _: &mut Record) -> Result<bool, OperatorError> {
        Ok(state.relative_residual() <= goal(self.tolerance, state))
    }
}

/// The gradient is `-A' r`, computed only when it is likely to be small enough.
struct DualCriterion<'a> {
    problem: &'a RidgeProblem<'a>,
    /// Scratch, length D.
    gradient: Vec<f64>,
    /// `||A' r0||`.
    reference: f64,
    tolerance: f64,
}

impl Criterion for DualCriterion<'_> {
    fn record(&mut self, state: &PcgState) -> Record {
        let lambda = self.problem.lambda();
        let (mut fit, mut squared_norm_u) = (0.0, 0.0);
        for ((t, r), a) in self.problem.target().iter().zip(&state.r).zip(&state.x) {
            let residual = r + lambda * a;
            fit += residual * residual;
            squared_norm_u += a * (t - residual);
        }
        Record {
            iteration: state.iteration,
            relative_residual: state.relative_residual(),
            relative_gradient_norm: None,
            objective: 0.5 * (fit + lambda * squared_norm_u),
            suboptimality_bound: 0.5 * state.residual_norm.powi(2),
        }
    }

    fn satisfied(
        &mut self,
        state: &mut PcgState,
        record: &mut Record,
    ) -> Result<bool, OperatorError> {
        let residual = state.relative_residual();
        let goal = goal(self.tolerance, state);
        if state.gradient_ratio.unwrap_or(FIRST_RATIO) * residual > goal {
            return Ok(false);
        }
        self.problem
            .operator()
            .apply_adjoint(&state.r, &mut self.gradient)?;
        let relative = ratio(norm(&self.gradient), self.reference);
        record.relative_gradient_norm = Some(relative);
        state.gradient_ratio = (residual > 0.0).then(|| relative / residual);
        Ok(relative <= goal)
    }
}
