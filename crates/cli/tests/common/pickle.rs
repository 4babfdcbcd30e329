//! Just enough of a pickle writer to build small PyTorch files of both kinds.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Bytes of a pickle under construction.
#[derive(Clone, Default)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.raw(b"X")
            .raw(&(text.len() as u32).to_le_bytes())
            .raw(text.as_bytes())
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    fn whole(self) -> Vec<u8> {
        Self(vec![0x80, 2]).raw(&self.0).raw(b".").0
    }
}

/// A dictionary with one vector of `n` floats under the name of ResNet's first layer.
pub fn state_dict(n: i64, legacy: bool) -> Pickle {
    let storage = Pickle::default()
        .raw(b"(")
        .text("storage")
        .global("torch", "FloatStorage")
        .text("0")
        .text("cpu")
        .int(n)
        .raw(if legacy { b"NtQ" } else { b"tQ" });
    Pickle::default()
        .global("collections", "OrderedDict")
        .raw(b")R(")
        .text("conv1.weight")
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"(")
        .raw(&storage.0)
        .int(0)
        .raw(b"(")
        .int(n)
        .raw(b"t(")
        .int(1)
        .raw(b"t\x89")
        .global("collections", "OrderedDict")
        .raw(b")RtRu")
}

/// A pickle that would run a command if it were executed.
pub fn attack() -> Pickle {
    Pickle::default()
        .global("os", "system")
        .raw(b"(")
        .text("touch attacked")
        .raw(b"tR")
}

/// A file as PyTorch 1.6 and later write it.
pub fn torch_zip(body: Pickle, data: &[f32]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("net/data.pkl", body.whole()), ("net/data/0", floats(data))] {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A file as PyTorch before 1.6 wrote it.
pub fn torch_legacy(body: Pickle, data: &[f32]) -> Vec<u8> {
    let magic = [
        0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
    ];
    let system = Pickle::default()
        .raw(b"}(")
        .text("little_endian")
        .raw(b"\x88u");
    let parts = [
        Pickle(magic.to_vec()),
        Pickle(vec![b'M', 0xe9, 0x03]),
        system,
        body,
        Pickle::default().raw(b"](").text("0").raw(b"e"),
    ];
    let mut file: Vec<u8> = parts.into_iter().flat_map(Pickle::whole).collect();
    file.extend((data.len() as u64).to_le_bytes());
    file.extend(floats(data));
    file
}

fn floats(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|value| value.to_le_bytes()).collect()
}
