//! Which names a file may use, what is told apart by them, and what is refused.

use std::collections::BTreeMap;

use convextune_model::backbones::{Backbone, BackboneError, all, by_name, detect};
use convextune_model::tensor::Shape;
use convextune_model::weights::{NamedTensor, WeightFile};

use crate::fixture::{Fixture, generated};

/// Fixtures, and the backbones and naming schemes that they belong to.
const KNOWN: [(&str, &str, &str); 17] = [
    (
        "efficientnet_lite0_real",
        "efficientnet-lite0",
        "efficientnet_lite_pytorch",
    ),
    (
        "efficientnet_lite0_real_97x130",
        "efficientnet-lite0",
        "efficientnet_lite_pytorch",
    ),
    ("tf_efficientnet_lite0", "efficientnet-lite0", "timm"),
    ("tf_efficientnet_lite1", "efficientnet-lite1", "timm"),
    ("tf_efficientnet_lite2", "efficientnet-lite2", "timm"),
    ("tf_efficientnet_lite3", "efficientnet-lite3", "timm"),
    ("tf_efficientnet_lite4", "efficientnet-lite4", "timm"),
    ("mobilenet_v2", "mobilenetv2", "torchvision"),
    (
        "mobilenet_v2_features_real",
        "mobilenetv2",
        "torchvision before 0.3",
    ),
    ("resnet18", "resnet18", "torchvision"),
    ("resnet18_97x130", "resnet18", "torchvision"),
    ("resnet34", "resnet34", "torchvision"),
    ("resnet50", "resnet50", "torchvision"),
    ("resnet101", "resnet101", "torchvision"),
    ("resnet20_real", "cifar-resnet20", "pytorch_resnet_cifar10"),
    ("resnet56_real", "cifar-resnet56", "pytorch_resnet_cifar10"),
    ("vgg16", "vgg16", "torchvision"),
];

/// The file of a fixture with zeros for weights; wrappers' prefixes are off, as after reading.
fn zeros(fixture: &str) -> WeightFile {
    let mut file = generated(&[]);
    for (name, shape) in Fixture::read(fixture).tensors() {
        let data = vec![0.0; shape.iter().product()];
        let name = name.trim_start_matches("module.").to_owned();
        file.tensors.insert(name, NamedTensor { shape, data });
    }
    file
}

fn rename(file: &mut WeightFile, change: impl Fn(&str) -> String) {
    let tensors = std::mem::take(&mut file.tensors).into_iter();
    file.tensors = tensors
        .map(|(name, tensor)| (change(&name), tensor))
        .collect();
}

#[test]
fn every_published_file_is_recognised_and_every_tensor_used() {
    for (fixture, backbone, naming) in KNOWN {
        let file = zeros(fixture);
        assert_eq!(
            detect(&file).map(Backbone::name),
            Some(backbone),
            "{fixture}"
        );
        let loaded = by_name(backbone).unwrap().load(&file).unwrap();
        assert_eq!(loaded.naming, naming, "{fixture}");
        // Whatever is in the file is in the network, but for the counters.
        let counters = file
            .tensors
            .keys()
            .filter(|n| n.ends_with("num_batches_tracked"))
            .count();
        let stored: usize = file.tensors.values().map(|t| t.data.len()).sum();
        let classifier = loaded
            .classifier
            .map_or(0, |c| c.weights.len() + c.bias.len());
        let network = loaded.network.parameters().len() + loaded.network.buffers().len();
        assert_eq!(network + classifier, stored - counters, "{fixture}");
        assert_eq!(classifier == 0, fixture == "mobilenet_v2_features_real");
    }
}

#[test]
fn stages_have_the_recorded_shapes() {
    for (fixture, backbone, _) in KNOWN {
        let fixture = Fixture::read(fixture);
        let graph = by_name(backbone).unwrap().graph();
        let [h, w] = fixture.size();
        let shapes = graph.shapes(Shape::new(2, h, w, 3)).unwrap();
        let of_stage = |stage: &str| {
            let is_in = |name: &str| name == stage || name.starts_with(&format!("{stage}."));
            graph
                .nodes()
                .iter()
                .rposition(|n| is_in(&n.name))
                .map(|i| shapes[i])
        };
        let mut compared = 0;
        for (module, shape) in fixture.activations() {
            let stage = match module.as_str() {
                "_conv_stem" => "stem.conv".to_owned(),
                "bn1" => "stem.bn".to_owned(),
                "maxpool" => "stem.pool".to_owned(),
                "_conv_head" | "bn2" => "head".to_owned(),
                "avgpool" => "pool".to_owned(),
                // timm counts blocks by stage.
                name if name.starts_with("blocks.") => continue,
                name => name.trim_start_matches('_').to_owned(),
            };
            let Some(ours) = of_stage(&stage) else {
                continue;
            };
            let ours = [ours.n, ours.c, ours.h, ours.w];
            assert_eq!(ours[..shape.len()], shape, "{}: {module}", fixture.name);
            compared += 1;
        }
        assert!(
            compared >= 2,
            "{}: {compared} stages compared",
            fixture.name
        );
    }
}

