//! Matrix products out of register tiles, without packing the left-hand side.
//!
//! ```text
//! tile      C[i, j] = sum_k a(i, k) b(k, j)      i < MR rows, j < NR = 2 vectors, all of C in registers
//! rows      a(i, k) = x[base_i + k]              left-hand rows anywhere in x; B packed in panels
//! columns   a(i, k) = x[base_k + i] , b(k, j) = g[base'_k + j]     C = X' G, both as they lie
//! ```
//!
//! A step of k is MR broadcasts and two loads for 2 MR fused multiply-adds, so the tile needs so
//! little of the caches that neither operand has to be copied: MR = 14 on machines with 32 vector
//! registers (AVX-512, NEON), 6 on those with 16.
#![allow(unsafe_code)]

mod columns;
mod rows;

pub use columns::Columns;
pub use rows::Rows;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{Lanes, vectorize};
use super::scratch::{Scratch, scratch};
use crate::tensor::Scalar;

/// Numbers in a tile at most: 14 rows of two vectors of 16.
const TILE: usize = 14 * 32;

/// Rows of a tile for vectors `S`.
const fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 14 } else { 6 }
}

/// Numbers in a row of a tile, on this machine: the width of a packed panel.
pub fn panel_width<T: Lanes>() -> usize {
    struct Width<T>(std::marker::PhantomData<T>);
    impl<T: Lanes> WithSimd for Width<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            2 * T::count::<S>()
        }
    }
    vectorize(Width::<T>(std::marker::PhantomData))
}

/// B of `depth` rows and `cols` columns in panels for [`Rows`]; `row(k)` is its row k.
pub fn pack<'a, T: Scalar>(
    depth: usize,
    cols: usize,
    row: impl Fn(usize) -> &'a [T] + Sync,
) -> Scratch<T> {
    let nr = panel_width::<T>();
    let mut panels = scratch(cols.div_ceil(nr) * depth * nr);
    let each = panels.par_chunks_mut((depth * nr).max(1)).enumerate();
    each.for_each(|(j, panel)| {
        let width = nr.min(cols - j * nr);
        for (k, out) in panel.chunks_exact_mut(nr).enumerate() {
            out[..width].copy_from_slice(&row(k)[j * nr..j * nr + width]);
            out[width..].fill(T::ZERO);
        }
    });
    panels
}

/// Writes a tile from registers.
///
/// # Safety
/// `out` must be good for MR rows of NV vectors, `stride` numbers apart.
#[inline(always)]
unsafe fn write_tile<T: Lanes, S: Simd, const MR: usize, const NV: usize>(
    acc: &[[T::Vector<S>; NV]; MR],
    (out, stride): (*mut T, usize),
) {
    for r in 0..MR {
        // SAFETY: the caller vouches for row r.
        unsafe {
            let out = out.add(r * stride).cast::<T::Vector<S>>();
            for v in 0..NV {
                out.add(v).write_unaligned(acc[r][v]);
            }
        }
    }
}

/// Asks for numbers that are soon to be written, while there is still arithmetic to do.
#[inline(always)]
fn prefetch<T>(numbers: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in numbers.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing; every x86-64 machine knows or ignores it.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}

/// Where a tile goes in C: its first `rows x width` numbers, to rows `stride` apart.
struct Place {
    rows: usize,
    width: usize,
    stride: usize,
    accumulate: bool,
}

impl Place {
    #[inline(always)]
    fn is_whole(&self, rows: usize, width: usize) -> bool {
        self.rows == rows && self.width == width && !self.accumulate
    }

    /// Where a tile of `rows x width` numbers is written, and the stride there: `c` itself, or a
    /// tile beside it that is then added or copied in part.
    #[inline(always)]
    fn target<T>(
        &self,
        c: &mut [T],
        beside: &mut [T; TILE],
        rows: usize,
        width: usize,
    ) -> (*mut T, usize) {
        if self.is_whole(rows, width) {
            assert!((rows - 1).saturating_mul(self.stride).saturating_add(width) <= c.len());
            for r in 0..rows {
                prefetch(&c[r * self.stride..r * self.stride + width]);
            }
            (c.as_mut_ptr(), self.stride)
        } else {
            (beside.as_mut_ptr(), width)
        }
    }

    /// Adds or copies a tile that was written beside `c`.
    #[inline(always)]
    fn settle<T: Scalar>(&self, c: &mut [T], beside: &[T; TILE], rows: usize, width: usize) {
        if self.is_whole(rows, width) {
            return;
        }
        for (r, row) in beside.chunks_exact(width).enumerate().take(self.rows) {
            let c = &mut c[r * self.stride..][..self.width];
            if self.accumulate {
                for (c, &t) in c.iter_mut().zip(row) {
                    *c += t;
                }
            } else {
                c.copy_from_slice(&row[..self.width]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
