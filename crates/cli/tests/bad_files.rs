//! Weight files and model files that cannot be used.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::cases::{GOOD, case, check, fit};
use common::pickle::{attack, state_dict, torch_legacy, torch_zip};
use common::{Place, weights};
use convextune_model::weights::{read_safetensors_with_metadata, write_safetensors};

/// Unusable files in the safetensors format.
fn put_safetensors(place: &Place) {
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
}

/// Unusable files in both of PyTorch's formats, and some that are neither.
fn put_pytorch(place: &Place) {
    let put = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
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
}

#[test]
fn weights_that_cannot_be_used() {
    let place = Place::new();
    put_safetensors(&place);
    put_pytorch(&place);
    let given = |file: &str| fit(&format!("--backbone cifar-resnet20 --weights {file}"));
    check(
        &place,
        &[
            case(
                &given("cut.safetensors"),
                1,
                "cut.safetensors + damaged or incomplete",
            ),
            case(&given("corrupt.safetensors"), 1, "corrupt.safetensors"),
            case(&given("nan.safetensors"), 1, "nan.safetensors + NaN"),
            case(
                &given("twice.safetensors"),
                1,
                "twice.safetensors + `a` + twice",
            ),
            case(&given("cut.pth"), 1, "cut.pth + damaged or incomplete"),
            case(
                &given("corrupt.pth"),
                1,
                "corrupt.pth + damaged or incomplete",
            ),
            case(
                &given("attack.pth"),
                1,
                "attack.pth + `os.system` + nothing was run",
            ),
            case(&given("cut.th"), 1, "cut.th + damaged or incomplete"),
            case(&given("corrupt.th"), 1, "corrupt.th"),
            case(
                &given("attack.th"),
                1,
                "attack.th + `os.system` + nothing was run",
            ),
            case(&given("few.pth"), 1, "few.pth + missing"),
            case(&given("empty.pth"), 1, "empty.pth + 0 bytes"),
            case(&given("page.pth"), 1, "page.pth + web page"),
            case(
                &given("other.safetensors"),
                1,
                "other.safetensors + cifar-resnet32",
            ),
            case(
                &given("misshaped.safetensors"),
                1,
                "misshaped.safetensors + [16, 27]",
            ),
            case(&given("nowhere.pth"), 1, "nowhere.pth"),
            case(&given("photos"), 1, "photos"),
            case(&fit("--weights few.pth"), 1, "few.pth + --backbone"),
            case(
                &fit("--backbone resnet18"),
                1,
                "resnet18 + backbone pull + cache",
            ),
            case("backbone pull cifar-resnet20", 1, "resnet20-12fca82f.th"),
            case("backbone check nan.safetensors", 1, "nan.safetensors + NaN"),
            case(
                "backbone check weights.safetensors --backbone resnet18",
                1,
                "cifar-resnet20",
            ),
            case(
                &fit(&format!("{GOOD} --linearize-from layer9")),
                1,
                "`layer9` + layer3",
            ),
        ],
    );
    assert!(!place.path("attacked").exists(), "a pickle ran code");
}

/// Writes `from` again with its header changed by `edit`.
fn with_header(from: &Path, to: &Path, edit: impl Fn(String) -> String) {
    let (tensors, mut metadata) = read_safetensors_with_metadata(from).unwrap();
    let header = metadata.get_mut("convextune").unwrap();
    *header = edit(std::mem::take(header));
    write_safetensors(to, &tensors, &metadata).unwrap();
}

/// Damaged copies of `m.safetensors`.
fn put_models(place: &Place) {
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
    put_models(&place);
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
                "newer.safetensors + format version 99 + update",
            ),
            case(
                "info newer.safetensors",
                1,
                "newer.safetensors + format version 99",
            ),
            case(
                &predict("garbled.safetensors"),
                1,
                "garbled.safetensors + header is damaged",
            ),
            case(
                &predict("unknown.safetensors"),
                1,
                "unknown.safetensors + cifar-resnet21",
            ),
            case(
                &predict("classes.safetensors"),
                1,
                "classes.safetensors + numbers instead of",
            ),
            case(
                &predict("scale.safetensors"),
                1,
                "scale.safetensors + batch",
            ),
            case(
                &predict("cut.safetensors"),
                1,
                "cut.safetensors + damaged or incomplete",
            ),
            case(
                &predict("weights.safetensors"),
                1,
                "weights.safetensors + convextune fit",
            ),
            case(&predict("nowhere.safetensors"), 1, "nowhere.safetensors"),
            case(&predict("photos/test/red/0.png"), 1, "0.png"),
            case(
                "predict m.safetensors nowhere.png",
                1,
                "nowhere.png + does not exist",
            ),
            case("predict m.safetensors empty.png", 1, "empty.png + is empty"),
            case("predict m.safetensors photos", 1, "photos"),
            case("evaluate m.safetensors strange", 1, "strange + `purple`"),
            case(
                "evaluate m.safetensors nowhere",
                1,
                "nowhere + does not exist",
            ),
        ],
    );
}
