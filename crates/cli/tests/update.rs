//! `add`, and `forget` and `add` many times in a row, from end to end: against true fits.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::updates::{GONE, METHODS, TRAINED, add, fit, forget, same, take_away, tensors};
use common::{Place, picture, text};
use serde_json::Value;

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
