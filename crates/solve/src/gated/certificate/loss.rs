//! The losses' side of the dual: values, residuals `T = -n grad F(Z)` in the domain of the conjugate, and
//! conjugates.
//!
//! | loss | `T` | `-n F*(-T / n)` | domain |
//! |---|---|---|---|
//! | squared | `Y - Z` | `sum t y - t^2 / 2` | all |
//! | cross entropy, one output | `y a`, `a = 1 / (1 + exp(y z))` | `sum H(a, 1 - a)` | `a` in `[0, 1]` |
//! | cross entropy, more | `Y - P`, `P` the probabilities | `sum H(p)` | rows of `P` in the simplex |
//! | squared hinge | `y a`, `a = (1 - y z)_+` | `sum a - a^2 / 2` | `a >= 0` |
//!
//! `H` is the entropy. All domains hold `s T` for `s` in `[0, 1]` with `T`.
//!
//! **Columns with sum 0**, for a free intercept, which the exact optimum has by itself: the squared loss
//! centres; with `y a` the `a` of the class with the larger sum are shrunk by the quotient of the sums; with
//! probabilities, `P~ = (1 - theta) P + 1 (theta n - (1 - theta) delta)' / N` as in [`crate::logistic`].

use faer::{Mat, MatRef};

use crate::gated::{Loss, Problem};

/// `F(Z)` and a dual candidate.
pub(super) struct Residual {
    /// `F(Z)`.
    pub(super) value: f64,
    /// `T`, in the domain, with columns of sum 0 where there is an intercept.
    pub(super) t: Mat<f64>,
}

impl Residual {
    /// At the outputs `z`.
    pub(super) fn at(problem: &Problem, z: &Mat<f64>) -> Self {
        let y = problem.targets.as_ref();
        let (n, outputs) = (z.nrows(), z.ncols());
        let mut t = Mat::zeros(n, outputs);
        let mut value = 0.0;
        for s in 0..n {
            if problem.loss == Loss::CrossEntropy && outputs > 1 {
                value += softmax(z.as_ref(), y, s, &mut t);
                continue;
            }
            for c in 0..outputs {
                let (loss, residual) = entry(problem.loss, z[(s, c)], y[(s, c)]);
                value += loss;
                t[(s, c)] = residual;
            }
        }
        if problem.intercept {
            balance(problem, &mut t);
        }
        Self {
            value: value / n as f64,
            t,
        }
    }

    /// `-F*(-s T / n)`.
    pub(super) fn dual(&self, problem: &Problem, s: f64) -> f64 {
        let y = problem.targets.as_ref();
        let (n, outputs) = (self.t.nrows(), self.t.ncols());
        let entropy = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        let term = |i: usize, c: usize| {
            let (t, y) = (s * self.t[(i, c)], y[(i, c)]);
            match problem.loss {
                Loss::Squared => t * y - 0.5 * t * t,
                Loss::SquaredHinge => t * y - 0.5 * t * t * y * y,
                Loss::CrossEntropy if outputs == 1 => entropy(t * y) + entropy(1.0 - t * y),
                Loss::CrossEntropy => entropy(y - t),
            }
        };
        let column = |c| (0..n).map(|i| term(i, c)).sum::<f64>();
        (0..outputs).map(column).sum::<f64>() / n as f64
    }

    /// The `s` that is best without the constraint: in closed form for the quadratic conjugates, else 1,
    /// the optimum's.
    pub(super) fn best_scale(&self, problem: &Problem) -> f64 {
        if problem.loss == Loss::CrossEntropy {
            return 1.0;
        }
        let (mut along, mut square) = (0.0, 0.0);
        for c in 0..self.t.ncols() {
            for (t, y) in self
                .t
                .col_as_slice(c)
                .iter()
                .zip(problem.targets.col_as_slice(c))
            {
                along += t * y;
                square += t * t;
            }
        }
        if square > 0.0 {
            (along / square).max(0.0)
        } else {
            0.0
        }
    }
}

