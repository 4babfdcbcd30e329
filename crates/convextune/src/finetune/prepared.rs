//! What is computed before the first iteration: the dual kernel, its sketch, or the curvature;
//! and the solver that goes with each.

use convextune_solve::quadratic::{
    Identity, Intercept, KernelCholesky, KernelRidge, PcgOptions, Preconditioner, RidgeProblem,
    Sketch, SketchForm, SketchedKernel, Start, solve_dual, solve_primal,
};
use convextune_solve::{Observer, Solution};

use super::features::Features;
use super::options::{FitOptions, PreconditionerChoice, SolverChoice};
use super::plan::{KERNEL_BYTES, Plan};
use super::weight_decay::Evidence;
use crate::error::Error;
use crate::linearize::{Curvature, CurvatureOptions, Linearization, SketchOptions, SketchedRows};
use crate::progress::Reporter;

/// What was computed before the first iteration.
pub(super) enum Prepared {
    Kernel(KernelRidge),
    Sketch {
        rows: Option<SketchedRows>,
        kernel: SketchedKernel,
    },
    Curvature(Curvature),
    Nothing,
}

/// Computes the kernel, the sketch or the curvature, none of which depends on Lambda.
pub(super) fn prepare(
    lin: &Linearization<'_>,
    plan: &Plan,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Prepared, Error> {
    let n = lin.samples().len() as u64;
    if plan.solver == SolverChoice::Dual {
        reporter.stage("dual kernel", n * lin.kernel_passes(KERNEL_BYTES) as u64);
        let kernel = lin.kernel(KERNEL_BYTES)?;
        return Ok(Prepared::Kernel(KernelRidge::new(
            kernel,
            lin.outputs(),
            Intercept::Free,
        )?));
    }
    match plan.precondition {
        PreconditionerChoice::Sketch => {
            reporter.stage("sketch", n);
            let options = SketchOptions {
                buckets: plan.sketch_size,
                seed: options.seed,
                sketch_head: false,
            };
            let rows = lin.sketch(options)?;
            let phi = features(&rows, lin.samples().len());
            let kernel = SketchedKernel::new(
                rows.sketch.clone(),
                Some(phi.phi.as_ref()),
                Intercept::Free,
                SketchForm::Auto,
            )?;
            Ok(Prepared::Sketch {
                rows: Some(rows),
                kernel,
            })
        }
        PreconditionerChoice::Kfac | PreconditionerChoice::Ekfac => {
            let rescale = plan.precondition == PreconditionerChoice::Ekfac;
            reporter.stage("curvature", n * (1 + u64::from(rescale)));
            let options = CurvatureOptions {
                probes: 1,
                seed: options.seed,
                rescale,
            };
            Ok(Prepared::Curvature(lin.curvature(options)?))
        }
        PreconditionerChoice::Auto | PreconditionerChoice::None => Ok(Prepared::Nothing),
    }
}

/// The features of a sketch as a matrix.
pub(crate) fn features(rows: &SketchedRows, n: usize) -> Features {
    Features::from_rows(&rows.features, n)
}

impl Prepared {
    /// What the choice of Lambda can look at.
    pub(super) fn rows(&self) -> Evidence<'_> {
        match self {
            Self::Kernel(kernel) => Evidence::Kernel(kernel),
            Self::Sketch {
                rows: Some(rows), ..
            } => Evidence::Sketch(rows),
            _ => Evidence::Nothing,
        }
    }

    pub(super) fn solve(
        &self,
        problem: &RidgeProblem<'_>,
        options: &PcgOptions,
        start: Start,
        observer: &mut dyn Observer,
    ) -> Result<Solution, Error> {
        let rows = problem.operator().rows();
        match self {
            Self::Kernel(kernel) => closed_form(kernel, problem, options, observer),
            Self::Sketch { kernel, .. } => {
                let preconditioner = kernel.factorise(problem.lambda())?;
                Ok(solve_dual(
                    problem,
                    preconditioner.as_ref(),
                    options,
                    start,
                    observer,
                )?)
            }
            Self::Curvature(curvature) => {
                let preconditioner = curvature.preconditioner(problem.lambda())?;
                Ok(solve_primal(
                    problem,
                    &preconditioner,
                    options,
                    start,
                    observer,
                )?)
            }
            Self::Nothing => Ok(solve_dual(
                problem,
                &Identity(rows),
                options,
                start,
                observer,
            )?),
        }
    }
}

/// One Cholesky of the exact kernel, as the start and the preconditioner of conjugate gradients:
/// where f32 products and the f64 kernel differ, one refinement step remains, usually none.
fn closed_form(
    kernel: &KernelRidge,
    problem: &RidgeProblem<'_>,
    options: &PcgOptions,
    observer: &mut dyn Observer,
) -> Result<Solution, Error> {
    let factor = kernel.cholesky(problem.lambda())?;
    let a = factor.dual(problem.target())?;
    Ok(solve_dual(
        problem,
        &Factor(&factor, a.len()),
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
        match self.0.dual(r) {
            Ok(solution) => z.copy_from_slice(&solution),
            Err(_) => z.copy_from_slice(r),
        }
    }
}

/// Rows of a sketch that belong to `chosen` samples.
pub(crate) fn select(rows: &SketchedRows, chosen: &[usize], n: usize) -> (Sketch, Features) {
    let Sketch {
        rows: z,
        width,
        classes,
    } = &rows.sketch;
    let mut picked = Vec::with_capacity(chosen.len() * classes * width);
    for i in chosen {
        picked.extend_from_slice(&z[i * classes * width..(i + 1) * classes * width]);
    }
    let sketch = Sketch {
        rows: picked,
        width: *width,
        classes: *classes,
    };
    (sketch, features(rows, n).select(chosen))
}
