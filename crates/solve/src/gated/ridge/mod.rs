//! Gated programs with the squared loss and the squared norm: ridge regression, in closed form.
//!
//! `n` times program (1) of [`super`] with `R(U) = 1/2 sum_i ||U_i||^2` is
//!
//! ```text
//!     min over U, b    1/2 || Y - sum_i D_i X U_i - 1 b' ||^2 + (n lambda)/2 sum_i ||U_i||^2 ,
//! ```
//!
//! whose dual has one unknown a sample and output, whatever the number of gates:
//!
//! ```text
//!     U_i = X' D_i a ,     (K + n lambda I) a + 1 b' = Y ,     1'a = 0 ,
//!     K = sum_i D_i X X' D_i = (X X') o (M' M) ,      (M' M)_st = number of gates on for both s and t.     (1)
//! ```
//!
//! `M` holds the patterns, `o` multiplies entries. Divided by the number of Gaussian gates, `K` tends to the
//! kernel `x's (pi - angle(x, s)) / (2 pi)` of a two-layer ReLU network whose first layer alone is trained, about
//! its random beginning (Y. Cho, L. Saul, *Kernel methods for deep learning*, NIPS 2009: degree 0, times `x's`).
//!
//! **How it is solved.** Up to [`FACTORISED`] samples by a Cholesky factor of the kernel; up to [`MOST_SAMPLES`] by
//! conjugate gradients on the kernel in single precision ([`products`]), refined where weights are formed: the residual
//! `Y - Z - n lambda a - 1 b'` is computed from the weights in double precision, and solved for again.

mod kernel;
mod products;
#[cfg(test)]
mod tests;

use faer::Mat;

use super::newton_solver::Reached;
use super::{Activation, Column, Loss, Neuron, Penalty, Problem};
use crate::dense::{centre, norm};
use crate::error::{SolveError, check_positive};
use crate::factor::inner;
use crate::quadratic::{Intercept, KernelRidge};
pub use kernel::cross_kernel;
pub(super) use products::Products;

/// Samples whose kernel is factorised, at most: it takes 800 megabytes, its factor as much again, for a moment twice.
const FACTORISED: usize = 10_000;
/// Samples whose kernel is held, at most: in single precision 3.6 gigabytes.
pub const MOST_SAMPLES: usize = 30_000;
/// Relative residual of systems of which no weights are formed.
const ROUGH: f64 = 1e-4;
/// Relative residual of those of which they are.
const FINE: f64 = 1e-8;
/// Refinements allowed.
const REFINEMENTS: usize = 4;
/// Products of the power iteration behind [`leading_lambda`].
const PRODUCTS: usize = 20;

/// Whether the method covers `problem`.
pub(super) fn covers(problem: &Problem) -> bool {
    problem.activation == Activation::Gated
        && problem.penalty == Penalty::SquaredL2
        && problem.loss == Loss::Squared
        && problem.matrix.samples() <= MOST_SAMPLES
}

/// Minimises a problem that [`covers`].
pub(super) fn solve(problem: &Problem) -> Result<Reached, SolveError> {
    minimum(problem, GatedRidge::of(problem)?)
}

/// The minimum, with weights.
fn minimum(problem: &Problem, mut ridge: GatedRidge) -> Result<Reached, SolveError> {
    let RidgePoint {
        mut a,
        mut intercept,
        ..
    } = ridge.point(problem.lambda)?;
    let mut neurons = weights(problem, &a);
    if let Kernel::Products(products) = &mut ridge.kernel {
        let shift = problem.matrix.samples() as f64 * problem.lambda;
        let mut left = residual(problem, &neurons, &a, shift);
        for _ in 0..REFINEMENTS {
            if left.0.norm_l2() <= FINE * problem.targets.norm_l2() {
                break;
            }
            let better = &a + products.solve(&left.0, shift, ROUGH)?;
            let found = weights(problem, &better);
            let after = residual(problem, &found, &better, shift);
            if after.0.norm_l2() >= left.0.norm_l2() {
                break;
            }
            (a, neurons, left) = (better, found, after);
        }
        intercept = left.1;
    }
    Ok(Reached {
        neurons,
        intercept,
        rounds: Vec::new(),
        interrupted: false,
    })
}

