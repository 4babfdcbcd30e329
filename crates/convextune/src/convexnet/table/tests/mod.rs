mod encoder;
mod folds;
mod reading;
mod refusals;
mod uci;

use std::path::PathBuf;

use super::{Encoder, Table};
use crate::convexnet::Bias;
use tempfile::TempDir;

/// A file with these bytes, in a folder that lives as long as the first value.
fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// A table with this text.
fn table(text: &str) -> Table {
    let (_folder, path) = file("t.csv", text.as_bytes());
    Table::read(&path).unwrap()
}

/// Every row.
fn all(table: &Table) -> Vec<usize> {
    (0..table.rows()).collect()
}

/// The error's sentence, which must name the file.
fn sentence<T>(result: Result<T, crate::Error>, file: &str) -> String {
    let sentence = result.err().expect("an error").to_string();
    assert!(sentence.contains(file), "{sentence}");
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

/// Learns on every row.
fn learn(text: &str, target: &str) -> Result<Encoder, crate::Error> {
    let table = table(text);
    Encoder::learn(&table, &all(&table), target, None, Bias::None)
}
