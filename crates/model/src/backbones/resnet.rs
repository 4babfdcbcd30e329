//! ResNet-18, 34, 50 and 101 for ImageNet (He et al. 2016, "Deep Residual Learning for Image
//! Recognition", table 1), named as in torchvision and timm, which agree.
//!
//! As there, a bottleneck's stride is on its 3x3 convolution ("version 1.5"), and a shortcut that
//! changes shape is a 1x1 convolution with BatchNorm (option B of the paper).

use super::blueprint::{Blueprint, Scheme};
use crate::graph::NodeId;
use crate::ops::{Activation, Add, Conv2d, GlobalAveragePool, MaxPool, Op, Padding, WindowSpec};

const SCHEMES: &[Scheme] = &[Scheme::new("torchvision", "fc")];

const EPS: f64 = 1e-5;

/// Channels of the four stages, before a bottleneck widens them.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// Depth and kind of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layers {
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// 1x1, 3x3, 1x1 convolutions that widen by 4, instead of two 3x3 ones.
    pub bottleneck: bool,
}

impl Layers {
    fn widening(self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    /// Length of the pooled features.
    pub fn features(self) -> usize {
        WIDTHS[3] * self.widening()
    }
}

/// A convolution without bias that keeps the size but for its stride.
pub(super) fn conv(cin: usize, cout: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d {
        window: WindowSpec::square(kernel, stride, Padding::all(kernel / 2)),
        cin,
        cout,
        groups: 1,
        bias: false,
    }
}

/// The network.
pub(super) fn blueprint(layers: Layers) -> Blueprint {
    let mut b = Blueprint::new(SCHEMES);
    let names = [["conv1", "bn1"].map(str::to_owned)];
    let stem = conv(3, 64, 7, 2);
    let mut x = b.conv_norm(
        ["stem.conv", "stem.bn"],
        stem,
        (EPS, Activation::RELU),
        0,
        &names,
    );
    let pool = MaxPool {
        window: WindowSpec::square(3, 2, Padding::all(1)),
    };
    x = b.op("stem.pool", Op::MaxPool(pool), &[x]);
    let mut cin = 64;
    for (stage, (&blocks, &width)) in layers.blocks.iter().zip(&WIDTHS).enumerate() {
        for i in 0..blocks {
            let block = Block {
                name: format!("layer{}.{i}", stage + 1),
                cin,
                width,
                cout: width * layers.widening(),
                stride: if stage > 0 && i == 0 { 2 } else { 1 },
            };
            x = block.push(&mut b, layers.bottleneck, x);
            cin = block.cout;
        }
    }
    b.op("pool", Op::GlobalAveragePool(GlobalAveragePool), &[x]);
    b
}

/// One residual block.
struct Block {
    name: String,
    cin: usize,
    width: usize,
    cout: usize,
    stride: usize,
}

impl Block {
    fn push(&self, b: &mut Blueprint, bottleneck: bool, x: NodeId) -> NodeId {
        let &Self {
            cin,
            width,
            cout,
            stride,
            ..
        } = self;
        let convs = if bottleneck {
            vec![
                conv(cin, width, 1, 1),
                conv(width, width, 3, stride),
                conv(width, cout, 1, 1),
            ]
        } else {
            vec![conv(cin, width, 3, stride), conv(width, cout, 3, 1)]
        };
        let last = convs.len();
        let mut y = x;
        for (i, conv) in (1..).zip(convs) {
            let parts = [format!("conv{i}"), format!("bn{i}")];
            y = self.layer(b, &parts, conv, y, i < last);
        }
        let mut shortcut = x;
        if stride != 1 || cin != cout {
            let parts = ["downsample.0", "downsample.1"].map(str::to_owned);
            shortcut = self.layer(b, &parts, conv(cin, cout, 1, stride), x, false);
        }
        let add = Add {
            activation: Activation::RELU,
        };
        b.op(&format!("{}.add", self.name), Op::Add(add), &[y, shortcut])
    }

    /// A convolution and its BatchNorm, whose nodes are called as in the files.
    fn layer(
        &self,
        b: &mut Blueprint,
        parts: &[String; 2],
        conv: Conv2d,
        x: NodeId,
        activates: bool,
    ) -> NodeId {
        let names = parts.each_ref().map(|part| format!("{}.{part}", self.name));
        let activation = if activates {
            Activation::RELU
        } else {
            Activation::IDENTITY
        };
        let nodes = names.each_ref().map(String::as_str);
        b.conv_norm(
            nodes,
            conv,
            (EPS, activation),
            x,
            std::slice::from_ref(&names),
        )
    }
}
