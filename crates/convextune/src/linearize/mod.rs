//! A network linearised in its trainable weights, as a linear operator on them.
//!
//! ```text
//! f_lin(x; u) = f0(x) + J(x) u ,    J(x) = df(x; w)/dw at w0 ,   u = w - w0
//! ```
//!
//! Over N samples with C outputs, J is `NC x D` (rows sample-major: `i * C + c`) and is never
//! stored: `J u` is one dual pass over the data, `J' r` one adjoint pass, and the normal product
//! `J'J u` one pass in which tangent and adjoint share the primal activations.

mod copies;
mod cross;
mod curvature;
mod gradients;
mod kernel;
mod memory;
mod sketch;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::{Cell, RefCell};
use std::ops::Range;

use convextune_model::graph::{Executor, LayerEngine, Network, NodeId};
use convextune_model::tensor::{Scalar, Shape, Tensor};
use convextune_solve::{LinearOperator, OperatorError, Work};
use rayon::prelude::*;

use crate::error::Error;
use crate::progress::Reporter;
use crate::samples::Samples;

pub use copies::{Copies, UNKNOWNS, batch_of_copies};
pub use cross::CrossKernel;
pub use curvature::{Curvature, CurvatureOptions};
pub use memory::batch_within;
pub use sketch::{SketchOptions, SketchedRows};

/// The Jacobian of a network over a set of samples; the passes run in number type `T`.
pub struct Linearization<'a, T = f32> {
    network: &'a Network<T>,
    samples: &'a Samples<T>,
    first_trainable: NodeId,
    offset: usize,
    batch: usize,
    outputs: usize,
    engine: RefCell<Box<dyn LayerEngine<T> + 'a>>,
    work: Cell<Work>,
    reporter: &'a dyn Reporter,
}

impl<'a, T: Scalar> Linearization<'a, T> {
    /// Linearises `network` in the weights of the nodes from `first_trainable` on, over
    /// `samples`, which are read `batch` at a time.
    ///
    /// # Errors
    /// When the samples do not fit the network, or nothing is left to train.
    pub fn new(
        network: &'a Network<T>,
        first_trainable: NodeId,
        samples: &'a Samples<T>,
        batch: usize,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, Error> {
        let shapes = network.graph().shapes(samples.shape())?;
        let outputs = shapes.last().map_or(0, Shape::image_len);
        let executor = Executor::new(network, first_trainable);
        if executor.trainable_len() == 0 || outputs == 0 {
            return Err(Error::NothingToTrain);
        }
        Ok(Self {
            network,
            samples,
            offset: executor.offset(),
            first_trainable,
            batch: batch.max(1),
            outputs,
            engine: RefCell::new(Box::new(executor)),
            work: Cell::new(Work::default()),
            reporter,
        })
    }

    /// The network at w0.
    pub fn network(&self) -> &'a Network<T> {
        self.network
    }

