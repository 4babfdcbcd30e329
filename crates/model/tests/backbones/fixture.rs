//! The recorded passes in `dev/fixtures`, and the weights and inputs they were recorded with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use convextune_model::tensor::{Shape, Tensor};
use convextune_model::weights::{Format, Metadata, NamedTensor, WeightFile};
use convextune_testkit::Rng;
use serde_json::Value;

/// One recorded forward pass.
pub struct Fixture {
    pub name: String,
    json: Value,
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let json = fixture_json(&format!("forward/{name}.json"));
        Self {
            name: name.to_owned(),
            json,
        }
    }

    /// Rows and columns of the input.
    pub fn size(&self) -> [usize; 2] {
        ["height", "width"].map(|key| count(&self.json[key]))
    }

    /// The two images, NHWC.
    pub fn images(&self) -> Tensor<f32> {
        let [h, w] = self.size();
        images(2, h, w)
    }

    /// All outputs of the first image and the beginning of those of the second.
    pub fn outputs(&self) -> [Vec<f64>; 2] {
        ["output_first", "output_second"].map(|key| numbers(&self.json[key]))
    }

    /// Names and shapes of all tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let entries = self.json["tensors"].as_object().unwrap().iter();
        let dims = |v: &Value| v.as_array().unwrap().iter().map(count).collect();
        entries
            .map(|(name, shape)| (name.clone(), dims(shape)))
            .collect()
    }

    /// Names of modules and the shapes of their outputs, NCHW.
    pub fn activations(&self) -> Vec<(String, Vec<usize>)> {
        let entries = self.json["activations"].as_object().unwrap().iter();
        let dims = |v: &Value| v["shape"].as_array().unwrap().iter().map(count).collect();
        entries
            .map(|(name, about)| (name.clone(), dims(about)))
            .collect()
    }

    /// The generated weights.
    pub fn weights(&self) -> WeightFile {
        generated(&self.tensors())
    }
}

/// A JSON file of `dev/fixtures`.
pub fn fixture_json(path: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/fixtures");
    let text = std::fs::read_to_string(root.join(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

/// `n` images of the stream `input`, which is in NCHW order.
pub fn images(n: usize, h: usize, w: usize) -> Tensor<f32> {
    let mut rng = Rng::new(fnv1a("input"));
    let values: Vec<f32> = (0..n * 3 * h * w)
        .map(|_| (1.5 * rng.symmetric()) as f32)
        .collect();
    let mut images = Tensor::zeros(Shape::new(n, h, w, 3));
    for (at, value) in images.data_mut().iter_mut().enumerate() {
        let (pixel, c) = (at / 3, at % 3);
        let (image, pixel) = (pixel / (h * w), pixel % (h * w));
        *value = values[(image * 3 + c) * h * w + pixel];
    }
    images
}

/// A weight file whose tensors are generated from their names.
pub fn generated(tensors: &[(String, Vec<usize>)]) -> WeightFile {
    let has = |name: &str| tensors.iter().any(|(n, _)| n == name);
    let mut all = BTreeMap::new();
    for (name, shape) in tensors {
        if name.ends_with("num_batches_tracked") {
            all.insert(
                name.clone(),
                NamedTensor {
                    shape: vec![],
                    data: vec![0.0],
                },
            );
            continue;
        }
        let (prefix, kind) = name.rsplit_once('.').unwrap();
        let normalises = has(&format!("{prefix}.running_mean"));
        let fan_in: usize = shape[1..].iter().product();
        let value = |v: f64| match kind {
            "running_var" => 1.0 + 0.3 * v,
            "running_mean" => 0.1 * v,
            "weight" if normalises => 1.0 + 0.2 * v,
            "bias" if normalises => 0.1 * v,
            "bias" => 0.05 * v,
            _ => v * (3.0_f64.sqrt() * (2.0 / fan_in as f64).sqrt()),
        };
        let mut rng = Rng::new(fnv1a(name));
        let data = (0..shape.iter().product())
            .map(|_| value(rng.symmetric()) as f32)
            .collect();
        all.insert(
            name.clone(),
            NamedTensor {
                shape: shape.clone(),
                data,
            },
        );
    }
    WeightFile {
        path: PathBuf::from("generated.safetensors"),
        format: Format::Safetensors,
        tensors: all,
        metadata: Metadata::new(),
    }
}

/// The 64-bit FNV-1a hash.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A real weight file, or `None` and a line about it.
pub fn real_weights(file: &str) -> Option<WeightFile> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("CONVEXTUNE_DATA").map_or(beside, PathBuf::from);
    let path = data.join("weights").join(file);
    if path.is_file() {
        return Some(WeightFile::read(&path).unwrap());
    }
    println!(
        "skipped: no {}; set CONVEXTUNE_DATA to the folder with weights/",
        path.display()
    );
    None
}

#[test]
fn the_generator_is_the_documented_one() {
    assert_eq!(fnv1a("input"), 0x1ebb_ae8f_5810_b65b);
    assert_eq!(fnv1a("conv1.weight"), 0x69a2_9a2c_ee47_d254);
    let file = generated(&[("conv1.weight".to_owned(), vec![64, 3, 7, 7])]);
    let first = &file.tensors["conv1.weight"].data[..2];
    assert!((first[0] - 0.018_213_04).abs() < 1e-8 && (first[1] - 0.099_060_3).abs() < 1e-7);
}
