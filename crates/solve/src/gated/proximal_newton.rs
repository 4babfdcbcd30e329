//! A proximal Newton method for one output with a loss that is not quadratic, and neuron-wise norms.
//!
//! With `f_s` the loss of sample `s`, `g_s = f_s'(z_s)` and `h_s = f_s''(z_s)` (for the squared hinge the
//! generalised second derivative, 0 or 1), the program times `n` is replaced at the current outputs `z` by
//!
//! ```text
//!     min over x, b    sum_s [ g_s (z'_s - z_s) + 1/2 h_s (z'_s - z_s)^2 ] + n lambda sum_i ||x_i||      (1)
//!                    = 1/2 || h^(1/2) (z' - z + g / h) ||^2 + n lambda sum_i ||x_i|| + const ,  z' = A x + b 1 ,
//! ```
//!
//! problem (1) of [`super::newton`] with row weights, which [`super::working_set`] solves to a tenth of the
//! gap; then a step from the old point towards its minimum is halved until the objective falls by a share of
//! what the linear part of (1) promises. A combination of two points stays in the cones. `h` is kept
//! above [`FLOOR`]: where a sample hardly curves, its slope is hardly known either.
//!
//! Source: J. D. Lee, Y. Sun, M. A. Saunders, *Proximal Newton-type methods for minimizing composite
//! functions*, SIAM J. Optim. 2014.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::newton::Scalar;
use super::newton::group::Group;
use super::newton_solver::Shared;
use super::working_set::{self, Outcome, Round};
use super::{Loss, Neuron, Problem, certify};
use crate::dense::norm;
use crate::error::SolveError;

/// The least `h`.
const FLOOR: f64 = 1e-8;
/// Part of the gap to which (1) is solved.
const INNER: f64 = 0.1;
/// Rounds of the working set in one step.
const INNER_ROUNDS: usize = 50;
/// Of the decrease that is promised, the part a step must reach.
const ARMIJO: f64 = 1e-4;
/// Halvings of a step.
const HALVINGS: usize = 30;

/// A point with its outputs.
struct Point {
    live: Vec<(Group, Vec<f64>)>,
    b: f64,
    z: Vec<f64>,
    /// `sum_s f_s(z_s) + n lambda sum_i ||x_i||`.
    objective: f64,
}

/// Minimises a problem with one output from `warm`, to a gap of `tolerance` relative to the objective.
pub(super) fn solve(
    problem: &Problem,
    shared: &Shared<'_>,
    warm: Vec<(Group, Vec<f64>)>,
    tolerance: f64,
    limit: usize,
    observe: &mut dyn FnMut(Round) -> ControlFlow<()>,
) -> Result<Outcome, SolveError> {
    let n = problem.matrix.samples() as f64;
    let mut point = point(problem, shared, warm, 0.0);
    let mut rounds: Vec<Round> = Vec::new();
    let mut interrupted = false;
    loop {
        let certificate = certify(problem, &neurons(&point.live), &[point.b])?;
        let gap = n * certificate.duality_gap.max(0.0);
        let objective = n * certificate.objective;
        let round = Round { objective, gap };
        rounds.push(round);
        interrupted |= observe(round).is_break();
        if gap <= tolerance * objective || rounds.len() > limit || interrupted {
            break;
        }
        let next = minimise_model(problem, shared, &point, INNER * gap)?;
        match search(problem, shared, &point, next) {
            Some(better) => point = better,
            None => break,
        }
    }
    Ok(Outcome {
        live: point.live,
        b: point.b,
        rounds,
        interrupted,
    })
}

/// `g` and `h`.
fn derivatives(problem: &Problem, z: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let pair = |(z, y): (&f64, &f64)| match problem.loss {
        Loss::Squared => (z - y, 1.0),
        Loss::SquaredHinge => {
            let short = 1.0 - y * z;
            (-y * short.max(0.0), if short > 0.0 { 1.0 } else { FLOOR })
        }
        Loss::CrossEntropy => {
            let p = 1.0 / (1.0 + (y * z).exp());
            (-y * p, (p * (1.0 - p)).max(FLOOR))
        }
    };
    z.iter()
        .zip(problem.targets.col_as_slice(0))
        .map(pair)
        .unzip()
}

