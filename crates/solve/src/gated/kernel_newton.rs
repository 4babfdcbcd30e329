//! Losses that are not quadratic, with the squared norm: Newton's method on the kernel of [`super::ridge`].
//!
//! At the minimum `U_i = X' D_i a` for one unknown a sample and output, so that `n` times program (1) of
//! [`super`] is, with `K = sum_i D_i X X' D_i` and `f_s` the loss of sample `s`,
//!
//! ```text
//!     min over a, b    sum_s f_s(z_s) + (n lambda / 2) <a, K a> ,     Z = K a + 1 b' .                   (1)
//! ```
//!
//! Let `G` be the gradients of the samples' losses (`n x C`) and `H` their second derivatives, a `C x C`
//! matrix a sample. A Newton step `(a + d, b + e)` minimises the quadratic model of (1) with
//! `n lambda ||e||^2 / (2 tau)` added, which keeps the intercept near where it was, and vanishes at the end:
//!
//! ```text
//!     n lambda d + H K~ d = r ,     e = tau 1'(a + d) ,     K~ = K + tau 1 1' ,
//!     r = -(G + n lambda a + tau H 1 1'a) .                                                               (2)
//! ```
//!
//! Let `H = R R'` and `r = R rho + r_0`, with `r_0` the part of `r` that `R` does not reach, or only by numbers
//! that are large (samples whose loss hardly curves: `q^2` times the kernel's diagonal below a millionth of `n lambda`). Then
//!
//! ```text
//!     (n lambda I + R' K~ R) w = rho - R' K~ r_0 / (n lambda) ,     d = r_0 / (n lambda) + R w .          (3)
//! ```
//!
//! The matrix is symmetric, and positive definite by `n lambda` whatever `H` is.
//!
//! | loss | `R` |
//! |---|---|
//! | cross entropy, one output | `sqrt(p (1 - p))` |
//! | cross entropy, several | `diag(q) (I - q q')`, `q = sqrt(p)`: `R R' = diag(p) - p p'`, as `I - q q'` is a projector |
//! | squared hinge | 1 where the margin is missed, else 0 |
//!
//! (3) is solved by conjugate gradients, each step a product with the kernel (in single precision beyond 5,000 samples),
//! preconditioned by the inverse of `n lambda I + diag(R) B B' diag(R)`, where `B B'` is a Nyström
//! approximation of `K` with `tau 1 1'` beside it (Woodbury's formula, an output at a time), between projectors.
//! The step is halved until (1) falls enough (Armijo). Outputs along the step, and the certificate after it, are computed
//! from weights in double precision, so that what the single precision loses the next step mends.

mod root;
mod system;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use faer::{Mat, MatRef};

use super::newton_solver::Reached;
use super::ridge::{MOST_SAMPLES, weights};
use super::working_set::Round;
use super::{Activation, Loss, Penalty, Problem, SolveOptions, certify};
use crate::dense::ratio;
use crate::error::SolveError;
use crate::factor::inner;
use crate::quadratic::{PcgOptions, solve_several};
use root::Root;
use system::{Kernel, System, Woodbury};

/// Relative residuals of (3): a tenth of the relative gap, within these.
const RESIDUALS: (f64, f64) = (1e-6, 1e-2);
/// `q` below which a sample counts as flat, at most.
const FLAT: f64 = 1e-3;
/// Conjugate gradients in a step, at most.
const MOST: usize = 200;
/// Of the decrease that is promised, the part a step must reach.
const ARMIJO: f64 = 1e-4;
/// Halvings of a step.
const HALVINGS: usize = 30;
/// Rounds without progress after which rounding has the last word.
const PATIENCE: usize = 5;
/// Changes of (1) smaller than this part of it are rounding.
const ROUNDING: f64 = 1e-12;

/// Whether the method covers `problem`.
pub(super) fn covers(problem: &Problem) -> bool {
    problem.activation == Activation::Gated
        && problem.penalty == Penalty::SquaredL2
        && problem.loss != Loss::Squared
        && problem.matrix.samples() <= MOST_SAMPLES
}

/// Minimises a problem that [`covers`].
pub(super) fn solve(
    problem: &Problem,
    options: &SolveOptions,
    observe: &(dyn Fn(Round) -> ControlFlow<()> + Sync),
) -> Result<Reached, SolveError> {
    let kernel = Kernel::new(problem)?;
    let zeros = Mat::zeros(problem.matrix.samples(), problem.outputs());
    let mut point = Point {
        a: zeros.clone(),
        b: vec![0.0; problem.outputs()],
        fitted: zeros,
    };
    let mut rounds: Vec<Round> = Vec::new();
    let mut interrupted = false;
    loop {
        let neurons = weights(problem, &point.a);
        let round = Round::from(certify(problem, &neurons, &point.b)?);
        rounds.push(round);
        interrupted |= observe(round).is_break();
        let sound = round.gap <= options.tolerance * round.objective;
        let next =
            if sound || interrupted || rounds.len() > options.max_iterations || stalls(&rounds) {
                None
            } else {
                let tolerance = 0.1 * round.gap / round.objective;
                let tolerance = tolerance.clamp(RESIDUALS.0, RESIDUALS.1);
                let step = Step::newton(problem, &kernel, &point, tolerance)?;
                step.search(problem, &point)
            };
        let Some(next) = next else {
            return Ok(Reached {
                neurons,
                intercept: point.b,
                rounds,
                interrupted,
            });
        };
        point = next;
    }
}

