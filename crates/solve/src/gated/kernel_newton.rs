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
//! that are large (samples whose loss hardly curves: `q^2` times the kernel's diagonal below `n lambda`). Then
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
//! (3) is solved by conjugate gradients, each step a product with the kernel in single precision,
//! preconditioned by the inverse of `n lambda I + diag(R) B B' diag(R)`, where `B B'` is a Nyström
//! approximation of `K` with `tau 1 1'` beside it (Woodbury's formula, an output at a time), between projectors.
//! The step is halved until (1) falls enough (Armijo); outputs and certificate are computed from weights in double
//! precision after every step, so that what the single precision loses the next step mends.

use std::ops::ControlFlow;

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatMut, MatRef};

use super::newton_solver::Reached;
use super::ridge::{MOST_SAMPLES, Products, weights};
use super::working_set::Round;
use super::{Activation, Loss, Penalty, Problem, SolveOptions, certify};
use crate::error::SolveError;
use crate::factor::cholesky;
use crate::operator::OperatorError;
use crate::quadratic::pcg::SymmetricOperator;
use crate::quadratic::{PcgOptions, Preconditioner, solve_several};

/// `tau` in units of `lambda`, beside the mean diagonal of the kernel.
const LOOSE: f64 = 1e4;
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
/// A promise smaller than this part of (1) is rounding.
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
    let mut point = Point::at(
        problem,
        Mat::zeros(problem.matrix.samples(), problem.outputs()),
        vec![0.0; problem.outputs()],
    );
    let mut rounds = Vec::new();
    let mut interrupted = false;
    loop {
        let neurons = weights(problem, &point.a);
        let round = Round::from(certify(problem, &neurons, &point.b)?);
        rounds.push(round);
        interrupted |= observe(round).is_break();
        let relative = round.gap / round.objective;
        let done = relative <= options.tolerance || rounds.len() > options.max_iterations;
        let next = if done || interrupted {
            None
        } else {
            let tolerance = (0.1 * relative).clamp(RESIDUALS.0, RESIDUALS.1);
            let step = Step::newton(problem, &kernel, &point, tolerance)?;
            step.search(problem, &point)
        };
        match next {
            Some(next) => point = next,
            None => {
                return Ok(Reached {
                    neurons,
                    intercept: point.b,
                    rounds,
                    interrupted,
                });
            }
        }
    }
}

/// `a`, `b` and the outputs that belong to them.
struct Point {
    a: Mat<f64>,
    b: Vec<f64>,
    /// `K a`, from weights.
    fitted: Mat<f64>,
}

impl Point {
    fn at(problem: &Problem, a: Mat<f64>, b: Vec<f64>) -> Self {
        let fitted = problem.outputs_at(&weights(problem, &a), &[]);
        Self { a, b, fitted }
    }

    fn outputs(&self) -> Mat<f64> {
        with_intercept(&self.fitted, &self.b)
    }
}

/// The kernel with its approximation.
struct Kernel {
    products: Products,
    /// The mean of the diagonal.
    unit: f64,
    tau: f64,
    /// `B`.
    basis: Mat<f64>,
}

impl Kernel {
    fn new(problem: &Problem) -> Result<Self, SolveError> {
        let products = Products::new(problem, false)?;
        let unit = products.mean_diagonal().max(f64::MIN_POSITIVE);
        let tau = if problem.intercept {
            unit + LOOSE * problem.lambda
        } else {
            0.0
        };
        let low = products.square_root();
        let basis = Mat::from_fn(low.nrows(), low.ncols() + 1, |s, k| {
            if k < low.ncols() {
                low[(s, k)]
            } else {
                tau.sqrt()
            }
        });
        Ok(Self {
            products,
            unit,
            tau,
            basis,
        })
    }

    /// `K~ v`.
    fn product(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        let above: Vec<f64> = sums(v).iter().map(|sum| self.tau * sum).collect();
        with_intercept(&self.products.product(v), &above)
    }
}

/// `R`, as the square roots of its diagonal and, for coupled outputs, a projector.
struct Root {
    q: Mat<f64>,
    coupled: bool,
}

impl Root {
    fn of(problem: &Problem, z: &Mat<f64>) -> Self {
        let (y, n) = (&problem.targets, problem.matrix.samples() as f64);
        let coupled = problem.loss == Loss::CrossEntropy && z.ncols() > 1;
        let q = match problem.loss {
            // A softmax is its gradient and the target.
            Loss::CrossEntropy if coupled => {
                let g = problem.loss.gradient(z.as_ref(), y.as_ref());
                Mat::from_fn(z.nrows(), z.ncols(), |s, c| {
                    (n * g[(s, c)] + y[(s, c)]).max(0.0).sqrt()
                })
            }
            Loss::CrossEntropy => Mat::from_fn(z.nrows(), 1, |s, c| {
                let p = 1.0 / (1.0 + z[(s, c)].abs().exp());
                (p * (1.0 - p)).sqrt()
            }),
            Loss::SquaredHinge => Mat::from_fn(z.nrows(), z.ncols(), |s, c| {
                if y[(s, c)] * z[(s, c)] < 1.0 {
                    1.0
                } else {
                    0.0
                }
            }),
            Loss::Squared => Mat::full(z.nrows(), z.ncols(), 1.0),
        };
        Self { q, coupled }
    }

    /// `diag(q) v`.
    fn scaled(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        Mat::from_fn(v.nrows(), v.ncols(), |s, c| self.q[(s, c)] * v[(s, c)])
    }

