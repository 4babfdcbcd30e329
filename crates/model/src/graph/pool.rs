//! Buffers that are used again, so that a pass in its steady state allocates nothing.

use crate::tensor::{Scalar, Shape, Tensor};

/// Free buffers of a network's passes.
#[derive(Debug)]
pub struct Pool<T> {
    pub(super) free: Vec<Vec<T>>,
}

impl<T: Scalar> Pool<T> {
    /// A tensor with unspecified contents.
    pub fn take(&mut self, shape: Shape) -> Tensor<T> {
        let len = shape.len();
        let fitting = (0..self.free.len())
            .filter(|i| self.free[*i].len() >= len)
            .min_by_key(|i| self.free[*i].len());
        let buffer = match fitting {
            // A buffer far larger than needed is left for a tensor of its size.
            Some(i) if self.free[i].len() <= 4 * len.max(1 << 12) => self.free.swap_remove(i),
            _ => vec![T::ZERO; len],
        };
        Tensor::in_buffer(shape, buffer)
    }

    /// A copy of a tensor.
    pub fn copy(&mut self, tensor: &Tensor<T>) -> Tensor<T> {
        let mut copy = self.take(tensor.shape());
        copy.data_mut().copy_from_slice(tensor.data());
        copy
    }

    /// Takes the buffer of a tensor back that [`Self::take`] gave.
    pub fn give(&mut self, tensor: Tensor<T>) {
        let buffer = tensor.into_buffer();
        if !buffer.is_empty() {
            self.free.push(buffer);
        }
    }
}
