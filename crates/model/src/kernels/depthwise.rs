//! Depthwise convolution: every channel has its own small kernel; vectorised over channels.
//!
//! Weights lie as `[taps, channels]`. Forward, tangent and the adjoint to the weights run along
//! the lines of [`super::bands`], four pixels or five taps at a time in registers; so does the
//! adjoint to the input at stride one, with the kernel turned round. At other strides that gathers
//! pixel by pixel.

use std::ops::Range;

use rayon::prelude::*;

use super::bands::{Band, Bands};
use super::finish::{Finish, in_tasks, nothing};
use super::lanes::vectorize;
use super::lines::{Correlation, Line};
use super::patches::{Tap, Window};
use super::scratch::scratch;
use super::simd;
use crate::tensor::Scalar;

/// A depthwise convolution on images of a known size.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise {
    /// Where each output pixel reads.
    pub window: Window,
    /// Channels in and out.
    pub channels: usize,
}

impl Depthwise {
    /// `z = x * w` and, where it has a place, `dz = x * dw + dx * w`, and what `finish` makes of
    /// them; a missing tangent is zero.
    pub fn run<T: Scalar>(
        &self,
        (x, w): (&[T], &[T]),
        (dx, dw): (Option<&[T]>, Option<&[T]>),
        (z, dz): (&mut [T], Option<&mut [T]>),
        y: Option<&mut [T]>,
        finish: &Finish<'_, T>,
    ) {
        let sum = |lines: Range<usize>, z: &mut [T], dz: Option<&mut [T]>| {
            let band = self.bands().cut(x, lines.clone());
            self.add(&band, w, false, z);
            let Some(dz) = dz else { return };
            match dw {
                Some(dw) => self.add(&band, dw, false, dz),
                None => dz.fill(T::ZERO),
            }
            if let Some(dx) = dx {
                self.add(&self.bands().cut(dx, lines), w, true, dz);
            }
        };
        in_tasks(self.task(z.len()), (z, dz), y, sum, finish);
    }

    fn bands(&self) -> Bands {
        Bands::new(self.window, self.channels)
    }

    /// Output lines of a task, and numbers of a line, for an output of `len` numbers.
    fn task(&self, len: usize) -> (usize, usize) {
        let line = self.window.output[1] * self.channels;
        let images = len / (line * self.window.output[0]).max(1);
        let [sh, sw] = self.window.stride;
        let numbers = (1 + 2 * sh * sw) * self.channels;
        (self.bands().lines_of_a_task(images, numbers), line)
    }

    /// Where the taps lie, counted from the first.
    fn taps(&self) -> Vec<usize> {
        let width = self.window.kernel[1];
        let tap = |t| self.bands().tap(t / width, t % width);
        (0..self.window.taps()).map(tap).collect()
    }

    /// `z (+)= x * w` for the lines of a band.
    fn add<T: Scalar>(&self, band: &Band<'_, T>, w: &[T], accumulate: bool, z: &mut [T]) {
        let taps = self.taps();
        let lines = z.chunks_exact_mut(self.window.output[1] * self.channels);
        for (z, first) in lines.zip(&band.lines) {
            vectorize(Line {
                x: &band[*first..],
                step: self.bands().step(),
                taps: &taps,
                w,
                channels: self.channels,
                z,
                accumulate,
            });
        }
    }

    /// `gx (+)=` the transposed convolution of `g`.
    pub fn adjoint_input<T: Scalar>(&self, g: &[T], w: &[T], accumulate: bool, gx: &mut [T]) {
        let Window {
            input,
            output,
            kernel,
            stride,
            pad,
            dilation,
        } = self.window;
        let reach = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis]);
        let turns = stride == [1, 1] && pad[0] <= reach[0] && pad[1] <= reach[1];
        if accumulate || !turns {
            return self.sweep(g, w, accumulate, gx);
        }
        let turned = Self {
            window: Window {
                input: output,
                output: input,
                pad: [reach[0] - pad[0], reach[1] - pad[1]],
                ..self.window
            },
            ..*self
        };
        let mut around = scratch::<T>(w.len());
        let rows = around.chunks_exact_mut(self.channels);
        for (out, w) in rows.zip(w.rchunks_exact(self.channels)) {
            out.copy_from_slice(w);
        }
        turned.run((g, &around), (None, None), (gx, None), None, &nothing);
    }

    /// `gx (+)= sum over taps of g w`, input pixel by input pixel; one line of `gx` a task.
    fn sweep<T: Scalar>(&self, g: &[T], w: &[T], accumulate: bool, gx: &mut [T]) {
        let c = self.channels;
        let [height, width] = self.window.input;
        let image = self.window.pixels() * c;
        let rows = gx.par_chunks_mut(width * c).enumerate();
        rows.for_each_init(Vec::new, |taps, (row, gx)| {
            let (n, first) = (row / height, row % height * width);
            let g = &g[n * image..(n + 1) * image];
            for (i, gx) in gx.chunks_exact_mut(c).enumerate() {
                self.window.list_readers(first + i, taps);
                simd(
                    #[inline(always)]
                    || add_taps(taps, g, w, accumulate, gx),
                );
            }
        });
    }

    /// `gw += ` correlation of `x` and `g`; image `i` of `x` serves `repeat` gradients.
    /// The tasks' shares are added in order.
    pub fn adjoint_weights<T: Scalar>(&self, x: &[T], g: &[T], repeat: usize, gw: &mut [T]) {
        let c = self.channels;
        let [height, width] = self.window.output;
        let image = self.window.input[0] * self.window.input[1] * c;
        let taps = self.taps();
        let shares: Vec<Vec<T>> = g
            .par_chunks(height * width * c)
            .enumerate()
            .map(|(i, g)| {
                let x = &x[i / repeat * image..][..image];
                let band = self.bands().cut(x, 0..height);
                let mut sum = vec![T::ZERO; gw.len()];
                vectorize(Correlation {
                    x: &band,
                    lines: &band.lines,
                    step: self.bands().step(),
                    taps: &taps,
                    g,
                    width,
                    channels: c,
                    sum: &mut sum,
                });
                sum
            })
            .collect();
        for share in &shares {
            super::elementwise::add_to(gw, share);
        }
    }
}

/// Channels handled together, held in registers over the taps.
const LANES: usize = 16;

/// `out (+)= sum over taps of x[pixel] w[tap]`, for the channels of one pixel.
#[inline(always)]
fn add_taps<T: Scalar>(taps: &[Tap], x: &[T], w: &[T], accumulate: bool, out: &mut [T]) {
    let c = out.len();
    let mut first = 0;
    while first + LANES <= c {
        let out = &mut out[first..first + LANES];
        let mut acc = [T::ZERO; LANES];
        if accumulate {
            acc.copy_from_slice(out);
        }
        for t in taps {
            let x = &x[t.pixel * c + first..][..LANES];
            let w = &w[t.tap * c + first..][..LANES];
            for l in 0..LANES {
                acc[l] = x[l].mul_add(w[l], acc[l]);
            }
        }
        out.copy_from_slice(&acc);
        first += LANES;
    }
    let out = &mut out[first..];
    if !accumulate {
        out.fill(T::ZERO);
    }
    for t in taps {
        let (x, w) = (
            &x[t.pixel * c + first..(t.pixel + 1) * c],
            &w[t.tap * c + first..],
        );
        for ((out, &x), &w) in out.iter_mut().zip(x).zip(w) {
            *out = x.mul_add(w, *out);
        }
    }
}
