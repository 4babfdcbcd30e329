//! Opening files, and what is no text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::Error;

/// Beginnings of files that are often taken for tables, and what to do about them.
const OTHERS: [(&[u8], &str); 6] = [
    (
        b"PK\x03\x04",
        "it is a zip archive (.xlsx, .npz?): export the sheet as CSV, or save the one matrix with numpy.save",
    ),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (
        b"PAR1",
        "it is a Parquet file: export the table as CSV first",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "it is an old Excel file: export the sheet as CSV first",
    ),
    (b"\xff\xfe", "it is text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "it is text in UTF-16: save it as UTF-8"),
];

pub(super) fn error(path: &Path, reason: impl Into<String>) -> Error {
    Error::Table {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

/// Opens a regular file (not a pipe or a device, which could block or never end) and tells its length.
pub(super) fn open(path: &Path) -> Result<(File, u64), Error> {
    let io = |source: std::io::Error| error(path, format!("it cannot be opened: {source}"));
    let about = std::fs::metadata(path).map_err(io)?;
    if !about.is_file() {
        return Err(error(
            path,
            "it is a folder, a pipe or a device: give a regular file",
        ));
    }
    Ok((File::open(path).map_err(io)?, about.len()))
}

/// A file's text, without a byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    let (file, length) = open(path)?;
    let io = |source: std::io::Error| error(path, format!("it cannot be read: {source}"));
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))
        .map_err(|source| io(std::io::Error::other(source)))?;
    file.take(length).read_to_end(&mut bytes).map_err(io)?;
    if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(error(path, *what));
    }
    if bytes.contains(&0) {
        return Err(error(path, "it is a binary file, not text"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|source| {
        let valid = &source.as_bytes()[..source.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        error(
            path,
            format!("line {line} is not UTF-8: save the file as UTF-8"),
        )
    })
}
