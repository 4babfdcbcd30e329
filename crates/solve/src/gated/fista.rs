//! Accelerated proximal gradients, for every loss and penalty.
//!
//! With `Phi(U, b) = F(sum D_i X U_i + 1 b')` and a step `eta`,
//!
//! ```text
//!     V  <- U_k + (t_{k-1} - 1)/t_k (U_k - U_{k-1}) ,     t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2
//!     U_{k+1} <- prox_{eta lambda R} ( V - eta grad Phi(V) )
//!     until  F(Z(U_{k+1})) <= F(Z(V)) + <grad F(Z(V)), Z(U_{k+1}) - Z(V)> + ||U_{k+1} - V||^2 / (2 eta)     (1)
//! ```
//!
//! (Beck, Teboulle, *A fast iterative shrinkage-thresholding algorithm*, SIAM J. Imaging Sci. 2009.) `eta`
//! is halved where (1) fails and grows a little after every step; the momentum starts again when it points
//! uphill, `<V - U_{k+1}, U_{k+1} - U_k> > 0` (O'Donoghue, Candès, *Adaptive restart for accelerated gradient
//! schemes*, Found. Comput. Math. 2015). The free intercept is an unknown without penalty. Outputs are
//! linear in `(U, b)`, so those of `V` need no product of their own: a step costs one product with `A` and
//! one with `A'`, on the columns that are not zero and on all, respectively.
//!
//! Every so many steps [`super::certify`] proves how far the point is; that decides when to stop.

use std::ops::ControlFlow;

use faer::Mat;

use super::newton_solver::Reached;
use super::working_set::Round;
use super::{Activation, Column, Neuron, Penalty, Problem, SolveOptions, certify};
use crate::dense::norm;
use crate::error::SolveError;
use crate::factor::inner;
use crate::prox::cone::{Active, Rows, project};
use crate::prox::penalty;

/// Steps between two certificates: at first, and at most.
const STEPS: (usize, usize) = (25, 800);
/// Growth of the step size after a step.
const GROWTH: f64 = 1.05;
/// A projection shorter than this part of its point is rounding, and leaves its cone by as much.
const NOTHING: f64 = 1e-7;
/// Halvings of a step.
const HALVINGS: usize = 60;

/// The next `t` of the momentum.
fn next_t(t: f64) -> f64 {
    f64::midpoint(1.0, (1.0 + 4.0 * t * t).sqrt())
}

/// Whether the method covers `problem`.
pub(super) fn covers(problem: &Problem) -> bool {
    problem.activation == Activation::Gated
        || matches!(problem.penalty, Penalty::Neuron | Penalty::SquaredL2)
}

/// Minimises `problem`, from `warm`.
pub(super) fn solve(
    problem: &Problem,
    options: &SolveOptions,
    warm: &[Neuron],
    observe: &(dyn Fn(Round) -> ControlFlow<()> + Sync),
) -> Result<Reached, SolveError> {
    let mut descent = Descent::new(problem, warm);
    let mut rounds = Vec::new();
    let mut interrupted = false;
    let mut steps = STEPS.0;
    loop {
        let (neurons, b) = (descent.neurons(), descent.point.b.clone());
        let certificate = certify(problem, &neurons, &b)?;
        let round = Round::from(certificate);
        rounds.push(round);
        interrupted |= observe(round).is_break();
        let small = round.gap <= options.tolerance * round.objective;
        if small || rounds.len() > options.max_iterations || interrupted {
            return Ok(Reached {
                neurons,
                intercept: b,
                rounds,
                interrupted,
            });
        }
        for _ in 0..steps {
            descent.step()?;
        }
        steps = (steps * 3 / 2).min(STEPS.1);
    }
}

/// Weights, intercept and outputs that belong together.
#[derive(Clone)]
struct Point {
    /// `d x k`.
    u: Mat<f64>,
    b: Vec<f64>,
    z: Mat<f64>,
}

/// The method's state.
struct Descent<'a> {
    problem: &'a Problem,
    columns: Vec<Column>,
    /// `-1` for the parts `W` of a ReLU program.
    signs: Vec<f64>,
    rows: Option<Rows>,
    hints: Vec<Vec<Active>>,
    point: Point,
    previous: Point,
    t: f64,
    eta: f64,
}

