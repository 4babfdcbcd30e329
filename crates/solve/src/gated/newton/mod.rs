//! A semismooth Newton method for one output of a gated program with neuron-wise norms and a (weighted)
//! squared loss, cones included.
//!
//! ```text
//!     min over x, b    1/2 || A x + b 1 - t ||^2 + w sum_i ||x_i|| ,    x_i in K_i               (1)
//! ```
//!
//! `A = [.. +-D_i X ..]` over the groups of a working set; `K_i` is the gate's cone or the whole space. (With
//! row weights `h`, `A`, `1` and `t` stand for themselves times `h^(1/2)`, row by row.) The dual is
//!
//! ```text
//!     max over y    <t, y> - 1/2 ||y||^2    with    ||P_{K_i} A_i' y|| <= w ,  <1, y> = 0         (2)
//! ```
//!
//! with `y = t - A x - b 1` at the optimum. The augmented Lagrangian method on (2), which is the proximal
//! point method on (1), minimises for `sigma > 0` and the current `x`
//!
//! ```text
//!     phi(y) = 1/2 ||y||^2 - <t, y> + 1/(2 sigma) ( ||prox_{sigma w}(x + sigma A' y)||^2 + (b + sigma <1, y>)^2 )
//! ```
//!
//! and takes `x <- prox_{sigma w}(x + sigma A' y)`, `b <- b + sigma <1, y>`: the new `x` is sparse and lies
//! in its cones to rounding. `phi` is strongly convex with modulus 1; its gradient `y - t + A x(y) + b(y) 1`
//! is piecewise smooth, and Newton's method on it solves systems with `I + sigma A P A'` (+ `sigma 1 1'`),
//! `P` the derivative of the proximal map, in which only live groups take part.
//!
//! Sources: X. Li, D. Sun, K.-C. Toh, *A highly efficient semismooth Newton augmented Lagrangian method for
//! solving Lasso problems*, SIAM J. Optim. 2018; Y. Zhang, N. Zhang, D. Sun, K.-C. Toh, *An efficient
//! Hessian based algorithm for solving large-scale sparse group Lasso problems*, Math. Program. 2020. The
//! proximal map over a cone is (1) of [`crate::prox`], its derivative and the Newton systems of masked
//! matrices ([`system`]) are ours.

pub(crate) mod gram;
pub(crate) mod group;
mod scalar;
mod system;
#[cfg(test)]
mod tests;

use faer::Mat;
use rayon::prelude::*;

use self::group::{Group, Live};
pub(crate) use self::scalar::Scalar;
use self::system::{Memory, System};
use crate::dense::{dot, norm, norm_squared};
use crate::error::SolveError;
use crate::prox::cone::Active;

/// Newton steps for one `phi`.
const NEWTON_STEPS: usize = 50;
/// Halvings of a step.
const HALVINGS: usize = 30;
/// Of the decrease that the slope promises, the part a step must reach.
const ARMIJO: f64 = 1e-4;
/// `delta` in the criterion of [`State::accuracy`].
const DELTA: f64 = 0.3;
/// The first [`State::care`].
const CARE: f64 = 0.1;
/// Factor on it where the gap no longer falls: with columns of very different lengths the dual point asks for more.
const TIGHTER: f64 = 0.1;
/// The first `sigma`, in units of `1 / ||X||_F^2`.
const FIRST_SIGMA: f64 = 1000.0;
/// The last: errors of the Newton systems grow with it.
const LAST_SIGMA: f64 = 1e8;
/// Factor on `sigma` where they spoil the residual; not below the first.
const SOFTER: f64 = 0.1;
/// Factor by which `sigma` grows from one `phi` to the next.
const GROWTH: f64 = 5.0;

