//! Linear maps seen only through their products.
//!
//! The adjoint identity `<A x, y> = <x, A' y>` must hold to rounding: conjugate gradients and every
//! certificate rest on it. Test a new operator with it, and against a dense matrix on a small case.

mod centred;
mod dense;
mod scaled;

pub use centred::Centred;
pub use dense::DenseOperator;
pub use scaled::Scaled;

use crate::work::Work;

/// Applying an operator failed, for instance because an image could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OperatorError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

impl OperatorError {
    /// Wraps `error`.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// A linear map `A: R^cols -> R^rows`.
///
/// Outputs are overwritten, never accumulated into; their previous contents do not matter.
///
pub trait LinearOperator {
    /// Length of `A x`.
    fn rows(&self) -> usize;

    /// Length of `x`.
    fn cols(&self) -> usize;

    /// `y = A x`.
    ///
    /// # Errors
    /// When the data behind the operator cannot be read, or a slice has the wrong length.
    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError>;

    /// `x = A' y`.
    ///
    /// # Errors
    /// When the data behind the operator cannot be read, or a slice has the wrong length.
    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError>;

    /// `image = A x` and `out = A'A x`. An implementor may share work between the two.
    ///
    /// # Errors
    /// When the data behind the operator cannot be read, or a slice has the wrong length.
    fn apply_normal(
        &self,
        x: &[f64],
        image: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.apply(x, image)?;
        self.apply_adjoint(image, out)
    }

    /// `preimage = A' y` and `out = A A' y`. An implementor may share work between the two.
    ///
    /// # Errors
    /// When the data behind the operator cannot be read, or a slice has the wrong length.
    fn apply_gram(
        &self,
        y: &[f64],
        preimage: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.apply_adjoint(y, preimage)?;
        self.apply(preimage, out)
    }

    /// The work done so far; zero for an operator that does not count.
    fn work(&self) -> Work {
        Work::default()
    }
}

/// A slice has the wrong length for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{what}: expected length {expected}, got {got}")]
struct LengthError {
    what: &'static str,
    expected: usize,
    got: usize,
}

/// `Ok` when the lengths agree; for implementors in this crate.
fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), OperatorError> {
    if expected == got {
        Ok(())
    } else {
        Err(OperatorError::new(LengthError {
            what,
            expected,
            got,
        }))
    }
}
