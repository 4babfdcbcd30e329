//! PyTorch checkpoints: from a pickle's description of tensors to their values.
//!
//! Both containers ([`zip`], [`legacy`]) hold a pickle that describes tensors (storage, offset,
//! shape, strides; all in elements) and the raw bytes of the storages. This module finds the
//! dictionary of tensors and copies each tensor out, dense and in row-major order.
//! Source: `torch/serialization.py` and `torch/_utils.py` of PyTorch.

pub(super) mod legacy;
pub(super) mod zip;

use std::collections::BTreeMap;

use super::NamedTensor;
use super::error::{WeightsError, shown};
use super::input::{Input, tensor_entry};
use super::pickle::{Halt, Heap, Id, Storage, Tensor, Value};

/// Keys under which training scripts keep the weights, in order of preference.
const STATE_DICT_KEYS: [&str; 7] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
];
/// How deep such keys may nest.
const NESTING: usize = 4;
/// PyTorch's own limit on dimensions.
const MAX_RANK: usize = 64;
/// All tensors together, as `f32`, may take this many times the file's size. Storing bytes that
/// become `f32` takes four, tying weights somewhat more; stride-0 views and many views of one
/// storage could otherwise ask for any amount.
const MAX_EXPANSION: usize = 16;

/// Turns a pickle's refusal into an error about `entry` of the file.
fn halted(input: &Input<'_>, entry: &str, halt: Halt) -> WeightsError {
    let entry = entry.to_owned();
    match halt {
        Halt::Truncated => input.corrupt(entry, "the file ends inside the pickle"),
        Halt::Bad(reason) => input.corrupt(entry, reason),
        Halt::Unsupported(reason) => input.unsupported(entry, reason),
        Halt::Forbidden(global) => {
            let (path, global) = (input.path.to_path_buf(), shown(&global));
            WeightsError::ForbiddenGlobal {
                path,
                entry,
                global,
            }
        }
    }
}

/// Reads every tensor of the state dictionary under `root`; `fetch` gives a storage's bytes.
fn read_tensors<'a>(
    input: &Input<'a>,
    heap: &Heap<'a>,
    root: Id,
    mut fetch: impl FnMut(&Storage<'a>) -> Result<&'a [u8], WeightsError>,
) -> Result<BTreeMap<String, NamedTensor>, WeightsError> {
    let mut left = input.bytes.len().saturating_mul(MAX_EXPANSION);
    let mut tensors = BTreeMap::new();
    for &(key, value) in state_dict(input, heap, root)? {
        let (Some(name), Value::Tensor(tensor)) = (heap.text(key), heap.get(value)) else {
            continue;
        };
        let elements = checked_size(input, name, tensor)?;
        let bytes = elements.checked_mul(size_of::<f32>());
        left = bytes
            .and_then(|bytes| left.checked_sub(bytes))
            .ok_or_else(|| {
                let reason = format!(
                    "with it the tensors would take over {MAX_EXPANSION} times the file's {} bytes",
                    input.bytes.len()
                );
                input.corrupt(tensor_entry(name), reason)
            })?;
        let data = if elements == 0 {
            Vec::new()
        } else {
            gather(
                tensor,
                elements,
                visible(input, name, tensor, fetch(&tensor.storage)?)?,
            )
        };
        let read = NamedTensor {
            shape: tensor.shape.clone(),
            data,
        };
        if tensors.insert(name.to_owned(), read).is_some() {
            let (path, tensor) = (input.path.to_path_buf(), name.to_owned());
            return Err(WeightsError::Duplicate { path, tensor });
        }
    }
    Ok(tensors)
}

