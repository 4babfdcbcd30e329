//! A preconditioner for the dual system from a sketched kernel.
//!
//! Row `i C + c` of `Z` (`NC x k`) is a sketch of row `i C + c` of `A`, for instance its
//! CountSketch: each coordinate is added, with a seeded sign, into one of `k` seeded buckets. Then
//! `Z Z'` estimates `A A'` without bias. A part of `A` that is known exactly as features `Phi`
//! (`N x d`) acting on every class alike (a linear head) is added exactly:
//!
//! ```text
//!     K~ = Z Z' + (Phi Phi') (x) I_C ,        z = (K~ + Lambda I)^-1 r .
//! ```
//!
//! With a free bias the rows of `Z` and `Phi` are centred, as the dual system's kernel is `P K P`.
//! Two forms, the cheaper one chosen by size unless told otherwise:
//!
//! - [`gram`]: `K~` is formed (`NC x NC`) and factorised, one Cholesky a `Lambda`;
//! - [`woodbury`]: only `k x k` systems, for `NC > k`.

pub mod gram;
pub mod woodbury;

use faer::{Mat, MatRef};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::gram::GramSketch;
use self::woodbury::WoodburySketch;
use super::lambda::Intercept;
use super::preconditioner::Preconditioner;
use crate::error::{SolveError, check_len};
use crate::factor::check_finite;

/// Which system is factorised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SketchForm {
    /// `Gram` when `NC <= k`, else `Woodbury`.
    #[default]
    Auto,
    /// `NC x NC`; memory `8 (NC)^2` bytes, twice that while factorising.
    Gram,
    /// `k x k`; memory `4 NC k + 8 k^2` bytes, and `4 NC k` more with a head.
    Woodbury,
}

/// Sketched rows.
#[derive(Clone, Debug)]
pub struct Sketch {
    /// `Z`, row-major, `NC x width`, rows sample-major.
    pub rows: Vec<f32>,
    /// Buckets `k`.
    pub width: usize,
    /// Classes `C`.
    pub classes: usize,
}

impl Sketch {
    /// Multiplies every entry: the sketch of scaled rows.
    pub fn scale(&mut self, factor: f64) {
        self.rows
            .par_iter_mut()
            .for_each(|z| *z = (f64::from(*z) * factor) as f32);
    }

    /// `NC`.
    fn height(&self) -> usize {
        self.rows.len() / self.width.max(1)
    }

    /// `Z`.
    pub(super) fn view(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.rows, self.height(), self.width)
    }

    fn check(&self) -> Result<(), SolveError> {
        let unit = self.width * self.classes;
        if unit == 0 || self.rows.is_empty() || !self.rows.len().is_multiple_of(unit) {
            let (what, domain) = (
                "entries of the sketch",
                "a positive multiple of width * classes",
            );
            return Err(SolveError::Parameter {
                what,
                domain,
                got: self.rows.len() as f64,
            });
        }
        if self.rows.iter().all(|x| x.is_finite()) {
            Ok(())
        } else {
            Err(SolveError::NonFinite { what: "the sketch" })
        }
    }

    /// Takes away from every row the mean of its class: `Z <- P Z`. Sums in f64.
    fn centre(&mut self) {
        let (unit, samples) = (self.width * self.classes, self.height() / self.classes);
        let mut means = vec![0.0f64; unit];
        for sample in self.rows.chunks_exact(unit) {
            for (mean, x) in means.iter_mut().zip(sample) {
                *mean += f64::from(*x);
            }
        }
        for sample in self.rows.chunks_exact_mut(unit) {
            for (x, sum) in sample.iter_mut().zip(&means) {
                *x = (f64::from(*x) - sum / samples as f64) as f32;
            }
        }
    }
}

/// A sketched kernel, from which preconditioners for any `Lambda` are factorised.
pub enum SketchedKernel {
    /// With `K~` formed.
    Gram(GramSketch),
    /// With `Z` kept.
    Woodbury(WoodburySketch),
}

impl SketchedKernel {
    /// Prepares the sketched kernel; `head` are the exact features `Phi` (`N x d`), if any.
    ///
    /// # Errors
    /// When shapes disagree or a value is not finite.
    pub fn new(
        mut sketch: Sketch,
        head: Option<MatRef<'_, f64>>,
        bias: Intercept,
        form: SketchForm,
    ) -> Result<Self, SolveError> {
        sketch.check()?;
        let mut head = head.map(|phi| phi.to_owned());
        if let Some(phi) = &head {
            check_len(
                "rows of the head's features",
                sketch.height() / sketch.classes,
                phi.nrows(),
            )?;
            check_finite("the head's features", phi.as_ref())?;
        }
        if bias == Intercept::Free {
            sketch.centre();
            if let Some(phi) = &mut head {
                super::head::centre_columns(phi);
            }
        }
        Self::from_centred(sketch, head.as_ref(), form)
    }

    fn from_centred(
        sketch: Sketch,
        head: Option<&Mat<f64>>,
        form: SketchForm,
    ) -> Result<Self, SolveError> {
        let gram = match form {
            SketchForm::Auto => sketch.height() <= sketch.width,
            SketchForm::Gram => true,
            SketchForm::Woodbury => false,
        };
        if gram {
            Ok(Self::Gram(GramSketch::new(&sketch, head)))
        } else {
            Ok(Self::Woodbury(WoodburySketch::new(sketch, head)?))
        }
    }

    /// `K~` (`NC x NC`), where it is formed: a [`super::KernelRidge`] on it estimates leave-one-out
    /// errors, and with them `Lambda`, before the first exact pass.
    pub fn kernel(&self) -> Option<MatRef<'_, f64>> {
        match self {
            Self::Gram(gram) => Some(gram.kernel()),
            Self::Woodbury(_) => None,
        }
    }

    /// The preconditioner `(K~ + Lambda I)^-1`.
    ///
    /// # Errors
    /// When `lambda` is not positive, or the matrix is not positive definite to working precision.
    pub fn factorise(&self, lambda: f64) -> Result<Box<dyn Preconditioner + '_>, SolveError> {
        Ok(match self {
            Self::Gram(gram) => Box::new(gram.factorise(lambda)?),
            Self::Woodbury(woodbury) => Box::new(woodbury.factorise(lambda)?),
        })
    }
}
