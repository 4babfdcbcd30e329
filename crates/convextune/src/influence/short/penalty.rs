//! The penalty of sketched numbers.
//!
//! A ridge on k random combinations is, on average, a ridge on all numbers with a
//! larger penalty: `S (S'H S + lambda I)^-1 S'` is near `(H + mu I)^-1` with `mu = lambda / (1 - df/k)`, df the trace of
//! `S'H S (S'H S + lambda I)^-1` (LeJeune, Patil, Javadi, Baraniuk and Tibshirani, *Asymptotics of the sketched
//! pseudoinverse*, 2022). At `lambda = Lambda` leverages would come out too small. So D is `lambda` for the sketched numbers,
//! chosen such that `mu = Lambda`; as `df = k - lambda tr (G^-1)_kk`, with the block of the sketched numbers, that is
//!
//! ```text
//!     tr (G^-1)_kk / k  =  1 / Lambda .                                                                (11)
//! ```
//!
//! The trace is estimated by random signs. There is no such `lambda` where the fit has more degrees of freedom than
//! the sketch has numbers.

use convextune_solve::faer::linalg::solvers::Llt;
use convextune_solve::faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use convextune_solve::faer::{Mat, Side, get_global_parallelism};

use super::{BLOCK, all_the_weight, double};
use crate::error::Error;
use crate::rng::mix;

/// Random signs by which a trace is estimated.
const PROBES: usize = 8;
/// Relative error of equation 11 that is enough, and tries to get there.
const ENOUGH: f64 = 0.01;
/// Relative error of it where there is no solution.
const HOPELESS: f64 = 0.1;
const TRIES: usize = 10;
/// The smallest `lambda` of equation 11, in units of Lambda.
const SMALLEST: f64 = 1e-6;

/// L of G, the penalty of the first `sketched` numbers being that of equation 11.
pub(super) fn factor(
    z: &Mat<f32>,
    (sketched, lambda): (usize, f64),
    seed: u64,
) -> Result<Llt<f64>, Error> {
    let (m, n) = (z.nrows(), z.ncols());
    let mut gram = Mat::zeros(m, m);
    for first in (0..n).step_by(BLOCK) {
        let block = double(z.subcols(first, BLOCK.min(n - first)));
        gram += &block * block.transpose();
    }
    let at = |log: f64| {
        let mut g = gram.clone();
        let penalty = |j: usize| {
            if j < sketched {
                lambda * log.exp()
            } else {
                lambda
            }
        };
        (0..m).for_each(|j| g[(j, j)] += penalty(j));
        Llt::new(g.as_ref(), Side::Lower).map_err(|_| all_the_weight())
    };
    let mut factor = at(0.0)?;
    if sketched == 0 {
        return Ok(factor);
    }
    let off = |factor: &Llt<f64>| (lambda * mean_inverse(factor, sketched, seed)).ln();
    // Secants of `ln (Lambda tr / k)` over `ln (lambda / Lambda)`, which falls; the first try is a fixed point's.
    let (mut before, mut now) = ((0.0, off(&factor)), (0.0, 0.0));
    now.0 = before.1;
    for _ in 0..TRIES {
        now.0 = now.0.clamp(SMALLEST.ln(), 0.0);
        factor = at(now.0).map_err(|_| too_few(sketched))?;
        now.1 = off(&factor);
        let slope = (now.1 - before.1) / (now.0 - before.0);
        let none = now.0 <= SMALLEST.ln() && now.1 < 0.0;
        if now.1.abs() < ENOUGH || slope >= 0.0 || none {
            break;
        }
        (before, now.0) = (now, now.0 - now.1 / slope);
    }
    if now.1.abs() > HOPELESS {
        return Err(too_few(sketched));
    }
    Ok(factor)
}

/// The mean of the first `sketched` diagonal entries of `G^-1`, estimated.
fn mean_inverse(factor: &Llt<f64>, sketched: usize, seed: u64) -> f64 {
    let m = factor.L().nrows();
    let sign = |j: usize, p: usize| match mix(seed ^ mix((j * PROBES + p) as u64)) & 1 {
        0 => -1.0,
        _ => 1.0,
    };
    let probe = |j, p| if j < sketched { sign(j, p) } else { 0.0 };
    let mut whitened = Mat::from_fn(m, PROBES, probe);
    solve_lower_triangular_in_place(factor.L(), whitened.as_mut(), get_global_parallelism());
    whitened.squared_norm_l2() / (PROBES * sketched) as f64
}

fn too_few(buckets: usize) -> Error {
    Error::Usage(format!(
        "the model has more degrees of freedom than a sketch of {buckets} numbers an image, and scores by it would mean \
         nothing; fit with a larger weight decay or to fewer images, or with `--method lqf-fc`, whose images are \
         ranked exactly however many there are"
    ))
}

#[cfg(test)]
mod tests {
    use convextune_solve::faer::linalg::solvers::DenseSolveCore;
    use convextune_testkit::Rng;

    use super::*;

    /// Equation 11, by the diagonal of the inverse itself; and where it has no solution.
    #[test]
    fn the_penalty_of_sketched_numbers_solves_its_equation() {
        const LAMBDA: f64 = 0.5;
        let (sketched, features) = (40, 5);
        let rows = |n: usize| {
            let mut rng = Rng::new(2);
            Mat::from_fn(sketched + features, n, |_, _| rng.normal() as f32)
        };
        let found = factor(&rows(30), (sketched, LAMBDA), 1).unwrap();
        let inverse = found.inverse();
        let trace: f64 = (0..sketched).map(|j| inverse[(j, j)]).sum();
        let left = LAMBDA * trace / sketched as f64;
        assert!((left - 1.0).abs() < 0.1, "{left}");
        let (z, lower) = (double(rows(30).as_ref()), found.L());
        let penalty = |j: usize| {
            let g: f64 = (0..=j).map(|k| lower[(j, k)].powi(2)).sum();
            g - z.row(j).squared_norm_l2()
        };
        assert!((penalty(sketched) / LAMBDA - 1.0).abs() < 1e-9);
        assert!(penalty(0) < 0.5 * LAMBDA);
        assert!(factor(&rows(300), (sketched, LAMBDA), 1).is_err());
    }

    /// A few numbers that no sample has: the first secants overshoot, and there is a solution all the same.
    #[test]
    fn secants_that_overshoot_come_back() {
        const LAMBDA: f64 = 0.5;
        let (sketched, empty) = (1000, 3);
        let long = (10.0 * LAMBDA).sqrt() as f32;
        let entry = |j: usize, i: usize| if j == i + empty { long } else { 0.0 };
        let z = Mat::from_fn(sketched, sketched - empty, entry);
        let found = factor(&z, (sketched, LAMBDA), 1).unwrap();
        let diagonal = |j: usize| 1.0 / found.L()[(j, j)].powi(2);
        let trace: f64 = (0..sketched).map(diagonal).sum();
        let left = LAMBDA * trace / sketched as f64;
        assert!((left - 1.0).abs() < 0.02, "{left}");
    }
}
