//! MobileNetV2 at width 1 (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear
//! Bottlenecks", table 2), with the names and paddings of torchvision.

use super::blueprint::{Blueprint, Scheme};
use super::inverted_residual::{BlockNames, InvertedResidual, Style};
use crate::ops::{Activation, GlobalAveragePool, Op};

/// Width of the pooled features.
pub(super) const FEATURES: usize = 1280;

const STEM: usize = 32;

const SCHEMES: &[Scheme] = &[
    Scheme::new("torchvision", "classifier.1"),
    Scheme::new("torchvision before 0.3", "classifier.1"),
    Scheme::new("timm", "classifier"),
];

const STYLE: Style = Style {
    eps: 1e-5,
    same_padding: false,
};

/// Blocks, stride of the first, expansion, channels of each stage.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 1, 1, 16),
    (2, 2, 6, 24),
    (3, 2, 6, 32),
    (4, 2, 6, 64),
    (3, 1, 6, 96),
    (3, 2, 6, 160),
    (1, 1, 6, 320),
];

/// The network.
pub(super) fn blueprint() -> Blueprint {
    let mut b = Blueprint::new(SCHEMES);
    let relu6 = (STYLE.eps, Activation::RELU6);
    let stem = STYLE.conv(3, STEM, 3, 2);
    let names = ends(0, ["conv_stem", "bn1"]);
    let mut x = b.conv_norm(["features.0.conv", "features.0.bn"], stem, relu6, 0, &names);
    let (mut cin, mut flat) = (STEM, 1);
    for (stage, &(blocks, stride, expand, cout)) in STAGES.iter().enumerate() {
        for i in 0..blocks {
            let block = InvertedResidual {
                name: format!("features.{flat}"),
                cin,
                cout,
                expand,
                kernel: 3,
                stride: if i == 0 { stride } else { 1 },
            };
            let names = [
                nested(flat, expand != 1),
                numbered(flat, expand != 1),
                BlockNames::timm(stage, i, expand != 1),
            ];
            x = block.push(&mut b, STYLE, x, &names);
            (cin, flat) = (cout, flat + 1);
        }
    }
    let head = STYLE.conv(cin, FEATURES, 1, 1);
    let names = ends(flat, ["conv_head", "bn2"]);
    let nodes = [
        format!("features.{flat}.conv"),
        format!("features.{flat}.bn"),
    ];
    x = b.conv_norm([&nodes[0], &nodes[1]], head, relu6, x, &names);
    b.op("pool", Op::GlobalAveragePool(GlobalAveragePool), &[x]);
    b
}

/// Names of the first and the last convolution.
fn ends(feature: usize, timm: [&str; 2]) -> [[String; 2]; 3] {
    let torchvision = [0, 1].map(|i| format!("features.{feature}.{i}"));
    [torchvision.clone(), torchvision, timm.map(str::to_owned)]
}

/// torchvision since 0.3: each convolution and its BatchNorm are a unit.
fn nested(feature: usize, expands: bool) -> BlockNames {
    let pairs = if expands {
        [["0.0", "0.1"], ["1.0", "1.1"], ["2", "3"]]
    } else {
        [["", ""], ["0.0", "0.1"], ["1", "2"]]
    };
    BlockNames::new(&format!("features.{feature}.conv"), pairs)
}

/// Before: layers numbered through, activations included.
fn numbered(feature: usize, expands: bool) -> BlockNames {
    let pairs = if expands {
        [["0", "1"], ["3", "4"], ["6", "7"]]
    } else {
        [["", ""], ["0", "1"], ["3", "4"]]
    };
    BlockNames::new(&format!("features.{feature}.conv"), pairs)
}
