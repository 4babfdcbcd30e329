//! One way into the solvers.

use std::ops::ControlFlow;
use std::sync::Mutex;

use super::newton_solver::Reached;
use super::working_set::Round;
use super::{Neuron, Problem, Solution, SolveOptions, certify};
use super::{fista, kernel_newton, newton_solver, ridge};
use crate::error::{SolveError, check_positive};
use crate::status::{Observer, Progress, Record, Status};

/// Minimises `problem` from `warm` (neurons of a problem with the same gates; none for zero) until the
/// relative duality gap, recomputed by [`certify`] at the point that is returned, is at most the tolerance.
/// Gated programs with the squared norm need no start, and begin at zero.
///
/// # Errors
/// When the problem or the options are not sound, no solver covers the combination of loss, penalty and
/// activation, or a factorisation fails.
pub fn solve(
    problem: &Problem,
    options: &SolveOptions,
    warm: &[Neuron],
    observer: &mut (dyn Observer + Send),
) -> Result<Solution, SolveError> {
    problem.check()?;
    check_positive("tolerance", options.tolerance)?;
    if !newton_solver::decouples(problem) && !fista::covers(problem) {
        return Err(SolveError::Unsupported(
            "ReLU goes with the neuron-wise or the squared l2 penalty only: take one of these, or gated ReLU",
        ));
    }
    let history = Mutex::new((Vec::<Record>::new(), observer));
    let observe = |round: Round| {
        let Ok(mut guard) = history.lock() else {
            return ControlFlow::Break(());
        };
        let (history, observer) = &mut *guard;
        let record = record(history.len(), round);
        history.push(record);
        observer.iteration(&Progress {
            record,
            state: None,
        })
    };
    let reached = if newton_solver::decouples(problem) {
        newton_solver::solve(problem, options, warm, &observe)?
    } else if ridge::covers(problem) {
        ridge::solve(problem)?
    } else if kernel_newton::covers(problem) {
        by_newton(problem, options, &observe)?
    } else {
        fista::solve(problem, options, warm, &observe)?
    };
    let certificate = certify(problem, &reached.neurons, &reached.intercept)?;
    let status = if certificate.relative_duality_gap <= options.tolerance {
        Status::Converged
    } else if reached.interrupted {
        Status::Interrupted
    } else if reached.rounds.len() > options.max_iterations {
        Status::MaxIterations
    } else {
        Status::Stalled
    };
    Ok(Solution {
        neurons: reached.neurons,
        intercept: reached.intercept,
        certificate,
        status,
        // The start is round 0.
        iterations: reached.rounds.len().saturating_sub(1),
        history: reached
            .rounds
            .iter()
            .enumerate()
            .map(|(i, r)| record(i, *r))
            .collect(),
    })
}

/// By Newton's method; where `lambda` is below the precision of its kernel, on from there by proximal gradients.
fn by_newton(
    problem: &Problem,
    options: &SolveOptions,
    observe: &(dyn Fn(Round) -> ControlFlow<()> + Sync),
) -> Result<Reached, SolveError> {
    let near = kernel_newton::solve(problem, options, observe)?;
    let within = |round: &Round| round.gap <= options.tolerance * round.objective;
    let limit = near.rounds.len() > options.max_iterations;
    if near.interrupted || limit || near.rounds.last().is_some_and(within) {
        return Ok(near);
    }
    let found = fista::solve(problem, options, &near.neurons, observe)?;
    Ok(Reached {
        rounds: [near.rounds, found.rounds].concat(),
        ..found
    })
}

/// A round as a line of the history.
pub(super) fn record(iteration: usize, round: Round) -> Record {
    Record {
        iteration,
        relative_residual: crate::dense::ratio(round.gap, round.objective),
        relative_gradient_norm: None,
        objective: round.objective,
        suboptimality_bound: round.gap,
    }
}
