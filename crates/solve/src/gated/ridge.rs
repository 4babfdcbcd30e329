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
use faer::{Accum, Mat, get_global_parallelism};
use rayon::prelude::*;

use super::newton_solver::Reached;
use super::{Activation, Column, Loss, Neuron, Patterns, Penalty, Problem};
use crate::dense::{centre, norm};
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
    let n = problem.matrix.samples() as f64;
    let bias = if problem.intercept {
        Intercept::Free
    } else {
        Intercept::None
    };
    let ridge = KernelRidge::new(kernel(problem), 1, bias)?;
    let factor = ridge.cholesky(n * problem.lambda)?;
    let mut a = Mat::zeros(problem.matrix.samples(), problem.outputs());
    let mut intercept = Vec::new();
    for c in 0..problem.outputs() {
        let target = problem.targets.col_as_slice(c);
        let dual = factor.dual(target)?;
        intercept.extend(ridge.bias(target, &dual)?);
        a.col_as_slice_mut(c).copy_from_slice(&dual);
    }
    Ok(Reached {
        neurons: weights(problem, &a),
        intercept,
        rounds: Vec::new(),
        interrupted: false,
    })
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
    let gates = by_sample(problem.matrix.patterns());
    let words = gates.len() / n.max(1);
    let of = |s: usize| &gates[s * words..][..words];
    k.par_col_iter_mut().enumerate().for_each(|(t, column)| {
        for (s, k) in column.iter_mut().enumerate() {
            let both = of(s).iter().zip(of(t)).map(|(a, b)| (a & b).count_ones());
            *k *= f64::from(both.sum::<u32>());
        }
    });
    k
}

/// The gates of every sample as bits, as many words each.
fn by_sample(patterns: &Patterns) -> Vec<u64> {
    let words = patterns.len().div_ceil(WORD).max(1);
    let mut bits = vec![0_u64; patterns.samples() * words];
    for gate in 0..patterns.len() {
        for s in 0..patterns.samples() {
            bits[s * words + gate / WORD] |= u64::from(patterns.get(gate, s)) << (gate % WORD);
        }
    }
    bits
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
