//! Factors that outlive their system.

use faer::linalg::solvers::{Llt, ShapeCore, Solve};
use faer::{Mat, MatRef};

use crate::factor::column;

/// `(I + sigma A P A')^-1`, exactly or nearly.
#[derive(Clone, Debug)]
pub(super) enum Factor {
    /// The matrix itself, in single precision.
    Single(Llt<f32>),
    /// The matrix itself.
    Double(Llt<f64>),
    /// `B`, and `I / sigma + B' B`.
    Weights { b: Mat<f64>, inner: Llt<f64> },
}

impl Factor {
    pub(super) fn solve(&self, g: &[f64]) -> Vec<f64> {
        match self {
            Self::Single(whole) => {
                // Single precision has no very small numbers.
                let largest = g.iter().fold(f64::MIN_POSITIVE, |m, g| m.max(g.abs()));
                let g = Mat::from_fn(g.len(), 1, |s, _| (g[s] / largest) as f32);
                let x = whole.solve(g);
                let x = x.col_as_slice(0).iter();
                x.map(|x| largest * f64::from(*x)).collect()
            }
            Self::Double(whole) => entries(whole.solve(column(g)).as_ref()),
            Self::Weights { b, inner } => {
                let along = b.transpose() * column(g);
                let correction = b * inner.solve(along);
                (0..g.len()).map(|s| g[s] - correction[(s, 0)]).collect()
            }
        }
    }

    /// Operations of [`Self::solve`]; half as many where numbers are half as long.
    pub(super) fn cost(&self) -> f64 {
        let square = |n: usize| 2.0 * (n * n) as f64;
        match self {
            Self::Single(whole) => 0.5 * square(whole.nrows()),
            Self::Double(whole) => square(whole.nrows()),
            Self::Weights { b, inner } => {
                4.0 * (b.nrows() * b.ncols()) as f64 + square(inner.nrows())
            }
        }
    }
}

fn entries(m: MatRef<'_, f64>) -> Vec<f64> {
    (0..m.nrows()).map(|i| m[(i, 0)]).collect()
}
