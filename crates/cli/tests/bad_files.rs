//! Weight files and model files that cannot be used.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::cases::{GOOD, case, check, fit, fit_model};
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
        1,
        &[
            case(
                &given("cut.safetensors"),
                "cut.safetensors + damaged or incomplete",
            ),
            case(&given("corrupt.safetensors"), "corrupt.safetensors"),
            case(&given("nan.safetensors"), "nan.safetensors + NaN"),
            case(
                &given("twice.safetensors"),
                "twice.safetensors + `a` + twice",
            ),
            case(&given("cut.pth"), "cut.pth + damaged or incomplete"),
            case(&given("corrupt.pth"), "corrupt.pth + damaged or incomplete"),
            case(
                &given("attack.pth"),
                "attack.pth + `os.system` + nothing was run",
            ),
            case(&given("cut.th"), "cut.th + damaged or incomplete"),
            case(&given("corrupt.th"), "corrupt.th"),
            case(
                &given("attack.th"),
                "attack.th + `os.system` + nothing was run",
            ),
            case(&given("few.pth"), "few.pth + missing"),
            case(&given("empty.pth"), "empty.pth + 0 bytes"),
            case(&given("page.pth"), "page.pth + web page"),
            case(
                &given("other.safetensors"),
                "other.safetensors + cifar-resnet32",
            ),
            case(
                &given("misshaped.safetensors"),
                "misshaped.safetensors + [16, 27]",
            ),
            case(&given("nowhere.pth"), "nowhere.pth"),
            case(&given("photos"), "photos"),
            case(&fit("--weights few.pth"), "few.pth + --backbone"),
            case(
                &fit("--backbone resnet18"),
                "resnet18 + backbone pull + cache",
            ),
            case("backbone pull cifar-resnet20", "resnet20-12fca82f.th"),
            case("backbone check nan.safetensors", "nan.safetensors + NaN"),
            case(
                "backbone check weights.safetensors --backbone resnet18",
                "cifar-resnet20",
            ),
            case(
                &fit(&format!("{GOOD} --linearize-from layer9")),
                "`layer9` + layer3",
            ),
        ],
    );
    assert!(!place.path("attacked").exists(), "a pickle ran code");
}

/// Writes `from` again with its header changed by `edit`.
fn with_header(from: &Path, to: &Path, edit: impl Fn(String) -> String) {
    let (tensors, mut metadata) = read_safetensors_with_metadata::<f32>(from).unwrap();
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
    fit_model(&place);
    put_models(&place);
    let photo = "photos/test/red/0.png";
    place.photos("strange", &["blue", "purple"], 2);
    fs::write(place.path("empty.png"), b"").unwrap();
    let predict = |model: &str| format!("predict {model} {photo}");
    check(
        &place,
        1,
        &[
            case(
                &predict("newer.safetensors"),
                "newer.safetensors + format version 99 + update",
            ),
            case(
                "info newer.safetensors",
                "newer.safetensors + format version 99",
            ),
            case(
                &predict("garbled.safetensors"),
                "garbled.safetensors + header is damaged",
            ),
            case(
                &predict("unknown.safetensors"),
                "unknown.safetensors + cifar-resnet21",
            ),
            case(
                &predict("classes.safetensors"),
                "classes.safetensors + numbers instead of",
            ),
            case(&predict("scale.safetensors"), "scale.safetensors + batch"),
            case(
                &predict("cut.safetensors"),
                "cut.safetensors + damaged or incomplete",
            ),
            case(
                &predict("weights.safetensors"),
                "weights.safetensors + is a weight file + --weights",
            ),
            case(
                &fit("--weights m.safetensors"),
                "m.safetensors: is a model + weights of a backbone are needed",
            ),
            case(
                &fit("--backbone cifar-resnet20 --weights m.safetensors"),
                "m.safetensors: is a model + backbone pull",
            ),
            case(
                "backbone check m.safetensors",
                "m.safetensors: is a model + backbone pull",
            ),
            case(&predict("nowhere.safetensors"), "nowhere.safetensors"),
            case(
                &predict("photos/test/red/0.png"),
                "0.png: is not a model + convextune fit",
            ),
            case(
                "predict m.safetensors nowhere.png",
                "nowhere.png + does not exist",
            ),
            case("predict m.safetensors empty.png", "empty.png + is empty"),
            case("predict m.safetensors photos", "photos"),
            case("evaluate m.safetensors strange", "strange + `purple`"),
            case("evaluate m.safetensors nowhere", "nowhere + does not exist"),
        ],
    );
}
