//! A reader of Python pickles that builds data and never runs anything.
//!
//! A pickle (PEP 307, PEP 3154; opcodes documented in CPython's `Lib/pickletools.py`) is a
//! program for a small stack machine whose GLOBAL and REDUCE opcodes name and call any importable
//! function. This machine knows no functions: a global is looked up in a fixed table
//! ([`Global`]), a call on one of its names yields a plain value, and every other name is
//! refused.
//!
//! Values live in one arena and refer to each other by index, so neither deep nesting nor
//! self-containing dictionaries can overflow the stack. Strings are slices of the file. Every
//! opcode makes at most one value and the total of all copied references is limited to a
//! multiple of the pickle's length, so memory stays proportional to the file.

mod build;
mod global;
mod machine;
mod reader;

pub(super) use global::{Global, Rebuild};
pub(super) use machine::load;

use super::dtype::Dtype;

/// Index of a value in its [`Heap`].
pub(super) type Id = usize;

/// A storage as named by a persistent id: `('storage', class, key, location, numel, view)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    /// Which storage of the file.
    pub key: &'a str,
    /// Element type; `None` for untyped storages, which count bytes.
    pub dtype: Option<Dtype>,
    /// Number of elements of the whole storage.
    pub numel: usize,
    /// Offset and length, in elements, of a view of it (legacy files only).
    pub view: Option<(usize, usize)>,
}

/// A tensor as described by a `_rebuild_tensor*` call, its numbers not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor<'a> {
    pub storage: Storage<'a>,
    pub dtype: Dtype,
    /// All three in elements.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What a pickle can hold here.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Anything that tensors do not need: None, floats, sets, instances of inert classes.
    Opaque,
    /// An integer, or a truth value as 0 or 1.
    Int(i64),
    /// Integers of more than eight bytes, as stored (such as the legacy magic number).
    Long(&'a [u8]),
    Str(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage<'a>>),
    Tensor(Box<Tensor<'a>>),
}

/// All values of one pickle.
pub(super) struct Heap<'a> {
    values: Vec<Value<'a>>,
}

impl<'a> Heap<'a> {
    /// The value at `id`; ids come from the same heap, a stray one reads as opaque.
    pub fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id).unwrap_or(&Value::Opaque)
    }

    pub fn text(&self, id: Id) -> Option<&'a str> {
        if let Value::Str(text) = self.get(id) {
            Some(text)
        } else {
            None
        }
    }

    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Value::Dict(items) = self.get(id) {
            Some(items)
        } else {
            None
        }
    }

    /// Tuples and lists alike.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A non-negative integer.
    pub fn count(&self, id: Id) -> Option<usize> {
        if let Value::Int(value) = self.get(id) {
            usize::try_from(*value).ok()
        } else {
            None
        }
    }

    /// A tuple or list of non-negative integers.
    pub fn counts(&self, id: Id) -> Option<Vec<usize>> {
        self.sequence(id)?
            .iter()
            .map(|&item| self.count(item))
            .collect()
    }
}

/// A pickle that was read to its STOP opcode.
pub(super) struct Loaded<'a> {
    pub heap: Heap<'a>,
    pub root: Id,
    /// Offset in the file just behind STOP.
    pub end: usize,
    /// Every storage that the pickle names, in order.
    pub storages: Vec<Storage<'a>>,
}

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Halt {
    /// The bytes end inside the pickle.
    Truncated,
    /// The pickle contradicts itself.
    Bad(String),
    /// A well-formed pickle that uses an opcode or a type that is not understood.
    Unsupported(String),
    /// A global that is not in the table.
    Forbidden(String),
}

impl Halt {
    pub fn bad(reason: &str) -> Self {
        Self::Bad(reason.to_owned())
    }
}
