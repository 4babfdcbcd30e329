//! PyTorch's zip container (`torch.save` since 1.6).
//!
//! A zip archive with one folder: `<folder>/data.pkl` holds the pickle, `<folder>/data/<key>` the
//! raw bytes of each storage, `<folder>/byteorder` (since 2.1) the word "little" or "big".
//! Entries are stored, never compressed, and their CRC-32 is checked; so nothing unpacks to more
//! than the file's own size. Source: `_open_zipfile_writer` and `_save` in
//! `torch/serialization.py`, `caffe2/serialize/inline_container.h` of PyTorch.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor};

use zip::{CompressionMethod, ZipArchive};

use super::super::error::{WeightsError, shown};
use super::super::input::Input;
use super::super::pickle::{self, Storage};
use super::super::{NamedTensor, dtype};
use super::{halted, read_tensors};

/// Reads all tensors of the checkpoint.
///
/// # Errors
/// Every content error of [`WeightsError`].
pub(in super::super) fn read(
    input: &Input<'_>,
) -> Result<BTreeMap<String, NamedTensor>, WeightsError> {
    let mut archive = Archive::open(*input)?;
    let pickle_name = archive.pickle_name()?;
    let folder = pickle_name
        .strip_suffix("data.pkl")
        .unwrap_or_default()
        .to_owned();
    archive.refuse_big_endian(&folder)?;
    let bytes = archive.entry(&pickle_name)?;
    let loaded = pickle::load(bytes, 0).map_err(|halt| halted(input, &pickle_name, halt))?;
    let mut fetched = HashMap::new();
    read_tensors(input, &loaded.heap, loaded.root, |storage| {
        if let Some(&bytes) = fetched.get(storage.key) {
            return sized(input, &folder, storage, bytes);
        }
        let bytes = archive.entry(&format!("{folder}data/{}", storage.key))?;
        fetched.insert(storage.key, bytes);
        sized(input, &folder, storage, bytes)
    })
}

/// The storage's bytes, if there are as many as the pickle says.
fn sized<'a>(
    input: &Input<'a>,
    folder: &str,
    storage: &Storage<'_>,
    bytes: &'a [u8],
) -> Result<&'a [u8], WeightsError> {
    let unit = storage.dtype.map_or(1, dtype::Dtype::size);
    if storage.numel.checked_mul(unit) == Some(bytes.len()) {
        return Ok(bytes);
    }
    let entry = format!("zip entry `{}data/{}`", shown(folder), shown(storage.key));
    let (numel, held) = (storage.numel, bytes.len());
    let reason =
        format!("the pickle says {numel} elements of {unit} bytes, the entry holds {held} bytes");
    Err(input.corrupt(entry, reason))
}

struct Archive<'a> {
    input: Input<'a>,
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that entries may still claim: stored entries cannot hold more than the file.
    left: u64,
}

impl<'a> Archive<'a> {
    fn open(input: Input<'a>) -> Result<Self, WeightsError> {
        let zip = ZipArchive::new(Cursor::new(input.bytes))
            .map_err(|error| input.corrupt("zip directory", format!("cannot be read ({error})")))?;
        if zip.has_duplicate_names() {
            return Err(input.corrupt("zip directory", "two entries have the same name"));
        }
        Ok(Self {
            input,
            zip,
            left: input.bytes.len() as u64,
        })
    }

    /// The one `data.pkl`, in whatever folder.
    fn pickle_name(&self) -> Result<String, WeightsError> {
        let is_pickle = |name: &[u8]| name == b"data.pkl" || name.ends_with(b"/data.pkl");
        let found: Vec<_> = self
            .zip
            .file_names_raw()
            .filter(|name| is_pickle(name))
            .collect();
        let reason = match found.as_slice() {
            [name] => match std::str::from_utf8(name) {
                Ok(name) => return Ok(name.to_owned()),
                Err(_) => "the name of `data.pkl`'s folder is not valid UTF-8",
            },
            [] => "there is no `data.pkl`, so this is a zip file but no PyTorch checkpoint",
            _ => "there is more than one `data.pkl`",
        };
        Err(self.input.unsupported("zip directory", reason))
    }

    fn refuse_big_endian(&mut self, folder: &str) -> Result<(), WeightsError> {
        let name = format!("{folder}byteorder");
        if self.zip.index_for_name(&name).is_none() || self.entry(&name)? == b"little" {
            return Ok(());
        }
        Err(self
            .input
            .unsupported(format!("zip entry `{}`", shown(&name)), "is not `little`"))
    }

    /// The bytes of a stored entry, checksum verified, as a slice of the file.
    fn entry(&mut self, name: &str) -> Result<&'a [u8], WeightsError> {
        let input = self.input;
        let entry = || format!("zip entry `{}`", shown(name));
        let corrupt = |error: &dyn std::fmt::Display| {
            input.corrupt(entry(), format!("cannot be read ({error})"))
        };
        let mut file = self.zip.by_name(name).map_err(|error| corrupt(&error))?;
        if file.compression() != CompressionMethod::Stored || file.encrypted() {
            return Err(input.unsupported(
                entry(),
                "is compressed or encrypted, which torch.save never does",
            ));
        }
        let (start, size) = (file.data_start(), file.compressed_size());
        let slice = start.and_then(|start| {
            let (start, end) = (
                usize::try_from(start).ok()?,
                usize::try_from(start.checked_add(size)?).ok()?,
            );
            input.bytes.get(start..end)
        });
        let slice =
            slice.ok_or_else(|| input.corrupt(entry(), "reaches beyond the end of the file"))?;
        let left = self.left.checked_sub(size).filter(|_| file.size() == size);
        self.left = left.ok_or_else(|| {
            input.corrupt(
                entry(),
                "its size contradicts the file's (overlapping entries?)",
            )
        })?;
        io::copy(&mut file, &mut io::sink()).map_err(|error| corrupt(&error))?;
        Ok(slice)
    }
}
