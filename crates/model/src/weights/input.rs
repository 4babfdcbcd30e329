//! A weight file in memory, with the path that its errors name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{WeightsError, shown};

/// The bytes of a file; every reader slices them instead of copying.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub path: &'a Path,
    pub bytes: &'a [u8],
}

impl Input<'_> {
    pub fn corrupt(&self, entry: impl Into<String>, reason: impl Into<String>) -> WeightsError {
        let (path, entry, reason) = (self.path.to_path_buf(), entry.into(), reason.into());
        WeightsError::Corrupt {
            path,
            entry,
            reason,
        }
    }

    pub fn unsupported(&self, entry: impl Into<String>, reason: impl Into<String>) -> WeightsError {
        let (path, entry, reason) = (self.path.to_path_buf(), entry.into(), reason.into());
        WeightsError::Unsupported {
            path,
            entry,
            reason,
        }
    }
}

/// How a tensor is named as the entry of an error.
pub(super) fn tensor_entry(name: &str) -> String {
    format!("tensor `{}`", shown(name))
}

/// Opens a regular file and tells its length.
///
/// # Errors
/// [`WeightsError::Io`] when it cannot be opened, [`WeightsError::NotAFile`] for directories,
/// devices and pipes (which could block or never end).
pub(super) fn open(path: &Path) -> Result<(File, u64), WeightsError> {
    let io = |source| WeightsError::Io {
        path: path.to_path_buf(),
        action: "open it",
        source,
    };
    // Asked before opening: to open a pipe would wait for a writer.
    let about = std::fs::metadata(path).map_err(io)?;
    if !about.is_file() {
        return Err(WeightsError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    let file = File::open(path).map_err(io)?;
    Ok((file, about.len()))
}

/// Reads a whole file, never more than the length it had when it was opened.
///
/// # Errors
/// As [`open`]; [`WeightsError::Io`] when memory or reading fails; [`WeightsError::Empty`].
pub(super) fn read_all(path: &Path) -> Result<Vec<u8>, WeightsError> {
    let (file, length) = open(path)?;
    let io = |source| WeightsError::Io {
        path: path.to_path_buf(),
        action: "read it",
        source,
    };
    let mut bytes = Vec::new();
    let capacity = usize::try_from(length).unwrap_or(usize::MAX);
    bytes
        .try_reserve_exact(capacity)
        .map_err(|error| io(std::io::Error::other(error)))?;
    file.take(length).read_to_end(&mut bytes).map_err(io)?;
    if bytes.is_empty() {
        return Err(WeightsError::Empty {
            path: path.to_path_buf(),
        });
    }
    Ok(bytes)
}
