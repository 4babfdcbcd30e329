//! The sketched kernel, formed: `K~ = Z Z' + (Phi Phi') (x) I_C`.

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, MatMut, MatRef, get_global_parallelism};

use super::super::preconditioner::Preconditioner;
use super::Sketch;
use crate::error::{SolveError, check_positive};
use crate::factor::{add_gram_lower, cholesky, mirror_lower};

/// Columns of `Z` multiplied in f32 before the partial sums are added up in f64.
const BLOCK: usize = 4096;

/// `K~`.
#[derive(Clone, Debug)]
pub struct GramSketch {
    kernel: Mat<f64>,
}

impl GramSketch {
    /// Forms `K~` from checked, centred parts. Products of `Z` are taken in f32, block by block;
    /// everything else is f64.
    pub(super) fn new(sketch: &Sketch, head: Option<&Mat<f64>>) -> Self {
        let mut kernel = sketch_gram(sketch.view());
        if let Some(phi) = head {
            let mut gram = Mat::zeros(phi.nrows(), phi.nrows());
            add_gram_lower(&mut gram, phi.as_ref(), 1.0);
            add_for_every_class(&mut kernel, &gram, sketch.classes);
        }
        mirror_lower(&mut kernel);
        Self { kernel }
    }

    /// `K~`.
    pub fn kernel(&self) -> MatRef<'_, f64> {
        self.kernel.as_ref()
    }

    /// The Cholesky factor of `K~ + Lambda I`.
    ///
    /// # Errors
    /// When `lambda` is not positive or the matrix is not positive definite.
    pub fn factorise(&self, lambda: f64) -> Result<GramPreconditioner, SolveError> {
        check_positive("Lambda", lambda)?;
        let factor = cholesky(
            "Cholesky of the sketched kernel",
            self.kernel.as_ref(),
            lambda,
        )?;
        Ok(GramPreconditioner { factor })
    }
}

/// The lower triangle of `Z Z'`.
pub(in crate::quadratic) fn sketch_gram(z: MatRef<'_, f32>) -> Mat<f64> {
    let n = z.nrows();
    let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    let mut partial = Mat::<f32>::zeros(n, n);
    let mut kernel = Mat::<f64>::zeros(n, n);
    for start in (0..z.ncols()).step_by(BLOCK) {
        let block = z.subcols(start, BLOCK.min(z.ncols() - start));
        let (out, parallel) = (partial.as_mut(), get_global_parallelism());
        let transposed = block.transpose();
        matmul(
            out,
            lower,
            Accum::Replace,
            block,
            full,
            transposed,
            full,
            1.0,
            parallel,
        );
        for j in 0..n {
            let sums = kernel.col_as_slice_mut(j)[j..].iter_mut();
            for (sum, x) in sums.zip(&partial.col_as_slice(j)[j..]) {
                *sum += f64::from(*x);
            }
        }
    }
    kernel
}

/// `kernel += gram (x) I_C`, lower triangles.
fn add_for_every_class(kernel: &mut Mat<f64>, gram: &Mat<f64>, classes: usize) {
    for j in 0..gram.ncols() {
        for i in j..gram.nrows() {
            for c in 0..classes {
                kernel[(i * classes + c, j * classes + c)] += gram[(i, j)];
            }
        }
    }
}

/// `(K~ + Lambda I)^-1` by its Cholesky factor.
#[derive(Clone, Debug)]
pub struct GramPreconditioner {
    factor: Llt<f64>,
}

impl Preconditioner for GramPreconditioner {
    fn dim(&self) -> usize {
        self.factor.L().nrows()
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        z.copy_from_slice(r);
        let n = z.len();
        self.apply_columns(MatMut::from_column_major_slice_mut(z, n, 1));
    }

    fn apply_columns(&self, r: MatMut<'_, f64>) {
        self.factor.solve_in_place(r);
    }
}
