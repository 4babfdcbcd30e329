//! The weight decay by the gradient of what one wants to be small.
//!
//! **The solution moves with Lambda.** `M = P (P K P + Lambda I)^-1 P` (without a bias P = I) has
//! `dM/dLambda = -M^2`, so the dual solution `a = M t` obeys
//!
//! ```text
//!     da/dLambda = -M a .                                                                   (1)
//! ```
//!
//! **Leave-one-out.** With `e_i = (M_ii)^-1 a_i` ([`super::dual`]), differentiated,
//!
//! ```text
//!     de_i/dLambda = (M_ii)^-1 ( (M^2)_ii e_i - (M a)_i ) ,
//!     E = mean_i || e_i ||^2 ,      dE/dLambda = 2 mean_i <e_i, de_i/dLambda> .              (2)
//! ```
//!
//! **Held-out samples.** `f(x) = k(x)' a + b` with `b` the class means of `t - K a`; by (1)
//! `df(x) = k(x)' da + db`, `db` the class means of `-K da`, and with the residuals `r = t - f`
//!
//! ```text
//!     E = mean_x || r(x) ||^2 ,     dE/dLambda = -2 mean_x <r(x), df(x)/dLambda> .            (3)
//! ```
//!
//! With the eigendecomposition of `P K P` every line is exact, and costs `O(N^2)` a column of targets
//! once it is there. (3) is what eqs. 10 to 12 of Achille et al. (*LQF*, CVPR 2021) say in the primal; they
//! do not consider (2).
//!
//! **The search** ([`minimise`]) works in `log Lambda`, where the criterion's slope is `Lambda dE/dLambda`.
//! Along a path of values the best, x, lies between two that are no better; on the side to which its
//! slope falls there is a minimum. The next trial is where the secant through two slopes is zero, if that
//! is well inside, else the middle. A better trial becomes x, a worse one the end of the interval.

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

use super::dual::{KernelRidge, KernelSpectrum};
use super::lambda::Intercept;
use crate::dense::dot;
use crate::error::{SolveError, check_len, check_positive};
use crate::factor::{cholesky, column};

/// A criterion at one Lambda.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CriterionPoint {
    /// Lambda.
    pub lambda: f64,
    /// E, a mean of squared residuals over samples and classes.
    pub value: f64,
    /// `dE / d log Lambda`.
    pub slope: f64,
}

/// Targets of several columns under one kernel: a row-major matrix of `NC` rows, and how many columns.
pub type Targets<'a> = (&'a [f64], usize);

impl KernelSpectrum {
    /// `a = M t` and `da/dLambda = -M a`, each of length `NC`: equation (1).
    ///
    /// # Errors
    /// When the target does not fit or `lambda` is not positive.
    pub fn dual_with_derivative(
        &self,
        target: &[f64],
        lambda: f64,
    ) -> Result<(Vec<f64>, Vec<f64>), SolveError> {
        let a = self.dual(target, lambda)?;
        let mut m_a = self.dual(&a, lambda)?;
        m_a.iter_mut().for_each(|x| *x = -*x);
        Ok((a, m_a))
    }

    /// Equation (2) over `samples`: their mean squared leave-one-out residual.
    ///
    /// # Errors
    /// As for [`super::KernelInverse::leave_one_out`], and when a sample is out of range or there is none.
    pub fn leave_one_out_criterion(
        &self,
        (targets, columns): Targets<'_>,
        samples: &[usize],
        lambda: f64,
    ) -> Result<CriterionPoint, SolveError> {
        check_positive("Lambda", lambda)?;
        let rows = self.eigenvalues().len();
        check_len("targets", rows * columns, targets.len())?;
        check_positive("samples to judge by", samples.len() as f64)?;
        let largest = samples.iter().max().map_or(0, |i| i + 1);
        if largest * self.classes > rows {
            return Err(SolveError::Shape {
                what: "samples to judge by",
                expected: rows / self.classes,
                got: largest,
            });
        }
        let duals = (0..columns)
            .map(|j| self.dual_with_derivative(&column_of(targets, j, columns), lambda));
        let duals = duals.collect::<Result<Vec<_>, _>>()?;
        let power = |value: f64, power: i32| (value.max(0.0) + lambda).powi(-power);
        let weights = |p: i32| self.values.iter().map(|v| power(*v, p)).collect();
        let (first, second) = ((weights(1), power(0.0, 1)), (weights(2), power(0.0, 2)));
        let (mut square, mut derivative) = (0.0, 0.0);
        for i in samples {
            let (block, block_of_square) = (self.block(*i, &first), self.block(*i, &second));
            let factor = cholesky("Cholesky of a leave-out block", block.as_ref(), 0.0)?;
            for (a, da) in &duals {
                let own = i * self.classes..(i + 1) * self.classes;
                let e = factor.solve(column(&a[own.clone()]));
                let de = factor.solve(&block_of_square * &e + column(&da[own]));
                square += dot(e.col_as_slice(0), e.col_as_slice(0));
                derivative += 2.0 * dot(e.col_as_slice(0), de.col_as_slice(0));
            }
        }
        let count = (samples.len() * self.classes * columns) as f64;
        Ok(CriterionPoint {
            lambda,
            value: square / count,
            slope: lambda * derivative / count,
        })
    }

