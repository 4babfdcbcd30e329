//! What is computed before the first iteration: the dual kernel, its sketch, or the curvature;
//! and the solver that goes with each.

use std::ops::Range;

use convextune_solve::faer::MatMut;
use convextune_solve::quadratic::{
    Columns, FeaturePreconditioner, Identity, Intercept, KernelCholesky, KernelInverse,
    KernelParts, KernelRidge, PcgOptions, Preconditioner, RidgeProblem, SketchForm, SketchedKernel,
    Start, solve_dual, solve_primal,
};
use convextune_solve::{Observer, Solution};
use serde::{Deserialize, Serialize};

use super::features::Features;
use super::options::{FitOptions, PreconditionerChoice, SolverChoice};
use super::plan::{KERNEL_BYTES, Plan};
use super::prior::Prior;
use crate::error::Error;
use crate::kept_kernel::{KeptKernel, is_kept};
use crate::linearize::{Curvature, CurvatureOptions, Linearization, SketchOptions, SketchedRows};
use crate::progress::Reporter;

/// What is computed before the prior is known: it serves every Lambda and every scale.
pub(crate) enum Statistics {
    Kernel(KernelParts),
    Sketch(SketchedRows),
    Features(Features),
    Curvature(Curvature),
    Nothing,
}

/// Computes the kernel, the sketch or the curvature.
pub(crate) fn statistics(
    lin: &Linearization<'_>,
    plan: &Plan,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Statistics, Error> {
    let n = lin.samples().len() as u64;
    if plan.solver == SolverChoice::Dual {
        reporter.stage("dual kernel", n * lin.kernel_passes(KERNEL_BYTES) as u64);
        return Ok(Statistics::Kernel(lin.kernel(KERNEL_BYTES)?));
    }
    match plan.precondition {
        PreconditionerChoice::Sketch => {
            reporter.stage("sketch", n);
            let options = SketchOptions {
                buckets: plan.sketch_size,
                seed: options.seed,
                sketch_head: false,
            };
            Ok(Statistics::Sketch(lin.sketch(options)?))
        }
        PreconditionerChoice::Kfac | PreconditionerChoice::Ekfac => {
            let rescale = plan.precondition == PreconditionerChoice::Ekfac;
            reporter.stage("curvature", n * (1 + u64::from(rescale)));
            let options = CurvatureOptions {
                probes: 1,
                seed: options.seed,
                rescale,
            };
            Ok(Statistics::Curvature(lin.curvature(options)?))
        }
        PreconditionerChoice::Features => Ok(Statistics::Features(Features::of_head(
            lin,
            options.batch,
            reporter,
        )?)),
        PreconditionerChoice::Auto | PreconditionerChoice::None => Ok(Statistics::Nothing),
    }
}

impl Statistics {
    /// The kernel under a prior, for the model file, if there is one and it is `wanted`.
    pub(super) fn kept(&self, prior: &Prior, wanted: Option<bool>) -> Option<KeptKernel> {
        match self {
            Self::Kernel(parts) if is_kept(parts.samples() * parts.classes(), wanted) => {
                Some(KeptKernel::new(parts.kernel(prior.scale).as_ref()))
            }
            _ => None,
        }
    }

    /// The solver under a prior, for one copy of the weights.
    pub(crate) fn prepare(self, lin: &Linearization<'_>, prior: &Prior) -> Result<Prepared, Error> {
        let scale = prior.scale;
        Ok(match self {
            Self::Kernel(parts) => Prepared::Kernel(KernelRidge::new(
                parts.kernel(scale),
                lin.outputs(),
                Intercept::Free,
            )?),
            Self::Sketch(rows) => {
                let phi = Features::from_rows(&rows.features, lin.samples().len());
                let mut sketch = rows.sketch;
                sketch.scale(scale);
                Prepared::Sketch(SketchedKernel::new(
                    sketch,
                    Some(phi.phi.as_ref()),
                    Intercept::Free,
                    SketchForm::Auto,
                )?)
            }
            Self::Features(phi) => Prepared::Features(FeaturePreconditioner::new(
                phi.phi.as_ref(),
                lin.outputs(),
                Intercept::Free,
                prior.lambda + prior.backbone_unit,
            )?),
            Self::Curvature(curvature) => {
                Prepared::Curvature(curvature, lin.backbone_range(), scale)
            }
            Self::Nothing => Prepared::Nothing,
        })
    }
}

/// A solver under one prior.
pub(crate) enum Prepared {
    Kernel(KernelRidge),
    Sketch(SketchedKernel),
    Features(FeaturePreconditioner),
    Curvature(Curvature, Range<usize>, f64),
    Nothing,
}

impl Prepared {
    /// M, for leaving samples out, where the kernel of all samples is at hand and every class has a copy of the
    /// weights (then the head has seen no label).
    pub(super) fn inverse(
        &self,
        lambda: f64,
        copies: usize,
    ) -> Result<Option<KernelInverse>, Error> {
        match self {
            Self::Kernel(kernel) if copies > 1 => Ok(Some(kernel.cholesky(lambda)?.inverse())),
            _ => Ok(None),
        }
    }

    pub(crate) fn solve(
        &self,
        problem: &RidgeProblem<'_>,
        copies: usize,
        options: &PcgOptions,
        start: Start,
        observer: &mut dyn Observer,
    ) -> Result<Solution, Error> {
        let rows = problem.operator().rows();
        Ok(match self {
            Self::Kernel(kernel) => return closed_form(kernel, problem, copies, options, observer),
            Self::Sketch(kernel) => {
                let preconditioner = kernel.factorise(problem.lambda())?;
                solve_dual(
                    problem,
                    &Columns(preconditioner.as_ref(), copies),
                    options,
                    start,
                    observer,
                )?
            }
            Self::Features(m) => {
                solve_dual(problem, &Columns(m, copies), options, start, observer)?
            }
            Self::Curvature(curvature, backbone, scale) => {
                let preconditioner = curvature.preconditioner(problem.lambda())?;
                let preconditioner = preconditioner.scaled(backbone, *scale)?;
                solve_primal(
                    problem,
                    &Columns(&preconditioner, copies),
                    options,
                    start,
                    observer,
                )?
            }
            Self::Nothing => solve_dual(problem, &Identity(rows), options, start, observer)?,
        })
    }
}

/// The system that a preconditioner is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// `S J'P J S + Lambda I`, of the unknowns.
    Primal,
    /// `P K P + Lambda I` on centred vectors, of the rows.
    Dual,
}

