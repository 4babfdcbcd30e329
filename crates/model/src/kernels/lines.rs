//! The inner loops of a depthwise convolution: along a line of pixels, vectorised over channels.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use crate::tensor::Scalar;

/// One line of outputs: `z[p] (+)= sum over taps of x[p step + tap] w[tap]`, per channel.
pub struct Line<'a, T> {
    /// Numbers that the lines and taps count from.
    pub x: &'a [T],
    /// Numbers between neighbouring pixels of x.
    pub step: usize,
    /// Where each tap lies.
    pub taps: &'a [usize],
    /// Weights, `[taps, channels]`.
    pub w: &'a [T],
    /// Channels.
    pub channels: usize,
    /// The line, `[pixels, channels]`.
    pub z: &'a mut [T],
    /// Add to what is there.
    pub accumulate: bool,
}

/// Pixels of a line that are summed together.
const PIXELS: usize = 4;

impl<T: Scalar> WithSimd for Line<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let pixels = self.z.len() / self.channels;
        let last = self.taps.iter().max().map_or(0, |t| *t);
        assert!(self.w.len() >= self.taps.len().saturating_mul(self.channels));
        let end = pixels.saturating_sub(1).saturating_mul(self.step);
        let end = end.saturating_add(last).saturating_add(self.channels);
        assert!(pixels == 0 || end <= self.x.len());
        let rest = self.channels / T::count::<S>() * T::count::<S>();
        for (first, n) in blocks(pixels) {
            if n == PIXELS {
                self.sum::<S, PIXELS>(simd, first, 0);
                self.sum::<pulp::Scalar, PIXELS>(pulp::Scalar, first, rest);
            } else {
                self.sum::<S, 1>(simd, first, 0);
                self.sum::<pulp::Scalar, 1>(pulp::Scalar, first, rest);
            }
        }
    }
}

/// The pixels of a line in blocks of [`PIXELS`] and then one by one: first pixel and number.
#[inline(always)]
fn blocks(pixels: usize) -> impl Iterator<Item = (usize, usize)> {
    let whole = pixels / PIXELS * PIXELS;
    let all = (0..whole).step_by(PIXELS).map(|p| (p, PIXELS));
    all.chain((whole..pixels).map(|p| (p, 1)))
}

impl<T: Scalar> Line<'_, T> {
    /// P pixels from `first` on, the channels from `channel` on as long as whole vectors remain;
    /// `with_simd` has checked the sizes.
    #[inline(always)]
    fn sum<S: Simd, const P: usize>(&mut self, simd: S, first: usize, channel: usize) {
        let (c, lanes) = (self.channels, T::count::<S>());
        let mut j = channel;
        while j + lanes <= c {
            let mut acc = [T::splat(simd, T::ZERO); P];
            for (t, tap) in self.taps.iter().enumerate() {
                let w = T::load::<S>(&self.w[t * c + j..]);
                for p in 0..P {
                    // SAFETY: (pixels - 1) step + tap + channels <= x.len() was asserted, and
                    // first + p is a pixel, j + lanes at most `channels`.
                    let x = unsafe {
                        let x = self.x.as_ptr().add((first + p) * self.step + tap + j);
                        x.cast::<T::Vector<S>>().read_unaligned()
                    };
                    acc[p] = T::fma(simd, x, w, acc[p]);
                }
            }
            for p in 0..P {
                let z = &mut self.z[(first + p) * c + j..];
                if self.accumulate {
                    acc[p] = T::plus(simd, acc[p], T::load::<S>(z));
                }
                T::store::<S>(acc[p], z);
            }
            j += lanes;
        }
    }
}

/// `sum[tap] += sum over pixels of g[p] x[p step + tap]`, per channel, over whole lines.
pub struct Correlation<'a, T> {
    /// Numbers that the lines and taps count from.
    pub x: &'a [T],
    /// Where each line begins in x.
    pub lines: &'a [usize],
    /// Numbers between neighbouring pixels of x.
    pub step: usize,
    /// Where each tap lies.
    pub taps: &'a [usize],
    /// Lines of gradients, `[lines, width, channels]`.
    pub g: &'a [T],
    /// Pixels of a line.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// The sums, `[taps, channels]`.
    pub sum: &'a mut [T],
}

/// Taps that are summed together.
const TAPS: usize = 5;

impl<T: Scalar> WithSimd for Correlation<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let most = |offsets: &[usize]| offsets.iter().max().map_or(0, |o| *o);
        let reach = self.width.saturating_sub(1).saturating_mul(self.step);
        let reach = reach.saturating_add(self.channels);
        let first = most(self.lines).saturating_add(most(self.taps));
        assert!(first.saturating_add(reach) <= self.x.len());
        let pixels = self.lines.len().saturating_mul(self.width);
        assert!(pixels.saturating_mul(self.channels) <= self.g.len());
        assert!(self.sum.len() >= self.taps.len().saturating_mul(self.channels));
        let rest = self.channels / T::count::<S>() * T::count::<S>();
        for first in (0..self.taps.len()).step_by(TAPS) {
            self.run::<S>(simd, first, 0);
            self.run::<pulp::Scalar>(pulp::Scalar, first, rest);
        }
    }
}

impl<T: Scalar> Correlation<'_, T> {
    /// The taps from `first` on, the channels from `channel` on as long as whole vectors remain;
    /// `with_simd` has checked the sizes.
    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S, first: usize, channel: usize) {
        let (c, lanes) = (self.channels, T::count::<S>());
        // Taps that the last group lacks repeat its first.
        let of = |t: usize| {
            self.taps[if first + t < self.taps.len() {
                first + t
            } else {
                first
            }]
        };
        let taps: [usize; TAPS] = std::array::from_fn(of);
        let mut j = channel;
        while j + lanes <= c {
            let mut acc = [T::splat(simd, T::ZERO); TAPS];
            for (l, line) in self.lines.iter().enumerate() {
                for p in 0..self.width {
                    // SAFETY: the greatest of line + tap, plus (width - 1) step + channels, was
                    // asserted to lie within x, and all lines within g; j + lanes <= channels.
                    unsafe {
                        let g = self.g.as_ptr().add((l * self.width + p) * c + j);
                        let g = g.cast::<T::Vector<S>>().read_unaligned();
                        let x = self.x.as_ptr().add(line + p * self.step + j);
                        for t in 0..TAPS {
                            let x = x.add(taps[t]).cast::<T::Vector<S>>().read_unaligned();
                            acc[t] = T::fma(simd, g, x, acc[t]);
                        }
                    }
                }
            }
            for t in 0..TAPS {
                if first + t < self.taps.len() {
                    let sum = &mut self.sum[(first + t) * c + j..];
                    let total = T::plus(simd, acc[t], T::load::<S>(sum));
                    T::store::<S>(total, sum);
                }
            }
            j += lanes;
        }
    }
}
