//! Duality gaps of gated programs, by code of their own.
//!
//! Nothing here is shared with the solvers but the library's matrix product: outputs, losses and gradients are
//! computed anew by plain loops, correlations from columns masked here, so a mistake there cannot certify itself.
//!
//! **Program.** With `F(Z) = 1/n sum_s f(z_s)`, `f` one sample's loss, and `K_i` the cone of gate `i` (the
//! whole space for gated ReLU and for the linear neuron), the program of [`super`] is
//!
//! ```text
//!     min over U, b    F(Z) + lambda R(U) ,    Z = sum_i D_i X U_i + 1 b' ,    U_i in K_i .       (1)
//! ```
//!
//! A ReLU gate stands for two blocks: `V_i`, and `W_i`, which enters `Z` with a minus sign.
//!
//! **Dual.** Write `F(Z) = max over Theta of -<Theta, Z> - F*(-Theta)` and exchange min and max. The
//! minimum over `b` is finite only if `1' Theta = 0`; the one over `U` is that of
//! `lambda R(U) - <C, U>` with `C_i = X' D_i Theta` (for `W_i`, `-C_i`). So
//!
//! ```text
//!     min (1)  >=  D(Theta) = -F*(-Theta) ,  if  R°(C) <= lambda  and, with an intercept,  1' Theta = 0 ;
//!     R°(C) = max { <C, U> : U in K, R(U) <= 1 } .                                               (2)
//! ```
//!
//! `1/2 ||U||^2` is no norm; minimised, it puts a term in place of the constraint:
//!
//! ```text
//!     D(Theta) = -F*(-Theta) - 1/(2 lambda) sum_i ||P_{K_i} C_i||^2 .                            (3)
//! ```
//!
//! **Cones.** `K = { u : B u >= 0 }`, `B = (2 D_i - I) X`. For `u` in `K` and any `mu >= 0`,
//! `<c, u> <= <c + B' mu, u>`, hence
//!
//! ```text
//!     max { <c, u> : u in K, ||u|| <= 1 }  =  ||P_K c||  =  min over mu >= 0 of ||c + B' mu|| :  (4)
//! ```
//!
//! every `mu >= 0` gives an upper bound, and an upper bound in (2) or (3) leaves `D` a lower bound. The
//! multipliers come from [`crate::prox::cone::project`]; the norm is computed from them here. A wrong
//! projection can only make the gap larger.
//!
//! **The point.** At the optimum `Theta = -grad F(Z)`. At the point given, `g_s = f'(z_s)` is moved until
//! its columns sum to zero if there is an intercept (how, without leaving the domain of `f*`, is said in
//! [`losses`]), and `Theta = -s g / n` with the `s` that maximises
//!
//! ```text
//!     s -> -1/n sum_s f*(s g_s) - s^2 / (2 lambda) sum_i ||P_{K_i} C_i||^2                        (5)
//! ```
//!
//! over `0 <= s <= lambda / R°(C)` within the domain: a concave function of one variable. `s` is kept below
//! 2, which costs nothing near an optimum, where it is 1. Where neither loss nor penalty couples the outputs
//! (no softmax, no nuclear norm), (1) is a program for each, and each has an `s` of its own.
//!
//! Duality of group norms over cones: M. Pilanci, T. Ergen, *Neural networks are convex regularizers*, ICML
//! 2020 (the dual of the ReLU program); A. Mishkin, A. Sahiner, M. Pilanci, *Fast convex optimization for
//! two-layer ReLU networks*, ICML 2022 (gated ReLU). Scaling a residual into the dual feasible set: L. El
//! Ghaoui, V. Viallon, T. Rabbani, *Safe feature elimination for the lasso*, 2010; E. Ndiaye, O. Fercoq,
//! A. Gramfort, J. Salmon, *Gap safe screening rules for sparsity enforcing penalties*, JMLR 2017.

mod losses;
mod point;
mod polar;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;

