//! What cannot be learnt from, or encoded.

use super::super::{Encoder, Table};
use super::{all, learn, sentence, table};
use crate::convexnet::{Bias, Task};

#[test]
fn bad_training_data_are_refused_in_one_sentence() {
    let many = |odd: &str| {
        let rows: Vec<String> = (0..50).map(|i| format!("{}.5,{}\n", i, i % 2)).collect();
        format!("x,y\n{}{odd},1\n", rows.concat())
    };
    for (text, words) in [
        ("x,y\n1,0\n".to_owned(), "there are 1 training rows"),
        (
            "x,z\n1,0\n2,1\n".into(),
            "there is no column `y`; the columns are `x`, `z`",
        ),
        ("x y\n1 0\n2 1\n".into(), "separated by something else"),
        ("x,y\n1,a\n2,a\n".into(), "of the one class `a`"),
        ("x,y\n1,3\n2,3\n3,3\n".into(), "of the one class `3`"),
        (
            "x,y\n1,0.5\n2,0.5\n".into(),
            "`y` is 0.5 in all 2 training rows",
        ),
        (
            "x,y\n1,0\n2,NA\n".into(),
            "row 2 (line 3), column `y`: the target is missing",
        ),
        (
            "x,y\n1,a\n2,b\n3,c\n4,d\n".into(),
            "4 classes in 4 training rows",
        ),
        (
            "x,y\n1,0\n1,1\n".into(),
            "no column is left to predict `y` from: not used: `x` (always",
        ),
        (
            "y\n1\n0\n".into(),
            "no column is left to predict `y` from: it is the only one",
        ),
        (
            "x,y\n1,0\ninf,1\n".into(),
            "row 2 (line 3), column `x`: inf is beyond 1e150",
        ),
        (
            "x,y\n1,0\n-1e300,1\n".into(),
            "row 2 (line 3), column `x`: -1e300 is beyond",
        ),
        (
            "x,y\n1,0.5\n2,1e300\n".into(),
            "row 2 (line 3), column `y`: 1e300 is beyond",
        ),
        (
            "x,y\n1,9007199254740993\n2,9007199254740992\n".into(),
            "not told apart",
        ),
        (
            many("oops"),
            "row 51 (line 52), column `x`: `oops` is not a number",
        ),
        (
            many("\"3,5\""),
            "column `x`: `3,5` is a number with a comma",
        ),
    ] {
        let said = sentence(learn(&text, "y"), "t.csv");
        assert!(said.contains(words), "{text:?}: {said}");
    }
}

#[test]
fn a_slip_among_the_numbers_of_a_target_is_named() {
    let rows: Vec<String> = (0..50).map(|i| format!("{i},{i}.5\n")).collect();
    let text = format!("x,y\n{}50,1O\n", rows.concat());
    let said = sentence(learn(&text, "y"), "t.csv");
    assert!(
        said.contains("row 51 (line 52), column `y`: `1O` is not a number"),
        "{said}"
    );
}

#[test]
fn bad_data_at_prediction_are_refused_in_one_sentence() {
    let train = table("a,b,c,y\n1,1,u,n\n2,3,v,m\n4,4,u,n\n3,1,v,m\n");
    let encoder = Encoder::learn(&train, &all(&train), "y", None, Bias::Free).unwrap();
    for (text, words) in [
        (
            "a,d\n1,2\n",
            "it lacks 2 of the columns the model was trained on: `b`, `c`",
        ),
        (
            "a,b,c\n1,no,u\n",
            "row 1 (line 2), column `b`: `no` is not a number",
        ),
        (
            "a,b,c\n1,2,u\n1,-inf,u\n",
            "row 2 (line 3), column `b`: -inf is beyond",
        ),
        (
            "a,b,c\n1e200,2,u\n",
            "row 1 (line 2), column `a`: 1e200 is beyond",
        ),
    ] {
        let table = table(text);
        let said = sentence(encoder.features(&table, &all(&table)), "t.csv");
        assert!(said.contains(words), "{text:?}: {said}");
    }
    for (text, words) in [
        (
            "a,b,c,y\n1,2,u,k\n",
            "row 1 (line 2), column `y`: `k` is none of the model's classes, `m`, `n`",
        ),
        (
            "a,b,c,y\n1,2,u,\n",
            "row 1 (line 2), column `y`: the target is missing",
        ),
        ("a,b,c\n1,2,u\n", "there is no column `y`"),
    ] {
        let table = table(text);
        let said = sentence(encoder.labels(&table, &all(&table)), "t.csv");
        assert!(said.contains(words), "{text:?}: {said}");
    }
    let said = sentence(encoder.features(&train, &[0, 4]), "t.csv");
    assert!(
        said.contains("row 4 (from 0) was asked for, but there are 4 rows"),
        "{said}"
    );
    let tiny = table("a,y\n1e-200,0\n2e-200,1\n");
    let encoder = Encoder::learn(&tiny, &[0, 1], "y", None, Bias::None).unwrap();
    let new = table("a\n5\n");
    let said = sentence(encoder.features(&new, &[0]), "t.csv");
    assert!(
        said.contains("5e0 is too far from the training values"),
        "{said}"
    );
}

