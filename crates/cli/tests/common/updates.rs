//! Forgetting and adding, and whether two models are the same.

use std::collections::BTreeMap;
use std::fs;

use convextune_model::weights::read_safetensors_with_metadata;
use serde_json::Value;

use super::Place;

pub fn fit(place: &Place, folder: &str, output: &str, more: &[&str]) -> Value {
    place.fit_as_given(folder, "1e-4", output, more)
}

pub fn forget(place: &Place, model: &str, names: &[&str], output: &str) -> Value {
    fs::write(place.path("list.txt"), names.join("\n")).unwrap();
    let args = [
        "forget",
        model,
        "photos",
        "--samples=list.txt",
        "-o",
        output,
        "--json",
        "-q",
    ];
    place.json(&args)
}

pub fn add(place: &Place, model: &str, folder: &str, output: &str) -> Value {
    place.json(&["add", model, folder, "-o", output, "--json", "-q"])
}

/// The numbers of a model file by tensor, and its header.
pub fn tensors(place: &Place, model: &str) -> (BTreeMap<String, Vec<f32>>, Value) {
    let (tensors, metadata) = read_safetensors_with_metadata::<f32>(&place.path(model)).unwrap();
    let header = serde_json::from_str(&metadata["convextune"]).unwrap();
    let numbers = tensors.into_iter().map(|(name, t)| (name, t.data));
    (numbers.collect(), header)
}

pub fn scores(place: &Place, model: &str, folders: &[&str]) -> Vec<f64> {
    let told = place.json(&[&["predict", model, "--top=9", "--json"], folders].concat());
    let mut scores = Vec::new();
    for photo in told.as_array().unwrap() {
        let mut top: Vec<(&str, f64)> = photo["top"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["class"].as_str().unwrap(), s["score"].as_f64().unwrap()))
            .collect();
        top.sort_by_key(|(class, _)| *class);
        scores.extend(top.into_iter().map(|(_, score)| score));
    }
    scores
}

pub fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    difference / square(&mut b.iter().copied())
}

/// That two models are the same: fingerprint, classes, weights, kernel (of images in one order), and scores of all photos in `folders`.
pub fn same(place: &Place, one: &str, other: &str, folders: &[&str]) {
    let ((a, of_a), (b, of_b)) = (tensors(place, one), tensors(place, other));
    assert_eq!(of_a["training_set"], of_b["training_set"], "{one}");
    assert_eq!(of_a["classes"], of_b["classes"], "{one}");
    for key in [
        "train_samples",
        "train_error",
        "leave_one_out_error",
        "leave_one_of_each_out_error",
        "test_error",
    ] {
        assert_eq!(of_a["report"][key], of_b["report"][key], "{one} {key}");
    }
    let number = |key: &str| {
        let of = |header: &Value| header["report"][key].as_f64().unwrap();
        (of(&of_a) - of(&of_b)).abs() / of(&of_b)
    };
    assert!(
        number("objective") < 1e-4 && number("weight_decay") < 1e-12,
        "{one}"
    );
    assert!(a.keys().eq(b.keys()));
    let all = |t: &BTreeMap<String, Vec<f32>>, part: &str| -> Vec<f64> {
        let of_part = t.iter().filter(|(name, _)| name.starts_with(part));
        of_part
            .flat_map(|(_, data)| data.iter().map(|x| f64::from(*x)))
            .collect()
    };
    for part in ["u/", "w0/", "bias", "kernel/high"] {
        let (a, b) = (all(&a, part), all(&b, part));
        let error = if b.is_empty() {
            0.0
        } else {
            relative_error(&a, &b)
        };
        assert!(error < 1e-4, "{one} {part}: {error:e}");
    }
    let (a, b) = (scores(place, one, folders), scores(place, other, folders));
    let error = relative_error(&a, &b);
    assert!(error < 1e-4, "{one}: {error:e}");
}

pub const METHODS: [&[&str]; 3] = [
    &[],
    &["--method=lqf-fc"],
    &[
        "--head-init=random",
        "--linearize-from=layer3.2",
        "--solver=dual",
    ],
];
/// Below photos.
pub const GONE: [&str; 2] = ["train/red/0.png", "train/green/3.png"];
pub const TRAINED: [&str; 3] = [
    "photos/train/blue",
    "photos/train/green",
    "photos/train/red",
];

/// Takes files away and returns a function that puts them back.
pub fn take_away<'a>(place: &'a Place, names: &'a [&'a str]) -> impl FnOnce() + 'a {
    let away = place.path("away");
    fs::create_dir_all(&away).unwrap();
    let moved = move |i: usize| place.path(&format!("away/{i}"));
    for (i, name) in names.iter().enumerate() {
        fs::rename(place.path("photos").join(name), moved(i)).unwrap();
    }
    move || {
        for (i, name) in names.iter().enumerate() {
            fs::rename(moved(i), place.path("photos").join(name)).unwrap();
        }
    }
}