impl<'a> Descent<'a> {
    fn new(problem: &'a Problem, warm: &[Neuron]) -> Self {
        let (n, d) = (problem.matrix.samples(), problem.matrix.features());
        let (mut columns, mut signs) = (Vec::new(), Vec::new());
        for gate in 0..problem.matrix.gates() {
            for output in 0..problem.outputs() {
                let both: &[f64] = if problem.has_cone(gate) {
                    &[1.0, -1.0]
                } else {
                    &[1.0]
                };
                for sign in both {
                    columns.push(Column { gate, output });
                    signs.push(*sign);
                }
            }
        }
        let cones = (0..problem.matrix.gates()).any(|gate| problem.has_cone(gate));
        let mut u = Mat::zeros(d, columns.len());
        let index: std::collections::HashMap<(usize, usize, bool), usize> = columns
            .iter()
            .zip(&signs)
            .enumerate()
            .map(|(k, (c, sign))| ((c.gate, c.output, *sign < 0.0), k))
            .collect();
        for neuron in warm {
            let key = (neuron.gate, neuron.output, neuron.sign < 0.0);
            if let Some(k) = index.get(&key)
                && neuron.weights.len() == d
            {
                u.col_as_slice_mut(*k).copy_from_slice(&neuron.weights);
            }
        }
        let square: f64 = (0..d)
            .map(|j| {
                (0..n)
                    .map(|s| problem.matrix.x()[(s, j)].powi(2))
                    .sum::<f64>()
            })
            .sum();
        let curvature = problem.loss.curvature(problem.outputs()) / n as f64;
        let mut descent = Self {
            problem,
            hints: vec![Vec::new(); columns.len()],
            columns,
            signs,
            rows: cones.then(|| Rows::new(problem.matrix.x())),
            point: Point {
                u,
                b: vec![0.0; problem.outputs()],
                z: Mat::zeros(n, problem.outputs()),
            },
            previous: Point {
                u: Mat::zeros(0, 0),
                b: Vec::new(),
                z: Mat::zeros(0, 0),
            },
            t: 1.0,
            eta: 1.0 / (curvature * square).max(f64::MIN_POSITIVE),
        };
        descent.point.z = descent.outputs(&descent.point.u, &descent.point.b);
        descent.previous = descent.point.clone();
        descent
    }

    /// `Z(U, b)`, from the columns that are not zero.
    fn outputs(&self, u: &Mat<f64>, b: &[f64]) -> Mat<f64> {
        let live: Vec<usize> = (0..u.ncols())
            .filter(|k| u.col_as_slice(*k).iter().any(|x| *x != 0.0))
            .collect();
        let columns: Vec<Column> = live.iter().map(|k| self.columns[*k]).collect();
        let weights = Mat::from_fn(u.nrows(), live.len(), |j, k| {
            self.signs[live[k]] * u[(j, live[k])]
        });
        let mut z = Mat::from_fn(self.problem.matrix.samples(), b.len(), |_, c| b[c]);
        self.problem
            .matrix
            .apply(&columns, weights.as_ref(), &mut z);
        z
    }

    /// One step, with its line search.
    fn step(&mut self) -> Result<(), SolveError> {
        let problem = self.problem;
        let t = next_t(self.t);
        let v = extrapolated(&self.point, &self.previous, (self.t - 1.0) / t);
        let y = problem.targets.as_ref();
        let value = problem.loss.value(v.z.as_ref(), y);
        let gradient = problem.loss.gradient(v.z.as_ref(), y);
        let mut slope = problem.matrix.correlate(&self.columns, &gradient);
        for (k, sign) in self.signs.iter().enumerate().filter(|(_, s)| **s < 0.0) {
            slope
                .col_as_slice_mut(k)
                .iter_mut()
                .for_each(|g| *g *= sign);
        }
        let sums: Vec<f64> = (0..gradient.ncols())
            .map(|c| gradient.col_as_slice(c).iter().sum())
            .collect();
        for _ in 0..HALVINGS {
            let next = self.move_from(&v, &slope, &sums)?;
            let after = problem.loss.value(next.z.as_ref(), y);
            let along = inner(&gradient, &next.z) - inner(&gradient, &v.z);
            let square = square_distance(&next, &v);
            let bound = value + along + square / (2.0 * self.eta);
            if after <= bound + 1e-14 * value.abs() {
                self.accept(v, next, t);
                return Ok(());
            }
            self.eta *= 0.5;
        }
        Ok(())
    }

