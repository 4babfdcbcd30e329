//! Demands on single predictions: the best model among those that meet them.
//!
//! With outputs `f = [f0] + J u + b` the model fitted to N samples is the minimum of
//! `L(u, b) = 1/2 ||T - J u - b||^2 + (Lambda/2) ||S^-1 u||^2`. Demands on the outputs at other samples X, such as "as
//! the model before said" or "this class stays on top", are linear. The best model that meets them solves the
//! quadratic program
//!
//! ```text
//!     min over u, b    L(u, b)     subject to     G f(X) <= h     (= h for some rows)                 (1)
//! ```
//!
//! For multipliers mu of the rows let `d = G'mu`. The Lagrangian `L + mu'(G f(X) - h)` is quadratic, with the same
//! Hessian as L. Its minimum is the fit moved by `-H^-1 J_X' d`, thus with W, V, k~ and M of [`crate::influence::dual`]
//! (equations 1 and 5)
//!
//! ```text
//!     f(X)  =  f*(X) - V d                                                                          (2)
//!     u     =  S^2 ( J' [ a + M k~ d / Lambda + B B_X' d / (N Lambda) ] - J_X' d / Lambda )                 (3)
//!     b     =  class means of  T - J u ,  less  B_X' d / N                                           (4)
//! ```
//!
//! and mu minimises the dual, `1/2 mu' G V G' mu - mu' (G f*(X) - h)` with `mu_j >= 0` where row j is no equality
//! ([`convextune_solve::quadratic::nonnegative`]). Only rows that are violated on the way enter (`point.rs`).
//!
//! **Certificate.** At the point, with fresh products: the Lagrangian is Lambda-strongly convex in `v = S^-1 u` once b is
//! minimised out, which (4) does, so that for every feasible point
//!
//! ```text
//!     L  >=  L(u, b) + mu'(G f(X) - h) - ||S g||^2 / (2 Lambda) ,    g = -J'r + J_X'd + Lambda S^-2 u ,  r = T - J u - b     (5)
//! ```
//!
//! and, the coefficients of J' in (3) being s / Lambda, by weak duality (u and s belong together as in
//! [`convextune_solve::Certificate`]'s second bound)
//!
//! ```text
//!     L  >=  L(u, b) + mu'(G f(X) - h) - 1/2 ||r - s||^2 .                                            (6)
//! ```
//!
//! `docs/math/constraints.md`.

mod demands;
mod point;
#[cfg(test)]
mod tests;

use std::time::Instant;

use convextune_model::images::ImageSource;
use convextune_solve::faer::Mat;
use convextune_solve::{Status, Work};
use serde::Serialize;

use crate::error::Error;
use crate::finetune::{error_rate, features::targets};
use crate::influence::{Dual, Linearised, Setting, check_size, dual_of};
use crate::job::{Found, ReadOptions, decode, find};
use crate::model_file::{Header, Model};
use crate::progress::Reporter;
use crate::report::{FitReport, peak_memory};
use crate::samples::Samples;
use crate::update::changed::{body, test};
use crate::update::{Change, What};

pub use demands::{Demand, Wish};
use demands::{Row, rows};
use point::{Point, multipliers, point};

/// Largest violation of a demand, in units of the scores, with which a model is called certified.
pub const VIOLATION: f64 = 1e-3;
/// Largest violation with which a model is written at all.
const REFUSED: f64 = 1e-2;
/// Relative gap at which the multipliers are good enough.
const GAP: f64 = 1e-6;
/// Relative duality gap with which a model is called certified.
pub const CERTIFIED_GAP: f64 = 1e-4;
/// Times that the multipliers are found again from what the outputs really are: kernels are in f32.
const ROUNDS: usize = 5;

/// What is proved about a model under demands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Met {
    /// Pictures with demands.
    pub pictures: usize,
    /// Rows of (1).
    pub demands: usize,
    /// Rows that the model without them did not meet.
    pub unmet_before: usize,
    /// Rows whose multiplier is not zero: which make the model another one.
    pub binding: usize,
    /// Largest violation, in units of the scores; from fresh outputs.
    pub violation: f64,
    /// L of the model without the demands.
    pub objective_before: f64,
    /// The lower bound (5) or (6) of L among all models that meet the demands.
    pub dual_value: f64,
    /// `L - dual_value` over L.
    pub relative_duality_gap: f64,
}

/// A model that meets demands.
#[derive(Clone, Debug)]
pub struct Constrained {
    /// The model; its last change is this one.
    pub model: Model,
    /// What is proved about it.
    pub met: Met,
}

/// The best model that meets `demands`, with the training images, Lambda and s of `model`.
///
/// # Errors
/// When the model's loss is not quadratic or it is under demands already; when its training images are not there or
/// not the same, or too many for the closed form; when a picture cannot be read; when no model meets the demands.
pub fn constrain(
    model: &Model,
    demands: &[Demand],
    options: &ReadOptions,
    reporter: &dyn Reporter,
) -> Result<Constrained, Error> {
    let begin = Instant::now();
    let setting = Setting::of(model)?;
    demands::check(demands, setting.classes)?;
    check_size(&setting, model.header.report.train_samples + demands.len())?;
    let Found { train, held_out } = find(&model.header, options, reporter)?;
    let labels = train.labels();
    let all = train.items().iter().chain(demands.iter().map(|d| &d.item));
    let transform = model.header.transform.clone();
    let mut source = ImageSource::new(
        all.cloned().collect(),
        transform,
        options.cache_memory,
        false,
    );
    reporter.stage("images", source.len() as u64);
    decode(&mut source, reporter)?;
    let (solved, linearised) = solve(
        &setting,
        (Samples::images(source), &labels),
        demands,
        reporter,
    )?;
    let mut header = header(model, &solved, &labels, linearised.work());
    header.report.seconds = begin.elapsed().as_secs_f64();
    let body = body(&setting, header.options.method, &solved.point.minimum);
    let mut model = Model {
        header,
        body,
        kernel: None,
    };
    test(&mut model, held_out, options.cache_memory, reporter)?;
    model.header.report.peak_memory_bytes = peak_memory();
    let met = solved.met;
    Ok(Constrained { model, met })
}

