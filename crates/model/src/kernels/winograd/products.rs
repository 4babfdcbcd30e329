//! The products of a pass, task by task.

use std::marker::PhantomData;
use std::ops::{Range, RangeInclusive};

use rayon::prelude::*;

use super::tiles::Tiles;
use super::transforms::{Input, OUT, Output, PRODUCTS, Square, Transform};
use super::{GAP, Winograd};
use crate::kernels::finish::{Finish, Part};
use crate::kernels::lanes::vectorize;
use crate::kernels::scratch::{Scratch, scratch};
use crate::kernels::tile::{Rows, panel_width};
use crate::tensor::Scalar;

/// Tiles of a task: enough for whole register tiles, few enough for the cache.
const TASK: RangeInclusive<usize> = 14..=56;
/// Of the 36 products those that another thread may take.
const UNIT: usize = 9;

/// What a pass computes: z, the product of the first input and the first weights, and dz, the sum
/// of the crossed products.
pub(super) struct Operands<'a, T> {
    /// x, dx.
    pub inputs: &'a [&'a [T]],
    /// W, dW.
    pub weights: &'a [&'a [T]],
    /// Input and weights of each product of dz.
    pub crossed: &'a [(usize, usize)],
    /// Whether z is added to.
    pub accumulate: bool,
}

/// The outputs of one row of tiles.
struct TileRow<'a, T> {
    /// Index of their first number.
    first: usize,
    z: &'a mut [T],
    dz: Option<&'a mut [T]>,
    y: Option<&'a mut [T]>,
}

/// The inputs of a task in the product domain, and transformed weights of some output channels.
struct Factors<'a, T: Scalar> {
    v: &'a [Tiles<T>],
    /// Where the tiles lie in each product.
    base: &'a [usize],
    u: &'a [Scratch<T>],
}

impl Winograd {
    /// The pass that `operands` describe, and what `finish` makes of its results.
    pub(super) fn products<T: Scalar>(
        &self,
        operands: &Operands<'_, T>,
        (z, dz): (&mut [T], Option<&mut [T]>),
        y: Option<&mut [T]>,
        finish: &Finish<'_, T>,
    ) {
        let mut rows = self.tile_rows_of(z, dz, y);
        let each = self.rows_of_task();
        for first in (0..self.cout).step_by(self.chunk()) {
            let channels = first..self.cout.min(first + self.chunk());
            let transform = |w: &&[T]| self.transform_weights(w, first, channels.len());
            let u: Vec<Scratch<T>> = operands.weights.iter().map(transform).collect();
            let tasks = rows.par_chunks_mut(each).enumerate();
            tasks.for_each(|(i, rows)| {
                self.task(i * each, rows, operands, (&channels, &u));
                for row in rows.iter_mut().filter(|_| channels.end == self.cout) {
                    finish(Part {
                        first: row.first,
                        z: row.z,
                        dz: row.dz.as_deref_mut().unwrap_or_default(),
                        y: row.y.as_deref_mut(),
                    });
                }
            });
        }
    }

    /// Rows of tiles in a task: those that fill register tiles best, the fewer the better.
    fn rows_of_task(&self) -> usize {
        let width = self.width();
        let least = TASK.start().div_ceil(width);
        let most = least.max(TASK.end() / width);
        let filled = |rows: &usize| {
            let tiles = rows * width;
            (1000 * tiles / tiles.next_multiple_of(14), most - rows)
        };
        (least..=most).max_by_key(filled).unwrap_or(least)
    }

