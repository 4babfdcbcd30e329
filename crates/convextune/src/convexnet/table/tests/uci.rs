//! Real tables, where they are at hand.

use std::path::{Path, PathBuf};

use super::super::{Encoder, Folds, Table, Target};
use crate::convexnet::{Bias, Task};

/// The folder of UCI tables, or `None` with a note.
fn uci() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("CONVEXTUNE_DATA").map_or(default, PathBuf::from);
    let folder = data.join("uci");
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "skipped: no {}; set CONVEXTUNE_DATA to the data folder",
        folder.display()
    );
    None
}

#[test]
fn every_uci_table_and_its_folds_are_read_and_encoded() {
    let Some(folder) = uci() else { return };
    let mut tables = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("data.csv").is_file() {
            continue;
        }
        let table = Table::read(&folder.join("data.csv")).unwrap();
        let folds = Folds::read(&folder.join("folds.txt"), table.rows()).unwrap();
        assert_eq!(folds.folds.len(), 4, "{}", folder.display());
        for fold in &folds.folds {
            assert_eq!(fold.train.len() + fold.test.len(), table.rows());
            check_fold(&table, &fold.train, &fold.test);
        }
        tables += 1;
    }
    assert!(tables > 0, "no table in the folder");
}

fn check_fold(table: &Table, train: &[usize], test: &[usize]) {
    let encoder = Encoder::learn(
        table,
        train,
        "class",
        Some(Task::Classification),
        Bias::Free,
    )
    .unwrap();
    let x = encoder.features(table, train).unwrap();
    let n = train.len() as f64;
    for j in 0..encoder.width() - 1 {
        let column = x.col_as_slice(j);
        let mean = column.iter().sum::<f64>() / n;
        let variance = column.iter().map(|x| x * x).sum::<f64>() / n;
        assert!(mean.abs() < 1e-9 && (variance - 1.0).abs() < 1e-9);
    }
    assert_eq!(encoder.features(table, test).unwrap().nrows(), test.len());
    for rows in [train, test] {
        let Target::Classes(classes) = encoder.labels(table, rows).unwrap() else {
            panic!("classes were asked for");
        };
        assert_eq!(classes.len(), rows.len());
    }
}
