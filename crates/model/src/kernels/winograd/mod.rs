//! 3 x 3 convolutions of stride one by F(4 x 4, 3 x 3): a quarter of the multiplications.
//!
//! S. Winograd 1980; A. Lavin, S. Gray, *Fast algorithms for convolutional neural networks*, CVPR
//! 2016. The image is cut into tiles of 4 x 4 outputs, each reading 6 x 6 inputs. With V the
//! transformed inputs, U the transformed weights and f one of the 36 products of a tile,
//!
//! ```text
//! forward   M_f  = V_f U_f                     V_f [tiles, cin], U_f [cin, cout], M_f [tiles, cout]
//! tangent   dM_f = V_f dU_f + dV_f U_f         one way back for both terms
//! adjoint   gx by the same with the kernel turned round and its channels exchanged
//!           gU_f = V_f' gM_f                   gM the transposed transform of g
//! ```
//!
//! so each pass is 36 matrix products, between transforms that are vectorised over channels.
//! A task takes a few rows of tiles, transforms their inputs once for all products of a chunk of channels, and brings
//! some output channels back at a time, so that most of it stays in a thread's own cache; chunks of
//! transformed weights stay in the one that threads share. In f32 the result differs from the
//! direct sum by about 1e-6 of its size.

mod adjoint;
mod products;
mod tiles;
mod transforms;

use std::marker::PhantomData;

use rayon::prelude::*;

use self::products::Operands;
use self::transforms::{OUT, PRODUCTS, Square, Transform, Weights};
use super::finish::Finish;
use super::lanes::vectorize;
use super::patches::Window;
use super::scratch::{Scratch, scratch};
use super::tile::panel_width;
use crate::tensor::Scalar;

/// A 3 x 3 convolution of stride one on images of a known size.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    window: Window,
    cin: usize,
    cout: usize,
    images: usize,
    limits: Limits,
}

/// What is held in the cache together.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Numbers of a block's transformed inputs and gradients at most (weight gradients).
    block: usize,
    /// Input times output channels of a chunk at most.
    chunk: usize,
    /// Numbers of a task's products that are brought back together, at most.
    back: usize,
}

/// Eight megabytes of inputs and outputs, nine of weights, in f32.
const LIMITS: Limits = Limits {
    block: 1 << 21,
    chunk: 1 << 16,
    back: 1 << 16,
};
/// Images for which the choice is made: it must not depend on the batch, or a sample's activations
/// would differ, in the last digits, from batch to batch.
const BATCH: usize = 16;
/// Estimated cost of transforming one pair of channels' weights, in multiplications.
const WEIGHTS: usize = 200;
/// Numbers between the products of a tile row beyond what they need, against cache conflicts.
const GAP: usize = 16;

impl Winograd {
    /// The fast algorithm for a convolution without groups, or `None` where it does not apply or
    /// the direct sum costs less in a usual batch.
    pub fn new(window: Window, cin: usize, cout: usize, images: usize) -> Option<Self> {
        let Window {
            kernel,
            stride,
            dilation,
            pad,
            ..
        } = window;
        let applies = kernel == [3, 3] && stride == [1, 1] && dilation == [1, 1];
        let me = Self {
            window,
            cin,
            cout,
            images,
            limits: LIMITS,
        };
        let pays = cin >= 16 && cout >= 16 && me.cost(BATCH) < 9 * BATCH * window.pixels();
        (applies && pad.iter().all(|p| *p <= 2) && pays).then_some(me)
    }

    /// Whether the weight gradient of so many images is better summed this way than directly: the
    /// way back from the product domain costs the same for one image as for all.
    pub fn pays_for_weights(&self, images: usize) -> bool {
        self.cost(images) < 9 * images * self.window.pixels()
    }

    /// Estimated cost of a pass over some images, in multiplications of the direct sum by one pair
    /// of channels: the products in tiles of 14 rows, a third more for the transforms, and those
    /// of the weights.
    fn cost(&self, images: usize) -> usize {
        let tiles = images * self.tile_rows() * self.width();
        PRODUCTS * tiles.next_multiple_of(14) * 4 / 3 + WEIGHTS
    }