/// The header of the model under demands.
fn header(model: &Model, solved: &Solved, labels: &[usize], work: Work) -> Header {
    let (met, minimum) = (solved.met, &solved.point.minimum);
    let certificate = minimum.certificate;
    let mut header = model.header.clone();
    let certified = met.violation <= VIOLATION
        && met.relative_duality_gap <= CERTIFIED_GAP
        && certificate.relative_gradient_norm <= header.options.tolerance;
    header.changes.push(Change {
        what: What::Constrained,
        samples: met.pictures,
        certified,
    });
    let status = if certified {
        Status::Converged
    } else {
        Status::Stalled
    };
    header.report = FitReport {
        train_error: error_rate(&minimum.outputs, labels),
        leave_one_out_error: None,
        leave_one_of_each_out_error: None,
        objective: certificate.objective,
        relative_gradient_norm: certificate.relative_gradient_norm,
        suboptimality_bound_relative: met.relative_duality_gap.max(0.0),
        status,
        iterations: 0,
        descent: Vec::new(),
        passes: work.passes,
        jvps: work.jvps,
        vjps: work.vjps,
        ..header.report
    };
    header
}

/// The minimum under demands.
struct Solved {
    point: Point,
    met: Met,
}

/// Solves (1): training samples first, then one sample a demand.
fn solve(
    setting: &Setting,
    (samples, labels): (Samples, &[usize]),
    demands: &[Demand],
    reporter: &dyn Reporter,
) -> Result<(Solved, Linearised), Error> {
    let linearised = Linearised::new(setting, samples, reporter)?;
    let (n, classes, q) = (labels.len(), setting.classes, linearised.rows()?);
    let f0 = if setting.keep_f0 {
        linearised.f0(reporter)?
    } else {
        vec![0.0; (n + demands.len()) * classes]
    };
    let mut t = targets(labels, classes, setting.alpha);
    t = Mat::from_fn(n, classes, |i, c| t[(i, c)] - f0[i * classes + c]);
    let kernel = linearised.kernel(reporter)?;
    let (own, asked) = (n * q, demands.len() * q);
    let dual = dual_of(setting, &t, kernel.submatrix(0, 0, own, own).to_owned())?;
    let cross = kernel.submatrix(0, own, own, asked).to_owned();
    let joint = dual.joint(cross, kernel.submatrix(own, own, asked, asked))?;
    drop(kernel);
    let rows: Vec<Row> = rows(demands, setting.alpha, &f0[n * classes..]);
    let before = excess(&rows, &joint.outputs);
    reporter.stage("demands", 0);
    let mut outputs = joint.outputs.clone();
    let mut round = 1;
    loop {
        let mu = multipliers(&rows, &outputs, &joint.covariance, q)
            .map_err(|e| demands::contradiction(demands, &e))?;
        let point = point(
            &linearised,
            setting,
            (&dual, &joint),
            (&t, &f0, &rows, &mu),
            reporter,
        )?;
        let violation = largest(&excess(&rows, &point.asked)) / setting.alpha;
        let gap = point.minimum.certificate.suboptimality_bound_relative;
        if (violation > VIOLATION / 10.0 || gap.abs() > GAP) && round < ROUNDS {
            // What the model says less what (2) said it would.
            let said = point::moved(&outputs, &joint.covariance, &rows, &mu, q);
            outputs += &point.asked - said;
            round += 1;
            continue;
        }
        if violation > REFUSED {
            return Err(demands::unmet(demands, violation));
        }
        let met = Met {
            pictures: demands.len(),
            demands: rows.len(),
            unmet_before: before
                .iter()
                .filter(|e| **e > VIOLATION * setting.alpha)
                .count(),
            binding: mu.iter().filter(|mu| **mu != 0.0).count(),
            violation,
            objective_before: objective(&dual),
            dual_value: point.dual_value,
            relative_duality_gap: gap,
        };
        return Ok((Solved { point, met }, linearised));
    }
}

/// L of the fit without demands: `Lambda/2 <a, T>`, since its residuals are Lambda a and `K a + b = T - Lambda a`.
fn objective(dual: &Dual) -> f64 {
    let (a, t) = (dual.a(), dual.target());
    let column = |c: usize| a.col(c).transpose() * t.col(c);
    dual.lambda() / 2.0 * (0..a.ncols()).map(column).sum::<f64>()
}

/// How far every row is from being met, at least 0 but for what inequalities have to spare.
fn excess(rows: &[Row], outputs: &Mat<f64>) -> Vec<f64> {
    rows.iter().map(|row| row.excess(outputs)).collect()
}

fn largest(excess: &[f64]) -> f64 {
    excess.iter().fold(0.0, |a, b| a.max(*b))
}
