//! A small pickle writer and the containers around it, so that test files are built from their
//! parts instead of being kept as binaries.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::weights::{Metadata, NamedTensor, WeightFile, WeightsError};

/// Bytes of a pickle under construction.
#[derive(Clone, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn text(self, text: &str) -> Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    /// LONG1 with as many bytes as an `i64` has.
    pub fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    pub fn ints(self, values: &[i64]) -> Self {
        values
            .iter()
            .fold(self.raw(b"("), |pickle, &value| pickle.int(value))
            .raw(b"t")
    }

    /// A reference to a storage; `legacy` has a sixth field.
    pub fn storage(self, class: &str, key: &str, numel: i64, legacy: bool) -> Self {
        let tuple = self
            .raw(b"(")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu");
        let tuple = tuple.int(numel);
        if legacy {
            tuple.raw(b"NtQ")
        } else {
            tuple.raw(b"tQ")
        }
    }

    pub fn tensor(self, storage: &Storage, view: &View, legacy: bool) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage(storage.class, storage.key, storage.numel, legacy)
            .int(view.offset)
            .ints(view.shape)
            .ints(view.strides)
            .raw(b"\x89")
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    pub fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

pub struct Storage<'a> {
    pub class: &'a str,
    pub key: &'a str,
    pub numel: i64,
}

pub struct View<'a> {
    pub offset: i64,
    pub shape: &'a [i64],
    pub strides: &'a [i64],
}

/// A contiguous vector over a whole `FloatStorage`.
pub fn vector(key: &str, numel: i64) -> (Storage<'_>, i64) {
    (
        Storage {
            class: "FloatStorage",
            key,
            numel,
        },
        numel,
    )
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// An `OrderedDict` of the given entries, each a name and the pickle of its value.
pub fn ordered_dict(entries: &[(&str, Pickle)]) -> Pickle {
    let start = Pickle::default()
        .global("collections", "OrderedDict")
        .raw(b")R(");
    let put = |dict: Pickle, (name, value): &(&str, Pickle)| dict.text(name).raw(&value.0);
    entries.iter().fold(start, put).raw(b"u")
}

/// A one-dimensional `f32` tensor over its own storage.
pub fn float_vector(key: &str, numel: i64, legacy: bool) -> Pickle {
    let (storage, size) = vector(key, numel);
    let view = View {
        offset: 0,
        shape: &[size],
        strides: &[1],
    };
    Pickle::default().tensor(&storage, &view, legacy)
}

/// A zip checkpoint of a pickle body (without PROTO and STOP) and its storages.
pub fn torch_zip(body: &Pickle, storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pickle = Pickle::new().raw(&body.0).stop();
    let mut entries = vec![("net/data.pkl".to_owned(), pickle)];
    entries.push(("net/byteorder".to_owned(), b"little".to_vec()));
    let data = |(key, bytes): &(&str, Vec<u8>)| (format!("net/data/{key}"), bytes.clone());
    entries.extend(storages.iter().map(data));
    zip_of(&entries, CompressionMethod::Stored)
}

pub fn zip_of(entries: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A legacy checkpoint; each storage is a key, its number of elements and its bytes.
pub fn torch_legacy(body: &Pickle, storages: &[(&str, i64, Vec<u8>)]) -> Vec<u8> {
    let mut file = legacy_start();
    file.extend(Pickle::new().raw(&body.0).stop());
    let keys = storages
        .iter()
        .fold(Pickle::new().raw(b"]("), |keys, (key, ..)| keys.text(key));
    file.extend(keys.raw(b"e").stop());
    for (_, numel, bytes) in storages {
        file.extend(numel.to_le_bytes());
        file.extend(bytes);
    }
    file
}

pub fn legacy_start() -> Vec<u8> {
    let magic = [
        0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
    ];
    let mut file = Pickle::new().raw(&magic).stop();
    file.extend(Pickle::new().raw(&[b'M', 0xe9, 0x03]).stop());
    file.extend(
        Pickle::new()
            .raw(b"}(")
            .text("little_endian")
            .raw(b"\x88u")
            .stop(),
    );
    file
}

/// A safetensors file from a JSON header as written, and data.
pub fn safetensors_of(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// Small valid files of all three formats, each with the tensors of [`sample_tensors`].
pub fn samples() -> [Vec<u8>; 3] {
    let (a, b) = (f32_bytes(&[1.0, -2.0, 3.5]), f32_bytes(&[0.25, 8.0]));
    let body = |legacy| {
        ordered_dict(&[
            ("a", float_vector("0", 3, legacy)),
            ("b", float_vector("1", 2, legacy)),
        ])
    };
    let header = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}"#;
    [
        safetensors_of(header, &[a.as_slice(), b.as_slice()].concat()),
        torch_zip(&body(false), &[("0", a.clone()), ("1", b.clone())]),
        torch_legacy(&body(true), &[("1", 2, b), ("0", 3, a)]),
    ]
}

pub fn sample_tensors() -> BTreeMap<String, NamedTensor> {
    let tensor = |data: &[f32]| NamedTensor {
        shape: vec![data.len()],
        data: data.to_vec(),
    };
    let tensors = [
        ("a", tensor(&[1.0, -2.0, 3.5])),
        ("b", tensor(&[0.25, 8.0])),
    ];
    tensors
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .collect()
}

/// Reads bytes as [`WeightFile::read`] would, through a real file with a misleading extension.
pub fn read(bytes: &[u8]) -> Result<WeightFile, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.jpg");
    std::fs::write(&path, bytes).unwrap();
    let result = WeightFile::read(&path);
    if let Err(error) = &result {
        assert_sentence(error, &path);
    }
    result
}

/// Reads bytes that must be refused, and gives the message.
pub fn refusal(bytes: &[u8]) -> String {
    read(bytes).expect_err("must be refused").to_string()
}

/// Every message is one line that starts with the path.
fn assert_sentence(error: &WeightsError, path: &Path) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
    assert!(!text.contains('\n') && text.len() < 2000, "{text}");
}

pub fn no_metadata() -> Metadata {
    Metadata::new()
}
