//! The adjoint passes: to the input by the forward pass, to the weights by transposed transforms.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::products::Operands;
use super::tiles::Tiles;
use super::transforms::{Gradient, Input, OUT, PRODUCTS, Square, Transform, WeightGradient};
use super::{GAP, Winograd};
use crate::kernels::elementwise::add_to;
use crate::kernels::finish::nothing;
use crate::kernels::lanes::vectorize;
use crate::kernels::patches::Window;
use crate::kernels::scratch::scratch;
use crate::kernels::tile::Columns;
use crate::tensor::Scalar;

impl Winograd {
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

    /// `gx (+)= P'(g W')`: the convolution of g with the kernel turned round.
    pub fn adjoint_input<T: Scalar>(&self, g: &[T], w: &[T], accumulate: bool, gx: &mut [T]) {
        let Window {
            input, output, pad, ..
        } = self.window;
        let turned = Self {
            window: Window {
                input: output,
                output: input,
                pad: pad.map(|p| 2 - p),
                ..self.window
            },
            cin: self.cout,
            cout: self.cin,
            ..*self
        };
        let mut around = scratch::<T>(w.len());
        let matrix = self.cin * self.cout;
        around
            .par_chunks_mut(self.cin)
            .enumerate()
            .for_each(|(i, out)| {
                let (tap, o) = (i / self.cout, i % self.cout);
                let w = &w[(8 - tap) * matrix..(9 - tap) * matrix];
                for (out, w) in out.iter_mut().zip(w.chunks_exact(self.cout)) {
                    *out = w[o];
                }
            });
        let operands = Operands {
            inputs: &[g],
            weights: &[&around],
            crossed: &[],
            accumulate,
        };
        turned.products(&operands, (gx, None), None, &nothing);
    }

    /// `gw += P(x)' g`, where image `i` of `x` serves the `repeat` gradients of that image.
    pub fn adjoint_weights<T: Scalar>(&self, x: &[T], g: &[T], repeat: usize, gw: &mut [T]) {
        if repeat > 1 {
            // One gradient a sample at a time; the samples' images lie apart.
            let image = self.window.pixels() * self.cout;
            let mut one = scratch::<T>(self.images * image);
            for r in 0..repeat {
                let run = g.chunks_exact(image).skip(r).step_by(repeat);
                for (one, g) in one.chunks_exact_mut(image).zip(run) {
                    one.copy_from_slice(g);
                }
                self.adjoint_weights(x, &one, 1, gw);
            }
            return;
        }
        let (chunk, width) = (self.chunk(), self.width());
        let [h, w] = self.window.output;
        for first in (0..self.cout).step_by(chunk) {
            let channels = chunk.min(self.cout - first);
            let matrix = self.cin * channels;
            let mut gu = scratch::<T>(PRODUCTS * (matrix + GAP));
            gu.fill(T::ZERO);
            for (row, rows) in self.blocks() {
                let mut v = Tiles::new(rows, width, self.cin);
                v.fill(Input, x, rows, |r, t| self.input_square(row + r, t));
                let mut gm = Tiles::new(rows, width, channels);
                gm.fill(Gradient, g, rows, |r, t| {
                    let (n, ty) = ((row + r) / self.tile_rows(), (row + r) % self.tile_rows());
                    self.output_square(ty, t, (n * h * w * self.cout, first))
                });
                let products = gu.par_chunks_mut(matrix + GAP).enumerate();
                products.for_each(|(f, gu)| {
                    Columns {
                        x: &v.numbers,
                        x_base: &v.base(rows, f),
                        rows: self.cin,
                        g: &gm.numbers,
                        g_base: &gm.base(rows, f),
                        cols: channels,
                        c: gu,
                        stride: channels,
                    }
                    .run();
                });
            }
            self.untransform_weights(&gu, (first, channels), gw);
        }
    }

    /// `gw += G' gU G` for the output channels from `first` on.
    fn untransform_weights<T: Scalar>(
        &self,
        gu: &[T],
        (first, channels): (usize, usize),
        gw: &mut [T],
    ) {
        let product = self.cin * channels + GAP;
        let mut taps = scratch::<T>(self.cin * 9 * channels);
        let rows = taps.par_chunks_mut(9 * channels).enumerate();
        rows.for_each(|(ci, y)| {
            let from = Square {
                first: (ci * channels) as isize,
                row: 6 * product,
                column: product,
                inside: [0..6, 0..6],
            };
            let to = Square {
                first: 0,
                row: 3 * channels,
                column: channels,
                inside: [0..3, 0..3],
            };
            vectorize(Transform {
                map: PhantomData::<WeightGradient>,
                x: gu,
                from,
                y,
                to,
                channels,
                accumulate: false,
            });
        });
        let rows = gw.par_chunks_mut(self.cout).enumerate();
        rows.for_each(|(row, gw)| {
            let (tap, ci) = (row / self.cin, row % self.cin);
            let sum = &taps[(ci * 9 + tap) * channels..][..channels];
            add_to(&mut gw[first..first + channels], sum);
        });
    }
}
