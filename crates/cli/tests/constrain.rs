//! `constrain` from end to end: demands are met by what the model file predicts, and what comes after says so.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::cases::{case, check};
use common::{Place, picture, text};
use serde_json::Value;

const TEST: &str = "photos/test/blue photos/test/green photos/test/red";

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

/// Two models: `old` of the head alone, `new` of the whole network.
fn place() -> Place {
    let place = Place::new();
    place.fit_as_given("photos", "1e-4", "old.safetensors", &["--method=lqf-fc"]);
    place.fit_as_given("photos", "1e-4", "new.safetensors", &[]);
    place
}

/// Class and score by picture.
fn said(place: &Place, model: &str, folders: &str) -> Vec<(String, Vec<(String, f64)>)> {
    let predict = format!("predict {model} {folders} --top=9 --json");
    let told = place.json(&predict.split_whitespace().collect::<Vec<_>>());
    let of = |photo: &Value| {
        let top = photo["top"].as_array().unwrap().iter();
        let score = |s: &Value| (s["class"].as_str().unwrap().to_owned(), number(s, "score"));
        (
            photo["class"].as_str().unwrap().to_owned(),
            top.map(score).collect(),
        )
    };
    told.as_array().unwrap().iter().map(of).collect()
}

fn constrain(place: &Place, args: &str) -> Value {
    let all = format!("constrain new.safetensors {args} -o both.safetensors --json -q");
    let report = place.json(&all.split_whitespace().collect::<Vec<_>>());
    assert_eq!(report["certified"], true, "{report}");
    assert!(number(&report, "violation") < 1e-3, "{report}");
    let gap = number(&report, "relative_duality_gap");
    assert!(gap.abs() < 1e-4, "{report}");
    assert!(number(&report, "objective") >= number(&report, "objective_before") * (1.0 - 1e-4));
    report
}

#[test]
fn a_demanded_class_comes_out_on_top() {
    let place = place();
    // Blue pictures that are to be called green.
    fs::create_dir_all(place.path("wrong/green")).unwrap();
    for i in 0..2 {
        picture(0, 7_000 + i)
            .save(place.path(&format!("wrong/green/{i}.png")))
            .unwrap();
    }
    let before = said(&place, "new.safetensors", "wrong/green");
    assert!(
        before.iter().all(|(class, _)| class == "blue"),
        "{before:?}"
    );
    let report = constrain(&place, "--right wrong --margin 0.2");
    assert_eq!(
        (report["pictures"].as_u64(), report["demands"].as_u64()),
        (Some(2), Some(4))
    );
    assert!(number(&report, "unmet_before") > 0.0 && number(&report, "binding") > 0.0);
    for (class, scores) in said(&place, "both.safetensors", "wrong/green") {
        assert!(
            class == "green" && scores[0].1 - scores[1].1 > 0.199,
            "{scores:?}"
        );
    }
    // Exactly as far as needed: the margin is met with nothing to spare somewhere.
    let least = said(&place, "both.safetensors", "wrong/green").into_iter();
    let least = least
        .map(|(_, s)| s[0].1 - s[1].1)
        .fold(f64::INFINITY, f64::min);
    assert!(least < 0.201, "{least}");
    let info = text(&place.run(&["info", "both.safetensors"]).stdout);
    assert!(info.contains("demands met on"), "{info}");
}

#[test]
fn predictions_of_another_model_are_kept() {
    let place = place();
    let old = said(&place, "old.safetensors", TEST);
    let apart = |model: &str| {
        let mut largest = 0.0_f64;
        for ((_, a), (_, b)) in old.iter().zip(said(&place, model, TEST)) {
            for (class, score) in a {
                let other = b.iter().find(|s| s.0 == *class).unwrap().1;
                largest = largest.max((score - other).abs());
            }
        }
        largest
    };
    let free = apart("new.safetensors");
    constrain(&place, &format!("{TEST} --like old.safetensors --within 0"));
    assert!(free > 1e-2 && apart("both.safetensors") < 1e-3, "{free}");
    let width = free / 2.0;
    constrain(
        &place,
        &format!("{TEST} --like old.safetensors --within {width}"),
    );
    let within = apart("both.safetensors");
    assert!(
        within < width + 1e-3 && within > width - 1e-3,
        "{within} {width}"
    );
    let report = constrain(&place, &format!("{TEST} --like old.safetensors --margin 0"));
    assert_eq!(report["what"], "constrained");
    let same = said(&place, "both.safetensors", TEST).into_iter().zip(&old);
    assert!(same.into_iter().all(|(new, old)| new.0 == old.0));
}

#[test]
fn what_cannot_be_demanded_or_done_afterwards_is_said() {
    let place = place();
    fs::create_dir_all(place.path("other/cyan")).unwrap();
    picture(1, 5).save(place.path("other/cyan/0.png")).unwrap();
    fs::create_dir_all(place.path("twice/green")).unwrap();
    fs::create_dir_all(place.path("twice/red")).unwrap();
    for class in ["green", "red"] {
        picture(1, 5)
            .save(place.path(&format!("twice/{class}/0.png")))
            .unwrap();
    }
    fs::write(place.path("text.jpg"), "no picture").unwrap();
    constrain(&place, &format!("{TEST} --like old.safetensors"));
    fs::write(place.path("list.txt"), "train/red/0.png").unwrap();
    let to = "-o x.safetensors -q";
    check(
        &place,
        1,
        &[
            case(
                &format!("constrain new.safetensors --right other {to}"),
                "other + `cyan`",
            ),
            case(
                &format!("constrain new.safetensors --right twice {to}"),
                "demands + fewer",
            ),
            case(
                &format!("constrain new.safetensors text.jpg --like old.safetensors {to}"),
                "text.jpg",
            ),
            case(
                &format!("constrain both.safetensors --right photos/test {to}"),
                "constrain + made from",
            ),
            case(
                &format!("forget both.safetensors photos --samples list.txt {to}"),
                "made from",
            ),
            case(
                "explain both.safetensors photos/test/red/0.png -q",
                "made from",
            ),
            case(
                "tune both.safetensors photos --weight-decay -q",
                "made from",
            ),
        ],
    );
    check(
        &place,
        2,
        &[
            case(&format!("constrain new.safetensors {to}"), "PHOTO"),
            case(
                &format!("constrain new.safetensors photos/test {to}"),
                "--like",
            ),
            case(
                &format!("constrain new.safetensors --right photos/test --margin=-1 {to}"),
                "0 or more",
            ),
        ],
    );
}
