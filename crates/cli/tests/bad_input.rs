//! Bad input: every case ends with the right exit code, one clear line that names the culprit, and
//! nothing half-written.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::pickle::{attack, state_dict, torch_legacy, torch_zip};
use common::{Place, listing, text, weights};
use convextune_model::weights::{read_safetensors_with_metadata, write_safetensors};

/// What was given, what comes of it: the exit code and parts of the message.
struct Case {
    args: Vec<String>,
    code: i32,
    parts: &'static [&'static str],
}

fn case(args: &str, code: i32, parts: &'static [&'static str]) -> Case {
    Case {
        args: args.split_whitespace().map(str::to_owned).collect(),
        code,
        parts,
    }
}

/// Runs all cases in one place; afterwards the folder must be as it was.
fn check(place: &Place, cases: &[Case]) {
    let before = place.names();
    let mut wrong = Vec::new();
    for Case { args, code, parts } in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = place.run(&args);
        let message = text(&output.stderr);
        let last = message.lines().last().unwrap_or_default();
        println!("| `{}` | {code} | {last} |", args.join(" "));
        let errors = message
            .lines()
            .filter(|l| l.starts_with("convextune: error: "))
            .count();
        let good = output.status.code() == Some(*code)
            && errors == 1
            && message.lines().count() == 1
            && parts.iter().all(|part| last.contains(part))
            && output.stdout.is_empty();
        if !good {
            wrong.push(format!(
                "{args:?}: {:?}, wanted {code} and {parts:?}:\n{message}",
                output.status
            ));
        }
        assert_eq!(place.names(), before, "{args:?} left something behind");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A fit of the usual photos that would write `out.safetensors`.
fn fit(more: &str) -> String {
    format!("fit photos -o out.safetensors {more}")
}

const GOOD: &str = "--weights weights.safetensors";

#[test]
fn wrong_usage() {
    let place = Place::new();
    let good = |more: &str| fit(&format!("{GOOD} {more}"));
    check(
        &place,
        &[
            case("", 2, &["subcommand"]),
            case("train photos", 2, &["unrecognized subcommand", "train"]),
            case("fit photos", 2, &["--backbone", "--weights"]),
            case("fit --backbone resnet18", 2, &["FOLDER"]),
            case(
                &fit("--backbone resnet19"),
                2,
                &["no backbone is called `resnet19`", "resnet18"],
            ),
            case(&good("--lambda-total 0"), 2, &["--lambda-total", "above 0"]),
            case(
                &good("--lambda-total NaN"),
                2,
                &["--lambda-total", "finite"],
            ),
            case(
                &good("--weight-decay=-1"),
                2,
                &["--weight-decay", "above 0"],
            ),
            case(
                &good("--weight-decay 1 --lambda-total 1"),
                2,
                &["cannot be used with"],
            ),
            case(&good("--holdout 1.5"), 2, &["--holdout", "between 0 and 1"]),
            case(
                &good("--holdout 0.2 --test photos/test"),
                2,
                &["cannot be used with"],
            ),
            case(&good("--solver-tolerance 0"), 2, &["--solver-tolerance"]),
            case(
                &good("--image-size 0"),
                2,
                &["--image-size", "from 1 to 4096"],
            ),
            case(
                &good("--image-size 5000"),
                2,
                &["--image-size", "from 1 to 4096"],
            ),
            case(&good("--batch 0"), 2, &["--batch", "from 1"]),
            case(&good("--threads 0"), 2, &["--threads", "from 1"]),
            case(&good("--cache-memory lots"), 2, &["--cache-memory", "2GiB"]),
            case(&good("--method magic"), 2, &["--method", "lqf-fc"]),
            case(&good("--seed -5"), 2, &["-5"]),
            case(&format!("fit photos {GOOD} --resume"), 2, &["--output"]),
            case(
                "fit photos --backbone cifar-resnet20 --linearize-from layer9",
                2,
                &["--linearize-from", "`layer9`", "layer3"],
            ),
            case("predict m.safetensors", 2, &["FILE|FOLDER"]),
            case(
                "backbone pull nothing",
                2,
                &["no backbone is called `nothing`"],
            ),
        ],
    );
}

#[test]
fn weights_that_cannot_be_used() {
    let place = Place::new();
    let put = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    let safetensors = fs::read(place.path("weights.safetensors")).unwrap();
    put("cut.safetensors", &safetensors[..safetensors.len() / 2]);
    let mut corrupt = safetensors.clone();
    corrupt[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    put("corrupt.safetensors", &corrupt);
    let mut nan = safetensors.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    put("nan.safetensors", &nan);
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    put(
        "twice.safetensors",
        &[
            &(twice.len() as u64).to_le_bytes()[..],
            twice.as_bytes(),
            &[0; 8],
        ]
        .concat(),
    );
    let data = [0.5; 432];
    let zip = torch_zip(state_dict(432, false), &data);
    put("few.pth", &zip);
    put("cut.pth", &zip[..zip.len() / 2]);
    let mut corrupt = zip.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    put("corrupt.pth", &corrupt);
    put("attack.pth", &torch_zip(attack(), &data));
    let legacy = torch_legacy(state_dict(432, true), &data);
    put("cut.th", &legacy[..legacy.len() - 100]);
    let mut corrupt = legacy.clone();
    corrupt[70] ^= 0xff;
    put("corrupt.th", &corrupt);
    put("attack.th", &torch_legacy(attack(), &data));
    put("empty.pth", b"");
    put("page.pth", b"<!DOCTYPE html><html>not found</html>");
    common::write_weights(&place.path("other.safetensors"), 5);
    let mut misshaped = weights(3);
    let tensor = misshaped.get_mut("conv1.weight").unwrap();
    tensor.shape = vec![16, 27];
    write_safetensors(
        &place.path("misshaped.safetensors"),
        &misshaped,
        &BTreeMap::new(),
    )
    .unwrap();

    let given = |file: &str| fit(&format!("--backbone cifar-resnet20 --weights {file}"));
    check(
        &place,
        &[
            case(
                &given("cut.safetensors"),
                1,
                &["cut.safetensors", "damaged or incomplete"],
            ),
            case(&given("corrupt.safetensors"), 1, &["corrupt.safetensors"]),
            case(&given("nan.safetensors"), 1, &["nan.safetensors", "NaN"]),
            case(
                &given("twice.safetensors"),
                1,
                &["twice.safetensors", "`a`", "twice"],
            ),
            case(&given("cut.pth"), 1, &["cut.pth", "damaged or incomplete"]),
            case(
                &given("corrupt.pth"),
                1,
                &["corrupt.pth", "damaged or incomplete"],
            ),
            case(
                &given("attack.pth"),
                1,
                &["attack.pth", "`os.system`", "nothing was run"],
            ),
            case(&given("cut.th"), 1, &["cut.th", "damaged or incomplete"]),
            case(&given("corrupt.th"), 1, &["corrupt.th"]),
            case(
                &given("attack.th"),
                1,
                &["attack.th", "`os.system`", "nothing was run"],
            ),
            case(&given("few.pth"), 1, &["few.pth", "missing"]),
            case(&given("empty.pth"), 1, &["empty.pth", "0 bytes"]),
            case(&given("page.pth"), 1, &["page.pth", "web page"]),
            case(
                &given("other.safetensors"),
                1,
                &["other.safetensors", "cifar-resnet32"],
            ),
            case(
                &given("misshaped.safetensors"),
                1,
                &["misshaped.safetensors", "[16, 27]"],
            ),
            case(&given("nowhere.pth"), 1, &["nowhere.pth"]),
            case(&given("photos"), 1, &["photos"]),
            case(&fit("--weights few.pth"), 1, &["few.pth", "--backbone"]),
            case(
                &fit("--backbone resnet18"),
                1,
                &["resnet18", "backbone pull", "cache"],
            ),
            case("backbone pull cifar-resnet20", 1, &["resnet20-12fca82f.th"]),
            case(
                "backbone check nan.safetensors",
                1,
                &["nan.safetensors", "NaN"],
            ),
            case(
                "backbone check weights.safetensors --backbone resnet18",
                1,
                &["cifar-resnet20"],
            ),
            case(
                &fit(&format!("{GOOD} --linearize-from layer9")),
                1,
                &["`layer9`", "layer3"],
            ),
        ],
    );
    assert!(!place.path("attacked").exists(), "a pickle ran code");
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
            case(&given("zero"), 1, &["bad.jpg", "is empty"]),
            case(&given("mislabelled"), 1, &["bad.jpg", "is not a JPEG"]),
            case(&given("cut"), 1, &["bad.png", "damaged or cut short"]),
            case(&given("wide"), 1, &["bad.png", "30000 x 2"]),
            case(&given("link"), 1, &["bad.jpg", "cannot be read"]),
            case(&given("hollow"), 1, &["hollow", "green"]),
            case(&given("single"), 1, &["single", "only one class"]),
            case(&given("cased"), 1, &["cased", "differ only in case"]),
            case(&given("nothing"), 1, &["nothing", "no class folders"]),
            case(&given("photos/train/red"), 1, &["images directly in"]),
            case(&given("file"), 1, &["file", "folder"]),
            case(&given("nowhere"), 1, &["nowhere", "does not exist"]),
            case(&given("photos --holdout 0.3"), 1, &["photos/test"]),
            case(&given("photos --test strange"), 1, &["strange", "`purple`"]),
            case(
                &given("photos --test nowhere"),
                1,
                &["nowhere", "does not exist"],
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
            case(&to("folder"), 1, &["folder: is a folder"]),
            case(
                &to("file/out.safetensors"),
                1,
                &["file/out.safetensors", "no folder file"],
            ),
            case(&to("nowhere/out.safetensors"), 1, &["no folder nowhere"]),
            case(
                &to("/proc/out.safetensors"),
                1,
                &["/proc/out.safetensors", "cannot write"],
            ),
            case(&to("/dev/full"), 1, &["/dev/full: is no regular file"]),
            case(&to(".."), 1, &[".."]),
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
            &["bad.png"],
        )],
    );
    assert_eq!(fs::read(place.path("m.safetensors")).unwrap(), before);
}

