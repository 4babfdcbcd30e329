//! A prior that weighs blocks of unknowns differently.
//!
//! ```text
//!     min over u    1/2 || t - A u ||^2 + (Lambda/2) sum_j u_j^2 / s_j^2
//! ```
//!
//! is, with `u = S v` and `S = diag(s)`, the plain ridge problem of the operator `A S` in `v`: still
//! `Lambda`-strongly convex, so that every solver and every certificate holds as it stands. In the
//! dual its kernel is `A S^2 A'`.

use std::ops::Range;

use super::{LinearOperator, OperatorError, check_len};
use crate::error::{SolveError, check_positive};
use crate::work::Work;

/// `A S`: the operator `A` with the columns of one range multiplied by a factor.
pub struct Scaled<'a> {
    inner: &'a dyn LinearOperator,
    range: Range<usize>,
    factor: f64,
}

impl<'a> Scaled<'a> {
    /// Multiplies the columns `range` of `inner` by `factor`: the prior's standard deviation of
    /// these unknowns, in units of that of the others.
    ///
    /// # Errors
    /// When the factor is not positive and finite.
    pub fn new(
        inner: &'a dyn LinearOperator,
        range: Range<usize>,
        factor: f64,
    ) -> Result<Self, SolveError> {
        check_positive("scale of the prior", factor)?;
        let end = range.end.min(inner.cols());
        let range = range.start.min(end)..end;
        Ok(Self {
            inner,
            range,
            factor,
        })
    }

    /// `u = S v`.
    pub fn scale(&self, v: &mut [f64]) {
        if self.factor.to_bits() != 1.0f64.to_bits() {
            v[self.range.clone()]
                .iter_mut()
                .for_each(|x| *x *= self.factor);
        }
    }
}

impl LinearOperator for Scaled<'_> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn cols(&self) -> usize {
        self.inner.cols()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        check_len("x", self.cols(), x.len())?;
        let mut u = x.to_vec();
        self.scale(&mut u);
        self.inner.apply(&u, y)
    }

    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        check_len("x", self.cols(), x.len())?;
        self.inner.apply_adjoint(y, x)?;
        self.scale(x);
        Ok(())
    }

    fn apply_normal(
        &self,
        x: &[f64],
        image: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        check_len("x", self.cols(), x.len())?;
        let mut u = x.to_vec();
        self.scale(&mut u);
        self.inner.apply_normal(&u, image, out)?;
        self.scale(out);
        Ok(())
    }

    // `apply_gram` stays with its default: S^2 stands between A and A'.

    fn work(&self) -> Work {
        self.inner.work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;

    #[test]
    fn it_is_the_matrix_with_scaled_columns() {
        let entry = |i: usize| i as f64 - 5.0;
        let wide = |i: usize| entry(i) * if (1..3).contains(&(i % 4)) { 3.0 } else { 1.0 };
        let a = DenseOperator::new(3, 4, (0..12).map(entry).collect()).unwrap();
        let b = DenseOperator::new(3, 4, (0..12).map(wide).collect()).unwrap();
        let scaled = Scaled::new(&a, 1..3, 3.0).unwrap();
        let (x, y) = ([1.0, -2.0, 0.5, 4.0], [2.0, 1.0, -1.0]);
        let run = |op: &dyn LinearOperator| {
            let mut out = [vec![0.0; 3], vec![0.0; 4], vec![0.0; 3], vec![0.0; 4]];
            let [forward, adjoint, image, normal] = &mut out;
            op.apply(&x, forward).unwrap();
            op.apply_adjoint(&y, adjoint).unwrap();
            op.apply_normal(&x, image, normal).unwrap();
            let (mut preimage, mut gram) = (vec![0.0; 4], vec![0.0; 3]);
            op.apply_gram(&y, &mut preimage, &mut gram).unwrap();
            [out.concat(), preimage, gram].concat()
        };
        assert_eq!(run(&scaled), run(&b));
    }

    #[test]
    fn a_scale_must_be_positive() {
        let a = DenseOperator::new(1, 1, vec![0.0]).unwrap();
        assert!(Scaled::new(&a, 0..1, 0.0).is_err());
    }
}
