//! The kernel between queries and samples, `J(samples) S^2 J(queries)'`, layer by layer as the
//! kernel of the samples itself ([`super::kernel`]): neither Jacobian is ever held as a whole.

use convextune_model::tensor::Scalar;
use convextune_solve::LinearOperator;
use faer::Mat as Dense;
use rayon::prelude::*;

use super::Linearization;
use super::kernel::{Outer, Read, Run, add_products};
use crate::error::Error;

/// Inner products of the rows of n queries, C each, with those of N samples and with their own.
#[derive(Clone, Debug)]
pub struct CrossKernel {
    /// `NC x nC`, rows and columns sample-major.
    pub samples: Dense<f64>,
    /// `C x nC`: columns `i C .. (i + 1) C` are the products of the rows of query i with each other.
    pub own: Dense<f64>,
}

impl<T: Scalar> Linearization<'_, T> {
    /// Backward passes over samples and queries that [`Self::cross_kernel`] needs, per class.
    pub fn cross_kernel_passes(&self, queries: &Linearization<'_, T>, memory: usize) -> usize {
        self.cross_runs(queries, memory).len()
    }

    fn cross_runs(&self, queries: &Linearization<'_, T>, memory: usize) -> Vec<Run> {
        let rows = self.rows() + queries.rows();
        self.layer_runs(memory / (size_of::<T>() * rows).max(1))
    }

    /// The kernel of these samples with `queries`, which are of the same network, where the prior's
    /// standard deviation of the backbone's weights is `scale` in units of that of the head's; in
    /// at most about `memory` bytes of rows at a time.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn cross_kernel(
        &self,
        queries: &Linearization<'_, T>,
        scale: f64,
        memory: usize,
    ) -> Result<CrossKernel, Error> {
        let (n, rows) = (self.samples().len(), self.rows());
        let (asked, columns) = (queries.samples().len(), queries.rows());
        // Row-major `nC x NC` is column-major `NC x nC`.
        let (mut rest, mut own) = (
            vec![0.0f64; columns * rows],
            vec![0.0f64; columns * self.outputs()],
        );
        let (mut ours, mut theirs) = (Read::default(), Read::default());
        let (mut j, mut k) = (Vec::new(), Vec::new());
        for run in self.cross_runs(queries, memory) {
            self.run_rows(&run, &mut ours, &mut j)?;
            queries.run_rows(&run, &mut theirs, &mut k)?;
            add_products((&k, columns), (&j, rows), &mut rest);
            add_own(&k, self.outputs(), &mut own);
        }
        for (node, layer) in &theirs.outer {
            if let Some(other) = ours.outer.get(node) {
                layer.add_products((asked, columns), other, (n, rows), &mut rest);
            }
            layer.add_own((asked, self.outputs()), &mut own);
        }
        let (c, square) = (self.outputs(), scale * scale);
        let (phi, psi) = (ours.features(n), theirs.features(asked));
        let gram = &phi * psi.transpose();
        let squares: Vec<f64> = psi.row_iter().map(|x| x.squared_norm_l2()).collect();
        let same = |r: usize, s: usize| f64::from(u8::from(r % c == s % c));
        Ok(CrossKernel {
            samples: Dense::from_fn(rows, columns, |r, s| {
                square * rest[s * rows + r] + same(r, s) * gram[(r / c, s / c)]
            }),
            own: Dense::from_fn(c, columns, |r, s| {
                square * own[s * c + r] + same(r, s) * squares[s / c]
            }),
        })
    }
}

/// `own += <row, row>` within each sample of `c` rows.
fn add_own<T: Scalar>(rows: &[T], c: usize, own: &mut [f64]) {
    let width = rows.len() / (own.len() / c).max(1);
    if width == 0 {
        return;
    }
    let blocks = own.par_chunks_mut(c * c).zip(rows.par_chunks(c * width));
    blocks.for_each(|(own, rows)| add_products((rows, c), (rows, c), own));
}

impl<T: Scalar> Outer<T> {
    /// Its part of the products within each of `n` samples of `c` rows.
    fn add_own(&self, (n, c): (usize, usize), own: &mut [f64]) {
        let (m, width) = (self.x.len() / n.max(1), self.g.len() / (n * c).max(1));
        for (i, own) in own.chunks_exact_mut(c * c).enumerate() {
            let (x, g) = (
                &self.x[i * m..(i + 1) * m],
                &self.g[i * c * width..(i + 1) * c * width],
            );
            let (mut square, mut products) = ([0.0], vec![0.0; c * c]);
            add_products((x, 1), (x, 1), &mut square);
            add_products((g, c), (g, c), &mut products);
            let factor = square[0] + f64::from(u8::from(self.bias));
            own.iter_mut()
                .zip(products)
                .for_each(|(own, g)| *own += factor * g);
        }
    }
}
