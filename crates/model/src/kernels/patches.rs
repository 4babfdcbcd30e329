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
        let one = self.kernel == [1, 1] && self.stride == [1, 1];
        one && self.pad == [0, 0] && self.input == self.output
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

    /// Lists the taps of output pixel `p` (counted within one image) that fall inside the image.
    #[inline(always)]
    pub fn list_taps(&self, p: usize, taps: &mut Vec<Tap>) {
        taps.clear();
        let (oh, ow) = (p / self.output[1], p % self.output[1]);
        for kh in 0..self.kernel[0] {
            let Some(row) = self.source(0, oh, kh) else {
                continue;
            };
            for kw in 0..self.kernel[1] {
                if let Some(column) = self.source(1, ow, kw) {
                    let tap = kh * self.kernel[1] + kw;
                    taps.push(Tap {
                        tap,
                        pixel: row * self.input[1] + column,
                    });
                }
            }
        }
    }

    /// The output coordinate whose tap `k` reads input coordinate `i` along axis `axis`, if any.
    #[inline(always)]
    fn sink(&self, axis: usize, i: usize, k: usize) -> Option<usize> {
        let o = (i + self.pad[axis]).checked_sub(k * self.dilation[axis])?;
        let stride = self.stride[axis];
        (o % stride == 0 && o / stride < self.output[axis]).then(|| o / stride)
    }

    /// Lists the taps through which input pixel `i` is read, with the output pixels that read it.
    #[inline(always)]
    pub fn list_readers(&self, i: usize, taps: &mut Vec<Tap>) {
        taps.clear();
        let (ih, iw) = (i / self.input[1], i % self.input[1]);
        for kh in 0..self.kernel[0] {
            let Some(row) = self.sink(0, ih, kh) else {
                continue;
            };
            for kw in 0..self.kernel[1] {
                if let Some(column) = self.sink(1, iw, kw) {
                    let tap = kh * self.kernel[1] + kw;
                    taps.push(Tap {
                        tap,
                        pixel: row * self.output[1] + column,
                    });
                }
            }
        }
    }
}

/// A tap of a kernel and the pixel on its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Which tap, row by row.
    pub tap: usize,
    /// Which pixel of the image, row by row.
    pub pixel: usize,
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
        Self {
            first: 0,
            count: total,
            total,
        }
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
    let mut list = Vec::with_capacity(window.taps());
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        let pixel = first + row;
        let (n, p) = (pixel / window.pixels(), pixel % window.pixels());
        let x = &x[n * image..(n + 1) * image];
        window.list_taps(p, &mut list);
        if list.len() < window.taps() {
            out.fill(T::ZERO);
        }
        for Tap { tap, pixel } in &list {
            if taps.contains(tap) {
                let out = &mut out[(tap - taps.start) * c..][..c];
                out.copy_from_slice(&x[pixel * channels.total + channels.first..][..c]);
            }
        }
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
    let mut list = Vec::with_capacity(window.taps());
    for (row, patch) in patches.chunks_exact(width).enumerate() {
        let pixel = first + row;
        let (n, p) = (pixel / window.pixels(), pixel % window.pixels());
        let x = &mut x[n * image..(n + 1) * image];
        window.list_taps(p, &mut list);
        for Tap { tap, pixel } in &list {
            let x = &mut x[pixel * channels.total + channels.first..][..c];
            for (x, &p) in x.iter_mut().zip(&patch[tap * c..][..c]) {
                *x += p;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::{Rng, dot};

    #[test]
    fn readers_are_the_transpose_of_taps() {
        let window = Window {
            input: [6, 5],
            output: [3, 5],
            kernel: [3, 3],
            stride: [2, 1],
            pad: [1, 2],
            dilation: [1, 2],
        };
        let (mut taps, mut pairs, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for p in 0..window.pixels() {
            window.list_taps(p, &mut taps);
            pairs.extend(taps.iter().map(|t| (t.tap, p, t.pixel)));
        }
        for i in 0..30 {
            window.list_readers(i, &mut taps);
            back.extend(taps.iter().map(|t| (t.tap, t.pixel, i)));
        }
        pairs.sort_unstable();
        back.sort_unstable();
        assert!(!pairs.is_empty());
        assert_eq!(pairs, back);
    }

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
        let channels = Channels {
            first: 1,
            count: 2,
            total: 4,
        };
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
