//! Multipliers of the demands, and the model that belongs to them, certified.

use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::quadratic::nonnegative;
use convextune_solve::{Certificate, LinearOperator, Scaled, SolveError, Status, Work};

use super::demands::Row;
use crate::error::Error;
use crate::influence::{Dual, Joint, Linearised, Setting};
use crate::linearize::Copies;
use crate::progress::Reporter;
use crate::update::minimum::Minimum;

/// Part of V's largest entry that its diagonal is raised by: the rounding of kernels in f32.
const JITTER: f64 = 1e-7;
/// What is taken for met, in units of the largest output.
const ROUNDING: f64 = 1e-9;

/// A point of program (1), with fresh outputs.
pub(super) struct Point {
    /// Weights, bias, and outputs on the training samples.
    pub minimum: Minimum,
    /// Outputs at the pictures with demands, without f0, `n x C`.
    pub asked: Mat<f64>,
    /// The lower bound (5) or (6), whichever is higher.
    pub dual_value: f64,
}

/// The multipliers of all rows, where `outputs` (`n x C`) are those of the fit without demands and `covariance` is V.
///
/// ```text
///     working set <- equalities
///     repeat
///         mu <- minimum of the dual over the working set
///         f  <- f* - V G'mu
///         working set <- and the most violated row of every picture; stop if there is none
/// ```
pub(super) fn multipliers(
    rows: &[Row],
    outputs: &Mat<f64>,
    covariance: &Mat<f64>,
    q: usize,
) -> Result<Vec<f64>, SolveError> {
    let met = ROUNDING * outputs.norm_max().max(f64::MIN_POSITIVE);
    let mut working: Vec<usize> = (0..rows.len()).filter(|r| rows[*r].equality).collect();
    loop {
        let mut mu = vec![0.0; rows.len()];
        if !working.is_empty() {
            let part: Vec<&Row> = working.iter().map(|r| &rows[*r]).collect();
            let hessian = gram(&part, covariance, outputs.ncols(), q);
            let right: Vec<f64> = part.iter().map(|row| row.value(outputs)).collect();
            let equality: Vec<bool> = part.iter().map(|row| row.equality).collect();
            let solved = nonnegative(hessian.as_ref(), &right, &equality)?;
            working.iter().zip(solved).for_each(|(r, m)| mu[*r] = m);
        }
        let now = moved(outputs, covariance, rows, &mu, q);
        let mut worst: Vec<Option<(usize, f64)>> = vec![None; outputs.nrows()];
        for (r, row) in rows.iter().enumerate() {
            let excess = row.value(&now);
            let place = &mut worst[row.picture];
            if !row.equality && excess > met && place.is_none_or(|(_, most)| excess > most) {
                *place = Some((r, excess));
            }
        }
        let joining: Vec<usize> = worst.iter().flatten().map(|w| w.0).collect();
        let before = working.len();
        working.extend(joining.into_iter().filter(|r| mu[*r] == 0.0));
        working.sort_unstable();
        working.dedup();
        if working.len() == before {
            return Ok(mu);
        }
    }
}

/// `G V G'` of some rows, its diagonal raised a little.
fn gram(rows: &[&Row], covariance: &Mat<f64>, classes: usize, q: usize) -> Mat<f64> {
    let p = classes / q;
    let raised = JITTER * covariance.norm_max();
    let entry = |x: usize, c: usize, y: usize, d: usize| {
        let apart = f64::from(u8::from((x, c) == (y, d))) * raised;
        if c % p == d % p {
            covariance[(x * q + c / p, y * q + d / p)] + apart
        } else {
            0.0
        }
    };
    Mat::from_fn(rows.len(), rows.len(), |i, j| {
        let (a, b) = (rows[i], rows[j]);
        let pairs = a
            .terms
            .iter()
            .flat_map(|s| b.terms.iter().map(move |t| (s, t)));
        pairs
            .map(|((c, f), (d, g))| f * g * entry(a.picture, *c, b.picture, *d))
            .sum()
    })
}

/// `d = G'mu`, `nq x p`.
fn pull(rows: &[Row], mu: &[f64], (n, classes, q): (usize, usize, usize)) -> Mat<f64> {
    let p = classes / q;
    let mut d = Mat::zeros(n * q, p);
    for (row, mu) in rows.iter().zip(mu).filter(|(_, mu)| **mu != 0.0) {
        for (c, factor) in &row.terms {
            d[(row.picture * q + c / p, c % p)] += factor * mu;
        }
    }
    d
}

/// `f* - V d` (equation 2), `n x C`.
pub(super) fn moved(
    outputs: &Mat<f64>,
    covariance: &Mat<f64>,
    rows: &[Row],
    mu: &[f64],
    q: usize,
) -> Mat<f64> {
    let (n, classes) = (outputs.nrows(), outputs.ncols());
    let p = classes / q;
    let change = covariance * pull(rows, mu, (n, classes, q));
    Mat::from_fn(n, classes, |x, c| {
        outputs[(x, c)] - change[(x * q + c / p, c % p)]
    })
}