/// A preconditioner and the system that it is for.
type ForSystem<'a> = (System, Box<dyn Preconditioner + 'a>);

impl Prepared {
    /// The preconditioner for one copy of the weights, where there is one, and its system.
    pub(crate) fn preconditioner(&self, lambda: f64) -> Result<Option<ForSystem<'_>>, Error> {
        Ok(match self {
            Self::Sketch(kernel) => Some((System::Dual, kernel.factorise(lambda)?)),
            Self::Features(m) => Some((System::Dual, Box::new(Columns(m, 1)))),
            Self::Curvature(curvature, backbone, scale) => {
                let blocks = curvature.preconditioner(lambda)?;
                Some((System::Primal, Box::new(blocks.scaled(backbone, *scale)?)))
            }
            Self::Kernel(_) | Self::Nothing => None,
        })
    }
}

/// One Cholesky of the exact kernel, as the start and the preconditioner of conjugate gradients:
/// where f32 products and the f64 kernel differ, one refinement step remains, usually none.
fn closed_form(
    kernel: &KernelRidge,
    problem: &RidgeProblem<'_>,
    copies: usize,
    options: &PcgOptions,
    observer: &mut dyn Observer,
) -> Result<Solution, Error> {
    let factor = kernel.cholesky(problem.lambda())?;
    let inverse = Factor(&factor, kernel.kernel().nrows());
    let inverse = Columns(&inverse, copies);
    let mut a = vec![0.0; problem.target().len()];
    inverse.apply(problem.target(), &mut a);
    Ok(solve_dual(
        problem,
        &inverse,
        options,
        Start::Warm(a),
        observer,
    )?)
}

/// The kernel's Cholesky factor as a preconditioner.
struct Factor<'a>(&'a KernelCholesky, usize);

impl Preconditioner for Factor<'_> {
    fn dim(&self) -> usize {
        self.1
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        z.copy_from_slice(r);
        let n = z.len();
        self.apply_columns(MatMut::from_column_major_slice_mut(z, n, 1));
    }

    fn apply_columns(&self, r: MatMut<'_, f64>) {
        self.0.dual_columns(r);
    }
}
