//! NumPy's `.npy` files: one array, a header in Python's notation, then plain numbers.
//! (NumPy documentation, `numpy.lib.format`, versions 1 to 3.)

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use faer::Mat;

use super::Table;
use super::cell::{Column, shown};
use super::file;
use crate::error::Error;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers are some hundred bytes long.
const LONGEST_HEADER: u64 = 65_536;

/// Whether a file begins as NumPy's do.
pub(super) fn is_npy(path: &Path) -> Result<bool, Error> {
    let mut begin = Vec::new();
    let (file, _) = file::open(path)?;
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut begin)
        .map_err(|source| file::error(path, format!("it cannot be read: {source}")))?;
    Ok(begin == MAGIC)
}

/// Reads a matrix: `float32`, `float64`, integers or booleans, little-endian, in C or Fortran order. An
/// array of one dimension is a column. NaN and infinities pass.
///
/// # Errors
/// [`Error::Table`] when the file is malformed, holds more or less than its header says, or holds
/// something else than a matrix of numbers.
pub fn read_npy(path: &Path) -> Result<Mat<f64>, Error> {
    let array = Array::open(path)?;
    let mut matrix = Mat::zeros(array.rows, array.columns);
    array.each(|i, j, value| matrix[(i, j)] = value)?;
    Ok(matrix)
}

/// A matrix as a table with the columns `f1` ... `fd`.
pub(super) fn read_table(path: &Path) -> Result<Table, Error> {
    let array = Array::open(path)?;
    let rows = array.rows;
    let mut columns = vec![vec![0.0; rows]; array.columns];
    array.each(|i, j, value| columns[j][i] = value)?;
    Ok(Table {
        path: path.to_path_buf(),
        names: (1..=columns.len()).map(|j| format!("f{j}")).collect(),
        columns: columns.into_iter().map(Column::Numbers).collect(),
        rows,
        lines: None,
    })
}

/// A file whose header is read and whose length is what the header says.
struct Array<'a> {
    path: &'a Path,
    body: BufReader<File>,
    dtype: Dtype,
    fortran_order: bool,
    rows: usize,
    columns: usize,
}

impl<'a> Array<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let error = |reason: String| file::error(path, reason);
        let (file, length) = file::open(path)?;
        let mut body = BufReader::with_capacity(1 << 20, file);
        let (text, start) = header_text(&mut body, length).map_err(error)?;
        let header = Header::parse(&text).ok_or_else(|| {
            error("its NumPy header cannot be understood: save it again with numpy.save".into())
        })?;
        let dtype = Dtype::parse(&header.descr).map_err(error)?;
        let (rows, columns) = match header.shape[..] {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => {
                return Err(error(format!(
                    "its array has {} dimensions: reshape it to a matrix, a row for each sample",
                    header.shape.len()
                )));
            }
        };
        if rows == 0 || columns == 0 {
            return Err(error(format!("its array is empty, {rows} x {columns}")));
        }
        let size = rows
            .checked_mul(columns)
            .and_then(|n| n.checked_mul(dtype.bytes()));
        let held = length.saturating_sub(start);
        if size.map(|size| size as u64) != Some(held) {
            return Err(error(format!(
                "its header says {rows} x {columns} numbers of {} bytes, but {held} bytes follow: the file is damaged",
                dtype.bytes()
            )));
        }
        Ok(Self {
            path,
            body,
            dtype,
            fortran_order: header.fortran_order,
            rows,
            columns,
        })
    }

    /// Calls `put` with row, column and value of every number.
    fn each(mut self, mut put: impl FnMut(usize, usize, f64)) -> Result<(), Error> {
        let (outer, inner) = if self.fortran_order {
            (self.columns, self.rows)
        } else {
            (self.rows, self.columns)
        };
        let size = self.dtype.bytes();
        let mut line = vec![0u8; inner * size];
        for a in 0..outer {
            self.body
                .read_exact(&mut line)
                .map_err(|source| file::error(self.path, format!("it cannot be read: {source}")))?;
            for (b, bytes) in line.chunks_exact(size).enumerate() {
                let (i, j) = if self.fortran_order { (b, a) } else { (a, b) };
                put(i, j, self.dtype.number(bytes));
            }
        }
        Ok(())
    }
}

