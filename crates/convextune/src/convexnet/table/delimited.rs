//! Text with a header: comma, semicolon or tab separated.

use std::collections::HashMap;
use std::path::Path;

use csv::{Reader, ReaderBuilder, StringRecord, Trim};

use super::Table;
use super::cell::{Cell, Column, TextBuilder, shown};
use super::file;
use crate::error::Error;

/// Records that are looked at to find out the delimiter.
const PEEK: usize = 20;

pub(super) fn read(path: &Path, text: &str) -> Result<Table, Error> {
    let error = |reason: String| file::error(path, reason);
    let delimiter = delimiter(path, text);
    let mut reader = records(text, delimiter);
    let mut record = StringRecord::new();
    if !next(path, &mut reader, &mut record)? {
        return Err(error(
            "it is empty: a table is a line of column names and then one line a row".into(),
        ));
    }
    let names: Vec<String> = record.iter().map(str::to_owned).collect();
    check_names(&names).map_err(error)?;

    let mut numbers: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    let mut has_text = vec![false; names.len()];
    let mut lines = Vec::new();
    while next(path, &mut reader, &mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        check_record(&record, line, names.len()).map_err(error)?;
        if names.len() == 1 {
            check_no_blank(line, lines.last()).map_err(error)?;
        }
        lines.push(line);
        for (j, text) in record.iter().enumerate() {
            numbers[j].push(match Cell::parse(text) {
                Cell::Number(value) => value,
                Cell::Missing => f64::NAN,
                Cell::Text(_) => {
                    has_text[j] = true;
                    f64::NAN
                }
            });
        }
    }
    if lines.is_empty() {
        return Err(error("it has a header but no rows".into()));
    }
    let columns = numbers.into_iter().map(Column::Numbers).collect();
    let mut table = Table {
        path: path.to_path_buf(),
        names,
        columns,
        rows: lines.len(),
        lines: Some(lines),
    };
    fill_texts(&mut table, text, delimiter, &has_text)?;
    Ok(table)
}

/// A second pass for the columns that turned out to hold texts.
fn fill_texts(
    table: &mut Table,
    text: &str,
    delimiter: u8,
    has_text: &[bool],
) -> Result<(), Error> {
    let places: Vec<usize> = (0..has_text.len()).filter(|&j| has_text[j]).collect();
    if places.is_empty() {
        return Ok(());
    }
    let mut builders = vec![TextBuilder::default(); places.len()];
    let mut reader = records(text, delimiter);
    let mut record = StringRecord::new();
    next(&table.path, &mut reader, &mut record)?;
    while next(&table.path, &mut reader, &mut record)? {
        for (builder, &j) in builders.iter_mut().zip(&places) {
            builder.push(record.get(j).unwrap_or_default());
        }
    }
    for (builder, j) in builders.into_iter().zip(places) {
        table.columns[j] = builder.column();
    }
    Ok(())
}

/// Records of a text; rows of different lengths are told by [`check_record`].
fn records(text: &str, delimiter: u8) -> Reader<&[u8]> {
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .delimiter(delimiter)
        .from_reader(text.as_bytes())
}

/// Reads one record; false at the end.
fn next(path: &Path, reader: &mut Reader<&[u8]>, record: &mut StringRecord) -> Result<bool, Error> {
    reader
        .read_record(record)
        .map_err(|source| file::error(path, source.to_string()))
}

/// The delimiter that splits the first records into the same number of cells; of several the one that
/// makes most cells, and of a header and rows that never agree the one that splits the header most.
fn delimiter(path: &Path, text: &str) -> u8 {
    if path.extension().is_some_and(|ending| ending == "tsv") {
        return b'\t';
    }
    let score = |delimiter: u8| {
        let mut reader = records(text, delimiter);
        let mut cells = reader.records().take(PEEK).map_while(Result::ok);
        let first = cells.next().map_or(0, |record| record.len());
        (
            first > 1 && cells.all(|record| record.len() == first),
            first,
        )
    };
    // The last of equal ones is taken.
    [b'\t', b';', b',']
        .into_iter()
        .max_by_key(|&delimiter| score(delimiter))
        .unwrap_or(b',')
}

fn check_names(names: &[String]) -> Result<(), String> {
    let mut first = HashMap::new();
    for (j, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(format!(
                "column {} has no name in the header: name it, or remove it if it only counts the rows",
                j + 1
            ));
        }
        if let Some(other) = first.insert(name, j) {
            let (name, j) = (shown(name), j + 1);
            return Err(format!(
                "columns {} and {j} are both named {name}: rename one",
                other + 1
            ));
        }
    }
    // Names that are numbers: counted columns are named so by some programs, data are not.
    let numbers = names.iter().map(|name| name.parse::<f64>().ok());
    let counts = |from: usize| (from..).map(|j| Some(j as f64)).take(names.len());
    if numbers.clone().all(|number| number.is_some())
        && !numbers.clone().eq(counts(0))
        && !numbers.eq(counts(1))
    {
        return Err("the first line holds numbers only: begin with a line of column names".into());
    }
    Ok(())
}

fn check_record(record: &StringRecord, line: u64, columns: usize) -> Result<(), String> {
    if record.len() == columns {
        return Ok(());
    }
    let quote = if record.iter().any(|cell| cell.contains('\n')) {
        "; is a quotation mark left open?"
    } else {
        ""
    };
    Err(format!(
        "line {line} has {} cells, but the header names {columns} columns{quote}",
        record.len()
    ))
}

/// With one column a blank line may be a missing cell or nothing: it is refused.
fn check_no_blank(line: u64, last: Option<&u64>) -> Result<(), String> {
    let expected = last.map_or(2, |last| last + 1);
    if line > expected {
        return Err(format!(
            "line {expected} is blank: write NA for a missing value of the only column"
        ));
    }
    Ok(())
}
