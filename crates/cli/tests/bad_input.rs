//! Bad input: every case ends with the right exit code, one clear line that names the culprit, and
//! nothing half-written. Weight and model files: `bad_files.rs`.

mod common;

use std::fs;

use common::cases::{GOOD, case, check, fit};
use common::{Place, listing, text};

#[test]
fn wrong_usage() {
    let place = Place::new();
    let good = |more: &str| fit(&format!("{GOOD} {more}"));
    check(
        &place,
        &[
            case("", 2, "subcommand"),
            case("train photos", 2, "unrecognized subcommand + train"),
            case("fit photos", 2, "--backbone + --weights"),
            case("fit --backbone resnet18", 2, "FOLDER"),
            case(
                &fit("--backbone resnet19"),
                2,
                "no backbone is called `resnet19` + resnet18",
            ),
            case(&good("--lambda-total 0"), 2, "--lambda-total + above 0"),
            case(&good("--lambda-total NaN"), 2, "--lambda-total + finite"),
            case(&good("--weight-decay=-1"), 2, "--weight-decay + above 0"),
            case(
                &good("--weight-decay 1 --lambda-total 1"),
                2,
                "cannot be used with",
            ),
            case(&good("--holdout 1.5"), 2, "--holdout + between 0 and 1"),
            case(
                &good("--holdout 0.2 --test photos/test"),
                2,
                "cannot be used with",
            ),
            case(&good("--solver-tolerance 0"), 2, "--solver-tolerance"),
            case(&good("--image-size 0"), 2, "--image-size + from 1 to 4096"),
            case(
                &good("--image-size 5000"),
                2,
                "--image-size + from 1 to 4096",
            ),
            case(&good("--batch 0"), 2, "--batch + from 1"),
            case(&good("--threads 0"), 2, "--threads + from 1"),
            case(&good("--cache-memory lots"), 2, "--cache-memory + 2GiB"),
            case(&good("--method magic"), 2, "--method + lqf-fc"),
            case(&good("--seed -5"), 2, "-5"),
            case(&format!("fit photos {GOOD} --resume"), 2, "--output"),
            case(
                "fit photos --backbone cifar-resnet20 --linearize-from layer9",
                2,
                "--linearize-from + `layer9` + layer3",
            ),
            case("predict m.safetensors", 2, "FILE|FOLDER"),
            case(
                "backbone pull nothing",
                2,
                "no backbone is called `nothing`",
            ),
        ],
    );
}

#[test]
fn folders_and_images_that_cannot_be_used() {
    let place = Place::new();
    let copy = |name: &str| {
        place.photos(&format!("{name}/train"), &["blue", "red"], 3);
        place.path(&format!("{name}/train/blue"))
    };
    fs::write(copy("zero").join("bad.jpg"), b"").unwrap();
    fs::write(
        copy("mislabelled").join("bad.jpg"),
        b"%PDF-1.7 this is no photo",
    )
    .unwrap();
    let png = fs::read(place.path("photos/train/red/0.png")).unwrap();
    fs::write(copy("cut").join("bad.png"), &png[..png.len() / 2]).unwrap();
    image::RgbImage::new(30_000, 2)
        .save(copy("wide").join("bad.png"))
        .unwrap();
    fs::create_dir(copy("link").join("dir.png")).unwrap();
    std::os::unix::fs::symlink("nowhere.jpg", place.path("link/train/blue/bad.jpg")).unwrap();
    fs::create_dir_all(copy("hollow").parent().unwrap().join("green")).unwrap();
    place.photos("single/train", &["blue"], 3);
    place.photos("cased/train", &["blue", "Blue"], 2);
    fs::create_dir(place.path("nothing")).unwrap();
    fs::write(place.path("file"), b"x").unwrap();
    place.photos("strange", &["blue", "purple"], 2);
    place.photos("halves", &["blue", "red"], 1);

    let given = |folder: &str| format!("fit {folder} {GOOD} -o out.safetensors");
    check(
        &place,
        &[
            case(&given("zero"), 1, "bad.jpg + is empty"),
            case(&given("mislabelled"), 1, "bad.jpg + is not a JPEG"),
            case(&given("cut"), 1, "bad.png + damaged or cut short"),
            case(&given("wide"), 1, "bad.png + 30000 x 2"),
            case(&given("link"), 1, "bad.jpg + cannot be read"),
            case(&given("hollow"), 1, "hollow + green"),
            case(&given("single"), 1, "single + only one class"),
            case(&given("cased"), 1, "cased + differ only in case"),
            case(&given("nothing"), 1, "nothing + no class folders"),
            case(&given("photos/train/red"), 1, "images directly in"),
            case(&given("file"), 1, "file + folder"),
            case(&given("nowhere"), 1, "nowhere + does not exist"),
            case(&given("photos --holdout 0.3"), 1, "photos/test"),
            case(&given("photos --test strange"), 1, "strange + `purple`"),
            case(
                &given("photos --test nowhere"),
                1,
                "nowhere + does not exist",
            ),
        ],
    );
    let skipped = place.json(&[
        "fit",
        "zero",
        "--weights=weights.safetensors",
        "--skip-unreadable",
        "--json",
    ]);
    assert_eq!(skipped["skipped"].as_array().unwrap().len(), 1, "{skipped}");
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("file"), b"precious").unwrap();
    let to = |path: &str| format!("fit photos {GOOD} --method lqf-fc -o {path}");
    check(
        &place,
        &[
            case(&to("folder"), 1, "folder: is a folder"),
            case(
                &to("file/out.safetensors"),
                1,
                "file/out.safetensors + no folder file",
            ),
            case(&to("nowhere/out.safetensors"), 1, "no folder nowhere"),
            case(
                &to("/proc/out.safetensors"),
                1,
                "/proc/out.safetensors + cannot write",
            ),
            case(&to("/dev/full"), 1, "/dev/full: is no regular file"),
            case(&to(".."), 1, ".."),
        ],
    );
    assert_eq!(fs::read(place.path("file")).unwrap(), b"precious");
    assert!(listing(&place.path("folder")).is_empty());

    // Standard output on a full disk fails; one that nobody reads any longer does not.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place
        .command(&["backbone", "list"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write to standard output"));
}

#[test]
fn a_failed_fit_leaves_an_existing_model_alone() {
    let place = Place::new();
    place.json(&[
        "fit",
        "photos",
        "--weights=weights.safetensors",
        "--method=lqf-fc",
        "-om.safetensors",
        "--json",
    ]);
    let before = fs::read(place.path("m.safetensors")).unwrap();
    fs::write(place.path("photos/train/red/bad.png"), b"").unwrap();
    check(
        &place,
        &[case(
            &format!("fit photos {GOOD} -o m.safetensors"),
            1,
            "bad.png",
        )],
    );
    assert_eq!(fs::read(place.path("m.safetensors")).unwrap(), before);
}

#[test]
fn checkpoints_that_cannot_be_used() {
    let place = Place::new();
    fs::write(
        place.path("out.safetensors.checkpoint"),
        b"CVXTUNE1\x04\0\0\0\0\0\0\0junk",
    )
    .unwrap();
    let resumed = fit(&format!("{GOOD} --linearize-from layer3 --resume"));
    check(
        &place,
        &[case(
            &resumed,
            1,
            "out.safetensors.checkpoint + damaged + leave out --resume",
        )],
    );
}
