use faer::Mat;

use super::super::{Cell, Table, read_npy};
use super::{file, sentence, table};

#[test]
fn cells_are_numbers_texts_or_missing() {
    let table = table("a,b\n 1 ,x\n-2.5e3,\"y, \"\"z\"\"\"\nNA,?\n,1\n");
    assert_eq!(table.names(), ["a", "b"]);
    assert_eq!(table.rows(), 4);
    let column = |j| (0..4).map(|i| table.cell(i, j)).collect::<Vec<_>>();
    assert_eq!(
        column(0),
        [
            Cell::Number(1.0),
            Cell::Number(-2500.0),
            Cell::Missing,
            Cell::Missing
        ]
    );
    assert_eq!(
        column(1),
        [
            Cell::Text("x"),
            Cell::Text("y, \"z\""),
            Cell::Missing,
            Cell::Number(1.0)
        ]
    );
}

#[test]
fn the_delimiter_is_found_out() {
    for (text, names) in [
        ("a,b\n1,2\n", vec!["a", "b"]),
        ("a;b\n1,5;2,5\n", vec!["a", "b"]),
        ("a\tb\n1\t2\n", vec!["a", "b"]),
        ("x, y\tb\n1\t2\n", vec!["x, y", "b"]),
        ("\"x;y\",b\n1,2\n", vec!["x;y", "b"]),
        ("only\n1\n2\n", vec!["only"]),
        ("\u{feff}a,b\r\n1,2\r\n", vec!["a", "b"]),
        ("a,b\r1,2\r", vec!["a", "b"]),
        ("0,1\n5,6\n", vec!["0", "1"]),
    ] {
        assert_eq!(table(text).names(), names, "{text:?}");
    }
    let (_folder, path) = file("t.tsv", b"a,b\n1,2\n");
    assert_eq!(Table::read(&path).unwrap().names(), ["a,b"]);
}

#[test]
fn spaces_around_quoted_cells_do_not_count() {
    let text = "n, \"a, b\" ,c\n 1,  \"x \"\"y\"\", z\", 2\n\n \"3\", \"\", \"two\n, \"\"lines\"\"\"\n5, say \"x\", 6\n";
    let table = table(text);
    assert_eq!(table.names(), ["n", "a, b", "c"]);
    let row = |i: usize| [0, 1, 2].map(|j| table.cell(i, j));
    let (number, text) = (Cell::Number, Cell::Text);
    assert_eq!(row(0), [number(1.0), text("x \"y\", z"), number(2.0)]);
    assert_eq!(
        row(1),
        [number(3.0), Cell::Missing, text("two\n, \"lines\"")]
    );
    // Within a cell a mark is a letter.
    assert_eq!(row(2), [number(5.0), text("say \"x\""), number(6.0)]);
    assert_eq!(table.row_name(2), "row 3 (line 6)");
    let table = super::table("a; b\n\"1\"; \"2; 3\"\n");
    assert_eq!(table.cell(0, 1), Cell::Text("2; 3"));
    let (_folder, path) = file("t.csv", b"a, b\n1, \"open\n");
    let said = sentence(Table::read(&path), "t.csv");
    assert!(said.contains("left open"), "{said}");
}

#[test]
fn a_blank_line_is_no_row_and_lines_stay_counted() {
    let table = table("\na,b\n1,2\n\n\n3,\"4\n\"\n5,6\n");
    assert_eq!(table.rows(), 3);
    assert_eq!(table.place(0, 1), "row 1 (line 3), column `b`");
    assert_eq!(table.row_name(1), "row 2 (line 6)");
    assert_eq!(table.row_name(2), "row 3 (line 8)");
}

