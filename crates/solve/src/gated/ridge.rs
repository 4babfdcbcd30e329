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

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, get_global_parallelism};
use rayon::prelude::*;

use super::newton_solver::Reached;
use super::{Activation, Column, Loss, Neuron, Patterns, Penalty, Problem};
use crate::dense::{centre, dot, norm};
use crate::error::SolveError;
use crate::quadratic::{Intercept, KernelRidge};

/// Samples of which the squared norm has a closed form, at most: beyond, their kernel and its factor take more than
/// a gigabyte and a half.
pub const MOST_SAMPLES: usize = 10_000;
/// Products of the power iteration behind [`leading_lambda`].
const PRODUCTS: usize = 20;
/// Gates in a word.
const WORD: usize = 64;

/// Whether the method covers `problem`.
pub(super) fn covers(problem: &Problem) -> bool {
    problem.activation == Activation::Gated
        && problem.penalty == Penalty::SquaredL2
        && problem.loss == Loss::Squared
        && problem.matrix.samples() <= MOST_SAMPLES
}

/// Minimises a problem that [`covers`].
pub(super) fn solve(problem: &Problem) -> Result<Reached, SolveError> {
    let RidgePoint { a, intercept, .. } = GatedRidge::of(problem)?.point(problem.lambda)?;
    Ok(Reached {
        neurons: weights(problem, &a),
        intercept,
        rounds: Vec::new(),
        interrupted: false,
    })
}

/// A program with a closed form, for any `lambda`: its kernel is formed once, each `lambda` costs one Cholesky
/// factorisation, and no weights are formed.
#[derive(Clone, Debug)]
pub struct GatedRidge {
    kernel: KernelRidge,
    targets: Mat<f64>,
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
    /// The dual value of `Theta = lambda a`: `<Theta, Y> - n/2 ||Theta||^2 - <Theta, K Theta> / (2 lambda)`.
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
        Ok(Self {
            kernel: KernelRidge::new(kernel(problem), 1, bias)?,
            targets: problem.targets.clone(),
        })
    }

    /// The minimum at `lambda`.
    ///
    /// # Errors
    /// When `lambda` is not positive, or so small that the kernel has no Cholesky factor.
    pub fn point(&self, lambda: f64) -> Result<RidgePoint, SolveError> {
        let (n, y) = (self.targets.nrows(), &self.targets);
        let factor = self.kernel.cholesky(n as f64 * lambda)?;
        let mut a = Mat::zeros(n, y.ncols());
        let mut intercept = Vec::new();
        for c in 0..y.ncols() {
            let dual = factor.dual(y.col_as_slice(c))?;
            intercept.extend(self.kernel.bias(y.col_as_slice(c), &dual)?);
            a.col_as_slice_mut(c).copy_from_slice(&dual);
        }
        // With a free intercept the kernel is P K P, and Z = P K P a + the mean of Y.
        let mut outputs = self.kernel.kernel() * &a;
        let inner = |u: &Mat<f64>, v: &Mat<f64>| -> f64 {
            (0..u.ncols())
                .map(|c| dot(u.col_as_slice(c), v.col_as_slice(c)))
                .sum()
        };
        let (roughness, size, with_targets) = (inner(&a, &outputs), inner(&a, &a), inner(&a, y));
        if self.kernel.intercept() == Intercept::Free {
            for c in 0..y.ncols() {
                let mean = y.col_as_slice(c).iter().sum::<f64>() / n as f64;
                outputs
                    .col_as_slice_mut(c)
                    .iter_mut()
                    .for_each(|z| *z += mean);
            }
        }
        let loss = (&outputs - y).squared_norm_l2() / (2.0 * n as f64);
        Ok(RidgePoint {
            a,
            intercept,
            outputs,
            objective: loss + lambda / 2.0 * roughness,
            dual_value: lambda * (with_targets - n as f64 * lambda / 2.0 * size - roughness / 2.0),
        })
    }
}

/// The kernel of (1) between new samples `x` (`m x d`) with the patterns `on` of the same gates and the samples of
/// `problem`, `m x n`: with it a [`RidgePoint`] has the outputs `K_new a + 1 b'`.
pub fn cross_kernel(problem: &Problem, x: MatRef<'_, f64>, on: &Patterns) -> Mat<f64> {
    let (old, samples) = (problem.matrix.x(), problem.matrix.samples());
    let mut k = Mat::zeros(x.nrows(), samples);
    let par = get_global_parallelism();
    matmul(&mut k, Accum::Replace, x, old.transpose(), 1.0, par);
    let (new, old) = (BySample::of(on), BySample::of(problem.matrix.patterns()));
    k.par_col_iter_mut().enumerate().for_each(|(t, column)| {
        for (s, k) in column.iter_mut().enumerate() {
            *k *= both(new.sample(s), old.sample(t));
        }
    });
    k
}

/// `U_i = X' D_i a`, without those that are zero.
fn weights(problem: &Problem, a: &Mat<f64>) -> Vec<Neuron> {
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

/// `K` of (1).
fn kernel(problem: &Problem) -> Mat<f64> {
    let (x, n) = (problem.matrix.x(), problem.matrix.samples());
    let mut k = Mat::zeros(n, n);
    let par = get_global_parallelism();
    matmul(&mut k, Accum::Replace, x, x.transpose(), 1.0, par);
    let gates = BySample::of(problem.matrix.patterns());
    k.par_col_iter_mut().enumerate().for_each(|(t, column)| {
        for (s, k) in column.iter_mut().enumerate().skip(t) {
            *k *= both(gates.sample(s), gates.sample(t));
        }
    });
    for t in 0..n {
        for s in 0..t {
            k[(s, t)] = k[(t, s)];
        }
    }
    k
}

/// The gates of every sample as bits.
struct BySample {
    words: usize,
    bits: Vec<u64>,
}

impl BySample {
    fn of(patterns: &Patterns) -> Self {
        let words = patterns.len().div_ceil(WORD).max(1);
        let mut bits = vec![0_u64; patterns.samples() * words];
        for gate in 0..patterns.len() {
            for s in 0..patterns.samples() {
                bits[s * words + gate / WORD] |= u64::from(patterns.get(gate, s)) << (gate % WORD);
            }
        }
        Self { words, bits }
    }

    fn sample(&self, s: usize) -> &[u64] {
        &self.bits[s * self.words..][..self.words]
    }
}

/// The number of gates on in both.
fn both(s: &[u64], t: &[u64]) -> f64 {
    let count = s.iter().zip(t).map(|(s, t)| (s & t).count_ones());
    f64::from(count.sum::<u32>())
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
