//! The eigenvalues of a model's training problem, and how hard it was to solve.
//!
//! ```text
//!     H = S J'P J S + Lambda I     (P centres for the free bias, S is the prior's scale)
//! ```
//!
//! has the eigenvalues `kappa + Lambda` for the non-zero eigenvalues kappa of `P K P`, `K = J S^2 J'`, and
//! Lambda for the rest. Of `P K P` only the range of P counts, of dimension (N - 1) C. So whichever of the
//! two spaces R^D and the range of P is smaller holds the whole spectrum but for copies of Lambda, whose
//! number is the difference of the dimensions. Where every class has a copy of the weights, all of this is
//! one class's, C times over.
//!
//! Two ways: `exact`, all eigenvalues of the formed kernel; and `lanczos`, the extreme ones from products
//! with J, and the density by quadrature ([`convextune_solve::lanczos`]). Figure 3 of Achille et al. (*LQF*,
//! CVPR 2021) shows such spectra with and without K-FAC.

mod part;
mod report;
#[cfg(test)]
mod tests;

use convextune_solve::lanczos::{
    Bin, Eigenvalue, Extremes, LanczosOptions, Pencil, Quadrature, histogram, lanczos, quadrature,
};
use convextune_solve::quadratic::pcg::SymmetricOperator;
use convextune_solve::quadratic::{
    GramSystem, Intercept, KernelRidge, KernelSpectrum, KernelSystem, NormalSystem, Preconditioner,
};
use convextune_solve::{Centred, LinearOperator, Scaled};

use crate::error::Error;
use crate::finetune::{
    FitOptions, KERNEL_BYTES, Plan, PreconditionerChoice, SolverChoice, System, plan, sizes,
    statistics,
};
use crate::job::Job;
use crate::linearize::Linearization;
use crate::model_file::Model;
use crate::progress::Reporter;
use crate::rng::Rng;
pub(crate) use part::TrainedPart;
pub use report::{Ends, Preconditioned, SpectrumMethod, SpectrumOptions, SpectrumReport};

/// Residual bound to reach, relative to the eigenvalue; its square is about the error of the value.
const TOLERANCE: f64 = 1e-3;
/// Steps of one run, at most.
const STEPS: usize = 150;
/// Bytes of the directions that one run keeps, at most.
const BYTES: usize = 2 << 30;
/// Directions of the density, and steps of each but the first.
const DIRECTIONS: (usize, usize) = (4, 24);
/// Bins of the density.
const BINS: usize = 16;

/// The spectrum of the problem that `model` is the minimum of; `job` holds its training images.
///
/// # Errors
/// When the model's loss is not quadratic, an image cannot be read, or a factorisation fails.
pub fn spectrum(
    model: &Model,
    job: &Job,
    options: &SpectrumOptions,
    reporter: &dyn Reporter,
) -> Result<SpectrumReport, Error> {
    let part = TrainedPart::of(model, job.train(), reporter)?;
    let lin = part.over(part.samples(job.train()), reporter)?;
    let precondition = match (options.precondition, &model.header.report.plan) {
        (PreconditionerChoice::Auto, Some(plan)) => match plan.precondition {
            PreconditionerChoice::None => PreconditionerChoice::Features,
            of_the_fit => of_the_fit,
        },
        // The closed form of a head has none.
        (PreconditionerChoice::Auto, None) => PreconditionerChoice::None,
        (asked, _) => asked,
    };
    let problem = Problem {
        lin: &lin,
        part: &part,
        options: &model.header.options,
        reporter,
    };
    problem.spectrum(options, precondition)
}

/// The trained part over the training images, and the options of the fit.
struct Problem<'a, 'l> {
    lin: &'a Linearization<'l>,
    part: &'a TrainedPart,
    options: &'a FitOptions,
    reporter: &'a dyn Reporter,
}

