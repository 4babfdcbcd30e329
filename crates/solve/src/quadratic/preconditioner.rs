//! Approximate inverses.

use faer::{MatMut, MatRef};

use crate::dense::map_columns;

/// A symmetric positive definite map `z = B^-1 r`, fixed during a solve.
pub trait Preconditioner {
    /// Length of `r` and `z`.
    fn dim(&self) -> usize;

    /// `z = B^-1 r`; overwrites `z`. Both slices have length [`Preconditioner::dim`].
    fn apply(&self, r: &[f64], z: &mut [f64]);

    /// `R <- B^-1 R`, for several columns at once. To be overridden where a factor is better read once than once a
    /// column.
    fn apply_columns(&self, r: MatMut<'_, f64>) {
        map_columns(r, |r| {
            let mut z = vec![0.0; r.len()];
            self.apply(r, &mut z);
            z
        });
    }
}

/// One preconditioner for each of several columns: `B^-1 (x) I` on an `n x columns` matrix,
/// row-major.
pub struct Columns<'a>(
    /// `B`, for one column.
    pub &'a dyn Preconditioner,
    /// Number of columns.
    pub usize,
);

impl Preconditioner for Columns<'_> {
    fn dim(&self) -> usize {
        self.0.dim() * self.1
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        if self.1 == 1 {
            return self.0.apply(r, z);
        }
        let (n, columns) = (self.0.dim(), self.1);
        let mut image = MatRef::from_row_major_slice(r, n, columns).to_owned();
        self.0.apply_columns(image.as_mut());
        MatMut::from_row_major_slice_mut(z, n, columns).copy_from(&image);
    }
}

/// No preconditioning, `z = r`.
#[derive(Clone, Copy, Debug)]
pub struct Identity(
    /// The dimension.
    pub usize,
);

impl Preconditioner for Identity {
    fn dim(&self) -> usize {
        self.0
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        z.copy_from_slice(r);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Divides entry i by i + 1.
    struct Ramp(usize);

    impl Preconditioner for Ramp {
        fn dim(&self) -> usize {
            self.0
        }
        fn apply(&self, r: &[f64], z: &mut [f64]) {
            for (i, (z, r)) in z.iter_mut().zip(r).enumerate() {
                *z = r / (i + 1) as f64;
            }
        }
    }

    #[test]
    fn columns_are_preconditioned_one_by_one() {
        let ramp = Ramp(3);
        let m = Columns(&ramp, 2);
        assert_eq!(m.dim(), 6);
        let mut z = [0.0; 6];
        m.apply(&[1.0, 2.0, 4.0, 6.0, 9.0, 12.0], &mut z);
        for (z, want) in z.into_iter().zip([1.0, 2.0, 2.0, 3.0, 3.0, 4.0]) {
            assert!((z - want).abs() < 1e-15);
        }
    }
}