    /// The outputs of the rows of tiles from `row` on, in the channels whose weights are `u`.
    fn task<T: Scalar>(
        &self,
        row: usize,
        rows: &mut [TileRow<'_, T>],
        operands: &Operands<'_, T>,
        (channels, u): (&Range<usize>, &[Scratch<T>]),
    ) {
        let (nr, width) = (panel_width::<T>(), self.width());
        let transform = |x: &&[T]| {
            let mut tiles = Tiles::new(rows.len(), width, self.cin);
            tiles.fill(Input, x, rows.len(), |r, t| self.input_square(row + r, t));
            tiles
        };
        let v: Vec<Tiles<T>> = operands.inputs.iter().map(transform).collect();
        let base = v[0].base(rows.len(), 0);
        let v = v.as_slice();
        let factors = Factors { v, base: &base, u };
        let step = (self.limits.back / (PRODUCTS * base.len()) / nr * nr).max(nr);
        let mut m = scratch::<T>(PRODUCTS * (base.len() * step + GAP));
        for first in (0..channels.len()).step_by(step) {
            let some = first..channels.len().min(first + step);
            let target = channels.start + first..channels.start + some.end;
            self.multiply(&factors, &[(0, 0)], &some, &mut m);
            for (r, row) in rows.iter_mut().enumerate() {
                self.untransform(&m, (r, base.len()), &target, operands.accumulate, row.z);
            }
            if operands.crossed.is_empty() {
                continue;
            }
            self.multiply(&factors, operands.crossed, &some, &mut m);
            for (r, row) in rows.iter_mut().enumerate() {
                if let Some(dz) = &mut row.dz {
                    self.untransform(&m, (r, base.len()), &target, false, dz);
                }
            }
        }
    }

    /// `M_f = sum over terms of V_f U_f`, in some of the channels of U.
    fn multiply<T: Scalar>(
        &self,
        factors: &Factors<'_, T>,
        terms: &[(usize, usize)],
        channels: &Range<usize>,
        m: &mut [T],
    ) {
        let nr = panel_width::<T>();
        let panel = PRODUCTS * self.cin * nr;
        let len = factors.base.len() * channels.len() + GAP;
        let products = m[..PRODUCTS * len].par_chunks_mut(len).with_min_len(UNIT);
        products.enumerate().for_each(|(f, m)| {
            for (i, (x, w)) in terms.iter().enumerate() {
                let (v, u) = (&factors.v[*x], &factors.u[*w]);
                Rows {
                    x: &v.numbers[f * v.product..],
                    base: factors.base,
                    taps: &[0],
                    run: self.cin,
                    panels: &u[channels.start / nr * panel + f * self.cin * nr..],
                    panel_stride: panel,
                    cols: channels.len(),
                    c: m,
                    stride: channels.len(),
                    accumulate: i > 0,
                }
                .run();
            }
        });
    }

    /// Writes the outputs of row `r` of a task's tiles in some channels.
    fn untransform<T: Scalar>(
        &self,
        m: &[T],
        (r, tiles): (usize, usize),
        channels: &Range<usize>,
        accumulate: bool,
        z: &mut [T],
    ) {
        let line = self.window.output[1] * self.cout;
        let product = tiles * channels.len() + GAP;
        for tile in 0..self.width() {
            let from = Square {
                first: ((r * self.width() + tile) * channels.len()) as isize,
                row: 6 * product,
                column: product,
                inside: [0..6, 0..6],
            };
            let across = 0..OUT.min(self.window.output[1] - OUT * tile);
            let to = Square {
                first: (OUT * tile * self.cout + channels.start) as isize,
                row: line,
                column: self.cout,
                inside: [0..z.len() / line, across],
            };
            vectorize(Transform {
                map: PhantomData::<Output>,
                x: m,
                from,
                y: z,
                to,
                channels: channels.len(),
                accumulate,
            });
        }
    }

    /// The results of a pass by rows of tiles.
    fn tile_rows_of<'a, T>(
        &self,
        z: &'a mut [T],
        dz: Option<&'a mut [T]>,
        y: Option<&'a mut [T]>,
    ) -> Vec<TileRow<'a, T>> {
        let mut dz = self.cut(dz).into_iter();
        let mut y = self.cut(y).into_iter();
        let line = self.window.output[1] * self.cout;
        let image = self.window.output[0] * line;
        let row = |(i, z)| {
            let (n, ty) = (i / self.tile_rows(), i % self.tile_rows());
            TileRow {
                first: n * image + ty * OUT * line,
                z,
                dz: dz.next(),
                y: y.next(),
            }
        };
        self.cut(Some(z)).into_iter().enumerate().map(row).collect()
    }

    /// An output by rows of tiles; nothing if there is none.
    fn cut<'a, T>(&self, z: Option<&'a mut [T]>) -> Vec<&'a mut [T]> {
        let line = self.window.output[1] * self.cout;
        let image = self.window.output[0] * line;
        let images = z.into_iter().flat_map(|z| z.chunks_mut(image));
        images.flat_map(|z| z.chunks_mut(OUT * line)).collect()
    }
}
