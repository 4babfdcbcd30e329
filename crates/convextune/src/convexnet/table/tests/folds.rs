use std::collections::BTreeSet;

use super::super::{Fold, Folds, Target};
use super::{file, sentence};

fn read(text: &str, rows: usize) -> Result<Folds, crate::Error> {
    let (_folder, path) = file("folds.txt", text.as_bytes());
    Folds::read(&path, rows)
}

#[test]
fn two_lines_are_a_fold() {
    for text in [
        "0 2\n1\n1 2\n0\n",
        "0,2\r\n1\r\n1, 2\r\n0",
        "0\t2\n 1 \n1 2\n0\n\n",
    ] {
        let folds = read(text, 3).unwrap().folds;
        assert_eq!(folds.len(), 2, "{text:?}");
        assert_eq!((&folds[0].train, &folds[0].test), (&vec![0, 2], &vec![1]));
        assert_eq!((&folds[1].train, &folds[1].test), (&vec![1, 2], &vec![0]));
    }
}

#[test]
fn bad_folds_are_refused_in_one_sentence() {
    for (text, words) in [
        ("", "empty"),
        (" \n", "empty"),
        ("0 1\n", "1 lines"),
        ("0 1\n2\n0\n", "3 lines"),
        ("0 1\n\n2\n0\n", "line 2 is empty"),
        ("\n0 1\n2\n0\n", "line 1 is empty"),
        ("0 3\n1\n", "line 1: there is no row 3"),
        (
            "0 1\n99999999999999999999\n",
            "line 2: `99999999999999999999`",
        ),
        ("0 1\n-1\n", "line 2: `-1`"),
        ("0 a\n1\n", "line 1: `a`"),
        ("0 0\n1\n", "line 1: row 0 is named twice"),
        (
            "0 1\n2\n0 2\n1 2\n",
            "row 2 is both trained and tested on in fold 1 (lines 3 and 4)",
        ),
    ] {
        let said = sentence(read(text, 3), "folds.txt");
        assert!(said.contains(words), "{text:?}: {said}");
    }
}

/// Every index is tested on exactly once, and trained on in all other folds.
fn check_partition(folds: &Folds, n: usize) {
    let mut tested: Vec<usize> = Vec::new();
    for fold in &folds.folds {
        let both: BTreeSet<usize> = fold.train.iter().chain(&fold.test).copied().collect();
        assert_eq!(both.len(), n);
        assert_eq!(fold.train.len() + fold.test.len(), n);
        tested.extend(&fold.test);
    }
    tested.sort_unstable();
    assert_eq!(tested, (0..n).collect::<Vec<_>>());
}

#[test]
fn stratified_folds_share_out_every_class() {
    let classes: Vec<usize> = (0..103)
        .map(|i| usize::from(i % 3 == 0) + usize::from(i == 5))
        .collect();
    let labels = Target::Classes(classes.clone());
    let folds = Folds::stratified(&labels, 5, 7);
    assert_eq!(folds.folds.len(), 5);
    check_partition(&folds, 103);
    for class in 0..2 {
        let count = |rows: &[usize]| rows.iter().filter(|&&i| classes[i] == class).count();
        let counts: Vec<usize> = folds.folds.iter().map(|fold| count(&fold.test)).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "class {class}: {counts:?}");
    }
    assert_eq!(folds, Folds::stratified(&labels, 5, 7));
    assert_ne!(folds, Folds::stratified(&labels, 5, 8));
}

#[test]
fn stratified_folds_share_out_every_range_of_values() {
    let labels = Target::Values((0..100).map(|i| f64::from(i * 37 % 100)).collect());
    let folds = Folds::stratified(&labels, 4, 1);
    check_partition(&folds, 100);
    let Target::Values(values) = &labels else {
        unreachable!()
    };
    for fold in &folds.folds {
        // One value of every four neighbours.
        let quarters: BTreeSet<usize> = fold.test.iter().map(|&i| values[i] as usize / 4).collect();
        assert_eq!(quarters.len(), 25);
    }
}

#[test]
fn the_number_of_folds_is_brought_into_range() {
    let labels = Target::Classes(vec![0, 1, 0]);
    for (asked, made) in [(0, 2), (1, 2), (2, 2), (3, 3), (9, 3)] {
        let folds = Folds::stratified(&labels, asked, 0);
        assert_eq!(folds.folds.len(), made);
        check_partition(&folds, 3);
    }
    assert!(
        Folds::stratified(&Target::Values(vec![1.0]), 4, 0)
            .folds
            .is_empty()
    );
}

#[test]
fn a_share_of_every_class_and_of_every_range_is_held_out() {
    let classes: Vec<usize> = (0..60)
        .map(|i| if i < 40 { 0 } else { 1 + (i - 40) / 19 })
        .collect();
    let labels = Target::Classes(classes.clone());
    let fold = Fold::holdout(&labels, 0.2, 3);
    let tested = |c: usize| fold.test.iter().filter(|row| classes[**row] == c).count();
    // 40, 19 and 1 rows: the only row of the last class is trained on.
    assert_eq!((tested(0), tested(1), tested(2)), (8, 4, 0));
    let mut all = [&fold.train[..], &fold.test].concat();
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
    assert_eq!(fold, Fold::holdout(&labels, 0.2, 3));
    assert_ne!(fold, Fold::holdout(&labels, 0.2, 4));

    let values = Target::Values((0..200).map(|i| f64::from((i * 77) % 200)).collect());
    let fold = Fold::holdout(&values, 0.25, 0);
    let Target::Values(values) = values else {
        unreachable!()
    };
    let low = fold.test.iter().filter(|row| values[**row] < 40.0).count();
    assert_eq!((fold.test.len(), low), (50, 10));
    assert_ne!(fold, Fold::holdout(&Target::Values(values), 0.25, 1));
}
