//! Dense and grouped convolutions as matrix products on patch tiles that stay in the cache.
//!
//! With P(x) the patch matrix (output pixels x taps*cin) and W (taps*cin x cout):
//!
//! ```text
//! forward   y  = P(x) W
//! tangent   dy = P(x) dW + P(dx) W
//! adjoint   gx = P'(g W') ,  gW = P(x)' g
//! ```
//!
//! P is never stored whole: a tile of rows is gathered, used by every product that needs it, and
//! overwritten. A pointwise convolution (1x1, stride 1) uses the image itself as P.

use rayon::prelude::*;

use super::gemm::{Mat, MatMut, gemm};
use super::patches::{Channels, Window, gather, scatter};
use crate::tensor::Scalar;

/// A convolution on images of a known size.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// Where each output pixel reads.
    pub window: Window,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Groups that the channels are divided into.
    pub groups: usize,
}

/// Patch numbers a tile holds where its rows are many: half a megabyte in f32, a share of the
/// second-level cache.
const TILE: usize = 1 << 17;
/// Rows a tile has at least: a product packs the weights once a tile, which few rows do not repay.
const MIN_ROWS: usize = 384;
/// A weight gradient of at most this many numbers is summed from one copy per task.
const SMALL_GRADIENT: usize = 1 << 16;

impl Convolution {
    fn group_channels(&self, group: usize) -> Channels {
        let count = self.cin / self.groups;
        Channels {
            first: group * count,
            count,
            total: self.cin,
        }
    }

    /// Rows of the weight matrix: taps times input channels of a group.
    fn depth(&self) -> usize {
        self.window.taps() * self.cin / self.groups
    }

    fn group_cout(&self) -> usize {
        self.cout / self.groups
    }

