//! Factorisations and products of dense matrices: faer's, with this crate's errors and with the
//! checks that keep a value that is not finite from reaching an eigenvalue iteration.

use faer::linalg::matmul::triangular::{BlockStructure, matmul as triangular_matmul};
use faer::linalg::solvers::{Llt, SelfAdjointEigen, Svd};
use faer::traits::RealField;
use faer::traits::math_utils::{add, is_finite};
use faer::{Accum, Mat, MatRef, Side, get_global_parallelism};

use crate::error::{SolveError, check_len};

/// The row-major `rows x cols` matrix in `entries`.
pub(crate) fn row_major(entries: &[f64], rows: usize, cols: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(entries, rows, cols)
}

/// `<u, v>` of two matrices of one shape.
pub(crate) fn inner(u: &Mat<f64>, v: &Mat<f64>) -> f64 {
    let column = |c| crate::dense::dot(u.col_as_slice(c), v.col_as_slice(c));
    (0..u.ncols()).map(column).sum()
}

/// `v` as a column.
pub(crate) fn column(v: &[f64]) -> MatRef<'_, f64> {
    MatRef::from_column_major_slice(v, v.len(), 1)
}

/// `Ok` when all entries are finite.
pub(crate) fn check_finite<T: RealField>(
    what: &'static str,
    m: MatRef<'_, T>,
) -> Result<(), SolveError> {
    let finite = (0..m.ncols()).all(|j| (0..m.nrows()).all(|i| is_finite(&m[(i, j)])));
    if finite {
        Ok(())
    } else {
        Err(SolveError::NonFinite { what })
    }
}

/// `Ok` when `m` is square of size `n` and finite.
pub(crate) fn check_square(
    what: &'static str,
    n: usize,
    m: MatRef<'_, f64>,
) -> Result<(), SolveError> {
    check_len(what, n, m.nrows())?;
    check_len(what, n, m.ncols())?;
    check_finite(what, m)
}

/// Adds `scale * Z Z'` to the lower triangle of `out`.
pub(crate) fn add_gram_lower<T: RealField>(out: &mut Mat<T>, z: MatRef<'_, T>, scale: T) {
    let lower = BlockStructure::TriangularLower;
    let full = BlockStructure::Rectangular;
    let parallel = get_global_parallelism();
    let zt = z.transpose();
    triangular_matmul(out, lower, Accum::Add, z, full, zt, full, scale, parallel);
}

/// Copies the lower triangle to the upper one.
pub(crate) fn mirror_lower(m: &mut Mat<f64>) {
    for j in 0..m.ncols() {
        for i in 0..j {
            m[(i, j)] = m[(j, i)];
        }
    }
}

/// Cholesky factor of the symmetric `m + shift I`; reads the lower triangle.
pub(crate) fn cholesky<T: RealField>(
    what: &'static str,
    m: MatRef<'_, T>,
    shift: T,
) -> Result<Llt<T>, SolveError> {
    check_finite(what, m)?;
    let mut shifted = m.to_owned();
    for i in 0..m.nrows() {
        shifted[(i, i)] = add(&m[(i, i)], &shift);
    }
    Llt::new(shifted.as_ref(), Side::Lower).map_err(|_| SolveError::Factorisation {
        what,
        reason: "it is not positive definite to rounding; give a larger weight decay".into(),
    })
}

/// Eigenvalues, in faer's order, and orthonormal eigenvectors of the symmetric `m`, in columns;
/// reads the lower triangle.
pub(crate) fn eigen(
    what: &'static str,
    m: MatRef<'_, f64>,
) -> Result<(Vec<f64>, Mat<f64>), SolveError> {
    check_finite(what, m)?;
    let eigen = SelfAdjointEigen::new(m, Side::Lower).map_err(|e| SolveError::Factorisation {
        what,
        reason: format!("{e:?}"),
    })?;
    let values = eigen.S().column_vector().iter().copied().collect();
    Ok((values, eigen.U().to_owned()))
}

/// A thin singular value decomposition `m = U diag(s) V'` without the singular values that are
/// zero to working precision.
pub(crate) struct ThinSvd {
    /// `rows x r`.
    pub(crate) u: Mat<f64>,
    /// `r` values, positive.
    pub(crate) s: Vec<f64>,
    /// `cols x r`.
    pub(crate) v: Mat<f64>,
}

impl ThinSvd {
    pub(crate) fn new(what: &'static str, m: MatRef<'_, f64>) -> Result<Self, SolveError> {
        check_finite(what, m)?;
        let svd = Svd::new_thin(m).map_err(|e| SolveError::Factorisation {
            what,
            reason: format!("{e:?}"),
        })?;
        let s: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let largest = s.iter().copied().fold(0.0, f64::max);
        let tiny = largest * f64::EPSILON * m.nrows().max(m.ncols()) as f64;
        let rank = s.iter().filter(|s| **s > tiny).count();
        Ok(Self {
            u: svd.U().subcols(0, rank).to_owned(),
            v: svd.V().subcols(0, rank).to_owned(),
            s: s[..rank].to_vec(),
        })
    }
}
