//! Patch matrices: the rows that turn a convolution into a matrix product (im2col), and back.

use crate::tensor::Scalar;

/// The geometry of a convolution or a pooling window on images of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of the input image.
    pub input: [usize; 2],
    /// Rows and columns of the output image.
    pub output: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros before the first row and the first column.
    pub pad: [usize; 2],
    /// Steps between taps of the kernel.
    pub dilation: [usize; 2],
}

impl Window {
    /// Whether the patch matrix is the image itself.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0]
    }

    /// Number of taps.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Output pixels of one image.
    pub fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The input coordinate that tap `k` of output coordinate `o` reads along axis `axis`, if it
    /// lies inside the image.
    #[inline(always)]
    pub fn source(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let i = o * self.stride[axis] + k * self.dilation[axis];
        (i >= self.pad[axis] && i - self.pad[axis] < self.input[axis]).then(|| i - self.pad[axis])
    }

    /// Calls `f(tap, offset of the input pixel)` for every tap of output pixel `p` (counted
    /// within one image), `None` where the tap falls on padding.
    #[inline(always)]
    pub fn for_taps(&self, p: usize, mut f: impl FnMut(usize, Option<usize>)) {
        let (oh, ow) = (p / self.output[1], p % self.output[1]);
        for kh in 0..self.kernel[0] {
            let row = self.source(0, oh, kh);
            for kw in 0..self.kernel[1] {
                let pixel = row.zip(self.source(1, ow, kw)).map(|(r, c)| r * self.input[1] + c);
                f(kh * self.kernel[1] + kw, pixel);
            }
        }
    }
}

/// A run of channels of an image with `total` channels.
#[derive(Clone, Copy, Debug)]
pub struct Channels {
    /// First channel of the run.
    pub first: usize,
    /// Channels in the run.
    pub count: usize,
    /// Channels of the image.
    pub total: usize,
}

impl Channels {
    /// All channels.
    pub fn all(total: usize) -> Self {
        Self { first: 0, count: total, total }
    }
}

/// Writes the patches of output pixels `first..first + rows` (counted over all images) to `out`,
/// one row of `taps * channels.count` numbers a pixel, restricted to the taps in `taps`.
pub fn gather<T: Scalar>(
    x: &[T],
    window: &Window,
    channels: Channels,
    taps: std::ops::Range<usize>,
    first: usize,
    out: &mut [T],
) {
    let c = channels.count;
    let width = taps.len() * c;
    let image = window.input[0] * window.input[1] * channels.total;
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        let pixel = first + row;
        let (n, p) = (pixel / window.pixels(), pixel % window.pixels());
        let x = &x[n * image..(n + 1) * image];
        window.for_taps(p, |tap, source| {
            if !taps.contains(&tap) {
                return;
            }
            let out = &mut out[(tap - taps.start) * c..][..c];
            match source {
                Some(s) => out.copy_from_slice(&x[s * channels.total + channels.first..][..c]),
                None => out.fill(T::ZERO),
            }
        });
    }
}

/// The adjoint of [`gather`]: adds the patches of output pixels `first..` back to the images `x`.
pub fn scatter<T: Scalar>(
    patches: &[T],
    window: &Window,
    channels: Channels,
    first: usize,
    x: &mut [T],
) {
    let c = channels.count;
    let width = window.taps() * c;
    let image = window.input[0] * window.input[1] * channels.total;
    for (row, patch) in patches.chunks_exact(width).enumerate() {
        let pixel = first + row;
        let (n, p) = (pixel / window.pixels(), pixel % window.pixels());
        let x = &mut x[n * image..(n + 1) * image];
        window.for_taps(p, |tap, source| {
            if let Some(s) = source {
                let x = &mut x[s * channels.total + channels.first..][..c];
                let patch = &patch[tap * c..][..c];
                for (x, &p) in x.iter_mut().zip(patch) {
                    *x += p;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::{Rng, dot};

    #[test]
    fn scatter_is_the_adjoint_of_gather() {
        let window = Window {
            input: [5, 6],
            output: [3, 3],
            kernel: [3, 2],
            stride: [2, 2],
            pad: [1, 0],
            dilation: [1, 2],
        };
        let channels = Channels { first: 1, count: 2, total: 4 };
        let mut rng = Rng::new(3);
        let x = rng.normals(5 * 6 * 4);
        let p = rng.normals(9 * 6 * 2);
        let mut px = vec![0.0; p.len()];
        gather(&x, &window, channels, 0..6, 0, &mut px);
        let mut xp = vec![0.0; x.len()];
        scatter(&p, &window, channels, 0, &mut xp);
        assert!((dot(&px, &p) - dot(&x, &xp)).abs() < 1e-12);
    }
}