/// The header's text and where the numbers begin.
fn header_text(body: &mut impl Read, length: u64) -> Result<(String, u64), String> {
    let damaged = |_| "its NumPy header is cut off: the file is damaged".to_owned();
    let mut begin = [0u8; 8];
    body.read_exact(&mut begin).map_err(damaged)?;
    if !begin.starts_with(MAGIC) {
        return Err("it is not a NumPy file (.npy)".into());
    }
    let (size, start) = if begin[6] == 1 {
        let mut size = [0u8; 2];
        body.read_exact(&mut size).map_err(damaged)?;
        (u64::from(u16::from_le_bytes(size)), 10)
    } else {
        let mut size = [0u8; 4];
        body.read_exact(&mut size).map_err(damaged)?;
        (u64::from(u32::from_le_bytes(size)), 12)
    };
    if !(1..=3).contains(&begin[6]) {
        return Err(format!(
            "it is of version {} of NumPy's format; versions 1 to 3 are known",
            begin[6]
        ));
    }
    if size > LONGEST_HEADER || start + size > length {
        return Err("its NumPy header is cut off: the file is damaged".into());
    }
    let mut text = vec![0u8; size as usize];
    body.read_exact(&mut text).map_err(damaged)?;
    let text = String::from_utf8(text).map_err(|_| "its NumPy header is no text".to_owned())?;
    Ok((text, start + size))
}

/// `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let (_, after) = text.split_once(&format!("'{key}':"))?;
            Some(after.trim_start())
        };
        let fortran_order = value("fortran_order")?;
        let (shape, _) = value("shape")?.strip_prefix('(')?.split_once(')')?;
        let lengths = shape
            .split(',')
            .map(str::trim)
            .filter(|length| !length.is_empty());
        let descr = value("descr")?;
        Some(Self {
            // Without a quotation mark it is a list of fields, which `Dtype::parse` refuses.
            descr: match descr.strip_prefix('\'') {
                Some(quoted) => quoted.split_once('\'')?.0.to_owned(),
                None => "record".to_owned(),
            },
            fortran_order: match fortran_order.split([',', '}', ' ']).next()? {
                "True" => true,
                "False" => false,
                _ => return None,
            },
            shape: lengths
                .map(|length| length.parse().ok())
                .collect::<Option<_>>()?,
        })
    }
}

/// How a number is written.
#[derive(Clone, Copy)]
enum Dtype {
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl Dtype {
    fn parse(descr: &str) -> Result<Self, String> {
        Ok(match descr {
            "<f4" => Self::F32,
            "<f8" => Self::F64,
            "|i1" => Self::I8,
            "<i2" => Self::I16,
            "<i4" => Self::I32,
            "<i8" => Self::I64,
            // Booleans are bytes, 0 or 1.
            "|u1" | "|b1" => Self::U8,
            "<u2" => Self::U16,
            "<u4" => Self::U32,
            "<u8" => Self::U64,
            _ => {
                let what = match descr.as_bytes() {
                    [b'>', ..] => "big-endian numbers",
                    [_, b'O', ..] => "Python objects",
                    [_, b'U' | b'S', ..] => "texts",
                    _ => "something else than numbers",
                };
                return Err(format!(
                    "its array holds {what} ({}): save it as array.astype('<f8')",
                    shown(descr)
                ));
            }
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// The number in the first [`bytes`](Self::bytes) of `raw`; integers of 64 bits are rounded.
    fn number(self, raw: &[u8]) -> f64 {
        let mut word = [0u8; 8];
        word[..self.bytes()].copy_from_slice(&raw[..self.bytes()]);
        let word = u64::from_le_bytes(word);
        match self {
            Self::F32 => f64::from(f32::from_bits(word as u32)),
            Self::F64 => f64::from_bits(word),
            Self::I8 => f64::from(word as u8 as i8),
            Self::I16 => f64::from(word as u16 as i16),
            Self::I32 => f64::from(word as u32 as i32),
            Self::I64 => word as i64 as f64,
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => word as f64,
        }
    }
}
