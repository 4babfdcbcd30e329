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
//! A round draws starts until it has found as many gates as it may add. When none finds a violation, the
//! program is solved over all patterns as far as the search can tell.
//! With few samples [`super::gates::enumerate`] proves it (see the tests); otherwise it is not a proof,
//! and the certificate stays that of the gates in the program.

use convextune_solve::faer::linalg::solvers::{Llt, Solve};
use convextune_solve::faer::{Mat, Side};
use convextune_solve::gated::{Activation, Neuron, Patterns, Problem, Solution};
use convextune_solve::prox::Rows;
use convextune_solve::prox::cone::project;
use rayon::prelude::*;

use super::fit::{Program, watched};
use crate::error::Error;
use crate::progress::Reporter;
use crate::rng::Rng;

/// Gates to begin with.
pub const FIRST: usize = 50;
/// Relative duality gap of the programs between which gates are added.
const ROUGH: f64 = 1e-4;
/// Random starts that are drawn at a time, until enough gates are found, and how many times at most (with ReLU, where a
/// price is a projection, once).
const STARTS: usize = 200;
const DRAWS: usize = 8;
/// Steps of a climb.
const STEPS: usize = 40;
/// Neighbouring cells that are looked at in a step, for ReLU.
const NEIGHBOURS: usize = 16;
/// The same for the gated program, where looking costs one row, and how many of those are tried.
const PROMISES: usize = 128;
const KEPT: usize = 2;
/// How far beyond a hyperplane its neighbour's gate lies, as a share of the way to it.
const BEYOND: f64 = 1e-3;
/// Gates added in a round, at most; half as many as there are neurons where that is more.
const ADDED: usize = 50;
/// Rounds, at most.
const ROUNDS: usize = 40;
/// A price must exceed `lambda` by this share; while programs are solved roughly, and at the end.
const MARGINS: (f64, f64) = (1e-2, 1e-6);

impl Program {
    /// Solves, prices and adds gates by turns: roughly first, and to `tolerance` when no gate is found
    /// any more.
    pub(super) fn price(
        &mut self,
        tolerance: f64,
        warm: &[Neuron],
        reporter: &dyn Reporter,
    ) -> Result<Solution, Error> {
        let mut pricing = Pricing::new(self.options.seed);
        let mut options = self.up_to(tolerance.max(ROUGH));
        let mut solution = watched(&self.problem, &options, warm, reporter)?;
        loop {
            let rough = options.tolerance > tolerance;
            let margin = if rough { MARGINS.0 } else { MARGINS.1 };
            match pricing.better(&self.problem, &solution, margin) {
                Some(found) => self.add(&found),
                None if rough => options = self.up_to(tolerance),
                None => break,
            }
            solution = watched(&self.problem, &options, &solution.neurons, reporter)?;
        }
        if pricing.broken_off() && !std::mem::replace(&mut self.told, true) {
            reporter.note(&format!(
                "the search for gates ended after {ROUNDS} rounds and may have found more; a larger lambda needs fewer"
            ));
        }
        Ok(solution)
    }
}

/// The state of the search.
struct Pricing {
    rng: Rng,
    rounds: usize,
}

impl Pricing {
    /// Seeded.
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, "pricing"),
            rounds: 0,
        }
    }

    /// Whether the search ended for its number of rounds, and may have found more.
    fn broken_off(&self) -> bool {
        self.rounds > ROUNDS
    }

    /// Gates (`d x k`) with new patterns that violate the dual constraint at `solution`, the worst first;
    /// `None` when none is found. A price must exceed `lambda` by the share `margin`.
    fn better(&mut self, problem: &Problem, solution: &Solution, margin: f64) -> Option<Mat<f64>> {
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return None;
        }
        let z = problem.outputs_at(&solution.neurons, &solution.intercept);
        let gradient = problem.loss.gradient(z.as_ref(), problem.targets.as_ref());
        let theta = Mat::from_fn(z.nrows(), z.ncols(), |s, c| -gradient[(s, c)]);
        let search = Search::new(problem, theta);
        let live = solution.neurons.iter();
        let mut starts: Vec<(usize, Vec<f64>)> = live
            .map(|neuron| (neuron.output, neuron.weights.clone()))
            .collect();
        let wanted = ADDED.max(starts.len() / 2);
        let d = problem.matrix.features();
        let mut ends: Vec<(f64, Vec<f64>)> = Vec::new();
        let draws = if search.rows.is_some() { 1 } else { DRAWS };
        for _ in 0..draws {
            starts.extend((0..STARTS).map(|k| {
                let gate = (0..d).map(|_| self.rng.normal()).collect();
                (k % problem.outputs(), gate)
            }));
            let climb = |(output, gate)| search.climb(output, gate);
            ends.par_extend(starts.par_drain(..).map(climb));
            ends.retain(|(price, _)| *price > problem.lambda * (1.0 + margin));
            ends.sort_by(|a, b| b.0.total_cmp(&a.0));
            fresh(problem, &mut ends);
            if ends.len() >= wanted {
                break;
            }
        }
        ends.truncate(wanted);
        (!ends.is_empty()).then(|| Mat::from_fn(d, ends.len(), |j, k| ends[k].1[j]))
    }
}

