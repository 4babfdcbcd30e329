//! Equation 3 of [`super`], with its preconditioner.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, MatMut, MatRef};

use super::root::Root;
use super::{sums, with_intercept};
use crate::error::SolveError;
use crate::factor::cholesky;
use crate::gated::Problem;
use crate::gated::ridge::Products;
use crate::operator::OperatorError;
use crate::quadratic::Preconditioner;
use crate::quadratic::pcg::SymmetricOperator;

/// `tau` in units of `lambda`, beside the mean diagonal of the kernel.
const LOOSE: f64 = 1e4;
/// Samples up to which the kernel is held in double precision: 200 megabytes.
const DOUBLE: usize = 5_000;
/// Shift of the preconditioner's matrices, at least, in units of their trace.
const LEAST_SHIFT: f64 = 1e-13;

/// The kernel with its approximation.
pub(super) struct Kernel {
    pub(super) products: Products,
    /// The mean of the diagonal.
    pub(super) unit: f64,
    pub(super) tau: f64,
    /// `B`.
    pub(super) basis: Mat<f64>,
}

impl Kernel {
    pub(super) fn new(problem: &Problem) -> Result<Self, SolveError> {
        let products = Products::within(problem, DOUBLE)?;
        let unit = products.mean_diagonal().max(f64::MIN_POSITIVE);
        let tau = if problem.intercept {
            unit + LOOSE * problem.lambda
        } else {
            0.0
        };
        let low = products.square_root();
        let basis = Mat::from_fn(low.nrows(), low.ncols() + 1, |s, k| {
            if k < low.ncols() {
                low[(s, k)]
            } else {
                tau.sqrt()
            }
        });
        Ok(Self {
            products,
            unit,
            tau,
            basis,
        })
    }

    /// `K~ v`.
    pub(super) fn product(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        let above: Vec<f64> = sums(v).iter().map(|sum| self.tau * sum).collect();
        with_intercept(&self.products.product(v), &above)
    }
}

/// The matrix of (3).
pub(super) struct System<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) root: &'a Root,
    /// `n lambda`.
    pub(super) shift: f64,
}

impl SymmetricOperator for System<'_> {
    fn dim(&self) -> usize {
        self.root.q.nrows() * self.root.q.ncols()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        let (n, k) = (self.root.q.nrows(), self.root.q.ncols());
        let v = self.root.apply(MatRef::from_column_major_slice(x, n, k));
        let image = self.root.adjoint(self.kernel.product(v.as_ref()).as_ref());
        MatMut::from_column_major_slice_mut(y, n, k).copy_from(&image);
        y.iter_mut().zip(x).for_each(|(y, x)| *y += self.shift * x);
        Ok(())
    }
}

/// `n lambda` times the inverse of `n lambda I + diag(q) B B' diag(q)`, between projectors.
pub(super) struct Woodbury<'a> {
    system: &'a System<'a>,
    /// Of `n lambda I + B' diag(q)^2 B`, an output each.
    factors: Vec<Llt<f64>>,
}

impl<'a> Woodbury<'a> {
    pub(super) fn new(system: &'a System<'a>) -> Result<Self, SolveError> {
        let (basis, q) = (&system.kernel.basis, &system.root.q);
        let of_output = |c: usize| {
            let scaled = Mat::from_fn(basis.nrows(), basis.ncols(), |s, k| {
                q[(s, c)] * basis[(s, k)]
            });
            let inner = scaled.transpose() * &scaled;
            let trace: f64 = (0..inner.nrows()).map(|k| inner[(k, k)]).sum();
            let shift = system.shift.max(LEAST_SHIFT * trace);
            cholesky("preconditioner of Newton's step", inner.as_ref(), shift)
        };
        let factors = (0..q.ncols()).map(of_output).collect::<Result<_, _>>()?;
        Ok(Self { system, factors })
    }
}

impl Preconditioner for Woodbury<'_> {
    fn dim(&self) -> usize {
        self.system.dim()
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        let (basis, root) = (&self.system.kernel.basis, self.system.root);
        let (n, k) = (root.q.nrows(), root.q.ncols());
        let r = root.projected(MatRef::from_column_major_slice(r, n, k));
        let mut inside = basis.transpose() * root.scaled(r.as_ref());
        for (c, factor) in self.factors.iter().enumerate() {
            let solved = factor.solve(inside.col(c).as_mat());
            inside
                .col_as_slice_mut(c)
                .copy_from_slice(solved.col_as_slice(0));
        }
        let taken = root.scaled((basis * inside).as_ref());
        let image = root.projected((&r - &taken).as_ref());
        MatMut::from_column_major_slice_mut(z, n, k).copy_from(&image);
    }
}
