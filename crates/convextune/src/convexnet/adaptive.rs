//! Gates priced by the dual (column generation).
//!
//! With the residual `Theta = -grad F(Z)` of a solved program, a gate that is not in it can lower the
//! objective only if it violates the dual constraint: `||P_K(+-X' D_g theta_c)|| > lambda` for some output `c`
//! (with `K` the whole space for gated ReLU). Finding the worst pattern is not convex (it is a
//! maximum over all arrangements), so each round climbs from many starts:
//!
//! ```text
//!     D <- 1[X g > 0] ,   c <- X' D theta ,   u <- P_K(+-c)                                 (1)
//!     gated:  g <- argmin over g of  sum_s |r_s| (x_s' g - sign r_s)^2 + mu ||g||^2 ,   r_s = theta_s x_s' u / ||u||
//!     ReLU:   g <- u                                                                        (2)
//! ```
//!
//! as long as `||u||` grows; then to the best of the neighbouring cells behind the hyperplanes nearest to `g`,
//!
//! ```text
//!     g' = g - (1 + e) (x_s' g / ||x_s||^2) x_s ,                                           (3)
//! ```
//!
//! and on from there, until no neighbour is better. Starts are random vectors and the weights of live
//! neurons. For the gated program `||X' D theta|| >= sum over D of r_s`, which would be
//! largest with `D` on where `r_s > 0`: (2) is the weighted least squares classifier for that. For ReLU `u`
//! itself is the steepest weight of its cell, and its own pattern is that cell's or a neighbour's.
//!
//! When no start finds a violation, the program is solved over all patterns as far as the search can tell.
//! With few samples [`super::gates::enumerate`] proves it (see the tests); otherwise it is not a proof,
//! and the certificate stays that of the gates in the program.

use convextune_solve::faer::linalg::solvers::{Llt, Solve};
use convextune_solve::faer::{Mat, Side};
use convextune_solve::gated::{Activation, Patterns, Problem, Solution};
use convextune_solve::prox::Rows;
use convextune_solve::prox::cone::project;
use rayon::prelude::*;

use crate::rng::Rng;

/// Gates to begin with.
pub const FIRST: usize = 50;
/// Starts of the search in a round.
const STARTS: usize = 200;
/// Steps of a climb.
const STEPS: usize = 40;
/// Neighbouring cells that are looked at in a step.
const NEIGHBOURS: usize = 16;
/// How far beyond a hyperplane its neighbour's gate lies, as a share of the way to it.
const BEYOND: f64 = 1e-3;
/// Gates added in a round, at most.
const ADDED: usize = 50;
/// Rounds, at most.
const ROUNDS: usize = 40;
/// A price must exceed `lambda` by this share.
const MARGIN: f64 = 1e-6;

/// The state of the search.
pub struct Pricing {
    rng: Rng,
    rounds: usize,
}

impl Pricing {
    /// Seeded.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, "pricing"),
            rounds: 0,
        }
    }

    /// Gates (`d x k`) with new patterns that violate the dual constraint at `solution`, the worst first;
    /// `None` when none is found.
    pub fn better(&mut self, problem: &Problem, solution: &Solution) -> Option<Mat<f64>> {
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return None;
        }
        let z = problem.outputs_at(&solution.neurons, &solution.intercept);
        let gradient = problem.loss.gradient(z.as_ref(), problem.targets.as_ref());
        let search = Search {
            problem,
            rows: (problem.activation == Activation::Relu).then(|| Rows::new(problem.matrix.x())),
            theta: Mat::from_fn(z.nrows(), z.ncols(), |s, c| -gradient[(s, c)]),
        };
        let d = problem.matrix.features();
        let live = solution.neurons.iter();
        let live = live.map(|neuron| (neuron.output, neuron.weights.clone()));
        let rng = &mut self.rng;
        let mut normal = |k: usize| {
            let start = (0..d).map(|_| rng.normal()).collect();
            (k % problem.outputs(), start)
        };
        let drawn = (0..STARTS).map(&mut normal);
        let starts: Vec<(usize, Vec<f64>)> = live.chain(drawn).collect();
        let mut ends: Vec<(f64, Vec<f64>)> = starts
            .into_par_iter()
            .map(|(output, start)| search.climb(output, start))
            .collect();
        ends.retain(|(price, _)| *price > problem.lambda * (1.0 + MARGIN));
        ends.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all = Mat::from_fn(d, ends.len(), |j, k| ends[k].1[j]);
        let fresh = fresh(problem, &all);
        (!fresh.is_empty())
            .then(|| Mat::from_fn(d, fresh.len().min(ADDED), |j, k| all[(j, fresh[k])]))
    }
}

