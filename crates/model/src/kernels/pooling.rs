//! Window loops of the poolings: maxima with their positions, sums, and their adjoints.

use rayon::prelude::*;

use super::patches::{Tap, Window};
use super::simd;
use crate::tensor::Scalar;

/// Runs `f(image index, pixel of the image, its taps, output pixel's channels)` over all output
/// pixels.
fn for_output_pixels<T: Scalar>(
    window: &Window,
    c: usize,
    y: &mut [T],
    f: impl Fn(usize, usize, &[Tap], &mut [T]) + Sync,
) {
    let row = window.output[1] * c;
    y.par_chunks_mut(row)
        .enumerate()
        .for_each_init(Vec::new, |taps, (r, y)| {
            let (n, oh) = (r / window.output[0], r % window.output[0]);
            for (ow, y) in y.chunks_exact_mut(c).enumerate() {
                let p = oh * window.output[1] + ow;
                window.list_taps(p, taps);
                f(n, p, taps, y);
            }
        });
}

fn input_image(window: &Window, c: usize) -> usize {
    window.input[0] * window.input[1] * c
}

/// `y` = maximum over the window; padding never wins.
pub fn max_forward<T: Scalar>(window: &Window, c: usize, x: &[T], y: &mut [T]) {
    let image = input_image(window, c);
    for_output_pixels(window, c, y, |n, _, taps, y| {
        let x = &x[n * image..(n + 1) * image];
        simd(
            #[inline(always)]
            || {
                y.fill(T::MIN);
                for t in taps {
                    for (y, &x) in y.iter_mut().zip(&x[t.pixel * c..]) {
                        *y = y.max(x);
                    }
                }
            },
        );
    });
}

/// `dy` = `dx` at the first position of the maximum.
pub fn max_tangent<T: Scalar>(window: &Window, c: usize, x: &[T], dx: &[T], y: &[T], dy: &mut [T]) {
    let image = input_image(window, c);
    let pixels = window.pixels();
    for_output_pixels(window, c, dy, |n, p, taps, dy| {
        let (x, dx) = (
            &x[n * image..(n + 1) * image],
            &dx[n * image..(n + 1) * image],
        );
        let y = &y[(n * pixels + p) * c..][..c];
        for (j, dy) in dy.iter_mut().enumerate() {
            *dy = first_maximum(taps, c, j, x, y[j]).map_or(T::ZERO, |i| dx[i]);
        }
    });
}

/// The index of channel `j` at the first tap whose value is `maximum`.
#[inline(always)]
fn first_maximum<T: Scalar>(
    taps: &[Tap],
    c: usize,
    j: usize,
    x: &[T],
    maximum: T,
) -> Option<usize> {
    taps.iter()
        .map(|t| t.pixel * c + j)
        .find(|i| x[*i] >= maximum)
}

/// `gx (+)= ` `g` sent to the first position of each maximum; image `i` of `x` and `y` serves
/// `repeat` gradients.
pub fn max_adjoint<T: Scalar>(
    window: &Window,
    c: usize,
    (x, y): (&[T], &[T]),
    (g, repeat): (&[T], usize),
    accumulate: bool,
    gx: &mut [T],
) {
    let image = input_image(window, c);
    let out_image = window.pixels() * c;
    gx.par_chunks_mut(image).enumerate().for_each(|(i, gx)| {
        if !accumulate {
            gx.fill(T::ZERO);
        }
        let n = i / repeat;
        let x = &x[n * image..(n + 1) * image];
        let mut taps = Vec::with_capacity(window.taps());
        for p in 0..window.pixels() {
            window.list_taps(p, &mut taps);
            let y = &y[n * out_image + p * c..][..c];
            let g = &g[i * out_image + p * c..][..c];
            for j in 0..c {
                if let Some(k) = first_maximum(&taps, c, j, x, y[j]) {
                    gx[k] += g[j];
                }
            }
        }
    });
}

/// `y` = weighted sum over the window, weight `weight(p)` for output pixel `p`.
pub fn sum_forward<T: Scalar>(
    window: &Window,
    c: usize,
    x: &[T],
    weight: impl Fn(usize) -> T + Sync,
    y: &mut [T],
) {
    let image = input_image(window, c);
    for_output_pixels(window, c, y, |n, p, taps, y| {
        let x = &x[n * image..(n + 1) * image];
        y.fill(T::ZERO);
        for t in taps {
            super::elementwise::add_to(y, &x[t.pixel * c..]);
        }
        let w = weight(p);
        y.iter_mut().for_each(|y| *y *= w);
    });
}

/// The adjoint of [`sum_forward`].
pub fn sum_adjoint<T: Scalar>(
    window: &Window,
    c: usize,
    g: &[T],
    weight: impl Fn(usize) -> T + Sync,
    accumulate: bool,
    gx: &mut [T],
) {
    let out_image = window.pixels() * c;
    gx.par_chunks_mut(input_image(window, c))
        .enumerate()
        .for_each(|(i, gx)| {
            if !accumulate {
                gx.fill(T::ZERO);
            }
            let mut taps = Vec::with_capacity(window.taps());
            for (p, g) in g[i * out_image..(i + 1) * out_image]
                .chunks_exact(c)
                .enumerate()
            {
                let w = weight(p);
                window.list_taps(p, &mut taps);
                for t in &taps {
                    for (gx, &g) in gx[t.pixel * c..].iter_mut().zip(g) {
                        *gx += w * g;
                    }
                }
            }
        });
}
