//! Numbers from tables.
//!
//! Every encoded feature `j` is a number `r_ij` of row `i`, centred and scaled,
//!
//! ```text
//!     x_ij = (r_ij - m_j) / s_j ,                                                      (1)
//! ```
//!
//! with `m_j` the mean over the training rows, and
//!
//! | column | `r_ij` | `s_j` |
//! |---|---|---|
//! | numbers | the number; `m_j` where it is missing | its deviation over the training rows |
//! | the same, missing somewhere in training | also 1 where it is missing, else 0 | 1 |
//! | categories | for every category 1 where the row has it, else 0 | one for the column, see below |
//!
//! A missing category is a category if it is so in training. All one-hot features of a column share
//! `s = sqrt(sum_c p_c (1 - p_c))`, `p_c` the share of category `c`: their variances sum to 1, so that a
//! column of categories weighs as much as a column of numbers in the penalty and in random gates, and a
//! rare category is not blown up as it would be by its own deviation. A category that training has not
//! seen is zero in all of them before (1).
//!
//! Deviations divide by `n`. Columns that say nothing about new rows are left out and noted: constant
//! ones, empty ones, and texts that hardly repeat.

mod learn;
mod output;

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::cell::{Cell, has_commas, listed, shown};
use super::{Table, Target};
use crate::convexnet::{Bias, Task};
use crate::error::Error;
use output::Output;

/// Numbers beyond this are refused: their squares leave the range of `f64`.
const LARGEST: f64 = 1e150;

/// How rows of tables become rows of `X`, learnt from training rows; part of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    target: String,
    output: Output,
    features: Vec<Feature>,
    /// Whether a column of ones comes last.
    ones: bool,
    /// Number of columns, target included, of a training table whose columns have no names of their own.
    unnamed: Option<usize>,
    notes: Vec<String>,
}

/// One column of `X`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Feature {
    column: String,
    part: Part,
    scale: Scale,
}

/// `r_ij` of a column's cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    /// The number.
    Number,
    /// 1 for this category, else 0.
    Is(String),
    /// 1 where missing, else 0.
    Missing,
}

/// `m_j` and `s_j` of (1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Scale {
    mean: f64,
    deviation: f64,
}

impl Encoder {
    /// Learns from some rows of a table, from nothing else.
    ///
    /// With `task` unknown, a target of texts is classified, and so is one of integers of which there are
    /// two, or at most 20 and fewer than half as many as rows, or which are all of 0, 1, ... or 1, 2, ... with
    /// five rows each in the mean. Any other target is a number to be regressed on. With a bias a column of ones comes last in `X`.
    ///
    /// # Errors
    /// [`Error::Table`] when there are fewer than two rows, no such target, a target missing, of one class or
    /// constant, no feature left, or a cell that cannot be used.
    pub fn learn(
        table: &Table,
        rows: &[usize],
        target: &str,
        task: Option<Task>,
        bias: Bias,
    ) -> Result<Self, Error> {
        table.check_rows(rows)?;
        if rows.len() < 2 {
            return Err(table.error(format!(
                "there are {} training rows: at least 2 are needed",
                rows.len()
            )));
        }
        let Some(column) = table.names.iter().position(|name| name == target) else {
            return Err(unknown_target(table, target));
        };
        let mut notes = Vec::new();
        let output = Output::learn(table, rows, column, task, &mut notes)?;
        let features = learn::features(table, rows, column, &mut notes)?;
        if features.is_empty() {
            return Err(table.error(format!(
                "no column is left to predict {} from: {}",
                shown(target),
                notes.last().map_or("it is the only one", String::as_str)
            )));
        }
        Ok(Self {
            target: target.to_owned(),
            output,
            features,
            ones: bias != Bias::None,
            unnamed: table.is_positional().then_some(table.names.len()),
            notes,
        })
    }

