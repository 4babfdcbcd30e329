//! From a table's file to rows to train and test on.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, bail};
use convextune::convexnet::gates::given;
use convextune::convexnet::table::{Encoder, Fold, Folds, Table, Target, read_npy};
use convextune::convexnet::{Data, NetOptions, inner_folds};
use convextune::progress::Reporter;
use convextune_solve::faer::Mat;

use crate::plan::nn::{DataPlan, NetFitPlan, RowChoice};

/// Reads a table.
pub fn read(path: &Path, reporter: &dyn Reporter) -> Result<Table> {
    reporter.stage("table", 0);
    Ok(Table::read(path)?)
}

/// The rows that the plan says.
pub fn rows<'a>(plan: &DataPlan, table: &'a Table, options: &NetOptions) -> Result<Data<'a>> {
    let all: Vec<usize> = (0..table.rows()).collect();
    let fold = match &plan.rows {
        RowChoice::All => Fold {
            train: all,
            test: Vec::new(),
        },
        RowChoice::Holdout(share) => {
            let labels = labels(table, &all, &plan.target, options)?;
            Fold::holdout(&labels, *share, options.seed)
        }
        RowChoice::Fold(file, k) => one_fold(file, *k, table)?,
    };
    Ok(Data {
        table,
        train: fold.train,
        test: fold.test,
        target: plan.target.clone(),
    })
}

/// Fold `k` of a file, counted from 0.
fn one_fold(file: &Path, k: usize, table: &Table) -> Result<Fold> {
    let mut folds = Folds::read(file, table.rows())?.folds;
    if k >= folds.len() {
        bail!(
            "{}: has {} folds, counted from 0, but --fold is {k}",
            file.display(),
            folds.len()
        );
    }
    Ok(folds.swap_remove(k))
}

fn labels(table: &Table, rows: &[usize], target: &str, options: &NetOptions) -> Result<Target> {
    let encoder = Encoder::learn(table, rows, target, options.task, options.bias)?;
    Ok(encoder.labels(table, rows)?)
}

/// The gates of a file, if the plan has one.
pub fn gates(plan: &NetFitPlan, data: &Data<'_>) -> Result<Option<Mat<f64>>> {
    let Some(file) = &plan.gates_file else {
        return Ok(None);
    };
    let gates = read_npy(file)?;
    let options = &plan.options;
    let encoder = Encoder::learn(
        data.table,
        &data.train,
        &data.target,
        options.task,
        options.bias,
    )?;
    let (d, shown) = (encoder.width(), file.display());
    if gates.nrows() != d {
        bail!(
            "{shown}: has {} rows, but a gate needs {d} numbers, one for each of {}",
            gates.nrows(),
            encoder.feature_names().join(", ")
        );
    }
    let x = encoder.features(data.table, &data.train)?;
    match given(x.as_ref(), gates.as_ref()) {
        Ok(_) => Ok(Some(gates)),
        Err(error) => bail!("{shown}: {error}"),
    }
}

/// Folds of the training rows, as rows of the table: those of a file, or seeded ones.
pub fn validation(file: Option<&Path>, data: &Data<'_>, options: &NetOptions) -> Result<Folds> {
    let Some(file) = file else {
        return Ok(inner_folds(data, options)?);
    };
    let folds = Folds::read(file, data.table.rows())?;
    let mut trained = vec![false; data.table.rows()];
    data.train.iter().for_each(|row| trained[*row] = true);
    for (k, fold) in folds.folds.iter().enumerate() {
        let mut named = fold.train.iter().chain(&fold.test);
        if let Some(row) = named.find(|row| !trained[**row]) {
            bail!(
                "{}: fold {k} names row {row}, which is no training row; give folds of the training \
                 rows, or --holdout none",
                file.display()
            );
        }
    }
    check_classes(file, &folds, data, options)?;
    Ok(folds)
}

/// That every fold trains on rows of each class that it validates on: the others it would not know.
fn check_classes(file: &Path, folds: &Folds, data: &Data<'_>, options: &NetOptions) -> Result<()> {
    let (task, bias) = (options.task, options.bias);
    let encoder = Encoder::learn(data.table, &data.train, &data.target, task, bias)?;
    let Target::Classes(classes) = encoder.labels(data.table, &data.train)? else {
        return Ok(());
    };
    let class_of: HashMap<usize, usize> = data.train.iter().copied().zip(classes).collect();
    for (k, fold) in folds.folds.iter().enumerate() {
        let trained: HashSet<usize> = fold.train.iter().map(|row| class_of[row]).collect();
        let unknown = |row: &&usize| !trained.contains(&class_of[*row]);
        if let Some(row) = fold.test.iter().find(unknown) {
            bail!(
                "{}: fold {k} validates on row {row}, of the class {} of which it trains on no row; move a row of \
                 this class to its training rows (line {}), or take the class out of its test rows (line {})",
                file.display(),
                encoder.classes()[class_of[row]],
                2 * k + 1,
                2 * k + 2
            );
        }
    }
    Ok(())
}
