//! A copy of the linearised weights for every class.
//!
//! All classes read the features through one row `w` of the head, so that at w0 the network has one
//! output, `f0(x) = w' phi(x; w0)`, and one gradient a sample, `g(x) = grad f0(x)` in R^D. Class c
//! moves a copy of the weights of its own, by the column `u_c` of `U` (`D x C`):
//!
//! ```text
//!     f_c(x) = f0(x) + g(x)' u_c ,        J = G (x) I_C ,        J J' = (G G') (x) I_C ,
//! ```
//!
//! with `G` (`N x D`) the Jacobian of the one output. It is the linearisation of C networks with
//! the same w0: where classes share their weights instead, the kernel has blocks between classes, in
//! which each disturbs the others (`docs/math/lqf.md`, section 5); here they are zero, and what the
//! dual forms and factorises is `N x N`. The price is C times the weights.
//!
//! A product with J or J' takes one backward pass a sample for its row of G, and a matrix product
//! with U or with the residuals. Unknowns are weight-major (`p * C + c`), rows sample-major
//! (`i * C + c`).

use std::ops::Range;

use convextune_model::graph::{Network, NodeId};
use convextune_model::kernels::gemm::{Mat, MatMut, gemm_parallel};
use convextune_model::tensor::{Scalar, Shape, Tensor};
use convextune_solve::{LinearOperator, OperatorError, Work};
use rayon::prelude::*;

use super::{Linearization, add_wide, narrow};
use crate::error::Error;

/// Numbers of G that are held at a time.
const GRADIENTS: usize = 1 << 27;
/// Columns of G that one product takes: bounds the error of sums in `T`.
const DEPTH: usize = 1 << 14;
/// Most unknowns: a vector of them takes 8 bytes each, and a solver holds several.
pub const UNKNOWNS: usize = 1 << 28;
/// Most samples that a sum in `T` runs over.
const RUN: usize = 1 << 10;

/// Samples that travel together, at most `batch`: fewer where their rows of G are long.
pub fn batch_of_copies<T: Scalar>(
    network: &Network<T>,
    first_trainable: NodeId,
    batch: usize,
    copies: usize,
) -> usize {
    if copies == 1 {
        return batch;
    }
    let before = network.parameter_range(first_trainable).start;
    let weights = network.parameters().len() - before;
    batch.min((GRADIENTS / weights.max(1)).max(1))
}

/// A linearisation with `copies` copies of its weights; with one copy, the linearisation itself.
pub struct Copies<'l, 'a, T = f32> {
    lin: &'l Linearization<'a, T>,
    /// D, of one copy.
    weights: usize,
    /// Of copies.
    number: usize,
    /// Samples whose rows of G are held at a time.
    run: usize,
}

impl<'l, 'a, T: Scalar> Copies<'l, 'a, T> {
    /// Copies of the weights of `lin`, which has one output if there are several.
    ///
    /// # Errors
    /// When there would be too many unknowns to hold.
    pub fn new(lin: &'l Linearization<'a, T>, copies: usize) -> Result<Self, Error> {
        let weights = lin.cols();
        if copies > 1 && lin.outputs() != 1 {
            let message = "classes that have a copy of the weights each share one row of the head";
            return Err(Error::Usage(message.into()));
        }
        if copies > 1 && weights.saturating_mul(copies) > UNKNOWNS {
            return Err(Error::Usage(format!(
                "a copy of {weights} weights for each of {copies} classes is more than this \
                 program holds; train from a later node on (`--linearize-from`), or share the \
                 weights among the classes (`--head-init random`)"
            )));
        }
        Ok(Self {
            lin,
            weights,
            number: copies,
            run: (RUN.min(GRADIENTS / weights) / lin.batch).max(1) * lin.batch,
        })
    }

    /// Copies of the weights: C, or 1 where classes share them.
    pub fn copies(&self) -> usize {
        self.number
    }

    /// The unknowns before the head's.
    pub fn backbone_range(&self) -> Range<usize> {
        0..self.lin.backbone_range().end * self.number
    }