/// Finds the dictionary of tensors: under one of the known keys, else the top level itself.
fn state_dict<'h>(
    input: &Input<'_>,
    heap: &'h Heap<'_>,
    root: Id,
) -> Result<&'h [(Id, Id)], WeightsError> {
    let no_state_dict = |found| WeightsError::NoStateDict {
        path: input.path.to_path_buf(),
        found,
    };
    let Some(mut items) = heap.dict(root) else {
        return Err(no_state_dict(vec!["no dictionary".to_owned()]));
    };
    for _ in 0..NESTING {
        let under = |wanted: &&str| {
            let entry = items
                .iter()
                .find(|&&(key, _)| heap.text(key) == Some(wanted));
            entry.and_then(|&(_, value)| heap.dict(value))
        };
        match STATE_DICT_KEYS.iter().find_map(under) {
            Some(inner) => items = inner,
            None => break,
        }
    }
    if items
        .iter()
        .any(|&(_, value)| matches!(heap.get(value), Value::Tensor(_)))
    {
        return Ok(items);
    }
    Err(no_state_dict(
        items
            .iter()
            .filter_map(|&(key, _)| heap.text(key))
            .map(shown)
            .collect(),
    ))
}

/// The number of elements, once shape and strides make sense.
fn checked_size(input: &Input<'_>, name: &str, tensor: &Tensor<'_>) -> Result<usize, WeightsError> {
    let corrupt = |reason: String| input.corrupt(tensor_entry(name), reason);
    let (shape, strides) = (&tensor.shape, &tensor.strides);
    if shape.len() != strides.len() || shape.len() > MAX_RANK {
        let (dims, steps) = (shape.len(), strides.len());
        return Err(corrupt(format!(
            "has {dims} dimensions and {steps} strides where at most {MAX_RANK} of each are possible"
        )));
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size));
    elements.ok_or_else(|| {
        corrupt(format!(
            "its shape {shape:?} has more elements than can be counted"
        ))
    })
}

/// The bytes of the storage that the tensor may see: all of it, or its view; checked against
/// what the storage says and against the last element that the tensor reaches.
fn visible<'a>(
    input: &Input<'_>,
    name: &str,
    tensor: &Tensor<'_>,
    bytes: &'a [u8],
) -> Result<&'a [u8], WeightsError> {
    let unit = tensor.dtype.size();
    let corrupt = |reason: String| input.corrupt(tensor_entry(name), reason);
    let (start, length) = match tensor.storage.view {
        None => (0, bytes.len()),
        Some((offset, length)) => (offset.saturating_mul(unit), length.saturating_mul(unit)),
    };
    let bytes = start
        .checked_add(length)
        .and_then(|end| bytes.get(start..end));
    let bytes = bytes.ok_or_else(|| corrupt("its view reaches beyond its storage".to_owned()))?;
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(tensor.offset, |at, (size, stride)| {
            at.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
        });
    match last {
        Some(last) if last < bytes.len() / unit => Ok(bytes),
        _ => {
            let (shape, strides, held) = (&tensor.shape, &tensor.strides, bytes.len() / unit);
            Err(corrupt(format!(
                "shape {shape:?} with strides {strides:?} from element {} reaches beyond the {held} \
                 elements of its storage",
                tensor.offset
            )))
        }
    }
}

/// Copies a tensor out in row-major order. `bytes` has been checked to hold all of it.
fn gather(tensor: &Tensor<'_>, elements: usize, bytes: &[u8]) -> Vec<f32> {
    let (unit, dtype) = (tensor.dtype.size(), tensor.dtype);
    let from_offset = bytes.get(tensor.offset * unit..).unwrap_or_default();
    if is_row_major(&tensor.shape, &tensor.strides) {
        return dtype.decode_all(from_offset.get(..elements * unit).unwrap_or_default());
    }
    let mut data = Vec::with_capacity(elements);
    let mut index = vec![0; tensor.shape.len()];
    // Wrapping, since a step over the end of a dimension is taken back at once.
    let mut at = 0usize;
    for _ in 0..elements {
        data.push(dtype.decode(from_offset.get(at * unit..).unwrap_or_default()) as f32);
        for dim in (0..index.len()).rev() {
            index[dim] += 1;
            at = at.wrapping_add(tensor.strides[dim]);
            if index[dim] < tensor.shape[dim] {
                break;
            }
            at = at.wrapping_sub(index[dim].wrapping_mul(tensor.strides[dim]));
            index[dim] = 0;
        }
    }
    data
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut dense = 1;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == dense;
        dense *= size;
        fits
    })
}
