//! Buffers that are used again, so that a pass in its steady state allocates nothing.

use crate::tensor::{Scalar, Shape, Tensor};

/// Free buffers of a network's passes.
#[derive(Debug)]
pub struct Pool<T> {
    pub(super) free: Vec<Vec<T>>,
}

impl<T: Scalar> Pool<T> {
    /// A tensor with unspecified contents, for a while.
    pub fn take(&mut self, shape: Shape) -> Tensor<T> {
        // A buffer far larger than needed is left for a tensor of its size.
        self.within(shape, 4 * shape.len().max(1 << 12))
    }

    /// A tensor with unspecified contents that outlives others: hardly more than it needs.
    pub fn take_to_keep(&mut self, shape: Shape) -> Tensor<T> {
        self.within(shape, shape.len() + shape.len() / 4)
    }

    /// The smallest buffer that fits, of at most `most` numbers, or a new one.
    fn within(&mut self, shape: Shape, most: usize) -> Tensor<T> {
        let len = shape.len();
        let fitting = (0..self.free.len())
            .filter(|i| (len..=most).contains(&self.free[*i].len()))
            .min_by_key(|i| self.free[*i].len());
        let buffer = match fitting {
            Some(i) => self.free.swap_remove(i),
            None => vec![T::ZERO; len],
        };
        Tensor::in_buffer(shape, buffer)
    }

    /// A copy of a tensor.
    pub fn copy(&mut self, tensor: &Tensor<T>) -> Tensor<T> {
        let mut copy = self.take(tensor.shape());
        copy.data_mut().copy_from_slice(tensor.data());
        copy
    }

    /// Takes the buffer of a tensor back.
    pub fn give(&mut self, tensor: Tensor<T>) {
        let buffer = tensor.into_buffer();
        if !buffer.is_empty() {
            self.free.push(buffer);
        }
    }
}
