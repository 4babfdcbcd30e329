//! Depthwise convolution: every channel has its own small kernel; vectorised over channels.
//!
//! Weights lie as `[taps, channels]`.

use rayon::prelude::*;

use super::patches::{Tap, Window};
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

/// Channels handled together, held in registers over the taps.
const LANES: usize = 16;

impl Depthwise {
    fn input_image(&self) -> usize {
        self.window.input[0] * self.window.input[1] * self.channels
    }

    /// `y = x * w`.
    pub fn forward<T: Scalar>(&self, x: &[T], w: &[T], y: &mut [T]) {
        self.sweep(Side::Output, &[(x, w)], false, y);
    }

    /// `dy = x * dw + dx * w`; a missing tangent is zero.
    pub fn tangent<T: Scalar>(
        &self,
        (x, w): (&[T], &[T]),
        (dx, dw): (Option<&[T]>, Option<&[T]>),
        dy: &mut [T],
    ) {
        match (dx, dw) {
            (Some(dx), Some(dw)) => self.sweep(Side::Output, &[(x, dw), (dx, w)], false, dy),
            (Some(dx), None) => self.sweep(Side::Output, &[(dx, w)], false, dy),
            (None, Some(dw)) => self.sweep(Side::Output, &[(x, dw)], false, dy),
            (None, None) => dy.fill(T::ZERO),
        }
    }

    /// `gx (+)=` the transposed convolution of `g`.
    pub fn adjoint_input<T: Scalar>(&self, g: &[T], w: &[T], accumulate: bool, gx: &mut [T]) {
        self.sweep(Side::Input, &[(g, w)], accumulate, gx);
    }

    /// `out (+)= sum over pairs and taps of x w`, the pixels of `out` on one side of the window
    /// and those of `x` on the other; one row of `out` a task.
    fn sweep<T: Scalar>(
        &self,
        side: Side,
        pairs: &[(&[T], &[T])],
        accumulate: bool,
        out: &mut [T],
    ) {
        let c = self.channels;
        let (near, far) = match side {
            Side::Output => (self.window.output, self.window.input),
            Side::Input => (self.window.input, self.window.output),
        };
        let image = far[0] * far[1] * c;
        let rows = out.par_chunks_mut(near[1] * c).enumerate();
        rows.for_each_init(Vec::new, |taps, (row, out)| {
            let (n, first) = (row / near[0], row % near[0] * near[1]);
            for (i, out) in out.chunks_exact_mut(c).enumerate() {
                match side {
                    Side::Output => self.window.list_taps(first + i, taps),
                    Side::Input => self.window.list_readers(first + i, taps),
                }
                for (k, (x, w)) in pairs.iter().enumerate() {
                    let x = &x[n * image..(n + 1) * image];
                    simd(
                        #[inline(always)]
                        || add_taps(taps, x, w, accumulate || k > 0, out),
                    );
                }
            }
        });
    }

    /// `gw += ` correlation of `x` and `g`; image `i` of `x` serves `repeat` gradients.
    /// The images' shares are added in order.
    pub fn adjoint_weights<T: Scalar>(&self, x: &[T], g: &[T], repeat: usize, gw: &mut [T]) {
        let c = self.channels;
        let shares: Vec<Vec<T>> = g
            .par_chunks(self.window.pixels() * c)
            .enumerate()
            .map(|(i, g)| {
                let x = &x[(i / repeat) * self.input_image()..][..self.input_image()];
                let mut sum = vec![T::ZERO; gw.len()];
                let mut taps = Vec::with_capacity(self.window.taps());
                for (p, g) in g.chunks_exact(c).enumerate() {
                    self.window.list_taps(p, &mut taps);
                    simd(
                        #[inline(always)]
                        || add_products(&taps, x, g, &mut sum),
                    );
                }
                sum
            })
            .collect();
        for share in &shares {
            super::elementwise::add_to(gw, share);
        }
    }
}

/// Which pixels a sweep writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Output,
    Input,
}

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

/// `sum[tap] += g x[pixel]` for every tap, over the channels of one pixel.
#[inline(always)]
fn add_products<T: Scalar>(taps: &[Tap], x: &[T], g: &[T], sum: &mut [T]) {
    let c = g.len();
    for t in taps {
        let (x, sum) = (&x[t.pixel * c..][..c], &mut sum[t.tap * c..][..c]);
        for ((sum, &x), &g) in sum.iter_mut().zip(x).zip(g) {
            *sum = g.mul_add(x, *sum);
        }
    }
}
