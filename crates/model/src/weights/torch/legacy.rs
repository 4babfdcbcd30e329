//! PyTorch's legacy container (`torch.save` before 1.6, or with
//! `_use_new_zipfile_serialization=False`).
//!
//! Five pickles in a row and then raw bytes: the magic number 0x1950a86a20f9469cfc6c, the
//! protocol version 1001, a dictionary that tells the byte order, the object itself, the list of
//! storage keys; then for each key, in that order, the number of elements (`i64`) and the
//! elements. Source: `_legacy_save` and `_legacy_load` in `torch/serialization.py` of PyTorch.

use std::collections::{BTreeMap, HashMap};

use super::super::NamedTensor;
use super::super::dtype::Dtype;
use super::super::error::{WeightsError, shown};
use super::super::input::Input;
use super::super::pickle::{self, Loaded, Storage, Value};
use super::{halted, read_tensors};

/// The magic number as the LONG1 opcode stores it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL_VERSION: usize = 1001;
/// The magic number stands this near the start, behind PROTO and maybe FRAME.
const MAGIC_WITHIN: usize = 32;

/// Whether the file starts as a legacy checkpoint does.
pub(in super::super) fn sniff(bytes: &[u8]) -> bool {
    let start = bytes.get(..MAGIC_WITHIN).unwrap_or(bytes);
    start.first() == Some(&0x80) && start.windows(MAGIC.len()).any(|window| window == MAGIC)
}

/// Reads all tensors of the checkpoint.
///
/// # Errors
/// Every content error of [`WeightsError`].
pub(in super::super) fn read(
    input: &Input<'_>,
) -> Result<BTreeMap<String, NamedTensor>, WeightsError> {
    let at = header(input)?;
    let object = load(input, "pickled object", at)?;
    let keys = load(input, "list of storages", object.end)?;
    let storages = locate(input, &object.storages, &keys)?;
    read_tensors(input, &object.heap, object.root, |storage| {
        let entry = || format!("storage `{}`", shown(storage.key));
        let found = storages.get(storage.key).copied();
        found.ok_or_else(|| input.corrupt(entry(), "is used by a tensor but not in the file"))
    })
}

fn load<'a>(input: &Input<'a>, entry: &str, at: usize) -> Result<Loaded<'a>, WeightsError> {
    pickle::load(input.bytes, at).map_err(|halt| halted(input, entry, halt))
}

/// Checks magic number, version and byte order; tells where the object starts.
fn header(input: &Input<'_>) -> Result<usize, WeightsError> {
    let entry = "legacy header";
    let magic = load(input, entry, 0)?;
    if !matches!(magic.heap.get(magic.root), Value::Long(bytes) if *bytes == MAGIC) {
        return Err(input.corrupt(entry, "the magic number is wrong"));
    }
    let version = load(input, entry, magic.end)?;
    if version.heap.count(version.root) != Some(PROTOCOL_VERSION) {
        return Err(input.unsupported(
            entry,
            format!("the protocol version is not {PROTOCOL_VERSION}"),
        ));
    }
    let system = load(input, entry, version.end)?;
    let little = system.heap.dict(system.root).and_then(|items| {
        let found = items
            .iter()
            .find(|&&(key, _)| system.heap.text(key) == Some("little_endian"));
        found.and_then(|&(_, value)| system.heap.count(value))
    });
    if little != Some(1) {
        return Err(input.unsupported(entry, "does not say that its numbers are little-endian"));
    }
    Ok(system.end)
}

/// Walks the raw part: where each storage's bytes lie.
fn locate<'a>(
    input: &Input<'a>,
    named: &[Storage<'a>],
    keys: &Loaded<'a>,
) -> Result<HashMap<&'a str, &'a [u8]>, WeightsError> {
    let declared: HashMap<&str, &Storage<'_>> = named.iter().map(|s| (s.key, s)).collect();
    let list = "list of storages";
    let order = keys.heap.sequence(keys.root);
    let order = order.ok_or_else(|| input.corrupt(list, "is no list"))?;
    let mut rest = input.bytes.get(keys.end..).unwrap_or_default();
    let mut storages = HashMap::new();
    for &key in order {
        let key = keys
            .heap
            .text(key)
            .ok_or_else(|| input.corrupt(list, "holds something but names"))?;
        let corrupt = |reason| input.corrupt(format!("storage `{}`", shown(key)), reason);
        let Some(storage) = declared.get(key) else {
            return Err(corrupt(
                "is in the file but not named by the pickle".to_owned(),
            ));
        };
        let Some((count, body)) = rest.split_first_chunk() else {
            return Err(corrupt("the file ends before it".to_owned()));
        };
        let (count, unit) = (
            i64::from_le_bytes(*count),
            storage.dtype.map_or(1, Dtype::size),
        );
        if usize::try_from(count) != Ok(storage.numel) {
            let numel = storage.numel;
            return Err(corrupt(format!(
                "holds {count} elements where the pickle says {numel}"
            )));
        }
        let split = storage
            .numel
            .checked_mul(unit)
            .and_then(|size| body.split_at_checked(size));
        let Some((bytes, behind)) = split else {
            let (numel, held) = (storage.numel, body.len());
            return Err(corrupt(format!(
                "needs {numel} elements of {unit} bytes, the file has {held} bytes left"
            )));
        };
        if storages.insert(key, bytes).is_some() {
            return Err(corrupt("is listed twice".to_owned()));
        }
        rest = behind;
    }
    if !rest.is_empty() {
        return Err(input.corrupt("end of file", format!("{} bytes too many", rest.len())));
    }
    Ok(storages)
}
