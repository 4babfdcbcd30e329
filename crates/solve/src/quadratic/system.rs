//! The two systems of the ridge problem as symmetric operators: products only, nothing formed.
//!
//! ```text
//!     H = A'A + Lambda I   on R^D        (primal)
//!     K + Lambda I,  K = A A'   on R^NC  (dual)
//! ```
//!
//! Both have the eigenvalues `sigma^2 + Lambda` of the singular values `sigma > 0` of `A`; beyond these H
//! has `Lambda` with multiplicity `D - rank A`, the dual with `NC - rank A`.

use std::cell::RefCell;

use super::dual::KernelRidge;
use super::pcg::SymmetricOperator;
use crate::dense::axpy;
use crate::factor::column;
use crate::operator::{LinearOperator, OperatorError};

/// `A'A + Lambda I`.
pub struct NormalSystem<'a> {
    operator: &'a dyn LinearOperator,
    lambda: f64,
    image: RefCell<Vec<f64>>,
}

impl<'a> NormalSystem<'a> {
    /// Of the operator `A`.
    pub fn new(operator: &'a dyn LinearOperator, lambda: f64) -> Self {
        Self {
            operator,
            lambda,
            image: RefCell::new(vec![0.0; operator.rows()]),
        }
    }
}

impl SymmetricOperator for NormalSystem<'_> {
    fn dim(&self) -> usize {
        self.operator.cols()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.operator
            .apply_normal(x, &mut self.image.borrow_mut(), y)?;
        axpy(self.lambda, x, y);
        Ok(())
    }
}

/// `A A' + Lambda I`.
pub struct GramSystem<'a> {
    operator: &'a dyn LinearOperator,
    lambda: f64,
    preimage: RefCell<Vec<f64>>,
}

impl<'a> GramSystem<'a> {
    /// Of the operator `A`.
    pub fn new(operator: &'a dyn LinearOperator, lambda: f64) -> Self {
        Self {
            operator,
            lambda,
            preimage: RefCell::new(vec![0.0; operator.cols()]),
        }
    }
}

impl SymmetricOperator for GramSystem<'_> {
    fn dim(&self) -> usize {
        self.operator.rows()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.operator
            .apply_gram(x, &mut self.preimage.borrow_mut(), y)?;
        axpy(self.lambda, x, y);
        Ok(())
    }
}

/// `K + Lambda I` of a formed kernel (`P K P + Lambda I` with a free bias).
#[derive(Clone, Copy)]
pub struct KernelSystem<'a> {
    kernel: &'a KernelRidge,
    lambda: f64,
}

impl<'a> KernelSystem<'a> {
    /// Of the kernel K.
    pub fn new(kernel: &'a KernelRidge, lambda: f64) -> Self {
        Self { kernel, lambda }
    }

    /// `y = (K + Lambda I) x`.
    pub(super) fn multiply(&self, x: &[f64], y: &mut [f64]) {
        let product = self.kernel.kernel() * column(x);
        y.copy_from_slice(product.col_as_slice(0));
        axpy(self.lambda, x, y);
    }
}

impl SymmetricOperator for KernelSystem<'_> {
    fn dim(&self) -> usize {
        self.kernel.kernel().nrows()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.multiply(x, y);
        Ok(())
    }
}
