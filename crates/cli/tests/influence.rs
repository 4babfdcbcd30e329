//! `explain` and `rank` from end to end: against true fits, and with what cannot be used.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::cases::{case, check};
use common::{Place, array, numbers, picture, text};
use serde_json::Value;

fn fit(place: &Place, folder: &str, output: &str, more: &[&str]) -> Value {
    place.fit_as_given(folder, "1e-6", output, more)
}

/// Scores of one picture, in the order of the classes.
fn scores(place: &Place, model: &str, photo: &str) -> Vec<f64> {
    let told = place.json(&["predict", model, photo, "--json"]);
    let mut top: Vec<(String, f64)> = array(&told[0]["top"])
        .iter()
        .map(|s| {
            (
                s["class"].as_str().unwrap().to_owned(),
                s["score"].as_f64().unwrap(),
            )
        })
        .collect();
    top.sort_by(|a, b| a.0.cmp(&b.0));
    top.into_iter().map(|(_, score)| score).collect()
}

const METHODS: [&[&str]; 3] = [
    &[],
    &["--method=lqf-fc"],
    &[
        "--head-init=random",
        "--linearize-from=layer3",
        "--solver=dual",
    ],
];

/// What `explain` says of the strongest image is what a fit without it shows.
#[test]
fn explained_effects_are_those_of_true_fits() {
    let place = Place::new();
    let photo = "photos/test/red/1.png";
    for more in METHODS {
        fit(&place, "photos", "m.safetensors", more);
        let told = place.json(&["explain", "m.safetensors", photo, "--top=2", "--json"]);
        let told = array(&told);
        assert_eq!(told.len(), 4, "two up and two down");
        let whole = scores(&place, "m.safetensors", photo);
        for influence in told {
            assert_eq!(influence["photo"], photo);
            assert_eq!(influence["exact"], true);
            assert!(
                influence["residual"].as_f64().unwrap() < 1e-9,
                "{influence}"
            );
            let sample = influence["sample"].as_str().unwrap();
            assert!(
                sample.starts_with(&format!("train/{}/", influence["class"].as_str().unwrap()))
            );
            let away = place.path("away.png");
            fs::rename(place.path("photos").join(sample), &away).unwrap();
            fit(&place, "photos", "without.safetensors", more);
            fs::rename(&away, place.path("photos").join(sample)).unwrap();
            let without = scores(&place, "without.safetensors", photo);
            let effect = numbers(&influence["effect"]);
            for c in 0..3 {
                let truth = whole[c] - without[c];
                let size = effect.iter().map(|e| e.abs()).fold(0.0, f64::max);
                assert!(
                    (effect[c] - truth).abs() < 2e-3 * size,
                    "{more:?} {sample} {c}: {} {truth}",
                    effect[c]
                );
            }
        }
        let class = |i: usize| numbers(&told[i]["effect"])[2];
        assert!(class(0) >= class(1) && class(1) > 0.0);
        assert!(class(2) <= class(3) && class(3) < 0.0);
    }
    let shown = place.run(&["explain", "m.safetensors", photo, "--class=blue"]);
    let shown = text(&shown.stdout);
    assert!(
        shown.contains("pushed blue up") && shown.contains("train/blue/"),
        "{shown}"
    );
}

