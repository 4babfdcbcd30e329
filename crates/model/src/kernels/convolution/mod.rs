//! Dense and grouped convolutions as products of patches with weights.
//!
//! With P(x) the patch matrix (output pixels x taps*cin) and W (taps*cin x cout):
//!
//! ```text
//! forward   y  = P(x) W
//! tangent   dy = P(x) dW + P(dx) W
//! adjoint   gx = P'(g W') ,  gW = P(x)' g
//! ```
//!
//! P is never stored: forward and tangent read its rows as runs of the image or of a bordered copy
//! of a few of its lines ([`super::bands`]). The adjoints gather or scatter tiles of it, except for
//! a pointwise convolution (1x1, stride 1), whose P is the image.

mod adjoint;

use std::ops::Range;

use super::bands::{Band, Bands};
use super::finish::{Finish, in_tasks};
use super::gemm::Mat;
use super::patches::{Channels, Window};
use super::scratch::Scratch;
use super::tile::{Rows, pack, panel_width};
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

    /// Output pixels of all images.
    fn pixels<T>(&self, y: &[T]) -> usize {
        y.len() / self.cout
    }

    /// `z = P(x) W` and, where it has a place, `dz = P(x) dW + P(dx) W`, and what `finish` makes of
    /// them; a missing tangent is zero.
    pub fn run<T: Scalar>(
        &self,
        (x, w): (&[T], &[T]),
        (dx, dw): (Option<&[T]>, Option<&[T]>),
        (z, dz): (&mut [T], Option<&mut [T]>),
        y: Option<&mut [T]>,
        finish: &Finish<'_, T>,
    ) {
        let (packed, dpacked) = (self.pack(w), dw.map(|dw| self.pack(dw)));
        let sum = |lines: Range<usize>, z: &mut [T], dz: Option<&mut [T]>| {
            let band = self.bands().cut(x, lines.clone());
            self.multiply(&band, &packed, false, z);
            let Some(dz) = dz else { return };
            match &dpacked {
                Some(dw) => self.multiply(&band, dw, false, dz),
                None => dz.fill(T::ZERO),
            }
            if let Some(dx) = dx {
                self.multiply(&self.bands().cut(dx, lines), &packed, true, dz);
            }
        };
        in_tasks(self.task(z.len()), (z, dz), y, sum, finish);
    }

    fn bands(&self) -> Bands {
        Bands::new(self.window, self.cin)
    }

    /// Output lines of a task, and numbers of a line, for an output of `len` numbers.
    fn task(&self, len: usize) -> (usize, usize) {
        let line = self.window.output[1] * self.cout;
        let images = len / (line * self.window.output[0]).max(1);
        let [sh, sw] = self.window.stride;
        let lines = self
            .bands()
            .lines_of_a_task(images, self.cout + sh * sw * self.cin);
        (lines, line)
    }

    /// The weights in panels, group after group.
    fn pack<T: Scalar>(&self, w: &[T]) -> Vec<Scratch<T>> {
        let cols = self.group_cout();
        let group = |g: usize| {
            pack(self.depth(), cols, |k| {
                &w[k * self.cout + g * cols..][..cols]
            })
        };
        (0..self.groups).map(group).collect()
    }

    /// `z (+)= P W` for the pixels of a band.
    fn multiply<T: Scalar>(
        &self,
        band: &Band<'_, T>,
        packed: &[Scratch<T>],
        accumulate: bool,
        z: &mut [T],
    ) {
        let bands = self.bands();
        let [kh, kw] = self.window.kernel;
        // A kernel's row is one run of the image where nothing lies between its columns.
        let joined = self.groups == 1 && self.window.dilation[1] == 1 && bands.is_dense();
        let (columns, run) = if joined {
            (1, kw * self.cin)
        } else {
            (kw, self.cin / self.groups)
        };
        let taps: Vec<usize> = (0..kh * columns)
            .map(|t| bands.tap(t / columns, t % columns))
            .collect();
        let width = self.window.output[1];
        let mut base: Vec<usize> = (0..band.lines.len() * width)
            .map(|p| band.lines[p / width] + p % width * bands.step())
            .collect();
        for (g, panels) in packed.iter().enumerate() {
            Rows {
                x: band,
                base: &base,
                taps: &taps,
                run,
                panels,
                panel_stride: self.depth() * panel_width::<T>(),
                cols: self.group_cout(),
                c: &mut z[g * self.group_cout()..],
                stride: self.cout,
                accumulate,
            }
            .run();
            base.iter_mut().for_each(|b| *b += self.cin / self.groups);
        }
    }
}
