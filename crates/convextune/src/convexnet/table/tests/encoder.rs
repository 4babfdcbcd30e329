use faer::Mat;

use super::super::{Encoder, Table, Target};
use super::{all, learn, table};
use crate::convexnet::{Bias, Task};

/// Learns on every row and encodes, with every column as target: no matter with what result.
pub(super) fn try_everything(table: &Table) {
    for target in table.names() {
        for task in [None, Some(Task::Classification), Some(Task::Regression)] {
            let rows = all(table);
            let Ok(encoder) =
                Encoder::learn(table, &rows[..=rows.len() / 2], target, task, Bias::Free)
            else {
                continue;
            };
            let _ = encoder.features(table, &rows);
            let _ = encoder.labels(table, &rows);
        }
    }
}

#[test]
fn a_table_by_hand() {
    // x: mean 2, deviation sqrt(2); colour: shares 1/2 red, 1/4 blue, 1/4 missing.
    let table = table("x,colour,y\n1,red,a\n1,blue,b\nNA,NA,a\n4,red,b\n");
    let encoder = Encoder::learn(&table, &all(&table), "y", None, Bias::Penalized).unwrap();
    assert_eq!(
        encoder.feature_names(),
        [
            "x",
            "x is missing",
            "colour=blue",
            "colour=red",
            "colour is missing",
            "(bias)"
        ]
    );
    assert_eq!((encoder.width(), encoder.task()), (6, Task::Classification));
    assert_eq!(encoder.classes(), ["a", "b"]);
    let r2 = 2.0f64.sqrt();
    let s = (0.25f64 + 2.0 * 3.0 / 16.0).sqrt();
    let expected = Mat::from_fn(4, 6, |i, j| match j {
        0 => [-1.0 / r2, -1.0 / r2, 0.0, 2.0 / r2][i],
        1 => [-0.25, -0.25, 0.75, -0.25][i],
        2 => [-0.25, 0.75, -0.25, -0.25][i] / s,
        3 => [0.5, -0.5, -0.5, 0.5][i] / s,
        4 => [-0.25, -0.25, 0.75, -0.25][i] / s,
        _ => 1.0,
    });
    let x = encoder.features(&table, &all(&table)).unwrap();
    assert!((&x - &expected).norm_max() < 1e-15, "{x:?}");
    assert_eq!(
        encoder.labels(&table, &[3, 0]).unwrap(),
        Target::Classes(vec![1, 0])
    );
}

#[test]
fn statistics_come_from_training_rows_alone() {
    let train = "x,c,y\n1,a,1.5\n2,b,2.5\nNA,a,0.25\n5,b,7\n";
    let (first, second) = (
        table(&format!("{train}1000,zzz,-900\n,?,12\n")),
        table(&format!("{train}text,,text\n-3,b,\n")),
    );
    let learn = |table| Encoder::learn(table, &[0, 1, 2, 3], "y", None, Bias::None).unwrap();
    let encoder = learn(&first);
    assert_eq!(encoder, learn(&second));
    // All rows together do give something else.
    assert_ne!(
        encoder,
        Encoder::learn(&first, &all(&first), "y", None, Bias::None).unwrap()
    );
    // Of a row alone or among others comes the same.
    let x = encoder.features(&first, &all(&first)).unwrap();
    let one = encoder.features(&first, &[4]).unwrap();
    assert_eq!(one.row(0), x.row(4));
}

#[test]
fn an_unseen_category_is_zero_before_centring_and_a_missing_number_the_mean() {
    let train = table("x,c,y\n1,a,0\n2,b,1\n3,a,0\n6,b,1\n");
    let encoder = Encoder::learn(&train, &all(&train), "y", None, Bias::None).unwrap();
    assert_eq!(encoder.feature_names(), ["x", "c=a", "c=b"]);
    let new = table("c,more,x\nnew,7,\n,7,3\n");
    let x = encoder.features(&new, &all(&new)).unwrap();
    for i in 0..2 {
        assert!(x[(i, 0)].abs() < 1e-15);
        let zero = -0.5 / 0.5f64.sqrt();
        assert!((x[(i, 1)] - zero).abs() < 1e-15 && (x[(i, 2)] - zero).abs() < 1e-15);
    }
    assert!(!encoder.has_target(&new));
}