/// Approximations are called so, and come near what is exact; a model that keeps the network's own outputs is
/// explained by products, exactly.
#[test]
fn approximate_effects_are_called_so() {
    let place = Place::new();
    let photo = "photos/test/red/1.png";
    let told = |more: &[&str]| {
        let command = [
            "explain",
            "m.safetensors",
            photo,
            "--top=30",
            "--json",
            "-q",
        ];
        array(&place.json(&[&command, more].concat())).clone()
    };
    let effects = |told: &[Value]| -> BTreeMap<String, Vec<f64>> {
        let effect = |t: &Value| (t["sample"].to_string(), numbers(&t["effect"]));
        told.iter().map(effect).collect()
    };
    // The cosine between all effects. (On so few pictures the curvature alone says little more than the sign.)
    let likeness = |a: &[Value], b: &[Value]| {
        let (a, b) = (effects(a), effects(b));
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
        let flat = |m: BTreeMap<String, Vec<f64>>| m.into_values().flatten().collect::<Vec<_>>();
        let (a, b) = (flat(a), flat(b));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    };
    fit(&place, "photos", "m.safetensors", &[]);
    let exact = told(&[]);
    for (how, least) in [("--fast", 0.8), ("--fast=kfac", 0.0), ("--fast=ekfac", 0.0)] {
        let rough = told(&[how]);
        assert!(rough.iter().all(|t| t["exact"] == false));
        let residual = rough[0]["residual"].as_f64().unwrap();
        let likeness = likeness(&rough, &exact);
        assert!(
            residual > 1e-3 && likeness > least && likeness < 0.999_999,
            "{how} {residual} {likeness}"
        );
    }
    fit(&place, "photos", "m.safetensors", &["--keep-f0"]);
    let kept = told(&[]);
    assert!(
        kept.iter()
            .all(|t| t["exact"] == true && t["residual"].as_f64().unwrap() <= 1e-3)
    );
    let shown = place.run(&["explain", "m.safetensors", photo, "--fast"]);
    let note = text(&shown.stderr);
    assert!(note.contains("these effects are approximate"), "{note}");
    let score = scores(&place, "m.safetensors", photo);
    let best = score.iter().copied().fold(f64::MIN, f64::max);
    let said = text(&shown.stdout);
    assert!(
        said.lines()
            .next()
            .unwrap()
            .ends_with(&format!("{best:.3}")),
        "{said}"
    );
}

/// A flipped label comes first, a copied picture finds its original, and every order is sorted.
#[test]
fn ranks_find_what_was_planted() {
    let place = Place::new();
    picture(0, 77)
        .save(place.path("photos/train/red/flipped.png"))
        .unwrap();
    fs::copy(
        place.path("photos/train/green/2.png"),
        place.path("photos/train/green/same.png"),
    )
    .unwrap();
    let fitted = fit(&place, "photos", "m.safetensors", &[]);
    let rank = |by: &str, more: &[&str]| {
        let by = format!("--by={by}");
        let folder = if by == "--by=uncertainty" {
            "photos/test"
        } else {
            "photos"
        };
        let args = ["rank", "m.safetensors", folder, by.as_str(), "--json", "-q"];
        let ranked = place.json(&[&args[..], more].concat());
        let scores: Vec<f64> = array(&ranked)
            .iter()
            .map(|r| r["score"].as_f64().unwrap())
            .collect();
        assert!(scores.windows(2).all(|s| s[0] >= s[1]), "{by}");
        (ranked.clone(), scores)
    };
    let (suspects, surprises) = rank("mislabel", &[]);
    assert_eq!(suspects[0]["sample"], "train/red/flipped.png");
    assert_eq!(
        (&suspects[0]["class"], &suspects[0]["other"]),
        (&"red".into(), &"blue".into())
    );
    let margins: Vec<f64> = array(&suspects)
        .iter()
        .map(|r| r["margin"].as_f64().unwrap())
        .collect();
    let wrong = margins.iter().filter(|m| **m > 0.0).count() as f64;
    let told = fitted["leave_one_out_error"].as_f64().unwrap();
    assert!(margins[0] > 0.0 && (wrong / 20.0 - told).abs() < 1e-12);
    assert!(surprises.len() == 20 && surprises.iter().all(|s| *s >= 0.0));
    let (doubles, cosines) = rank("duplicates", &["--top=2"]);
    let names: Vec<&str> = array(&doubles)
        .iter()
        .map(|d| d["other"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"train/green/2.png") && names.contains(&"train/green/same.png"));
    assert!(
        cosines.iter().all(|c| (c - 1.0).abs() < 1e-5),
        "{cosines:?}"
    );
    let (worst, _) = rank("leave-one-out", &[]);
    assert_eq!(worst[0]["sample"], "train/red/flipped.png");
    let (told, values) = rank("informativeness", &[]);
    assert!(array(&told).len() == 20 && values.iter().all(|v| *v > 0.0));
    let (unsure, variances) = rank("uncertainty", &[]);
    assert!(array(&unsure).len() == 9 && variances.iter().all(|v| *v > 0.0));
    assert!(unsure[0].get("class").is_none());
    let (fast, _) = rank("mislabel", &["--fast"]);
    assert_eq!(fast[0]["sample"], "train/red/flipped.png");
    assert!(suspects[0]["exact"] == true && fast[0]["exact"] == false);
    assert!(suspects[0]["residual"].as_f64().unwrap() < 1e-6);
    let table = text(
        &place
            .run(&["rank", "m.safetensors", "photos", "--by=mislabel"])
            .stdout,
    );
    assert!(
        table.lines().nth(1).unwrap().contains("flipped.png"),
        "{table}"
    );
}

