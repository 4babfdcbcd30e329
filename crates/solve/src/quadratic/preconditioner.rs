//! Approximate inverses.

/// A symmetric positive definite map `z = B^-1 r`, fixed during a solve.
pub trait Preconditioner {
    /// Length of `r` and `z`.
    fn dim(&self) -> usize;

    /// `z = B^-1 r`; overwrites `z`. Both slices have length [`Preconditioner::dim`].
    fn apply(&self, r: &[f64], z: &mut [f64]);
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
