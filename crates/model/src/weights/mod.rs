//! Readers of pre-trained weights, and the writer of our own model files.
//!
//! Three formats, told apart by their bytes and never by the file's extension:
//!
//! - **safetensors**: eight bytes of length, a JSON header, raw data (also what we write);
//! - **PyTorch zip**: `torch.save` since 1.6, a pickle and raw storages in a zip archive;
//! - **PyTorch legacy**: `torch.save` before 1.6, a row of pickles and then the raw storages.
//!
//! Pickles are read as data: only opcodes that build tensors, containers and plain values are
//! understood, and nothing in a file is ever run. A pickle that names any function or class
//! outside a fixed table is refused, with the name in the message; a few harmless classes that
//! checkpoints keep beside the weights (`argparse.Namespace`, numpy scalars, ...) are in that
//! table as values that are skipped.
//!
//! Every length is checked, with checked arithmetic, against what the file really holds before
//! memory is allocated; what is read stays a small multiple of the file's size.
//!
//! ```no_run
//! use convextune_model::weights::{WeightFile, bind};
//!
//! let file = WeightFile::read("resnet20.th".as_ref())?;
//! let expected = [("conv1.weight".to_owned(), vec![16, 3, 3, 3])];
//! let tensors = bind(&file, &expected, |name| name.starts_with("linear."))?;
//! assert_eq!(tensors[0].data.len(), 16 * 3 * 3 * 3);
//! # Ok::<(), convextune_model::weights::WeightsError>(())
//! ```

mod bind;
mod dtype;
mod error;
mod input;
mod pickle;
mod safetensors;
mod torch;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use bind::bind;
pub use dtype::Element;
pub use error::{Misshaped, WeightsError};
use input::Input;
use torch::{legacy, zip};
pub use write::{write_atomically, write_safetensors};

/// Free text entries of a safetensors header.
pub type Metadata = BTreeMap<String, String>;

/// Prefixes that wrappers (`DataParallel`, `torch.compile`) put before every name.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Bytes by which formats are told apart.
const BEGINNING: u64 = 512;

/// A tensor's values, dense, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor<T = f32> {
    /// Sizes of the dimensions, in PyTorch's order; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the product of `shape`; converted from the stored type to the nearest
    /// `T`, integers and truth values included (into `f32` exact up to 2^24).
    pub data: Vec<T>,
}

/// How a weight file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// PyTorch 1.6 and later.
    TorchZip,
    /// PyTorch before 1.6.
    TorchLegacy,
}

/// A weight file, read completely.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// How it is stored.
    pub format: Format,
    /// All tensors by name, without the prefix that a wrapper put before all of them.
    pub tensors: BTreeMap<String, NamedTensor>,
    /// The header's free text entries; empty for PyTorch files.
    pub metadata: Metadata,
}

impl WeightFile {
    /// Reads a file of any of the three formats.
    ///
    /// In a PyTorch checkpoint the weights are looked for under `state_dict`,
    /// `model_state_dict`, `model_state`, `model`, `net`, `network` or `weights`, in this order,
    /// and else at the top level; entries that are no tensors are skipped. `module.` and `_orig_mod.` are
    /// stripped when every name has them.
    ///
    /// # Errors
    /// [`WeightsError`]: the file cannot be read, is of no known format, is damaged, names code,
    /// repeats a name, or holds a weight that is not finite.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let mut file = read_unchanged(path)?;
        while strip_wrapper(&mut file.tensors) {}
        Ok(file)
    }
}

/// Reads one of our own model files: a safetensors file, its names as they are, and its metadata.
///
/// # Errors
/// As [`WeightFile::read`]; [`WeightsError::UnknownFormat`] for any other format.
pub fn read_safetensors_with_metadata<T: Element>(
    path: &Path,
) -> Result<(BTreeMap<String, NamedTensor<T>>, Metadata), WeightsError> {
    let bytes = input::read_all(path)?;
    check_safetensors(path, &bytes)?;
    let (tensors, metadata) = safetensors::read(&Input {
        path,
        bytes: &bytes,
    })?;
    check_finite(path, &tensors)?;
    Ok((tensors, metadata))
}

/// Reads the metadata of one of our own model files, and no more of the file than its header.
///
/// # Errors
/// As [`read_safetensors_with_metadata`], but for damage to the tensors, which are not looked at.
pub fn read_safetensors_metadata(path: &Path) -> Result<Metadata, WeightsError> {
    let (file, length) = input::open(path)?;
    let io = |source| WeightsError::Io {
        path: path.to_path_buf(),
        action: "read it",
        source,
    };
    let mut file = io::BufReader::new(file);
    let mut bytes = Vec::new();
    let mut read_to = |bytes: &mut Vec<u8>, end: u64| {
        let more = end.min(length).saturating_sub(bytes.len() as u64);
        file.by_ref().take(more).read_to_end(bytes).map_err(io)
    };
    read_to(&mut bytes, BEGINNING)?;
    if bytes.is_empty() {
        let path = path.to_path_buf();
        return Err(WeightsError::Empty { path });
    }
    check_safetensors(path, &bytes)?;
    let end = safetensors::header_end(&bytes);
    read_to(&mut bytes, end)?;
    safetensors::metadata(&Input {
        path,
        bytes: &bytes,
    })
}

