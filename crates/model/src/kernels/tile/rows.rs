//! Products of rows that lie in runs anywhere with a packed matrix.

use pulp::{Simd, WithSimd};

use super::{Place, TILE, tile_rows, write_tile};
use crate::kernels::lanes::{Lanes, vectorize};
use crate::tensor::Scalar;

/// Numbers of a right-hand side that stays in the second-level cache beside the rest.
const SMALL: usize = 1 << 15;

/// `C = A B`, or `C += A B`: row `i` of A is, one after the other, the runs `x[base[i] + tap..][..run]`;
/// B lies in panels `[depth][NR]`, the last one filled up with any numbers.
#[derive(Debug)]
pub struct Rows<'a, T> {
    /// Where the rows of A lie.
    pub x: &'a [T],
    /// The first number of each row.
    pub base: &'a [usize],
    /// Where each run of a row begins, counted from the row's first number.
    pub taps: &'a [usize],
    /// Numbers in a run.
    pub run: usize,
    /// B, packed.
    pub panels: &'a [T],
    /// Numbers from one panel to the next.
    pub panel_stride: usize,
    /// Columns of C.
    pub cols: usize,
    /// C, `[base.len(), cols]`, rows `stride` apart.
    pub c: &'a mut [T],
    /// Numbers between rows of C.
    pub stride: usize,
    /// Add to what is there.
    pub accumulate: bool,
}

impl<T: Scalar> Rows<'_, T> {
    /// Does it.
    ///
    /// # Panics
    /// When an operand is too short.
    pub fn run(self) {
        vectorize(self);
    }
}

impl<T: Scalar> WithSimd for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if const { tile_rows::<S>() } == 14 {
            self.tiles::<S, 14>(simd);
        } else {
            self.tiles::<S, 6>(simd);
        }
    }
}

impl<T: Scalar> Rows<'_, T> {
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize>(mut self, simd: S) {
        let nr = 2 * T::count::<S>();
        let (depth, cols) = (self.taps.len() * self.run, self.cols);
        let most = |offsets: &[usize]| offsets.iter().max().map_or(0, |o| *o);
        let end = most(self.base).saturating_add(most(self.taps));
        assert!(end.saturating_add(self.run) <= self.x.len());
        let (groups, panels) = (self.base.len().div_ceil(MR), cols.div_ceil(nr));
        let mut beside = [T::ZERO; TILE];
        // All of a small B stays in the cache while C is written line by line; a panel of a large
        // one stays while all rows pass.
        if depth * cols <= SMALL {
            for i in 0..groups {
                for j in 0..panels {
                    self.tile::<S, MR>(simd, (i, j), &mut beside);
                }
            }
        } else {
            for j in 0..panels {
                for i in 0..groups {
                    self.tile::<S, MR>(simd, (i, j), &mut beside);
                }
            }
        }
    }

    /// The tile of the i-th group of rows and the j-th panel; `tiles` has checked the sizes of A.
    #[inline(always)]
    fn tile<S: Simd, const MR: usize>(
        &mut self,
        simd: S,
        (i, j): (usize, usize),
        beside: &mut [T; TILE],
    ) {
        let nr = 2 * T::count::<S>();
        let depth = self.taps.len() * self.run;
        let panel = &self.panels[j * self.panel_stride..][..depth * nr];
        let base = &self.base[i * MR..self.base.len().min((i + 1) * MR)];
        // Rows that the last group lacks repeat its first.
        let base_of = |r: usize| base[if r < base.len() { r } else { 0 }];
        // SAFETY: base + tap + run <= x.len() for every row and tap.
        let rows = std::array::from_fn(|r| unsafe { self.x.as_ptr().add(base_of(r)) });
        let c = &mut self.c[i * MR * self.stride + j * nr..];
        let place = Place {
            rows: base.len(),
            width: nr.min(self.cols - j * nr),
            stride: self.stride,
            accumulate: self.accumulate,
        };
        let a = (rows, self.taps, self.run);
        let b = (panel.as_ptr(), nr);
        // SAFETY: each row plus each tap points at `run` numbers of x, the panel holds
        // taps * run rows of `nr` numbers, and `target` gives place for a tile of its width.
        unsafe {
            if place.width > T::count::<S>() {
                let out = place.target(c, beside, MR, nr);
                multiply_rows::<T, S, MR, 2>(simd, a, b, out);
                place.settle(c, beside, MR, nr);
            } else {
                let out = place.target(c, beside, MR, nr / 2);
                multiply_rows::<T, S, MR, 1>(simd, a, b, out);
                place.settle(c, beside, MR, nr / 2);
            }
        }
    }
}

/// One tile of `rows`, NV vectors wide.
///
/// # Safety
/// Each pointer of `rows`, plus each of `taps`, must be good for `run` numbers, and `b` for
/// `taps.len() * run` rows of NV vectors, `b_stride` numbers apart; MR rows of NV vectors,
/// `stride` apart, are written from `out` on.
#[inline(always)]
unsafe fn multiply_rows<T: Lanes, S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    (rows, taps, run): ([*const T; MR], &[usize], usize),
    (mut b, b_stride): (*const T, usize),
    out: (*mut T, usize),
) {
    let mut acc = [[T::splat(simd, T::default()); NV]; MR];
    for &tap in taps {
        // SAFETY: the caller vouches for every row and tap.
        let a = rows.map(|row| unsafe { row.add(tap) });
        for k in 0..run {
            // SAFETY: k < run; the caller vouches for both operands.
            unsafe {
                let mut row = [T::splat(simd, T::default()); NV];
                for v in 0..NV {
                    row[v] = b.cast::<T::Vector<S>>().add(v).read_unaligned();
                }
                b = b.add(b_stride);
                for r in 0..MR {
                    let a = T::splat(simd, *a[r].add(k));
                    for v in 0..NV {
                        acc[r][v] = T::fma(simd, a, row[v], acc[r][v]);
                    }
                }
            }
        }
    }
    // SAFETY: the caller vouches for `out`.
    unsafe { write_tile::<T, S, MR, NV>(&acc, out) };
}