/// Keeps those of `found` whose patterns are neither in the program nor of an earlier one.
fn fresh(problem: &Problem, found: &mut Vec<(f64, Vec<f64>)>) {
    let known = problem.matrix.patterns();
    let mut seen: std::collections::HashSet<Vec<u64>> = (0..known.len())
        .filter(|i| problem.linear != Some(*i))
        .map(|i| known.row(i).to_vec())
        .collect();
    let x = problem.matrix.x();
    let gates = Mat::from_fn(x.ncols(), found.len(), |j, k| found[k].1[j]);
    let patterns = Patterns::of(x, gates.as_ref());
    let mut k = 0..found.len();
    found.retain(|_| {
        k.next()
            .is_some_and(|k| seen.insert(patterns.row(k).to_vec()))
    });
}

/// One round's search.
struct Search<'a> {
    problem: &'a Problem,
    rows: Option<Rows>,
    /// `||x_s||^2`.
    squares: Vec<f64>,
    /// `Theta`.
    theta: Mat<f64>,
}

/// A gate that the search has reached.
struct Point {
    gate: Vec<f64>,
    /// `x_s' g`.
    scores: Vec<f64>,
    /// `||u||`.
    price: f64,
    /// Of (1).
    u: Vec<f64>,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem, theta: Mat<f64>) -> Self {
        let x = problem.matrix.x();
        let mut squares = vec![0.0; x.nrows()];
        for j in 0..x.ncols() {
            let column = squares.iter_mut().zip(x.col(j).iter());
            column.for_each(|(square, v)| *square += v * v);
        }
        Self {
            problem,
            rows: (problem.activation == Activation::Relu).then(|| Rows::new(x)),
            squares,
            theta,
        }
    }

    /// Climbs from `gate`; the best price and its gate.
    fn climb(&self, output: usize, gate: Vec<f64>) -> (f64, Vec<f64>) {
        let mut best = self.at(output, gate);
        for _ in 0..STEPS {
            let better = |gate: Vec<f64>| {
                let point = self.at(output, gate);
                (point.price > best.price * (1.0 + 1e-9)).then_some(point)
            };
            let step = self.next(output, &best.u).and_then(better).or_else(|| {
                let neighbours = self.neighbours(output, &best).into_iter();
                let neighbours = neighbours.filter_map(better);
                neighbours.max_by(|a, b| a.price.total_cmp(&b.price))
            });
            let Some(step) = step else { break };
            best = step;
        }
        (best.price, best.gate)
    }

    /// Gates (3) behind the hyperplanes that are nearest to `point`; for the gated program only those that
    /// promise a better price.
    fn neighbours(&self, output: usize, point: &Point) -> Vec<Vec<f64>> {
        let distance = |s: usize| point.scores[s].abs() / self.squares[s].sqrt();
        let apart = |s: &usize| self.squares[*s] > 0.0 && point.scores[*s] != 0.0;
        let apart = (0..point.scores.len()).filter(apart);
        let mut near: Vec<(f64, usize)> = apart.map(|s| (distance(s), s)).collect();
        if self.rows.is_some() {
            keep_least(&mut near, NEIGHBOURS);
        } else {
            keep_least(&mut near, PROMISES);
            let promised = |(_, s)| (-self.promise(output, point, s), s);
            near = near.into_iter().map(promised).collect();
            near.retain(|(promise, _)| -promise > point.price);
            keep_least(&mut near, KEPT);
        }
        let near = near.into_iter();
        near.map(|(_, s)| self.behind(point, s)).collect()
    }

    /// The price of the gated program behind the hyperplane of `x_s` alone, where `u` changes by `theta_s x_s`.
    fn promise(&self, output: usize, point: &Point, s: usize) -> f64 {
        let theta = self.theta[(s, output)];
        let change = if point.scores[s] > 0.0 { -theta } else { theta };
        let x = self.problem.matrix.x().row(s);
        let moved = point.u.iter().zip(x.iter());
        let square = moved.map(|(u, x)| (u + change * x).powi(2)).sum::<f64>();
        square.sqrt()
    }

    /// (3).
    fn behind(&self, point: &Point, s: usize) -> Vec<f64> {
        let step = (1.0 + BEYOND) * point.scores[s] / self.squares[s];
        let x = self.problem.matrix.x().row(s);
        let moved = point.gate.iter().zip(x.iter());
        moved.map(|(g, x)| g - step * x).collect()
    }

    /// (1) at the pattern of `gate`.
    fn at(&self, output: usize, gate: Vec<f64>) -> Point {
        let x = self.problem.matrix.x();
        let scores = x * Mat::from_fn(x.ncols(), 1, |j, _| gate[j]);
        let scores = scores.col_as_slice(0).to_vec();
        let theta = self.theta.col_as_slice(output);
        let masked = Mat::from_fn(
            x.nrows(),
            1,
            |s, _| {
                if scores[s] > 0.0 { theta[s] } else { 0.0 }
            },
        );
        let c = x.transpose() * masked;
        let u = self.direction(c.col_as_slice(0), &scores);
        Point {
            price: norm(&u),
            gate,
            scores,
            u,
        }
    }

    /// The longer of `P_K(c)` and `P_K(-c)` in the cell of these scores; for the gated program `c` itself.
    fn direction(&self, c: &[f64], scores: &[f64]) -> Vec<f64> {
        let Some(rows) = &self.rows else {
            return c.to_vec();
        };
        let sign = |s: usize| if scores[s] > 0.0 { 1.0 } else { -1.0 };
        let up = project(rows, &sign, c, &[]).point;
        let negative: Vec<f64> = c.iter().map(|c| -c).collect();
        let down = project(rows, &sign, &negative, &[]).point;
        if norm(&up) >= norm(&down) { up } else { down }
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

/// Keeps the `count` least, in order.
fn keep_least(list: &mut Vec<(f64, usize)>, count: usize) {
    let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0);
    if list.len() > count {
        list.select_nth_unstable_by(count, order);
        list.truncate(count);
    }
    list.sort_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_solve::gated::{GatedMatrix, Loss, Penalty};

    /// Where a neighbour differs in one sample, its price is the one promised.
    #[test]
    fn promises_are_kept() {
        let mut rng = Rng::new(3, "test");
        let (n, d) = (40, 4);
        let mut draw = |rows, columns| Mat::from_fn(rows, columns, |_, _| rng.normal());
        let (x, gates, targets) = (draw(n, d), draw(d, 3), draw(n, 2));
        let theta = draw(n, 2);
        let patterns = Patterns::of(x.as_ref(), gates.as_ref());
        let problem = Problem {
            matrix: GatedMatrix::new(x, patterns),
            targets,
            loss: Loss::Squared,
            penalty: Penalty::Neuron,
            activation: Activation::Gated,
            lambda: 1.0,
            linear: None,
            intercept: false,
        };
        let search = Search::new(&problem, theta);
        let mut kept = 0;
        for output in 0..2 {
            let point = search.at(output, gates.col_as_slice(output).to_vec());
            for s in 0..n {
                let there = search.at(output, search.behind(&point, s));
                let sides = there.scores.iter().zip(&point.scores);
                let crossed = sides.filter(|(a, b)| (**a > 0.0) != (**b > 0.0)).count();
                assert!(crossed >= 1);
                if crossed == 1 {
                    let promise = search.promise(output, &point, s);
                    assert!((there.price / promise - 1.0).abs() < 1e-12);
                    kept += 1;
                }
            }
        }
        assert!(kept >= 4, "{kept}");
    }
}
