//! The problem (1) of [`super`]: its data, products with its matrix, its dual value.

use faer::{Mat, MatRef};

use super::gram::Grams;
use super::group::{Cones, Group};
use crate::dense::{axpy, dot, norm_squared};
use crate::gated::matrix::{Column, GatedMatrix};

/// One problem (1).
pub(crate) struct Scalar<'a> {
    pub(crate) matrix: &'a GatedMatrix,
    pub(crate) cones: Cones<'a>,
    /// `t`, length `n`.
    pub(crate) target: Vec<f64>,
    /// `h^(1/2)`, length `n`; `None` for ones.
    pub(crate) root: Option<Vec<f64>>,
    /// `w`.
    pub(crate) weight: f64,
    /// Whether there is a `b`.
    pub(crate) intercept: bool,
    /// Products of the rows of `X`.
    pub(crate) grams: &'a Grams,
}

impl Scalar<'_> {
    pub(super) fn samples(&self) -> usize {
        self.matrix.samples()
    }

    pub(super) fn features(&self) -> usize {
        self.matrix.features()
    }

    /// `v <- h^(1/2) v`.
    pub(super) fn scale(&self, v: &mut [f64]) {
        if let Some(root) = &self.root {
            v.iter_mut().zip(root).for_each(|(v, h)| *v *= h);
        }
    }

    /// `h^(1/2)`, the column of `b`.
    pub(super) fn ones(&self) -> Vec<f64> {
        let mut ones = vec![1.0; self.samples()];
        self.scale(&mut ones);
        ones
    }

    /// `h_s ||x_s||^2`, squared lengths of the rows of `X`.
    pub(crate) fn scaled_squares(&self) -> Vec<f64> {
        let mut squares = self.squares();
        self.scale(&mut squares);
        self.scale(&mut squares);
        squares
    }

    /// `||x_s||^2` of the rows of `X`.
    pub(super) fn squares(&self) -> Vec<f64> {
        let x = self.matrix.x();
        let square = |s| (0..x.ncols()).map(|j| x[(s, j)] * x[(s, j)]).sum();
        (0..x.nrows()).map(square).collect()
    }

    /// `s`, `s^2` the mean squared length of a row of `X`; 1 where all are zero.
    pub(super) fn row_length(&self) -> f64 {
        let squares = self.squares();
        let mean = squares.iter().sum::<f64>() / squares.len() as f64;
        if mean > 0.0 { mean.sqrt() } else { 1.0 }
    }

    /// `A_g' y` for all groups, `d x k`.
    pub(crate) fn correlate(&self, groups: &[Group], y: &[f64]) -> Mat<f64> {
        let mut y = y.to_vec();
        self.scale(&mut y);
        let y = Mat::from_fn(y.len(), 1, |s, _| y[s]);
        let mut out = self.matrix.correlate(&columns(groups), &y);
        for (k, group) in groups.iter().enumerate().filter(|(_, g)| g.negative) {
            out.col_as_slice_mut(k)
                .iter_mut()
                .for_each(|c| *c *= group.sign());
        }
        out
    }

    /// `A x + b 1`, `x` `d x k`.
    pub(crate) fn apply(&self, groups: &[Group], x: MatRef<'_, f64>, b: f64) -> Vec<f64> {
        let x = Mat::from_fn(x.nrows(), x.ncols(), |j, k| groups[k].sign() * x[(j, k)]);
        let mut z = Mat::from_fn(self.samples(), 1, |_, _| b);
        self.matrix.apply(&columns(groups), x.as_ref(), &mut z);
        let mut z = z.col_as_slice(0).to_vec();
        self.scale(&mut z);
        z
    }

    /// The residual `t - A x - b 1` with the best `b`, and that `b`.
    pub(crate) fn residual(&self, groups: &[Group], x: MatRef<'_, f64>) -> (Vec<f64>, f64) {
        let z = self.apply(groups, x, 0.0);
        let mut r: Vec<f64> = self.target.iter().zip(z).map(|(t, z)| t - z).collect();
        if !self.intercept {
            return (r, 0.0);
        }
        let ones = self.ones();
        let b = dot(&ones, &r) / norm_squared(&ones);
        r.iter_mut().zip(&ones).for_each(|(r, one)| *r -= b * one);
        (r, b)
    }

    /// `y` with `<1, y> = 0`, as (2) demands, where there is a `b`.
    pub(crate) fn centred(&self, y: &[f64]) -> Vec<f64> {
        let mut y = y.to_vec();
        if self.intercept {
            let ones = self.ones();
            let mean = dot(&ones, &y) / norm_squared(&ones);
            axpy(-mean, &ones, &mut y);
        }
        y
    }

    /// The best dual value among the multiples `s y` of a `y` with `||P_K A_i' y|| <= largest` for all
    /// groups; and `s`.
    pub(crate) fn dual_value(&self, y: &[f64], largest: f64) -> (f64, f64) {
        let (along, square) = (dot(&self.target, y), norm_squared(y));
        let limit = if largest > 0.0 {
            self.weight / largest
        } else {
            f64::INFINITY
        };
        let best = if square > 0.0 { along / square } else { 0.0 };
        let s = best.clamp(-limit, limit);
        (s * along - 0.5 * s * s * square, s)
    }
}

fn columns(groups: &[Group]) -> Vec<Column> {
    let column = |g: &Group| Column {
        gate: g.gate,
        output: 0,
    };
    groups.iter().map(column).collect()
}