    /// `(I - q q') v`, or `v` where outputs do not couple.
    fn projected(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        if !self.coupled {
            return v.to_owned();
        }
        let columns = 0..v.ncols();
        let along = |s| columns.clone().map(|c| self.q[(s, c)] * v[(s, c)]).sum();
        let along: Vec<f64> = (0..v.nrows()).map(along).collect();
        Mat::from_fn(v.nrows(), v.ncols(), |s, c| {
            v[(s, c)] - self.q[(s, c)] * along[s]
        })
    }

    /// `R v`.
    fn apply(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        self.scaled(self.projected(v).as_ref())
    }

    /// `(I - q q') v / q`, which `R` maps to `v` where nothing is left out: entries with a `q` below `least` are.
    fn inverse(&self, v: MatRef<'_, f64>, least: f64) -> Mat<f64> {
        let divided = Mat::from_fn(v.nrows(), v.ncols(), |s, c| {
            let q = self.q[(s, c)];
            if q > least { v[(s, c)] / q } else { 0.0 }
        });
        self.projected(divided.as_ref())
    }

    /// `R' v`.
    fn adjoint(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        self.projected(self.scaled(v).as_ref())
    }
}

/// A Newton step.
struct Step {
    d: Mat<f64>,
    e: Vec<f64>,
    /// `K d`.
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
        let pcg = PcgOptions {
            tolerance: tolerance * r.norm_l2() / right.norm_l2(),
            max_iterations: MOST,
        };
        let near = Woodbury::new(&system)?;
        let solved = solve_several(&system, &near, &flat(&right), 1, &pcg)?;
        let d = beyond + root.apply(MatRef::from_column_major_slice(&solved.x, n, k));
        let moved = sums((&from.a + &d).as_ref());
        Ok(Self {
            e: moved.iter().map(|sum| kernel.tau * sum).collect(),
            image: kernel.products.product(d.as_ref()),
            d,
        })
    }

    /// The point that is far enough along; `None` when rounding leaves none.
    fn search(&self, problem: &Problem, from: &Point) -> Option<Point> {
        let n = problem.matrix.samples() as f64;
        let (z, change) = (from.outputs(), with_intercept(&self.image, &self.e));
        let slope = inner(&gradients(problem, &z), &change)
            + n * problem.lambda * inner(&self.d, &from.fitted);
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
        let enough =
            |t: &f64| value(*t) <= now + ARMIJO * t * slope.min(0.0) + ROUNDING * now.abs();
        let t = halvings.into_iter().find(enough)?;
        let b = from.b.iter().zip(&self.e).map(|(b, e)| b + t * e).collect();
        let a = Mat::from_fn(z.nrows(), z.ncols(), |s, c| {
            from.a[(s, c)] + t * self.d[(s, c)]
        });
        Some(Point::at(problem, a, b))
    }
}

/// The matrix of (3).
struct System<'a> {
    kernel: &'a Kernel,
    root: &'a Root,
    /// `n lambda`.
    shift: f64,
}

impl SymmetricOperator for System<'_> {
    fn dim(&self) -> usize {
        self.root.q.nrows() * self.root.q.ncols()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        let (n, k) = (self.root.q.nrows(), self.root.q.ncols());
        let v = self.root.apply(MatRef::from_column_major_slice(x, n, k));
        let image = self.root.adjoint(self.kernel.product(v.as_ref()).as_ref());
        MatMut::from_column_major_slice_mut(y, n, k).copy_from(&image);
        y.iter_mut().zip(x).for_each(|(y, x)| *y += self.shift * x);
        Ok(())
    }
}

/// `n lambda` times the inverse of `n lambda I + diag(q) B B' diag(q)`, between projectors.
struct Woodbury<'a> {
    system: &'a System<'a>,
    /// Of `n lambda I + B' diag(q)^2 B`, an output each.
    factors: Vec<Llt<f64>>,
}

impl<'a> Woodbury<'a> {
    fn new(system: &'a System<'a>) -> Result<Self, SolveError> {
        let (basis, q) = (&system.kernel.basis, &system.root.q);
        let of_output = |c: usize| {
            let scaled = Mat::from_fn(basis.nrows(), basis.ncols(), |s, k| {
                q[(s, c)] * basis[(s, k)]
            });
            let inner = scaled.transpose() * &scaled;
            cholesky(
                "preconditioner of Newton's step",
                inner.as_ref(),
                system.shift,
            )
        };
        let factors = (0..q.ncols()).map(of_output).collect::<Result<_, _>>()?;
        Ok(Self { system, factors })
    }
}

impl Preconditioner for Woodbury<'_> {
    fn dim(&self) -> usize {
        self.system.dim()
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        let (basis, root) = (&self.system.kernel.basis, self.system.root);
        let (n, k) = (root.q.nrows(), root.q.ncols());
        let r = root.projected(MatRef::from_column_major_slice(r, n, k));
        let mut inside = basis.transpose() * root.scaled(r.as_ref());
        for (c, factor) in self.factors.iter().enumerate() {
            let solved = factor.solve(inside.col(c).as_mat());
            inside
                .col_as_slice_mut(c)
                .copy_from_slice(solved.col_as_slice(0));
        }
        let taken = root.scaled((basis * inside).as_ref());
        let image = root.projected((&r - &taken).as_ref());
        MatMut::from_column_major_slice_mut(z, n, k).copy_from(&image);
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

fn inner(u: &Mat<f64>, v: &Mat<f64>) -> f64 {
    let column = |c| crate::dense::dot(u.col_as_slice(c), v.col_as_slice(c));
    (0..u.ncols()).map(column).sum()
}

/// Column by column.
fn flat(v: &Mat<f64>) -> Vec<f64> {
    (0..v.ncols())
        .flat_map(|c| v.col_as_slice(c).to_vec())
        .collect()
}

#[cfg(test)]
mod tests;
