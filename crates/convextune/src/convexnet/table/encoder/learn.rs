//! What the features' columns mean.

use std::collections::BTreeMap;

use super::{Feature, Part, Scale, check_size, not_a_number};
use crate::convexnet::table::Table;
use crate::convexnet::table::cell::{Cell, check_commas, listed, ordered};
use crate::error::Error;

/// Texts among a majority of numbers are categories if there are no more different cells than these.
const MOST_MIXED: usize = 20;
/// Columns with more categories are left out: they would make as many features.
const MOST_CATEGORIES: usize = 1000;

/// Why a column is left out.
#[derive(Clone, Copy, PartialEq)]
enum Useless {
    Constant,
    Empty,
    Unrepeated,
}

/// The features of all columns but the target's.
pub(super) fn features(
    table: &Table,
    rows: &[usize],
    target: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<Feature>, Error> {
    let (mut features, mut useless) = (Vec::new(), Vec::new());
    for column in (0..table.names.len()).filter(|&column| column != target) {
        let training = Training::new(table, rows, column);
        match training.features()? {
            Ok(found) => features.extend(found),
            Err(why) => useless.push((why, &table.names[column])),
        }
    }
    for (why, reason) in [
        (Useless::Constant, "always the same in the training rows"),
        (Useless::Empty, "empty in the training rows"),
        (
            Useless::Unrepeated,
            "texts that hardly repeat, such as names",
        ),
    ] {
        let left_out = useless.iter().filter(|(other, _)| *other == why);
        let names: Vec<&str> = left_out.map(|(_, name)| name.as_str()).collect();
        if !names.is_empty() {
            notes.push(format!("not used: {} ({reason})", listed(&names, 5)));
        }
    }
    Ok(features)
}

/// A column's cells in the training rows.
struct Training<'a> {
    table: &'a Table,
    rows: &'a [usize],
    column: usize,
    cells: Vec<Cell<'a>>,
    numbers: usize,
    texts: usize,
}

impl<'a> Training<'a> {
    fn new(table: &'a Table, rows: &'a [usize], column: usize) -> Self {
        let cells: Vec<Cell<'a>> = rows.iter().map(|&row| table.cell(row, column)).collect();
        let count = |is: fn(&Cell<'_>) -> bool| cells.iter().filter(|cell| is(cell)).count();
        Self {
            numbers: count(|cell| matches!(cell, Cell::Number(_))),
            texts: count(|cell| matches!(cell, Cell::Text(_))),
            table,
            rows,
            column,
            cells,
        }
    }

    fn features(&self) -> Result<Result<Vec<Feature>, Useless>, Error> {
        let present = self.numbers + self.texts;
        if present == 0 {
            return Ok(Err(Useless::Empty));
        }
        if self.texts == 0 {
            return self.number();
        }
        check_commas(&self.cells).map_err(|(i, reason)| self.error(self.rows[i], &reason))?;
        let shares = self.shares();
        let repeated = shares.len() <= 2 || 2 * shares.len() <= present;
        // Mostly numbers: the texts are categories only when there is little else.
        if self.numbers > self.texts && !(repeated && shares.len() <= MOST_MIXED) {
            return Err(self.stray_text());
        }
        if !repeated || shares.len() > MOST_CATEGORIES {
            return Ok(Err(Useless::Unrepeated));
        }
        Ok(self.categories(&shares))
    }

    fn missing(&self) -> usize {
        self.cells.len() - self.numbers - self.texts
    }

    /// A number, and an indicator of its being missing.
    fn number(&self) -> Result<Result<Vec<Feature>, Useless>, Error> {
        let mut values = Vec::with_capacity(self.numbers);
        for (cell, &row) in self.cells.iter().zip(self.rows) {
            if let Cell::Number(value) = *cell {
                values.push(check_size(value).map_err(|reason| self.error(row, &reason))?);
            }
        }
        let mut features = Vec::new();
        let scale = Scale::of(&values);
        if scale.deviation > 0.0 {
            features.push(self.feature(Part::Number, scale));
        }
        if self.missing() > 0 {
            let mean = self.missing() as f64 / self.cells.len() as f64;
            let deviation = 1.0;
            features.push(self.feature(Part::Missing, Scale { mean, deviation }));
        }
        Ok(if features.is_empty() {
            Err(Useless::Constant)
        } else {
            Ok(features)
        })
    }

    /// A feature for every category, a missing one included.
    fn categories(&self, shares: &BTreeMap<String, f64>) -> Result<Vec<Feature>, Useless> {
        let missing = self.missing() as f64 / self.cells.len() as f64;
        let variance = |p: f64| p * (1.0 - p);
        let total = shares.values().copied().map(variance).sum::<f64>() + variance(missing);
        let deviation = total.sqrt();
        if shares.len() == 1 && self.missing() == 0 {
            return Err(Useless::Constant);
        }
        let names = ordered(shares.keys().cloned());
        let mut features: Vec<Feature> = names
            .into_iter()
            .map(|name| {
                let mean = shares[&name];
                self.feature(Part::Is(name), Scale { mean, deviation })
            })
            .collect();
        if self.missing() > 0 {
            let mean = missing;
            features.push(self.feature(Part::Missing, Scale { mean, deviation }));
        }
        Ok(features)
    }

    /// The share of each category among the training rows.
    fn shares(&self) -> BTreeMap<String, f64> {
        let mut shares = BTreeMap::new();
        for name in self.cells.iter().filter_map(|cell| cell.category()) {
            *shares.entry(name).or_insert(0.0) += 1.0;
        }
        let n = self.cells.len() as f64;
        shares.values_mut().for_each(|count| *count /= n);
        shares
    }

    fn feature(&self, part: Part, scale: Scale) -> Feature {
        let column = self.table.names[self.column].clone();
        Feature {
            column,
            part,
            scale,
        }
    }

    /// The first text of a column that otherwise holds numbers.
    fn stray_text(&self) -> Error {
        for (cell, &row) in self.cells.iter().zip(self.rows) {
            if let Cell::Text(text) = *cell {
                return self.error(row, &not_a_number(text));
            }
        }
        self.table.error("a column holds numbers and texts")
    }

    fn error(&self, row: usize, reason: &str) -> Error {
        let place = self.table.place(row, self.column);
        self.table.error(format!("{place}: {reason}"))
    }
}
