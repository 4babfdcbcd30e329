//! Penalties of gated programs on a list of weight columns, and their proximal maps.
//!
//! | `R(U)` | `prox_{t R}` |
//! |---|---|
//! | neuron: `sum ||u_k||` over columns | each column shrunk by `t`, after the projection onto its cone |
//! | feature: `sum over outputs c, features j of ||(u_k[j])_{k of c}||` | each of these rows shrunk by `t` |
//! | l1: `sum |u|` | each entry shrunk by `t` |
//! | squared l2: `1/2 sum u^2` | `u / (1 + t)`, after the projection |
//! | nuclear: `sum over gates of ||U_i||_*` | singular values of `U_i` (`d x C`) shrunk by `t` |
//!
//! "Shrunk" is `v -> (1 - t / ||v||)_+ v`. Over a cone, (1) of [`super`] gives the neuron-wise row, and
//! `argmin 1/2 ||x - z||^2 + t/2 ||x||^2` over the cone is `P_K(z) / (1 + t)`, since the sum of squares is
//! `(1 + t)/2 ||x - z / (1 + t)||^2` up to a constant.

use faer::{Mat, MatRef};

use crate::dense::norm;
use crate::error::SolveError;
use crate::factor::ThinSvd;
use crate::gated::{Column, Penalty};

/// `R(U)` of the columns of `u` (`d x k`).
///
/// # Errors
/// When a singular value decomposition fails.
pub fn value(penalty: Penalty, columns: &[Column], u: &Mat<f64>) -> Result<f64, SolveError> {
    let lengths = (0..u.ncols()).map(|k| norm(u.col_as_slice(k)));
    Ok(match penalty {
        Penalty::Neuron => lengths.sum(),
        Penalty::SquaredL2 => 0.5 * lengths.map(|l| l * l).sum::<f64>(),
        Penalty::L1 => (0..u.ncols())
            .flat_map(|k| u.col_as_slice(k))
            .map(|x| x.abs())
            .sum(),
        Penalty::Feature => feature_lengths(columns, u).iter().flatten().sum(),
        Penalty::Nuclear => {
            let mut sum = 0.0;
            for block in blocks(columns) {
                sum += ThinSvd::new("weights of a gate", gathered(u, &block).as_ref())?
                    .s
                    .iter()
                    .sum::<f64>();
            }
            sum
        }
    })
}

/// `prox_{t R}` of the columns of `u`, in place, without cones.
///
/// # Errors
/// When a singular value decomposition fails.
pub fn prox(
    penalty: Penalty,
    columns: &[Column],
    u: &mut Mat<f64>,
    t: f64,
) -> Result<(), SolveError> {
    match penalty {
        Penalty::Neuron => {
            for k in 0..u.ncols() {
                let column = u.col_as_slice_mut(k);
                let factor = shrink(norm(column), t);
                column.iter_mut().for_each(|x| *x *= factor);
            }
        }
        Penalty::SquaredL2 => entries(u, |x| x / (1.0 + t)),
        Penalty::L1 => entries(u, |x| x * shrink(x.abs(), t)),
        Penalty::Feature => {
            let lengths = feature_lengths(columns, u);
            for (k, column) in columns.iter().enumerate() {
                let pairs = u
                    .col_as_slice_mut(k)
                    .iter_mut()
                    .zip(&lengths[column.output]);
                pairs.for_each(|(x, length)| *x *= shrink(*length, t));
            }
        }
        Penalty::Nuclear => {
            for block in blocks(columns) {
                let svd = ThinSvd::new("weights of a gate", gathered(u, &block).as_ref())?;
                let scaled = Mat::from_fn(svd.u.nrows(), svd.s.len(), |j, r| {
                    svd.u[(j, r)] * (svd.s[r] - t).max(0.0)
                });
                let shrunk = scaled * svd.v.transpose();
                for (c, k) in block.iter().enumerate() {
                    u.col_as_slice_mut(*k)
                        .copy_from_slice(shrunk.col_as_slice(c));
                }
            }
        }
    }
    Ok(())
}

