//! The ridge problem.

use crate::error::{SolveError, check_finite, check_len, check_positive};
use crate::operator::LinearOperator;

/// `min over u of 1/2 ||r0 - A u||^2 + (Lambda/2) ||u||^2`.
#[derive(Clone)]
pub struct RidgeProblem<'a> {
    operator: &'a dyn LinearOperator,
    target: Vec<f64>,
    lambda: f64,
}

impl<'a> RidgeProblem<'a> {
    /// The problem with operator `A` (`NC x D`), target `r0` (length `NC`) and total weight decay
    /// `Lambda = N lambda`. For a free bias pass [`crate::Centred`] and its centred target.
    ///
    /// # Errors
    /// When the target has the wrong length or is not finite, or `Lambda` is not positive.
    pub fn new(
        operator: &'a dyn LinearOperator,
        target: Vec<f64>,
        lambda: f64,
    ) -> Result<Self, SolveError> {
        check_len("target", operator.rows(), target.len())?;
        check_finite("target", &target)?;
        check_positive("Lambda", lambda)?;
        Ok(Self {
            operator,
            target,
            lambda,
        })
    }

    /// The same operator and target with another `Lambda`.
    ///
    /// # Errors
    /// When `lambda` is not positive.
    pub fn with_lambda(&self, lambda: f64) -> Result<Self, SolveError> {
        check_positive("Lambda", lambda)?;
        Ok(Self {
            lambda,
            ..self.clone()
        })
    }

    /// `A`.
    pub fn operator(&self) -> &'a dyn LinearOperator {
        self.operator
    }

    /// `r0`, length `NC`.
    pub fn target(&self) -> &[f64] {
        &self.target
    }

    /// `Lambda`.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }

    /// `A' r0 = -grad L(0)`, length `D`; one product with `A'`.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn gradient_at_zero(&self) -> Result<Vec<f64>, SolveError> {
        let mut b = vec![0.0; self.operator.cols()];
        self.operator.apply_adjoint(&self.target, &mut b)?;
        Ok(b)
    }
}
