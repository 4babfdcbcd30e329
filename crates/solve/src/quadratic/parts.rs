//! A kernel in two parts, whose weights against each other are open.
//!
//! ```text
//!     K(s) = (Phi Phi') (x) I_C + s^2 R
//! ```
//!
//! Phi are features that act on every class alike (a linear head); R is the rest, exact or sketched.
//! `s` is the prior's standard deviation of the rest's unknowns in units of the head's
//! ([`crate::Scaled`]).

use faer::{Mat, MatRef};
use rayon::prelude::*;

use super::sketch::Sketch;
use super::sketch::gram::sketch_gram;
use crate::error::{SolveError, check_len};
use crate::factor::mirror_lower;

/// The two parts of a kernel.
#[derive(Clone, Debug)]
pub struct KernelParts {
    /// R, `NC x NC`, rows sample-major.
    rest: Mat<f64>,
    /// `Phi Phi'`, `N x N`.
    gram: Mat<f64>,
}

impl KernelParts {
    /// From R (`NC x NC`) and Phi (`N x d`).
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn new(rest: Mat<f64>, features: MatRef<'_, f64>) -> Result<Self, SolveError> {
        let (n, rows) = (features.nrows(), rest.nrows());
        check_len("columns of a kernel", rows, rest.ncols())?;
        check_len("rows of a kernel", n * (rows / n.max(1)), rows)?;
        Ok(Self {
            rest,
            gram: features * features.transpose(),
        })
    }

    /// With `R = Z Z'` from sketched rows.
    ///
    /// # Errors
    /// When the sizes do not fit.
    pub fn from_sketch(sketch: &Sketch, features: MatRef<'_, f64>) -> Result<Self, SolveError> {
        let mut rest = sketch_gram(sketch.view());
        mirror_lower(&mut rest);
        Self::new(rest, features)
    }

    /// `Phi Phi'`, `N x N`.
    pub fn gram(&self) -> MatRef<'_, f64> {
        self.gram.as_ref()
    }

    /// N.
    pub fn samples(&self) -> usize {
        self.gram.nrows()
    }

    /// C.
    pub fn classes(&self) -> usize {
        self.rest.nrows() / self.samples().max(1)
    }

    /// The parts that belong to some samples and classes.
    #[must_use]
    pub fn select(&self, samples: &[usize], classes: &[usize]) -> Self {
        let (c, q) = (self.classes(), classes.len());
        let row = |r: usize| samples[r / q] * c + classes[r % q];
        let rows = samples.len() * q;
        Self {
            rest: Mat::from_fn(rows, rows, |i, j| self.rest[(row(i), row(j))]),
            gram: Mat::from_fn(samples.len(), samples.len(), |i, j| {
                self.gram[(samples[i], samples[j])]
            }),
        }
    }

    /// `K(s)`, `NC x NC`.
    pub fn kernel(&self, s: f64) -> Mat<f64> {
        let (c, square, rows) = (self.classes(), s * s, self.rest.nrows());
        let mut kernel = Mat::zeros(rows, rows);
        kernel
            .par_col_iter_mut()
            .enumerate()
            .for_each(|(j, mut k)| {
                for (i, r) in self.rest.col(j).iter().enumerate() {
                    k[i] = square * r;
                }
                for i in 0..self.samples() {
                    k[i * c + j % c] += self.gram[(i, j / c)];
                }
            });
        kernel
    }

    /// Mean diagonals of the two parts with the mean over samples of each class taken away:
    /// the head's and the rest's.
    pub fn mean_diagonals(&self) -> (f64, f64) {
        let (n, c) = (self.samples(), self.classes());
        let centred = |entry: &dyn Fn(usize, usize) -> f64| {
            let trace: f64 = (0..n).map(|i| entry(i, i)).sum();
            let sum: f64 = (0..n)
                .map(|i| (0..n).map(|j| entry(i, j)).sum::<f64>())
                .sum();
            (trace - sum / n as f64) / n as f64
        };
        let head = centred(&|i, j| self.gram[(i, j)]);
        let of_class = |p: usize| centred(&|i, j| self.rest[(i * c + p, j * c + p)]);
        let rest = (0..c).map(of_class).sum::<f64>() / c.max(1) as f64;
        (head, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quadratic::{Intercept, KernelRidge};

    #[test]
    fn the_parts_add_up() {
        let (n, c) = (4, 2);
        let phi = Mat::from_fn(n, 3, |i, j| ((i * 3 + j) as f64).sin());
        let rows: Vec<f32> = (0..n * c * 5).map(|i| (i as f32 * 0.7).cos()).collect();
        let sketch = Sketch {
            rows: rows.clone(),
            width: 5,
            classes: c,
        };
        let parts = KernelParts::from_sketch(&sketch, phi.as_ref()).unwrap();
        let kernel = parts.kernel(0.5);
        for i in 0..n * c {
            for j in 0..n * c {
                let dot: f32 = (0..5).map(|k| rows[i * 5 + k] * rows[j * 5 + k]).sum();
                let head: f64 = (0..3).map(|k| phi[(i / c, k)] * phi[(j / c, k)]).sum();
                let expected = 0.25 * f64::from(dot) + if i % c == j % c { head } else { 0.0 };
                assert!((kernel[(i, j)] - expected).abs() < 1e-5);
            }
        }
        let ridge = KernelRidge::new(kernel, c, Intercept::Free).unwrap();
        let (head, rest) = parts.mean_diagonals();
        assert!((ridge.mean_diagonal() - head - 0.25 * rest).abs() < 1e-9);
    }

    #[test]
    fn a_selection_has_the_entries_of_its_samples_and_classes() {
        let (n, c) = (4, 3);
        let rest = Mat::from_fn(n * c, n * c, |i, j| (i * j) as f64 + (i + j) as f64);
        let phi = Mat::from_fn(n, 2, |i, j| ((i * 2 + j) as f64).sin());
        let parts = KernelParts::new(rest, phi.as_ref()).unwrap();
        let (whole, selected) = (parts.kernel(0.5), parts.select(&[1, 3], &[0, 2]));
        assert_eq!((selected.samples(), selected.classes()), (2, 2));
        let rows = [3, 5, 9, 11];
        let expected = Mat::from_fn(4, 4, |i, j| whole[(rows[i], rows[j])]);
        assert_eq!(selected.kernel(0.5), expected);
    }
}
