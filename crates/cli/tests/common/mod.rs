//! What the tests of the command share: tiny data sets, generated weights, and running it.

// Every test file uses its own part of this.
#![allow(dead_code, clippy::unwrap_used)]

pub mod cases;
pub mod page;
pub mod pickle;
pub mod tables;
pub mod updates;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use convextune_model::weights::{NamedTensor, write_safetensors};
use image::{Rgb, RgbImage};
use serde_json::Value;

/// A folder of its own, with a small backbone's weights and some photos.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    /// `weights.safetensors` (cifar-resnet20) and `photos/{train,test}/{blue,green,red}/`.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        write_weights(&place.path("weights.safetensors"), 3);
        place.photos("photos/train", &["blue", "green", "red"], 6);
        place.photos("photos/test", &["blue", "green", "red"], 3);
        place
    }

    /// A folder with nothing in it.
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `folder/<class>/<i>.png` for every class.
    pub fn photos(&self, folder: &str, classes: &[&str], each: u32) {
        for (c, class) in classes.iter().enumerate() {
            fs::create_dir_all(self.path(folder).join(class)).unwrap();
            for i in 0..each {
                let seed = 1000 * c as u32 + i + 100 * folder.len() as u32;
                let path = self.path(folder).join(class).join(format!("{i}.png"));
                picture(c, seed).save(path).unwrap();
            }
        }
    }

    /// Runs the command in this folder, with a cache of its own.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convextune"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("CONVEXTUNE_CACHE", self.path("cache"))
            .env("RAYON_NUM_THREADS", "2")
            .env("HF_ENDPOINT", "http://127.0.0.1:9");
        command
    }

    /// Standard output as JSON of a run that must succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Fits `folder` to the solver's tolerance with everything given that leave-one-out would otherwise choose.
    pub fn fit_as_given(
        &self,
        folder: &str,
        tolerance: &str,
        output: &str,
        more: &[&str],
    ) -> Value {
        let tolerance = format!("--solver-tolerance={tolerance}");
        let args = [
            "fit",
            folder,
            "--weights=weights.safetensors",
            "--lambda-total=0.02",
            "--backbone-scale=0.5",
            &tolerance,
            "--json",
            "-q",
            "-o",
            output,
        ];
        self.json(&[&args[..], more].concat())
    }

    /// Fits `photos` with the defaults, as `m.safetensors`.
    pub fn fit_by_default(&self, more: &[&str]) -> Value {
        let args = [
            "fit",
            "photos",
            "--weights=weights.safetensors",
            "-o",
            "m.safetensors",
            "--json",
        ];
        self.json(&[&args[..], more].concat())
    }

    /// Names in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        listing(self.dir.path())
    }
}

pub fn listing(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    array(value).iter().map(|x| x.as_f64().unwrap()).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Numbers that are the same on every machine.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678)
    }

    /// Between -1 and 1.
    pub fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / 8_388_608.0 - 1.0
    }
}

/// A noisy square with more of one colour.
pub fn picture(class: usize, seed: u32) -> RgbImage {
    let mut numbers = Numbers::new(seed);
    RgbImage::from_fn(32, 32, |_, _| {
        let mut pixel = [0; 3];
        for (channel, value) in pixel.iter_mut().enumerate() {
            let level = if channel == 2 - class % 3 {
                150.0
            } else {
                90.0
            };
            *value = (level + 80.0 * numbers.next()) as u8;
        }
        Rgb(pixel)
    })
}

/// Generated tensors of the CIFAR ResNet with `blocks` blocks a stage.
pub fn weights(blocks: usize) -> BTreeMap<String, NamedTensor> {
    let mut numbers = Numbers::new(7);
    let mut tensors = BTreeMap::new();
    let mut conv = |name: &str, bn: &str, cin: usize, cout: usize| {
        let scale = (6.0 / (9 * cin) as f32).sqrt();
        let data = (0..cout * cin * 9)
            .map(|_| scale * numbers.next())
            .collect();
        let shape = vec![cout, cin, 3, 3];
        tensors.insert(format!("{name}.weight"), NamedTensor { shape, data });
        for (part, value) in [
            ("weight", 0.8),
            ("bias", 0.05),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ] {
            let data = vec![value; cout];
            tensors.insert(
                format!("{bn}.{part}"),
                NamedTensor {
                    shape: vec![cout],
                    data,
                },
            );
        }
    };
    conv("conv1", "bn1", 3, 16);
    let mut cin = 16;
    for (stage, cout) in [(1, 16), (2, 32), (3, 64)] {
        for i in 0..blocks {
            let name = |part: &str| format!("layer{stage}.{i}.{part}");
            conv(&name("conv1"), &name("bn1"), cin, cout);
            conv(&name("conv2"), &name("bn2"), cout, cout);
            cin = cout;
        }
    }
    tensors
}

pub fn write_weights(path: &Path, blocks: usize) {
    write_safetensors(path, &weights(blocks), &BTreeMap::new()).unwrap();
}
