//! The kernel of equation 1 of [`super`].

use std::ops::MulAssign;

use faer::linalg::matmul::matmul;
use faer::traits::ComplexField;
use faer::{Accum, Mat, MatRef, get_global_parallelism};
use rayon::prelude::*;

use crate::gated::{Patterns, Problem};

/// Gates in a word.
const WORD: usize = 64;
/// Side of the squares in which a matrix is mirrored.
const TILE: usize = 64;

/// K.
pub(super) fn double(problem: &Problem) -> Mat<f64> {
    kernel(problem.matrix.x(), problem.matrix.patterns(), f64::from)
}

/// K in single precision.
pub(super) fn single(problem: &Problem) -> Mat<f32> {
    let x = problem.matrix.x();
    let x = Mat::from_fn(x.nrows(), x.ncols(), |s, j| x[(s, j)] as f32);
    kernel(x.as_ref(), problem.matrix.patterns(), |count| count as f32)
}

fn kernel<T>(x: MatRef<'_, T>, patterns: &Patterns, number: impl Fn(u32) -> T + Sync) -> Mat<T>
where
    T: ComplexField + Copy + MulAssign + Send + Sync,
{
    let n = x.nrows();
    let mut k = Mat::<T>::zeros(n, n);
    let (one, par) = (number(1), get_global_parallelism());
    matmul(&mut k, Accum::Replace, x, x.transpose(), one, par);
    let gates = BySample::of(patterns);
    k.par_col_iter_mut().enumerate().for_each(|(t, column)| {
        for (s, k) in column.iter_mut().enumerate().skip(t) {
            *k *= number(gates.common(s, &gates, t));
        }
    });
    mirror(&mut k);
    k
}

/// Copies what is below the diagonal above it.
fn mirror<T: ComplexField + Copy>(k: &mut Mat<T>) {
    let n = k.nrows();
    for first in (0..n).step_by(TILE) {
        for left in (0..=first).step_by(TILE) {
            for t in left..(left + TILE).min(n) {
                for s in first.max(t + 1)..(first + TILE).min(n) {
                    k[(t, s)] = k[(s, t)];
                }
            }
        }
    }
}

/// The kernel between new samples `x` (`m x d`) with the patterns `on` of the same gates and the samples of
/// `problem`, `m x n`: with it a [`super::RidgePoint`] has the outputs `K_new a + 1 b'`.
pub fn cross_kernel(problem: &Problem, x: MatRef<'_, f64>, on: &Patterns) -> Mat<f64> {
    let (old, samples) = (problem.matrix.x(), problem.matrix.samples());
    let mut k = Mat::zeros(x.nrows(), samples);
    let par = get_global_parallelism();
    matmul(&mut k, Accum::Replace, x, old.transpose(), 1.0, par);
    let (new, old) = (BySample::of(on), BySample::of(problem.matrix.patterns()));
    k.par_col_iter_mut().enumerate().for_each(|(t, column)| {
        for (s, k) in column.iter_mut().enumerate() {
            *k *= f64::from(new.common(s, &old, t));
        }
    });
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

    /// The number of gates on for sample `s` here and for sample `t` of `other`.
    fn common(&self, s: usize, other: &Self, t: usize) -> u32 {
        let pairs = self.sample(s).iter().zip(other.sample(t));
        pairs.map(|(s, t)| (s & t).count_ones()).sum()
    }
}