    /// The proximal step from `v`.
    fn move_from(
        &mut self,
        v: &Point,
        slope: &Mat<f64>,
        sums: &[f64],
    ) -> Result<Point, SolveError> {
        let (eta, problem) = (self.eta, self.problem);
        let mut u = Mat::from_fn(v.u.nrows(), v.u.ncols(), |j, k| {
            v.u[(j, k)] - eta * slope[(j, k)]
        });
        if let Some(rows) = &self.rows {
            for k in 0..u.ncols() {
                let gate = self.columns[k].gate;
                if problem.has_cone(gate) {
                    let patterns = problem.matrix.patterns();
                    let sign = |s: usize| if patterns.get(gate, s) { 1.0 } else { -1.0 };
                    let length = norm(u.col_as_slice(k));
                    let projection = project(rows, &sign, u.col_as_slice(k), &self.hints[k]);
                    let column = u.col_as_slice_mut(k);
                    column.copy_from_slice(&projection.point);
                    if norm(column) < NOTHING * length {
                        column.fill(0.0);
                    }
                    self.hints[k] = projection.active;
                }
            }
        }
        penalty::prox(problem.penalty, &self.columns, &mut u, eta * problem.lambda)?;
        let b: Vec<f64> = if problem.intercept {
            v.b.iter().zip(sums).map(|(b, s)| b - eta * s).collect()
        } else {
            v.b.clone()
        };
        let z = self.outputs(&u, &b);
        Ok(Point { u, b, z })
    }

    fn accept(&mut self, v: Point, next: Point, t: f64) {
        let mut uphill = 0.0;
        for k in 0..next.u.ncols() {
            let (v, next, now) = (
                v.u.col_as_slice(k),
                next.u.col_as_slice(k),
                self.point.u.col_as_slice(k),
            );
            uphill += (0..v.len())
                .map(|j| (v[j] - next[j]) * (next[j] - now[j]))
                .sum::<f64>();
        }
        for ((v, next), now) in v.b.iter().zip(&next.b).zip(&self.point.b) {
            uphill += (v - next) * (next - now);
        }
        self.t = if uphill > 0.0 { 1.0 } else { t };
        self.previous = std::mem::replace(&mut self.point, next);
        self.eta *= GROWTH;
    }

    fn neurons(&self) -> Vec<Neuron> {
        let live = (0..self.columns.len()).filter(|k| norm(self.point.u.col_as_slice(*k)) > 0.0);
        live.map(|k| Neuron {
            gate: self.columns[k].gate,
            output: self.columns[k].output,
            sign: self.signs[k],
            weights: self.point.u.col_as_slice(k).to_vec(),
        })
        .collect()
    }
}

/// `now + momentum (now - before)`.
fn extrapolated(now: &Point, before: &Point, momentum: f64) -> Point {
    let mix = |a: &Mat<f64>, b: &Mat<f64>| {
        Mat::from_fn(a.nrows(), a.ncols(), |i, j| {
            a[(i, j)] + momentum * (a[(i, j)] - b[(i, j)])
        })
    };
    let b = now
        .b
        .iter()
        .zip(&before.b)
        .map(|(a, b)| a + momentum * (a - b))
        .collect();
    Point {
        u: mix(&now.u, &before.u),
        b,
        z: mix(&now.z, &before.z),
    }
}

fn square_distance(a: &Point, b: &Point) -> f64 {
    let column = |k| {
        let pairs = a.u.col_as_slice(k).iter().zip(b.u.col_as_slice(k));
        pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>()
    };
    let intercepts = a.b.iter().zip(&b.b).map(|(a, b)| (a - b) * (a - b));
    (0..a.u.ncols()).map(column).sum::<f64>() + intercepts.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::next_t;

    /// The published defect is `1 + sqrt(1 + 4 t^2) / 2`.
    #[test]
    fn the_momentum_is_the_papers() {
        assert!((next_t(1.0) - 1.618_033_988_749_895).abs() < 1e-15);
        assert!((next_t(2.0) - f64::midpoint(1.0, 17.0_f64.sqrt())).abs() < 1e-15);
    }
}
