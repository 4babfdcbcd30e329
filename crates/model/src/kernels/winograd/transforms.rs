//! The six small linear maps of F(4 x 4, 3 x 3), and the loops that apply them over channels.
//!
//! Interpolation points 0, 1, -1, 2, -2 and infinity (Lavin & Gray 2016, section 4.3). In one
//! dimension, with d six inputs, g three weights and y four outputs:
//!
//! ```text
//! y = A' [ (G g) . (B' d) ]
//! ```
//!
//! In two, every map is applied along the rows and along the columns. Adjoints use the transposed
//! maps A and G', so that the weight gradient is the exact adjoint of the product.

#![allow(unsafe_code)]

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use crate::kernels::lanes::Lanes;
use crate::tensor::Scalar;

/// Products of a tile: 6 x 6.
pub const PRODUCTS: usize = 36;
/// Rows and columns of outputs in a tile.
pub const OUT: usize = 4;

/// Arithmetic on one vector register, so that the maps below read as formulas.
#[derive(Clone, Copy)]
struct Arithmetic<S> {
    simd: S,
}

impl<S: Simd> Arithmetic<S> {
    #[inline(always)]
    fn add<T: Lanes>(self, a: T::Vector<S>, b: T::Vector<S>) -> T::Vector<S> {
        T::plus(self.simd, a, b)
    }
    #[inline(always)]
    fn sub<T: Lanes>(self, a: T::Vector<S>, b: T::Vector<S>) -> T::Vector<S> {
        T::minus(self.simd, a, b)
    }
    /// `k a + c`.
    #[inline(always)]
    fn fma<T: Scalar>(self, k: f64, a: T::Vector<S>, c: T::Vector<S>) -> T::Vector<S> {
        T::fma(self.simd, T::splat(self.simd, T::from_f64(k)), a, c)
    }
    /// `k a`.
    #[inline(always)]
    fn scale<T: Scalar>(self, k: f64, a: T::Vector<S>) -> T::Vector<S> {
        T::times(self.simd, T::splat(self.simd, T::from_f64(k)), a)
    }
}

/// A linear map of I vectors to O vectors, lane by lane.
pub trait Map<const I: usize, const O: usize> {
    /// Applies it.
    fn apply<T: Scalar, S: Simd>(simd: S, x: [T::Vector<S>; I]) -> [T::Vector<S>; O];
}

/// B': inputs to the product domain.
#[derive(Clone, Copy, Debug)]
pub struct Input;
/// A': products to outputs.
#[derive(Clone, Copy, Debug)]
pub struct Output;
/// A: output gradients to the product domain.
#[derive(Clone, Copy, Debug)]
pub struct Gradient;
/// G: weights to the product domain.
#[derive(Clone, Copy, Debug)]
pub struct Weights;
/// G': weight gradients back from the product domain.
#[derive(Clone, Copy, Debug)]
pub struct WeightGradient;

impl Map<6, 6> for Input {
    #[inline(always)]
    fn apply<T: Scalar, S: Simd>(simd: S, d: [T::Vector<S>; 6]) -> [T::Vector<S>; 6] {
        let v = Arithmetic { simd };
        let (sum, difference) = (v.add::<T>(d[1], d[2]), v.sub::<T>(d[1], d[2]));
        let (even, odd) = (v.sub::<T>(d[4], d[2]), v.sub::<T>(d[3], d[1]));
        [
            v.fma::<T>(4.0, d[0], v.fma::<T>(-5.0, d[2], d[4])),
            v.fma::<T>(-4.0, sum, v.add::<T>(d[3], d[4])),
            v.fma::<T>(4.0, difference, v.sub::<T>(d[4], d[3])),
            v.fma::<T>(2.0, odd, even),
            v.fma::<T>(-2.0, odd, even),
            v.fma::<T>(4.0, d[1], v.fma::<T>(-5.0, d[3], d[5])),
        ]
    }
}

impl Map<6, 4> for Output {
    #[inline(always)]
    fn apply<T: Scalar, S: Simd>(simd: S, m: [T::Vector<S>; 6]) -> [T::Vector<S>; 4] {
        let v = Arithmetic { simd };
        let (s1, d1) = (v.add::<T>(m[1], m[2]), v.sub::<T>(m[1], m[2]));
        let (s2, d2) = (v.add::<T>(m[3], m[4]), v.sub::<T>(m[3], m[4]));
        [
            v.add::<T>(m[0], v.add::<T>(s1, s2)),
            v.fma::<T>(2.0, d2, d1),
            v.fma::<T>(4.0, s2, s1),
            v.fma::<T>(8.0, d2, v.add::<T>(d1, m[5])),
        ]
    }
}

