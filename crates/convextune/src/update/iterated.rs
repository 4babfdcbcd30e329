//! The minimum over a changed training set by conjugate gradients, where the kernel is too large to be held.
//!
//! They begin at the old model: with the old weights u and the bias fitted again, the residual over the new set is
//! `r = P (T - J u)`, and at a minimum `a = r / Lambda` (the dual's optimality condition), so `a_0 = r / Lambda`. For
//! a primal preconditioner (K-FAC, EKFAC) u itself is the start. Preconditioned as the fit was; with the features'
//! preconditioner where the fit had the kernel.
//!
//! The start is nearly the end when little changes, and a relative gradient norm that is small enough for a fit may be
//! reached before anything has been forgotten. So the gradient is asked to fall to a thousandth of the share of the
//! images that came or went, down to the precision of the products ([`FINEST`]).

use convextune_solve::quadratic::{PcgOptions, RidgeProblem, Start};
use convextune_solve::{Centred, LinearOperator, Scaled};

use super::minimum::{Minimum, Point, watch};
use crate::error::Error;
use crate::finetune::features::targets;
use crate::finetune::{
    FitOptions, LambdaSource, Plan, PreconditionerChoice, Prepared, Prior, SolverChoice, statistics,
};
use crate::influence::{Linearised, Setting};
use crate::linearize::Copies;
use crate::model_file::{Header, Model};
use crate::progress::Reporter;

/// Part of the share of images that were changed, to which the relative gradient norm must fall.
const TRACE: f64 = 1e-3;
/// The smallest relative gradient norm that is asked for.
const FINEST: f64 = 1e-5;

/// Where to begin, how, and how far to go.
#[derive(Clone, Debug)]
pub(super) struct Iterated {
    /// The old u, if there are as many classes; weight-major where every class has a copy.
    pub warm: Option<Vec<f32>>,
    /// The fit's, sketch size included.
    pub plan: Plan,
    /// Lambda and s, and how much of the kernel is the backbone's, as the fit had it.
    pub prior: Prior,
    /// Relative gradient norm to reach.
    pub tolerance: f64,
}

impl Iterated {
    /// For a change of `changed` images out of `all`, of `model` to `setting`.
    pub fn new(model: &Model, setting: &Setting, changed: usize, all: usize) -> Self {
        let Header {
            options, report, ..
        } = &model.header;
        let plan = match report.plan {
            Some(plan) if plan.solver == SolverChoice::Pcg => plan,
            _ => Plan {
                solver: SolverChoice::Pcg,
                precondition: PreconditionerChoice::Features,
                sketch_size: 0,
                expected_cost: 0.0,
            },
        };
        let unit = report.kernel_mean_diagonal.unwrap_or(0.0);
        let share = report.backbone_share.unwrap_or(0.0);
        Self {
            warm: (setting.classes == model.header.classes.len())
                .then(|| model.body.trained().to_vec()),
            plan,
            prior: Prior {
                lambda: setting.lambda,
                scale: setting.scale,
                source: LambdaSource::Given,
                unit,
                backbone_unit: unit * share / (1.0 + share),
            },
            tolerance: tolerance(options.tolerance, changed, all),
        }
    }

    /// The minimum over the samples of `linearised`, with their labels.
    ///
    /// # Errors
    /// When a sample cannot be read, or a factorisation fails.
    pub fn minimum(
        &self,
        linearised: &Linearised,
        setting: &Setting,
        labels: &[usize],
        options: &FitOptions,
        reporter: &dyn Reporter,
    ) -> Result<Minimum, Error> {
        let f0 = if setting.keep_f0 {
            Some(linearised.f0(reporter)?)
        } else {
            None
        };
        let y = targets(labels, setting.classes, setting.alpha);
        let target: Vec<f64> = (0..labels.len() * setting.classes)
            .map(|r| {
                let own = f0.as_ref().map_or(0.0, |f0| f0[r]);
                y[(r / setting.classes, r % setting.classes)] - own
            })
            .collect();
        linearised.with(reporter, |lin| {
            let jacobian = Copies::new(lin, setting.copies)?;
            let scaled = Scaled::new(&jacobian, jacobian.backbone_range(), setting.scale)?;
            let centred = Centred::new(&scaled, setting.classes)?;
            let problem = RidgeProblem::new(&centred, centred.target(&target)?, setting.lambda)?;
            let prepared = statistics(lin, &self.plan, options, reporter)?;
            let prepared = prepared.prepare(lin, &self.prior)?;
            let start = self.start(&problem, &prepared, &jacobian, setting)?;
            reporter.stage("solver", 0);
            let pcg = PcgOptions {
                tolerance: self.tolerance,
                max_iterations: options.max_passes / 2,
            };
            let mut observer = watch(reporter);
            let solved = prepared.solve(&problem, setting.copies, &pcg, start, &mut observer)?;
            let solver_work = lin.work();
            reporter.stage("training error", labels.len() as u64);
            let point = Point::at(&jacobian, &scaled, solved.x)?;
            Ok(Minimum {
                status: solved.status,
                iterations: solved.iterations,
                ..point.minimum(setting, &target, solved.certificate, solver_work)
            })
        })
    }

    fn start(
        &self,
        problem: &RidgeProblem<'_>,
        prepared: &Prepared,
        jacobian: &Copies<'_, '_>,
        setting: &Setting,
    ) -> Result<Start, Error> {
        let Some(u) = &self.warm else {
            return Ok(Start::Zero);
        };
        let mut v: Vec<f64> = u.iter().map(|u| f64::from(*u)).collect();
        v[jacobian.backbone_range()]
            .iter_mut()
            .for_each(|v| *v /= setting.scale);
        if matches!(prepared, Prepared::Curvature(..)) {
            return Ok(Start::Warm(v));
        }
        let mut image = vec![0.0; problem.operator().rows()];
        problem.operator().apply(&v, &mut image)?;
        let residual = problem.target().iter().zip(&image);
        let a = residual.map(|(t, f)| (t - f) / setting.lambda);
        Ok(Start::Warm(a.collect()))
    }
}

/// The relative gradient norm to reach for a change of `changed` images out of `all`.
pub(super) fn tolerance(fit: f64, changed: usize, all: usize) -> f64 {
    let share = changed as f64 / all.max(1) as f64;
    fit.min((TRACE * share).max(FINEST))
}
