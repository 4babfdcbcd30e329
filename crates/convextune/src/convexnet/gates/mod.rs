//! Gates: vectors `g` in `R^d` that switch samples on and off, `1[X g > 0]`.
//!
//! A gate matters to a program only through its pattern. There are finitely many: the hyperplanes
//! `x_s' g = 0` cut `R^d` into open cells, the pattern is constant on a cell, and in general position
//! (any `r = rank X` rows independent) there are
//!
//! ```text
//!     P = 2 sum_{k < r} C(n - 1, k)                                                     (1)
//! ```
//!
//! cells (Schläfli 1901; Cover, IEEE Trans. Electronic Computers 14, 1965), fewer otherwise. A cell comes
//! with its negative; when the all-off pattern is a cell's it is among the `P` and is left out of
//! [`Gates`], since it adds nothing to a network. That is so whenever some `g` switches all samples on,
//! as with a bias.
//!
//! # What "all patterns" means
//!
//! The patterns of the open cells: those that a gate keeps when it moves a little. Gates on a
//! hyperplane, `x_s' g = 0` for a row `x_s` that is not zero, are left out.
//!
//! *In general position nothing is missing.* Let `Z` be the rows with `x_s' g = 0`, where `X g` is not
//! zero. They span less than the row space, so they are fewer than `r` and independent, and some `v`
//! has `x_s' v < 0` on all of `Z`; `g + t v` with a small `t > 0` lies in an open cell and has the pattern
//! of `g`.
//!
//! *For ReLU nothing is missing, whatever the data.* The closures of the open cells cover `R^d`. So any
//! weights `u` lie in the cone `K_i` of an open cell, where `D_i X u = (X u)_+`.
//!
//! *For gated ReLU something can be missing when the data are degenerate.* A pattern only gates on
//! hyperplanes have needs rows `Z` with a non-negative combination that is zero (Gordan), such as two
//! opposite rows. Take `x_1 = (1, 0)`, `x_2 = (-1, 0)`, `x_3 = (1, 1)`. The gate `(0, 1)` switches on sample 3
//! alone and produces the outputs `(0, 0, t)` with weights of norm `|t| / sqrt(2)`. No open cell does
//! (one of samples 1 and 2 is on), and with them the same outputs cost `|t|`. Such a pattern needs exact
//! zeros: it is gone once `g` leaves the hyperplanes of `Z` or the rows `Z` lose their combination, as
//! rounding makes them, so a network that stores `g` cannot be relied upon to have it even on its training
//! samples. A gated network "with all patterns" is one with all gates that can be told apart, and its
//! optimum is over these.
//!
//! # Where gates come from
//!
//! [`enumerate`] finds all, [`sample`] draws some, [`given`] takes what it gets. `docs/math/gates.md` has
//! algorithms, costs and measurements in one place.

mod cells;
mod enumerate;
mod independent;
mod rows;
mod sample;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::gated::Patterns;

pub use enumerate::{count_bound, enumerate};
pub use sample::sample;

use crate::Error;

/// Gates whose patterns are made at a time.
const BATCH: usize = 256;

/// Gates with their patterns: pairwise different, none of them all-off.
#[derive(Clone, Debug)]
pub struct Gates {
    /// `d x P`, one gate a column.
    pub vectors: Mat<f64>,
    /// `1[X g > 0]` for each.
    pub patterns: Patterns,
    /// Whether these are all patterns there are.
    pub exhaustive: bool,
}

/// The gates in the columns of `vectors`, without those whose pattern has come before or is all-off.
///
/// # Errors
/// When the length of a gate is not the number of columns of `x`, when a number is not finite, and when
/// no gate switches a sample on.
pub fn given(x: MatRef<'_, f64>, vectors: MatRef<'_, f64>) -> Result<Gates, Error> {
    check_data(x)?;
    if vectors.nrows() != x.ncols() {
        return Err(Error::Usage(format!(
            "a gate has {} numbers, but a sample has {} (the bias, if there is one, is the last)",
            vectors.nrows(),
            x.ncols()
        )));
    }
    for i in 0..vectors.ncols() {
        if let Some(j) = (0..vectors.nrows()).find(|j| !vectors[(*j, i)].is_finite()) {
            let number = format!("number {} of gate {}", j + 1, i + 1);
            return Err(Error::Usage(format!("{number} is not finite")));
        }
    }
    let mut found = Collector::new(x);
    found.offer(vectors, vectors.ncols());
    if found.len() == 0 {
        return Err(Error::Usage(
            "none of the given gates switches a sample on: give other gates".into(),
        ));
    }
    Ok(found.gates(false))
}

/// `Ok` when all numbers of `x` are finite.
fn check_data(x: MatRef<'_, f64>) -> Result<(), Error> {
    for s in 0..x.nrows() {
        if let Some(j) = (0..x.ncols()).find(|j| !x[(s, *j)].is_finite()) {
            let place = format!("row {}, column {}", s + 1, j + 1);
            return Err(Error::Usage(format!(
                "the data, {place}: not a finite number"
            )));
        }
    }
    Ok(())
}

/// Collects gates with new patterns.
struct Collector<'a> {
    x: MatRef<'a, f64>,
    seen: HashSet<Vec<u64>>,
    patterns: Patterns,
    /// The gates, one after the other.
    vectors: Vec<f64>,
}

impl<'a> Collector<'a> {
    fn new(x: MatRef<'a, f64>) -> Self {
        Self {
            x,
            seen: HashSet::new(),
            patterns: Patterns::new(x.nrows()),
            vectors: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.seen.len()
    }

    /// Takes the columns of `gates` whose patterns are new and on anywhere, in order, until there are
    /// `limit`.
    fn offer(&mut self, gates: MatRef<'_, f64>, limit: usize) {
        for first in (0..gates.ncols()).step_by(BATCH) {
            let batch = gates.subcols(first, BATCH.min(gates.ncols() - first));
            let patterns = Patterns::of(self.x, batch);
            for i in 0..batch.ncols() {
                if self.len() < limit
                    && patterns.count(i) > 0
                    && self.seen.insert(patterns.row(i).to_vec())
                {
                    let on = |s| patterns.get(i, s);
                    self.patterns.push((0..self.x.nrows()).map(on));
                    self.vectors.extend(batch.col(i).iter());
                }
            }
        }
    }

    fn gates(self, exhaustive: bool) -> Gates {
        let (d, count) = (self.x.ncols(), self.len());
        let vectors = MatRef::from_column_major_slice(&self.vectors, d, count);
        Gates {
            vectors: vectors.to_owned(),
            patterns: self.patterns,
            exhaustive,
        }
    }
}