impl Map<4, 6> for Gradient {
    #[inline(always)]
    fn apply<T: Scalar, S: Simd>(simd: S, g: [T::Vector<S>; 4]) -> [T::Vector<S>; 6] {
        let v = Arithmetic { simd };
        let (even, odd) = (v.add::<T>(g[0], g[2]), v.add::<T>(g[1], g[3]));
        let even2 = v.fma::<T>(4.0, g[2], g[0]);
        let odd2 = v.fma::<T>(8.0, g[3], v.scale::<T>(2.0, g[1]));
        [
            g[0],
            v.add::<T>(even, odd),
            v.sub::<T>(even, odd),
            v.add::<T>(even2, odd2),
            v.sub::<T>(even2, odd2),
            g[3],
        ]
    }
}

impl Map<3, 6> for Weights {
    #[inline(always)]
    fn apply<T: Scalar, S: Simd>(simd: S, w: [T::Vector<S>; 3]) -> [T::Vector<S>; 6] {
        let v = Arithmetic { simd };
        let even = v.scale::<T>(-1.0 / 6.0, v.add::<T>(w[0], w[2]));
        let odd = v.scale::<T>(-1.0 / 6.0, w[1]);
        let even2 = v.fma::<T>(1.0 / 24.0, w[0], v.scale::<T>(1.0 / 6.0, w[2]));
        let odd2 = v.scale::<T>(1.0 / 12.0, w[1]);
        [
            v.scale::<T>(0.25, w[0]),
            v.add::<T>(even, odd),
            v.sub::<T>(even, odd),
            v.add::<T>(even2, odd2),
            v.sub::<T>(even2, odd2),
            w[2],
        ]
    }
}

impl Map<6, 3> for WeightGradient {
    #[inline(always)]
    fn apply<T: Scalar, S: Simd>(simd: S, u: [T::Vector<S>; 6]) -> [T::Vector<S>; 3] {
        let v = Arithmetic { simd };
        let (s1, d1) = (v.add::<T>(u[1], u[2]), v.sub::<T>(u[1], u[2]));
        let (s2, d2) = (v.add::<T>(u[3], u[4]), v.sub::<T>(u[3], u[4]));
        let sixth = v.scale::<T>(-1.0 / 6.0, s1);
        [
            v.fma::<T>(0.25, u[0], v.fma::<T>(1.0 / 24.0, s2, sixth)),
            v.fma::<T>(1.0 / 12.0, d2, v.scale::<T>(-1.0 / 6.0, d1)),
            v.fma::<T>(1.0 / 6.0, s2, v.add::<T>(sixth, u[5])),
        ]
    }
}

/// Where a square of numbers lies for every channel: cell (r, c) of channel j at
/// `first + r * row + c * column + j`, for the rows and columns in `inside`.
#[derive(Clone, Debug)]
pub struct Square {
    /// Cell (0, 0) of channel 0; may lie before the data where that cell is not inside.
    pub first: isize,
    /// Numbers between rows.
    pub row: usize,
    /// Numbers between columns.
    pub column: usize,
    /// Rows and columns that exist; others are zero when read, and not written.
    pub inside: [std::ops::Range<usize>; 2],
}

impl Square {
    /// Whether all `side x side` cells exist, and lie with all their channels within `len` numbers.
    #[inline(always)]
    fn is_whole(&self, side: usize, len: usize, channels: usize) -> bool {
        let steps = self
            .row
            .saturating_add(self.column)
            .saturating_mul(side - 1);
        let end = steps.saturating_add(channels);
        self.inside.iter().all(|inside| *inside == (0..side))
            && usize::try_from(self.first).is_ok_and(|first| first.saturating_add(end) <= len)
    }

    /// Cell (0, 0), where it exists.
    #[inline(always)]
    fn corner(&self) -> usize {
        self.first as usize
    }

    #[inline(always)]
    fn cell(&self, r: usize, c: usize) -> Option<usize> {
        let inside = self.inside[0].contains(&r) && self.inside[1].contains(&c);
        inside.then(|| {
            self.first
                .wrapping_add_unsigned(r * self.row + c * self.column) as usize
        })
    }
}

/// Applies a map along both axes of a square, for `channels` channels.
#[derive(Debug)]
pub struct Transform<'a, M, T, const I: usize, const O: usize> {
    /// Which map.
    pub map: PhantomData<M>,
    /// Numbers read.
    pub x: &'a [T],
    /// Where.
    pub from: Square,
    /// Numbers written.
    pub y: &'a mut [T],
    /// Where.
    pub to: Square,
    /// Channels.
    pub channels: usize,
    /// Add to what is there.
    pub accumulate: bool,
}