/// Whether neither the objective nor the gap has come down for some rounds.
fn stalls(rounds: &[Round]) -> bool {
    let Some(before) = rounds.len().checked_sub(PATIENCE + 1) else {
        return false;
    };
    let (old, new) = rounds.split_at(before + 1);
    let least = |rounds: &[Round], of: fn(&Round) -> f64| {
        rounds.iter().map(of).fold(f64::INFINITY, f64::min)
    };
    least(new, |r| r.objective) >= (1.0 - ROUNDING) * least(old, |r| r.objective)
        && least(new, |r| r.gap) >= 0.9 * least(old, |r| r.gap)
}

/// `a`, `b` and the outputs that belong to them.
struct Point {
    a: Mat<f64>,
    b: Vec<f64>,
    /// `K a`, a sum of products from weights.
    fitted: Mat<f64>,
}

impl Point {
    fn outputs(&self) -> Mat<f64> {
        with_intercept(&self.fitted, &self.b)
    }
}

/// A Newton step.
struct Step {
    d: Mat<f64>,
    e: Vec<f64>,
    /// `K d`, from weights.
    image: Mat<f64>,
}

impl Step {
    /// (2), by (3).
    fn newton(
        problem: &Problem,
        kernel: &Kernel,
        from: &Point,
        tolerance: f64,
    ) -> Result<Self, SolveError> {
        let (n, k) = (problem.matrix.samples(), problem.outputs());
        let shift = n as f64 * problem.lambda;
        let z = from.outputs();
        let g = gradients(problem, &z);
        let root = Root::of(problem, &z);
        let drift: Vec<f64> = sums(from.a.as_ref())
            .iter()
            .map(|s| kernel.tau * s)
            .collect();
        let bent = root.apply(
            root.adjoint(with_intercept(&Mat::zeros(n, k), &drift).as_ref())
                .as_ref(),
        );
        let r = Mat::from_fn(n, k, |s, c| {
            -(g[(s, c)] + shift * from.a[(s, c)] + bent[(s, c)])
        });
        let system = System {
            kernel,
            root: &root,
            shift,
        };
        let rho = root.inverse(r.as_ref(), FLAT * (shift / kernel.unit).sqrt().min(1.0));
        let beyond = (&r - root.apply(rho.as_ref())) / shift;
        let right = rho - root.adjoint(kernel.product(beyond.as_ref()).as_ref());
        // R times the residual of (3) is that of (2), and R is no longer than 1.
        let reachable = tolerance * ratio(r.norm_l2(), right.norm_l2());
        let pcg = PcgOptions {
            tolerance: reachable.clamp(kernel.products.precision(), 1.0),
            max_iterations: MOST,
        };
        let mut d = beyond;
        if right.norm_l2() > 0.0 {
            let near = Woodbury::new(&system)?;
            let solved = solve_several(&system, &near, &flat(&right), 1, &pcg, &mut |_, _| {})?;
            d += root.apply(MatRef::from_column_major_slice(&solved.x, n, k));
        }
        let moved = sums((&from.a + &d).as_ref());
        Ok(Self {
            e: moved.iter().map(|sum| kernel.tau * sum).collect(),
            image: problem.outputs_at(&weights(problem, &d), &[]),
            d,
        })
    }

    /// The point that is far enough along; `None` when rounding leaves none.
    fn search(&self, problem: &Problem, from: &Point) -> Option<Point> {
        let n = problem.matrix.samples() as f64;
        let (z, change) = (from.outputs(), with_intercept(&self.image, &self.e));
        let slope = inner(&gradients(problem, &z), &change)
            + n * problem.lambda * inner(&self.d, &from.fitted);
        if slope >= 0.0 {
            return None;
        }
        let roughness = [
            inner(&from.a, &from.fitted),
            2.0 * inner(&self.d, &from.fitted),
            inner(&self.d, &self.image),
        ];
        let value = |t: f64| {
            let z = Mat::from_fn(z.nrows(), z.ncols(), |s, c| z[(s, c)] + t * change[(s, c)]);
            let loss = problem.loss.value(z.as_ref(), problem.targets.as_ref());
            let [square, cross, end] = roughness;
            n * (loss + problem.lambda / 2.0 * (square + t * cross + t * t * end))
        };
        let now = value(0.0);
        let halvings = (0..HALVINGS).map(|k| 0.5_f64.powi(k as i32));
        let enough = |t: &f64| value(*t) <= now + ARMIJO * t * slope + ROUNDING * now.abs();
        let t = halvings.into_iter().find(enough)?;
        let along = |from: &Mat<f64>, d: &Mat<f64>| {
            Mat::from_fn(d.nrows(), d.ncols(), |s, c| from[(s, c)] + t * d[(s, c)])
        };
        Some(Point {
            a: along(&from.a, &self.d),
            b: from.b.iter().zip(&self.e).map(|(b, e)| b + t * e).collect(),
            fitted: along(&from.fitted, &self.image),
        })
    }
}

/// `G`.
fn gradients(problem: &Problem, z: &Mat<f64>) -> Mat<f64> {
    let n = problem.matrix.samples() as f64;
    n * problem.loss.gradient(z.as_ref(), problem.targets.as_ref())
}

/// `1'v`.
fn sums(v: MatRef<'_, f64>) -> Vec<f64> {
    (0..v.ncols()).map(|c| v.col(c).iter().sum()).collect()
}

/// `v + 1 b'`.
fn with_intercept(v: &Mat<f64>, b: &[f64]) -> Mat<f64> {
    Mat::from_fn(v.nrows(), v.ncols(), |s, c| v[(s, c)] + b[c])
}

/// Column by column.
fn flat(v: &Mat<f64>) -> Vec<f64> {
    (0..v.ncols())
        .flat_map(|c| v.col_as_slice(c).to_vec())
        .collect()
}