    /// Columns of group `group` of a `[depth, cout]` weight matrix.
    fn weights<'a, T: Scalar>(&self, w: &'a [T], group: usize) -> Mat<'a, T> {
        let cols = self.group_cout();
        Mat::strided(&w[group * cols..], self.depth(), cols, self.cout)
    }

    /// Rows of a tile: as many as the cache holds, and the same number of tiles for every thread.
    fn tile_rows(&self, pixels: usize) -> usize {
        let share = pixels.div_ceil(rayon::current_num_threads()).max(1);
        let tiles = share.div_ceil((TILE / self.depth()).clamp(MIN_ROWS, 4096));
        share.div_ceil(tiles)
    }

    /// Output pixels of all images.
    fn pixels<T>(&self, y: &[T]) -> usize {
        y.len() / self.cout
    }

    /// Calls `f` with the rows `first..first + rows` of P(x) for one group.
    fn with_patches<T: Scalar>(
        &self,
        x: &[T],
        group: usize,
        (first, rows): (usize, usize),
        scratch: &mut Vec<T>,
        f: impl FnOnce(Mat<'_, T>),
    ) {
        let channels = self.group_channels(group);
        if self.window.is_pointwise() {
            let x = &x[first * self.cin + channels.first..];
            return f(Mat::strided(x, rows, channels.count, self.cin));
        }
        let depth = self.depth();
        if scratch.len() < rows * depth {
            scratch.resize(rows * depth, T::ZERO);
        }
        let tile = &mut scratch[..rows * depth];
        gather(
            x,
            &self.window,
            channels,
            0..self.window.taps(),
            first,
            tile,
        );
        f(Mat::new(tile, rows, depth));
    }

    /// `y = P(x) W`, or `y += P(x) W`.
    pub fn forward<T: Scalar>(&self, x: &[T], w: &[T], accumulate: bool, y: &mut [T]) {
        let rows = self.tile_rows(self.pixels(y));
        y.par_chunks_mut(rows * self.cout)
            .enumerate()
            .for_each_init(Vec::new, |scratch, (i, y)| {
                let tile = (i * rows, y.len() / self.cout);
                for group in 0..self.groups {
                    self.with_patches(x, group, tile, scratch, |p| {
                        gemm(
                            self.columns(y, group),
                            accumulate,
                            p,
                            self.weights(w, group),
                        );
                    });
                }
            });
    }

    /// `y = P(x) W` and `dy = P(x) dW + P(dx) W`; a missing tangent is zero.
    pub fn dual<T: Scalar>(
        &self,
        (x, w): (&[T], &[T]),
        (dx, dw): (Option<&[T]>, Option<&[T]>),
        y: &mut [T],
        dy: &mut [T],
    ) {
        let rows = self.tile_rows(self.pixels(y));
        let len = rows * self.cout;
        let tiles = y
            .par_chunks_mut(len)
            .zip(dy.par_chunks_mut(len))
            .enumerate();
        tiles.for_each_init(Vec::new, |scratch, (i, (y, dy))| {
            let tile = (i * rows, y.len() / self.cout);
            for group in 0..self.groups {
                self.with_patches(x, group, tile, scratch, |p| {
                    gemm(self.columns(y, group), false, p, self.weights(w, group));
                    if let Some(dw) = dw {
                        gemm(self.columns(dy, group), false, p, self.weights(dw, group));
                    }
                });
                if let Some(dx) = dx {
                    self.with_patches(dx, group, tile, scratch, |p| {
                        gemm(
                            self.columns(dy, group),
                            dw.is_some(),
                            p,
                            self.weights(w, group),
                        );
                    });
                }
            }
        });
    }

    /// The output channels of one group, as columns of a tile.
    fn columns<'a, T: Scalar>(&self, y: &'a mut [T], group: usize) -> MatMut<'a, T> {
        let rows = y.len() / self.cout;
        let cols = self.group_cout();
        MatMut::strided(&mut y[group * cols..], rows, cols, self.cout)
    }

    /// `gx (+)= P'(g W')`; a task scatters into a run of images of its own.
    pub fn adjoint_input<T: Scalar>(&self, g: &[T], w: &[T], accumulate: bool, gx: &mut [T]) {
        if self.window.is_pointwise() {
            return self.adjoint_input_pointwise(g, w, accumulate, gx);
        }
        let image = self.window.input[0] * self.window.input[1] * self.cin;
        let images = gx.len() / image;
        let run = images.div_ceil(rayon::current_num_threads()).max(1);
        let g_run = run * self.window.pixels() * self.cout;
        let tasks = gx.par_chunks_mut(run * image).zip(g.par_chunks(g_run));
        tasks.for_each(|(gx, g)| {
            if !accumulate {
                gx.fill(T::ZERO);
            }
            self.scatter_gradients(g, w, gx);
        });
    }

    /// `gx += P'(g W')` on the calling thread.
    fn scatter_gradients<T: Scalar>(&self, g: &[T], w: &[T], gx: &mut [T]) {
        let rows = (TILE / self.depth())
            .clamp(MIN_ROWS, 4096)
            .min(self.pixels(g));
        let mut tile = vec![T::ZERO; rows * self.depth()];
        for (i, g) in g.chunks(rows * self.cout).enumerate() {
            let count = g.len() / self.cout;
            for group in 0..self.groups {
                let patches = &mut tile[..count * self.depth()];
                let c = MatMut::new(patches, count, self.depth());
                gemm(
                    c,
                    false,
                    self.group_gradient(g, group),
                    self.weights(w, group).t(),
                );
                scatter(
                    patches,
                    &self.window,
                    self.group_channels(group),
                    i * rows,
                    gx,
                );
            }
        }
    }

    fn adjoint_input_pointwise<T: Scalar>(&self, g: &[T], w: &[T], accumulate: bool, gx: &mut [T]) {
        let rows = self.tile_rows(self.pixels(g));
        let tiles = gx
            .par_chunks_mut(rows * self.cin)
            .zip(g.par_chunks(rows * self.cout));
        tiles.for_each(|(gx, g)| {
            for group in 0..self.groups {
                let channels = self.group_channels(group);
                let count = g.len() / self.cout;
                let gx = &mut gx[channels.first..];
                let c = MatMut::strided(gx, count, channels.count, self.cin);
                gemm(
                    c,
                    accumulate,
                    self.group_gradient(g, group),
                    self.weights(w, group).t(),
                );
            }
        });
    }

    fn group_gradient<'a, T: Scalar>(&self, g: &'a [T], group: usize) -> Mat<'a, T> {
        let cols = self.group_cout();
        Mat::strided(&g[group * cols..], g.len() / self.cout, cols, self.cout)
    }

    /// `gW += P(x)' g`, where image `i` of `x` serves the `repeat` gradients of that image.
    pub fn adjoint_weights<T: Scalar>(&self, x: &[T], g: &[T], repeat: usize, gw: &mut [T]) {
        let image = self.window.input[0] * self.window.input[1] * self.cin;
        if repeat > 1 {
            let g_image = self.window.pixels() * self.cout;
            for (i, g) in g.chunks(g_image).enumerate() {
                let x = &x[(i / repeat) * image..][..image];
                self.adjoint_weights(x, g, 1, gw);
            }
        } else if gw.len() <= SMALL_GRADIENT || !self.can_split_depth() {
            self.adjoint_weights_by_rows(x, g, gw);
        } else {
            self.adjoint_weights_by_depth(x, g, gw);
        }
    }

    fn can_split_depth(&self) -> bool {
        self.groups == 1 && (self.window.is_pointwise() || self.window.taps() > 1)
    }

    /// Each task sums a run of output pixels into its own copy; the copies are added in order.
    fn adjoint_weights_by_rows<T: Scalar>(&self, x: &[T], g: &[T], gw: &mut [T]) {
        let pixels = self.pixels(g);
        let tasks = rayon::current_num_threads().min(pixels.div_ceil(96)).max(1);
        let share = pixels.div_ceil(tasks);
        let partial: Vec<Vec<T>> = (0..tasks)
            .into_par_iter()
            .map(|task| {
                let mut sum = vec![T::ZERO; gw.len()];
                let range = task * share..((task + 1) * share).min(pixels);
                self.add_weight_gradient(x, g, range, &mut sum);
                sum
            })
            .collect();
        for sum in &partial {
            super::elementwise::add_to(gw, sum);
        }
    }

    /// `gw += P(x)' g` over a run of output pixels, on the calling thread.
    fn add_weight_gradient<T: Scalar>(
        &self,
        x: &[T],
        g: &[T],
        range: std::ops::Range<usize>,
        gw: &mut [T],
    ) {
        let rows = (TILE / self.depth()).clamp(96, 4096);
        let mut scratch = Vec::new();
        for first in range.clone().step_by(rows) {
            let count = rows.min(range.end - first);
            let g = &g[first * self.cout..(first + count) * self.cout];
            for group in 0..self.groups {
                let cols = self.group_cout();
                self.with_patches(x, group, (first, count), &mut scratch, |p| {
                    let gw = &mut gw[group * cols..];
                    let c = MatMut::strided(gw, self.depth(), cols, self.cout);
                    gemm(c, true, p.t(), self.group_gradient(g, group));
                });
            }
        }
    }

    /// Each task owns a block of rows of gW (taps, or channels of a pointwise kernel): no copies.
    fn adjoint_weights_by_depth<T: Scalar>(&self, x: &[T], g: &[T], gw: &mut [T]) {
        let pixels = self.pixels(g);
        let unit = if self.window.is_pointwise() {
            16
        } else {
            self.cin
        };
        let blocks = self.depth().div_ceil(unit);
        let share = blocks.div_ceil(2 * rayon::current_num_threads()).max(1) * unit;
        gw.par_chunks_mut(share * self.cout)
            .enumerate()
            .for_each(|(task, gw)| {
                let depth = gw.len() / self.cout;
                if self.window.is_pointwise() {
                    let p = Mat::strided(&x[task * share..], pixels, depth, self.cin);
                    gemm(
                        MatMut::new(gw, depth, self.cout),
                        true,
                        p.t(),
                        Mat::new(g, pixels, self.cout),
                    );
                    return;
                }
                let first_tap = task * share / self.cin;
                let taps = first_tap..first_tap + depth / self.cin;
                let rows = (TILE / depth).clamp(96, 4096);
                let mut tile = vec![T::ZERO; rows * depth];
                for first in (0..pixels).step_by(rows) {
                    let count = rows.min(pixels - first);
                    let p = &mut tile[..count * depth];
                    gather(
                        x,
                        &self.window,
                        Channels::all(self.cin),
                        taps.clone(),
                        first,
                        p,
                    );
                    let g = Mat::new(&g[first * self.cout..], count, self.cout);
                    gemm(
                        MatMut::new(gw, depth, self.cout),
                        true,
                        Mat::new(p, count, depth).t(),
                        g,
                    );
                }
            });
    }
}