impl<M: Map<I, O>, T: Scalar, const I: usize, const O: usize> Transform<'_, M, T, I, O> {
    /// The channels from `first` on in vectors `S`, as long as whole vectors remain; returns the
    /// first channel left. `READ` and `WRITE` say that whole squares are read and written.
    ///
    /// # Safety
    /// What `READ` and `WRITE` say must hold by [`Square::is_whole`].
    #[inline(always)]
    unsafe fn sweep<S: Simd, const READ: bool, const WRITE: bool>(
        &mut self,
        simd: S,
        first: usize,
    ) -> usize {
        let lanes = T::count::<S>();
        let zero = T::splat(simd, T::ZERO);
        let mut j = first;
        while j + lanes <= self.channels {
            let mut half = [[zero; I]; O];
            for c in 0..I {
                let column = std::array::from_fn(|r| {
                    if READ {
                        let cell =
                            self.from.corner() + r * self.from.row + c * self.from.column + j;
                        // SAFETY: the caller vouches that whole squares are inside.
                        unsafe {
                            self.x
                                .as_ptr()
                                .add(cell)
                                .cast::<T::Vector<S>>()
                                .read_unaligned()
                        }
                    } else {
                        let cell = self.from.cell(r, c);
                        cell.map_or(zero, |cell| T::load::<S>(&self.x[cell + j..]))
                    }
                });
                let column = M::apply::<T, S>(simd, column);
                for r in 0..O {
                    half[r][c] = column[r];
                }
            }
            for (r, half) in half.into_iter().enumerate() {
                let row = M::apply::<T, S>(simd, half);
                for (c, v) in row.into_iter().enumerate() {
                    if WRITE {
                        let cell = self.to.corner() + r * self.to.row + c * self.to.column + j;
                        // SAFETY: the caller vouches that whole squares are inside.
                        unsafe {
                            let y = self.y.as_mut_ptr().add(cell).cast::<T::Vector<S>>();
                            y.write_unaligned(v);
                        }
                    } else if let Some(cell) = self.to.cell(r, c) {
                        let y = &mut self.y[cell + j..];
                        let v = if self.accumulate {
                            T::plus(simd, v, T::load::<S>(y))
                        } else {
                            v
                        };
                        T::store::<S>(v, y);
                    }
                }
            }
            j += lanes;
        }
        j
    }

    /// All channels.
    ///
    /// # Safety
    /// As that of `sweep`.
    #[inline(always)]
    unsafe fn all<S: Simd, const READ: bool, const WRITE: bool>(&mut self, simd: S) {
        // SAFETY: the caller vouches for the same.
        unsafe {
            let rest = self.sweep::<S, READ, WRITE>(simd, 0);
            self.sweep::<pulp::Scalar, READ, WRITE>(pulp::Scalar, rest);
        }
    }
}

impl<M: Map<I, O>, T: Scalar, const I: usize, const O: usize> WithSimd
    for Transform<'_, M, T, I, O>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let read = self.from.is_whole(I, self.x.len(), self.channels);
        let write = !self.accumulate && self.to.is_whole(O, self.y.len(), self.channels);
        // SAFETY: `read` and `write` are what has just been checked.
        unsafe {
            match (read, write) {
                (true, true) => self.all::<S, true, true>(simd),
                (true, false) => self.all::<S, true, false>(simd),
                (false, true) => self.all::<S, false, true>(simd),
                (false, false) => self.all::<S, false, false>(simd),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::Rng;

    fn map<M: Map<I, O>, const I: usize, const O: usize>(_: &M, x: [f64; I]) -> [f64; O] {
        M::apply::<f64, pulp::Scalar>(pulp::Scalar, x)
    }

    fn random<const N: usize>(rng: &mut Rng) -> [f64; N] {
        rng.normals(N).try_into().unwrap()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn products_of_the_maps_are_a_correlation() {
        let mut rng = Rng::new(1);
        let (d, w) = (random::<6>(&mut rng), random::<3>(&mut rng));
        let (v, u) = (map(&Input, d), map(&Weights, w));
        let y: [f64; 4] = map(&Output, std::array::from_fn(|i| u[i] * v[i]));
        for i in 0..4 {
            let want = dot(&d[i..i + 3], &w);
            assert!((y[i] - want).abs() < 1e-12, "{} is not {want}", y[i]);
        }
    }

    #[test]
    fn gradient_maps_are_transposes() {
        let mut rng = Rng::new(2);
        let (m, g) = (random::<6>(&mut rng), random::<4>(&mut rng));
        assert!((dot(&map(&Output, m), &g) - dot(&m, &map(&Gradient, g))).abs() < 1e-12);
        let (w, u) = (random::<3>(&mut rng), random::<6>(&mut rng));
        assert!((dot(&map(&Weights, w), &u) - dot(&w, &map(&WeightGradient, u))).abs() < 1e-12);
    }
}