/// Writes `from` again with its header changed by `edit`.
fn with_header(from: &Path, to: &Path, edit: impl Fn(String) -> String) {
    let (tensors, mut metadata) = read_safetensors_with_metadata(from).unwrap();
    let header = metadata.get_mut("convextune").unwrap();
    *header = edit(std::mem::take(header));
    write_safetensors(to, &tensors, &metadata).unwrap();
}

#[test]
fn model_files_that_cannot_be_used() {
    let place = Place::new();
    place.json(&[
        "fit",
        "photos",
        "--weights=weights.safetensors",
        "--method=lqf-fc",
        "-om.safetensors",
        "--json",
    ]);
    let model = place.path("m.safetensors");
    let edit = |name: &str, from: &'static str, to: &'static str| {
        with_header(&model, &place.path(name), |header| {
            assert!(header.contains(from), "{header}");
            header.replacen(from, to, 1)
        });
    };
    edit(
        "newer.safetensors",
        "\"format_version\":1",
        "\"format_version\":99",
    );
    edit("garbled.safetensors", "{", "");
    edit(
        "unknown.safetensors",
        "\"cifar-resnet20\"",
        "\"cifar-resnet21\"",
    );
    edit("classes.safetensors", "[\"blue\",", "[\"blue\",\"black\",");
    edit("scale.safetensors", "\"batch\":16", "\"batch\":0");
    let bytes = fs::read(&model).unwrap();
    fs::write(place.path("cut.safetensors"), &bytes[..bytes.len() - 1000]).unwrap();
    let photo = "photos/test/red/0.png";
    place.photos("strange", &["blue", "purple"], 2);
    fs::write(place.path("empty.png"), b"").unwrap();
    let predict = |model: &str| format!("predict {model} {photo}");
    check(
        &place,
        &[
            case(
                &predict("newer.safetensors"),
                1,
                &["newer.safetensors", "format version 99", "update"],
            ),
            case(
                "info newer.safetensors",
                1,
                &["newer.safetensors", "format version 99"],
            ),
            case(
                &predict("garbled.safetensors"),
                1,
                &["garbled.safetensors", "header is damaged"],
            ),
            case(
                &predict("unknown.safetensors"),
                1,
                &["unknown.safetensors", "cifar-resnet21"],
            ),
            case(
                &predict("classes.safetensors"),
                1,
                &["classes.safetensors", "numbers instead of"],
            ),
            case(
                &predict("scale.safetensors"),
                1,
                &["scale.safetensors", "batch"],
            ),
            case(
                &predict("cut.safetensors"),
                1,
                &["cut.safetensors", "damaged or incomplete"],
            ),
            case(
                &predict("weights.safetensors"),
                1,
                &["weights.safetensors", "convextune fit"],
            ),
            case(&predict("nowhere.safetensors"), 1, &["nowhere.safetensors"]),
            case(&predict("photos/test/red/0.png"), 1, &["0.png"]),
            case(
                "predict m.safetensors nowhere.png",
                1,
                &["nowhere.png", "does not exist"],
            ),
            case(
                "predict m.safetensors empty.png",
                1,
                &["empty.png", "is empty"],
            ),
            case("predict m.safetensors photos", 1, &["photos"]),
            case(
                "evaluate m.safetensors strange",
                1,
                &["strange", "`purple`"],
            ),
            case(
                "evaluate m.safetensors nowhere",
                1,
                &["nowhere", "does not exist"],
            ),
        ],
    );
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
            &[
                "out.safetensors.checkpoint",
                "damaged",
                "leave out --resume",
            ],
        )],
    );
}