/// That a file begins as a safetensors file does.
fn check_safetensors(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    let unknown = |found| WeightsError::UnknownFormat {
        path: path.to_path_buf(),
        found,
    };
    match sniff(bytes).map_err(unknown)? {
        Format::Safetensors => Ok(()),
        Format::TorchZip | Format::TorchLegacy => Err(unknown(
            "a PyTorch checkpoint where a safetensors file is needed",
        )),
    }
}

/// The SHA-256 of a file, as 64 lowercase hexadecimal digits.
///
/// # Errors
/// [`WeightsError::Io`] and [`WeightsError::NotAFile`].
pub fn sha256_of(path: &Path) -> Result<String, WeightsError> {
    let (mut file, _) = input::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                let path = path.to_path_buf();
                return Err(WeightsError::Io {
                    path,
                    action: "read it",
                    source,
                });
            }
        }
    }
    let digest = hasher.finalize();
    Ok(digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(hex_digit)
        .collect())
}

fn hex_digit(nibble: u8) -> Option<char> {
    char::from_digit(u32::from(nibble), 16)
}

fn read_unchanged(path: &Path) -> Result<WeightFile, WeightsError> {
    let bytes = input::read_all(path)?;
    read_bytes(path, &bytes)
}

/// Reads a file that is in memory; `path` is for messages.
fn read_bytes(path: &Path, bytes: &[u8]) -> Result<WeightFile, WeightsError> {
    let input = Input { path, bytes };
    let format = sniff(bytes).map_err(|found| {
        let path = path.to_path_buf();
        WeightsError::UnknownFormat { path, found }
    })?;
    let (tensors, metadata) = match format {
        Format::Safetensors => safetensors::read(&input)?,
        Format::TorchZip => (zip::read(&input)?, Metadata::new()),
        Format::TorchLegacy => (legacy::read(&input)?, Metadata::new()),
    };
    check_finite(path, &tensors)?;
    Ok(WeightFile {
        path: path.to_path_buf(),
        format,
        tensors,
        metadata,
    })
}

fn check_finite<T: Element>(
    path: &Path,
    tensors: &BTreeMap<String, NamedTensor<T>>,
) -> Result<(), WeightsError> {
    let finite = |tensor: &NamedTensor<T>| tensor.data.iter().all(|x| x.is_finite());
    match tensors.iter().find(|(_, tensor)| !finite(tensor)) {
        None => Ok(()),
        Some((tensor, _)) => Err(WeightsError::NotFinite {
            path: path.to_path_buf(),
            tensor: tensor.clone(),
        }),
    }
}

/// Tells the format, or what else the bytes look like.
fn sniff(bytes: &[u8]) -> Result<Format, &'static str> {
    if bytes.starts_with(b"PK\x03\x04") {
        return Ok(Format::TorchZip);
    }
    if legacy::sniff(bytes) {
        return Ok(Format::TorchLegacy);
    }
    if safetensors::sniff(bytes) {
        return Ok(Format::Safetensors);
    }
    let start = &bytes[..bytes.len().min(512)];
    Err(if start.starts_with(b"version https://git-lfs") {
        "a Git LFS pointer; fetch the real file with git lfs pull"
    } else if start.trim_ascii_start().starts_with(b"<") {
        "a web page or XML, perhaps from a failed download"
    } else if start.starts_with(b"\x89HDF") {
        "an HDF5 file, as Keras writes"
    } else if start.get(257..262) == Some(b"ustar") {
        "a tar archive, as PyTorch before 0.1.10 wrote"
    } else if start.first() == Some(&0x80) {
        "a pickle or the damaged start of a PyTorch file"
    } else if start
        .iter()
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    {
        "it looks like text"
    } else {
        "unknown content"
    })
}

/// Removes one prefix that all names share; false when there is none.
fn strip_wrapper(tensors: &mut BTreeMap<String, NamedTensor>) -> bool {
    let shared = |prefix: &&str| tensors.keys().all(|name| name.starts_with(*prefix));
    let Some(prefix) = WRAPPERS.iter().copied().find(|prefix| shared(prefix)) else {
        return false;
    };
    if tensors.is_empty() {
        return false;
    }
    let wrapped = std::mem::take(tensors).into_iter();
    *tensors = wrapped
        .map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor))
        .collect();
    true
}