impl Problem<'_, '_> {
    fn spectrum(
        &self,
        options: &SpectrumOptions,
        precondition: PreconditionerChoice,
    ) -> Result<SpectrumReport, Error> {
        let (lin, prior) = (self.lin, self.part.prior);
        let scaled = Scaled::new(lin, lin.backbone_range(), prior.scale)?;
        let centred = Centred::new(&scaled, lin.outputs())?;
        let primal = NormalSystem::new(&centred, prior.lambda);
        let dual = GramSystem::new(&centred, prior.lambda);
        let kernel = self.kernel(options.method)?;
        let formed = kernel.as_ref().map(|k| KernelSystem::new(k, prior.lambda));
        let system = |system: System| -> &dyn SymmetricOperator {
            match (system, &formed) {
                (System::Primal, _) => &primal,
                (System::Dual, Some(formed)) => formed,
                (System::Dual, None) => &dual,
            }
        };
        let found = match &kernel {
            Some(kernel) => self.exact(kernel, options.eigenvalues)?,
            None => self.by_lanczos(system(self.smaller()), options.eigenvalues)?,
        };
        let preconditioned = self.preconditioned(precondition, system)?;
        let (copies, d, dimension) = (self.part.copies, lin.cols(), self.dimension());
        let largest = found.eigenvalues.first().map_or(prior.lambda, |e| e.value);
        let smallest = if d > dimension {
            prior.lambda
        } else {
            found.smallest
        };
        Ok(SpectrumReport {
            method: found.method,
            lambda: prior.lambda,
            weights: d * copies,
            multiplicity: copies,
            density: density(&found.measure, (prior.lambda, largest), dimension * copies),
            eigenvalues: found.eigenvalues,
            converged: found.converged,
            at_lambda: (d - dimension) * copies,
            condition_number: largest / smallest,
            condition_number_preconditioned: preconditioned.map(|p| p.after.condition_number()),
            preconditioned,
            passes: lin.work().passes,
        })
    }

    /// The range of P, for one copy.
    fn centred_dimension(&self) -> usize {
        self.lin.rows() - self.lin.outputs()
    }

    /// The system on the smaller space.
    fn smaller(&self) -> System {
        if self.lin.cols() <= self.centred_dimension() {
            System::Primal
        } else {
            System::Dual
        }
    }

    /// Its dimension.
    fn dimension(&self) -> usize {
        self.lin.cols().min(self.centred_dimension())
    }

    /// The formed kernel, where the method asks for it or the cost model would form it.
    fn kernel(&self, method: SpectrumMethod) -> Result<Option<KernelRidge>, Error> {
        let unasked = FitOptions {
            solver: SolverChoice::Auto,
            precondition: PreconditionerChoice::Auto,
            ..self.options.clone()
        };
        let form = match method {
            SpectrumMethod::Exact => true,
            SpectrumMethod::Lanczos => false,
            SpectrumMethod::Auto => {
                plan(&sizes(self.lin, self.part.copies), &unasked).solver == SolverChoice::Dual
            }
        };
        let kernel = || self.part.kernel(self.lin, self.reporter);
        form.then(kernel).transpose()
    }

    /// All eigenvalues of the formed kernel.
    fn exact(&self, kernel: &KernelRidge, wanted: usize) -> Result<Found, Error> {
        self.reporter.stage("eigenvalues of the kernel", 0);
        let (lambda, spectrum) = (self.part.prior.lambda, kernel.spectrum()?);
        let (n, dimension) = (spectrum.eigenvalues().len(), self.dimension());
        // Beyond the dimension are zeros: of P, or of J with fewer weights than rows.
        let falling = spectrum.eigenvalues().iter().rev().take(dimension);
        let values: Vec<f64> = falling.map(|v| v.max(0.0) + lambda).collect();
        let system = KernelSystem::new(kernel, lambda);
        let pair = |k: usize| residual(&system, &spectrum, (n - 1 - k, values[k]));
        let weight = 1.0 / dimension.max(1) as f64;
        Ok(Found {
            method: SpectrumMethod::Exact,
            eigenvalues: (0..wanted.min(dimension))
                .map(pair)
                .collect::<Result<_, _>>()?,
            smallest: values.last().copied().unwrap_or(lambda),
            converged: true,
            measure: Measure::All(Quadrature {
                nodes: values.iter().map(|v| (*v, weight)).collect(),
            }),
        })
    }

    /// The largest eigenvalues and the density, by products.
    fn by_lanczos(&self, operator: &dyn SymmetricOperator, wanted: usize) -> Result<Found, Error> {
        let pencil = Pencil {
            operator,
            preconditioner: None,
        };
        let mut draw = self.directions(self.smaller());
        let found = self.run(pencil, &mut draw, wanted)?;
        let mut rules = vec![found.quadrature.clone()];
        let (directions, steps) = DIRECTIONS;
        self.reporter.stage("density", directions as u64 - 1);
        for _ in 1..directions {
            rules.push(quadrature(pencil, &mut draw, steps)?);
        }
        Ok(Found {
            method: SpectrumMethod::Lanczos,
            smallest: found
                .smallest
                .first()
                .map_or(self.part.prior.lambda, |e| e.value),
            eigenvalues: found.largest,
            converged: found.converged,
            measure: Measure::Drawn(rules),
        })
    }

