//! Runs of output lines of a batch, with the input they read laid out so that every tap of a
//! pixel lies at the same distance from its first one.
//!
//! Where no tap leaves the image that is the image itself; otherwise the lines that a band reads
//! are copied with a border of zeros. They are also copied, with gaps, where neighbouring pixels
//! would contend for one set of the cache.

use std::ops::{Deref, Range};

use super::patches::Window;
use super::scratch::{Scratch, scratch};
use crate::tensor::Scalar;

/// How a window reads images of some number of channels, band by band.
#[derive(Clone, Copy, Debug)]
pub struct Bands {
    window: Window,
    channels: usize,
    /// Whether the image can be read as it is.
    inside: bool,
    /// Numbers from one input pixel to the next.
    pixel: usize,
    /// Numbers from one input line to the next.
    pitch: usize,
}

/// The input of some output lines.
#[derive(Debug)]
pub struct Band<'x, T: Scalar> {
    numbers: Numbers<'x, T>,
    /// Where the first tap of each line's first pixel lies.
    pub lines: Vec<usize>,
}

#[derive(Debug)]
enum Numbers<'x, T: Scalar> {
    Image(&'x [T]),
    Copy(Scratch<T>),
}

impl<T: Scalar> Deref for Band<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.numbers {
            Numbers::Image(x) => x,
            Numbers::Copy(x) => x,
        }
    }
}

impl Bands {
    /// How `window` reads images of `channels` channels.
    pub fn new(window: Window, channels: usize) -> Self {
        // Input lines or columns from the first that the first output reads to the last that the
        // last one reads.
        let reach = |axis: usize| {
            (window.output[axis].saturating_sub(1)) * window.stride[axis]
                + (window.kernel[axis] - 1) * window.dilation[axis]
                + 1
        };
        let conflict = (window.stride[1] * channels).is_multiple_of(CONFLICT);
        let within = window.pad == [0, 0] && (0..2).all(|axis| reach(axis) <= window.input[axis]);
        let inside = within && !conflict;
        let columns = if inside { window.input[1] } else { reach(1) };
        let pixel = channels + if conflict { GAP } else { 0 };
        Self {
            window,
            channels,
            inside,
            pixel,
            pitch: columns * pixel,
        }
    }

    /// Numbers from one output pixel of a line to the next.
    pub fn step(&self) -> usize {
        self.window.stride[1] * self.pixel
    }

    /// Whether the channels of neighbouring input pixels lie next to each other.
    pub fn is_dense(&self) -> bool {
        self.pixel == self.channels
    }

    /// Where tap (row, column) lies, counted from the first.
    pub fn tap(&self, row: usize, column: usize) -> usize {
        row * self.window.dilation[0] * self.pitch + column * self.window.dilation[1] * self.pixel
    }

    /// Output lines, counted over all images, that one task should take so that what it reads and
    /// writes, about `numbers` a pixel, stays in the second-level cache, and threads get about
    /// the same number of tasks.
    pub fn lines_of_a_task(&self, images: usize, numbers: usize) -> usize {
        let lines = (images * self.window.output[0]).max(1);
        let width = self.window.output[1].max(1);
        let pixels = (CACHE / numbers.max(1)).max(PIXELS);
        let most = (pixels / width).max(1);
        let threads = rayon::current_num_threads();
        let tasks = lines.div_ceil(most).next_multiple_of(threads);
        lines.div_ceil(tasks)
    }

    /// The input of the output lines `lines`, counted over all images.
    pub fn cut<'x, T: Scalar>(&self, x: &'x [T], lines: Range<usize>) -> Band<'x, T> {
        let [h, w] = self.window.input;
        let image = h * w * self.channels;
        let output = self.window.output[0];
        let place = |line: usize| (line / output, line % output * self.window.stride[0]);
        if self.inside {
            let first = |line| {
                let (n, row) = place(line);
                n * image + row * self.pitch
            };
            return Band {
                lines: lines.map(first).collect(),
                numbers: Numbers::Image(x),
            };
        }
        let tall = (self.window.kernel[0] - 1) * self.window.dilation[0] + 1;
        // The input lines wanted, image by image, and where each output line's begin.
        let mut wanted: Vec<(usize, usize)> = Vec::new();
        let mut firsts = Vec::with_capacity(lines.len());
        for line in lines {
            let (n, top) = place(line);
            let copied = wanted.iter().rev().take_while(|(m, _)| *m == n).count();
            let begin = match copied {
                0 => wanted.len(),
                _ => wanted.len() - copied + top.saturating_sub(wanted[wanted.len() - copied].1),
            };
            let next = if copied == 0 {
                top
            } else {
                wanted[wanted.len() - 1].1 + 1
            };
            wanted.extend((next..top + tall).map(|row| (n, row)));
            firsts.push(begin * self.pitch);
        }
        let mut numbers = scratch(wanted.len() * self.pitch);
        for (out, (n, row)) in numbers.chunks_exact_mut(self.pitch).zip(wanted) {
            self.copy_line(&x[n * image..(n + 1) * image], row, out);
        }
        Band {
            numbers: Numbers::Copy(numbers),
            lines: firsts,
        }
    }

    /// Line `row` of the bordered image, counted from the border's first.
    fn copy_line<T: Scalar>(&self, x: &[T], row: usize, out: &mut [T]) {
        let [h, w] = self.window.input;
        let [top, left] = self.window.pad;
        let Some(row) = row.checked_sub(top).filter(|row| *row < h) else {
            return out.fill(T::ZERO);
        };
        let x = &x[row * w * self.channels..][..w * self.channels];
        let (before, rest) = out.split_at_mut((left * self.pixel).min(out.len()));
        let count = w.min(rest.len() / self.pixel);
        let (middle, after) = rest.split_at_mut(count * self.pixel);
        before.fill(T::ZERO);
        after.fill(T::ZERO);
        if self.is_dense() {
            return middle.copy_from_slice(&x[..count * self.channels]);
        }
        let pixels = x.chunks_exact(self.channels);
        for (out, x) in middle.chunks_exact_mut(self.pixel).zip(pixels) {
            out[..self.channels].copy_from_slice(x);
        }
    }
}

/// Neighbouring output pixels whose inputs lie a multiple of this many numbers apart fall into one
/// set of the first-level cache (4 KiB in f32, twice that in f64) and would evict each other.
const CONFLICT: usize = 1 << 10;
/// Numbers between pixels against that.
const GAP: usize = 16;
/// Numbers a task reads and writes at best: half a megabyte in f32.
const CACHE: usize = 1 << 17;
/// Output pixels a task has at least, where there are so many, so that it uses each weight it reads
/// often enough.
const PIXELS: usize = 98;