/// The minimum of (1) at `from`, to a gap of `gap`.
fn minimise_model(
    problem: &Problem,
    shared: &Shared<'_>,
    from: &Point,
    gap: f64,
) -> Result<Point, SolveError> {
    let (g, h) = derivatives(problem, &from.z);
    let root: Vec<f64> = h.iter().map(|h| h.sqrt()).collect();
    let target = |s: usize| root[s] * (from.z[s] - g[s] / h[s]);
    let scalar = Scalar {
        root: Some(root.clone()),
        target: (0..g.len()).map(target).collect(),
        ..shared.scalar(problem)
    };
    let constant: f64 = g.iter().zip(&h).map(|(g, h)| 0.5 * g * g / h).sum();
    let now = constant + scalar.weight * norms(&from.live);
    let tolerance = (gap / now).min(INNER);
    let go = &mut |_| ControlFlow::Continue(());
    let outcome = working_set::solve(
        &scalar,
        &shared.groups,
        &from.live,
        tolerance,
        INNER_ROUNDS,
        go,
    )?;
    Ok(point(problem, shared, outcome.live, outcome.b))
}

/// A step from `from` towards `to` that lowers the objective enough; `None` when rounding leaves none.
fn search(problem: &Problem, shared: &Shared<'_>, from: &Point, to: Point) -> Option<Point> {
    let (g, _) = derivatives(problem, &from.z);
    let weight = problem.matrix.samples() as f64 * problem.lambda;
    let slope: f64 = g
        .iter()
        .zip(to.z.iter().zip(&from.z))
        .map(|(g, (a, b))| g * (a - b))
        .sum();
    let promised = slope + weight * (norms(&to.live) - norms(&from.live));
    let mut step = 1.0;
    let mut next = to;
    let end = (next.live.clone(), next.b);
    for _ in 0..HALVINGS {
        if next.objective <= from.objective + ARMIJO * step * promised.min(0.0)
            && next.objective < from.objective
        {
            return Some(next);
        }
        step *= 0.5;
        let live = between(&from.live, &end.0, step);
        next = point(problem, shared, live, from.b + step * (end.1 - from.b));
    }
    None
}

/// `(1 - t) x + t x'`, group by group.
fn between(x: &[(Group, Vec<f64>)], other: &[(Group, Vec<f64>)], t: f64) -> Vec<(Group, Vec<f64>)> {
    let mut sums: BTreeMap<Group, Vec<f64>> = BTreeMap::new();
    for (list, factor) in [(x, 1.0 - t), (other, t)] {
        for (group, weights) in list {
            let sum = sums
                .entry(*group)
                .or_insert_with(|| vec![0.0; weights.len()]);
            sum.iter_mut()
                .zip(weights)
                .for_each(|(s, w)| *s += factor * w);
        }
    }
    sums.into_iter().collect()
}

fn point(problem: &Problem, shared: &Shared<'_>, live: Vec<(Group, Vec<f64>)>, b: f64) -> Point {
    let neurons = neurons(&live);
    let z = problem.outputs_at(&neurons, &[b]);
    let scalar = shared.scalar(problem);
    let loss = problem.loss.value(z.as_ref(), problem.targets.as_ref());
    let objective = problem.matrix.samples() as f64 * loss + scalar.weight * norms(&live);
    Point {
        z: z.col_as_slice(0).to_vec(),
        live,
        b,
        objective,
    }
}

fn norms(live: &[(Group, Vec<f64>)]) -> f64 {
    live.iter().map(|(_, weights)| norm(weights)).sum()
}

fn neurons(live: &[(Group, Vec<f64>)]) -> Vec<Neuron> {
    let neuron = |(group, weights): &(Group, Vec<f64>)| Neuron {
        gate: group.gate,
        output: 0,
        sign: group.sign(),
        weights: weights.clone(),
    };
    live.iter().map(neuron).collect()
}
