//! The adjoints: tiles of P gathered, or tiles of P' scattered.

use rayon::prelude::*;

use super::Convolution;
use crate::kernels::elementwise::add_to;
use crate::kernels::gemm::{Mat, MatMut, gemm};
use crate::kernels::patches::{Channels, gather, scatter};
use crate::kernels::scratch::{Scratch, scratch};
use crate::kernels::tile::{Rows, pack, panel_width};
use crate::tensor::Scalar;

/// Patch numbers a tile holds where its rows are many: half a megabyte in f32, a share of the
/// second-level cache.
const TILE: usize = 1 << 17;
/// Rows a tile has at least: a product packs the weights once a tile, which few rows do not repay.
const MIN_ROWS: usize = 384;
/// A weight gradient of at most this many numbers is summed from one copy per task.
const SMALL_GRADIENT: usize = 1 << 16;

impl Convolution {
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
        let (cin, cout) = (self.cin / self.groups, self.group_cout());
        let mut turned = scratch::<T>(w.len());
        // W' of every group, [group][cout][cin].
        let rows = turned.par_chunks_mut(cin).enumerate();
        rows.for_each(|(o, row)| {
            for (i, t) in row.iter_mut().enumerate() {
                *t = w[i * self.cout + o];
            }
        });
        let packed: Vec<Scratch<T>> = (0..self.groups)
            .map(|g| pack(cout, cin, |k| &turned[(g * cout + k) * cin..][..cin]))
            .collect();
        let (lines, _) = self.task(g.len());
        let rows = lines * self.window.output[1];
        let tasks = gx.par_chunks_mut(rows * self.cin).enumerate();
        tasks.for_each(|(i, gx)| {
            let pixels = i * rows..i * rows + gx.len() / self.cin;
            for (group, panels) in packed.iter().enumerate() {
                let base: Vec<usize> = pixels
                    .clone()
                    .map(|p| p * self.cout + group * cout)
                    .collect();
                Rows {
                    x: g,
                    base: &base,
                    taps: &[0],
                    run: cout,
                    panels,
                    panel_stride: cout * panel_width::<T>(),
                    cols: cin,
                    c: &mut gx[group * cin..],
                    stride: self.cin,
                    accumulate,
                }
                .run();
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
            add_to(gw, sum);
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
