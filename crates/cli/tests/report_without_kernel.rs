//! `report` on a model for which there is no closed form of leaving out: what it shows then, and what it says is missing.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::page::problems;
use common::{Place, picture, text};
use serde_json::Value;

#[test]
fn training_images_are_ranked_without_the_kernel_and_called_so() {
    let place = Place::new();
    picture(0, 77)
        .save(place.path("photos/train/red/flipped.png"))
        .unwrap();
    place.fit_as_given("photos", "1e-4", "f0.safetensors", &["--keep-f0"]);
    let args = [
        "report",
        "f0.safetensors",
        "photos",
        "-o",
        "r.html",
        "--json",
    ];
    let output = place.run(&args);
    let (said, told) = (text(&output.stderr), text(&output.stdout));
    let report: Value = serde_json::from_str(&told).unwrap();
    assert!(
        said.contains("without a kernel") && said.contains("convextune explain"),
        "{said}"
    );
    let items = |key: &str| report[key]["items"].as_array().unwrap();
    assert_eq!(items("informative").len(), 3);
    assert_eq!(
        items("suspects")[0]["image"]["name"],
        "train/red/flipped.png"
    );
    for key in ["informative", "suspects"] {
        let how = report[key]["how"].as_str().unwrap();
        assert!(
            how.contains("Approximate") && !how.contains("xact, by"),
            "{how}"
        );
    }
    assert!(report["spectrum"].is_null() && report["path"].is_null());
    let page = fs::read_to_string(place.path("r.html")).unwrap();
    assert_eq!(problems(&page), Vec::<String>::new());
    assert!(page.contains("Approximate, by sketched gradients"));
}
