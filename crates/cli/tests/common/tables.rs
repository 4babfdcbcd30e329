//! Generated tables.

use std::fmt::Write as _;
use std::fs;

use super::{Numbers, Place};

/// Rows of `data.csv` and `prices.csv`.
pub const ROWS: usize = 60;

impl Place {
    /// A folder with
    /// - `data.csv`: `a`, `b`, `colour`, and a `class` that depends on all three; some cells are missing;
    /// - `prices.csv`: `a`, `b`, and a `price` that bends where `a` and `b` are equal;
    /// - `plane.csv`: 12 rows of `a`, `b` and a `class`, in general position;
    /// - `folds.txt`: two folds for the first two.
    pub fn tables() -> Self {
        let place = Self::empty();
        let mut numbers = Numbers::new(5);
        let mut data = String::from("a,b,colour,class\n");
        let mut prices = String::from("a,b,price\n");
        let mut plane = String::from("a,b,class\n");
        for i in 0..ROWS {
            let (a, b) = (numbers.next(), numbers.next());
            let colour = ["red", "green", "blue"][i % 3];
            let right = a * b > 0.0 || colour == "red" && a > 0.5;
            let class = if right { "yes" } else { "no" };
            match i {
                7 => writeln!(data, "{a},,{colour},{class}"),
                19 => writeln!(data, "NA,{b},{colour},{class}"),
                _ => writeln!(data, "{a},{b},{colour},{class}"),
            }
            .unwrap();
            let price = 200.0 + 50.0 * (a - b).max(0.0) - 20.0 * b + 2.0 * numbers.next();
            writeln!(prices, "{a},{b},{price}").unwrap();
            if i < 12 {
                writeln!(plane, "{a},{b},{class}").unwrap();
            }
        }
        for (name, text) in [
            ("data.csv", data),
            ("prices.csv", prices),
            ("plane.csv", plane),
        ] {
            fs::write(place.path(name), text).unwrap();
        }
        let rows = |keep: fn(usize) -> bool| {
            let rows = (0..ROWS).filter(|i| keep(*i)).map(|i| i.to_string());
            rows.collect::<Vec<_>>().join(" ")
        };
        let folds = [
            rows(|i| i % 4 != 0),
            rows(|i| i % 4 == 0),
            rows(|i| i % 4 == 1),
            rows(|i| i % 4 == 2),
        ];
        fs::write(place.path("folds.txt"), folds.join("\n")).unwrap();
        place
    }

    /// A file of this text.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Runs a command that must succeed, given as one text.
    pub fn does(&self, args: &str) -> std::process::Output {
        let args: Vec<&str> = args.split_whitespace().collect();
        let output = self.run(&args);
        let message = super::text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {message}");
        output
    }

    /// Its standard output as JSON.
    pub fn told(&self, args: &str) -> serde_json::Value {
        serde_json::from_slice(&self.does(args).stdout).unwrap()
    }
}

/// A NumPy file of doubles, row by row.
pub fn npy(rows: usize, columns: usize, values: &[f64]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// A number of a JSON object.
pub fn number(value: &serde_json::Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

/// That two numbers agree but for so large a share.
pub fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs(), "{a} and {b}");
}