    /// The samples.
    pub fn samples(&self) -> &'a Samples<T> {
        self.samples
    }

    /// The first node whose weights are trained.
    pub fn first_trainable(&self) -> NodeId {
        self.first_trainable
    }

    /// The same network over other samples of the same shape.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on<'b>(&'b self, samples: &'b Samples<T>) -> Result<Linearization<'b, T>, Error> {
        Linearization::new(
            self.network,
            self.first_trainable,
            samples,
            self.batch,
            self.reporter,
        )
    }

    /// Counts backward passes over a part of the samples, in passes over all of them (rounded up).
    pub(crate) fn count_part(&self, samples: usize, directions: usize) {
        let share = samples as f64 / self.samples.len().max(1) as f64;
        self.count(Work {
            passes: share,
            vjps: (share * directions as f64).ceil() as u64,
            ..Work::default()
        });
    }

    /// The weights before the head, as a range of u.
    pub fn backbone_range(&self) -> Range<usize> {
        0..self.network.parameter_range(self.head()).start - self.offset
    }

    /// C, outputs of the network per sample.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// f0 over all samples, length NC.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn f0(&self) -> Result<Vec<f64>, Error> {
        let mut out = Vec::with_capacity(self.rows());
        self.for_batches(|engine, x, _| {
            let y = engine.forward(x)?;
            out.extend(y.data().iter().map(|v| v.to_f64()));
            engine.recycle(y);
            Ok(())
        })?;
        self.count(Work {
            passes: 1.0,
            ..Work::default()
        });
        Ok(out)
    }

    /// f0 and J u over all samples, each of length NC.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn outputs_at(&self, u: &[f64]) -> Result<(Vec<f64>, Vec<f64>), Error> {
        let v = narrow(u);
        let (mut f0, mut ju) = (
            Vec::with_capacity(self.rows()),
            Vec::with_capacity(self.rows()),
        );
        self.for_batches(|engine, x, _| {
            let (y, dy) = engine.dual(x, &v)?;
            f0.extend(y.data().iter().map(|v| v.to_f64()));
            ju.extend(dy.data().iter().map(|v| v.to_f64()));
            engine.recycle(y);
            engine.recycle(dy);
            Ok(())
        })?;
        self.count(Work {
            passes: 1.0,
            jvps: 1,
            ..Work::default()
        });
        Ok((f0, ju))
    }

    fn count(&self, work: Work) {
        self.work.set(self.work.get() + work);
    }

    /// Runs `f` on every batch with the range of its samples.
    fn for_batches(
        &self,
        mut f: impl FnMut(&mut (dyn LayerEngine<T> + 'a), Tensor<T>, Range<usize>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut engine = self.engine.borrow_mut();
        for range in self.samples.batches(self.batch) {
            f(
                engine.as_mut(),
                self.samples.batch(range.clone())?,
                range.clone(),
            )?;
            self.reporter.advance(range.len() as u64);
        }
        Ok(())
    }

    /// `sum over batches of J_b' r_b`, where `r` gives the gradient at a batch's outputs.
    fn adjoint_pass(
        &self,
        v: Option<&[T]>,
        mut r: impl FnMut(Range<usize>, Option<&Tensor<T>>) -> Vec<T>,
        x: &mut [f64],
    ) -> Result<(), Error> {
        x.fill(0.0);
        let mut gw = vec![T::ZERO; x.len()];
        self.for_batches(|engine, images, range| {
            let pass = engine.record_sum(images, v)?;
            let n = range.len();
            let g = r(range, pass.tangent());
            let g = Tensor::from_vec(Shape::new(n, 1, 1, self.outputs), g);
            gw.fill(T::ZERO);
            pass.vjp(g, &mut gw);
            add_wide(x, &gw);
            Ok(())
        })
    }
}

impl<T: Scalar> LinearOperator for Linearization<'_, T> {
    fn rows(&self) -> usize {
        self.samples.len() * self.outputs
    }

    fn cols(&self) -> usize {
        self.engine.borrow().trainable_len()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        let v = narrow(x);
        let c = self.outputs;
        let pass = self.for_batches(|engine, images, range| {
            let (f, dy) = engine.dual(images, &v)?;
            widen_into(&mut y[range.start * c..range.end * c], dy.data());
            engine.recycle(f);
            engine.recycle(dy);
            Ok(())
        });
        self.count(Work {
            passes: 1.0,
            jvps: 1,
            ..Work::default()
        });
        pass.map_err(OperatorError::new)
    }

    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        let c = self.outputs;
        let pass = self.adjoint_pass(
            None,
            |range, _| narrow(&y[range.start * c..range.end * c]),
            x,
        );
        self.count(Work {
            passes: 1.0,
            vjps: 1,
            ..Work::default()
        });
        pass.map_err(OperatorError::new)
    }

    fn apply_normal(
        &self,
        x: &[f64],
        image: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        let v = narrow(x);
        let c = self.outputs;
        let gradient = |range: Range<usize>, tangent: Option<&Tensor<T>>| {
            let dy = tangent.map(|t| t.data().to_vec()).unwrap_or_default();
            widen_into(&mut image[range.start * c..range.end * c], &dy);
            dy
        };
        let pass = self.adjoint_pass(Some(&v), gradient, out);
        self.count(Work {
            passes: 1.0,
            jvps: 1,
            vjps: 1,
            normal_products: 1,
            ..Work::default()
        });
        pass.map_err(OperatorError::new)
    }

    fn apply_gram(
        &self,
        y: &[f64],
        preimage: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.apply_adjoint(y, preimage)?;
        self.apply(preimage, out)?;
        self.count(Work {
            normal_products: 1,
            ..Work::default()
        });
        Ok(())
    }

    fn work(&self) -> Work {
        self.work.get()
    }
}

fn narrow<T: Scalar>(x: &[f64]) -> Vec<T> {
    x.par_iter()
        .with_min_len(1 << 14)
        .map(|v| T::from_f64(*v))
        .collect()
}

fn widen_into<T: Scalar>(out: &mut [f64], x: &[T]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = x.to_f64();
    }
}

fn add_wide<T: Scalar>(out: &mut [f64], x: &[T]) {
    out.par_chunks_mut(1 << 14)
        .zip(x.par_chunks(1 << 14))
        .for_each(|(out, x)| {
            for (o, x) in out.iter_mut().zip(x) {
                *o += x.to_f64();
            }
        });
}
