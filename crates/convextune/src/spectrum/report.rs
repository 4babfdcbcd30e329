//! What is asked about a spectrum, and what is found.

use convextune_solve::lanczos::{Bin, Eigenvalue, Extremes};
use serde::{Deserialize, Serialize};

use crate::finetune::{PreconditionerChoice, System};

/// How eigenvalues are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpectrumMethod {
    /// Exact where the fit would form the kernel, else Lanczos.
    #[default]
    Auto,
    /// All, from the formed kernel.
    Exact,
    /// The extreme ones, from products.
    Lanczos,
}

/// What to find.
#[derive(Clone, Copy, Debug)]
pub struct SpectrumOptions {
    /// How many of the largest eigenvalues.
    pub eigenvalues: usize,
    /// How.
    pub method: SpectrumMethod,
    /// The preconditioner to judge; `Auto`: that of the fit, or the features' where the fit had none.
    pub precondition: PreconditionerChoice,
}

/// The ends of a spectrum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ends {
    /// The largest eigenvalue.
    pub largest: Eigenvalue,
    /// The smallest.
    pub smallest: Eigenvalue,
    /// Whether both met the tolerance.
    pub converged: bool,
}

impl Ends {
    /// The quotient of the two: as Ritz values lie between the least and the greatest eigenvalue, at
    /// most the true one.
    pub fn condition_number(&self) -> f64 {
        self.largest.value / self.smallest.value
    }

    pub(super) fn of(found: &Extremes) -> Option<Self> {
        Some(Self {
            largest: *found.largest.first()?,
            smallest: *found.smallest.first()?,
            converged: found.converged,
        })
    }
}

/// A preconditioned system.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Preconditioned {
    /// Which preconditioner.
    pub precondition: PreconditionerChoice,
    /// The system it is for.
    pub system: System,
    /// Ends of that system's spectrum without it.
    pub before: Ends,
    /// And with it.
    pub after: Ends,
}

/// The spectrum of H; the keys of its JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpectrumReport {
    /// `Exact` or `Lanczos`.
    pub method: SpectrumMethod,
    /// Lambda.
    pub lambda: f64,
    /// D: H is D x D. Copies of the weights are counted.
    pub weights: usize,
    /// How often each eigenvalue below occurs: C where every class has a copy of the weights, else 1.
    pub multiplicity: usize,
    /// The largest eigenvalues of H, falling, each once.
    pub eigenvalues: Vec<Eigenvalue>,
    /// Whether all of them met the tolerance.
    pub converged: bool,
    /// Eigenvalues of H that are Lambda for want of samples: those that `density` leaves out.
    pub at_lambda: usize,
    /// How many of the others lie where, by size; copies counted.
    pub density: Vec<Bin>,
    /// Largest over smallest eigenvalue of H; with `Lanczos` a lower bound of it.
    pub condition_number: f64,
    /// The same of the preconditioned system, a lower bound; `None` without a preconditioner.
    pub condition_number_preconditioned: Option<f64>,
    /// The preconditioned system in detail.
    pub preconditioned: Option<Preconditioned>,
    /// Passes over the training images.
    pub passes: f64,
}