#[test]
fn files_that_are_no_tables_are_refused_in_one_sentence() {
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"\n \n", "no name"),
        (b"\n\n", "empty"),
        (b"a,b\n", "a header but no rows"),
        (
            b"a,b\n1,2\n3\n",
            "line 3 has 1 cells, but the header names 2",
        ),
        (b"a,b\n1,2,3\n", "line 2 has 3 cells"),
        (
            b"a,b\n1,\"2\n3\",4\n",
            "line 2 has 3 cells, but the header names 2 columns; is a quotation",
        ),
        (b"a,,b\n1,2,3\n", "column 2 has no name"),
        (b"a,b,a \n1,2,3\n", "columns 1 and 3 are both named `a`"),
        (b"1.5,2\n3,4\n", "numbers only"),
        (b"a\n1\n\n2\n", "line 3 is blank"),
        (b"a\n\n2\n", "line 2 is blank"),
        (
            b"a,b\n1,2\n3,\"4\n5,6\n",
            "line 3: a quotation mark is left open",
        ),
        (b"a,\"b\n1,2\n3,4\n", "line 1: a quotation mark"),
        (b"a,b\n1,2\n3,\xff\n", "line 3 is not UTF-8"),
        (b"a,b\n1,\0\n", "binary"),
        (b"\xff\xfea\0,\0", "UTF-16"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x1f\x8brest", "gzip"),
    ] {
        let (_folder, path) = file("t.csv", bytes);
        let said = sentence(Table::read(&path), "t.csv");
        let shown = String::from_utf8_lossy(bytes).into_owned();
        assert!(said.contains(words), "{shown:?}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(sentence(Table::read(folder.path()), "").contains("a folder"));
    let absent = folder.path().join("absent.csv");
    assert!(sentence(Table::read(&absent), "absent.csv").contains("cannot be opened"));
}

/// A NumPy file of version 1.
fn npy(descr: &str, fortran: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

fn read_bytes(bytes: &[u8]) -> Result<Mat<f64>, crate::Error> {
    let (_folder, path) = file("m.npy", bytes);
    read_npy(&path)
}

#[test]
fn matrices_of_every_type_come_back() {
    let values = [1.0, -2.0, 3.0, 4.0, 5.0, 100.0];
    let expected = Mat::from_fn(2, 3, |i, j| values[3 * i + j]);
    let body =
        |write: fn(f64) -> Vec<u8>| values.iter().flat_map(|&v| write(v)).collect::<Vec<u8>>();
    let cases: [(&str, Vec<u8>); 6] = [
        ("'<f8'", body(|v| v.to_le_bytes().to_vec())),
        ("'<f4'", body(|v| (v as f32).to_le_bytes().to_vec())),
        ("'|i1'", body(|v| (v as i8).to_le_bytes().to_vec())),
        ("'<i2'", body(|v| (v as i16).to_le_bytes().to_vec())),
        ("'<i4'", body(|v| (v as i32).to_le_bytes().to_vec())),
        ("'<i8'", body(|v| (v as i64).to_le_bytes().to_vec())),
    ];
    for (descr, body) in cases {
        assert_eq!(
            read_bytes(&npy(descr, "False", "(2, 3)", &body)).unwrap(),
            expected,
            "{descr}"
        );
    }
    let unsigned = [200u8, 3];
    let read = read_bytes(&npy("'|u1'", "False", "(2,)", &unsigned)).unwrap();
    assert_eq!(read, Mat::from_fn(2, 1, |i, _| f64::from(unsigned[i])));
    let words: Vec<u8> = [60_000u16, 1]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let read = read_bytes(&npy("'<u2'", "True", "(1, 2)", &words)).unwrap();
    assert_eq!(read, Mat::from_fn(1, 2, |_, j| [60_000.0, 1.0][j]));
}

#[test]
fn fortran_order_is_transposed() {
    let body: Vec<u8> = [1.0f64, 4.0, 2.0, 5.0, 3.0, 6.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let read = read_bytes(&npy("'<f8'", "True", "(2, 3)", &body)).unwrap();
    assert_eq!(read, Mat::from_fn(2, 3, |i, j| (3 * i + j + 1) as f64));
}

#[test]
fn a_matrix_is_a_table_with_counted_columns_and_nan_missing() {
    let body: Vec<u8> = [1.0f64, f64::NAN, 3.0, 4.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let (_folder, path) = file("m.csv", &npy("'<f8'", "False", "(2, 2)", &body));
    let table = Table::read(&path).unwrap();
    assert_eq!(table.names(), ["f1", "f2"]);
    assert_eq!(table.cell(0, 1), Cell::Missing);
    assert_eq!(table.cell(1, 0), Cell::Number(3.0));
    assert_eq!(table.row_name(1), "row 2");
}

#[test]
fn bad_matrices_are_refused_in_one_sentence() {
    let eight = [0u8; 8];
    for (bytes, words) in [
        (npy("'<f8'", "False", "(2, 1)", &eight), "8 bytes follow"),
        (npy("'<f4'", "False", "(1, 1)", &eight), "8 bytes follow"),
        (
            npy("'<f8'", "False", "(4294967296, 4294967296)", &eight),
            "8 bytes follow",
        ),
        (
            npy("'<f8'", "False", "(99999999999999999999,)", &eight),
            "header cannot",
        ),
        (npy("'<f8'", "False", "(0, 5)", &[]), "empty, 0 x 5"),
        (npy("'<f8'", "False", "()", &eight), "0 dimensions"),
        (npy("'<f8'", "False", "(1, 1, 1)", &eight), "3 dimensions"),
        (npy("'>f8'", "False", "(1,)", &eight), "big-endian"),
        (npy("'|O'", "False", "(1,)", &eight), "Python objects"),
        (npy("'<U2'", "False", "(1,)", &eight), "texts"),
        (npy("'<c8'", "False", "(1,)", &eight), "something else"),
        (
            npy("[('a', '<f8')]", "False", "(1,)", &eight),
            "something else",
        ),
        (npy("'<f8'", "Maybe", "(1,)", &eight), "header cannot"),
        (npy("'<f8'", "False", "1", &eight), "header cannot"),
        (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "cut off"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "cut off"),
        (b"\x93NUMPY\x09\x00\x01\x00\x00\x00{}".to_vec(), "version 9"),
        (b"\x93NUMPY".to_vec(), "cut off"),
        (b"a,b\n1,2\n".to_vec(), "not a NumPy file"),
    ] {
        let said = sentence(read_bytes(&bytes), "m.npy");
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        assert!(said.contains(words), "{shown:?}: {said}");
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    use crate::rng::Rng;
    let mut rng = Rng::new(1, "bytes");
    let seeds = [
        b"a,b,c\n1,x,\"2\"\nNA,y;z,3\t4\n5,\xc3\xa9,6\n".to_vec(),
        npy("'<f4'", "False", "(2, 2)", &[7; 16]),
        b"0 1 2\n3\n3 2 1\n0\n".to_vec(),
    ];
    let pool = b"\n\r,;\t\"'(){} 019.eE-+NaN\0\xff\x80\xc3";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes");
    for turn in 0..3000 {
        let mut bytes = seeds[turn % seeds.len()].clone();
        for _ in 0..=rng.next() % 6 {
            let at = (rng.next() % bytes.len() as u64) as usize;
            match rng.next() % 4 {
                0 => bytes[at] = pool[(rng.next() % pool.len() as u64) as usize],
                1 => bytes[at] = rng.next() as u8,
                2 => bytes.truncate(at + 1),
                _ => bytes.insert(at, pool[(rng.next() % pool.len() as u64) as usize]),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let _ = read_npy(&path);
        let _ = super::super::Folds::read(&path, 4);
        if let Ok(table) = Table::read(&path) {
            super::encoder::try_everything(&table);
        }
    }
}
