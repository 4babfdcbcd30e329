//! Working sets and gap-safe screening around [`super::newton`]: work follows the few live neurons, not the
//! thousands of gates.
//!
//! ```text
//!     repeat
//!         price all groups that are left:  ||P_{K_i} A_i' y||,  y the dual point of the last solve
//!         gap <- objective(x) - dual value at the best multiple theta = s y
//!         stop if the gap is small, at the residual too
//!         if only there it is not: polish as long as that helps, then some times with a smaller sigma
//!         stop if the gap has not fallen for long, as rounding allows no more
//!         discard i if  ||P_{K_i} A_i' theta|| + sqrt(2 gap) ||A_i||_F < w                       (1)
//!         working set <- live groups and the most violated ones
//!         solve on the working set to a tenth of the gap
//! ```
//!
//! (1) is safe: the dual (2) of [`super::newton`] is 1-strongly concave, so its solution lies within
//! `sqrt(2 gap)` of `theta`; the dual norm of a group is 1-Lipschitz after `A_i'`; and a group whose
//! constraint is slack at the dual solution is zero at every primal solution. Sources: O. Fercoq, A.
//! Gramfort, J. Salmon, *Mind the duality gap: safer rules for the Lasso*, ICML 2015; E. Ndiaye et al., *Gap
//! safe screening rules for sparsity enforcing penalties*, JMLR 2017; M. Massias, A. Gramfort, J. Salmon,
//! *Celer: a fast solver for the Lasso with dual extrapolation*, ICML 2018 (working sets).

use std::collections::HashSet;
use std::ops::ControlFlow;

use faer::Mat;
use rayon::prelude::*;

use super::GapCertificate;
use super::newton::group::Group;
use super::newton::{Scalar, State};
use crate::error::SolveError;
use crate::prox::cone::Active;

/// Groups that join the working set at least, if so many are violated: as many as keep a product with them
/// below so many operations, within these limits. Many small columns cost less than another round.
const JOIN_COST: usize = 60_000_000;
const JOIN: std::ops::RangeInclusive<usize> = 64..=512;
/// Part of the gap to which a working set is solved before all groups are priced again.
const INNER: f64 = 0.1;
/// Factor by which the residual is brought nearer to the dual point at a time.
const POLISH: f64 = 1e-3;
/// A gap that is nothing but rounding, relative to the objective.
const ROUNDING: f64 = 1e-14;
/// To what share the gap at the residual must fall for it to be polished once more.
const HELPS: f64 = 0.5;
/// Outer rounds in which the gap must have halved: rounding allows no more where it has not.
const PATIENCE: usize = 20;
/// Rounds of the Newton method in one working set.
const ROUNDS: usize = 20;

/// A group that has not been discarded.
#[derive(Clone, Debug)]
struct Candidate {
    group: Group,
    /// `||A_i||_F`.
    size: f64,
    /// Rows that last bound it.
    hint: Vec<Active>,
}

/// Where the outer loop stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) objective: f64,
    pub(crate) gap: f64,
}

impl From<GapCertificate> for Round {
    fn from(certificate: GapCertificate) -> Self {
        Self {
            objective: certificate.objective,
            gap: certificate.duality_gap.max(0.0),
        }
    }
}

/// What [`solve`] returns.
pub(crate) struct Outcome {
    /// Groups with weights that are not zero.
    pub(crate) live: Vec<(Group, Vec<f64>)>,
    pub(crate) b: f64,
    pub(crate) rounds: Vec<Round>,
    /// Whether the observer asked to stop.
    pub(crate) interrupted: bool,
}

