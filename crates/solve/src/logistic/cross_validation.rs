//! The choice of the penalty by cross validation.

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::newton::{Data, minimise, softmax};
use super::{LogisticOptions, LogisticRegression};
use crate::error::{SolveError, check_len, check_positive};
use crate::quadratic::LambdaChoice;
use crate::status::Quiet;

/// The outcome of a cross validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossValidation {
    /// The chosen penalty; its `errors` are the mean cross entropy of held-out samples, in nats.
    pub choice: LambdaChoice,
    /// For each point of the grid the share of held-out samples that were classified rightly.
    pub accuracies: Vec<f64>,
    /// The fold of each sample; `None` for the only sample of its class, which is always trained on.
    pub folds: Vec<Option<usize>>,
}

impl LogisticRegression {
    /// Chooses `Lambda` from `grid` by `folds`-fold cross validation. Folds are stratified by class
    /// and a function of `seed` alone. The grid is in units of the whole training set: a fit on `n`
    /// of the `N` samples uses `Lambda n / N`. Each fold runs from the largest penalty to the
    /// smallest, every fit starting from the one before.
    ///
    /// # Errors
    /// When the grid is empty or not positive, there are fewer than two folds, or every class has
    /// only one sample.
    pub fn cross_validate(
        &self,
        grid: &[f64],
        folds: usize,
        seed: u64,
        options: &LogisticOptions,
    ) -> Result<CrossValidation, SolveError> {
        check_positive("tolerance", options.tolerance)?;
        grid.iter()
            .try_for_each(|lambda| check_positive("Lambda", *lambda))?;
        if folds < 2 {
            let (what, domain) = ("number of folds", "at least 2");
            return Err(SolveError::Parameter {
                what,
                domain,
                got: folds as f64,
            });
        }
        let assignment = stratified_folds(&self.data.labels, self.data.classes, folds, seed);
        let held_out = assignment.iter().flatten().count();
        check_positive("number of samples that can be held out", held_out as f64)?;
        let mut totals = vec![Score::default(); grid.len()];
        for fold in 0..folds {
            self.score_fold(fold, &assignment, grid, options, &mut totals)?;
        }
        let mean = |total: f64| total / held_out as f64;
        let errors = totals.iter().map(|s| mean(s.cross_entropy)).collect();
        let accuracies = totals.iter().map(|s| mean(s.right as f64)).collect();
        let choice = LambdaChoice::from_errors(grid, errors)?;
        Ok(CrossValidation {
            choice,
            accuracies,
            folds: assignment,
        })
    }

    fn score_fold(
        &self,
        fold: usize,
        assignment: &[Option<usize>],
        grid: &[f64],
        options: &LogisticOptions,
        totals: &mut [Score],
    ) -> Result<(), SolveError> {
        let (test, train): (Vec<usize>, Vec<usize>) =
            (0..assignment.len()).partition(|i| assignment[*i] == Some(fold));
        if test.is_empty() {
            return Ok(());
        }
        let (test, train) = (self.data.select(&test), self.data.select(&train));
        let share = train.samples() as f64 / self.data.samples() as f64;
        let mut theta: Option<Mat<f64>> = None;
        for k in descending(grid) {
            let end = minimise(&train, grid[k] * share, options, theta.as_ref(), &mut Quiet)?;
            totals[k].add(&test, &end.iterate.theta)?;
            theta = Some(end.iterate.theta);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Score {
    cross_entropy: f64,
    right: usize,
}

impl Score {
    fn add(&mut self, test: &Data, theta: &Mat<f64>) -> Result<(), SolveError> {
        check_len("rows of the model", test.features.ncols(), theta.nrows())?;
        let logits = &test.features * theta;
        self.cross_entropy += softmax(&logits, &test.labels).1;
        for (i, label) in test.labels.iter().enumerate() {
            let best = (0..test.classes).max_by(|a, b| logits[(i, *a)].total_cmp(&logits[(i, *b)]));
            self.right += usize::from(best == Some(*label));
        }
        Ok(())
    }
}

/// Positions of `grid` from its largest value to its smallest.
fn descending(grid: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..grid.len()).collect();
    order.sort_by(|a, b| grid[*b].total_cmp(&grid[*a]));
    order
}

/// Deals the samples of each class, shuffled, to the folds in turn; the dealing goes on from class
/// to class, so that folds differ in size by one at most.
fn stratified_folds(
    labels: &[usize],
    classes: usize,
    folds: usize,
    seed: u64,
) -> Vec<Option<usize>> {
    let mut assignment = vec![None; labels.len()];
    let (mut random, mut next) = (SplitMix(seed), 0);
    for class in 0..classes {
        let mut members: Vec<usize> = (0..labels.len()).filter(|i| labels[*i] == class).collect();
        random.shuffle(&mut members);
        if members.len() < 2 {
            continue;
        }
        for i in members {
            assignment[i] = Some(next % folds);
            next += 1;
        }
    }
    assignment
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Fisher and Yates. The high half of the product maps 64 bits to `0..=i`; its bias is below
    /// `2^-40` for any training set.
    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            let j = (u128::from(self.next()) * (i as u128 + 1)) >> 64;
            items.swap(i, j as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_stratified_balanced_and_seeded() {
        let labels: Vec<usize> = (0..37).map(|i| if i == 36 { 3 } else { i % 3 }).collect();
        let folds = stratified_folds(&labels, 4, 5, 1);
        assert_eq!(folds, stratified_folds(&labels, 4, 5, 1));
        assert_ne!(folds, stratified_folds(&labels, 4, 5, 2));
        assert_eq!(
            folds[36], None,
            "the only one of its class is always trained on"
        );
        for fold in 0..5 {
            let size = folds.iter().filter(|f| **f == Some(fold)).count();
            assert!(size == 7 || size == 8);
            for class in 0..3 {
                let of_class = (0..36).filter(|i| labels[*i] == class && folds[*i] == Some(fold));
                assert!((2..=3).contains(&of_class.count()));
            }
        }
    }
}
