//! The head-only methods on frozen features: `lqf-fc` (squared loss, closed form) and `fc`
//! (multinomial logistic loss). Each chooses its weight decay from the training data alone.

use convextune_solve::faer::Mat;
use convextune_solve::logistic::{LogisticOptions, LogisticRegression};
use convextune_solve::quadratic::{HeadFit, HeadRidge, Intercept, log_grid};
use convextune_solve::{Progress, Status};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

use super::descent::{Descent, DescentPoint};
use super::features::{Features, targets};
use super::head::choose_lambda;
use super::left_out::one_of_each_out;
use super::options::{FitOptions, WeightDecay};
use super::plan::largest_kernel;
use super::prior::LambdaSource;
use crate::error::Error;
use crate::kept_kernel::{KeptKernel, is_kept};
use crate::progress::Reporter;

/// Folds of the cross validation that chooses the penalty of `fc`.
const FOLDS: usize = 5;

/// What is known about a fitted head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadRecord {
    /// Lambda.
    pub lambda: f64,
    /// Where it came from.
    pub lambda_source: LambdaSource,
    /// The objective at the returned point.
    pub objective: f64,
    /// Gradient norm relative to that at zero, computed at the returned point.
    pub relative_gradient_norm: f64,
    /// Proven bound on the distance to the minimum, relative to the objective.
    pub suboptimality_bound_relative: f64,
    /// How the solver ended.
    pub status: Status,
    /// Share of training samples that the leave-one-out model gets wrong (`lqf-fc` only).
    pub leave_one_out_error: Option<f64>,
    /// The same with one sample of every other class left out as well (`lqf-fc` only).
    pub leave_one_of_each_out_error: Option<f64>,
    /// How the solver came down (`fc` only).
    pub descent: Vec<DescentPoint>,
}

/// A fitted head.
#[derive(Clone, Debug)]
pub struct HeadOnlyFit {
    /// Weights `d x C` and bias.
    pub head: HeadFit,
    /// What is known about it.
    pub record: HeadRecord,
    /// Outputs on the training samples, `N x C`.
    pub outputs: Mat<f64>,
    /// The kernel `Phi Phi'`, where it is to be kept (`lqf-fc` only).
    pub kernel: Option<KeptKernel>,
}

/// Squared loss with targets alpha onehot(y), in closed form.
///
/// # Errors
/// When the features admit no solution.
pub fn fit_lqf_fc(
    features: &Features,
    (labels, classes): (&[usize], usize),
    options: &FitOptions,
) -> Result<HeadOnlyFit, Error> {
    let ridge = HeadRidge::new(features.phi.as_ref(), Intercept::Free)?;
    let t = targets(labels, classes, options.alpha);
    let (lambda, lambda_source) = match given(options, labels.len()) {
        Some(lambda) => (lambda, LambdaSource::Given),
        None => (choose_lambda(&ridge, &t)?.lambda, LambdaSource::LeaveOneOut),
    };
    let head = ridge.fit(t.as_ref(), lambda)?;
    let held_out = ridge.leave_one_out_predictions(t.as_ref(), lambda)?;
    let block = |group: &[usize]| ridge.inverse_block(group, lambda);
    let a = ridge.dual(t.as_ref(), lambda)?;
    let of_each = one_of_each_out(&t, a.as_ref(), labels, options.seed, block);
    let outputs = head.predict(features.phi.as_ref())?;
    let certificate = ridge.certificate(features.phi.as_ref(), t.as_ref(), &head, lambda)?;
    let record = HeadRecord {
        lambda,
        lambda_source,
        objective: certificate.objective,
        relative_gradient_norm: certificate.relative_gradient_norm,
        suboptimality_bound_relative: certificate.suboptimality_bound_relative,
        status: Status::Converged,
        leave_one_out_error: Some(error_rate(&held_out, labels)),
        leave_one_of_each_out_error: of_each,
        descent: Vec::new(),
    };
    let (n, phi) = (labels.len(), &features.phi);
    let wanted = n <= largest_kernel(true, false) && is_kept(n, options.keep_kernel);
    let kernel = wanted.then(|| KeptKernel::new((phi * phi.transpose()).as_ref()));
    Ok(HeadOnlyFit {
        head,
        record,
        outputs,
        kernel,
    })
}

/// Multinomial logistic regression.
///
/// # Errors
/// When the features admit no solution.
pub fn fit_fc(
    features: &Features,
    (labels, classes): (&[usize], usize),
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<HeadOnlyFit, Error> {
    let problem = LogisticRegression::new(features.phi.as_ref(), labels, classes)?;
    let (lambda, lambda_source) = if let Some(lambda) = given(options, labels.len()) {
        (lambda, LambdaSource::Given)
    } else {
        reporter.stage("cross validation", 0);
        let unit = problem.mean_square().max(f64::MIN_POSITIVE);
        let grid = log_grid(1e-5 * unit, 10.0 * unit, 13)?;
        let rough = LogisticOptions {
            tolerance: 1e-3,
            ..LogisticOptions::default()
        };
        let folds = problem.cross_validate(&grid, FOLDS, options.seed, &rough)?;
        (folds.choice.lambda, LambdaSource::CrossValidation)
    };
    let exact = LogisticOptions {
        tolerance: options.tolerance.min(1e-6),
        ..Default::default()
    };
    let mut descent = Descent::default();
    let mut observer = |progress: &Progress<'_>| {
        reporter.iteration(&progress.record);
        descent.push(&progress.record);
        ControlFlow::Continue(())
    };
    reporter.stage("solver", 0);
    let fit = problem.fit(lambda, &exact, None, &mut observer)?;
    let outputs = fit.head.predict(features.phi.as_ref())?;
    let record = HeadRecord {
        lambda,
        lambda_source,
        objective: fit.certificate.objective,
        relative_gradient_norm: fit.certificate.relative_gradient_norm,
        suboptimality_bound_relative: fit.certificate.duality_gap_relative,
        status: fit.status,
        leave_one_out_error: None,
        leave_one_of_each_out_error: None,
        descent: descent.into_points(),
    };
    Ok(HeadOnlyFit {
        head: fit.head,
        record,
        outputs,
        kernel: None,
    })
}

fn given(options: &FitOptions, n: usize) -> Option<f64> {
    match options.weight_decay {
        WeightDecay::Auto => None,
        WeightDecay::PerSample(each) => Some(each * n as f64),
        WeightDecay::Total(total) => Some(total),
    }
}

/// Share of rows of `outputs` whose largest entry is not at the row's label.
pub fn error_rate(outputs: &Mat<f64>, labels: &[usize]) -> f64 {
    let wrong = (0..labels.len())
        .filter(|i| predicted(outputs, *i) != labels[*i])
        .count();
    wrong as f64 / labels.len().max(1) as f64
}

/// The class with the largest output of row `i`; the first of equals.
pub fn predicted(outputs: &Mat<f64>, i: usize) -> usize {
    let mut best = 0;
    for c in 1..outputs.ncols() {
        if outputs[(i, c)] > outputs[(i, best)] {
            best = c;
        }
    }
    best
}
