//! The dual kernel of a fit, kept in the model file: what every question about the training images needs and takes a
//! pass over all of them to form.
//!
//! `K = J S^2 J'` over the training images in their order (by class, then by name), `Nq x Nq`, with s of the model and
//! not centred. It is symmetric: the lower triangle is held, row after row, in double precision, since the systems with
//! K amplify an error in it by the condition number. A model file holds single precision, so the numbers are split in
//! two tensors, `kernel/high` and `kernel/low`, whose sum they are to 2^-48.

use std::collections::BTreeMap;
use std::path::Path;

use convextune_model::weights::NamedTensor;
use convextune_solve::faer::{Mat, MatRef};

use crate::error::Error;
use crate::model_file::unusable;

/// Bytes of a kernel that is kept without being asked for, at most.
const UNASKED: usize = 64 << 20;

const HIGH: &str = "kernel/high";
const LOW: &str = "kernel/low";

/// A symmetric matrix, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptKernel {
    rows: usize,
    /// Row after row up to the diagonal.
    lower: Vec<f64>,
}

/// Whether a kernel of `rows` rows is kept; `asked`: whether the user wants it, if that was said.
pub(crate) fn is_kept(rows: usize, asked: Option<bool>) -> bool {
    asked.unwrap_or(entries(rows).saturating_mul(size_of::<f64>()) <= UNASKED)
}

/// Of the triangle.
fn entries(rows: usize) -> usize {
    rows.saturating_mul(rows.saturating_add(1)) / 2
}

impl KeptKernel {
    /// Of a symmetric matrix.
    pub fn new(kernel: MatRef<'_, f64>) -> Self {
        let rows = kernel.nrows();
        let lower = (0..rows).flat_map(|i| (0..=i).map(move |j| kernel[(i, j)]));
        Self {
            rows,
            lower: lower.collect(),
        }
    }

    /// Rows, as many as columns.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The whole matrix.
    pub fn matrix(&self) -> Mat<f64> {
        Mat::from_fn(self.rows, self.rows, |i, j| {
            let (i, j) = (i.max(j), i.min(j));
            self.lower[i * (i + 1) / 2 + j]
        })
    }

    /// The rows and columns of the samples for which `keep` is true.
    #[must_use]
    pub fn of_samples(&self, keep: &[bool]) -> Self {
        let q = self.rows / keep.len().max(1);
        let rows: Vec<usize> = (0..self.rows).filter(|r| keep[r / q]).collect();
        let lower = rows.iter().enumerate().flat_map(|(k, i)| {
            let row = &self.lower[i * (i + 1) / 2..];
            rows[..=k].iter().map(move |j| row[*j])
        });
        Self {
            lower: lower.collect(),
            rows: rows.len(),
        }
    }

    /// Whether a file can hold it: no number is beyond single precision.
    pub(crate) fn is_writable(&self) -> bool {
        self.lower.iter().all(|k| (*k as f32).is_finite())
    }

    /// As the tensors of a model file.
    pub(crate) fn tensors(&self) -> [(String, NamedTensor<f32>); 2] {
        let tensor = |name: &str, part: &dyn Fn(f64) -> f32| {
            let data: Vec<f32> = self.lower.iter().map(|k| part(*k)).collect();
            let shape = vec![data.len()];
            (name.to_owned(), NamedTensor { shape, data })
        };
        let high = |k: f64| k as f32;
        [
            tensor(HIGH, &high),
            tensor(LOW, &|k| (k - f64::from(high(k))) as f32),
        ]
    }

    /// Takes it out of the tensors of a model file whose kernel would have `rows` rows; `None` where the file has none.
    ///
    /// # Errors
    /// When it has another size, or half of it is missing.
    pub(crate) fn take(
        path: &Path,
        tensors: &mut BTreeMap<String, NamedTensor<f32>>,
        rows: usize,
    ) -> Result<Option<Self>, Error> {
        let (high, low) = (tensors.remove(HIGH), tensors.remove(LOW));
        let (high, low) = match (high, low) {
            (None, None) => return Ok(None),
            (Some(high), Some(low)) => (high.data, low.data),
            (high, _) => {
                let missing = if high.is_some() { LOW } else { HIGH };
                return Err(unusable(path, format!("tensor `{missing}` is missing")));
            }
        };
        for (name, found) in [(HIGH, high.len()), (LOW, low.len())] {
            let wanted = entries(rows);
            if found != wanted {
                let reason = format!("tensor `{name}` has {found} numbers instead of {wanted}");
                return Err(unusable(path, reason));
            }
        }
        let sum = high
            .iter()
            .zip(&low)
            .map(|(h, l)| f64::from(*h) + f64::from(*l));
        Ok(Some(Self {
            rows,
            lower: sum.collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use convextune_testkit::Rng;

    use super::*;

    /// `rows x rows`, with entries of very different sizes.
    fn kernel(rows: usize) -> Mat<f64> {
        let mut rng = Rng::new(4);
        let a = Mat::from_fn(rows, 3, |i, _| rng.normal() * 10f64.powi(i as i32 - 3));
        &a * a.transpose()
    }

    fn through_the_file(kept: &KeptKernel) -> KeptKernel {
        let mut tensors = BTreeMap::from(kept.tensors());
        let taken = KeptKernel::take(Path::new("m"), &mut tensors, kept.rows());
        assert!(tensors.is_empty());
        taken.unwrap().unwrap()
    }

    #[test]
    fn a_file_keeps_more_digits_than_single_precision() {
        let kernel = kernel(9);
        let kept = KeptKernel::new(kernel.as_ref());
        assert_eq!(kept.matrix(), kernel);
        let read = through_the_file(&kept).matrix();
        for i in 0..9 {
            for j in 0..9 {
                let (told, truth): (f64, f64) = (read[(i, j)], kernel[(i, j)]);
                assert!(
                    (told - truth).abs() <= 2f64.powi(-47) * truth.abs(),
                    "{i} {j}"
                );
            }
        }
    }

    #[test]
    fn samples_that_go_take_their_rows_along() {
        let kernel = kernel(8);
        let keep = [true, false, true, true];
        let rows = [0, 1, 4, 5, 6, 7];
        let wanted = Mat::from_fn(6, 6, |i, j| kernel[(rows[i], rows[j])]);
        let rest = KeptKernel::new(kernel.as_ref()).of_samples(&keep);
        assert_eq!((rest.rows(), rest.matrix()), (6, wanted));
    }

    #[test]
    fn a_file_with_half_a_kernel_or_another_one_is_refused() {
        let kept = KeptKernel::new(kernel(4).as_ref());
        let mut half = BTreeMap::from(kept.tensors());
        half.remove(LOW);
        let error = KeptKernel::take(Path::new("m"), &mut half, 4).unwrap_err();
        assert!(
            error.to_string().contains("`kernel/low` is missing"),
            "{error}"
        );
        let mut other = BTreeMap::from(kept.tensors());
        let error = KeptKernel::take(Path::new("m"), &mut other, 5).unwrap_err();
        assert!(
            error.to_string().contains("10 numbers instead of 15"),
            "{error}"
        );
    }

    #[test]
    fn small_ones_are_kept_unasked() {
        assert!(is_kept(4_000, None) && !is_kept(4_200, None));
        assert!(is_kept(12_000, Some(true)) && !is_kept(10, Some(false)));
    }
}