/// `Y - Z - shift a`, from the weights, and the intercept that it leaves: its column means, which are taken from it.
fn residual(
    problem: &Problem,
    neurons: &[Neuron],
    a: &Mat<f64>,
    shift: f64,
) -> (Mat<f64>, Vec<f64>) {
    let z = problem.outputs_at(neurons, &[]);
    let y = &problem.targets;
    let mut r = Mat::from_fn(y.nrows(), y.ncols(), |s, c| {
        y[(s, c)] - z[(s, c)] - shift * a[(s, c)]
    });
    if !problem.intercept {
        return (r, vec![0.0; y.ncols()]);
    }
    let mean = |c| centre(r.col_as_slice_mut(c), 1)[0];
    let means = (0..y.ncols()).map(mean).collect();
    (r, means)
}

/// A program with a closed form, for any `lambda`: its kernel is formed once, and no weights are formed.
#[derive(Debug)]
pub struct GatedRidge {
    kernel: Kernel,
    targets: Mat<f64>,
}

/// The kernel of a program, with what solves for it.
#[derive(Debug)]
enum Kernel {
    Factorised(KernelRidge),
    Products(Products),
}

/// The minimum at one `lambda`.
#[derive(Clone, Debug)]
pub struct RidgePoint {
    /// The dual unknowns of (1), `n x C`; `U_i = X' D_i a`.
    pub a: Mat<f64>,
    /// `b`, length `C`; zeros without a free intercept.
    pub intercept: Vec<f64>,
    /// `Z` on the samples, `n x C`.
    pub outputs: Mat<f64>,
    /// `F(Z) + lambda R(U)`, with `R(U) = 1/2 <a, K a>`.
    pub objective: f64,
    /// The dual value of `Theta = lambda a`: `<Theta, Y> - n/2 ||Theta||^2 - <Theta, K Theta> / (2 lambda)`. Both are by
    /// the kernel, which is in single precision where it is not factorised.
    pub dual_value: f64,
}

impl GatedRidge {
    /// Forms the kernel; `None` for a program without a closed form, or with more than [`MOST_SAMPLES`].
    ///
    /// # Errors
    /// When the problem is malformed.
    pub fn new(problem: &Problem) -> Result<Option<Self>, SolveError> {
        problem.check()?;
        covers(problem).then(|| Self::of(problem)).transpose()
    }

    fn of(problem: &Problem) -> Result<Self, SolveError> {
        let bias = if problem.intercept {
            Intercept::Free
        } else {
            Intercept::None
        };
        let kernel = if problem.matrix.samples() <= FACTORISED {
            Kernel::Factorised(KernelRidge::new(kernel::double(problem), 1, bias)?)
        } else {
            Kernel::Products(Products::new(problem, problem.intercept)?)
        };
        Ok(Self {
            kernel,
            targets: problem.targets.clone(),
        })
    }

    /// The minimum at `lambda`; with many samples near it, as objective and dual value say.
    ///
    /// # Errors
    /// When `lambda` is not positive, or so small that the kernel has no Cholesky factor.
    pub fn point(&mut self, lambda: f64) -> Result<RidgePoint, SolveError> {
        check_positive("lambda", lambda)?;
        let (n, y) = (self.targets.nrows(), &self.targets);
        let means = if self.kernel.is_centred() {
            (0..y.ncols())
                .map(|c| y.col_as_slice(c).iter().sum::<f64>() / n as f64)
                .collect()
        } else {
            vec![0.0; y.ncols()]
        };
        let Solved { a, fitted, above } = self.kernel.solve(y, n as f64 * lambda)?;
        let (roughness, size, with_targets) = (inner(&a, &fitted), inner(&a, &a), inner(&a, y));
        let outputs = Mat::from_fn(n, y.ncols(), |s, c| fitted[(s, c)] + means[c]);
        let loss = (&outputs - y).squared_norm_l2() / (2.0 * n as f64);
        Ok(RidgePoint {
            a,
            intercept: means.iter().zip(above).map(|(y, k)| y - k).collect(),
            outputs,
            objective: loss + lambda / 2.0 * roughness,
            dual_value: lambda * (with_targets - n as f64 * lambda / 2.0 * size - roughness / 2.0),
        })
    }
}

