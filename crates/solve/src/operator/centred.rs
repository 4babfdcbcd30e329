//! Exact elimination of a free bias.
//!
//! With an unpenalised bias `b` in R^C the problem is
//!
//! ```text
//!     min over u, b    1/2 || t - A u - 1 (x) b ||^2 + (Lambda/2) ||u||^2 .
//! ```
//!
//! For a given `u` the best bias is the mean over samples, class by class, of `t - A u`; put in,
//!
//! ```text
//!     min over u       1/2 || P t - P A u ||^2 + (Lambda/2) ||u||^2 ,   P = (I - 11'/N) (x) I_C ,
//! ```
//!
//! a problem of the same kind, still `Lambda`-strongly convex in `u`, with the operator `P A`.

use super::{LinearOperator, OperatorError, check_len};
use crate::dense::{centre, class_means};
use crate::error::SolveError;
use crate::work::Work;

/// `P A`: the operator `A` with the mean over samples of each class taken away from its image.
pub struct Centred<'a> {
    inner: &'a dyn LinearOperator,
    classes: usize,
}

impl<'a> Centred<'a> {
    /// Wraps `inner`, whose rows are sample-major: row `i * classes + c`.
    ///
    /// # Errors
    /// When the number of rows is not a positive multiple of `classes`.
    pub fn new(inner: &'a dyn LinearOperator, classes: usize) -> Result<Self, SolveError> {
        let rows = inner.rows();
        if classes == 0 || rows == 0 || !rows.is_multiple_of(classes) {
            let what = "number of rows of the operator to centre";
            let domain = "a positive multiple of the number of classes";
            return Err(SolveError::Parameter {
                what,
                domain,
                got: rows as f64,
            });
        }
        Ok(Self { inner, classes })
    }

    /// `P t`, the target of the reduced problem. `target` has one entry a row.
    ///
    /// # Errors
    /// When the length is wrong.
    pub fn target(&self, target: &[f64]) -> Result<Vec<f64>, SolveError> {
        crate::error::check_len("target", self.rows(), target.len())?;
        let mut centred = target.to_vec();
        centre(&mut centred, self.classes);
        Ok(centred)
    }

    /// The best bias for `u`: the mean over samples of `t - A u`, one number a class. `target` is
    /// the one before centring. Costs one product with `A`.
    ///
    /// # Errors
    /// When the operator fails or a length is wrong.
    pub fn bias(&self, target: &[f64], u: &[f64]) -> Result<Vec<f64>, SolveError> {
        crate::error::check_len("target", self.rows(), target.len())?;
        let mut image = vec![0.0; self.rows()];
        self.inner.apply(u, &mut image)?;
        let residual: Vec<f64> = target.iter().zip(&image).map(|(t, f)| t - f).collect();
        Ok(class_means(&residual, self.classes))
    }

    /// `P y` into a fresh vector.
    fn centred(&self, y: &[f64]) -> Result<Vec<f64>, OperatorError> {
        check_len("y", self.rows(), y.len())?;
        let mut y = y.to_vec();
        centre(&mut y, self.classes);
        Ok(y)
    }
}

impl LinearOperator for Centred<'_> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn cols(&self) -> usize {
        self.inner.cols()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.inner.apply(x, y)?;
        centre(y, self.classes);
        Ok(())
    }

    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        self.inner.apply_adjoint(&self.centred(y)?, x)
    }

    fn apply_gram(
        &self,
        y: &[f64],
        preimage: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.inner.apply_gram(&self.centred(y)?, preimage, out)?;
        centre(out, self.classes);
        Ok(())
    }

    // `apply_normal` stays with its default: A' P A x cannot be formed batch by batch in one pass,
    // because P needs the class means of the whole image first.

    fn work(&self) -> Work {
        self.inner.work()
    }
}