    /// Tiles across an image.
    fn width(&self) -> usize {
        self.window.output[1].div_ceil(OUT)
    }

    /// Tile rows of one image.
    fn tile_rows(&self) -> usize {
        self.window.output[0].div_ceil(OUT)
    }

    /// Output channels that are treated together.
    fn chunk(&self) -> usize {
        let nr = panel_width::<f32>();
        (self.limits.chunk / self.cin / nr * nr).clamp(nr, self.cout.next_multiple_of(nr))
    }

    /// Tile rows, counted over all images, that are treated together.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let all = self.images * self.tile_rows();
        let tile = PRODUCTS * (self.cin + self.chunk().min(self.cout));
        let most = (self.limits.block / (tile * self.width())).clamp(1, all);
        let blocks = all.div_ceil(most);
        let rows = all.div_ceil(blocks);
        (0..all)
            .step_by(rows)
            .map(move |first| (first, rows.min(all - first)))
    }

    /// The 6 x 6 inputs of a tile.
    fn input_square(&self, row: usize, tile: usize) -> Square {
        let [h, w] = self.window.input;
        let (image, ty) = (row / self.tile_rows(), row % self.tile_rows());
        let inside = |t: usize, pad: usize, size: usize| {
            pad.saturating_sub(OUT * t)..(size + pad).saturating_sub(OUT * t).min(6)
        };
        let [top, left] = [OUT * ty, OUT * tile];
        let first = ((image * h + top) * w + left) as isize
            - (self.window.pad[0] * w + self.window.pad[1]) as isize;
        Square {
            first: first * self.cin as isize,
            row: w * self.cin,
            column: self.cin,
            inside: [
                inside(ty, self.window.pad[0], h),
                inside(tile, self.window.pad[1], w),
            ],
        }
    }

    /// `z = P(x) W` and, where it has a place, `dz = P(x) dW + P(dx) W`, and what `finish` makes of
    /// them; a missing tangent is zero.
    pub fn run<T: Scalar>(
        &self,
        (x, w): (&[T], &[T]),
        (dx, dw): (Option<&[T]>, Option<&[T]>),
        (z, mut dz): (&mut [T], Option<&mut [T]>),
        y: Option<&mut [T]>,
        finish: &Finish<'_, T>,
    ) {
        let inputs: Vec<&[T]> = std::iter::once(x).chain(dx).collect();
        let weights: Vec<&[T]> = std::iter::once(w).chain(dw).collect();
        let crossed = [dw.map(|_| (0, 1)), dx.map(|_| (1, 0))];
        let crossed: Vec<(usize, usize)> = crossed.into_iter().flatten().collect();
        let operands = Operands {
            inputs: &inputs,
            weights: &weights,
            crossed: &crossed,
            accumulate: false,
        };
        if let (Some(dz), true) = (&mut dz, crossed.is_empty()) {
            dz.fill(T::ZERO);
        }
        self.products(&operands, (z, dz), y, finish);
    }

    /// U for the output channels from `first` on: `[panel][36][cin][NR]`.
    fn transform_weights<T: Scalar>(&self, w: &[T], first: usize, channels: usize) -> Scratch<T> {
        let nr = panel_width::<T>();
        let panel = PRODUCTS * self.cin * nr;
        let mut u = scratch::<T>(channels.div_ceil(nr) * panel);
        u.par_chunks_mut(panel).enumerate().for_each(|(j, u)| {
            let o = first + j * nr;
            for ci in 0..self.cin {
                let from = Square {
                    first: (ci * self.cout + o) as isize,
                    row: 3 * self.cin * self.cout,
                    column: self.cin * self.cout,
                    inside: [0..3, 0..3],
                };
                let to = Square {
                    first: (ci * nr) as isize,
                    row: 6 * self.cin * nr,
                    column: self.cin * nr,
                    inside: [0..6, 0..6],
                };
                vectorize(Transform {
                    map: PhantomData::<Weights>,
                    x: w,
                    from,
                    y: u,
                    to,
                    channels: nr.min(first + channels - o),
                    accumulate: false,
                });
            }
        });
        u
    }
}

#[cfg(test)]
mod tests;
