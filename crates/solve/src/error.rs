//! What can go wrong before or while solving. Not converging is a [`crate::Status`], not an error.

use crate::operator::OperatorError;

/// Why a solver could not produce a solution.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The operator failed, for instance because an image could not be read.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A vector or matrix has the wrong size.
    #[error("{what}: expected {expected} entries, got {got}")]
    Shape {
        /// The argument.
        what: &'static str,
        /// Its required size.
        expected: usize,
        /// Its actual size.
        got: usize,
    },
    /// A parameter is outside its domain.
    #[error("{what} must be {domain}, got {got}")]
    Parameter {
        /// The parameter.
        what: &'static str,
        /// Its domain, in words.
        domain: &'static str,
        /// The offending value.
        got: f64,
    },
    /// A number that should be finite is not.
    #[error("{what} contains a value that is not finite")]
    NonFinite {
        /// Where it was found.
        what: &'static str,
    },
    /// What is asked for cannot be done; the text says what.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A factorisation failed: the matrix is not positive definite to working precision, or an
    /// eigenvalue iteration did not converge.
    #[error("{what} failed: {reason}")]
    Factorisation {
        /// Which one.
        what: &'static str,
        /// The library's reason.
        reason: String,
    },
}

/// `Ok` when `got == expected`.
pub(crate) fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), SolveError> {
    if expected == got {
        Ok(())
    } else {
        Err(SolveError::Shape {
            what,
            expected,
            got,
        })
    }
}

/// `Ok` when `value` is finite and positive.
pub(crate) fn check_positive(what: &'static str, value: f64) -> Result<(), SolveError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(SolveError::Parameter {
            what,
            domain: "finite and positive",
            got: value,
        })
    }
}

/// `Ok` when all of `values` are finite.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<(), SolveError> {
    if values.iter().all(|v| v.is_finite()) {
        Ok(())
    } else {
        Err(SolveError::NonFinite { what })
    }
}