    /// The block of sample `i` of a power of M: `weights` are that power of M's eigenvalues, `constant`
    /// that of its eigenvalue at constant vectors, which M does not have with a free bias.
    fn block(&self, i: usize, (weights, constant): &(Vec<f64>, f64)) -> Mat<f64> {
        let c = self.classes;
        let excess = match self.bias {
            Intercept::Free => constant / (self.values.len() / c) as f64,
            Intercept::None => 0.0,
        };
        let row = |p: usize| self.rows.col_as_slice(i * c + p);
        Mat::from_fn(c, c, |p, q| {
            let terms = row(p).iter().zip(row(q)).zip(weights);
            let sum: f64 = terms.map(|((v, w), weight)| v * w * weight).sum();
            sum - if p == q { excess } else { 0.0 }
        })
    }
}

/// Equation (3): the mean squared residual of held-out samples. `cross` (`rows held out x NC`) is their
/// kernel with the training samples, before centring; `spectrum` is that of `ridge`.
///
/// # Errors
/// When shapes disagree or `lambda` is not positive.
pub fn held_out_criterion(
    (ridge, spectrum): (&KernelRidge, &KernelSpectrum),
    (targets, columns): Targets<'_>,
    cross: MatRef<'_, f64>,
    held_out: &[f64],
    lambda: f64,
) -> Result<CriterionPoint, SolveError> {
    let (rows, classes) = (spectrum.eigenvalues().len(), spectrum.classes);
    check_len("targets", rows * columns, targets.len())?;
    check_len("columns of the cross kernel", rows, cross.ncols())?;
    check_len("held-out targets", cross.nrows() * columns, held_out.len())?;
    let (mut square, mut derivative) = (0.0, 0.0);
    for j in 0..columns {
        let t = column_of(targets, j, columns);
        let (a, da) = spectrum.dual_with_derivative(&t, lambda)?;
        let (b, db) = (ridge.bias(&t, &a)?, ridge.bias(&vec![0.0; rows], &da)?);
        let (f, df) = (cross * column(&a), cross * column(&da));
        for (r, t) in held_out.iter().skip(j).step_by(columns).enumerate() {
            let residual = t - f[(r, 0)] - b[r % classes];
            square += residual * residual;
            derivative -= 2.0 * residual * (df[(r, 0)] + db[r % classes]);
        }
    }
    let count = held_out.len().max(1) as f64;
    Ok(CriterionPoint {
        lambda,
        value: square / count,
        slope: lambda * derivative / count,
    })
}

/// Column `j` of a row-major matrix of `columns` columns.
fn column_of(t: &[f64], j: usize, columns: usize) -> Vec<f64> {
    t.iter().skip(j).step_by(columns).copied().collect()
}

/// When the search ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions {
    /// `|dE / d log Lambda| / E` to reach.
    pub tolerance: f64,
    /// Values of Lambda tried after the path, at most.
    pub evaluations: usize,
}

/// Where the search ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Minimum {
    /// The best point.
    pub best: CriterionPoint,
    /// Whether its slope meets the tolerance and [`Self::at_end`] is not set.
    pub converged: bool,
    /// Whether the criterion still falls at an end of the path: there is then no minimum inside it.
    pub at_end: bool,
    /// All points tried, by rising Lambda.
    pub points: Vec<CriterionPoint>,
}

/// Minimises a criterion over `log Lambda`, from a path of two or more values by rising Lambda.
///
/// # Errors
/// When the path is too short, and those of `evaluate`.
pub fn minimise<E: From<SolveError>>(
    path: &[CriterionPoint],
    options: SearchOptions,
    mut evaluate: impl FnMut(f64) -> Result<CriterionPoint, E>,
) -> Result<Minimum, E> {
    let least = |x: &usize, y: &usize| path[*x].value.total_cmp(&path[*y].value);
    let best = (0..path.len()).min_by(least).unwrap_or(0);
    let (Some(mut x), true) = (path.get(best).copied(), path.len() > 1) else {
        let (what, domain) = ("points of a path of weight decays", "two or more");
        let got = path.len() as f64;
        return Err(SolveError::Parameter { what, domain, got }.into());
    };
    let mut points = path.to_vec();
    let mut low = path[best.saturating_sub(1)];
    let mut high = path[(best + 1).min(path.len() - 1)];
    let settled = |x: &CriterionPoint| x.slope.abs() <= options.tolerance * x.value;
    // At an end of the path the criterion may go on falling outside, however slowly.
    let outwards = |x: &CriterionPoint| {
        (best == 0 && x.slope > 0.0) || (best + 1 == path.len() && x.slope < 0.0)
    };
    let at_end = outwards(&x);
    let mut near = if x.slope > 0.0 { low } else { high };
    for trial in 0..options.evaluations {
        if settled(&x) || at_end {
            break;
        }
        let end = if x.slope > 0.0 { low } else { high };
        let y = evaluate(next(x, near, end, trial % 4 == 3))?;
        points.push(y);
        let (worse, rising) = (y.value > x.value, x.slope > 0.0);
        let outer = if worse { y } else { x };
        if worse == rising {
            low = outer;
        } else {
            high = outer;
        }
        let distance = |p: &CriterionPoint| (p.lambda / x.lambda).ln().abs();
        if worse {
            near = if distance(&y) < distance(&near) {
                y
            } else {
                near
            };
        } else {
            (near, x) = (x, y);
        }
    }
    points.sort_by(|a, b| a.lambda.total_cmp(&b.lambda));
    Ok(Minimum {
        converged: settled(&x) && !at_end,
        best: x,
        at_end,
        points,
    })
}