use super::{GapCertificate, Neuron, Penalty, Problem};
use crate::dense::{norm, ratio};
use crate::error::SolveError;

use self::point::Blocks;
use self::polar::Polar;

/// Sections of the interval of (5): each shortens it by the golden ratio.
const SECTIONS: usize = 60;
/// Samples and neurons of a tile.
const SAMPLES: usize = 512;
const NEURONS: usize = 256;
/// The largest `s` of (5).
const LARGEST_SCALE: f64 = 2.0;

/// Objective, dual value, gap and constraint violation of (1) at the point made of `neurons` and
/// `intercept` (length `C`, or empty for zeros). Neurons of one gate, output and part (one gate and output,
/// without a cone) are added up first.
///
/// With ReLU, a point whose `constraint_violation` is not zero may lie below the minimum.
///
/// # Errors
/// When the problem or the point is malformed, and for ReLU with the feature-wise or l1 penalty, whose
/// dual norms are not implemented.
pub fn certify(
    problem: &Problem,
    neurons: &[Neuron],
    intercept: &[f64],
) -> Result<GapCertificate, SolveError> {
    let data = Data::new(problem)?;
    point::check(problem, neurons, intercept)?;
    let blocks = Blocks::of(problem, neurons);
    let z = data.outputs_at(neurons, intercept);
    let objective = data.loss(&z) + problem.lambda * blocks.penalty(problem)?;
    let dual_value = data.dual_value(&data.gradients(&z), &blocks.gates())?;
    let duality_gap = objective - dual_value;
    Ok(GapCertificate {
        objective,
        dual_value,
        duality_gap,
        relative_duality_gap: ratio(duality_gap, objective),
        constraint_violation: data.violation(neurons),
    })
}

/// The least `lambda` at which the zero network, with the best intercept if there is one, is optimal:
/// `R°(C)` of (2) at that point. The `lambda` of `problem` plays no part. With ReLU and the nuclear norm an
/// upper bound: its dual norm is bounded column by column.
///
/// # Errors
/// When the problem is malformed, for the penalty `SquaredL2` (no such `lambda` exists), and where
/// [`certify`] fails.
pub fn lambda_max(problem: &Problem) -> Result<f64, SolveError> {
    let data = Data::new(problem)?;
    if problem.penalty == Penalty::SquaredL2 {
        return Err(SolveError::Unsupported(
            "with the penalty 1/2 ||U||^2 no lambda makes the network zero",
        ));
    }
    let intercept = if problem.intercept {
        losses::best_intercept(problem.loss, &data.y, data.outputs)
    } else {
        Vec::new()
    };
    let z = data.outputs_at(&[], &intercept);
    let theta = data.theta(&data.gradients(&z));
    Ok(Polar::of(&data, &theta, &[])?.norm())
}

/// A problem's matrices by rows.
struct Data<'a> {
    problem: &'a Problem,
    samples: usize,
    features: usize,
    outputs: usize,
    /// `X`, row-major.
    x: Vec<f64>,
    /// `||x_s||`.
    lengths: Vec<f64>,
    /// `Y`, row-major.
    y: Vec<f64>,
}