#[test]
fn categories_that_are_numbers_are_the_same_however_written() {
    let train = table("c,y\n01,0\nx,1\n2,0\nx,1\n1.0,0\nx,1\n2,1\n");
    let encoder = Encoder::learn(&train, &all(&train), "y", None, Bias::None).unwrap();
    assert_eq!(encoder.feature_names(), ["c=1", "c=2", "c=x"]);
    // A file in which the column happens to hold numbers only.
    let new = table("c\n1\n02\n");
    let x = encoder.features(&new, &[0, 1]).unwrap();
    assert!(x[(0, 0)] > 0.0 && x[(0, 1)] < 0.0 && x[(1, 1)] > 0.0 && x[(1, 0)] < 0.0);
}

#[test]
fn the_variances_of_a_columns_categories_sum_to_one() {
    let cells = ["a", "b", "a", "c", "a", "", "b", "a", "a", "a"];
    let rows: Vec<String> = cells
        .iter()
        .zip(0..)
        .map(|(c, i)| format!("{c},{}\n", i % 2))
        .collect();
    let table = table(&format!("c,y\n{}", rows.concat()));
    let encoder = Encoder::learn(&table, &all(&table), "y", None, Bias::None).unwrap();
    let x = encoder.features(&table, &all(&table)).unwrap();
    assert_eq!(x.ncols(), 4);
    assert!((x.squared_norm_l2() / 10.0 - 1.0).abs() < 1e-12);
    for j in 0..4 {
        assert!(x.col_as_slice(j).iter().sum::<f64>().abs() < 1e-12);
    }
}

