//! The safetensors format: eight bytes of header length, a JSON header, then the raw data.
//!
//! Source: the format section of the safetensors README. The `safetensors` crate checks lengths,
//! offsets and shapes against the buffer; this module adds the check for repeated names (which a
//! JSON parser would silently merge), the conversion to the type in memory and messages with names.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use safetensors::{Dtype as Stored, SafeTensorError, SafeTensors};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::dtype::{Dtype, Element};
use super::error::WeightsError;
use super::input::{Input, tensor_entry};
use super::{Metadata, NamedTensor};

/// Bytes of the header's length.
const LENGTH: usize = 8;
/// The largest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;

/// Whether the file starts as a safetensors file does: a possible header length, then `{`.
pub(super) fn sniff(bytes: &[u8]) -> bool {
    let length = bytes
        .first_chunk::<LENGTH>()
        .map(|&length| u64::from_le_bytes(length));
    length.is_some_and(|length| length <= MAX_HEADER) && bytes.get(LENGTH) == Some(&b'{')
}

/// Where the header ends, in bytes from the file's start.
pub(super) fn header_end(bytes: &[u8]) -> u64 {
    let length = bytes.first_chunk::<LENGTH>().copied();
    length
        .map_or(0, u64::from_le_bytes)
        .saturating_add(LENGTH as u64)
}

/// Reads the header's metadata; the tensors need not be there.
///
/// # Errors
/// [`WeightsError::Corrupt`] when the header is cut off or cannot be read.
pub(super) fn metadata(input: &Input<'_>) -> Result<Metadata, WeightsError> {
    let json = usize::try_from(header_end(input.bytes))
        .ok()
        .and_then(|end| input.bytes.get(LENGTH..end))
        .ok_or_else(|| damage(input, &SafeTensorError::InvalidHeaderLength))?;
    let header: Header = serde_json::from_slice(json)
        .map_err(|error| input.corrupt("header", format!("cannot be read ({error})")))?;
    Ok(header.metadata.unwrap_or_default())
}

/// What the header says beside the tensors.
#[derive(serde::Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<Metadata>,
}

/// Reads all tensors and the header's metadata.
///
/// # Errors
/// Every content error of [`WeightsError`].
pub(super) fn read<T: Element>(
    input: &Input<'_>,
) -> Result<(BTreeMap<String, NamedTensor<T>>, Metadata), WeightsError> {
    let (length, header) =
        SafeTensors::read_metadata(input.bytes).map_err(|e| damage(input, &e))?;
    let json = input
        .bytes
        .get(LENGTH..LENGTH.saturating_add(length))
        .unwrap_or_default();
    refuse_repeated_names(input, json)?;
    let file = SafeTensors::deserialize(input.bytes).map_err(|e| damage(input, &e))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let Some(dtype) = element_type(view.dtype()) else {
            let reason = format!("its element type {:?} is not understood", view.dtype());
            return Err(input.unsupported(tensor_entry(name), reason));
        };
        let data = dtype.decode_all(view.data());
        tensors.insert(
            name.to_owned(),
            NamedTensor {
                shape: view.shape().to_vec(),
                data,
            },
        );
    }
    let metadata = header.metadata().iter().flatten();
    Ok((
        tensors,
        metadata
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    ))
}

fn element_type(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F64 => Dtype::F64,
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}

fn damage(input: &Input<'_>, error: &SafeTensorError) -> WeightsError {
    let held = input.bytes.len();
    match error {
        SafeTensorError::InvalidOffset(name) => input.corrupt(
            tensor_entry(name),
            "its data does not start where the one before it ends",
        ),
        SafeTensorError::InvalidHeaderLength => {
            input.corrupt("header", format!("is longer than the file's {held} bytes"))
        }
        SafeTensorError::MetadataIncompleteBuffer => input.corrupt(
            "header",
            format!("the tensors it lists do not fill the file's {held} bytes exactly"),
        ),
        SafeTensorError::TensorInvalidInfo => input.corrupt(
            "header",
            "a tensor's shape and element type contradict its data's length",
        ),
        other => input.corrupt("header", format!("cannot be read ({other})")),
    }
}

fn refuse_repeated_names(input: &Input<'_>, json: &[u8]) -> Result<(), WeightsError> {
    let names: Names = serde_json::from_slice(json)
        .map_err(|error| input.corrupt("header", format!("cannot be read ({error})")))?;
    match names.repeated {
        None => Ok(()),
        Some(tensor) => Err(WeightsError::Duplicate {
            path: input.path.to_path_buf(),
            tensor,
        }),
    }
}

/// The keys of a JSON object; remembers the first that repeats.
struct Names {
    repeated: Option<String>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let (mut seen, mut repeated) = (HashSet::new(), None);
                while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    if seen.contains(&name) {
                        repeated.get_or_insert(name);
                    } else {
                        seen.insert(name);
                    }
                }
                Ok(Names { repeated })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
