//! A matrix in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{LinearOperator, OperatorError, check_len};
use crate::dense::{axpy, dot};
use crate::error::{self, SolveError};
use crate::work::Work;

/// A dense matrix, row-major.
#[derive(Debug, Default)]
pub struct DenseOperator {
    rows: usize,
    cols: usize,
    entries: Vec<f64>,
    jvps: AtomicU64,
    vjps: AtomicU64,
    normal_products: AtomicU64,
}

impl DenseOperator {
    /// The `rows x cols` matrix with the given row-major entries.
    ///
    /// # Errors
    /// When there are not `rows * cols` entries, or one is not finite.
    pub fn new(rows: usize, cols: usize, entries: Vec<f64>) -> Result<Self, SolveError> {
        error::check_len(
            "entries of a dense operator",
            rows.saturating_mul(cols),
            entries.len(),
        )?;
        error::check_finite("a dense operator", &entries)?;
        Ok(Self {
            rows,
            cols,
            entries,
            ..Self::default()
        })
    }

    /// Row `i`.
    fn row(&self, i: usize) -> &[f64] {
        &self.entries[i * self.cols..(i + 1) * self.cols]
    }
}

impl LinearOperator for DenseOperator {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        check_len("x", self.cols, x.len())?;
        check_len("A x", self.rows, y.len())?;
        for (i, y) in y.iter_mut().enumerate() {
            *y = dot(self.row(i), x);
        }
        self.jvps.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        check_len("y", self.rows, y.len())?;
        check_len("A' y", self.cols, x.len())?;
        x.fill(0.0);
        for (i, y) in y.iter().enumerate() {
            axpy(*y, self.row(i), x);
        }
        self.vjps.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn apply_normal(
        &self,
        x: &[f64],
        image: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.apply(x, image)?;
        self.apply_adjoint(image, out)?;
        self.normal_products.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn work(&self) -> Work {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (jvps, vjps) = (read(&self.jvps), read(&self.vjps));
        let normal_products = read(&self.normal_products);
        let passes = (jvps + vjps - normal_products) as f64;
        Work {
            passes,
            jvps,
            vjps,
            normal_products,
            ..Work::default()
        }
    }
}
