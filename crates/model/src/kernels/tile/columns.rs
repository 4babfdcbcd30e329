//! Products of two matrices by columns, both as they lie.

use pulp::{Simd, WithSimd};

use super::{Place, TILE, tile_rows, write_tile};
use crate::kernels::lanes::{Lanes, vectorize};
use crate::tensor::Scalar;

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
        if depth == 0 {
            return;
        }
        let end = |base: &[usize], len| base.iter().max().map_or(0, |b| b.saturating_add(len));
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
