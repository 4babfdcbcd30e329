//! Which rows are trained on and which are tested on.

use std::path::Path;

use super::Target;
use super::file;
use crate::error::Error;
use crate::rng::Rng;

/// One division of the rows, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to test on; none of `train` is among them.
    pub test: Vec<usize>,
}

/// Several divisions of the same rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    /// The divisions.
    pub folds: Vec<Fold>,
}

impl Fold {
    /// A seeded share (between 0 and 1) of the rows to test on, the others to train on: of every class, never
    /// all of it, or of every range of values. Rows are indices into `labels`, in ascending order.
    pub fn holdout(labels: &Target, share: f64, seed: u64) -> Self {
        let mut rng = Rng::new(seed, "holdout");
        let mut order: Vec<usize> = (0..labels.len()).collect();
        rng.shuffle(&mut order);
        let groups: Vec<Vec<usize>> = match labels {
            Target::Classes(classes) => {
                order.sort_by_key(|&row| classes[row]);
                let same = |a: &usize, b: &usize| classes[*a] == classes[*b];
                order.chunk_by(same).map(<[usize]>::to_vec).collect()
            }
            Target::Values(values) => {
                order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
                // Ten rows to test on from every range.
                let ranges = order.chunks((10.0 / share).ceil() as usize);
                let shuffled = |range: &[usize]| {
                    let mut rows = range.to_vec();
                    rng.shuffle(&mut rows);
                    rows
                };
                ranges.map(shuffled).collect()
            }
        };
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for rows in groups {
            let count = (share * rows.len() as f64).round() as usize;
            let (held, kept) = rows.split_at(count.min(rows.len() - 1));
            test.extend(held);
            train.extend(kept);
        }
        train.sort_unstable();
        test.sort_unstable();
        Self { train, test }
    }
}

impl Folds {
    /// Reads a file of two lines a fold, training rows and then test rows, counted from 0 without the header
    /// and separated by spaces or commas, for a table of so many `rows`. Not every row need be named.
    ///
    /// # Errors
    /// [`Error::Table`] when the file cannot be read, a line is empty or holds anything but numbers, a row
    /// is out of range, named twice in a line or both trained and tested on in one fold, or the last fold
    /// lacks its test rows.
    pub fn read(path: &Path, rows: usize) -> Result<Self, Error> {
        let error = |reason: String| file::error(path, reason);
        let text = file::read_text(path)?;
        if text.trim().is_empty() {
            return Err(error(
                "it is empty: a fold is a line of training rows and a line of test rows".into(),
            ));
        }
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let mut folds = Vec::new();
        for (k, pair) in lines.chunks(2).enumerate() {
            let &[train, test] = pair else {
                return Err(error(format!(
                    "it has {} lines: a fold is two, training rows and test rows",
                    lines.len()
                )));
            };
            let mut trained = vec![false; rows];
            let train = row_list(train, 2 * k + 1, &mut trained).map_err(error)?;
            let test = row_list(test, 2 * k + 2, &mut vec![false; rows]).map_err(error)?;
            if let Some(row) = test.iter().find(|&&row| trained[row]) {
                return Err(error(format!(
                    "row {row} is both trained and tested on in fold {k} (lines {} and {}): take it out of one",
                    2 * k + 1,
                    2 * k + 2
                )));
            }
            folds.push(Fold { train, test });
        }
        Ok(Self { folds })
    }

    /// `k` folds (at least 2, at most one a row) in which every row is tested on once, and all have about
    /// the same share of every class, or of every range of values. Rows are indices into `labels`. No
    /// folds when there are fewer than two labels.
    pub fn stratified(labels: &Target, k: usize, seed: u64) -> Self {
        let n = labels.len();
        if n < 2 {
            return Self { folds: Vec::new() };
        }
        let k = k.clamp(2, n);
        let mut rng = Rng::new(seed, "folds");
        let mut order: Vec<usize> = (0..n).collect();
        rng.shuffle(&mut order);
        // Dealt out like cards: stable sorts keep the random order within a class.
        let mut fold_of = vec![0; n];
        match labels {
            Target::Classes(classes) => {
                order.sort_by_key(|&row| classes[row]);
                for (turn, &row) in order.iter().enumerate() {
                    fold_of[row] = turn % k;
                }
            }
            Target::Values(values) => {
                order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
                for hand in order.chunks(k) {
                    let mut folds: Vec<usize> = (0..k).collect();
                    rng.shuffle(&mut folds);
                    hand.iter()
                        .zip(folds)
                        .for_each(|(&row, fold)| fold_of[row] = fold);
                }
            }
        }
        let fold = |k| {
            let (test, train) = (0..n).partition(|&row| fold_of[row] == k);
            Fold { train, test }
        };
        Self {
            folds: (0..k).map(fold).collect(),
        }
    }
}

/// The rows that a line names, each also marked in `seen`.
fn row_list(text: &str, line: usize, seen: &mut [bool]) -> Result<Vec<usize>, String> {
    let rows = seen.len();
    let words = text
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty());
    let list = words
        .map(|word| {
            let row: usize = word.parse().map_err(|_| {
                let word = super::cell::shown(word);
                format!("line {line}: {word} is not the number of a row, counted from 0")
            })?;
            let Some(seen) = seen.get_mut(row) else {
                return Err(format!(
                    "line {line}: there is no row {row}, as the table has {rows} rows, counted from 0"
                ));
            };
            if std::mem::replace(seen, true) {
                return Err(format!("line {line}: row {row} is named twice"));
            }
            Ok(row)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if list.is_empty() {
        return Err(format!(
            "line {line} is empty: a fold is a line of training rows and a line of test rows"
        ));
    }
    Ok(list)
}