/// The next Lambda between `x` and `end`: where the secant of the slopes at `x` and `near` is zero, or
/// the middle when that is outside, beyond nine tenths of the way, or `halve` is asked for.
fn next(x: CriterionPoint, near: CriterionPoint, end: CriterionPoint, halve: bool) -> f64 {
    let log = |p: CriterionPoint| p.lambda.ln();
    let way = log(end) - log(x);
    let step = -x.slope * (log(near) - log(x)) / (near.slope - x.slope);
    let share = step / way;
    let share = if !halve && share > 0.0 && share < 0.9 {
        share
    } else {
        0.5
    };
    (log(x) + share * way).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A valley with its bottom at `log Lambda = bottom`, uneven sides.
    fn valley(bottom: f64) -> impl Fn(f64) -> CriterionPoint {
        move |lambda: f64| {
            let d = lambda.ln() - bottom;
            CriterionPoint {
                lambda,
                value: 2.0 + (0.7 * d).exp() - 0.7 * d + 0.1 * d * d,
                slope: 0.7 * (0.7 * d).exp() - 0.7 + 0.2 * d,
            }
        }
    }

    const OPTIONS: SearchOptions = SearchOptions {
        tolerance: 1e-9,
        evaluations: 40,
    };

    #[test]
    fn the_search_finds_the_bottom_between_any_two_points() {
        for k in 0..40 {
            let bottom = -5.0 + 0.25 * f64::from(k);
            let f = valley(bottom);
            let path: Vec<_> = (-6..=6).map(|i| f(f64::from(i).exp())).collect();
            let found: Minimum = minimise(&path, OPTIONS, |l| Ok::<_, SolveError>(f(l))).unwrap();
            assert!(found.converged && !found.at_end, "{bottom}");
            assert!((found.best.lambda.ln() - bottom).abs() < 1e-7, "{bottom}");
            assert!(
                found.points.len() < path.len() + 14,
                "{}",
                found.points.len()
            );
            assert!(found.points.is_sorted_by(|a, b| a.lambda <= b.lambda));
        }
    }

    #[test]
    fn a_criterion_that_falls_at_the_end_of_the_path_has_no_minimum_in_it() {
        for bottom in [-9.0, 9.0] {
            let f = valley(bottom);
            let path: Vec<_> = (-6..=6).map(|i| f(f64::from(i).exp())).collect();
            let found: Minimum = minimise(&path, OPTIONS, |l| Ok::<_, SolveError>(f(l))).unwrap();
            assert!(found.at_end && !found.converged);
            assert!((found.best.lambda.ln() - bottom.signum() * 6.0).abs() < 1e-9);
        }
    }

    /// A plateau that slopes by less than the tolerance is no minimum either.
    #[test]
    fn a_plateau_at_the_end_of_the_path_is_no_minimum() {
        let f = |lambda: f64| CriterionPoint {
            lambda,
            value: 1.0 + 1e-6 * lambda,
            slope: 1e-6 * lambda,
        };
        let path: Vec<_> = (-6..=6).map(|i| f(f64::from(i).exp())).collect();
        let options = SearchOptions {
            tolerance: 1e-4,
            ..OPTIONS
        };
        let found: Minimum = minimise(&path, options, |l| Ok::<_, SolveError>(f(l))).unwrap();
        assert!(found.at_end && !found.converged);
    }

    /// Of two valleys the search stays in that of the best point, whatever its slope says.
    #[test]
    fn a_second_valley_does_not_lead_away() {
        let f = |lambda: f64| {
            let d = lambda.ln();
            CriterionPoint {
                lambda,
                value: 3.0 - (-(d - 3.0).powi(2)).exp() - 2.0 * (-(d + 2.0).powi(2)).exp(),
                slope: 2.0 * (d - 3.0) * (-(d - 3.0).powi(2)).exp()
                    + 4.0 * (d + 2.0) * (-(d + 2.0).powi(2)).exp(),
            }
        };
        let path: Vec<_> = [-6.0f64, -2.6, 0.5, 2.9, 6.0].map(|d| f(d.exp())).to_vec();
        let found: Minimum = minimise(&path, OPTIONS, |l| Ok::<_, SolveError>(f(l))).unwrap();
        assert!(found.converged && (found.best.lambda.ln() + 2.0).abs() < 1e-4);
    }

    #[test]
    fn a_path_of_one_point_is_refused() {
        let f = valley(0.0);
        assert!(minimise(&[f(1.0)], OPTIONS, |l| Ok::<_, SolveError>(f(l))).is_err());
    }
}
