//! What the rest of the project asks of whatever runs a network's passes.
//!
//! A network is data: nodes, their operators, one flat weight vector. An engine interprets it for
//! batches of images; how it fuses, tiles or places the arithmetic is its own affair. Results come
//! as tensors in the host's memory. [`Executor`] is the engine of this crate; the tests have a slow
//! one that follows the definitions. Of an operator an engine must know the four maps that
//! [`crate::ops`] defines, for every variant of [`Op`](crate::ops::Op).

use super::execute::{Executor, LayerGradient, LayerRecording, Recording};
use super::{GraphError, NodeId};
use crate::tensor::{Scalar, Tensor};

/// Runs the passes of one network f(x; w), whose weights from some node on are trained.
pub trait Engine<T: Scalar> {
    /// Trained numbers: the length of every `v` and `gw`.
    fn trainable_len(&self) -> usize;

    /// f(x; w).
    ///
    /// # Errors
    /// When the images do not fit the network.
    fn forward(&mut self, x: Tensor<T>) -> Result<Tensor<T>, GraphError>;

    /// f(x; w) and J v.
    ///
    /// # Errors
    /// When the images do not fit the network.
    fn dual(&mut self, x: Tensor<T>, v: &[T]) -> Result<(Tensor<T>, Tensor<T>), GraphError>;

    /// A pass, dual where `v` is given, that can be followed back for the sum over its samples.
    ///
    /// # Errors
    /// When the images do not fit the network.
    fn record_sum<'s>(
        &'s mut self,
        x: Tensor<T>,
        v: Option<&[T]>,
    ) -> Result<Box<dyn SummedPass<T> + 's>, GraphError>;

    /// Takes a result's storage back.
    fn recycle(&mut self, tensor: Tensor<T>);
}

/// A recorded pass whose adjoint is summed over the samples.
pub trait SummedPass<T: Scalar> {
    /// f(x; w).
    fn output(&self) -> &Tensor<T>;
    /// J v, if a tangent was given.
    fn tangent(&self) -> Option<&Tensor<T>>;
    /// `gw += J'g` for one gradient `g` a sample.
    fn vjp(self: Box<Self>, g: Tensor<T>, gw: &mut [T]);
}

/// An engine that also gives every layer's own gradients.
pub trait LayerEngine<T: Scalar>: Engine<T> {
    /// A forward pass that can be followed back layer by layer.
    ///
    /// # Errors
    /// When the images do not fit the network.
    fn record_layers<'s>(
        &'s mut self,
        x: Tensor<T>,
    ) -> Result<Box<dyn LayeredPass<T> + 's>, GraphError>;
}

/// A recorded pass that can be followed back layer by layer, several times.
pub trait LayeredPass<T: Scalar> {
    /// f(x; w).
    fn output(&self) -> &Tensor<T>;
    /// Hands the input and the output gradients of every trained layer to `consume`, from the last
    /// layer to the first that is wanted; `back` is the number of gradients that `g` holds for each
    /// sample, and that first node.
    fn adjoint(
        &mut self,
        g: Tensor<T>,
        back: (usize, NodeId),
        consume: &mut dyn FnMut(LayerGradient<'_, T>),
    );
}

/// A recording with the executor that made it; its buffers go back when it is dropped.
struct Pass<'s, 'a, T: Scalar> {
    executor: &'s mut Executor<'a, T>,
    recording: Recording<T>,
}

/// The same, layer by layer.
struct Layers<'s, 'a, T: Scalar> {
    executor: &'s mut Executor<'a, T>,
    recording: LayerRecording<T>,
}

impl<T: Scalar> SummedPass<T> for Pass<'_, '_, T> {
    fn output(&self) -> &Tensor<T> {
        &self.recording.output
    }

    fn tangent(&self) -> Option<&Tensor<T>> {
        self.recording.tangent.as_ref()
    }

    fn vjp(mut self: Box<Self>, g: Tensor<T>, gw: &mut [T]) {
        let recording = std::mem::replace(&mut self.recording, Recording::empty());
        self.executor.vjp(recording, g, gw);
    }
}

impl<T: Scalar> LayeredPass<T> for Layers<'_, '_, T> {
    fn output(&self) -> &Tensor<T> {
        self.recording.output()
    }

    fn adjoint(
        &mut self,
        g: Tensor<T>,
        back: (usize, NodeId),
        consume: &mut dyn FnMut(LayerGradient<'_, T>),
    ) {
        self.executor.adjoint(&self.recording, g, back, consume);
    }
}

impl<T: Scalar> Drop for Pass<'_, '_, T> {
    fn drop(&mut self) {
        self.executor.reclaim(&mut self.recording);
    }
}

impl<T: Scalar> Drop for Layers<'_, '_, T> {
    fn drop(&mut self) {
        self.executor.reclaim(&mut self.recording.0);
    }
}

impl<T: Scalar> Engine<T> for Executor<'_, T> {
    fn trainable_len(&self) -> usize {
        Executor::trainable_len(self)
    }

    fn forward(&mut self, x: Tensor<T>) -> Result<Tensor<T>, GraphError> {
        Executor::forward(self, x)
    }

    fn dual(&mut self, x: Tensor<T>, v: &[T]) -> Result<(Tensor<T>, Tensor<T>), GraphError> {
        Executor::dual(self, x, v)
    }

    fn record_sum<'s>(
        &'s mut self,
        x: Tensor<T>,
        v: Option<&[T]>,
    ) -> Result<Box<dyn SummedPass<T> + 's>, GraphError> {
        let recording = self.record(x, v)?;
        Ok(Box::new(Pass {
            executor: self,
            recording,
        }))
    }

    fn recycle(&mut self, tensor: Tensor<T>) {
        self.recycle_tensor(tensor);
    }
}

impl<T: Scalar> LayerEngine<T> for Executor<'_, T> {
    fn record_layers<'s>(
        &'s mut self,
        x: Tensor<T>,
    ) -> Result<Box<dyn LayeredPass<T> + 's>, GraphError> {
        let recording = Executor::record_layers(self, x)?;
        Ok(Box::new(Layers {
            executor: self,
            recording,
        }))
    }
}
