use faer::Mat;

use super::super::{Encoder, Table, Target};
use super::{all, sentence, table};
use crate::convexnet::{Bias, Task};

/// Learns on every row and encodes, with every column as target: no matter with what result.
pub(super) fn try_everything(table: &Table) {
    for target in table.names() {
        for task in [None, Some(Task::Classification), Some(Task::Regression)] {
            let rows = all(table);
            let Ok(encoder) =
                Encoder::learn(table, &rows[..rows.len() / 2 + 1], target, task, Bias::Free)
            else {
                continue;
            };
            let _ = encoder.features(table, &rows);
            let _ = encoder.labels(table, &rows);
        }
    }
}

fn learn(text: &str, target: &str) -> Result<Encoder, crate::Error> {
    let table = table(text);
    Encoder::learn(&table, &all(&table), target, None, Bias::None)
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
