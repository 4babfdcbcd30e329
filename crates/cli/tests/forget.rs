//! `forget` from end to end: against true fits, its manifest, and what it does not promise.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::cases::{case, check};
use common::updates::{
    GONE, METHODS, TRAINED, fit, forget, relative_error, same, scores, take_away,
};
use common::{Place, text};
use serde_json::Value;

/// The model and its outputs, also on what was forgotten, are those of a fit that has never seen it;
/// and it finds its training images with the forgotten ones there and gone.
#[test]
fn a_model_that_forgot_is_one_that_never_saw() {
    let place = Place::new();
    let photos = [&TRAINED[..], &["photos/test/red"]].concat();
    for more in METHODS {
        let fitted = fit(&place, "photos", "m.safetensors", more);
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
        // One pass for the weights and one for the certificate: a quarter of those of the fit, the head alone aside.
        let passes = |report: &Value| report["passes"].as_f64().unwrap();
        assert_eq!((passes(&told), told["vjps"].as_u64().unwrap()), (2.0, 1));
        assert!(more.first() == Some(&"--method=lqf-fc") || passes(&told) <= passes(&fitted) / 4.0);
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
    let mode = |name: &str| {
        let about = fs::metadata(place.path(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&about.permissions())
    };
    assert_eq!(
        mode("m.safetensors.removed.json"),
        mode("m.safetensors"),
        "for whom the model is"
    );
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

/// The same removal again is listed once, and said; from what has forgotten already it is refused.
#[test]
fn a_removal_done_again_is_listed_once() {
    let place = Place::new();
    fit(&place, "photos", "m.safetensors", &["--method=lqf-fc"]);
    forget(&place, "m.safetensors", &GONE, "less.safetensors");
    let again = "m.safetensors photos --samples=list.txt -o less.safetensors --names";
    let output = place.does(&format!("forget {again}"));
    let said = text(&output.stderr);
    assert!(said.contains("has this removal already"), "{said}");
    let manifest = fs::read(place.path("less.safetensors.removed.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let removals = manifest["removals"].as_array().unwrap();
    assert_eq!(
        (removals.len(), &removals[0]["names"][0]),
        (1, &GONE[1].into())
    );
    forget(&place, "m.safetensors", &GONE[..1], "less.safetensors");
    let manifest = fs::read_to_string(place.path("less.safetensors.removed.json")).unwrap();
    assert_eq!(manifest.matches("\"count\"").count(), 2);
    let refused = case(
        "forget less.safetensors photos --samples=gone.txt -o less.safetensors -q",
        "gone.txt + line 1 + no longer",
    );
    fs::write(place.path("gone.txt"), GONE[0]).unwrap();
    check(&place, 1, &[refused]);
}

const FORGET: [&str; 6] = [
    "forget",
    "m.safetensors",
    "photos",
    "--samples=list.txt",
    "-o",
    "less.safetensors",
];

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
        let output = place.run(&[&FORGET[..], &["--json"]].concat());
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
    let fitted = place.fit_by_default(&[]);
    let told = forget(&place, "m.safetensors", &GONE, "less.safetensors");
    for key in ["lambda_total", "backbone_scale", "lambda_source"] {
        assert_eq!(told[key], fitted[key], "{key}");
    }
    assert_eq!(told["prior_chosen_before"], true);
    let table = text(&place.run(&FORGET).stdout);
    assert!(
        table.contains("kept; chosen on the training images before"),
        "{table}"
    );
}
