//! The target's column.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Scale, check_size, not_a_number};
use crate::convexnet::Task;
use crate::convexnet::table::cell::{Cell, check_commas, listed, ordered, shown};
use crate::convexnet::table::{Table, Target};
use crate::error::Error;

/// More integers than these are a number to regress on, unless the user says otherwise.
const MOST_CLASSES: usize = 20;
/// Rows that a numbered class must have in the mean, where there are more than [`MOST_CLASSES`].
const ROWS_OF_A_LABEL: usize = 5;
/// From here on integers are not all told apart as `f64`.
const LARGEST_LABEL: f64 = 9_007_199_254_740_992.0;

/// What the target's cells mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Output {
    /// Names of the classes.
    Classes(Vec<String>),
    /// Numbers.
    Values(Scale),
}

impl Output {
    pub fn learn(
        table: &Table,
        rows: &[usize],
        column: usize,
        task: Option<Task>,
        notes: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let cells = Labels::new(table, rows, column)?;
        let task = if let Some(task) = task {
            task
        } else {
            check_commas(&cells.cells).map_err(|(i, reason)| cells.error(i, &reason))?;
            cells.task(notes)
        };
        match task {
            Task::Classification => cells.classes().map(Self::Classes),
            Task::Regression => cells.scale().map(Self::Values),
        }
    }

    pub fn read(&self, table: &Table, rows: &[usize], column: usize) -> Result<Target, Error> {
        let labels = Labels::new(table, rows, column)?;
        match self {
            Self::Classes(names) => labels.indices(names).map(Target::Classes),
            Self::Values(scale) => labels.standardised(scale).map(Target::Values),
        }
    }
}

/// The target's cells in some rows, none of them missing.
struct Labels<'a> {
    table: &'a Table,
    rows: &'a [usize],
    column: usize,
    cells: Vec<Cell<'a>>,
}

impl<'a> Labels<'a> {
    fn new(table: &'a Table, rows: &'a [usize], column: usize) -> Result<Self, Error> {
        let cells: Vec<Cell<'a>> = rows.iter().map(|&row| table.cell(row, column)).collect();
        let labels = Self {
            table,
            rows,
            column,
            cells,
        };
        match labels.cells.iter().position(|cell| *cell == Cell::Missing) {
            Some(i) => {
                Err(labels.error(i, "the target is missing: write it in, or remove the row"))
            }
            None => Ok(labels),
        }
    }

    /// The task that the cells suggest; see [`Encoder::learn`](super::Encoder::learn).
    fn task(&self, notes: &mut Vec<String>) -> Task {
        let texts = self
            .cells
            .iter()
            .filter(|cell| matches!(cell, Cell::Text(_)));
        let (texts, n) = (texts.count(), self.cells.len());
        let few = |count| count <= 2 || count <= MOST_CLASSES && 2 * count < n;
        if texts > 0 {
            // A few texts among many different numbers are slips, which regression then names.
            let slips = 2 * texts < n && !few(self.categories().len());
            return if slips {
                Task::Regression
            } else {
                Task::Classification
            };
        }
        let whole = |cell: &Cell<'_>| matches!(cell, Cell::Number(value) if value.fract() == 0.0);
        if !self.cells.iter().all(whole) {
            return Task::Regression;
        }
        let count = self.categories().len();
        if few(count) || self.numbered(count) {
            return Task::Classification;
        }
        if 2 * count < n {
            notes.push(format!(
                "the target {} holds {count} different integers and is taken for a number: ask for classification if they are classes",
                shown(&self.table.names[self.column])
            ));
        }
        Task::Regression
    }

    /// Whether the whole numbers look like labels: all of 0, 1, ... or of 1, 2, ..., `count` of them, each
    /// with [`ROWS_OF_A_LABEL`] rows in the mean.
    fn numbered(&self, count: usize) -> bool {
        let values = self.cells.iter().filter_map(|cell| match cell {
            Cell::Number(value) => Some(*value),
            _ => None,
        });
        let (least, largest) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
            (a.min(v), b.max(v))
        });
        [0.0, 1.0].contains(&least)
            && (largest - least - count as f64 + 1.0).abs() < 0.5
            && ROWS_OF_A_LABEL * count <= self.cells.len()
    }

    /// The names of the classes in order.
    fn classes(&self) -> Result<Vec<String>, Error> {
        for (i, cell) in self.cells.iter().enumerate() {
            if matches!(cell, Cell::Number(value) if value.abs() >= LARGEST_LABEL) {
                return Err(self.error(
                    i,
                    "numbers from 2^53 on are not told apart: name the classes by words or smaller numbers",
                ));
            }
        }
        let names = ordered(self.categories());
        let (name, n) = (shown(&self.table.names[self.column]), self.cells.len());
        match names.len() {
            1 => Err(self.table.error(format!(
                "all {n} training rows are of the one class {} of the target {name}: there is nothing to learn",
                shown(&names[0])
            ))),
            count if count > 2 && 2 * count > n => Err(self.table.error(format!(
                "the target {name} holds {count} classes in {n} training rows, too many to learn: is it the right column?"
            ))),
            _ => Ok(names),
        }
    }

    fn categories(&self) -> BTreeSet<String> {
        self.cells
            .iter()
            .filter_map(|cell| cell.category())
            .collect()
    }

    /// Mean and deviation of the values.
    fn scale(&self) -> Result<Scale, Error> {
        let numbers = self.numbers()?;
        let scale = Scale::of(&numbers);
        if scale.deviation > 0.0 {
            return Ok(scale);
        }
        Err(self.table.error(format!(
            "the target {} is {} in all {} training rows: there is nothing to learn",
            shown(&self.table.names[self.column]),
            numbers[0],
            self.cells.len()
        )))
    }

    fn indices(&self, names: &[String]) -> Result<Vec<usize>, Error> {
        let index = |(i, cell): (usize, &Cell<'_>)| {
            let label = cell.category().unwrap_or_default();
            let place = names.iter().position(|name| *name == label);
            place.ok_or_else(|| {
                self.error(
                    i,
                    &format!(
                        "{} is none of the model's classes, {}",
                        shown(&label),
                        listed(names, 10)
                    ),
                )
            })
        };
        self.cells.iter().enumerate().map(index).collect()
    }

    fn standardised(&self, scale: &Scale) -> Result<Vec<f64>, Error> {
        let values = self.numbers()?.into_iter().enumerate();
        let standardise = |(i, value)| scale.apply(value).map_err(|reason| self.error(i, &reason));
        values.map(standardise).collect()
    }

    fn numbers(&self) -> Result<Vec<f64>, Error> {
        let number = |(i, cell): (usize, &Cell<'_>)| {
            let value = match *cell {
                Cell::Number(value) => check_size(value),
                Cell::Text(text) => Err(not_a_number(text)),
                Cell::Missing => Err("it is missing".to_owned()),
            };
            value.map_err(|reason| self.error(i, &reason))
        };
        self.cells.iter().enumerate().map(number).collect()
    }

    fn error(&self, i: usize, reason: &str) -> Error {
        let place = self.table.place(self.rows[i], self.column);
        self.table.error(format!("{place}: {reason}"))
    }
}
