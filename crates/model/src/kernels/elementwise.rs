//! Maps over pixels with per-channel coefficients, fused with a piecewise linear activation.

use rayon::prelude::*;

use super::{simd, task_rows};
use crate::ops::Activation;
use crate::tensor::Scalar;

/// `out (+)= scale act'(z) g` per channel, the derivative read off the output `y`, whose image
/// `i` serves the `repeat` gradients of that image; `image` is the length of one image.
pub fn affine_adjoint<T: Scalar>(
    scale: &[T],
    act: Activation,
    y: &[T],
    g: &[T],
    (image, repeat): (usize, usize),
    accumulate: bool,
    out: &mut [T],
) {
    let c = scale.len();
    let len = task_rows(c).min(image / c) * c;
    let (slopes, identity) = (act.slopes::<T>(), act.is_identity());
    out.par_chunks_mut(image)
        .zip(g.par_chunks(image))
        .enumerate()
        .for_each(|(i, (out, g))| {
            let y = &y[(i / repeat) * image..(i / repeat + 1) * image];
            let tasks = out
                .par_chunks_mut(len)
                .zip(g.par_chunks(len))
                .zip(y.par_chunks(len));
            tasks.for_each(|((out, g), y)| {
                simd(
                    #[inline(always)]
                    || {
                        let scale = &scale[..c];
                        for p in 0..out.len() / c {
                            let row = p * c..p * c + c;
                            let out = &mut out[row.clone()][..c];
                            let (g, y) = (&g[row.clone()][..c], &y[row][..c]);
                            for j in 0..c {
                                // The identity does not read y.
                                let slope = if identity {
                                    T::ONE
                                } else {
                                    slopes.derivative(y[j])
                                };
                                let v = slope * g[j] * scale[j];
                                out[j] = if accumulate { out[j] + v } else { v };
                            }
                        }
                    },
                );
            });
        });
}

/// Per channel, over all pixels: `(sum act'(z) g x, sum act'(z) g)`, in a fixed order.
pub fn affine_weight_sums<T: Scalar>(
    act: Activation,
    x: &[T],
    y: &[T],
    g: &[T],
    c: usize,
) -> (Vec<T>, Vec<T>) {
    let len = task_rows(c) * c;
    let slopes = act.slopes::<T>();
    let tasks = x
        .par_chunks(len)
        .zip(y.par_chunks(len))
        .zip(g.par_chunks(len));
    let partial: Vec<(Vec<T>, Vec<T>)> = tasks
        .map(|((x, y), g)| {
            let (mut gx, mut sum) = (vec![T::ZERO; c], vec![T::ZERO; c]);
            simd(
                #[inline(always)]
                || {
                    let (gx, sum) = (&mut gx[..c], &mut sum[..c]);
                    for p in 0..x.len() / c {
                        let row = p * c..p * c + c;
                        let x = &x[row.clone()][..c];
                        let (y, g) = (&y[row.clone()][..c], &g[row][..c]);
                        for j in 0..c {
                            let v = slopes.derivative(y[j]) * g[j];
                            gx[j] = v.mul_add(x[j], gx[j]);
                            sum[j] += v;
                        }
                    }
                },
            );
            (gx, sum)
        })
        .collect();
    let (gx, sum): (Vec<_>, Vec<_>) = partial.into_iter().unzip();
    (total(&gx, c), total(&sum, c))
}

