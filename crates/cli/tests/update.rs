//! `forget` and `add` from end to end: against true fits, many in a row, and with what cannot be done.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::cases::{case, check};
use common::{Place, picture, text};
use convextune_model::weights::read_safetensors_with_metadata;
use serde_json::Value;

fn fit(place: &Place, folder: &str, output: &str, more: &[&str]) -> Value {
    place.fit_as_given(folder, "1e-4", output, more)
}

fn forget(place: &Place, model: &str, names: &[&str], output: &str) -> Value {
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

fn add(place: &Place, model: &str, folder: &str, output: &str) -> Value {
    place.json(&["add", model, folder, "-o", output, "--json", "-q"])
}

/// The numbers of a model file by tensor, and its header.
fn tensors(place: &Place, model: &str) -> (BTreeMap<String, Vec<f32>>, Value) {
    let (tensors, metadata) = read_safetensors_with_metadata::<f32>(&place.path(model)).unwrap();
    let header = serde_json::from_str(&metadata["convextune"]).unwrap();
    let numbers = tensors.into_iter().map(|(name, t)| (name, t.data));
    (numbers.collect(), header)
}

fn scores(place: &Place, model: &str, folders: &[&str]) -> Vec<f64> {
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

fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    difference / square(&mut b.iter().copied())
}

/// That two models are the same: fingerprint, classes, weights, and scores of all photos in `folders`.
fn same(place: &Place, one: &str, other: &str, folders: &[&str]) {
    let ((a, of_a), (b, of_b)) = (tensors(place, one), tensors(place, other));
    assert_eq!(of_a["training_set"], of_b["training_set"], "{one}");
    assert_eq!(of_a["classes"], of_b["classes"], "{one}");
    for key in [
        "train_samples",
        "train_error",
        "leave_one_out_error",
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
    for part in ["u/", "w0/", "bias"] {
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

const METHODS: [&[&str]; 3] = [
    &[],
    &["--method=lqf-fc"],
    &[
        "--head-init=random",
        "--linearize-from=layer3.2",
        "--solver=dual",
    ],
];
/// Below photos.
const GONE: [&str; 2] = ["train/red/0.png", "train/green/3.png"];
const TRAINED: [&str; 3] = [
    "photos/train/blue",
    "photos/train/green",
    "photos/train/red",
];

/// Takes files away and returns a function that puts them back.
fn take_away<'a>(place: &'a Place, names: &'a [&'a str]) -> impl FnOnce() + 'a {
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

/// The model and its outputs, also on what was forgotten, are those of a fit that has never seen it;
/// and it finds its training images with the forgotten ones there and gone.
#[test]
fn a_model_that_forgot_is_one_that_never_saw() {
    let place = Place::new();
    let photos = [&TRAINED[..], &["photos/test/red"]].concat();
    for more in METHODS {
        fit(&place, "photos", "m.safetensors", more);
        let told = forget(&place, "m.safetensors", &GONE, "smaller.safetensors");
        assert_eq!(
            (&told["what"], &told["samples"]),
            (&"forgotten".into(), &2.into())
        );
        assert_eq!(told["certified"], true);
        assert_eq!(told["prior_chosen_before"], false);
        assert_eq!(
            (&told["train_samples"], &told["test_samples"]),
            (&16.into(), &9.into())
        );
        assert!(told["relative_gradient_norm"].as_f64().unwrap() < 1e-5);
        assert!(told["passes"].as_f64().unwrap() > 4.0 && told["vjps"].as_u64().unwrap() > 2);
        let ranked = [
            "rank",
            "smaller.safetensors",
            "photos",
            "--by=mislabel",
            "--json",
        ];
        let before = place.json(&ranked);
        let back = take_away(&place, &GONE);
        fit(&place, "photos", "without.safetensors", more);
        assert_eq!(place.json(&ranked), before);
        back();
        same(
            &place,
            "smaller.safetensors",
            "without.safetensors",
            &photos,
        );
        let gone = GONE.map(|name| format!("photos/{name}"));
        let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
        let moved = relative_error(
            &scores(&place, "m.safetensors", &gone),
            &scores(&place, "smaller.safetensors", &gone),
        );
        assert!(moved > 1e-3, "nothing was forgotten: {moved:e}");
    }
    let shown = text(&place.run(&["info", "smaller.safetensors"]).stdout);
    assert!(
        shown.contains("forgotten") && shown.contains("2 images"),
        "{shown}"
    );
}

/// Hashes as other programs compute them, names only when asked for, one removal after the other.
#[test]
fn the_manifest_says_what_was_removed() {
    let place = Place::new();
    fit(&place, "photos", "m.safetensors", &["--method=lqf-fc"]);
    let told = forget(&place, "m.safetensors", &GONE[..1], "m.safetensors");
    assert_eq!(told["manifest"], "m.safetensors.removed.json");
    let read = || -> Value {
        let text = fs::read_to_string(place.path("m.safetensors.removed.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let removal = &read()["removals"][0];
    let hash = std::process::Command::new("sha256sum")
        .arg(place.path("photos").join(GONE[0]))
        .output();
    if let Ok(hash) = hash {
        assert_eq!(removal["sha256"][0], text(&hash.stdout)[..64]);
    }
    assert_eq!(
        (&removal["count"], &removal["certified"]),
        (&1.into(), &true.into())
    );
    assert_eq!(removal["training_set"], told["training_set"]);
    assert!(removal.get("names").is_none());
    let model = fs::read(place.path("m.safetensors")).unwrap();
    let hash = removal["sha256"][0].as_str().unwrap().as_bytes();
    assert!(
        !model.windows(hash.len()).any(|w| w == hash),
        "the model remembers a hash"
    );

    fs::write(place.path("list.txt"), format!("# more\n\n./{}\n", GONE[1])).unwrap();
    let args = [
        "forget",
        "m.safetensors",
        "photos",
        "--samples=list.txt",
        "-o",
    ];
    let output = place.run(&[&args[..], &["m.safetensors", "--names"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("certified") && table.contains("removed.json"),
        "{table}"
    );
    let manifest = read();
    assert_eq!(manifest["removals"].as_array().unwrap().len(), 2);
    assert_eq!(manifest["removals"][1]["names"][0], GONE[1]);
    assert_eq!(
        manifest["removals"][1]["training_set_before"],
        manifest["removals"][0]["training_set"]
    );
}

/// Samples of old classes and a class whose name sorts between them.
#[test]
fn a_model_with_more_images_is_one_that_saw_them_from_the_beginning() {
    let place = Place::new();
    place.photos("more", &["blue", "red"], 1);
    place.photos("new", &["cyan", "red"], 3);
    fs::rename(place.path("new/red/0.png"), place.path("new/red/new.png")).unwrap();
    fs::remove_file(place.path("new/red/1.png")).unwrap();
    fs::remove_file(place.path("new/red/2.png")).unwrap();
    for class in ["blue", "red"] {
        let of = |name: &str| place.path(&format!("more/{class}/{name}.png"));
        fs::rename(of("0"), of("one")).unwrap();
    }
    let merged = |folder: &str| {
        for class in ["blue", "cyan", "green", "red"] {
            let Ok(files) = fs::read_dir(place.path(folder).join(class)) else {
                continue;
            };
            let to = place.path("merged/train").join(class);
            fs::create_dir_all(&to).unwrap();
            for file in files.map(|f| f.unwrap()) {
                fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    };
    for more in METHODS {
        fit(&place, "photos", "m.safetensors", more);
        let told = add(&place, "m.safetensors", "more", "more.safetensors");
        assert_eq!(
            (&told["what"], &told["samples"]),
            (&"added".into(), &2.into())
        );
        assert_eq!(told["new_classes"], Value::Array(vec![]));
        let told = add(&place, "more.safetensors", "new", "larger.safetensors");
        assert_eq!(told["new_classes"], Value::Array(vec!["cyan".into()]));
        assert_eq!(
            (&told["train_samples"], &told["certified"]),
            (&24.into(), &true.into()),
            "{more:?} {told}"
        );
        for folder in ["photos/train", "more", "new"] {
            merged(folder);
        }
        fs::create_dir(place.path("merged/test")).unwrap();
        for class in ["blue", "green", "red"] {
            let (from, to) = (place.path("photos/test"), place.path("merged/test"));
            fs::create_dir(to.join(class)).unwrap();
            for i in 0..3 {
                let file = format!("{class}/{i}.png");
                fs::copy(from.join(&file), to.join(&file)).unwrap();
            }
        }
        fit(&place, "merged", "all.safetensors", more);
        let photos = [&TRAINED[..], &["new/cyan", "photos/test/green"]].concat();
        same(&place, "larger.safetensors", "all.safetensors", &photos);

        let rank = |folder: &str| {
            let args = [
                "rank",
                "larger.safetensors",
                folder,
                "--by=leave-one-out",
                "--json",
            ];
            place.json(&args)
        };
        let there = rank("photos");
        assert_eq!(there.as_array().unwrap().len(), 24);
        fs::rename(place.path("new"), place.path("moved")).unwrap();
        assert_eq!(rank("merged"), there);
        let output = place.run(&["rank", "larger.safetensors", "photos", "--by=mislabel"]);
        assert!(
            text(&output.stderr).contains("4 of 24"),
            "{}",
            text(&output.stderr)
        );
        fs::rename(place.path("moved"), place.path("new")).unwrap();
        let gone = ["train/cyan/1.png", "train/red/new.png"];
        forget(&place, "larger.safetensors", &gone, "again.safetensors");
        assert_eq!(
            tensors(&place, "again.safetensors").1["report"]["train_samples"],
            22
        );
        fs::remove_dir_all(place.path("merged")).unwrap();
    }
}

/// In any order the same, to rounding, and after twenty changes as after none.
#[test]
fn many_changes_in_a_row_leave_no_trace() {
    let place = Place::new();
    fit(&place, "photos", "m.safetensors", &[]);
    let photos = [&TRAINED[..], &["photos/test/red"]].concat();
    forget(&place, "m.safetensors", &GONE, "both.safetensors");
    for (order, output) in [([0, 1], "one.safetensors"), ([1, 0], "other.safetensors")] {
        forget(&place, "m.safetensors", &[GONE[order[0]]], output);
        forget(&place, output, &[GONE[order[1]]], output);
        same(&place, output, "both.safetensors", &photos);
    }
    fs::copy(place.path("m.safetensors"), place.path("long.safetensors")).unwrap();
    for i in 0..10_u32 {
        let name = format!("{}.png", 100 + i);
        let folder = format!("more{i}");
        let class = ["blue", "green", "red"][i as usize % 3];
        fs::create_dir_all(place.path(&folder).join(class)).unwrap();
        let image = place.path(&folder).join(class).join(&name);
        picture(i as usize % 3, 500 + i).save(image).unwrap();
        add(&place, "long.safetensors", &folder, "long.safetensors");
        let gone = match i {
            8 => GONE[0].to_owned(),
            9 => GONE[1].to_owned(),
            _ => format!("train/{class}/{name}"),
        };
        forget(&place, "long.safetensors", &[&gone], "long.safetensors");
    }
    let header = tensors(&place, "long.safetensors").1;
    assert_eq!(header["changes"].as_array().unwrap().len(), 20);
    forget(
        &place,
        "long.safetensors",
        &["train/red/108.png", "train/blue/109.png"],
        "end.safetensors",
    );
    let back = take_away(&place, &GONE);
    fit(&place, "photos", "without.safetensors", &[]);
    back();
    same(&place, "end.safetensors", "without.safetensors", &photos);
}

/// A plain folder is split by a seeded draw, which a deletion moves: the model knows its images.
#[test]
fn a_seeded_split_stays_as_it_was() {
    let place = Place::new();
    place.photos("plain", &["cat", "dog"], 10);
    let report = fit(&place, "plain", "m.safetensors", &["--method=lqf-fc"]);
    assert_eq!(
        (&report["train_samples"], &report["test_samples"]),
        (&16.into(), &4.into())
    );
    let rank = |model: &str, by: &str| {
        let by = format!("--by={by}");
        place.json(&["rank", model, "plain", by.as_str(), "--json", "-q"])
    };
    let names: Vec<String> = rank("m.safetensors", "mislabel")
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["sample"].as_str().unwrap().to_owned())
        .collect();
    let gone: Vec<&str> = names
        .iter()
        .filter(|n| n.starts_with("cat/"))
        .take(5)
        .map(String::as_str)
        .collect();
    fs::write(place.path("list.txt"), gone.join("\n")).unwrap();
    let args = [
        "forget",
        "m.safetensors",
        "plain",
        "--samples=list.txt",
        "-o",
        "less.safetensors",
    ];
    let told = place.json(&[&args[..], &["--json"]].concat());
    assert_eq!(
        (&told["train_samples"], &told["test_samples"]),
        (&11.into(), &4.into())
    );
    let before = rank("less.safetensors", "informativeness");
    for name in &gone {
        fs::remove_file(place.path("plain").join(name)).unwrap();
    }
    let after = rank("less.safetensors", "informativeness");
    let of = |ranked: &Value| {
        let mut names: Vec<String> = ranked
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["sample"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(of(&before), of(&after));
    assert_eq!(of(&after).len(), 11);
}

/// A head that was fitted remembers: nothing is certified, and nothing can be added.
#[test]
fn a_fitted_head_is_not_called_forgotten() {
    let place = Place::new();
    place.photos("more", &["cyan"], 1);
    for head in ["ridge", "split"] {
        let more = [
            format!("--head-init={head}"),
            "--linearize-from=layer3.2".to_owned(),
        ];
        fit(
            &place,
            "photos",
            "m.safetensors",
            &more.each_ref().map(String::as_str),
        );
        fs::write(place.path("list.txt"), GONE.join("\n")).unwrap();
        let args = [
            "forget",
            "m.safetensors",
            "photos",
            "--samples=list.txt",
            "-o",
            "less.safetensors",
        ];
        let output = place.run(&[&args[..], &["--json"]].concat());
        let (told, said) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("NOT as if never seen") && said.contains("--head-init common"),
            "{said}"
        );
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["certified"], &told["train_samples"]),
            (&false.into(), &16.into())
        );
        let manifest = fs::read_to_string(place.path("less.safetensors.removed.json")).unwrap();
        assert!(manifest.contains("\"certified\": false"), "{manifest}");
        let info = text(&place.run(&["info", "less.safetensors"]).stdout);
        assert!(info.contains("not certified"), "{info}");
        let refused = case(
            "add m.safetensors more -o n.safetensors",
            "--head-init + common",
        );
        check(&place, 1, &[refused]);
    }
    assert!(!place.path("n.safetensors").exists());
}

/// Lambda and s that were chosen are kept, and the output says on what they were chosen.
#[test]
fn a_chosen_prior_is_kept_and_named() {
    let place = Place::new();
    let args = [
        "fit",
        "photos",
        "--weights=weights.safetensors",
        "-o",
        "m.safetensors",
        "--json",
    ];
    let fitted = place.json(&args);
    let told = forget(&place, "m.safetensors", &GONE, "less.safetensors");
    for key in ["lambda_total", "backbone_scale", "lambda_source"] {
        assert_eq!(told[key], fitted[key], "{key}");
    }
    assert_eq!(told["prior_chosen_before"], true);
    let args = [
        "forget",
        "m.safetensors",
        "photos",
        "--samples=list.txt",
        "-o",
        "less.safetensors",
    ];
    let table = text(&place.run(&args).stdout);
    assert!(
        table.contains("kept; chosen on the training images before"),
        "{table}"
    );
}