/// `(1 - t / length)_+`.
fn shrink(length: f64, t: f64) -> f64 {
    if length > t { 1.0 - t / length } else { 0.0 }
}

fn entries(u: &mut Mat<f64>, f: impl Fn(f64) -> f64) {
    for k in 0..u.ncols() {
        u.col_as_slice_mut(k).iter_mut().for_each(|x| *x = f(*x));
    }
}

/// For every output and feature the length over the output's columns.
fn feature_lengths(columns: &[Column], u: &Mat<f64>) -> Vec<Vec<f64>> {
    let outputs = columns.iter().map(|c| c.output + 1).max().unwrap_or(0);
    let mut sums = vec![vec![0.0; u.nrows()]; outputs];
    for (k, column) in columns.iter().enumerate() {
        let pairs = sums[column.output].iter_mut().zip(u.col_as_slice(k));
        pairs.for_each(|(sum, x)| *sum += x * x);
    }
    sums.iter_mut().flatten().for_each(|sum| *sum = sum.sqrt());
    sums
}

/// The columns of every gate.
fn blocks(columns: &[Column]) -> Vec<Vec<usize>> {
    let mut blocks = std::collections::BTreeMap::<usize, Vec<usize>>::new();
    for (k, column) in columns.iter().enumerate() {
        blocks.entry(column.gate).or_default().push(k);
    }
    blocks.into_values().collect()
}

fn gathered(u: &Mat<f64>, block: &[usize]) -> Mat<f64> {
    let u: MatRef<'_, f64> = u.as_ref();
    Mat::from_fn(u.nrows(), block.len(), |j, c| u[(j, block[c])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::Rng;

    fn columns() -> Vec<Column> {
        let pair = |gate, output| Column { gate, output };
        vec![
            pair(0, 0),
            pair(0, 1),
            pair(2, 0),
            pair(2, 1),
            pair(5, 0),
            pair(5, 1),
        ]
    }

    /// The proximal point minimises `t R(x) + 1/2 ||x - z||^2`: no point nearby is better, in any of many
    /// directions and at several distances. The objective is strongly convex, so that suffices.
    #[test]
    fn no_point_is_better_than_the_proximal_one() {
        let mut rng = Rng::new(4);
        let columns = columns();
        for penalty in [
            Penalty::Neuron,
            Penalty::Feature,
            Penalty::L1,
            Penalty::SquaredL2,
            Penalty::Nuclear,
        ] {
            for t in [0.1, 0.7, 2.0] {
                let z = Mat::from_fn(4, columns.len(), |_, _| rng.normal());
                let objective = |x: &Mat<f64>| {
                    let distance: f64 = (0..x.ncols())
                        .flat_map(|k| (0..x.nrows()).map(move |j| (j, k)))
                        .map(|(j, k)| (x[(j, k)] - z[(j, k)]).powi(2))
                        .sum();
                    t * value(penalty, &columns, x).unwrap() + 0.5 * distance
                };
                let mut best = z.clone();
                prox(penalty, &columns, &mut best, t).unwrap();
                let least = objective(&best);
                for trial in 0..400 {
                    let h = 10f64.powi(-(trial % 5));
                    let other =
                        Mat::from_fn(4, columns.len(), |j, k| best[(j, k)] + h * rng.normal());
                    assert!(objective(&other) >= least - 1e-12, "{penalty:?} {t} {h}");
                    // Towards zero and towards z, where mistakes of shrinking lie.
                    for end in [0.0, 1.0] {
                        let other = Mat::from_fn(4, columns.len(), |j, k| {
                            (1.0 - h) * best[(j, k)] + h * end * z[(j, k)]
                        });
                        assert!(objective(&other) >= least - 1e-12, "{penalty:?} {t} {h}");
                    }
                }
            }
        }
    }
}