#[test]
fn numbers_with_commas_are_no_categories() {
    let rows = |cell: fn(usize) -> String| -> String {
        let row = |i| format!("{i};{};{}\n", cell(i), i % 2);
        (0..40).map(row).collect()
    };
    let text = |cell| format!("a;x;y\n{}", rows(cell));
    for cell in [
        (|i| format!("{},{}", i % 3, i % 2)) as fn(usize) -> String,
        |i| format!("-{i},25"),
        |i| format!("1.{i:03},5"),
        |i| format!("{},{:03}.5", i + 1, i),
        |i| format!("1,{i:03},000"),
        // Most are whole.
        |i| {
            if i % 5 == 0 {
                format!("{i},5")
            } else {
                i.to_string()
            }
        },
    ] {
        let first = cell(0);
        let said = sentence(learn(&text(cell), "y"), "t.csv");
        let place = format!("row 1 (line 2), column `x`: `{first}` is a number with a comma");
        assert!(said.contains(&place), "{said}");
        assert!(said.contains("write decimal points"), "{said}");
        // As the target too, where it is not said that they are classes.
        let said = sentence(learn(&text(cell), "x"), "t.csv");
        assert!(said.contains(&place), "{said}");
    }
    let table = table(&text(|i| format!("{},5", i % 2)));
    let classes = Some(Task::Classification);
    let encoder = Encoder::learn(&table, &all(&table), "x", classes, Bias::None).unwrap();
    assert_eq!(encoder.classes(), ["0,5", "1,5"]);
    for (cell, features) in [
        ((|i| ["1,5", "big"][i % 2].into()) as fn(usize) -> String, 3),
        (|i| ["1,2,3", "1,2"][i % 2].into(), 3),
        (|i| ["Paris, 5", "Rome, 7"][i % 2].into(), 3),
    ] {
        assert_eq!(learn(&text(cell), "y").unwrap().width(), features);
    }
}

/// A matrix of integers as a `.npy` file of one byte a number.
fn matrix(rows: usize, columns: usize) -> Table {
    let header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows}, {columns})}}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(
        (0..rows * columns).map(|k| (k * k % 7) as u8 * u8::from(k % columns < 2) + (k % 2) as u8),
    );
    let (_folder, path) = super::file("m.npy", &bytes);
    Table::read(&path).unwrap()
}

#[test]
fn columns_without_names_must_be_where_they_were() {
    let train = matrix(9, 3);
    let learn = |target| Encoder::learn(&train, &all(&train), target, None, Bias::None).unwrap();
    let (last, first) = (learn("f3"), learn("f1"));
    assert!(last.features(&train, &[0]).is_ok() && first.features(&train, &[0]).is_ok());
    // Without the target the others stay in place only if it was the last.
    assert!(last.features(&matrix(5, 2), &[0]).is_ok());
    let said = sentence(first.features(&matrix(5, 2), &[0]), "m.npy");
    assert!(
        said.contains("it has 2 columns, but the model was trained on a matrix of 3"),
        "{said}"
    );
    let said = sentence(last.features(&matrix(5, 4), &[0]), "m.npy");
    assert!(said.contains("it has 4 columns"), "{said}");
}

#[test]
fn an_unknown_column_of_a_matrix_is_told_how_columns_are_called() {
    let matrix = matrix(9, 3);
    let learn = |target| Encoder::learn(&matrix, &all(&matrix), target, None, Bias::None);
    for target in ["class", "3", "f4", "f0"] {
        let said = sentence(learn(target), "m.npy");
        assert!(
            said.contains(&format!("no column `{target}`")) && said.contains("called f1 to f3"),
            "{said}"
        );
    }
    assert!(learn("f3").is_ok());
}
