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

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{Lanes, vectorize};
use super::scratch::{Scratch, scratch};
use crate::tensor::Scalar;

/// Numbers of a right-hand side that stays in the second-level cache beside the rest.
const SMALL: usize = 1 << 15;
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
        assert!(most(self.base) + most(self.taps) + self.run <= self.x.len());
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
            assert!((rows - 1) * self.stride + width <= c.len());
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

/// `C += X' G`: `C[i, j] += sum_k x[x_base[k] + i] g[g_base[k] + j]`.
#[derive(Debug)]
pub struct Columns<'a, T> {
    /// Where the rows of X lie.
    pub x: &'a [T],
    /// The first number of each row of X.
    pub x_base: &'a [usize],
    /// Columns of X, rows of C.
    pub rows: usize,
    /// Where the rows of G lie.
    pub g: &'a [T],
    /// The first number of each row of G.
    pub g_base: &'a [usize],
    /// Columns of G and of C.
    pub cols: usize,
    /// C, `[rows, cols]`, rows `stride` apart.
    pub c: &'a mut [T],
    /// Numbers between rows of C.
    pub stride: usize,
}

impl<T: Scalar> Columns<'_, T> {
    /// Does it.
    ///
    /// # Panics
    /// When an operand is too short.
    pub fn run(self) {
        vectorize(self);
    }
}

impl<T: Scalar> WithSimd for Columns<'_, T> {
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

impl<T: Scalar> Columns<'_, T> {
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize>(self, simd: S) {
        let nr = 2 * T::count::<S>();
        let depth = self.x_base.len();
        assert_eq!(depth, self.g_base.len());
        let end = |base: &[usize], len| base.iter().max().map_or(0, |b| b + len);
        assert!(end(self.x_base, self.rows) <= self.x.len());
        assert!(end(self.g_base, self.cols) <= self.g.len());
        // What is left beside whole tiles is copied once, filled up with zeros.
        let (whole_rows, whole_cols) = (self.rows / MR * MR, self.cols / nr * nr);
        let x_rest = Rest::of(self.x, self.x_base, whole_rows..self.rows, MR);
        let g_rest = Rest::of(self.g, self.g_base, whole_cols..self.cols, nr);
        let mut beside = [T::ZERO; TILE];
        for i in (0..self.rows).step_by(MR) {
            let (x, x_base, i0) = x_rest.instead_of(self.x, self.x_base, i, whole_rows);
            for j in (0..self.cols).step_by(nr) {
                let (g, g_base, j0) = g_rest.instead_of(self.g, self.g_base, j, whole_cols);
                let place = Place {
                    rows: MR.min(self.rows - i),
                    width: nr.min(self.cols - j),
                    stride: self.stride,
                    accumulate: true,
                };
                let c = &mut self.c[i * self.stride + j..];
                let out = place.target(c, &mut beside, MR, nr);
                // SAFETY: rows of x hold MR numbers from i0 on and rows of g hold nr from j0 on:
                // within the columns asserted above for whole tiles, filled up for the rest; and
                // `target` gives place for a tile.
                unsafe {
                    let (x, g) = (x.as_ptr().add(i0), g.as_ptr().add(j0));
                    multiply_columns::<T, S, MR>(simd, (x, x_base), (g, g_base), out);
                }
                place.settle(c, &beside, MR, nr);
            }
        }
    }
}

/// The columns of a matrix beyond its whole tiles, filled up with zeros to the width of a tile.
struct Rest<T> {
    numbers: Vec<T>,
    base: Vec<usize>,
}

impl<T: Scalar> Rest<T> {
    fn of(x: &[T], base: &[usize], columns: std::ops::Range<usize>, width: usize) -> Self {
        if columns.is_empty() {
            let (numbers, base) = (Vec::new(), Vec::new());
            return Self { numbers, base };
        }
        let mut numbers = vec![T::ZERO; base.len() * width];
        for (row, b) in numbers.chunks_exact_mut(width).zip(base) {
            row[..columns.len()].copy_from_slice(&x[b + columns.start..b + columns.end]);
        }
        let base = (0..base.len()).map(|k| k * width).collect();
        Self { numbers, base }
    }

    /// Where the tile that begins at column `i` is read from.
    #[inline(always)]
    fn instead_of<'a>(
        &'a self,
        x: &'a [T],
        base: &'a [usize],
        i: usize,
        whole: usize,
    ) -> (&'a [T], &'a [usize], usize) {
        if i < whole {
            (x, base, i)
        } else {
            (&self.numbers, &self.base, 0)
        }
    }
}

