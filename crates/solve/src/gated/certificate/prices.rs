//! Dual norms of all gates.

use faer::Mat;
use rayon::prelude::*;

use crate::gated::{Penalty, Problem};
use crate::prox::cone::{Rows, project};

/// What a candidate `T` costs at the gates.
pub(super) struct Prices {
    /// The largest `R°`.
    pub(super) largest: f64,
    /// `sum ||c||^2` over gates and outputs (with cones: of both projections).
    pub(super) squares: f64,
}

impl Prices {
    /// Of `T / n`.
    pub(super) fn of(problem: &Problem, t: &Mat<f64>) -> Self {
        let (d, outputs) = (problem.matrix.features(), problem.outputs());
        let rows = row_major(problem);
        let cones = (0..problem.matrix.gates())
            .any(|gate| problem.has_cone(gate))
            .then(|| Rows::new(problem.matrix.x()));
        let correlation = |gate: usize| correlate(problem, &rows, t, gate);
        let gates = (0..problem.matrix.gates()).into_par_iter();
        if problem.penalty == Penalty::Feature {
            let all: Vec<Vec<f64>> = gates.map(correlation).collect();
            let sum = |i: usize| all.iter().map(|c| c[i] * c[i]).sum::<f64>();
            let sums: Vec<f64> = (0..d * outputs).map(sum).collect();
            return Self {
                largest: sums.iter().copied().fold(0.0, f64::max).sqrt(),
                squares: sums.iter().sum(),
            };
        }
        if let (Penalty::Neuron, Some(cones)) = (problem.penalty, &cones) {
            let all: Vec<Vec<f64>> = gates.map(correlation).collect();
            return Self {
                largest: largest_in_cones(problem, cones, &all),
                squares: f64::NAN,
            };
        }
        let price = |gate: usize| {
            let c = correlation(gate);
            match (problem.penalty, &cones) {
                (Penalty::L1, _) => c.iter().map(|c| c.abs()).fold(0.0, f64::max),
                (Penalty::Nuclear, _) => {
                    let c = Mat::from_fn(d, outputs, |j, k| c[k * d + j]);
                    singular_values(&c).into_iter().fold(0.0, f64::max)
                }
                (penalty, Some(rows)) if problem.has_cone(gate) => {
                    let both = c.chunks_exact(d).flat_map(|c| {
                        let negative: Vec<f64> = c.iter().map(|c| -c).collect();
                        [
                            in_cone(problem, rows, gate, c),
                            in_cone(problem, rows, gate, &negative),
                        ]
                    });
                    combine(penalty, both)
                }
                (penalty, _) => combine(penalty, c.chunks_exact(d).map(length)),
            }
        };
        let prices: Vec<f64> = gates.map(price).collect();
        Self {
            largest: prices.iter().copied().fold(0.0, f64::max),
            squares: prices.iter().sum(),
        }
    }
}

/// The largest `||P_K (+-c)||` over all gates and outputs. A projection is never longer than its point, so
/// the longest points come first, and those shorter than the best so far need none.
fn largest_in_cones(problem: &Problem, rows: &Rows, all: &[Vec<f64>]) -> f64 {
    let d = problem.matrix.features().max(1);
    let pieces = all.iter().enumerate().flat_map(|(gate, c)| {
        c.chunks_exact(d)
            .flat_map(move |c| [(gate, 1.0, c), (gate, -1.0, c)])
    });
    let mut pieces: Vec<(usize, f64, &[f64])> = pieces.collect();
    pieces.sort_by(|a, b| length(b.2).total_cmp(&length(a.2)));
    let mut best: f64 = 0.0;
    for pieces in pieces.chunks(32) {
        if pieces.first().is_none_or(|p| length(p.2) <= best) {
            break;
        }
        let prices = pieces.par_iter().map(|(gate, sign, c)| {
            if !problem.has_cone(*gate) {
                return length(c);
            }
            let c: Vec<f64> = c.iter().map(|c| sign * c).collect();
            in_cone(problem, rows, *gate, &c)
        });
        best = best.max(prices.reduce(|| 0.0, f64::max));
    }
    best
}

/// The largest of the lengths, or the sum of their squares for the squared norm.
fn combine(penalty: Penalty, lengths: impl Iterator<Item = f64>) -> f64 {
    match penalty {
        Penalty::SquaredL2 => lengths.map(|l| l * l).sum(),
        _ => lengths.fold(0.0, f64::max),
    }
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn row_major(problem: &Problem) -> Vec<f64> {
    let x = problem.matrix.x();
    let rows = (0..x.nrows()).flat_map(|s| (0..x.ncols()).map(move |j| x[(s, j)]));
    rows.collect()
}

/// `X' D_gate T / n`, output by output.
fn correlate(problem: &Problem, rows: &[f64], t: &Mat<f64>, gate: usize) -> Vec<f64> {
    let (n, d) = (problem.matrix.samples(), problem.matrix.features());
    let mut c = vec![0.0; d * t.ncols()];
    for (s, row) in rows.chunks_exact(d.max(1)).enumerate() {
        if !problem.matrix.patterns().get(gate, s) {
            continue;
        }
        for (k, c) in c.chunks_exact_mut(d.max(1)).enumerate() {
            let t = t[(s, k)];
            c.iter_mut().zip(row).for_each(|(c, x)| *c += x * t);
        }
    }
    c.iter_mut().for_each(|c| *c /= n as f64);
    c
}

/// An upper bound on `||P_K c||`: `||c + B' mu||` for the `mu >= 0` of a projection, and never more than
/// `||c||`.
fn in_cone(problem: &Problem, rows: &Rows, gate: usize, c: &[f64]) -> f64 {
    let patterns = problem.matrix.patterns();
    let sign = |s: usize| if patterns.get(gate, s) { 1.0 } else { -1.0 };
    let mut moved = c.to_vec();
    for active in project(rows, &sign, c, &[]).active {
        let mu = active.multiplier.max(0.0) * sign(active.row);
        moved
            .iter_mut()
            .zip(rows.row(active.row))
            .for_each(|(m, x)| *m += mu * x);
    }
    length(&moved).min(length(c))
}

/// Roots of the eigenvalues of the smaller Gram matrix, by Jacobi rotations; unordered.
pub(super) fn singular_values(m: &Mat<f64>) -> Vec<f64> {
    let mut columns: Vec<Vec<f64>> = if m.ncols() <= m.nrows() {
        (0..m.ncols()).map(|j| m.col_as_slice(j).to_vec()).collect()
    } else {
        (0..m.nrows())
            .map(|i| (0..m.ncols()).map(|j| m[(i, j)]).collect())
            .collect()
    };
    // One-sided Jacobi (Hestenes 1958): rotate pairs of columns until all are orthogonal.
    for _ in 0..60 {
        let mut rotated = false;
        for p in 0..columns.len() {
            for q in p + 1..columns.len() {
                let (left, right) = columns.split_at_mut(q);
                rotated |= rotate(&mut left[p], &mut right[0]);
            }
        }
        if !rotated {
            break;
        }
    }
    columns.iter().map(|c| length(c)).collect()
}

/// Makes two columns orthogonal; `false` when they are.
fn rotate(a: &mut [f64], b: &mut [f64]) -> bool {
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b.iter()) {
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    if ab.abs() <= 1e-15 * (aa * bb).sqrt() {
        return false;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = cosine * tangent;
    for (x, y) in a.iter_mut().zip(b.iter_mut()) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
    true
}