/// The columns of `gates` whose patterns are neither in the program nor in an earlier column.
fn fresh(problem: &Problem, gates: &Mat<f64>) -> Vec<usize> {
    let known = problem.matrix.patterns();
    let mut seen: std::collections::HashSet<Vec<u64>> = (0..known.len())
        .filter(|i| problem.linear != Some(*i))
        .map(|i| known.row(i).to_vec())
        .collect();
    let patterns = Patterns::of(problem.matrix.x(), gates.as_ref());
    (0..patterns.len())
        .filter(|k| seen.insert(patterns.row(*k).to_vec()))
        .collect()
}

/// One round's search.
struct Search<'a> {
    problem: &'a Problem,
    rows: Option<Rows>,
    /// `Theta`.
    theta: Mat<f64>,
}

impl Search<'_> {
    /// Climbs from `gate`; the best price and its gate.
    fn climb(&self, output: usize, gate: Vec<f64>) -> (f64, Vec<f64>) {
        let (mut price, mut u) = self.price(output, &gate);
        let mut best = gate;
        for _ in 0..STEPS {
            let better = |gate: Vec<f64>| {
                let (higher, direction) = self.price(output, &gate);
                (higher > price * (1.0 + 1e-9)).then_some((higher, direction, gate))
            };
            let step = self.next(output, &u).and_then(better).or_else(|| {
                let neighbours = self.neighbours(&best).into_iter().filter_map(better);
                neighbours.max_by(|a, b| a.0.total_cmp(&b.0))
            });
            let Some(step) = step else { break };
            (price, u, best) = step;
        }
        (price, best)
    }

    /// Gates (3) behind the hyperplanes that are nearest to `gate`.
    fn neighbours(&self, gate: &[f64]) -> Vec<Vec<f64>> {
        let x = self.problem.matrix.x();
        let (n, d) = (x.nrows(), x.ncols());
        let scores = x * Mat::from_fn(d, 1, |j, _| gate[j]);
        let crossing = |s: usize| {
            let square: f64 = (0..d).map(|j| x[(s, j)] * x[(s, j)]).sum();
            let score = scores[(s, 0)];
            (square > 0.0).then(|| (score.abs() / square.sqrt(), score / square, s))
        };
        let mut near: Vec<(f64, f64, usize)> = (0..n).filter_map(crossing).collect();
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        near.truncate(NEIGHBOURS);
        let behind = |(_, step, s): (f64, f64, usize)| {
            let moved = (0..d).map(|j| gate[j] - (1.0 + BEYOND) * step * x[(s, j)]);
            moved.collect()
        };
        near.into_iter().map(behind).collect()
    }

    /// `||u||` and `u` of (1) at the pattern of `gate`.
    fn price(&self, output: usize, gate: &[f64]) -> (f64, Vec<f64>) {
        let x = self.problem.matrix.x();
        let d = x.ncols();
        let scores = x * Mat::from_fn(d, 1, |j, _| gate[j]);
        let theta = self.theta.col_as_slice(output);
        let masked = Mat::from_fn(x.nrows(), 1, |s, _| {
            if scores[(s, 0)] > 0.0 { theta[s] } else { 0.0 }
        });
        let c = x.transpose() * masked;
        let c: Vec<f64> = c.col_as_slice(0).to_vec();
        let Some(rows) = &self.rows else {
            return (norm(&c), c);
        };
        let sign = |s: usize| if scores[(s, 0)] > 0.0 { 1.0 } else { -1.0 };
        let up = project(rows, &sign, &c, &[]).point;
        let negative: Vec<f64> = c.iter().map(|c| -c).collect();
        let down = project(rows, &sign, &negative, &[]).point;
        if norm(&up) >= norm(&down) {
            (norm(&up), up)
        } else {
            (norm(&down), down)
        }
    }

    /// The gate of (2).
    fn next(&self, output: usize, u: &[f64]) -> Option<Vec<f64>> {
        if self.rows.is_some() {
            return (norm(u) > 0.0).then(|| u.to_vec());
        }
        let x = self.problem.matrix.x();
        let (n, d) = (x.nrows(), x.ncols());
        let along = x * Mat::from_fn(d, 1, |j, _| u[j]);
        let theta = self.theta.col_as_slice(output);
        let r: Vec<f64> = (0..n).map(|s| theta[s] * along[(s, 0)]).collect();
        let weighted = Mat::from_fn(n, d, |s, j| r[s].abs() * x[(s, j)]);
        let mut normal = x.transpose() * &weighted;
        let trace: f64 = (0..d).map(|j| normal[(j, j)]).sum();
        for j in 0..d {
            normal[(j, j)] += 1e-6 * trace / d as f64 + f64::MIN_POSITIVE;
        }
        let right = x.transpose() * Mat::from_fn(n, 1, |s, _| r[s]);
        let factor = Llt::new(normal.as_ref(), Side::Lower).ok()?;
        Some(factor.solve(&right).col_as_slice(0).to_vec())
    }
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}