/// Where the method stands; its vectors belong to the groups of a working set.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) groups: Vec<Group>,
    /// `x`, `d x k`.
    pub(crate) x: Mat<f64>,
    pub(crate) b: f64,
    /// `y`, length `n`.
    pub(crate) y: Vec<f64>,
    sigma: f64,
    /// The largest `sigma` that rounding allows.
    limit: f64,
    /// The smallest.
    least: f64,
    /// Rows that last bound each group.
    pub(crate) hints: Vec<Vec<Active>>,
    /// In units of the root of the gap to reach, the gradient of `phi` that is small enough.
    care: f64,
    /// Newton steps so far.
    pub(crate) steps: usize,
    /// What earlier Newton systems left.
    memory: Memory,
    /// The `phi` whose minimiser gave `x`, as long as the groups are the same.
    centre: Option<Centre>,
}

/// What a `phi` belongs to.
#[derive(Clone, Debug)]
struct Centre {
    x: Mat<f64>,
    b: f64,
    sigma: f64,
}

/// Everything that `phi` and its derivatives need at one `y`.
struct Point {
    y: Vec<f64>,
    /// `A' y`.
    c: Mat<f64>,
    live: Vec<Option<Live>>,
    /// `b + sigma <1, y>`.
    b: f64,
    phi: f64,
    /// `grad phi(y)`.
    gradient: Vec<f64>,
}

impl State {
    /// At `warm`, with its groups as the working set.
    pub(crate) fn new(scalar: &Scalar<'_>, warm: &[(Group, Vec<f64>)]) -> Self {
        let groups: Vec<Group> = warm.iter().map(|(group, _)| *group).collect();
        let x = Mat::from_fn(scalar.features(), warm.len(), |j, k| warm[k].1[j]);
        let (y, b) = scalar.residual(&groups, x.as_ref());
        let square = scalar
            .scaled_squares()
            .iter()
            .sum::<f64>()
            .max(f64::MIN_POSITIVE);
        Self {
            hints: vec![Vec::new(); groups.len()],
            groups,
            x,
            b,
            y,
            sigma: FIRST_SIGMA / square,
            limit: LAST_SIGMA / square,
            least: FIRST_SIGMA / square,
            care: CARE,
            steps: 0,
            memory: Memory::new(),
            centre: None,
        }
    }

    /// Drops groups that are zero and adds `more` groups, with rows likely to bind them.
    pub(crate) fn work_on(&mut self, scalar: &Scalar<'_>, more: &[(Group, Vec<Active>)]) {
        let live: Vec<usize> = (0..self.groups.len())
            .filter(|k| self.is_live(*k))
            .collect();
        let x = Mat::from_fn(scalar.features(), live.len() + more.len(), |j, k| {
            live.get(k).map_or(0.0, |k| self.x[(j, *k)])
        });
        let hints = live.iter().map(|k| std::mem::take(&mut self.hints[*k]));
        self.hints = hints
            .chain(more.iter().map(|(_, hint)| hint.clone()))
            .collect();
        let groups = live.iter().map(|k| self.groups[*k]);
        self.groups = groups.chain(more.iter().map(|(group, _)| *group)).collect();
        self.x = x;
        self.centre = None;
    }

    /// Whether a group is not zero.
    pub(crate) fn is_live(&self, k: usize) -> bool {
        self.x.col_as_slice(k).iter().any(|x| *x != 0.0)
    }

    /// The number of groups that are not zero.
    pub(crate) fn live_count(&self) -> usize {
        (0..self.groups.len()).filter(|k| self.is_live(*k)).count()
    }

    /// The groups that are not zero, with their weights.
    pub(crate) fn live_weights(&self) -> Vec<(Group, Vec<f64>)> {
        let live = (0..self.groups.len()).filter(|k| self.is_live(*k));
        live.map(|k| (self.groups[k], self.x.col_as_slice(k).to_vec()))
            .collect()
    }