#[test]
fn a_folder_that_moved_is_given_and_its_pictures_are_checked() {
    let place = Place::new();
    fit(&place, "photos", "m.safetensors", &["--method=lqf-fc"]);
    let photo = "one.png";
    picture(1, 5).save(place.path(photo)).unwrap();
    fs::rename(place.path("photos"), place.path("moved")).unwrap();
    let given = format!("explain m.safetensors {photo} -q");
    check(
        &place,
        1,
        &[case(&given, "photos + --photos FOLDER + no longer there")],
    );
    let args = [
        "explain",
        "m.safetensors",
        photo,
        "--photos=moved",
        "--json",
    ];
    assert!(!array(&place.json(&args)).is_empty());
    let original = fs::read(place.path("moved/train/red/0.png")).unwrap();
    picture(2, 12345)
        .save(place.path("moved/train/red/0.png"))
        .unwrap();
    place.photos("other/train", &["blue", "green", "red"], 2);
    place.photos("foreign", &["cat", "dog"], 2);
    let moved = format!("{given} --photos moved");
    let altered = "moved + not the training images + altered or renamed";
    let mut cases = vec![
        case(&moved, altered),
        case(
            &format!("{given} --photos other"),
            "other + it has 6 of them + 18",
        ),
        case(
            &format!("{given} --photos foreign"),
            "foreign + its classes are others",
        ),
        case(&format!("{given} --photos nowhere"), "nowhere"),
    ];
    check(&place, 1, &cases);
    fs::write(place.path("moved/train/red/0.png"), "no picture").unwrap();
    cases.truncate(1);
    check(&place, 1, &cases);
    fs::write(place.path("moved/train/red/0.png"), original).unwrap();
    assert!(!array(&place.json(&args)).is_empty());
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let place = Place::new();
    fit(&place, "photos", "m.safetensors", &["--method=lqf-fc"]);
    fit(&place, "photos", "fc.safetensors", &["--method=fc"]);
    fs::write(place.path("text.jpg"), "no picture").unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    place.write(
        "table.csv",
        "a,b,class\n1,2,x\n2,1,y\n-1,3,x\n3,-1,y\n0,1,x\n1,0,y\n",
    );
    place.does("nn fit table.csv --target class --gates 5 --lambda 0.1 --holdout none -o net.safetensors -q");
    let photo = "photos/test/red/0.png";
    let explain = |model: &str| format!("explain {model} {photo} -q");
    let cases = [
        case(
            &explain("fc.safetensors"),
            "--method lqf-fc + not quadratic",
        ),
        case(
            &explain("net.safetensors"),
            "net.safetensors + convex network + models of pictures",
        ),
        case(
            &explain("weights.safetensors"),
            "weights.safetensors + is a weight file",
        ),
        case(&explain("nowhere.safetensors"), "nowhere.safetensors"),
        case("explain m.safetensors text.jpg -q", "text.jpg"),
        case("explain m.safetensors gone.jpg -q", "gone.jpg"),
        case(
            "rank m.safetensors photos/test --by mislabel -q",
            "photos/test + not the training images",
        ),
        case(
            "rank fc.safetensors photos --by duplicates -q",
            "--method lqf-fc",
        ),
        case("rank m.safetensors empty --by uncertainty -q", "empty"),
    ];
    check(&place, 1, &cases);
    let cases = [
        case(
            &format!("{} --class cat", explain("m.safetensors")),
            "--class cat + blue, green, red",
        ),
        case("rank m.safetensors photos --by magic", "magic + mislabel"),
        case("rank m.safetensors photos", "--by"),
        case(
            "rank m.safetensors photos --by mislabel --photos photos",
            "--photos + uncertainty",
        ),
        case("explain m.safetensors", "PHOTO"),
        case(&format!("{} --top 0", explain("m.safetensors")), "--top"),
    ];
    check(&place, 2, &cases);
}
