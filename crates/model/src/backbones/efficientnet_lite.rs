//! EfficientNet-Lite0 to 4: EfficientNets (Tan and Le 2019, "EfficientNet: Rethinking Model
//! Scaling for Convolutional Neural Networks", table 1) without squeeze-and-excitation and with
//! ReLU6, as published with TensorFlow's `models/official/efficientnet/lite`.
//!
//! Width and depth grow from 0 to 4; stem (32) and head (1280) keep their width, first and last
//! stage their depth. Padding is TensorFlow's "SAME", the variances' epsilon 1e-3.
//!
//! Sizes, crop (32 pixels around the image) and normalisation, (x - 127) / 128, are the
//! publisher's. timm evaluates the same weights with (x - 127.5) / 127.5, and variants 3 and 4 at
//! 300 and 380 pixels. timm's `efficientnet_lite0` without `tf_` has other paddings and another
//! normalisation but the same tensors; nothing in a file tells it apart.

use super::blueprint::{Blueprint, Scheme};
use super::inverted_residual::{BlockNames, InvertedResidual, Style};
use crate::ops::{Activation, GlobalAveragePool, Op};

/// Width of the head, so of the pooled features.
pub(super) const FEATURES: usize = 1280;

/// Width of the stem.
const STEM: usize = 32;

const SCHEMES: &[Scheme] = &[
    Scheme::new("efficientnet_lite_pytorch", "_fc"),
    Scheme::new("timm", "classifier"),
];

const STYLE: Style = Style {
    eps: 1e-3,
    same_padding: true,
};

/// How a variant is scaled, in tenths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scaling {
    /// Channels.
    pub width: usize,
    /// Blocks of a stage.
    pub depth: usize,
    /// Side of the images, in pixels.
    pub size: usize,
}

/// One stage of the unscaled network: blocks, kernel, stride of the first, expansion, channels.
struct Stage(usize, usize, usize, usize, usize);

const STAGES: [Stage; 7] = [
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
];

impl Scaling {
    /// The nearest multiple of 8, never more than a tenth below the scaled number.
    fn channels(self, channels: usize) -> usize {
        let tenths = channels * self.width;
        let nearest = ((tenths + 40) / 80 * 8).max(8);
        if 100 * nearest < 9 * tenths {
            nearest + 8
        } else {
            nearest
        }
    }

    fn blocks(self, stage: usize, blocks: usize) -> usize {
        if stage == 0 || stage + 1 == STAGES.len() {
            blocks
        } else {
            (blocks * self.depth).div_ceil(10)
        }
    }
}

/// The network of a variant.
pub(super) fn blueprint(scaling: Scaling) -> Blueprint {
    let mut b = Blueprint::new(SCHEMES);
    let relu6 = (STYLE.eps, Activation::RELU6);
    let names = |pairs: [[&str; 2]; 2]| pairs.map(|pair| pair.map(str::to_owned));
    let stem_names = names([["_conv_stem", "_bn0"], ["conv_stem", "bn1"]]);
    let stem = STYLE.conv(3, STEM, 3, 2);
    let mut x = b.conv_norm(["stem.conv", "stem.bn"], stem, relu6, 0, &stem_names);
    let (mut cin, mut flat) = (STEM, 0);
    for (s, &Stage(blocks, kernel, stride, expand, channels)) in STAGES.iter().enumerate() {
        let cout = scaling.channels(channels);
        for i in 0..scaling.blocks(s, blocks) {
            let block = InvertedResidual {
                name: format!("blocks.{flat}"),
                cin,
                cout,
                expand,
                kernel,
                stride: if i == 0 { stride } else { 1 },
            };
            let names = [published(flat), BlockNames::timm(s, i, expand != 1)];
            x = block.push(&mut b, STYLE, x, &names);
            (cin, flat) = (cout, flat + 1);
        }
    }
    let head_names = names([["_conv_head", "_bn1"], ["conv_head", "bn2"]]);
    let head = STYLE.conv(cin, FEATURES, 1, 1);
    x = b.conv_norm(["head.conv", "head.bn"], head, relu6, x, &head_names);
    b.op("pool", Op::GlobalAveragePool(GlobalAveragePool), &[x]);
    b
}

fn published(block: usize) -> BlockNames {
    let pairs = [
        ["_expand_conv", "_bn0"],
        ["_depthwise_conv", "_bn1"],
        ["_project_conv", "_bn2"],
    ];
    BlockNames::new(&format!("_blocks.{block}"), pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_depths_are_those_of_the_published_variants() {
        let scaling = |width, depth| Scaling {
            width,
            depth,
            size: 224,
        };
        let widths = |width| STAGES.map(|s| scaling(width, 10).channels(s.4));
        assert_eq!(widths(10), [16, 24, 40, 80, 112, 192, 320]);
        assert_eq!(widths(11), [16, 24, 48, 88, 120, 208, 352]);
        assert_eq!(widths(14), [24, 32, 56, 112, 160, 272, 448]);
        let depths: Vec<_> = (0..7)
            .map(|s| scaling(14, 18).blocks(s, STAGES[s].0))
            .collect();
        assert_eq!(depths, [1, 4, 4, 6, 6, 8, 1]);
    }
}