    /// Runs until the duality gap over these groups is at most `target`, or no longer falls. Returns the
    /// objective and the dual value (for these groups) at the end.
    pub(crate) fn run(
        &mut self,
        scalar: &Scalar<'_>,
        target: f64,
        rounds: usize,
    ) -> Result<(f64, f64), SolveError> {
        let mut best = self.values(scalar);
        let mut stalled = 0;
        for _ in 0..rounds {
            if best.0 - best.1 <= target || stalled >= 3 {
                break;
            }
            let point = self.minimise_phi(scalar, DELTA, self.care * target.sqrt())?;
            self.accept(point);
            let values = self.values(scalar);
            stalled = if values.0 - values.1 < 0.9 * (best.0 - best.1) {
                0
            } else {
                self.care *= TIGHTER;
                stalled + 1
            };
            best = values;
            self.sigma = (self.sigma * GROWTH).min(self.limit);
        }
        Ok(best)
    }

    /// Brings the residual at `x` nearer to `y`: the last `phi` is minimised further, to a gradient `factor` times as
    /// long. The gradient is the difference between `y` and the residual, so this makes the residual as
    /// good a dual point as `y`. Returns whether anything moved.
    pub(crate) fn polish(&mut self, scalar: &Scalar<'_>, factor: f64) -> Result<bool, SolveError> {
        if let Some(centre) = self.centre.take() {
            (self.x, self.b, self.sigma) = (centre.x, centre.b, centre.sigma);
        }
        let c = scalar.correlate(&self.groups, &self.y);
        let now = self.at(scalar, self.y.clone(), c);
        let steps = self.steps;
        let point = self.minimise_phi(scalar, 0.0, factor * norm(&now.gradient))?;
        self.accept(point);
        Ok(self.steps > steps)
    }

    /// Takes a proximal step from `x` with a smaller `sigma`, and no larger one from now on: less of the Newton systems'
    /// rounding then reaches the residual. Returns whether `sigma` could be smaller.
    pub(crate) fn soften(&mut self, scalar: &Scalar<'_>, factor: f64) -> Result<bool, SolveError> {
        let softer = SOFTER * self.sigma.min(self.limit);
        if softer < self.least {
            return Ok(false);
        }
        (self.sigma, self.limit) = (softer, softer);
        self.centre = None;
        self.polish(scalar, factor)?;
        Ok(true)
    }

    fn accept(&mut self, point: Point) {
        let mut x = Mat::zeros(self.x.nrows(), self.x.ncols());
        for (k, live) in point.live.iter().enumerate() {
            if let Some(live) = live {
                x.col_as_slice_mut(k).copy_from_slice(&live.point);
            }
        }
        self.centre = Some(Centre {
            x: std::mem::replace(&mut self.x, x),
            b: std::mem::replace(&mut self.b, point.b),
            sigma: self.sigma,
        });
        self.y = point.y;
    }

    /// The objective at `x` with the best `b`, which is kept.
    pub(crate) fn objective(&mut self, scalar: &Scalar<'_>) -> f64 {
        let (r, b) = scalar.residual(&self.groups, self.x.as_ref());
        self.b = b;
        let norms: f64 = (0..self.groups.len())
            .map(|k| norm(self.x.col_as_slice(k)))
            .sum();
        0.5 * norm_squared(&r) + scalar.weight * norms
    }

    /// The objective at `x` and the dual value at `y`, both over these groups.
    fn values(&mut self, scalar: &Scalar<'_>) -> (f64, f64) {
        let y = scalar.centred(&self.y);
        let c = scalar.correlate(&self.groups, &y);
        let largest = self
            .groups
            .par_iter()
            .zip(&mut self.hints)
            .enumerate()
            .map(|(k, (g, hint))| {
                let c = c.col_as_slice(k);
                scalar.cones.dual_norm(*g, c, scalar.weight, hint)
            })
            .reduce(|| 0.0, f64::max);
        (self.objective(scalar), scalar.dual_value(&y, largest).0)
    }