    /// `X`, `n x d` with `d` the [`width`](Self::width), of some rows. The table needs the columns of the
    /// features, found by name; others are ignored.
    ///
    /// # Errors
    /// [`Error::Table`] when columns are missing, or a cell cannot be used: a text where training had
    /// numbers, infinite, or beyond 1e150.
    pub fn features(&self, table: &Table, rows: &[usize]) -> Result<Mat<f64>, Error> {
        table.check_rows(rows)?;
        let columns = self.find_columns(table)?;
        let mut x = Mat::from_fn(rows.len(), self.width(), |_, _| 1.0);
        for ((j, feature), column) in self.features.iter().enumerate().zip(columns) {
            let encode = feature.encode();
            for (entry, &row) in x.col_as_slice_mut(j).iter_mut().zip(rows) {
                *entry = encode(table.cell(row, column)).map_err(|reason| {
                    table.error(format!("{}: {reason}", table.place(row, column)))
                })?;
            }
        }
        Ok(x)
    }

    /// What the target column says in some rows.
    ///
    /// # Errors
    /// [`Error::Table`] when the target is missing, as a column or in a row, or is a class that training did
    /// not have, a text where numbers are to be predicted, infinite or beyond 1e150.
    pub fn labels(&self, table: &Table, rows: &[usize]) -> Result<Target, Error> {
        table.check_rows(rows)?;
        self.check_width(table)?;
        let Some(column) = table.names.iter().position(|name| *name == self.target) else {
            return Err(unknown_target(table, &self.target));
        };
        self.output.read(table, rows, column)
    }

    /// Whether the table has the target's column.
    pub fn has_target(&self, table: &Table) -> bool {
        table.names.contains(&self.target)
    }

    /// What is predicted.
    pub fn task(&self) -> Task {
        match self.output {
            Output::Classes(_) => Task::Classification,
            Output::Values(_) => Task::Regression,
        }
    }

    /// Names of the classes: numbers in ascending order, then texts; empty with regression.
    pub fn classes(&self) -> &[String] {
        match &self.output {
            Output::Classes(names) => names,
            Output::Values(_) => &[],
        }
    }

    /// `d`, the column of ones included.
    pub fn width(&self) -> usize {
        self.features.len() + usize::from(self.ones)
    }

    /// What the columns of `X` are: `age`, `colour=red`, `age is missing`, and `(bias)` for the ones.
    pub fn feature_names(&self) -> Vec<String> {
        let ones = self.ones.then(|| "(bias)".to_owned());
        self.features
            .iter()
            .map(Feature::name)
            .chain(ones)
            .collect()
    }

    /// Name of the target's column.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// A standardised value in the units of the target's column. Classes have no units: unchanged.
    pub fn value(&self, standardised: f64) -> f64 {
        match &self.output {
            Output::Classes(_) => standardised,
            Output::Values(scale) => scale.mean + scale.deviation * standardised,
        }
    }

    /// `m_j` and `s_j` of (1) for every feature but the ones.
    pub fn scales(&self) -> (Vec<f64>, Vec<f64>) {
        let scales = self
            .features
            .iter()
            .map(|f| (f.scale.mean, f.scale.deviation));
        scales.unzip()
    }

    /// Mean and deviation by which the target's values are standardised; 0 and 1 for classes.
    pub fn target_scale(&self) -> (f64, f64) {
        match &self.output {
            Output::Classes(_) => (0.0, 1.0),
            Output::Values(scale) => (scale.mean, scale.deviation),
        }
    }

    /// What a user may want to know: columns left out and why, and a target taken for what it may not be.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where each feature's column is.
    fn find_columns(&self, table: &Table) -> Result<Vec<usize>, Error> {
        self.check_width(table)?;
        let index = table.index();
        let mut absent: Vec<&str> = Vec::new();
        let mut columns = Vec::with_capacity(self.features.len());
        for feature in &self.features {
            match index.get(feature.column.as_str()) {
                Some(&column) => columns.push(column),
                None if absent.last() == Some(&feature.column.as_str()) => {}
                None => absent.push(&feature.column),
            }
        }
        if absent.is_empty() {
            return Ok(columns);
        }
        Err(table.error(format!(
            "it lacks {} of the columns the model was trained on: {}",
            absent.len(),
            listed(&absent, 10)
        )))
    }

