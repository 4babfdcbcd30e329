//! Text with a header: comma, semicolon or tab separated.

use std::borrow::Cow;
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
    let text = &*unpadded(text, delimiter);
    let mut records = Records::new(text, delimiter);
    if !records.next().map_err(error)? {
        return Err(error(
            "it is empty: a table is a line of column names and then one line a row".into(),
        ));
    }
    let names: Vec<String> = records.record.iter().map(str::to_owned).collect();
    check_names(&names).map_err(error)?;

    let mut numbers: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    let mut has_text = vec![false; names.len()];
    let (mut lines, mut last) = (Vec::new(), records.line);
    while records.next().map_err(error)? {
        records.check(names.len(), last).map_err(error)?;
        last = records.line;
        lines.push(last);
        for (j, text) in records.record.iter().enumerate() {
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
    if records.ends_quoted() {
        return Err(error(format!(
            "line {}: a quotation mark is left open",
            records.line
        )));
    }
    if lines.is_empty() {
        return Err(error("it has a header but no rows".into()));
    }
    let mut columns: Vec<Column> = numbers.into_iter().map(Column::Numbers).collect();
    for (j, texts) in texts(text, delimiter, &has_text).map_err(error)? {
        columns[j] = texts;
    }
    Ok(Table {
        path: path.to_path_buf(),
        names,
        columns,
        rows: lines.len(),
        lines: Some(lines),
    })
}

/// A second pass for the columns that turned out to hold texts, with their places.
fn texts(text: &str, delimiter: u8, has_text: &[bool]) -> Result<Vec<(usize, Column)>, String> {
    let places = (0..has_text.len()).filter(|&j| has_text[j]);
    let mut builders: Vec<(usize, TextBuilder)> =
        places.map(|j| (j, TextBuilder::default())).collect();
    if builders.is_empty() {
        return Ok(Vec::new());
    }
    let mut records = Records::new(text, delimiter);
    records.next()?;
    while records.next()? {
        for (j, builder) in &mut builders {
            builder.push(records.record.get(*j).unwrap_or_default());
        }
    }
    let columns = builders
        .into_iter()
        .map(|(j, builder)| (j, builder.column()));
    Ok(columns.collect())
}

/// The records of a text, blank lines left out.
struct Records<'a> {
    text: &'a str,
    delimiter: u8,
    reader: Reader<&'a [u8]>,
    /// The last one read, the byte at which it begins and its line, from 1.
    record: StringRecord,
    start: usize,
    line: u64,
}

impl<'a> Records<'a> {
    fn new(text: &'a str, delimiter: u8) -> Self {
        Self {
            text,
            delimiter,
            reader: reader(text, delimiter),
            record: StringRecord::new(),
            start: 0,
            line: 1,
        }
    }

    /// Reads the next one; false at the end.
    fn next(&mut self) -> Result<bool, String> {
        let (end, line) = (self.reader.position().byte(), self.reader.position().line());
        let more = self.reader.read_record(&mut self.record);
        let more = more.map_err(|source| source.to_string())?;
        if more {
            let rest = self.text.as_bytes().iter().skip(end as usize);
            let blank = rest.take_while(|byte| matches!(byte, b'\n' | b'\r'));
            (self.start, self.line) = (end as usize, line);
            for byte in blank {
                self.start += 1;
                self.line += u64::from(*byte == b'\n');
            }
        }
        Ok(more)
    }

    /// That the record is a row of so many columns; `last` is the line of the record before.
    fn check(&self, columns: usize, last: u64) -> Result<(), String> {
        let (line, cells) = (self.line, self.record.len());
        if cells != columns {
            let open = self.record.iter().any(|cell| cell.contains('\n'));
            let hint = if open {
                "; is a quotation mark left open?"
            } else {
                ""
            };
            return Err(format!(
                "line {line} has {cells} cells, but the header names {columns} columns{hint}"
            ));
        }
        // With one column a blank line may be a missing cell or nothing.
        if columns == 1 && line > last + 1 && !self.text.contains('"') {
            return Err(format!(
                "line {} is blank: write NA for a missing value of the only column",
                last + 1
            ));
        }
        Ok(())
    }

    /// Whether the text ends within quotation marks: another line would belong to the last record.
    fn ends_quoted(&self) -> bool {
        let longer = format!("{}\nend", &self.text[self.start..]);
        reader(&longer, self.delimiter).records().count() == 1
    }
}

/// The text without spaces between a delimiter and an opening quotation mark: the parser would take the mark for a
/// letter, and what it quotes for several cells.
fn unpadded(text: &str, delimiter: u8) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut kept = String::new();
    // Up to where the text is kept or dropped; where we are; whether at a cell's beginning, or within marks.
    let (mut done, mut at) = (0, 0);
    let (mut begins, mut quoted) = (true, false);
    while let Some(&byte) = bytes.get(at) {
        if begins && byte == b' ' {
            let spaces = bytes[at..].iter().take_while(|b| **b == b' ').count();
            if bytes.get(at + spaces) == Some(&b'"') {
                kept.push_str(&text[done..at]);
                done = at + spaces;
            }
            at += spaces;
            continue;
        }
        if byte == b'"' && (begins || quoted) {
            // A doubled mark within marks ends them and opens them again.
            quoted = !quoted;
            begins = !quoted && bytes.get(at + 1) == Some(&b'"');
        } else {
            begins = !quoted && (byte == delimiter || matches!(byte, b'\n' | b'\r'));
        }
        at += 1;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    kept.push_str(&text[done..]);
    Cow::Owned(kept)
}

/// A reader that splits records of any lengths.
fn reader(text: &str, delimiter: u8) -> Reader<&[u8]> {
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .delimiter(delimiter)
        .from_reader(text.as_bytes())
}

/// The delimiter that splits the first records into the same number of cells; of several the one that
/// makes most cells, and of a header and rows that never agree the one that splits the header most.
fn delimiter(path: &Path, text: &str) -> u8 {
    if path.extension().is_some_and(|ending| ending == "tsv") {
        return b'\t';
    }
    let score = |delimiter: u8| {
        let mut reader = reader(text, delimiter);
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