/// `g = act'(y) g`, the derivative read off the output `y`, which the identity does not read; per
/// channel the sum of the new `g` over all pixels, in a fixed order.
pub fn mask_and_sum<T: Scalar>(act: Activation, y: &[T], g: &mut [T], c: usize) -> Vec<T> {
    let len = task_rows(c) * c;
    let slopes = act.slopes::<T>();
    let tasks = g.par_chunks_mut(len).enumerate();
    let partial: Vec<Vec<T>> = tasks
        .map(|(task, g)| {
            let mut sum = vec![T::ZERO; c];
            let y = (!act.is_identity()).then(|| &y[task * len..task * len + g.len()]);
            simd(
                #[inline(always)]
                || {
                    let sum = &mut sum[..c];
                    if let Some(y) = y {
                        for (g, y) in g.chunks_exact_mut(c).zip(y.chunks_exact(c)) {
                            for j in 0..c {
                                g[j] = slopes.derivative(y[j]) * g[j];
                                sum[j] += g[j];
                            }
                        }
                    } else {
                        for g in g.chunks_exact(c) {
                            for j in 0..c {
                                sum[j] += g[j];
                            }
                        }
                    }
                },
            );
            sum
        })
        .collect();
    total(&partial, c)
}

/// `w[k, c] scale[c]`, written to `out`.
pub fn scale_columns<T: Scalar>(w: &[T], scale: &[T], out: &mut [T]) {
    let c = scale.len();
    let len = task_rows(c) * c;
    let tasks = out.par_chunks_mut(len).zip(w.par_chunks(len));
    tasks.for_each(|(out, w)| {
        simd(
            #[inline(always)]
            || {
                for (out, w) in out.chunks_exact_mut(c).zip(w.chunks_exact(c)) {
                    for j in 0..c {
                        out[j] = w[j] * scale[j];
                    }
                }
            },
        );
    });
}

/// `gw[k, c] += h[k, c] scale[c]`; per column `sum_k h[k, c] w[k, c]`, in a fixed order.
pub fn add_scaled_columns<T: Scalar>(h: &[T], scale: &[T], w: &[T], gw: &mut [T]) -> Vec<T> {
    let c = scale.len();
    let len = task_rows(c) * c;
    let tasks = gw.par_chunks_mut(len).zip(h.par_chunks(len));
    let partial: Vec<Vec<T>> = tasks
        .zip(w.par_chunks(len))
        .map(|((gw, h), w)| {
            let mut sum = vec![T::ZERO; c];
            simd(
                #[inline(always)]
                || {
                    let sum = &mut sum[..c];
                    let rows = gw.chunks_exact_mut(c).zip(h.chunks_exact(c));
                    for ((gw, h), w) in rows.zip(w.chunks_exact(c)) {
                        for j in 0..c {
                            gw[j] = h[j].mul_add(scale[j], gw[j]);
                            sum[j] = h[j].mul_add(w[j], sum[j]);
                        }
                    }
                },
            );
            sum
        })
        .collect();
    total(&partial, c)
}

fn total<T: Scalar>(partial: &[Vec<T>], c: usize) -> Vec<T> {
    let mut total = vec![T::ZERO; c];
    partial.iter().for_each(|sum| add_to(&mut total, sum));
    total
}

/// `out += x`, on the calling thread.
pub fn add_to<T: Scalar>(out: &mut [T], x: &[T]) {
    for (o, &x) in out.iter_mut().zip(x) {
        *o += x;
    }
}

/// `out[i] = f(i)` in parallel tasks, `f` inlined into the vectorised loop.
pub fn generate<T: Scalar>(out: &mut [T], f: impl Fn(usize) -> T + Sync) {
    out.par_chunks_mut(super::ELEMENTWISE_TASK)
        .enumerate()
        .for_each(|(task, out)| {
            let first = task * super::ELEMENTWISE_TASK;
            simd(
                #[inline(always)]
                || {
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = f(first + i);
                    }
                },
            );
        });
}

/// `out[i] = f(out[i], x[i])` in parallel tasks.
pub fn update<T: Scalar>(out: &mut [T], x: &[T], f: impl Fn(T, T) -> T + Sync) {
    let len = super::ELEMENTWISE_TASK;
    out.par_chunks_mut(len)
        .zip(x.par_chunks(len))
        .for_each(|(out, x)| {
            simd(
                #[inline(always)]
                || {
                    for (o, &x) in out.iter_mut().zip(x) {
                        *o = f(*o, x);
                    }
                },
            );
        });
}
