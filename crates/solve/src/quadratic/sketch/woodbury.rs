//! The sketched kernel through `k x k` systems.
//!
//! Let `B = (Phi Phi') (x) I_C + Lambda I`. With the thin singular value decomposition
//! `Phi = U S V'`, `B^-1/2 = (1/sqrt(Lambda) + U diag(w) U') (x) I_C` where
//! `w = 1/sqrt(s^2 + Lambda) - 1/sqrt(Lambda)`; without a head `B^-1/2 = 1/sqrt(Lambda)`. Then, with
//! `Y = B^-1/2 Z` and the Woodbury identity,
//!
//! ```text
//!     (Z Z' + B)^-1 = B^-1/2 ( I - Y (I + Y'Y)^-1 Y' ) B^-1/2 .
//! ```
//!
//! `Y` is rounded to f32 before `Y'Y` is formed and factorised in f64, and the same `Y` is applied:
//! so the map stays symmetric positive definite, whatever the rounding of `Y` did to it.

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, MatMut, MatRef, get_global_parallelism};
use rayon::prelude::*;

use super::super::preconditioner::Preconditioner;
use super::Sketch;
use crate::dense::{axpy, map_columns};
use crate::error::{SolveError, check_positive};
use crate::factor::{ThinSvd, add_gram_lower, cholesky, row_major};

/// Rows of `Y` taken together; fixed, so that sums do not depend on the number of threads.
const BLOCK: usize = 1024;

/// `Z`, and the head's decomposition.
pub struct WoodburySketch {
    sketch: Sketch,
    head: Option<ThinSvd>,
    /// `Z'Z`, lower triangle; only without a head, where it serves every `Lambda`.
    gram: Option<Mat<f64>>,
}

impl WoodburySketch {
    pub(super) fn new(sketch: Sketch, head: Option<&Mat<f64>>) -> Result<Self, SolveError> {
        let head = head
            .map(|phi| ThinSvd::new("singular values of the head's features", phi.as_ref()))
            .transpose()?;
        let gram = head.is_none().then(|| row_gram(&sketch.rows, sketch.width));
        Ok(Self { sketch, head, gram })
    }

    /// Factorises for `lambda`: `k x k` only without a head, `Y'Y` anew with one.
    ///
    /// # Errors
    /// When `lambda` is not positive or the factorisation fails.
    pub fn factorise(&self, lambda: f64) -> Result<WoodburyPreconditioner<'_>, SolveError> {
        check_positive("Lambda", lambda)?;
        let root = Root::new(self.head.as_ref(), self.sketch.classes, lambda);
        let what = "Cholesky of the sketch's k x k system";
        let (y, scale, factor) = if let Some(gram) = &self.gram {
            let system = gram * faer::Scale(1.0 / lambda);
            let factor = cholesky(what, system.as_ref(), 1.0)?;
            (
                Cow::Borrowed(self.sketch.rows.as_slice()),
                1.0 / lambda.sqrt(),
                factor,
            )
        } else {
            let y = root.apply_sketch(&self.sketch);
            let factor = cholesky(what, row_gram(&y, self.sketch.width).as_ref(), 1.0)?;
            (Cow::Owned(y), 1.0, factor)
        };
        Ok(WoodburyPreconditioner {
            root,
            y,
            scale,
            factor,
            width: self.sketch.width,
        })
    }
}

/// `Y'Y` (lower triangle, f64) of the row-major `y` with `width` columns.
fn row_gram(y: &[f32], width: usize) -> Mat<f64> {
    let mut gram = Mat::zeros(width, width);
    for block in y.chunks(BLOCK * width) {
        let block: Vec<f64> = block.iter().map(|x| f64::from(*x)).collect();
        let rows = row_major(&block, block.len() / width, width);
        add_gram_lower(&mut gram, rows.transpose(), 1.0);
    }
    gram
}

/// `B^-1/2`.
struct Root<'a> {
    head: Option<&'a ThinSvd>,
    /// `w`, one number a singular value.
    weights: Vec<f64>,
    /// `1/sqrt(Lambda)`.
    outside: f64,
    classes: usize,
}

impl<'a> Root<'a> {
    fn new(head: Option<&'a ThinSvd>, classes: usize, lambda: f64) -> Self {
        let outside = 1.0 / lambda.sqrt();
        let weight = |s: &f64| 1.0 / (s * s + lambda).sqrt() - outside;
        let weights = head
            .map(|svd| svd.s.iter().map(weight).collect())
            .unwrap_or_default();
        Self {
            head,
            weights,
            outside,
            classes,
        }
    }

