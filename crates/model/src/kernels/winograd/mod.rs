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
//! Tiles run in blocks and output channels in chunks whose working memory stays in the third-level
//! cache. In f32 the result differs from the direct sum by about 1e-6 of its size.

mod adjoint;
mod transforms;

use std::marker::PhantomData;

use rayon::prelude::*;

use self::transforms::{Input, Map, OUT, Output, PRODUCTS, Square, Transform, Weights};
use super::lanes::vectorize;
use super::patches::Window;
use super::scratch::{Scratch, scratch};
use super::tile::{Rows, panel_width};
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
    /// Numbers of a block's transformed inputs and outputs at most.
    block: usize,
    /// Input times output channels of a chunk at most.
    chunk: usize,
}

/// Eight megabytes of inputs and outputs, nine of weights, in f32.
const LIMITS: Limits = Limits {
    block: 1 << 21,
    chunk: 1 << 16,
};
/// Estimated cost of transforming one pair of channels' weights, in multiplications.
const WEIGHTS: usize = 200;
/// Numbers between the products of a tile row beyond what they need, against cache conflicts.
const GAP: usize = 16;

/// Transformed rows of tiles: `[tile rows][36][tiles in a row * channels + GAP]`.
struct Tiles<T: Scalar> {
    numbers: Scratch<T>,
    /// Numbers of one product of one tile row.
    product: usize,
    channels: usize,
    /// Tiles in a row.
    width: usize,
}

impl<T: Scalar> Tiles<T> {
    fn new(rows: usize, width: usize, channels: usize) -> Self {
        let product = width * channels + GAP;
        Self {
            numbers: scratch(rows * PRODUCTS * product),
            product,
            channels,
            width,
        }
    }

    /// Where product `f` of every tile of `rows` tile rows lies.
    fn base(&self, rows: usize, f: usize) -> Vec<usize> {
        let tile = |i: usize| {
            (i / self.width * PRODUCTS + f) * self.product + i % self.width * self.channels
        };
        (0..rows * self.width).map(tile).collect()
    }

    /// Transforms the squares of `x` that `square` names for a tile of a tile row.
    fn fill<M: Map<I, 6>, const I: usize>(
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

/// One of the products M += V U of a pass: the input, and which weights it meets.
struct Term<'a, T> {
    x: &'a [T],
    w: &'a [T],
}

impl Winograd {
    /// The fast algorithm for a convolution without groups, or `None` where it does not apply or
    /// the direct sum costs less.
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
        let pays = cin >= 16 && cout >= 16 && me.cost() < 9 * images * window.pixels();
        (applies && pad.iter().all(|p| *p <= 2) && pays).then_some(me)
    }

    /// Estimated cost of a pass, in multiplications of the direct sum by one pair of channels: the
    /// products in tiles of 14 rows, a third more for the transforms, and those of the weights.
    fn cost(&self) -> usize {
        let tiles = self.images * self.tile_rows() * self.width();
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

    /// The 4 x 4 outputs of a tile in an image that begins at `image`, from `channel` on.
    fn output_square(&self, ty: usize, tile: usize, (image, channel): (usize, usize)) -> Square {
        let [h, w] = self.window.output;
        let first = image + (OUT * ty * w + OUT * tile) * self.cout + channel;
        Square {
            first: first as isize,
            row: w * self.cout,
            column: self.cout,
            inside: [0..OUT.min(h - OUT * ty), 0..OUT.min(w - OUT * tile)],
        }
    }

    /// `y = P(x) W`, or `y += P(x) W`.
    pub fn forward<T: Scalar>(&self, x: &[T], w: &[T], accumulate: bool, y: &mut [T]) {
        self.sum_of_products(&[Term { x, w }], accumulate, y);
    }

    /// `dy = P(x) dW + P(dx) W`; a missing tangent is zero.
    pub fn tangent<T: Scalar>(
        &self,
        (x, w): (&[T], &[T]),
        (dx, dw): (Option<&[T]>, Option<&[T]>),
        dy: &mut [T],
    ) {
        let terms = [dw.map(|w| Term { x, w }), dx.map(|x| Term { x, w })];
        let terms: Vec<Term<'_, T>> = terms.into_iter().flatten().collect();
        if terms.is_empty() {
            dy.fill(T::ZERO);
        } else {
            self.sum_of_products(&terms, false, dy);
        }
    }

    /// `y (+)= sum over terms of P(x) W`.
    fn sum_of_products<T: Scalar>(&self, terms: &[Term<'_, T>], accumulate: bool, y: &mut [T]) {
        let (nr, chunk, width) = (panel_width::<T>(), self.chunk(), self.width());
        for first in (0..self.cout).step_by(chunk) {
            let channels = chunk.min(self.cout - first);
            let weights: Vec<Scratch<T>> = terms
                .iter()
                .map(|t| self.transform_weights(t.w, first, channels))
                .collect();
            for (row, rows) in self.blocks() {
                let product = rows * width * channels + GAP;
                let mut m = scratch::<T>(PRODUCTS * product);
                let mut v = Tiles::new(rows, width, self.cin);
                for (i, (term, u)) in terms.iter().zip(&weights).enumerate() {
                    v.fill(Input, term.x, rows, |r, t| self.input_square(row + r, t));
                    let products = m[..PRODUCTS * product].par_chunks_mut(product);
                    products.enumerate().for_each(|(f, m)| {
                        Rows {
                            x: &v.numbers,
                            base: &v.base(rows, f),
                            taps: &[0],
                            run: self.cin,
                            panels: &u[f * self.cin * nr..],
                            panel_stride: PRODUCTS * self.cin * nr,
                            cols: channels,
                            c: m,
                            stride: channels,
                            accumulate: i > 0,
                        }
                        .run();
                    });
                }
                self.untransform(&m, product, (row, rows), (first, channels), accumulate, y);
            }
        }
    }

    /// Writes the outputs of the tile rows `row..row + rows` for the channels from `first` on.
    fn untransform<T: Scalar>(
        &self,
        m: &[T],
        product: usize,
        (row, rows): (usize, usize),
        (first, channels): (usize, usize),
        accumulate: bool,
        y: &mut [T],
    ) {
        let [h, w] = self.window.output;
        let (width, line) = (self.width(), w * self.cout);
        let images = y.par_chunks_mut(h * line).enumerate();
        let lines = images.flat_map(|(n, y)| {
            let lines = y.par_chunks_mut(OUT * line).enumerate();
            lines.map(move |(ty, y)| (n * self.tile_rows() + ty, ty, y))
        });
        lines.for_each(|(r, ty, y)| {
            if !(row..row + rows).contains(&r) {
                return;
            }
            for tile in 0..width {
                let from = Square {
                    first: (((r - row) * width + tile) * channels) as isize,
                    row: 6 * product,
                    column: product,
                    inside: [0..6, 0..6],
                };
                // `y` begins at this tile row.
                let to = Square {
                    first: (OUT * tile * self.cout + first) as isize,
                    ..self.output_square(ty, tile, (0, 0))
                };
                vectorize(Transform {
                    map: PhantomData::<Output>,
                    x: m,
                    from,
                    y,
                    to,
                    channels,
                    accumulate,
                });
            }
        });
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