/// One tile of `columns`.
///
/// # Safety
/// For every k, `x + x_base[k]` must be good for MR numbers and `g + g_base[k]` for two vectors;
/// MR rows of two vectors, `stride` apart, are written from `out` on.
#[inline(always)]
unsafe fn multiply_columns<T: Lanes, S: Simd, const MR: usize>(
    simd: S,
    (x, x_base): (*const T, &[usize]),
    (g, g_base): (*const T, &[usize]),
    out: (*mut T, usize),
) {
    let lanes = T::count::<S>();
    let mut acc = [[T::splat(simd, T::default()); 2]; MR];
    for (&xk, &gk) in x_base.iter().zip(g_base) {
        // SAFETY: the caller vouches for both rows.
        unsafe {
            let (a, b) = (x.add(xk), g.add(gk));
            let b0 = b.cast::<T::Vector<S>>().read_unaligned();
            let b1 = b.add(lanes).cast::<T::Vector<S>>().read_unaligned();
            for r in 0..MR {
                let a = T::splat(simd, *a.add(r));
                acc[r][0] = T::fma(simd, a, b0, acc[r][0]);
                acc[r][1] = T::fma(simd, a, b1, acc[r][1]);
            }
        }
    }
    // SAFETY: the caller vouches for `out`.
    unsafe { write_tile::<T, S, MR, 2>(&acc, out) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::{Rng, relative_error};

    fn products<T: Scalar>(tolerance: f64) {
        let mut rng = Rng::new(5);
        let cast = |x: Vec<f64>| -> Vec<T> { x.iter().map(|x| T::from_f64(*x)).collect() };
        let wide = |x: &[T]| -> Vec<f64> { x.iter().map(|x| x.to_f64()).collect() };
        for (m, run, n) in [(1, 1, 1), (14, 3, 32), (29, 17, 70), (6, 40, 31), (5, 0, 4)] {
            let taps = [4, 0, 2 * run];
            let (k, width) = (3 * run, 3 * run + 4);
            let (a, b) = (cast(rng.normals(m * width + 3)), cast(rng.normals(k * n)));
            let base: Vec<usize> = (0..m).map(|i| (m - 1 - i) * width + 1).collect();
            let panels = pack(k, n, |p| &b[p * n..(p + 1) * n]);
            for accumulate in [false, true] {
                let stride = n + 3;
                let start = cast(rng.normals(m * stride));
                let mut c = start.clone();
                let want: Vec<f64> = (0..m * stride)
                    .map(|ij| {
                        let (i, j) = (ij / stride, ij % stride);
                        if j >= n {
                            return start[ij].to_f64();
                        }
                        let a = |p: usize| a[base[i] + taps[p / run] + p % run].to_f64();
                        let kept = if accumulate { start[ij].to_f64() } else { 0.0 };
                        kept + (0..k).map(|p| a(p) * b[p * n + j].to_f64()).sum::<f64>()
                    })
                    .collect();
                Rows {
                    x: &a,
                    base: &base,
                    taps: &taps,
                    run,
                    panels: &panels,
                    panel_stride: panel_width::<T>() * k,
                    cols: n,
                    c: &mut c,
                    stride,
                    accumulate,
                }
                .run();
                assert!(relative_error(&wide(&c), &want) < tolerance);
            }
        }
    }

    #[test]
    fn rows_equal_the_triple_loop() {
        products::<f64>(1e-14);
        products::<f32>(1e-6);
    }

    #[test]
    fn columns_equal_the_triple_loop() {
        let mut rng = Rng::new(6);
        for (m, k, n) in [(1, 1, 1), (14, 3, 16), (33, 20, 41), (16, 5, 7), (3, 9, 32)] {
            let (x, g) = (rng.normals(k * (m + 1)), rng.normals(k * (n + 3)));
            let x_base: Vec<usize> = (0..k).map(|p| p * (m + 1)).collect();
            let g_base: Vec<usize> = (0..k).rev().map(|p| p * (n + 3) + 3).collect();
            let stride = n + 2;
            let mut c = vec![1.0; m * stride];
            Columns {
                x: &x,
                x_base: &x_base,
                rows: m,
                g: &g,
                g_base: &g_base,
                cols: n,
                c: &mut c,
                stride,
            }
            .run();
            for (i, c) in c.chunks(stride).enumerate() {
                for (j, c) in c.iter().enumerate() {
                    let product = |p: usize| x[x_base[p] + i] * g[g_base[p] + j];
                    let want = if j < n {
                        1.0 + (0..k).map(product).sum::<f64>()
                    } else {
                        1.0
                    };
                    assert!((c - want).abs() < 1e-12, "{c} is not {want}");
                }
            }
        }
    }
}