/// Minimises (1) of [`super::newton`] over `groups`, from `warm`, to a gap of `tolerance` relative to the
/// objective.
pub(crate) fn solve(
    scalar: &Scalar<'_>,
    groups: &[Group],
    warm: &[(Group, Vec<f64>)],
    tolerance: f64,
    limit: usize,
    observe: &mut dyn FnMut(Round) -> ControlFlow<()>,
) -> Result<Outcome, SolveError> {
    let mut left = candidates(scalar, groups);
    let mut state = State::new(scalar, warm);
    let mut rounds = Vec::new();
    let mut interrupted = false;
    // The gap at the residual before it was polished.
    let mut unpolished = f64::INFINITY;
    loop {
        let y = scalar.centred(&state.y);
        let prices = price(scalar, &mut left, &y);
        let largest = prices.iter().copied().fold(0.0, f64::max);
        let objective = state.objective(scalar);
        let (dual, scale) = scalar.dual_value(&y, largest);
        let gap = (objective - dual).max(0.0);
        let round = Round { objective, gap };
        rounds.push(round);
        interrupted |= observe(round).is_break();
        let small = gap <= tolerance * objective;
        let tired = gap <= ROUNDING * objective || stalled(&rounds);
        let worse = if small || tired {
            residual_gap(scalar, &mut left, &mut state, objective)
        } else {
            f64::INFINITY
        };
        let solved = worse <= tolerance * objective;
        if solved || rounds.len() > limit || interrupted {
            break;
        }
        if worse < HELPS * unpolished && state.polish(scalar, POLISH)? {
            unpolished = worse;
            continue;
        }
        unpolished = f64::INFINITY;
        if worse.is_finite() && state.soften(scalar, POLISH)? {
            continue;
        }
        if tired {
            break;
        }
        let radius = (2.0 * gap).sqrt();
        let mut kept = prices.iter().zip(&left).map(|(price, candidate)| {
            scale.abs() * price + radius * candidate.size >= scalar.weight
        });
        let kept: Vec<bool> = kept.by_ref().collect();
        let violated = most_violated(scalar, &state, &left, &prices);
        state.work_on(scalar, &violated);
        let mut kept = kept.into_iter();
        left.retain(|_| kept.next() == Some(true));
        let target = (INNER * gap).max(0.5 * tolerance * objective);
        state.run(scalar, target, ROUNDS)?;
    }
    Ok(Outcome {
        live: state.live_weights(),
        b: state.b,
        rounds,
        interrupted,
    })
}

/// Whether the last rounds have not brought the gap down.
fn stalled(rounds: &[Round]) -> bool {
    let Some(before) = rounds.len().checked_sub(PATIENCE).filter(|k| *k > 0) else {
        return false;
    };
    let least = |part: &[Round]| part.iter().map(|r| r.gap).fold(f64::INFINITY, f64::min);
    least(&rounds[before..]) > 0.5 * least(&rounds[..before])
}

fn candidates(scalar: &Scalar<'_>, groups: &[Group]) -> Vec<Candidate> {
    let squares = scalar.scaled_squares();
    let size = |gate: usize| {
        let on = squares.iter().enumerate();
        let on = on.filter(|(s, _)| scalar.matrix.patterns().get(gate, *s));
        on.map(|(_, x)| x).sum::<f64>().sqrt()
    };
    let candidate = |group: &Group| Candidate {
        group: *group,
        size: size(group.gate),
        hint: Vec::new(),
    };
    groups.par_iter().map(candidate).collect()
}

/// The gap with the residual itself as the dual point, which is what anybody can recompute from `x`.
fn residual_gap(
    scalar: &Scalar<'_>,
    left: &mut [Candidate],
    state: &mut State,
    objective: f64,
) -> f64 {
    let (r, _) = scalar.residual(&state.groups, state.x.as_ref());
    let largest = price(scalar, left, &r).into_iter().fold(0.0, f64::max);
    objective - scalar.dual_value(&r, largest).0
}

/// `||P_K A_g' y||` for every candidate; where that is at most `w`, an upper bound that is so too.
fn price(scalar: &Scalar<'_>, left: &mut [Candidate], y: &[f64]) -> Vec<f64> {
    let groups: Vec<Group> = left.iter().map(|c| c.group).collect();
    let c: Mat<f64> = scalar.correlate(&groups, y);
    left.par_iter_mut()
        .enumerate()
        .map(|(k, candidate)| {
            let hint = &mut candidate.hint;
            let c = c.col_as_slice(k);
            scalar
                .cones
                .dual_norm(candidate.group, c, scalar.weight, hint)
        })
        .collect()
}

/// The candidates outside the working set with the largest prices above `w`: as many as the working set
/// has live groups, or as [`JOIN`] says. Where there are no more than that at all, every one that is not live.
fn most_violated(
    scalar: &Scalar<'_>,
    state: &State,
    left: &[Candidate],
    prices: &[f64],
) -> Vec<(Group, Vec<Active>)> {
    let all = left.len() <= *JOIN.start();
    let stays = |k: usize| !all || state.is_live(k);
    let inside = (0..state.groups.len()).filter(|k| stays(*k));
    let inside: HashSet<Group> = inside.map(|k| state.groups[k]).collect();
    let mut violated: Vec<usize> = (0..left.len())
        .filter(|k| (all || prices[*k] > scalar.weight) && !inside.contains(&left[*k].group))
        .collect();
    violated.sort_by(|a, b| prices[*b].total_cmp(&prices[*a]).then(a.cmp(b)));
    let entries = (scalar.matrix.samples() * scalar.matrix.features()).max(1);
    let join = (JOIN_COST / entries).clamp(*JOIN.start(), *JOIN.end());
    violated.truncate(join.max(state.live_count()));
    let entry = |k: usize| (left[k].group, left[k].hint.clone());
    violated.into_iter().map(entry).collect()
}
