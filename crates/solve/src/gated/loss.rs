//! Losses `F(Z)`: means over the `n` samples, summed over the `C` outputs.

use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

/// `F` of a gated program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// `1/(2n) ||Y - Z||_F^2`.
    Squared,
    /// One output: `1/n sum log(1 + exp(-y z))`, `y` in `-1, 1`. More: `1/n sum (log sum_c exp z_c - z_y)`,
    /// one-hot rows.
    CrossEntropy,
    /// `1/(2n) sum max(0, 1 - y z)^2`, `y` in `-1, 1`, one against all others for more than one output.
    SquaredHinge,
}

impl Loss {
    /// `F(Z)`.
    pub fn value(self, z: MatRef<'_, f64>, y: MatRef<'_, f64>) -> f64 {
        let n = z.nrows() as f64;
        let entries = |f: fn(f64, f64) -> f64| -> f64 {
            let column = |c| (0..z.nrows()).map(|s| f(z[(s, c)], y[(s, c)])).sum::<f64>();
            (0..z.ncols()).map(column).sum()
        };
        let sum = match self {
            Self::Squared => entries(|z, y| 0.5 * (y - z) * (y - z)),
            Self::SquaredHinge => entries(|z, y| 0.5 * (1.0 - y * z).max(0.0).powi(2)),
            Self::CrossEntropy if z.ncols() == 1 => entries(|z, y| softplus(-y * z)),
            Self::CrossEntropy => (0..z.nrows())
                .map(|s| {
                    let along: f64 = (0..z.ncols()).map(|c| y[(s, c)] * z[(s, c)]).sum();
                    log_sum_exp(z, s) - along
                })
                .sum(),
        };
        sum / n
    }

    /// `grad F(Z)`, `n x C`.
    pub fn gradient(self, z: MatRef<'_, f64>, y: MatRef<'_, f64>) -> Mat<f64> {
        let n = z.nrows() as f64;
        let entries = |f: fn(f64, f64) -> f64| {
            Mat::from_fn(z.nrows(), z.ncols(), |s, c| f(z[(s, c)], y[(s, c)]) / n)
        };
        match self {
            Self::Squared => entries(|z, y| z - y),
            Self::SquaredHinge => entries(|z, y| -y * (1.0 - y * z).max(0.0)),
            Self::CrossEntropy if z.ncols() == 1 => entries(|z, y| -y / (1.0 + (y * z).exp())),
            Self::CrossEntropy => {
                let totals: Vec<f64> = (0..z.nrows()).map(|s| log_sum_exp(z, s)).collect();
                Mat::from_fn(z.nrows(), z.ncols(), |s, c| {
                    ((z[(s, c)] - totals[s]).exp() - y[(s, c)]) / n
                })
            }
        }
    }

    /// The largest curvature of one sample's loss, before the mean: `grad F` has the Lipschitz constant
    /// `curvature / n`.
    pub fn curvature(self, outputs: usize) -> f64 {
        match self {
            Self::Squared | Self::SquaredHinge => 1.0,
            Self::CrossEntropy if outputs == 1 => 0.25,
            Self::CrossEntropy => 0.5,
        }
    }
}

/// `log(1 + exp t)` without overflow.
fn softplus(t: f64) -> f64 {
    t.max(0.0) + (-t.abs()).exp().ln_1p()
}

/// `log sum_c exp z_sc` without overflow.
fn log_sum_exp(z: MatRef<'_, f64>, s: usize) -> f64 {
    let largest = (0..z.ncols())
        .map(|c| z[(s, c)])
        .fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..z.ncols()).map(|c| (z[(s, c)] - largest).exp()).sum();
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::Rng;

    /// Central differences against the gradient, and the curvature against second differences.
    #[test]
    fn gradients_are_those_of_the_values() {
        let mut rng = Rng::new(3);
        for (loss, outputs) in [
            (Loss::Squared, 2),
            (Loss::CrossEntropy, 1),
            (Loss::CrossEntropy, 3),
            (Loss::SquaredHinge, 2),
        ] {
            let n = 5;
            let z = Mat::from_fn(n, outputs, |_, _| 2.0 * rng.normal());
            let y = Mat::from_fn(n, outputs, |s, c| match (loss, outputs) {
                (Loss::CrossEntropy, 3) => f64::from(s % 3 == c),
                _ => {
                    if s % 2 == c {
                        1.0
                    } else {
                        -1.0
                    }
                }
            });
            let gradient = loss.gradient(z.as_ref(), y.as_ref());
            let h = 1e-6;
            for s in 0..n {
                for c in 0..outputs {
                    let at = |t: f64| {
                        let mut z = z.clone();
                        z[(s, c)] += t;
                        loss.value(z.as_ref(), y.as_ref())
                    };
                    let difference = (at(h) - at(-h)) / (2.0 * h);
                    assert!(
                        (difference - gradient[(s, c)]).abs() < 1e-8,
                        "{loss:?} {s} {c}"
                    );
                    let second = (at(1e-3) - 2.0 * at(0.0) + at(-1e-3)) / 1e-6;
                    let bound = loss.curvature(outputs) / n as f64;
                    assert!(second <= bound * (1.0 + 1e-3), "{loss:?} {second} {bound}");
                }
            }
        }
    }
}
