//! What follows a convolution, done to each part of its result while that part is in the cache:
//! a frozen normalisation, a shortcut added, an activation.
//!
//! ```text
//! y  = act(scale z + shift + shortcut)
//! dy = act'(y) (scale dz + dscale z + dshift + dshortcut)
//! ```

use std::ops::Range;

use rayon::prelude::*;

use super::{simd, task_rows};
use crate::ops::Slopes;
use crate::tensor::Scalar;

/// A part of a convolution's result: whole pixels, all channels.
#[derive(Debug)]
pub struct Part<'a, T> {
    /// Index of the part's first number in the whole.
    pub first: usize,
    /// The convolution's result; overwritten with y where y has no place of its own.
    pub z: &'a mut [T],
    /// Its tangent, overwritten with dy; empty in a forward pass.
    pub dz: &'a mut [T],
    /// Where y goes, if z is to be kept.
    pub y: Option<&'a mut [T]>,
}

/// Does the rest to a part.
pub type Finish<'a, T> = dyn Fn(Part<'_, T>) + Sync + 'a;

/// Nothing follows.
pub fn nothing<T>(_: Part<'_, T>) {}

/// Coefficients per channel of the normalisation, and what is added.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a, T> {
    /// gamma / sigma.
    pub scale: &'a [T],
    /// beta - gamma mean / sigma.
    pub shift: &'a [T],
    /// dgamma / sigma; zeros in a forward pass.
    pub dscale: &'a [T],
    /// dbeta - dgamma mean / sigma.
    pub dshift: &'a [T],
    /// The activation.
    pub act: Slopes<T>,
    /// What is added before the activation.
    pub shortcut: Option<&'a [T]>,
    /// Its tangent.
    pub dshortcut: Option<&'a [T]>,
}

impl<T: Scalar> Chain<'_, T> {
    /// See the module's documentation.
    pub fn apply(&self, part: Part<'_, T>) {
        let Part { first, z, dz, y } = part;
        let range = first..first + z.len();
        let y = match y {
            Some(y) => {
                y.copy_from_slice(z);
                y
            }
            None => z,
        };
        let shortcut = self.shortcut.map(|s| &s[range.clone()]);
        let dshortcut = self.dshortcut.map(|s| &s[range]);
        if dz.is_empty() {
            simd(
                #[inline(always)]
                || self.values(y, shortcut),
            );
        } else {
            simd(
                #[inline(always)]
                || self.tangents(y, dz, shortcut, dshortcut),
            );
        }
    }

    /// The same for a whole `x` and, where it has a place, its tangent `dx`, or zero.
    pub fn apply_to(&self, x: &[T], dx: Option<&[T]>, y: &mut [T], dy: Option<&mut [T]>) {
        let c = self.scale.len();
        let copy = |rows: Range<usize>, z: &mut [T], dz: Option<&mut [T]>| {
            let range = rows.start * c..rows.end * c;
            z.copy_from_slice(&x[range.clone()]);
            match (dz, dx) {
                (Some(dz), Some(dx)) => dz.copy_from_slice(&dx[range]),
                (Some(dz), None) => dz.fill(T::ZERO),
                (None, _) => {}
            }
        };
        let finish = |part: Part<'_, T>| self.apply(part);
        in_tasks((task_rows(c), c), (y, dy), None, copy, &finish);
    }

    #[inline(always)]
    fn values(&self, y: &mut [T], shortcut: Option<&[T]>) {
        let c = self.scale.len();
        let (scale, shift) = (&self.scale[..c], &self.shift[..c]);
        for (p, y) in y.chunks_exact_mut(c).enumerate() {
            if let Some(s) = shortcut {
                let s = &s[p * c..][..c];
                for j in 0..c {
                    y[j] = self.act.value(y[j].mul_add(scale[j], shift[j]) + s[j]);
                }
            } else {
                for j in 0..c {
                    y[j] = self.act.value(y[j].mul_add(scale[j], shift[j]));
                }
            }
        }
    }

    #[inline(always)]
    fn tangents(&self, y: &mut [T], dz: &mut [T], shortcut: Option<&[T]>, dshortcut: Option<&[T]>) {
        let c = self.scale.len();
        let (scale, shift) = (&self.scale[..c], &self.shift[..c]);
        let (dscale, dshift) = (&self.dscale[..c], &self.dshift[..c]);
        let zeros = vec![T::ZERO; c];
        for (p, (y, dz)) in y
            .chunks_exact_mut(c)
            .zip(dz.chunks_exact_mut(c))
            .enumerate()
        {
            let s = shortcut.map_or(&zeros[..], |s| &s[p * c..][..c]);
            let ds = dshortcut.map_or(&zeros[..], |s| &s[p * c..][..c]);
            let (s, ds) = (&s[..c], &ds[..c]);
            for j in 0..c {
                let value = self.act.value(y[j].mul_add(scale[j], shift[j]) + s[j]);
                let slope = scale[j].mul_add(dz[j], y[j].mul_add(dscale[j], dshift[j])) + ds[j];
                dz[j] = self.act.derivative(value) * slope;
                y[j] = value;
            }
        }
    }
}

/// Lets `sum` compute z, and dz if there is a place for it, some lines a task, and finishes each
/// part. `lines` is the number of a task's lines, `line` that of a line's numbers.
pub(super) fn in_tasks<T: Scalar>(
    (lines, line): (usize, usize),
    (z, dz): (&mut [T], Option<&mut [T]>),
    y: Option<&mut [T]>,
    sum: impl Fn(Range<usize>, &mut [T], Option<&mut [T]>) + Sync,
    finish: &Finish<'_, T>,
) {
    let (len, count) = (lines * line, z.len().div_ceil(lines * line));
    let tasks = z
        .par_chunks_mut(len)
        .zip(places(dz, len, count))
        .zip(places(y, len, count))
        .enumerate();
    tasks.for_each(|(i, ((z, mut dz), y))| {
        sum(i * lines..i * lines + z.len() / line, z, dz.as_deref_mut());
        let (first, dz) = (i * len, dz.unwrap_or_default());
        finish(Part { first, z, dz, y });
    });
}

/// One place for each of `count` parts of `len` numbers of `y`, or none for all.
fn places<T>(y: Option<&mut [T]>, len: usize, count: usize) -> Vec<Option<&mut [T]>> {
    match y {
        Some(y) => y.chunks_mut(len).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}
