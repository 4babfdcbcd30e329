//! Oracles of this crate's tests: dense solutions by textbook elimination, seeded problems.
#![allow(dead_code, missing_docs)]

pub mod gated;
pub mod network;

use convextune_solve::quadratic::{
    Identity, PcgOptions, RidgeProblem, Start, solve_dual, solve_primal,
};
use convextune_solve::{DenseOperator, LinearOperator, Quiet, Solution};
use convextune_testkit::{Rng, dot};

/// A row-major matrix, multiplied and solved the slow and obvious way.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub entries: Vec<f64>,
}

impl Matrix {
    pub fn from_fn(rows: usize, cols: usize, f: impl Fn(usize, usize) -> f64) -> Self {
        let entries = (0..rows * cols).map(|k| f(k / cols, k % cols)).collect();
        Self {
            rows,
            cols,
            entries,
        }
    }

    pub fn random(rows: usize, cols: usize, rng: &mut Rng) -> Self {
        Self {
            rows,
            cols,
            entries: rng.normals(rows * cols),
        }
    }

    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.entries[i * self.cols + j]
    }

    pub fn transpose(&self) -> Self {
        Self::from_fn(self.cols, self.rows, |i, j| self.at(j, i))
    }

    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.cols, other.rows);
        let sum = |i, j| (0..self.cols).map(|k| self.at(i, k) * other.at(k, j)).sum();
        Self::from_fn(self.rows, other.cols, sum)
    }

    pub fn times_vector(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(self.cols, x.len());
        self.entries
            .chunks(self.cols)
            .map(|row| dot(row, x))
            .collect()
    }

    pub fn plus_diagonal(&self, value: f64) -> Self {
        Self::from_fn(self.rows, self.cols, |i, j| {
            self.at(i, j) + if i == j { value } else { 0.0 }
        })
    }

    /// `self (x) I_c`.
    pub fn kron_identity(&self, c: usize) -> Self {
        Self::from_fn(self.rows * c, self.cols * c, |i, j| {
            if i % c == j % c {
                self.at(i / c, j / c)
            } else {
                0.0
            }
        })
    }

    /// The rows listed.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        Self::from_fn(rows.len(), self.cols, |i, j| self.at(rows[i], j))
    }

    /// `self \ b`, Gaussian elimination with partial pivoting.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let n = self.rows;
        let (mut m, mut x) = (self.clone(), b.to_vec());
        for k in 0..n {
            let pivot = (k..n).max_by(|&i, &j| m.at(i, k).abs().total_cmp(&m.at(j, k).abs()));
            let pivot = pivot.unwrap();
            for j in 0..n {
                m.entries.swap(k * n + j, pivot * n + j);
            }
            x.swap(k, pivot);
            for i in k + 1..n {
                let factor = m.at(i, k) / m.at(k, k);
                for j in k..n {
                    m.entries[i * n + j] -= factor * m.at(k, j);
                }
                x[i] -= factor * x[k];
            }
        }
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|j| m.at(i, j) * x[j]).sum();
            x[i] = (x[i] - known) / m.at(i, i);
        }
        x
    }

    pub fn operator(&self) -> DenseOperator {
        DenseOperator::new(self.rows, self.cols, self.entries.clone()).unwrap()
    }

    pub fn faer(&self) -> faer::Mat<f64> {
        faer::Mat::from_fn(self.rows, self.cols, |i, j| self.at(i, j))
    }
}

/// `argmin 1/2 ||t - A u||^2 + (lambda/2) ||u||^2` by elimination on the normal equations.
pub fn ridge(a: &Matrix, t: &[f64], lambda: f64) -> Vec<f64> {
    let at = a.transpose();
    at.times(a).plus_diagonal(lambda).solve(&at.times_vector(t))
}

/// The same with an unpenalised bias a class, by elimination on the extended normal equations.
/// Returns `(u, b)`.
pub fn ridge_with_bias(a: &Matrix, t: &[f64], lambda: f64, classes: usize) -> (Vec<f64>, Vec<f64>) {
    let d = a.cols;
    let extended = Matrix::from_fn(a.rows, d + classes, |i, j| {
        if j < d {
            a.at(i, j)
        } else {
            f64::from(u8::from(i % classes == j - d))
        }
    });
    let et = extended.transpose();
    let mut normal = et.times(&extended);
    for j in 0..d {
        normal.entries[j * (d + classes) + j] += lambda;
    }
    let x = normal.solve(&et.times_vector(t));
    (x[..d].to_vec(), x[d..].to_vec())
}

/// `|<A x, y> - <x, A' y>|` relative to `||A x|| ||y||`, for random `x`, `y`.
pub fn adjoint_mismatch(operator: &dyn LinearOperator, rng: &mut Rng) -> f64 {
    let (x, y) = (rng.normals(operator.cols()), rng.normals(operator.rows()));
    let (mut ax, mut aty) = (vec![f64::NAN; y.len()], vec![f64::NAN; x.len()]);
    operator.apply(&x, &mut ax).unwrap();
    operator.apply_adjoint(&y, &mut aty).unwrap();
    let scale = (dot(&ax, &ax) * dot(&y, &y)).sqrt();
    (dot(&ax, &y) - dot(&x, &aty)).abs() / scale
}

/// Close to the precision of f64.
pub const TIGHT: PcgOptions = PcgOptions {
    tolerance: 1e-12,
    max_iterations: 500,
};

/// Solved in the primal and in the dual, without a preconditioner.
pub fn solve_both(problem: &RidgeProblem<'_>, options: &PcgOptions) -> [Solution; 2] {
    let (rows, cols) = (problem.operator().rows(), problem.operator().cols());
    let primal = solve_primal(problem, &Identity(cols), options, Start::Zero, &mut Quiet);
    let dual = solve_dual(problem, &Identity(rows), options, Start::Zero, &mut Quiet);
    [primal.unwrap(), dual.unwrap()]
}

/// `L(u)` as written.
pub fn objective(a: &Matrix, t: &[f64], lambda: f64, u: &[f64]) -> f64 {
    let residual: Vec<f64> = t
        .iter()
        .zip(a.times_vector(u))
        .map(|(t, f)| t - f)
        .collect();
    0.5 * dot(&residual, &residual) + 0.5 * lambda * dot(u, u)
}
