//! What `forget` and `add` refuse: one clear sentence each, and nothing written.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::Place;
use common::cases::{case, check};

#[test]
#[allow(clippy::too_many_lines)]
fn what_cannot_be_forgotten_or_added_is_refused() {
    let place = Place::new();
    place.fit_as_given("photos", "1e-4", "m.safetensors", &["--method=lqf-fc"]);
    place.fit_as_given("photos", "1e-4", "fc.safetensors", &["--method=fc"]);
    let rows: Vec<String> = (0..12)
        .map(|i| format!("{},{},{}", i, (i * 5) % 7, i % 2))
        .collect();
    let table = format!("a,b,class\n{}\n", rows.join("\n"));
    fs::write(place.path("table.csv"), table).unwrap();
    let net = "nn fit table.csv --target class --gates 5 --lambda 0.1 -o net.safetensors -q";
    assert!(
        place
            .run(&net.split(' ').collect::<Vec<_>>())
            .status
            .success()
    );
    let list = |name: &str, text: &str| fs::write(place.path(name), text).unwrap();
    list("one.txt", "train/red/0.png\n");
    list("unknown.txt", "train/red/0.png\n# no\nred/1.png\n");
    list("held.txt", "test/red/0.png");
    list("empty.txt", "# nothing\n");
    let class = |class: &str| {
        let line = |i: u32| format!("train/{class}/{i}.png\n");
        (0..6).map(line).collect::<String>()
    };
    list("class.txt", &class("red"));
    list("all.txt", &["blue", "green", "red"].map(class).concat());
    place.photos("same", &["red"], 1);
    place.photos("case", &["Red"], 1);
    fs::create_dir_all(place.path("hollow/cyan")).unwrap();
    place.photos("broken", &["cyan", "red"], 1);
    fs::write(place.path("broken/cyan/0.png"), "no picture").unwrap();
    fs::rename(
        place.path("broken/red/0.png"),
        place.path("broken/red/new.png"),
    )
    .unwrap();
    list("n.safetensors.removed.json", "{}");
    let forget = |model: &str, list: &str, output: &str| {
        format!("forget {model} photos --samples {list} -o {output} -q")
    };
    let one = |list: &str| forget("m.safetensors", list, "x.safetensors");
    let cases = [
        case(&one("gone.txt"), "gone.txt"),
        case(&one("photos"), "photos"),
        case(
            &one("unknown.txt"),
            "unknown.txt + line 3 + red/1.png + train/blue/0.png",
        ),
        case(&one("held.txt"), "held.txt + line 1 + held out"),
        case(&one("empty.txt"), "empty.txt + no image"),
        case(&one("class.txt"), "class `red` + fit again"),
        case(&one("all.txt"), "all training images"),
        case(
            &forget("fc.safetensors", "one.txt", "x.safetensors"),
            "--method lqf-fc",
        ),
        case(
            &forget("net.safetensors", "one.txt", "x.safetensors"),
            "convex network + models of pictures",
        ),
        case(
            &forget("weights.safetensors", "one.txt", "x.safetensors"),
            "is a weight file",
        ),
        case(
            &forget("m.safetensors", "one.txt", "nowhere/x.safetensors"),
            "nowhere",
        ),
        case(
            &forget("m.safetensors", "one.txt", "photos"),
            "photos + is a folder",
        ),
        case(
            &forget("m.safetensors", "one.txt", "one.txt"),
            "one.txt + is the list",
        ),
        case(
            &forget("m.safetensors", "one.txt", "n.safetensors"),
            "n.safetensors.removed.json + move it",
        ),
        case(
            "forget m.safetensors photos/test --samples one.txt -o x.safetensors -q",
            "photos/test + not the training images + as it was at the fit, or fit again",
        ),
        case(
            "add m.safetensors same -o x.safetensors -q",
            "same/red/0.png + train/red/0.png + rename",
        ),
        case(
            "add m.safetensors case -o x.safetensors -q",
            "`Red` + case + `red`",
        ),
        case("add m.safetensors hollow -o x.safetensors -q", "hollow"),
        case(
            "add m.safetensors broken -o x.safetensors -q",
            "broken/cyan/0.png",
        ),
        case(
            "add m.safetensors broken -o x.safetensors -q --skip-unreadable",
            "broken + cyan",
        ),
        case("add m.safetensors nowhere -o x.safetensors -q", "nowhere"),
        case(
            "add fc.safetensors same -o x.safetensors -q",
            "--method lqf-fc",
        ),
        case(
            "add net.safetensors same -o x.safetensors -q",
            "convex network",
        ),
        case(
            "add m.safetensors same -o nowhere/x.safetensors -q",
            "nowhere",
        ),
        case(
            "add m.safetensors same --photos nowhere -o x.safetensors -q",
            "nowhere",
        ),
    ];
    check(&place, 1, &cases);
    let cases = [
        case("forget m.safetensors photos -o x.safetensors", "--samples"),
        case("forget m.safetensors photos --samples one.txt", "--output"),
        case("add m.safetensors same", "--output"),
    ];
    check(&place, 2, &cases);
    assert!(!place.path("x.safetensors").exists());
    assert!(!place.path("x.safetensors.removed.json").exists());
    fs::remove_dir_all(place.path("broken/cyan")).unwrap();
    fs::write(place.path("broken/red/torn.png"), "no picture").unwrap();
    let args = [
        "add",
        "m.safetensors",
        "broken",
        "-o",
        "x.safetensors",
        "--skip-unreadable",
        "--json",
    ];
    let told = place.json(&args);
    assert_eq!(
        (&told["samples"], &told["train_samples"]),
        (&1.into(), &19.into())
    );
    assert!(told["skipped"][0].as_str().unwrap().contains("torn.png"));
}
