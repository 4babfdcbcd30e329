//! Bad input: every case ends with the right exit code, one clear line that names the culprit, and
//! nothing half-written. Weight and model files: `bad_files.rs`.

mod common;

use std::fs;

use common::cases::{GOOD, case, check, fit, fit_model};
use common::{Place, listing, text};

#[test]
fn wrong_usage() {
    let place = Place::new();
    let good = |more: &str| fit(&format!("{GOOD} {more}"));
    check(
        &place,
        2,
        &[
            case("", "a command is missing"),
            case("nn", "a command is missing"),
            case("train photos", "unrecognized subcommand + train"),
            case("fit photos", "--backbone + --weights"),
            case("fit --backbone resnet18", "FOLDER"),
            case(
                &fit("--backbone resnet19"),
                "no backbone is called `resnet19` + resnet18",
            ),
            case(&good("--lambda-total 0"), "--lambda-total + above 0"),
            case(
                &good("--lambda-total -1"),
                "invalid value '-1' for '--lambda-total + above 0",
            ),
            case(&good("--lambda-total NaN"), "--lambda-total + finite"),
            case(&good("--weight-decay=-1"), "--weight-decay + above 0"),
            case(
                &good("--weight-decay 1 --lambda-total 1"),
                "cannot be used with",
            ),
            case(&good("--holdout 1.5"), "--holdout + between 0 and 1"),
            case(
                &good("--holdout 0.2 --test photos/test"),
                "cannot be used with",
            ),
            case(
                &good("--method fc --linearize-from layer3"),
                "--linearize-from + the head alone + --method lqf",
            ),
            case(
                &format!("compare photos {GOOD} --methods fc,lqf-fc --linearize-from layer9"),
                "--linearize-from + the head alone",
            ),
            case(
                &good("--solver dual --precondition kfac"),
                "--precondition + --solver dual",
            ),
            case(&good("--solver-tolerance 0"), "--solver-tolerance"),
            case(&good("--image-size 0"), "--image-size + from 1 to 4096"),
            case(&good("--image-size 5000"), "--image-size + from 1 to 4096"),
            case(&good("--batch 0"), "--batch + from 1"),
            case(&good("--threads 0"), "--threads + from 1"),
            case(&good("--cache-memory lots"), "--cache-memory + 2GiB"),
            case(&good("--method magic"), "--method + lqf-fc"),
            case(&good("--seed -5"), "-5"),
            case(&format!("fit photos {GOOD} --resume"), "--output"),
            case(
                "fit photos --backbone cifar-resnet20 --linearize-from layer9",
                "--linearize-from + `layer9` + layer3",
            ),
            case("predict m.safetensors", "FILE|FOLDER"),
            case("backbone pull nothing", "no backbone is called `nothing`"),
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
        1,
        &[
            case(&given("zero"), "bad.jpg + is empty"),
            case(&given("mislabelled"), "bad.jpg + is not a JPEG"),
            case(&given("cut"), "bad.png + damaged or cut short"),
            case(&given("wide"), "bad.png + 30000 x 2"),
            case(&given("link"), "bad.jpg + cannot be read"),
            case(&given("hollow"), "hollow + green"),
            case(&given("single"), "single + only one class"),
            case(&given("cased"), "cased + differ only in case"),
            case(&given("nothing"), "nothing + no class folders"),
            case(&given("photos/train/red"), "images directly in"),
            case(&given("file"), "file + folder"),
            case(&given("nowhere"), "nowhere + does not exist"),
            case(&given("photos --holdout 0.3"), "photos/test"),
            case(&given("photos --test strange"), "strange + `purple`"),
            case(&given("photos --test nowhere"), "nowhere + does not exist"),
        ],
    );
    // Of both parts in one message.
    place.photos("both/train", &["blue", "red"], 3);
    place.photos("both/test", &["blue", "red"], 2);
    for part in ["train", "test"] {
        fs::write(place.path(&format!("both/{part}/red/{part}.jpg")), b"").unwrap();
    }
    let bad = "2 of 12 images + train.jpg is empty + test.jpg is empty";
    check(&place, 1, &[case(&given("both"), bad)]);
    for folder in ["zero", "link"] {
        let skipped = place.json(&[
            "fit",
            folder,
            "--weights=weights.safetensors",
            "--skip-unreadable",
            "--method=lqf-fc",
            "--json",
        ]);
        assert_eq!(skipped["skipped"].as_array().unwrap().len(), 1, "{skipped}");
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    let place = Place::new();
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("file"), b"precious").unwrap();
    let to = |path: &str| format!("fit photos {GOOD} --method lqf-fc -o {path}");
    check(
        &place,
        1,
        &[
            case(&to("folder"), "folder: is a folder"),
            case(
                &to("file/out.safetensors"),
                "file/out.safetensors + no folder file",
            ),
            case(&to("nowhere/out.safetensors"), "no folder nowhere"),
            case(
                &to("/proc/out.safetensors"),
                "/proc/out.safetensors + cannot write",
            ),
            case(&to("/dev/full"), "/dev/full: is no regular file"),
            case(&to(".."), ".."),
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
    fit_model(&place);
    let before = fs::read(place.path("m.safetensors")).unwrap();
    fs::write(place.path("photos/train/red/bad.png"), b"").unwrap();
    check(
        &place,
        1,
        &[case(
            &format!("fit photos {GOOD} -o m.safetensors"),
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
        1,
        &[case(
            &resumed,
            "out.safetensors.checkpoint + damaged + leave out --resume",
        )],
    );
}