impl<'a> Data<'a> {
    fn new(problem: &'a Problem) -> Result<Self, SolveError> {
        if let Some(gate) = problem.linear {
            point::check_gate(problem, gate)?;
        }
        problem.check()?;
        let rows = |m: faer::MatRef<'_, f64>| -> Vec<f64> {
            let row = |s| (0..m.ncols()).map(move |j| m[(s, j)]);
            (0..m.nrows()).flat_map(row).collect()
        };
        let (x, y) = (problem.matrix.x(), problem.targets.as_ref());
        let mut data = Self {
            problem,
            samples: x.nrows(),
            features: x.ncols(),
            outputs: y.ncols(),
            x: rows(x),
            lengths: Vec::new(),
            y: rows(y),
        };
        data.lengths = (0..data.samples).map(|s| norm(data.row(s))).collect();
        losses::check_targets(problem.loss, &data.y, data.outputs)?;
        Ok(data)
    }

    /// `x_s`, length `d`.
    fn row(&self, s: usize) -> &[f64] {
        &self.x[s * self.features..][..self.features]
    }

    /// `x_s' u`.
    fn score(&self, s: usize, u: &[f64]) -> f64 {
        self.row(s).iter().zip(u).map(|(x, u)| x * u).sum()
    }

    /// `1` where the gate is on, `-1` where it is off: the diagonal of `2 D_i - I`.
    fn side(&self, gate: usize, s: usize) -> f64 {
        if self.problem.matrix.patterns().get(gate, s) {
            1.0
        } else {
            -1.0
        }
    }

    /// `Z`, row-major: tile by tile the product of samples and weights, of which the patterns take their part.
    fn outputs_at(&self, neurons: &[Neuron], intercept: &[f64]) -> Vec<f64> {
        let (x, patterns) = (self.problem.matrix.x(), self.problem.matrix.patterns());
        let mut z = vec![0.0; self.samples * self.outputs];
        let tiles = z.par_chunks_mut(SAMPLES * self.outputs).enumerate();
        tiles.for_each(|(tile, z)| {
            let (first, count) = (tile * SAMPLES, z.len() / self.outputs);
            for z in z.chunks_exact_mut(self.outputs) {
                z.iter_mut().zip(intercept).for_each(|(z, b)| *z = *b);
            }
            for neurons in neurons.chunks(NEURONS) {
                let weights =
                    Mat::from_fn(self.features, neurons.len(), |j, k| neurons[k].weights[j]);
                let mut scores = Mat::<f64>::zeros(count, neurons.len());
                let x = x.subrows(first, count);
                matmul(&mut scores, Accum::Replace, x, &weights, 1.0, Par::Seq);
                for (k, neuron) in neurons.iter().enumerate() {
                    let scores = scores.col_as_slice(k).iter().enumerate();
                    for (s, score) in scores.filter(|(s, _)| patterns.get(neuron.gate, first + s)) {
                        z[s * self.outputs + neuron.output] += neuron.sign * score;
                    }
                }
            }
        });
        z
    }

    /// Rows of a row-major `n x C` matrix, each with its targets.
    fn pairs<'s>(&'s self, rows: &'s [f64]) -> impl Iterator<Item = (&'s [f64], &'s [f64])> {
        rows.chunks_exact(self.outputs)
            .zip(self.y.chunks_exact(self.outputs))
    }

    /// `F(Z)`.
    fn loss(&self, z: &[f64]) -> f64 {
        let value = |(z, y): (&[f64], &[f64])| losses::value(self.problem.loss, z, y);
        self.pairs(z).map(value).sum::<f64>() / self.samples as f64
    }

    /// `g_s = f'(z_s)`, row-major, with columns that sum to zero if there is an intercept.
    fn gradients(&self, z: &[f64]) -> Vec<f64> {
        let gradient = |(z, y): (&[f64], &[f64])| losses::gradient(self.problem.loss, z, y);
        let mut g: Vec<f64> = self.pairs(z).flat_map(gradient).collect();
        if self.problem.intercept {
            losses::balance(self.problem.loss, &mut g, &self.y, self.outputs);
        }
        g
    }

    /// `Theta = -g / n`.
    fn theta(&self, g: &[f64]) -> Vec<f64> {
        g.iter().map(|g| -g / self.samples as f64).collect()
    }

    /// The maximum of (5), or the sum of those of the outputs. `live` lists gates at which `R°(C)` is
    /// probably attained.
    fn dual_value(&self, g: &[f64], live: &[usize]) -> Result<f64, SolveError> {
        let polar = Polar::of(self, &self.theta(g), live)?;
        if self.is_coupled() {
            let square = polar.squares.iter().sum();
            return Ok(self.scaled(g, &self.y, self.outputs, polar.norm(), square));
        }
        let column = |rows: &[f64], c| -> Vec<f64> {
            let entries = rows.iter().skip(c).step_by(self.outputs);
            entries.copied().collect()
        };
        let output = |c: usize| {
            let (g, y) = (column(g, c), column(&self.y, c));
            self.scaled(&g, &y, 1, polar.norms[c], polar.squares[c])
        };
        Ok((0..self.outputs).map(output).sum())
    }

    /// Whether loss or penalty is no sum over outputs.
    fn is_coupled(&self) -> bool {
        let softmax = self.problem.loss == super::Loss::CrossEntropy && self.outputs > 1;
        softmax || self.problem.penalty == Penalty::Nuclear
    }

    /// The maximum of (5) for the rows of `g` and `y` (`n x outputs`), with `R°(C)` and the sum of squares.
    fn scaled(&self, g: &[f64], y: &[f64], outputs: usize, norm: f64, square: f64) -> f64 {
        let (loss, lambda) = (self.problem.loss, self.problem.lambda);
        let pairs = || g.chunks_exact(outputs).zip(y.chunks_exact(outputs));
        let reach = |(g, y): (&[f64], &[f64])| losses::reach(loss, g, y);
        let feasible = lambda / norm.max(lambda / LARGEST_SCALE);
        let limit = pairs().map(reach).fold(feasible, f64::min);
        let mut scaled = vec![0.0; outputs];
        let value = |s: f64| {
            let mut sum = 0.0;
            for (g, y) in pairs() {
                scaled.iter_mut().zip(g).for_each(|(sg, g)| *sg = s * g);
                sum += losses::conjugate(loss, &scaled, y);
            }
            -sum / self.samples as f64 - s * s * square / (2.0 * lambda)
        };
        maximum(value, limit)
    }

    /// How far the neurons leave their cones.
    fn violation(&self, neurons: &[Neuron]) -> f64 {
        let mut worst: f64 = 0.0;
        for neuron in neurons.iter().filter(|n| self.problem.has_cone(n.gate)) {
            let length = norm(&neuron.weights);
            for s in (0..self.samples).filter(|s| self.lengths[*s] * length > 0.0) {
                let score = self.side(neuron.gate, s) * self.score(s, &neuron.weights);
                worst = worst.max(-score / (self.lengths[s] * length));
            }
        }
        worst
    }

    /// `[X' D_i Theta]` for `gates`, `d x C` each, beside each other.
    fn correlate(&self, gates: &[usize], theta: &[f64]) -> Mat<f64> {
        let patterns = self.problem.matrix.patterns();
        let mut masked = Mat::<f64>::zeros(self.samples, gates.len() * self.outputs);
        for (k, gate) in gates.iter().enumerate() {
            for c in 0..self.outputs {
                let column = masked.col_as_slice_mut(k * self.outputs + c);
                for s in (0..self.samples).filter(|s| patterns.get(*gate, *s)) {
                    column[s] = theta[s * self.outputs + c];
                }
            }
        }
        let mut c = Mat::zeros(self.features, masked.ncols());
        let x = self.problem.matrix.x().transpose();
        matmul(&mut c, Accum::Replace, x, &masked, 1.0, Par::Seq);
        c
    }
}

/// The largest of the values seen while a concave function on `[0, limit]` is maximised by golden
/// sections.
fn maximum(mut value: impl FnMut(f64) -> f64, limit: f64) -> f64 {
    let golden = f64::midpoint(5.0_f64.sqrt(), -1.0);
    let (mut low, mut high) = (0.0, limit);
    let (mut left, mut right) = (limit - golden * limit, golden * limit);
    let (mut at_left, mut at_right) = (value(left), value(right));
    let mut best = value(limit).max(value(limit.min(1.0)));
    for _ in 0..SECTIONS {
        best = best.max(at_left).max(at_right);
        if at_left < at_right {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = value(right);
        } else {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = value(left);
        }
    }
    best
}