    /// Columns without names are known by their place: there must be as many as in training, or one fewer
    /// when the target was the last.
    fn check_width(&self, table: &Table) -> Result<(), Error> {
        let Some(trained) = self.unnamed.filter(|_| table.is_positional()) else {
            return Ok(());
        };
        let columns = table.names.len();
        let target_last = self.target == format!("f{trained}");
        if columns == trained || (target_last && columns + 1 == trained) {
            return Ok(());
        }
        let or_without = if target_last {
            " (or all but the last, the target)"
        } else {
            ", the target's among them, whatever it holds"
        };
        Err(table.error(format!(
            "it has {columns} columns, but the model was trained on a matrix of {trained}: give the same{or_without}"
        )))
    }
}

impl Feature {
    /// `x_ij` of (1) as a function of the cell.
    fn encode(&self) -> impl Fn(Cell<'_>) -> Result<f64, String> {
        // A category's name says the same as its cells.
        let category = match &self.part {
            Part::Is(name) => Cell::parse(name),
            Part::Number | Part::Missing => Cell::Missing,
        };
        move |cell| {
            let raw = match (&self.part, cell) {
                (Part::Number, Cell::Missing) => return Ok(0.0),
                (Part::Number, Cell::Number(value)) => check_size(value)?,
                (Part::Number, Cell::Text(text)) => return Err(not_a_number(text)),
                (Part::Is(_) | Part::Missing, cell) => f64::from(u8::from(cell == category)),
            };
            self.scale.apply(raw)
        }
    }

    fn name(&self) -> String {
        match &self.part {
            Part::Number => self.column.clone(),
            Part::Is(name) => format!("{}={name}", self.column),
            Part::Missing => format!("{} is missing", self.column),
        }
    }
}

impl Scale {
    /// Mean and deviation, without overflow for numbers up to [`LARGEST`] and without underflow; the
    /// deviation is zero if all numbers are equal.
    fn of(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let rough: f64 = values.iter().map(|value| value / n).sum();
        // Again from nearby: what is left of a large offset is rounding.
        let mean = rough + values.iter().map(|value| (value - rough) / n).sum::<f64>();
        let far = |value: &f64| (value - mean).abs();
        let farthest = values.iter().map(far).fold(0.0, f64::max);
        let squares = values.iter().map(|value| (far(value) / farthest).powi(2));
        let varies = values
            .windows(2)
            .any(|pair| pair[0] < pair[1] || pair[1] < pair[0]);
        let deviation = if varies && farthest > 0.0 {
            farthest * (squares.sum::<f64>() / n).sqrt()
        } else {
            0.0
        };
        Self { mean, deviation }
    }

    /// Centred and scaled.
    fn apply(&self, value: f64) -> Result<f64, String> {
        let x = (value - self.mean) / self.deviation;
        if x.abs() <= LARGEST {
            return Ok(x);
        }
        Err(format!(
            "{value:e} is too far from the training values, {:e} with a deviation of {:e}",
            self.mean, self.deviation
        ))
    }
}

/// That a number can be computed with.
fn check_size(value: f64) -> Result<f64, String> {
    if value.abs() <= LARGEST {
        return Ok(value);
    }
    Err(format!(
        "{value:e} is beyond 1e150 in magnitude: correct it, or write NA if it is not known"
    ))
}

fn not_a_number(text: &str) -> String {
    let hint = if has_commas(text) {
        "write decimal points, and thousands without commas"
    } else {
        "correct it, or write NA if it is not known"
    };
    format!("{} is not a number: {hint}", shown(text))
}

fn unknown_target(table: &Table, target: &str) -> Error {
    if table.is_positional() {
        return table.error(format!(
            "there is no column {}; a matrix has no names, and its columns are called f1 to f{} by their places, \
             so that f{} is the last",
            shown(target),
            table.names.len(),
            table.names.len()
        ));
    }
    let hint = match table.names.len() {
        1 => " (are the cells separated by something else than comma, semicolon or tab?)",
        _ => "",
    };
    table.error(format!(
        "there is no column {}; the columns are {}{hint}",
        shown(target),
        listed(&table.names, 30)
    ))
}