#[test]
fn the_task_is_found_out_from_the_target() {
    let column = |cells: &[&str]| {
        let rows: Vec<String> = cells
            .iter()
            .zip(0..)
            .map(|(c, i)| format!("{i},{c}\n"))
            .collect();
        learn(&format!("x,y\n{}", rows.concat()), "y").unwrap()
    };
    let encoder = column(&["b", "a", "b"]);
    assert_eq!(
        (encoder.task(), encoder.classes()),
        (Task::Classification, &["a".into(), "b".into()][..])
    );
    assert_eq!(column(&["1", "-1", "01"]).classes(), ["-1", "1"]);
    assert_eq!(column(&["0", "1.0", "0", "-0.0"]).classes(), ["0", "1"]);
    assert_eq!(
        column(&["10", "9", "2", "10", "9", "2", "2"]).classes(),
        ["2", "9", "10"]
    );
    assert_eq!(
        column(&["10", "9", "2", "10", "9"]).task(),
        Task::Regression
    );
    assert_eq!(column(&["0.5", "1", "0.5"]).task(), Task::Regression);
    let integers = |count: usize| {
        let cells: Vec<String> = (0..60).map(|i| (i % count).to_string()).collect();
        column(&cells.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(integers(20).task(), Task::Classification);
    assert_eq!(integers(21).task(), Task::Regression);
    assert!(integers(21).notes()[0].contains("21 different integers"));
    assert_eq!(integers(60).notes().len(), 0);
}

#[test]
fn the_task_can_be_given() {
    let table = table("x,y\n1,0\n2,1\n3,1\n4,3\n");
    let learn = |task| Encoder::learn(&table, &all(&table), "y", task, Bias::None).unwrap();
    let values = learn(Some(Task::Regression));
    let Target::Values(y) = values.labels(&table, &all(&table)).unwrap() else {
        panic!("values were asked for");
    };
    assert!(y.iter().sum::<f64>().abs() < 1e-12);
    assert!((y.iter().map(|y| y * y).sum::<f64>() - 4.0).abs() < 1e-12);
    for (standardised, value) in y.into_iter().zip([0.0, 1.0, 1.0, 3.0]) {
        assert!((values.value(standardised) - value).abs() < 1e-12);
    }
    let table = super::table("x,y\n1,0.5\n2,1.5\n3,1.5\n4,0.5\n");
    let classes = Encoder::learn(
        &table,
        &all(&table),
        "y",
        Some(Task::Classification),
        Bias::None,
    );
    assert_eq!(classes.unwrap().classes(), ["0.5", "1.5"]);
}

#[test]
fn useless_columns_are_left_out_with_a_note() {
    let encoder = learn(
        "same,empty,name,x,word,gap,y\n7,,ann,1,w,1,0\n7,NA,bob,2,w,,1\n7,?,eve,3,w,1,1\n7,,joe,5,w,1,0\n",
        "y",
    )
    .unwrap();
    assert_eq!(encoder.feature_names(), ["x", "gap is missing"]);
    assert_eq!(
        encoder.notes(),
        [
            "not used: `same`, `word` (always the same in the training rows)",
            "not used: `empty` (empty in the training rows)",
            "not used: `name` (texts that hardly repeat, such as names)"
        ]
    );
}

#[test]
fn more_columns_than_rows_are_no_error() {
    let encoder = learn("a,b,c,d,y\n1,2,3,4,0\n2,1,5,3,1\n", "y").unwrap();
    assert_eq!(encoder.width(), 4);
}

#[test]
fn extreme_numbers_are_standardised_without_overflow_or_underflow() {
    for unit in ["1e150", "1e-150", "1e-300", "1"] {
        let unit: f64 = unit.parse().unwrap();
        let cells = [-1.0, 1.0, 0.5, -0.5].map(|c: f64| format!("{:e},{}\n", c * unit, c > 0.0));
        let table = table(&format!("x,y\n{}", cells.concat()));
        let encoder = Encoder::learn(&table, &all(&table), "y", None, Bias::None).unwrap();
        let x = encoder.features(&table, &all(&table)).unwrap();
        let s = (2.5f64 / 4.0).sqrt();
        let expected = Mat::from_fn(4, 1, |i, _| [-1.0, 1.0, 0.5, -0.5][i] / s);
        assert!((&x - &expected).norm_max() < 1e-12, "{unit:e}: {x:?}");
    }
}

#[test]
fn an_encoder_comes_back_from_json() {
    let table = table("x,c,y\n0.1,a,1.7\n2.3,b,2.1\nNA,a,0.3\n5,b,7.9\n");
    let encoder = Encoder::learn(&table, &all(&table), "y", None, Bias::Penalized).unwrap();
    let json = serde_json::to_string(&encoder).unwrap();
    let back: Encoder = serde_json::from_str(&json).unwrap();
    assert_eq!(back.feature_names(), encoder.feature_names());
    let rows = all(&table);
    let (x, y) = (
        encoder.features(&table, &rows).unwrap(),
        back.features(&table, &rows).unwrap(),
    );
    assert!((&x - &y).norm_max() < 1e-14);
}

#[test]
fn a_large_offset_is_centred_to_the_last_digit() {
    let rows: Vec<String> = (0..20_000)
        .map(|i| format!("{}.3,{}\n", 1_000_000_000 + i % 3, i % 2))
        .collect();
    let table = table(&format!("x,y\n{}", rows.concat()));
    let encoder = Encoder::learn(&table, &all(&table), "y", None, Bias::None).unwrap();
    let x = encoder.features(&table, &all(&table)).unwrap();
    let mean = x.col_as_slice(0).iter().sum::<f64>() / 20_000.0;
    // The mean itself is known to 1.2e-7.
    assert!(mean.abs() < 2e-7, "{mean:e}");
}
