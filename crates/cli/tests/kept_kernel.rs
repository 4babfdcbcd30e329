//! The kernel that a model file keeps: the same answers with it and without, and files that are damaged.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::cases::{case, check};
use common::updates::{GONE, METHODS, forget, relative_error, same, take_away, tensors};
use common::{Place, array, numbers};
use convextune_model::weights::{read_safetensors_with_metadata, write_safetensors};
use serde_json::Value;

fn fit(place: &Place, folder: &str, output: &str, more: &[&str]) -> Value {
    place.fit_as_given(folder, "1e-6", output, more)
}

/// With the kernel that the model file has, and with one that is formed anew.
#[test]
fn a_kept_kernel_gives_the_same_answers() {
    let place = Place::new();
    let photo = "photos/test/red/0.png";
    for more in METHODS {
        fit(&place, "photos", "kept.safetensors", more);
        let without = [more, &["--keep-kernel=false"]].concat();
        fit(&place, "photos", "formed.safetensors", &without);
        let has = |model| tensors(&place, model).0.contains_key("kernel/high");
        assert!(has("kept.safetensors") && !has("formed.safetensors"));
        let by = ["informativeness", "leave-one-out", "duplicates"];
        for by in by.map(|by| format!("--by={by}")) {
            let [kept, formed] = ["kept.safetensors", "formed.safetensors"].map(|model| {
                let ranked = place.json(&["rank", model, "photos", by.as_str(), "--json", "-q"]);
                let scores = array(&ranked).iter().map(|r| {
                    let name = r["sample"].as_str().unwrap().to_owned();
                    (name, r["score"].as_f64().unwrap())
                });
                scores.collect::<BTreeMap<_, _>>()
            });
            assert!(kept.len() == 18 && kept.keys().eq(formed.keys()));
            let values = |ranked: &BTreeMap<_, f64>| ranked.values().copied().collect::<Vec<_>>();
            let error = relative_error(&values(&kept), &values(&formed));
            assert!(error < 1e-4, "{more:?} {by}: {error:e}");
        }
        let explained = |model| {
            let explained = place.json(&["explain", model, photo, "--json", "-q"]);
            let effects = array(&explained).iter().flat_map(|e| numbers(&e["effect"]));
            effects.collect::<Vec<f64>>()
        };
        let error = relative_error(
            &explained("kept.safetensors"),
            &explained("formed.safetensors"),
        );
        assert!(error < 1e-4, "{more:?}: {error:e}");
    }
}

#[test]
fn a_damaged_kernel_is_refused() {
    let place = Place::new();
    fit(&place, "photos", "m.safetensors", &[]);
    let path = place.path("m.safetensors");
    let (mut tensors, metadata) = read_safetensors_with_metadata::<f32>(&path).unwrap();
    let rank = "rank m.safetensors photos --by mislabel -q";
    let mut header: Value = serde_json::from_str(&metadata["convextune"]).unwrap();
    header["report"]["train_samples"] = 10.into();
    let other = BTreeMap::from([("convextune".to_owned(), header.to_string())]);
    write_safetensors(&path, &tensors, &other).unwrap();
    let said = "m.safetensors + `kernel/high` has 171 numbers instead of 55";
    check(&place, 1, &[case(rank, said)]);
    for name in ["kernel/high", "kernel/low"] {
        tensors.get_mut(name).unwrap().data.truncate(55);
        tensors.get_mut(name).unwrap().shape = vec![55];
    }
    write_safetensors(&path, &tensors, &other).unwrap();
    check(&place, 1, &[case(rank, "10 rows instead of 18 + damaged")]);
    tensors.remove("kernel/low");
    write_safetensors(&path, &tensors, &metadata).unwrap();
    check(
        &place,
        1,
        &[case(rank, "m.safetensors + `kernel/low` is missing")],
    );
}

/// Where the network's own outputs are part of the model, one pass more computes them.
#[test]
fn a_model_with_its_own_outputs_forgets_in_three_passes() {
    let place = Place::new();
    let fit = |output| place.fit_as_given("photos", "1e-4", output, &["--keep-f0"]);
    fit("m.safetensors");
    let told = forget(&place, "m.safetensors", &GONE, "smaller.safetensors");
    assert_eq!(
        (&told["passes"], &told["certified"]),
        (&3.0.into(), &true.into())
    );
    let back = take_away(&place, &GONE);
    fit("without.safetensors");
    back();
    same(
        &place,
        "smaller.safetensors",
        "without.safetensors",
        &["photos/test/red"],
    );
}

#[test]
fn a_fit_is_taken_up_again_with_another_wish() {
    let place = Place::new();
    place.fit_by_default(&["--keep-kernel=false"]);
    place.fit_by_default(&["--keep-kernel", "--resume"]);
    assert!(
        tensors(&place, "m.safetensors")
            .0
            .contains_key("kernel/low")
    );
    check(
        &place,
        2,
        &[case(
            "fit photos --weights weights.safetensors --method fc --keep-kernel -o m.safetensors",
            "--keep-kernel + fc",
        )],
    );
}
