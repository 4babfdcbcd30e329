//! Quadratic programs in multipliers of which some may not be negative.
//!
//! ```text
//!     min over mu    1/2 mu' Q mu - r' mu ,     mu_j >= 0 where j is no equality                          (1)
//! ```
//!
//! with Q positive definite: the dual of a quadratic problem with linear constraints, `r` their excess at the minimum
//! without them. Block principal pivoting: for a set P of multipliers that are not zero
//!
//! ```text
//!     mu_P = Q_PP^-1 r_P ,     w_N = r_N - Q_NP mu_P        (N: all others)
//! ```
//!
//! is the solution when `mu_P >= 0` and `w_N <= 0`; otherwise all that offend change sides. Where their number has
//! not fallen for a few rounds only the last of them does, which ends after finitely many rounds (J. Júdice, F. Pires,
//! Computers & Operations Research 1994; J. Kim, H. Park, SIAM J. Sci. Comput. 2011).

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef};

use crate::error::{SolveError, check_len};
use crate::factor::{check_square, cholesky};

/// Rounds in which all that offend may change sides without their number falling.
const PATIENCE: usize = 3;
/// Rounds for each unknown, at most.
const ROUNDS: usize = 20;
/// What is taken for zero, in units of the largest multiplier, or of the products it has part in.
const ROUNDING: f64 = 1e-11;

/// The solution `mu` of (1); `equality[j]` frees `mu_j` of its sign.
///
/// # Errors
/// When shapes disagree, or Q is not positive definite.
pub fn nonnegative(
    q: MatRef<'_, f64>,
    r: &[f64],
    equality: &[bool],
) -> Result<Vec<f64>, SolveError> {
    let m = r.len();
    check_square("matrix of the multipliers", m, q)?;
    check_len("kinds of the multipliers", m, equality.len())?;
    let size = |v: &[f64]| v.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let diagonal = (0..m).fold(0.0_f64, |a, j| a.max(q[(j, j)]));
    let mut passive: Vec<bool> = (0..m).map(|j| equality[j] || r[j] > 0.0).collect();
    let (mut fewest, mut patience) = (m + 1, PATIENCE);
    for _ in 0..ROUNDS * (m + 1) {
        let (mu, excess) = basic(q, r, &passive)?;
        let zero = ROUNDING * size(&mu);
        let nothing = ROUNDING * size(r) + diagonal * zero;
        let offends = |j: &usize| {
            if passive[*j] {
                !equality[*j] && mu[*j] < -zero
            } else {
                excess[*j] > nothing
            }
        };
        let offending: Vec<usize> = (0..m).filter(offends).collect();
        let Some(last) = offending.last() else {
            let kept = mu.iter().zip(equality);
            return Ok(kept
                .map(|(mu, free)| if *free { *mu } else { mu.max(0.0) })
                .collect());
        };
        if offending.len() < fewest {
            (fewest, patience) = (offending.len(), PATIENCE);
        } else {
            patience = patience.saturating_sub(1);
        }
        let change = if patience > 0 {
            &offending[..]
        } else {
            &[*last]
        };
        change.iter().for_each(|j| passive[*j] = !passive[*j]);
    }
    Err(SolveError::Factorisation {
        what: "quadratic program of the constraints",
        reason: "its pivots did not end; the constraints are nearly dependent".into(),
    })
}

/// `mu` with the passive set P, zero elsewhere, and `w = r - Q mu`.
fn basic(
    q: MatRef<'_, f64>,
    r: &[f64],
    passive: &[bool],
) -> Result<(Vec<f64>, Vec<f64>), SolveError> {
    let set: Vec<usize> = (0..r.len()).filter(|j| passive[*j]).collect();
    let mut mu = vec![0.0; r.len()];
    if !set.is_empty() {
        let block = Mat::from_fn(set.len(), set.len(), |i, j| q[(set[i], set[j])]);
        let right = Mat::from_fn(set.len(), 1, |i, _| r[set[i]]);
        let what = "Cholesky of the constraints that bind";
        let solved = cholesky(what, block.as_ref(), 0.0)?.solve(right);
        set.iter()
            .zip(solved.col_as_slice(0))
            .for_each(|(j, z)| mu[*j] = *z);
    }
    let image = q * Mat::from_fn(mu.len(), 1, |j, _| mu[j]);
    let excess = (0..r.len()).map(|j| r[j] - image[(j, 0)]).collect();
    Ok((mu, excess))
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::Rng;

    /// Q of a rank but for 1e-6, and the excess of constraints that something meets.
    fn random(m: usize, rank: usize, seed: u64) -> (Mat<f64>, Vec<f64>) {
        let mut rng = Rng::new(seed);
        let a = Mat::from_fn(m, rank, |_, _| rng.normal());
        let q = &a * a.transpose() + Mat::<f64>::identity(m, m) * faer::Scale(1e-6);
        let met = &a * Mat::from_fn(rank, 1, |_, _| rng.normal());
        let slack = |j: usize, z: f64| if j < 5 { 0.0 } else { z.abs() };
        let r = (0..m)
            .map(|j| met[(j, 0)] - slack(j, rng.normal()))
            .collect();
        (q, r)
    }

    /// Against all 2^m choices of the set that binds.
    #[test]
    fn it_is_the_best_of_all_sets() {
        for seed in 0..20 {
            let (q, r) = random(7, 7, seed);
            let equality: Vec<bool> = (0..7).map(|j| j == 2).collect();
            let mu = nonnegative(q.as_ref(), &r, &equality).unwrap();
            let value = |mu: &[f64]| {
                let column = Mat::from_fn(7, 1, |j, _| mu[j]);
                let square = (column.transpose() * &q * &column)[(0, 0)];
                0.5 * square - r.iter().zip(mu).map(|(r, m)| r * m).sum::<f64>()
            };
            let allowed = |mu: &[f64]| (0..7).all(|j| equality[j] || mu[j] >= 0.0);
            assert!(allowed(&mu));
            let best = (0..128_usize)
                .map(|bits| (0..7).map(|j| bits >> j & 1 == 1).collect::<Vec<_>>())
                .map(|set| basic(q.as_ref(), &r, &set).unwrap().0)
                .filter(|mu| allowed(mu))
                .map(|mu| value(&mu))
                .fold(f64::INFINITY, f64::min);
            assert!(
                (value(&mu) - best).abs() < 1e-9 * best.abs(),
                "{seed}: {} {best}",
                value(&mu)
            );
        }
    }

    /// Many unknowns, few directions: the conditions of optimality hold.
    #[test]
    fn its_conditions_hold_where_constraints_are_nearly_dependent() {
        for seed in 0..5 {
            let (q, r) = random(60, 25, 40 + seed);
            let equality: Vec<bool> = (0..60).map(|j| j < 5).collect();
            let mu = nonnegative(q.as_ref(), &r, &equality).unwrap();
            let image = &q * Mat::from_fn(60, 1, |j, _| mu[j]);
            for j in 0..60 {
                let excess = r[j] - image[(j, 0)];
                assert!(equality[j] || mu[j] >= 0.0, "{seed} {j}");
                let bound = 1e-6;
                assert!(
                    excess < bound && (mu[j] == 0.0 || excess > -bound),
                    "{seed} {j}: {excess}"
                );
            }
        }
    }
}
