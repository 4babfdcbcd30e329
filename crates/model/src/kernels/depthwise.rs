//! Depthwise convolution: every channel has its own small kernel; vectorised over channels.
//!
//! Weights lie as `[taps, channels]`.

use rayon::prelude::*;

use super::patches::Window;
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
const LANES: usize = 32;

impl Depthwise {
    fn input_image(&self) -> usize {
        self.window.input[0] * self.window.input[1] * self.channels
    }

    fn output_row(&self) -> usize {
        self.window.output[1] * self.channels
    }

    /// `y = x * w`.
    pub fn forward<T: Scalar>(&self, x: &[T], w: &[T], y: &mut [T]) {
        self.sweep([Some((x, w)), None], false, y);
    }

    /// `dy = x * dw + dx * w`; a missing tangent is zero.
    pub fn tangent<T: Scalar>(
        &self,
        (x, w): (&[T], &[T]),
        (dx, dw): (Option<&[T]>, Option<&[T]>),
        dy: &mut [T],
    ) {
        self.sweep([dw.map(|dw| (x, dw)), dx.map(|dx| (dx, w))], false, dy);
    }

    /// `y (+)= sum of x_i * w_i` over the given pairs, one output row a task.
    fn sweep<T: Scalar>(&self, pairs: [Option<(&[T], &[T])>; 2], accumulate: bool, y: &mut [T]) {
        y.par_chunks_mut(self.output_row()).enumerate().for_each(|(row, y)| {
            let (n, oh) = (row / self.window.output[0], row % self.window.output[0]);
            let image = n * self.input_image()..(n + 1) * self.input_image();
            let mut fresh = !accumulate;
            for (x, w) in pairs.into_iter().flatten() {
                simd(|| self.sweep_row(&x[image.clone()], w, oh, fresh, y));
                fresh = false;
            }
            if fresh {
                y.fill(T::ZERO);
            }
        });
    }

    #[inline(always)]
    fn sweep_row<T: Scalar>(&self, x: &[T], w: &[T], oh: usize, fresh: bool, y: &mut [T]) {
        let c = self.channels;
        for (ow, y) in y.chunks_exact_mut(c).enumerate() {
            let p = oh * self.window.output[1] + ow;
            let mut blocks = y.chunks_exact_mut(LANES);
            let mut first = 0;
            for y in &mut blocks {
                let mut acc = [T::ZERO; LANES];
                self.window.for_taps(p, |tap, source| {
                    if let Some(s) = source {
                        let x = &x[s * c + first..][..LANES];
                        let w = &w[tap * c + first..][..LANES];
                        for l in 0..LANES {
                            acc[l] = x[l].mul_add(w[l], acc[l]);
                        }
                    }
                });
                for l in 0..LANES {
                    y[l] = if fresh { acc[l] } else { y[l] + acc[l] };
                }
                first += LANES;
            }
            let y = blocks.into_remainder();
            if fresh {
                y.fill(T::ZERO);
            }
            self.window.for_taps(p, |tap, source| {
                if let Some(s) = source {
                    let (x, w) = (&x[s * c + first..], &w[tap * c + first..]);
                    for (j, y) in y.iter_mut().enumerate() {
                        *y = x[j].mul_add(w[j], *y);
                    }
                }
            });
        }
    }

    /// `gx (+)=` the transposed convolution of `g`, one image a task.
    pub fn adjoint_input<T: Scalar>(&self, g: &[T], w: &[T], accumulate: bool, gx: &mut [T]) {
        let c = self.channels;
        let out_image = self.window.pixels() * c;
        gx.par_chunks_mut(self.input_image()).enumerate().for_each(|(n, gx)| {
            if !accumulate {
                gx.fill(T::ZERO);
            }
            let g = &g[n * out_image..(n + 1) * out_image];
            simd(|| {
                for (p, g) in g.chunks_exact(c).enumerate() {
                    self.window.for_taps(p, |tap, source| {
                        if let Some(s) = source {
                            let gx = &mut gx[s * c..][..c];
                            let w = &w[tap * c..][..c];
                            for j in 0..c {
                                gx[j] = g[j].mul_add(w[j], gx[j]);
                            }
                        }
                    });
                }
            });
        });
    }

    /// `gw += ` correlation of `x` and `g`; image `i` of `x` serves `repeat` gradients.
    /// The images' shares are added in order.
    pub fn adjoint_weights<T: Scalar>(&self, x: &[T], g: &[T], repeat: usize, gw: &mut [T]) {
        let c = self.channels;
        let out_image = self.window.pixels() * c;
        let shares: Vec<Vec<T>> = g
            .par_chunks(out_image)
            .enumerate()
            .map(|(i, g)| {
                let x = &x[(i / repeat) * self.input_image()..][..self.input_image()];
                let mut sum = vec![T::ZERO; gw.len()];
                simd(|| {
                    for (p, g) in g.chunks_exact(c).enumerate() {
                        self.window.for_taps(p, |tap, source| {
                            if let Some(s) = source {
                                let x = &x[s * c..][..c];
                                let sum = &mut sum[tap * c..][..c];
                                for j in 0..c {
                                    sum[j] = g[j].mul_add(x[j], sum[j]);
                                }
                            }
                        });
                    }
                });
                sum
            })
            .collect();
        for share in &shares {
            super::elementwise::add_to(gw, share);
        }
    }
}
