//! Tables of data: reading them, making numbers of them, and their folds.
//!
//! ```text
//!     data.csv ─► Table ─► Encoder, learnt from the training rows ─► X (n x d), labels
//!     folds.txt ─► Folds ─► training rows, test rows
//! ```
//!
//! A [`Table`] holds what the file says and nothing else: every [`Cell`] is missing, a number or a text.
//! What a column means is decided by the [`Encoder`], from the training rows alone.

mod cell;
mod delimited;
mod encoder;
mod file;
mod folds;
mod npy;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use cell::Cell;
use cell::Column;
pub use encoder::Encoder;
pub use folds::{Fold, Folds};
pub use npy::read_npy;

use crate::error::Error;

/// What is to be predicted, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Indices into [`Encoder::classes`].
    Classes(Vec<usize>),
    /// Values less the training mean, in units of the training deviation.
    Values(Vec<f64>),
}

impl Target {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A table in memory: named columns of equal length.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    columns: Vec<Column>,
    rows: usize,
    /// The line on which a row begins, from 1; `None` when the file has no lines (`.npy`).
    lines: Option<Vec<u64>>,
}

impl Table {
    /// Reads a table.
    ///
    /// Files are told apart by what they hold. A file that begins as NumPy's do is a matrix (see
    /// [`read_npy`]) whose columns are named `f1` ... `fd`, in which NaN is missing. Anything else is text in
    /// UTF-8: a header with the names of the columns, then one line a row, cells separated by comma,
    /// semicolon or tab (found out; tab when the name ends in `.tsv`), quoted as RFC 4180 has it. Blank
    /// lines are not rows. Spaces around cells do not count. Missing are the empty cell, `NA`, `N/A`,
    /// `NaN`, `null` and `?`.
    ///
    /// # Errors
    /// [`Error::Table`] when the file is not a regular file, is empty, has a header only, is no text,
    /// has rows of different lengths, or has columns without a name or with the same name.
    pub fn read(path: &Path) -> Result<Self, Error> {
        if npy::is_npy(path)? {
            return npy::read_table(path);
        }
        delimited::read(path, &file::read_text(path)?)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Names of the columns, in the file's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in a row of a column, both from 0.
    ///
    /// # Panics
    /// When there is no such row or column.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        self.columns[column].cell(row)
    }

    /// Whether columns are known by their place alone.
    fn is_positional(&self) -> bool {
        self.lines.is_none()
    }

    /// Where each name is.
    fn index(&self) -> HashMap<&str, usize> {
        let names = self.names.iter().map(String::as_str);
        names.zip(0..).collect()
    }

    /// Where a row is, in words.
    fn row_name(&self, row: usize) -> String {
        match &self.lines {
            Some(lines) => format!("row {} (line {})", row + 1, lines[row]),
            None => format!("row {}", row + 1),
        }
    }

    /// Where a cell is, in words.
    fn place(&self, row: usize, column: usize) -> String {
        let name = cell::shown(&self.names[column]);
        format!("{}, column {name}", self.row_name(row))
    }

    /// That rows are rows of this table.
    fn check_rows(&self, rows: &[usize]) -> Result<(), Error> {
        match rows.iter().find(|&&row| row >= self.rows) {
            Some(row) => Err(self.error(format!(
                "row {row} (from 0) was asked for, but there are {} rows: folds and table do not fit",
                self.rows
            ))),
            None => Ok(()),
        }
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        file::error(&self.path, reason)
    }
}
