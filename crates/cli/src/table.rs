//! Plain text tables and numbers for people.

use std::fmt::Write as _;

/// Rows of cells, each column as wide as its widest cell; the columns in `right` are flush right.
pub fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|row| row.get(c))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if c == 0 { "" } else { "  " };
            let _ = if right.contains(&c) {
                write!(line, "{gap}{cell:>width$}")
            } else {
                write!(line, "{gap}{cell:<width$}")
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Names and values, one pair a line.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, value)| vec![(*name).to_owned(), value.clone()])
        .collect();
    columns(&rows, &[])
}

/// A share as a percentage, or a dash.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |s| format!("{:.1} %", 100.0 * s))
}

/// A number of any size, in four digits.
pub fn number(x: f64) -> String {
    digits(x, 4)
}

/// A number that is compared with others, in ten digits.
pub fn precise(x: f64) -> String {
    digits(x, 10)
}

fn digits(x: f64, count: usize) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e5).contains(&x.abs()) {
        let before = 1 + x.abs().log10().floor() as i32;
        let after = (count as i32 - before).max(0) as usize;
        format!("{x:.after$}")
    } else {
        let after = count - if count > 4 { 1 } else { 2 };
        format!("{x:.after$e}")
    }
}

/// A very small number, in powers of ten.
pub fn small(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else {
        format!("{x:.1e}")
    }
}

/// Bytes in MiB or GiB.
pub fn bytes(bytes: Option<u64>) -> String {
    match bytes {
        None => "-".to_owned(),
        Some(b) if b < 1 << 30 => format!("{:.0} MiB", b as f64 / f64::from(1 << 20)),
        Some(b) => format!("{:.2} GiB", b as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["bb".to_owned(), "22".to_owned()],
        ];
        assert_eq!(columns(&rows, &[1]), "a    1\nbb  22\n");
    }

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!(number(0.123_456), "0.1235");
        assert_eq!(number(1234.56), "1235");
        assert_eq!(number(1e-9), "1.00e-9");
        assert_eq!(precise(-12.5), "-12.50000000");
        assert_eq!(precise(1.5e-9), "1.500000000e-9");
        assert_eq!(bytes(Some(3 << 30)), "3.00 GiB");
    }
}