/// The loss and the residual of one entry.
fn entry(loss: Loss, z: f64, y: f64) -> (f64, f64) {
    match loss {
        Loss::Squared => (0.5 * (y - z) * (y - z), y - z),
        Loss::SquaredHinge => {
            let a = (1.0 - y * z).max(0.0);
            (0.5 * a * a, y * a)
        }
        Loss::CrossEntropy => {
            let m = y * z;
            let value = (-m).max(0.0) + (-m.abs()).exp().ln_1p();
            (value, y / (1.0 + m.exp()))
        }
    }
}

/// The loss of sample `s`, and its row of `T`.
fn softmax(z: MatRef<'_, f64>, y: MatRef<'_, f64>, s: usize, t: &mut Mat<f64>) -> f64 {
    let outputs = z.ncols();
    let top = (0..outputs)
        .map(|c| z[(s, c)])
        .fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = (0..outputs).map(|c| (z[(s, c)] - top).exp()).sum();
    let log_total = top + total.ln();
    let mut along = 0.0;
    for c in 0..outputs {
        t[(s, c)] = y[(s, c)] - (z[(s, c)] - log_total).exp();
        along += y[(s, c)] * z[(s, c)];
    }
    log_total - along
}

/// Brings the columns of `T` to sum 0 within the domain.
fn balance(problem: &Problem, t: &mut Mat<f64>) {
    let (n, outputs) = (t.nrows(), t.ncols());
    match problem.loss {
        Loss::Squared => {
            for c in 0..outputs {
                let mean = t.col_as_slice(c).iter().sum::<f64>() / n as f64;
                t.col_as_slice_mut(c).iter_mut().for_each(|t| *t -= mean);
            }
        }
        Loss::CrossEntropy if outputs > 1 => mix(problem, t),
        Loss::CrossEntropy | Loss::SquaredHinge => {
            for c in 0..outputs {
                let sum = |up: bool| -> f64 {
                    let side = t.col_as_slice(c).iter().filter(|t| (**t > 0.0) == up);
                    side.map(|t| t.abs()).sum()
                };
                let (up, down) = (sum(true), sum(false));
                let least = up.min(down);
                for t in t.col_as_slice_mut(c) {
                    let own = if *t > 0.0 { up } else { down };
                    *t *= if own > 0.0 { least / own } else { 0.0 };
                }
            }
        }
    }
}

/// `T = Y - P~`.
fn mix(problem: &Problem, t: &mut Mat<f64>) {
    let (n, outputs) = (t.nrows(), t.ncols());
    let y = &problem.targets;
    let counts: Vec<f64> = (0..outputs)
        .map(|c| y.col_as_slice(c).iter().sum())
        .collect();
    // delta = column sums of P less those of Y.
    let delta: Vec<f64> = (0..outputs)
        .map(|c| -t.col_as_slice(c).iter().sum::<f64>())
        .collect();
    let share = |(d, n): (&f64, &f64)| {
        let over = d.max(0.0);
        if over > 0.0 { over / (n + over) } else { 0.0 }
    };
    let theta = delta.iter().zip(&counts).map(share).fold(0.0, f64::max);
    for c in 0..outputs {
        let offset = (theta * counts[c] - (1.0 - theta) * delta[c]) / n as f64;
        for s in 0..n {
            let p = y[(s, c)] - t[(s, c)];
            let mixed = ((1.0 - theta) * p + offset).max(0.0);
            t[(s, c)] = y[(s, c)] - mixed;
        }
    }
}

/// The minimiser of `F(1 b')`.
pub(super) fn best_intercept(problem: &Problem) -> Vec<f64> {
    let n = problem.matrix.samples() as f64;
    let column = |c: usize| {
        let y = problem.targets.col_as_slice(c);
        let mean = y.iter().sum::<f64>() / n;
        match problem.loss {
            Loss::Squared => mean,
            Loss::CrossEntropy if problem.outputs() == 1 => ((1.0 + mean) / (1.0 - mean)).ln(),
            Loss::CrossEntropy => mean.ln(),
            // (1 - b) p = (1 + b) (1 - p) with p the share of ones, for b in [-1, 1].
            Loss::SquaredHinge => mean,
        }
    };
    (0..problem.outputs()).map(column).collect()
}