#[test]
fn a_backbone_is_described_consistently() {
    for backbone in all() {
        let (graph, size) = (backbone.graph(), backbone.transform().size());
        let shapes = graph.shapes(Shape::new(1, size, size, 3)).unwrap();
        assert_eq!(
            shapes[graph.output()],
            Shape::new(1, 1, 1, backbone.features())
        );
        assert!(
            backbone.description().contains(&format!("{size} px")),
            "{}",
            backbone.name()
        );
        let d = format!("{} features", backbone.features());
        assert!(backbone.description().contains(&d), "{}", backbone.name());
        let weights = graph.parameters().last().unwrap().range.end as f64 / 1e6;
        let said = backbone.description().split(" M weights").next().unwrap();
        let said: f64 = said.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(
            (weights - said).abs() < 0.05 * said,
            "{}: {weights} M",
            backbone.name()
        );
        let names: BTreeMap<_, usize> = graph
            .nodes()
            .iter()
            .zip(0..)
            .map(|(n, i)| (n.name.as_str(), i))
            .collect();
        assert_eq!(names.len(), graph.nodes().len(), "{}", backbone.name());
        // Some file to fetch or to put there.
        assert!(backbone.source().is_some() || !backbone.files().is_empty());
    }
    let lite = by_name("efficientnet-lite0").unwrap().graph();
    for stage in [
        "stem.conv",
        "blocks.12.depthwise",
        "blocks.12.add",
        "head.bn",
        "pool",
    ] {
        assert!(lite.find(stage).is_ok(), "{stage}");
    }
}

#[test]
fn timm_names_of_mobilenet_and_vgg_are_known() {
    // The same network as torchvision's, its tensors in the same order, under timm's names.
    let mut mobilenet = generated(&[]);
    let timm = |name: &str| {
        let (module, part) = name.rsplit_once('.').unwrap();
        let module = match module {
            "features.0.0" => "conv_stem".to_owned(),
            "features.0.1" => "bn1".to_owned(),
            "features.18.0" => "conv_head".to_owned(),
            "features.18.1" => "bn2".to_owned(),
            "classifier.1" => "classifier".to_owned(),
            _ => inverted_residual(module),
        };
        format!("{module}.{part}")
    };
    for (name, tensor) in zeros("mobilenet_v2").tensors {
        mobilenet.tensors.insert(timm(&name), tensor);
    }
    assert_eq!(detect(&mobilenet).map(Backbone::name), Some("mobilenetv2"));
    let loaded = by_name("mobilenetv2").unwrap().load(&mobilenet).unwrap();
    assert!(loaded.naming == "timm" && loaded.classifier.is_some());

    let mut vgg = zeros("vgg16");
    rename(&mut vgg, |name| {
        let name = name.replace("classifier.0", "pre_logits.fc1");
        name.replace("classifier.3", "pre_logits.fc2")
            .replace("classifier.6", "head.fc")
    });
    for (fc, side) in [("fc1", 7), ("fc2", 1)] {
        let tensor = vgg
            .tensors
            .get_mut(&format!("pre_logits.{fc}.weight"))
            .unwrap();
        let ins = tensor.shape[1] / side / side;
        tensor.shape = vec![4096, ins, side, side];
    }
    let loaded = by_name("vgg16").unwrap().load(&vgg).unwrap();
    assert!(loaded.naming == "timm" && loaded.classifier.is_some());
}

/// timm's name of a part of one of torchvision's inverted residuals.
fn inverted_residual(module: &str) -> String {
    let mut parts = module.trim_start_matches("features.").split(".conv.");
    let block: usize = parts.next().unwrap().parse().unwrap();
    let starts = [1, 2, 4, 7, 11, 14, 17];
    let stage = starts.iter().rposition(|s| *s <= block).unwrap();
    let part = match (block, parts.next().unwrap()) {
        (1, "0.0") | (_, "1.0") => "conv_dw",
        (1, "1") | (2.., "0.0") => "conv_pw",
        (1, "2") | (_, "1.1") => "bn2",
        (_, "0.1") => "bn1",
        (_, "2") => "conv_pwl",
        _ => "bn3",
    };
    format!("blocks.{stage}.{}.{part}", block - starts[stage])
}

#[test]
fn another_networks_weights_are_called_by_their_name() {
    let file = zeros("mobilenet_v2_features_real");
    let error = by_name("efficientnet-lite0")
        .unwrap()
        .load(&file)
        .unwrap_err();
    assert!(matches!(
        error,
        BackboneError::OtherBackbone {
            found: "mobilenetv2",
            ..
        }
    ));
    let message = error.to_string();
    assert!(
        message.contains("look like the weights of mobilenetv2"),
        "{message}"
    );
}

#[test]
fn missing_and_misshaped_tensors_are_told_together() {
    let mut file = zeros("resnet18");
    file.tensors.remove("layer1.0.conv1.weight");
    file.tensors.get_mut("bn1.bias").unwrap().shape = vec![8, 8];
    let zero = NamedTensor {
        shape: vec![1],
        data: vec![0.0],
    };
    file.tensors.insert("layer5.weight".into(), zero);
    let message = by_name("resnet18")
        .unwrap()
        .load(&file)
        .unwrap_err()
        .to_string();
    for part in [
        "layer1.0.conv1.weight",
        "`bn1.bias` is [8, 8]",
        "layer5.weight",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(detect(&file).is_none());
}

#[test]
fn a_head_of_another_kind_is_left_out() {
    let mut file = zeros("resnet18");
    let head = NamedTensor {
        shape: vec![7, 512],
        data: vec![0.5; 7 * 512],
    };
    file.tensors.insert("fc.weight".into(), head);
    file.tensors.insert(
        "fc.bias".into(),
        NamedTensor {
            shape: vec![7],
            data: vec![1.0; 7],
        },
    );
    let loaded = by_name("resnet18").unwrap().load(&file).unwrap();
    assert_eq!(loaded.classifier.unwrap().classes(), 7);
    let narrow = NamedTensor {
        shape: vec![7, 256],
        data: vec![0.5; 7 * 256],
    };
    file.tensors.insert("fc.weight".into(), narrow);
    let loaded = by_name("resnet18").unwrap().load(&file).unwrap();
    assert!(loaded.classifier.is_none() && loaded.with_classifier().is_none());
}
