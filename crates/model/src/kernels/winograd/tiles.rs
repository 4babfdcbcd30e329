//! Squares of inputs or gradients in the product domain.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::GAP;
use super::transforms::{Map, PRODUCTS, Square, Transform};
use crate::kernels::lanes::vectorize;
use crate::kernels::scratch::{Scratch, scratch};
use crate::tensor::Scalar;

/// Transformed rows of tiles: `[tile rows][36][tiles in a row * channels + GAP]`.
pub(super) struct Tiles<T: Scalar> {
    pub numbers: Scratch<T>,
    /// Numbers of one product of one tile row.
    pub product: usize,
    channels: usize,
    /// Tiles in a row.
    width: usize,
}

impl<T: Scalar> Tiles<T> {
    pub fn new(rows: usize, width: usize, channels: usize) -> Self {
        let product = width * channels + GAP;
        Self {
            numbers: scratch(rows * PRODUCTS * product),
            product,
            channels,
            width,
        }
    }

    /// Where product `f` of every tile of `rows` tile rows lies.
    pub fn base(&self, rows: usize, f: usize) -> Vec<usize> {
        let tile = |i: usize| {
            (i / self.width * PRODUCTS + f) * self.product + i % self.width * self.channels
        };
        (0..rows * self.width).map(tile).collect()
    }

    /// Transforms the squares of `x` that `square` names for a tile of a tile row.
    pub fn fill<M: Map<I, 6>, const I: usize>(
        &mut self,
        _: M,
        x: &[T],
        rows: usize,
        square: impl Fn(usize, usize) -> Square + Sync,
    ) {
        let (product, channels, width) = (self.product, self.channels, self.width);
        let len = PRODUCTS * product;
        let chunks = self.numbers[..rows * len].par_chunks_mut(len).enumerate();
        chunks.for_each(|(row, y)| {
            for tile in 0..width {
                let to = Square {
                    first: (tile * channels) as isize,
                    row: 6 * product,
                    column: product,
                    inside: [0..6, 0..6],
                };
                vectorize(Transform::<M, T, I, 6> {
                    map: PhantomData,
                    x,
                    from: square(row, tile),
                    y,
                    to,
                    channels,
                    accumulate: false,
                });
            }
        });
    }
}
