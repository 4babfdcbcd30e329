//! How many eigenvalues lie where, from a few directions: stochastic Lanczos quadrature.
//!
//! For a direction `q_1` of length 1 the Ritz values theta_k with the weights `w_k = (e_1' s_k)^2` are the
//! Gauss quadrature with m nodes of the measure `sum_i <q_1, v_i>^2 delta(lambda_i)` (Golub and Welsch
//! 1969): moments up to `2m - 1` are exact. If q_1 is uniform on the sphere, the mean of that measure is
//! `(1/n) sum_i delta(lambda_i)`, the density of eigenvalues. The mean over several directions estimates it;
//! how much they differ says how well (Ubaru, Chen and Saad, *Fast estimation of tr(f(A)) via stochastic
//! Lanczos quadrature*, SIAM J. Matrix Anal. Appl. 38, 2017).

use serde::{Deserialize, Serialize};

use super::{Basis, Pencil};
use crate::error::SolveError;

/// A measure on few points.
#[derive(Clone, Debug, PartialEq)]
pub struct Quadrature {
    /// Points and weights; the weights sum to 1.
    pub nodes: Vec<(f64, f64)>,
}

/// Eigenvalues between two values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// From here on.
    pub from: f64,
    /// Up to here, not included but in the last bin.
    pub to: f64,
    /// How many eigenvalues lie between.
    pub count: f64,
    /// Standard error of the count; 0 where it is exact, `None` where it cannot be told from one direction.
    pub standard_error: Option<f64>,
}

/// The quadrature of one direction that `draw` gives, in at most `steps` products.
///
/// # Errors
/// When the operator fails, lengths disagree, or the direction is zero.
pub fn quadrature(
    pencil: Pencil<'_>,
    draw: &mut dyn FnMut() -> Vec<f64>,
    steps: usize,
) -> Result<Quadrature, SolveError> {
    let mut basis = Basis::new(pencil, draw)?;
    while basis.len() < steps.max(1) && !basis.is_invariant() {
        basis.step()?;
    }
    Ok(basis.ritz(0)?.quadrature())
}

/// Counts of eigenvalues between `edges` (rising) on a space of dimension `dimension`. What lies outside
/// is counted in the first or last bin.
pub fn histogram(quadratures: &[Quadrature], edges: &[f64], dimension: usize) -> Vec<Bin> {
    let bins = edges.len().saturating_sub(1);
    let mut shares = vec![vec![0.0; quadratures.len()]; bins];
    for (l, quadrature) in quadratures.iter().enumerate() {
        for (value, weight) in &quadrature.nodes {
            let bin = edges.iter().skip(1).position(|edge| value < edge);
            if let Some(of_bin) = shares.get_mut(bin.unwrap_or(bins.saturating_sub(1))) {
                of_bin[l] += weight;
            }
        }
    }
    let (n, directions) = (dimension as f64, quadratures.len().max(1) as f64);
    let bin = |(k, shares): (usize, &Vec<f64>)| {
        let mean = shares.iter().sum::<f64>() / directions;
        let squares: f64 = shares.iter().map(|s| (s - mean).powi(2)).sum();
        let variance_of_mean = squares / (directions * (directions - 1.0));
        Bin {
            from: edges[k],
            to: edges[k + 1],
            count: n * mean,
            standard_error: (directions > 1.0).then(|| n * variance_of_mean.sqrt()),
        }
    };
    shares.iter().enumerate().map(bin).collect()
}
