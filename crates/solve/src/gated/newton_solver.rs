//! Programs with neuron-wise norms whose outputs decouple (all losses but the cross entropy of several
//! classes): each is solved by [`super::working_set`], within [`super::proximal_newton`] where the loss is
//! not quadratic.

use std::ops::ControlFlow;
use std::sync::Mutex;

use faer::Mat;
use rayon::prelude::*;

use super::newton::Scalar;
use super::newton::gram::Grams;
use super::newton::group::{Cones, Group};
use super::working_set::{self, Outcome, Round};
use super::{GatedMatrix, Loss, Neuron, Penalty, Problem, SolveOptions, proximal_newton};
use crate::error::SolveError;
use crate::prox::Rows;

/// A point and how it was reached.
pub(super) struct Reached {
    pub(super) neurons: Vec<Neuron>,
    pub(super) intercept: Vec<f64>,
    /// Objective and gap by round; an output that has ended counts with its last round.
    pub(super) rounds: Vec<Round>,
    pub(super) interrupted: bool,
}

/// What the outputs of a problem share.
pub(super) struct Shared<'a> {
    matrix: &'a GatedMatrix,
    rows: &'a Rows,
    grams: &'a Grams,
    /// All groups of one output.
    pub(super) groups: Vec<Group>,
}

impl Shared<'_> {
    /// The problem of one output `problem`, with the squared loss.
    pub(super) fn scalar(&self, problem: &Problem) -> Scalar<'_> {
        Scalar {
            matrix: self.matrix,
            cones: Cones {
                rows: self.rows,
                patterns: self.matrix.patterns(),
            },
            target: problem.targets.col_as_slice(0).to_vec(),
            root: None,
            weight: self.matrix.samples() as f64 * problem.lambda,
            intercept: problem.intercept,
            grams: self.grams,
        }
    }
}

/// All groups of `problem` for one output.
fn groups(problem: &Problem) -> Vec<Group> {
    let of = |gate: usize| {
        let cone = problem.has_cone(gate);
        let group = move |negative| Group {
            gate,
            negative,
            cone,
        };
        [Some(group(false)), cone.then(|| group(true))]
    };
    (0..problem.matrix.gates()).flat_map(of).flatten().collect()
}

/// Whether the outputs of `problem` can be solved one by one, with neuron-wise norms.
pub(super) fn decouples(problem: &Problem) -> bool {
    let softmax = problem.loss == Loss::CrossEntropy && problem.outputs() > 1;
    problem.penalty == Penalty::Neuron && !softmax
}

/// One output of a problem that decouples, as a problem of its own.
fn single(problem: &Problem, output: usize) -> Problem {
    let target = problem.targets.col_as_slice(output);
    Problem {
        targets: Mat::from_fn(target.len(), 1, |s, _| target[s]),
        ..problem.clone()
    }
}

/// Minimises a problem that [`decouples`], from `warm`.
pub(super) fn solve(
    problem: &Problem,
    options: &SolveOptions,
    warm: &[Neuron],
    observe: &(dyn Fn(Round) -> ControlFlow<()> + Sync),
) -> Result<Reached, SolveError> {
    let (n, outputs) = (problem.matrix.samples() as f64, problem.outputs());
    let groups = groups(problem);
    let cones = groups.iter().any(|group| group.cone);
    let rows = if cones {
        Rows::new(problem.matrix.x())
    } else {
        Rows::none()
    };
    let grams = Grams::default();
    let shared = Shared {
        matrix: &problem.matrix,
        rows: &rows,
        grams: &grams,
        groups,
    };
    // An output whose turn has not come counts as the zero network, whose dual value is at least 0.
    let start = |output| {
        let single = single(problem, output);
        let zero = Mat::zeros(single.targets.nrows(), 1);
        let objective = n * single.loss.value(zero.as_ref(), single.targets.as_ref());
        let gap = objective;
        Round { objective, gap }
    };
    let latest = Mutex::new((0..outputs).map(start).collect::<Vec<Round>>());
    let one = |output: usize| {
        let mut observe = |round: Round| {
            let Ok(mut latest) = latest.lock() else {
                return ControlFlow::Break(());
            };
            latest[output] = round;
            observe(total(&latest, n))
        };
        let warm = warm_groups(problem, warm, output);
        let single = single(problem, output);
        let SolveOptions {
            tolerance,
            max_iterations,
        } = *options;
        if problem.loss == Loss::Squared {
            let scalar = shared.scalar(&single);
            let groups = &shared.groups;
            working_set::solve(
                &scalar,
                groups,
                &warm,
                tolerance,
                max_iterations,
                &mut observe,
            )
        } else {
            proximal_newton::solve(
                &single,
                &shared,
                warm,
                tolerance,
                max_iterations,
                &mut observe,
            )
        }
    };
    let outcomes: Result<Vec<Outcome>, SolveError> =
        (0..outputs).into_par_iter().map(one).collect();
    let outcomes = outcomes?;
    let neurons = outcomes.iter().enumerate().flat_map(|(output, outcome)| {
        outcome.live.iter().map(move |(group, weights)| Neuron {
            gate: group.gate,
            output,
            sign: group.sign(),
            weights: weights.clone(),
        })
    });
    let longest = outcomes.iter().map(|o| o.rounds.len()).max().unwrap_or(0);
    let round = |i: usize| {
        let all = outcomes
            .iter()
            .filter_map(|o| o.rounds.get(i.min(o.rounds.len().saturating_sub(1))));
        total(&all.copied().collect::<Vec<_>>(), n)
    };
    Ok(Reached {
        neurons: neurons.collect(),
        intercept: outcomes.iter().map(|o| o.b).collect(),
        rounds: (0..longest).map(round).collect(),
        interrupted: outcomes.iter().any(|o| o.interrupted),
    })
}

/// Sums over outputs, in units of the mean over samples.
fn total(rounds: &[Round], n: f64) -> Round {
    Round {
        objective: rounds.iter().map(|r| r.objective).sum::<f64>() / n,
        gap: rounds.iter().map(|r| r.gap).sum::<f64>() / n,
    }
}

/// The neurons of `warm` that feed `output`, as groups.
fn warm_groups(problem: &Problem, warm: &[Neuron], output: usize) -> Vec<(Group, Vec<f64>)> {
    let here = warm.iter().filter(|neuron| neuron.output == output);
    here.map(|neuron| {
        let group = Group {
            gate: neuron.gate,
            negative: neuron.sign < 0.0,
            cone: problem.has_cone(neuron.gate),
        };
        (group, neuron.weights.clone())
    })
    .collect()
}