    /// `B^-1/2 v` for a sample-major vector, which is a row-major `N x C` matrix.
    fn apply(&self, v: &[f64]) -> Vec<f64> {
        let mut out: Vec<f64> = v.iter().map(|x| x * self.outside).collect();
        if let Some(svd) = self.head {
            let samples = v.len() / self.classes;
            let mut rotated = svd.u.transpose() * row_major(v, samples, self.classes);
            for (j, w) in self.weights.iter().enumerate() {
                (0..self.classes).for_each(|c| rotated[(j, c)] *= w);
            }
            let out = MatMut::from_row_major_slice_mut(&mut out, samples, self.classes);
            matmul(
                out,
                Accum::Add,
                &svd.u,
                &rotated,
                1.0,
                get_global_parallelism(),
            );
        }
        out
    }

    /// `B^-1/2 Z` in f32: the row-major `NC x k` matrix read as `N x (C k)`.
    fn apply_sketch(&self, sketch: &Sketch) -> Vec<f32> {
        let mut out: Vec<f32> = sketch
            .rows
            .iter()
            .map(|x| x * self.outside as f32)
            .collect();
        let Some(svd) = self.head else { return out };
        let cols = sketch.width * self.classes;
        let samples = out.len() / cols;
        let z = MatRef::from_row_major_slice(&sketch.rows, samples, cols);
        let single = |m: &Mat<f64>| Mat::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)] as f32);
        let u = single(&svd.u);
        let mut weighted = u.clone();
        for (j, w) in self.weights.iter().enumerate() {
            weighted
                .col_as_slice_mut(j)
                .iter_mut()
                .for_each(|x| *x *= *w as f32);
        }
        let rotated = u.transpose() * z;
        let target = MatMut::from_row_major_slice_mut(&mut out, samples, cols);
        matmul(
            target,
            Accum::Add,
            &weighted,
            &rotated,
            1.0,
            get_global_parallelism(),
        );
        out
    }
}

/// `(K~ + Lambda I)^-1` by the Woodbury identity.
pub struct WoodburyPreconditioner<'a> {
    root: Root<'a>,
    /// `Y / scale`, row-major.
    y: Cow<'a, [f32]>,
    scale: f64,
    factor: Llt<f64>,
    width: usize,
}

impl WoodburyPreconditioner<'_> {
    /// `Y' v`, length `k`.
    fn project(&self, v: &[f64]) -> Vec<f64> {
        let partial = |(rows, v): (&[f32], &[f64])| {
            let mut sum = vec![0.0; self.width];
            for (row, v) in rows.chunks_exact(self.width).zip(v) {
                for (sum, x) in sum.iter_mut().zip(row) {
                    *sum += f64::from(*x) * v;
                }
            }
            sum
        };
        let blocks = self
            .y
            .par_chunks(BLOCK * self.width)
            .zip(v.par_chunks(BLOCK));
        let partials: Vec<Vec<f64>> = blocks.map(partial).collect();
        let mut sum = vec![0.0; self.width];
        for partial in &partials {
            axpy(self.scale, partial, &mut sum);
        }
        sum
    }

    /// Y in double precision, some rows at a time, with the first of them.
    fn rows(&self) -> impl Iterator<Item = (usize, Mat<f64>)> {
        let blocks = self.y.chunks(BLOCK * self.width).enumerate();
        blocks.map(|(k, block)| {
            let y = MatRef::from_row_major_slice(block, block.len() / self.width, self.width);
            let y = Mat::from_fn(y.nrows(), y.ncols(), |i, j| {
                self.scale * f64::from(y[(i, j)])
            });
            (k * BLOCK, y)
        })
    }

    /// `v -= Y t`.
    fn subtract(&self, t: &[f64], v: &mut [f64]) {
        v.par_iter_mut()
            .zip(self.y.par_chunks_exact(self.width))
            .for_each(|(v, row)| {
                let product: f64 = row.iter().zip(t).map(|(x, t)| f64::from(*x) * t).sum();
                *v -= self.scale * product;
            });
    }
}

impl Preconditioner for WoodburyPreconditioner<'_> {
    fn dim(&self) -> usize {
        self.y.len() / self.width
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        let mut v = self.root.apply(r);
        let mut t = self.project(&v);
        self.factor
            .solve_in_place(MatMut::from_column_major_slice_mut(&mut t, self.width, 1));
        self.subtract(&t, &mut v);
        z.copy_from_slice(&self.root.apply(&v));
    }

    fn apply_columns(&self, mut r: MatMut<'_, f64>) {
        map_columns(r.as_mut(), |r| self.root.apply(r));
        let mut t = Mat::zeros(self.width, r.ncols());
        for (first, y) in self.rows() {
            t += y.transpose() * r.as_ref().subrows(first, y.nrows());
        }
        self.factor.solve_in_place(t.as_mut());
        for (first, y) in self.rows() {
            let mut rows = r.as_mut().subrows_mut(first, y.nrows());
            rows -= y * &t;
        }
        map_columns(r, |r| self.root.apply(r));
    }
}