    /// Both ends of the spectrum, before and after preconditioning.
    fn preconditioned<'s>(
        &self,
        precondition: PreconditionerChoice,
        system: impl Fn(System) -> &'s dyn SymmetricOperator,
    ) -> Result<Option<Preconditioned>, Error> {
        let whole = plan(&sizes(self.lin, self.part.copies), self.options);
        let choice = Plan {
            solver: SolverChoice::Pcg,
            precondition,
            ..whole
        };
        let computed = statistics(self.lin, &choice, self.options, self.reporter)?;
        let prepared = computed.prepare(self.lin, &self.part.prior)?;
        let Some((of, preconditioner)) = prepared.preconditioner(self.part.prior.lambda)? else {
            return Ok(None);
        };
        let ends = |preconditioner: Option<&dyn Preconditioner>| {
            let pencil = Pencil {
                operator: system(of),
                preconditioner,
            };
            let found = self.run(pencil, &mut self.directions(of), 1)?;
            Ends::of(&found).ok_or(Error::NothingToTrain)
        };
        Ok(Some(Preconditioned {
            precondition,
            system: of,
            before: ends(None)?,
            after: ends(Some(preconditioner.as_ref()))?,
        }))
    }

    fn run(
        &self,
        pencil: Pencil<'_>,
        draw: &mut dyn FnMut() -> Vec<f64>,
        largest: usize,
    ) -> Result<Extremes, Error> {
        let vectors = 1 + usize::from(pencil.preconditioner.is_some());
        let fitting = BYTES / (8 * vectors * pencil.operator.dim()).max(1);
        let options = LanczosOptions {
            largest,
            smallest: 1,
            tolerance: TOLERANCE,
            max_steps: STEPS.min(fitting).max(2),
        };
        self.reporter.stage("Lanczos", 0);
        Ok(lanczos(pencil, draw, &options)?)
    }

    /// Seeded normal directions; for the dual in the range of P.
    fn directions(&self, system: System) -> impl FnMut() -> Vec<f64> + use<> {
        let mut rng = Rng::new(self.options.seed, "spectrum");
        let (rows, cols, classes) = (self.lin.rows(), self.lin.cols(), self.lin.outputs());
        move || {
            let centre = system == System::Dual;
            let mut v: Vec<f64> = (0..if centre { rows } else { cols })
                .map(|_| rng.normal())
                .collect();
            for c in 0..if centre { classes } else { 0 } {
                let mean = v.iter().skip(c).step_by(classes).sum::<f64>();
                let mean = mean / (rows / classes) as f64;
                v.iter_mut()
                    .skip(c)
                    .step_by(classes)
                    .for_each(|x| *x -= mean);
            }
            v
        }
    }
}

impl TrainedPart {
    /// The centred kernel of the training samples under the prior, for one copy of the weights.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub(crate) fn kernel(
        &self,
        lin: &Linearization<'_>,
        reporter: &dyn Reporter,
    ) -> Result<KernelRidge, Error> {
        let runs = lin.kernel_passes(KERNEL_BYTES);
        reporter.stage("dual kernel", (lin.samples().len() * runs) as u64);
        let kernel = lin.kernel(KERNEL_BYTES)?.kernel(self.prior.scale);
        Ok(KernelRidge::new(kernel, lin.outputs(), Intercept::Free)?)
    }
}

/// What either way finds, for one copy of the weights.
struct Found {
    method: SpectrumMethod,
    eigenvalues: Vec<Eigenvalue>,
    smallest: f64,
    converged: bool,
    measure: Measure,
}

/// Where eigenvalues lie.
enum Measure {
    /// All of them.
    All(Quadrature),
    /// From directions drawn.
    Drawn(Vec<Quadrature>),
}

/// Eigenpair `k` of the kernel, whose shifted value is given, with its residual.
fn residual(
    system: &KernelSystem<'_>,
    spectrum: &KernelSpectrum,
    (k, value): (usize, f64),
) -> Result<Eigenvalue, Error> {
    let v = spectrum.eigenvector(k);
    let mut r = vec![0.0; v.len()];
    system.apply(&v, &mut r)?;
    let square: f64 = r.iter().zip(&v).map(|(r, v)| (r - value * v).powi(2)).sum();
    Ok(Eigenvalue {
        value,
        residual_bound: square.sqrt(),
    })
}

/// Counts between Lambda and the largest eigenvalue, in bins of equal ratio.
fn density(measure: &Measure, (lambda, largest): (f64, f64), dimension: usize) -> Vec<Bin> {
    let ratio = (largest / lambda).max(1.0);
    let edge = |k: usize| lambda * ratio.powf(k as f64 / BINS as f64);
    let edges: Vec<f64> = (0..=BINS).map(edge).collect();
    match measure {
        Measure::Drawn(rules) => histogram(rules, &edges, dimension),
        Measure::All(all) => {
            let mut bins = histogram(std::slice::from_ref(all), &edges, dimension);
            bins.iter_mut()
                .for_each(|bin| bin.standard_error = Some(0.0));
            bins
        }
    }
}