    /// Newton's method on `phi`, from the last `y`, to a gradient as in [`Self::accuracy`] with `delta`, or of length
    /// `enough`.
    fn minimise_phi(
        &mut self,
        scalar: &Scalar<'_>,
        delta: f64,
        enough: f64,
    ) -> Result<Point, SolveError> {
        let c = scalar.correlate(&self.groups, &self.y);
        let mut point = self.at(scalar, self.y.clone(), c);
        for _ in 0..NEWTON_STEPS {
            let length = norm(&point.gradient);
            if length <= (delta * self.accuracy(&point)).max(enough) {
                break;
            }
            let system = System {
                scalar,
                live: self.live(&point),
                sigma: self.sigma,
            };
            let tolerance = (length / norm(&scalar.target)).min(1e-2);
            let mut d = system.solve(&point.gradient, tolerance, &mut self.memory)?;
            d.iter_mut().for_each(|d| *d = -*d);
            self.steps += 1;
            match self.search(scalar, &point, &d) {
                Some(next) => point = next,
                None => break,
            }
        }
        Ok(point)
    }

    /// `||x(y) - x|| / sigma^(1/2)`: a minimiser of `phi` is good enough where its gradient is at most `delta` times
    /// as long, criterion (B) of Li, Sun and Toh.
    fn accuracy(&self, point: &Point) -> f64 {
        let mut square = (point.b - self.b).powi(2);
        for (k, live) in point.live.iter().enumerate() {
            let x = self.x.col_as_slice(k);
            square += match live {
                Some(live) => x
                    .iter()
                    .zip(&live.point)
                    .map(|(a, b)| (a - b) * (a - b))
                    .sum(),
                None => norm_squared(x),
            };
        }
        (square / self.sigma).sqrt()
    }

    fn live<'p>(&self, point: &'p Point) -> Vec<(Group, &'p Live)> {
        let pairs = self.groups.iter().zip(&point.live);
        pairs
            .filter_map(|(g, live)| Some((*g, live.as_ref()?)))
            .collect()
    }

    /// `phi` and its derivatives at `y`, `c = A' y`.
    fn at(&mut self, scalar: &Scalar<'_>, y: Vec<f64>, c: Mat<f64>) -> Point {
        let c0 = if scalar.intercept {
            dot(&scalar.ones(), &y)
        } else {
            0.0
        };
        let (sigma, x) = (self.sigma, &self.x);
        let live: Vec<Option<Live>> = self
            .groups
            .par_iter()
            .zip(&mut self.hints)
            .enumerate()
            .map(|(k, (group, hint))| {
                let pairs = x.col_as_slice(k).iter().zip(c.col_as_slice(k));
                let w: Vec<f64> = pairs.map(|(x, c)| x + sigma * c).collect();
                scalar.cones.prox(*group, &w, sigma * scalar.weight, hint)
            })
            .collect();
        let b = self.b + sigma * c0;
        let (groups, points): (Vec<Group>, Vec<&Live>) = self
            .groups
            .iter()
            .zip(&live)
            .filter_map(|(g, live)| Some((*g, live.as_ref()?)))
            .unzip();
        let p = Mat::from_fn(scalar.features(), points.len(), |j, k| points[k].point[j]);
        let z = scalar.apply(&groups, p.as_ref(), b);
        let squares: f64 = points.iter().map(|live| norm_squared(&live.point)).sum();
        let phi =
            0.5 * norm_squared(&y) - dot(&scalar.target, &y) + (squares + b * b) / (2.0 * sigma);
        let gradient = (0..y.len())
            .map(|s| y[s] - scalar.target[s] + z[s])
            .collect();
        Point {
            y,
            c,
            live,
            b,
            phi,
            gradient,
        }
    }

    /// Halves the step until `phi` falls as the slope promises.
    fn search(&mut self, scalar: &Scalar<'_>, from: &Point, d: &[f64]) -> Option<Point> {
        let slope = dot(&from.gradient, d);
        let along = scalar.correlate(&self.groups, d);
        let mut step = 1.0;
        for _ in 0..HALVINGS {
            let y = from.y.iter().zip(d).map(|(y, d)| y + step * d).collect();
            let c = &from.c + faer::Scale(step) * &along;
            let next = self.at(scalar, y, c);
            let rounding = 1e-14 * from.phi.abs();
            if next.phi <= from.phi + ARMIJO * step * slope + rounding {
                return Some(next);
            }
            step *= 0.5;
        }
        None
    }
}
