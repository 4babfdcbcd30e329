//! The writer of our own model files: safetensors, all or nothing.
//!
//! The bytes go to a temporary file in the target's folder, are flushed to the disk, and the
//! file is renamed over the target. Whatever fails on the way, the old file stays as it was and
//! the temporary one is removed. The header is sorted by name, so equal tensors give equal
//! bytes (the `safetensors` crate's own writer orders metadata at random).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Element, Metadata, NamedTensor, WeightsError};

/// The header's entry for metadata, reserved by the format.
const METADATA: &str = "__metadata__";

/// Writes tensors and metadata as a safetensors file, replacing `path` atomically.
///
/// # Errors
/// [`WeightsError::NotWritable`] for a tensor whose data does not fit its shape, is not finite or
/// has the reserved name; [`WeightsError::NotAFile`] when `path` is a folder or a device;
/// [`WeightsError::Io`] for everything the operating system refuses. In all cases an existing
/// file is left as it was.
pub fn write_safetensors<T: Element>(
    path: &Path,
    tensors: &BTreeMap<String, NamedTensor<T>>,
    metadata: &Metadata,
) -> Result<(), WeightsError> {
    for (name, tensor) in tensors {
        check(name, tensor).map_err(|reason| WeightsError::NotWritable {
            path: path.to_path_buf(),
            tensor: name.clone(),
            reason: reason.to_owned(),
        })?;
    }
    let header = header(tensors, metadata);
    write_atomically(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for tensor in tensors.values() {
            for value in &tensor.data {
                out.write_all(value.le_bytes().as_ref())?;
            }
        }
        Ok(())
    })
}

fn check<T: Element>(name: &str, tensor: &NamedTensor<T>) -> Result<(), &'static str> {
    let elements = tensor
        .shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size));
    if elements != Some(tensor.data.len()) {
        return Err("the number of values is not the product of its shape");
    }
    if name == METADATA {
        return Err("the format reserves this name");
    }
    if !tensor.data.iter().all(|value| Element::is_finite(*value)) {
        return Err("holds NaN or an infinity");
    }
    Ok(())
}

/// The JSON header, padded with spaces to a multiple of eight bytes as the format asks.
fn header<T: Element>(tensors: &BTreeMap<String, NamedTensor<T>>, metadata: &Metadata) -> Vec<u8> {
    let mut entries: BTreeMap<&str, Value> = BTreeMap::new();
    if !metadata.is_empty() {
        entries.insert(METADATA, json!(metadata));
    }
    let mut start = 0;
    for (name, tensor) in tensors {
        let end = start + size_of_val(tensor.data.as_slice());
        let entry = json!({"dtype": T::NAME, "shape": tensor.shape, "data_offsets": [start, end]});
        entries.insert(name, entry);
        start = end;
    }
    let mut header = json!(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

/// Writes a file through `fill`; on any failure `path` is left untouched.
///
/// # Errors
/// [`WeightsError::NotAFile`] when `path` is a folder or a device; [`WeightsError::Io`] for what `fill` or
/// the operating system refuses.
pub fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WeightsError> {
    // A link is written through, not replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if fs::metadata(&target).is_ok_and(|about| !about.is_file()) {
        return Err(WeightsError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    let write = || {
        let folder = folder_of(&target);
        let mut temporary = temporary_in(&folder)?;
        let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
        fill(&mut out)?;
        out.flush()?;
        drop(out);
        temporary.as_file().sync_all()?;
        temporary.persist(&target).map_err(|failed| failed.error)?;
        sync_folder(&folder);
        Ok(())
    };
    write().map_err(|source| WeightsError::Io {
        path: path.to_path_buf(),
        action: "write it",
        source,
    })
}

fn folder_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// A temporary file with the permissions of an ordinary new file; `tempfile` alone would make it
/// unreadable for others, and so the model.
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".convextune-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
        builder.tempfile_in(folder)
    }
    #[cfg(not(unix))]
    builder.tempfile_in(folder)
}

/// Makes the rename itself survive a power failure where the system allows it. The file is
/// complete either way, so a refusal is no failure.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a full disk or a killed connection looks like: an error after some bytes.
    #[test]
    fn a_failure_half_way_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |out| {
            out.write_all(&vec![0; 3 << 20])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("model: cannot write it")
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