    /// f0 over all samples, length NC.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn f0(&self) -> Result<Vec<f64>, Error> {
        Ok(self.repeated(&self.lin.f0()?))
    }

    /// f0 and J u over all samples, each of length NC.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn outputs_at(&self, u: &[f64]) -> Result<(Vec<f64>, Vec<f64>), Error> {
        if self.number == 1 {
            return self.lin.outputs_at(u);
        }
        let mut f0 = Vec::with_capacity(self.lin.rows());
        let mut ju = vec![0.0; self.rows()];
        let u: Vec<T> = narrow(u);
        self.for_gradients(|samples, outputs, g| {
            f0.extend_from_slice(outputs);
            self.times(g, &u, &mut ju[self.rows_of(&samples)]);
        })?;
        self.count(1, 0);
        Ok((self.repeated(&f0), ju))
    }

    /// `y = J_b u` for rows `g` of G.
    fn times(&self, g: &[T], u: &[T], y: &mut [f64]) {
        let (c, d) = (self.number, self.weights);
        let n = y.len() / c;
        let mut part = vec![T::ZERO; y.len()];
        y.fill(0.0);
        for first in (0..d).step_by(DEPTH) {
            let depth = DEPTH.min(d - first);
            let g = Mat::strided(&g[first..], n, depth, d);
            let u = Mat::strided(&u[first * c..], depth, c, c);
            gemm_parallel(MatMut::new(&mut part, n, c), false, g, u);
            y.iter_mut().zip(&part).for_each(|(y, p)| *y += p.to_f64());
        }
    }

    /// `x += J_b' y` for rows `g` of G; `gw` is scratch of the size of `x`.
    fn add_adjoint(&self, g: &[T], y: &[f64], gw: &mut [T], x: &mut [f64]) {
        let (c, d) = (self.number, self.weights);
        let n = y.len() / c;
        let y: Vec<T> = narrow(y);
        let (g, y) = (Mat::strided(g, n, d, d), Mat::strided(&y, n, c, c));
        gemm_parallel(MatMut::new(gw, d, c), false, g.t(), y);
        add_wide(x, gw);
    }

    /// Runs `f` on runs of samples with their outputs f0 and rows of G.
    fn for_gradients(&self, mut f: impl FnMut(Range<usize>, &[f64], &[T])) -> Result<(), Error> {
        let (lin, d) = (self.lin, self.weights);
        let mut g = vec![T::ZERO; self.run.min(lin.samples.len()) * d];
        let mut f0 = Vec::new();
        let mut begin = 0;
        lin.for_batches(|engine, images, samples| {
            let mut pass = engine.record_layers(images)?;
            f0.extend(pass.output().data().iter().map(|v| v.to_f64()));
            let ones = Tensor::from_vec(
                Shape::new(samples.len(), 1, 1, 1),
                vec![T::ONE; samples.len()],
            );
            let rows = &mut g[(samples.start - begin) * d..(samples.end - begin) * d];
            rows.fill(T::ZERO);
            pass.adjoint(ones, (1, 0), &mut |layer| {
                let columns = lin.network.parameter_range(layer.node);
                let columns = columns.start - lin.offset..columns.end - lin.offset;
                let add = |(i, row): (usize, &mut [T])| {
                    layer.add_one_to(i, 0, &mut row[columns.clone()]);
                };
                rows.par_chunks_mut(d).enumerate().for_each(add);
            });
            // Whether there is no room for another batch, or none comes.
            let full = samples.end - begin + lin.batch > self.run;
            if full || samples.end == lin.samples.len() {
                f(begin..samples.end, &f0, &g[..(samples.end - begin) * d]);
                begin = samples.end;
                f0.clear();
            }
            Ok(())
        })
    }

    /// The rows of `samples`.
    fn rows_of(&self, samples: &Range<usize>) -> Range<usize> {
        samples.start * self.number..samples.end * self.number
    }

    /// One value a sample, for every class.
    fn repeated(&self, values: &[f64]) -> Vec<f64> {
        let each = |v: &f64| std::iter::repeat_n(*v, self.number);
        values.iter().flat_map(each).collect()
    }

    /// Counts one pass over the data and its products.
    fn count(&self, jvps: u64, vjps: u64) {
        self.lin.count(Work {
            passes: 1.0,
            jvps,
            vjps,
            ..Work::default()
        });
    }
}

impl<T: Scalar> LinearOperator for Copies<'_, '_, T> {
    fn rows(&self) -> usize {
        self.lin.rows() * self.number
    }

    fn cols(&self) -> usize {
        self.weights * self.number
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        if self.number == 1 {
            return self.lin.apply(x, y);
        }
        let u: Vec<T> = narrow(x);
        self.for_gradients(|samples, _, g| self.times(g, &u, &mut y[self.rows_of(&samples)]))
            .map_err(OperatorError::new)?;
        self.count(1, 0);
        Ok(())
    }

    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        if self.number == 1 {
            return self.lin.apply_adjoint(y, x);
        }
        x.fill(0.0);
        let mut gw = vec![T::ZERO; x.len()];
        self.for_gradients(|samples, _, g| {
            self.add_adjoint(g, &y[self.rows_of(&samples)], &mut gw, x);
        })
        .map_err(OperatorError::new)?;
        self.count(0, 1);
        Ok(())
    }

    fn work(&self) -> Work {
        self.lin.work()
    }
}

#[cfg(test)]
mod tests;