/// What solves (1).
struct Solved {
    a: Mat<f64>,
    /// `K a`, or `P K P a`.
    fitted: Mat<f64>,
    /// What centring takes from the columns of `K a`.
    above: Vec<f64>,
}

impl Kernel {
    /// Whether it is `P K P`, for a free intercept.
    fn is_centred(&self) -> bool {
        match self {
            Self::Factorised(kernel) => kernel.intercept() == Intercept::Free,
            Self::Products(products) => products.centred,
        }
    }

    fn solve(&mut self, y: &Mat<f64>, shift: f64) -> Result<Solved, SolveError> {
        match self {
            Self::Factorised(kernel) => {
                let factor = kernel.cholesky(shift)?;
                let (mut a, mut above) = (Mat::zeros(y.nrows(), y.ncols()), Vec::new());
                for c in 0..y.ncols() {
                    let dual = factor.dual(y.col_as_slice(c))?;
                    // The bias of targets that are zero.
                    let bias = kernel.bias(&vec![0.0; y.nrows()], &dual)?;
                    above.extend(bias.iter().map(|b| -b));
                    a.col_as_slice_mut(c).copy_from_slice(&dual);
                }
                let fitted = kernel.kernel() * &a;
                Ok(Solved { a, fitted, above })
            }
            Self::Products(products) => {
                let a = products.solve(y, shift, ROUGH)?;
                let (fitted, above) = products.fitted(&a);
                Ok(Solved { a, fitted, above })
            }
        }
    }
}

/// `U_i = X' D_i a`, without those that are zero.
pub(super) fn weights(problem: &Problem, a: &Mat<f64>) -> Vec<Neuron> {
    let mut neurons = Vec::new();
    for output in 0..problem.outputs() {
        let columns = problem.matrix.all_columns(output);
        let u = problem.matrix.correlate(&columns, a);
        let alive = |k: &usize| u.col_as_slice(*k).iter().any(|u| *u != 0.0);
        neurons.extend((0..columns.len()).filter(alive).map(|k| Neuron {
            gate: columns[k].gate,
            output,
            sign: 1.0,
            weights: u.col_as_slice(k).to_vec(),
        }));
    }
    neurons
}

/// The `lambda` at which the squared norm halves the part of the outputs that the network fits most readily, the
/// largest eigenvalue of `K / n` (of `P K P / n` with an intercept): a scale for `lambda`, which this norm has instead
/// of a value at which the network is zero. By a power iteration of 20 products from the targets, thus a little
/// low.
///
/// # Errors
/// When the problem is malformed, or all it can fit is constant.
pub fn leading_lambda(problem: &Problem) -> Result<f64, SolveError> {
    problem.check()?;
    let n = problem.matrix.samples();
    let columns: Vec<Column> = problem.matrix.all_columns(0);
    let mut v = Mat::from_fn(n, 1, |s, _| {
        (0..problem.outputs())
            .map(|c| problem.targets[(s, c)])
            .sum::<f64>()
            + (s % 2) as f64
    });
    let mut largest = 0.0;
    for _ in 0..PRODUCTS {
        let column = v.col_as_slice_mut(0);
        if problem.intercept {
            centre(column, 1);
        }
        let length = norm(column);
        column
            .iter_mut()
            .for_each(|v| *v /= length.max(f64::MIN_POSITIVE));
        let u = problem.matrix.correlate(&columns, &v);
        // ||A'v||^2 <= largest eigenvalue of A A'.
        largest = u.squared_norm_l2() / n as f64;
        v = Mat::zeros(n, 1);
        problem.matrix.apply(&columns, u.as_ref(), &mut v);
    }
    if largest > 0.0 {
        return Ok(largest);
    }
    Err(SolveError::Unsupported(
        "no gate lets anything through that varies, so that there is nothing to fit",
    ))
}