/// The point that belongs to multipliers (equations 3 and 4), with its certificate (5) by fresh products over the
/// training samples and the pictures. `targets` are less `f0`, `N x C`.
pub(super) fn point(
    linearised: &Linearised,
    setting: &Setting,
    (dual, joint): (&Dual, &Joint),
    (targets, f0, rows, mu): (&Mat<f64>, &[f64], &[Row], &[f64]),
    reporter: &dyn Reporter,
) -> Result<Point, Error> {
    let (n, asked, classes) = (dual.samples(), joint.outputs.nrows(), setting.classes);
    let (q, lambda, all) = (dual.rows(), setting.lambda, (n + asked) * classes);
    let d = pull(rows, mu, (asked, classes, q));
    let coefficients = coefficients(dual, joint.dual.as_ref(), &d);
    linearised.with(reporter, |lin| {
        let jacobian = Copies::new(lin, setting.copies)?;
        let scaled = Scaled::new(&jacobian, jacobian.backbone_range(), setting.scale)?;
        reporter.stage("certificate", 4 * lin.samples().len() as u64);
        let (mut v, mut jv) = (vec![0.0; scaled.cols()], vec![0.0; all]);
        scaled.apply_adjoint(&coefficients, &mut v)?;
        scaled.apply(&v, &mut jv)?;
        let pulls: Vec<f64> = d_by_sample(&d, classes, q);
        let bias = bias(targets, &jv, &pulls);
        let output = |i: usize, c: usize| jv[i * classes + c] + bias[c];
        let residual = Mat::from_fn(n, classes, |i, c| targets[(i, c)] - output(i, c));
        let mut cotangent = vec![0.0; all];
        for (k, y) in cotangent.iter_mut().enumerate() {
            let i = k / classes;
            *y = if i < n {
                -residual[(i, k % classes)]
            } else {
                pulls[k - n * classes]
            };
        }
        let mut g = vec![0.0; scaled.cols()];
        scaled.apply_adjoint(&cotangent, &mut g)?;
        g.iter_mut().zip(&v).for_each(|(g, v)| *g += lambda * v);
        let at_zero = zero_gradient(&scaled, targets, all)?;
        let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        let objective = 0.5 * (residual.squared_norm_l2() + lambda * square(&v));
        let asked = Mat::from_fn(asked, classes, |x, c| output(n + x, c));
        let slack: f64 = rows
            .iter()
            .zip(mu)
            .map(|(row, mu)| mu * row.value(&asked))
            .sum();
        let apart = |k: usize| residual[(k / classes, k % classes)] - lambda * coefficients[k];
        let by_dual: f64 = (0..n * classes).map(|k| apart(k).powi(2)).sum::<f64>() / 2.0;
        let bound = by_dual.min(square(&g) / (2.0 * lambda));
        let dual_value = objective + slack - bound;
        let certificate = Certificate {
            objective,
            gradient_norm: square(&g).sqrt(),
            relative_gradient_norm: square(&g).sqrt() / at_zero.max(f64::MIN_POSITIVE),
            suboptimality_bound: objective - dual_value,
            suboptimality_bound_relative: (objective - dual_value) / objective,
            duality_gap: Some(objective - dual_value),
            energy_norm_estimate: None,
        };
        scaled.scale(&mut v);
        let outputs = Mat::from_fn(n, classes, |i, c| output(i, c) + f0[i * classes + c]);
        Ok(Point {
            minimum: Minimum {
                u: v,
                bias,
                outputs,
                certificate,
                status: Status::Converged,
                iterations: 0,
                solver_work: Work::default(),
            },
            asked,
            dual_value,
        })
    })
}

/// Coefficients of the rows of J in u (equation 3), training samples first, sample-major.
fn coefficients(dual: &Dual, m_k: MatRef<'_, f64>, d: &Mat<f64>) -> Vec<f64> {
    let (q, p, lambda) = (dual.rows(), d.ncols(), dual.lambda());
    let n = dual.samples() as f64;
    let total = Mat::from_fn(q, p, |s, c| d.col(c).iter().skip(s).step_by(q).sum::<f64>());
    let moved = m_k * d;
    let own =
        |r: usize, c: usize| dual.a()[(r, c)] + (moved[(r, c)] + total[(r % q, c)] / n) / lambda;
    let rows = moved.nrows();
    let entry = |r: usize, c: usize| {
        if r < rows {
            own(r, c)
        } else {
            -d[(r - rows, c)] / lambda
        }
    };
    (0..(rows + d.nrows()) * p)
        .map(|k| entry(k / p, k % p))
        .collect()
}

/// d by sample and class.
fn d_by_sample(d: &Mat<f64>, classes: usize, q: usize) -> Vec<f64> {
    let p = classes / q;
    let entry = |k: usize| {
        let (x, c) = (k / classes, k % classes);
        d[(x * q + c / p, c % p)]
    };
    (0..d.nrows() * p).map(entry).collect()
}

/// Equation (4).
fn bias(targets: &Mat<f64>, jv: &[f64], pulls: &[f64]) -> Vec<f64> {
    let (n, classes) = (targets.nrows(), targets.ncols());
    let of = |c: usize| {
        let left: f64 = (0..n).map(|i| targets[(i, c)] - jv[i * classes + c]).sum();
        let pulled: f64 = pulls.iter().skip(c).step_by(classes).sum();
        (left - pulled) / n as f64
    };
    (0..classes).map(of).collect()
}

/// `||S grad L(0)||`, the bias minimised out.
fn zero_gradient(scaled: &Scaled<'_>, targets: &Mat<f64>, all: usize) -> Result<f64, Error> {
    let (n, classes) = (targets.nrows(), targets.ncols());
    let mean = |c: usize| targets.col(c).iter().sum::<f64>() / n as f64;
    let means: Vec<f64> = (0..classes).map(mean).collect();
    let centred = |k: usize| match k / classes {
        i if i < n => targets[(i, k % classes)] - means[k % classes],
        _ => 0.0,
    };
    let mut g = vec![0.0; scaled.cols()];
    scaled.apply_adjoint(&(0..all).map(centred).collect::<Vec<_>>(), &mut g)?;
    Ok(g.iter().map(|g| g * g).sum::<f64>().sqrt())
}
