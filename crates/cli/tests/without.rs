//! `explain --without`, from end to end: against models that `forget` makes, and with what cannot be asked.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::cases::{case, check};
use common::updates::{METHODS, forget, relative_error, scores, tensors};
use common::{Place, array, numbers, text};
use serde_json::Value;

const GROUP: [&str; 3] = ["train/red/0.png", "train/green/3.png", "train/green/4.png"];

fn close(told: &Value, truth: f64) {
    let told = told.as_f64().unwrap();
    assert!((told - truth).abs() <= 2e-3 * truth.abs(), "{told} {truth}");
}

/// The trained numbers.
fn weights(place: &Place, model: &str, part: &str) -> Vec<f64> {
    let numbers = tensors(place, model).0.into_iter();
    let trained = numbers.filter(|(name, _)| name.starts_with(part));
    trained
        .flat_map(|(_, data)| data.into_iter().map(f64::from))
        .collect()
}

/// Scores, errors and weights are those of the model without the group.
#[test]
fn a_group_did_what_a_model_without_it_shows() {
    let place = Place::new();
    let photos = ["photos/test/blue", "photos/test/green", "photos/test/red"];
    for more in METHODS {
        place.fit_as_given("photos", "1e-6", "m.safetensors", more);
        let smaller = forget(&place, "m.safetensors", &GROUP, "smaller.safetensors");
        let explain = |photos: &[&str]| {
            let args = [
                "explain",
                "m.safetensors",
                "--without=list.txt",
                "--json",
                "-q",
            ];
            place.json(&[&args[..], photos].concat())
        };
        let told = explain(&[]);
        assert_eq!(
            (&told["samples"], &told["exact"]),
            (&3.into(), &true.into())
        );
        assert!(told["residual"].as_f64().unwrap() < 1e-9);
        let before = scores(&place, "m.safetensors", &photos);
        let after = scores(&place, "smaller.safetensors", &photos);
        let effects = |told: &Value| -> Vec<f64> {
            let photos = array(&told["photos"]).iter();
            photos.flat_map(|photo| numbers(&photo["effect"])).collect()
        };
        let truth: Vec<f64> = before.iter().zip(&after).map(|(b, a)| b - a).collect();
        let error = relative_error(&effects(&told), &truth);
        assert!(error < 5e-3, "{more:?}: {error:e}");
        assert_eq!(effects(&explain(&photos)), effects(&told));
        assert!(explain(&photos).get("test_error").is_none());
        assert_eq!(told["test_error_without"], smaller["test_error"]);
        let square = |scores: &[f64]| {
            let right = |i: usize| f64::from(u8::from(i / 9 == i % 3));
            let all = scores.iter().enumerate();
            all.map(|(i, s)| (right(i) - s).powi(2)).sum::<f64>() / 9.0
        };
        close(&told["squared_error"], square(&before));
        close(&told["squared_error_without"], square(&after));
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        close(&told["scores_change"], length(&truth) / length(&before));
        let part = if more.contains(&"--method=lqf-fc") {
            "w0/head"
        } else {
            "u/"
        };
        let [u, less] = ["m.safetensors", "smaller.safetensors"].map(|m| weights(&place, m, part));
        close(&told["weights_change"], relative_error(&less, &u));
    }
    let shown = place.run(&["explain", "m.safetensors", "--without=list.txt", "--top=2"]);
    let shown = text(&shown.stdout);
    assert!(
        shown.starts_with("without 3 of 18 training images:"),
        "{shown}"
    );
    assert_eq!(shown.lines().count(), 10, "{shown}");
}

#[test]
fn what_cannot_be_left_out_is_refused() {
    let place = Place::new();
    place.fit_as_given("photos", "1e-4", "m.safetensors", &[]);
    let alone = ["--holdout=none"];
    place.fit_as_given("photos/train", "1e-4", "all.safetensors", &alone);
    place.fit_as_given("photos", "1e-4", "f0.safetensors", &["--keep-f0"]);
    fs::write(place.path("list.txt"), "train/red/0.png\n").unwrap();
    fs::write(place.path("bare.txt"), "red/0.png\n").unwrap();
    fs::write(place.path("held.txt"), "test/red/0.png\n").unwrap();
    fs::write(place.path("none.txt"), "# nothing\n").unwrap();
    let without = |list: &str| format!("explain m.safetensors --without {list} -q");
    let cases = [
        case(
            &without("bare.txt"),
            "bare.txt + line 1 + not among the training images",
        ),
        case(&without("held.txt"), "held.txt + held out"),
        case(&without("none.txt"), "none.txt + names no image"),
        case(&without("missing.txt"), "missing.txt"),
        case("explain f0.safetensors --without list.txt -q", "--keep-f0"),
    ];
    check(&place, 1, &cases);
    let cases = [
        case(
            "explain all.safetensors --without bare.txt -q",
            "held no images out + give the photos",
        ),
        case(
            "explain m.safetensors --without list.txt --fast",
            "--without + --fast",
        ),
        case("explain m.safetensors", "<PHOTO>"),
    ];
    check(&place, 2, &cases);
}
