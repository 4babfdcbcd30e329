//! The block of MobileNetV2 and of the EfficientNets (Sandler et al. 2018, "MobileNetV2: Inverted
//! Residuals and Linear Bottlenecks", figure 4): expand, filter by depth, project, add.
//!
//! ```text
//! x -> 1x1 conv, BN, ReLU6 -> depthwise conv, BN, ReLU6 -> 1x1 conv, BN -> (+ x)
//! ```
//!
//! There is no expansion when its factor is 1, and no sum when the shape changes.

use super::blueprint::{Blueprint, ConvNormNames};
use crate::graph::NodeId;
use crate::ops::{Activation, Add, Conv2d, Op, Padding, WindowSpec};

/// What is the same for all convolutions of a network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Added to the variances.
    pub eps: f64,
    /// TensorFlow's "SAME" instead of half the kernel on every side.
    pub same_padding: bool,
}

impl Style {
    /// A convolution without bias.
    pub fn conv(self, cin: usize, cout: usize, kernel: usize, stride: usize) -> Conv2d {
        let padding = if self.same_padding {
            Padding::Same
        } else {
            Padding::all(kernel / 2)
        };
        Conv2d {
            window: WindowSpec::square(kernel, stride, padding),
            cin,
            cout,
            groups: 1,
            bias: false,
        }
    }
}

/// One block.
#[derive(Clone, Debug)]
pub(super) struct InvertedResidual {
    /// What is before the dot in the names of its nodes.
    pub name: String,
    /// Channels in.
    pub cin: usize,
    /// Channels out.
    pub cout: usize,
    /// Channels of the middle, as a multiple of `cin`.
    pub expand: usize,
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
}

/// What a scheme calls the three convolutions of a block and their BatchNorms.
#[derive(Clone, Debug)]
pub(super) struct BlockNames {
    /// 1x1; not used without expansion.
    pub expand: ConvNormNames,
    /// By channel.
    pub depthwise: ConvNormNames,
    /// 1x1, without activation.
    pub project: ConvNormNames,
}

impl BlockNames {
    /// `prefix` before three pairs of names.
    pub fn new(prefix: &str, pairs: [[&str; 2]; 3]) -> Self {
        let [expand, depthwise, project] =
            pairs.map(|pair| pair.map(|name| format!("{prefix}.{name}")));
        Self {
            expand,
            depthwise,
            project,
        }
    }

    /// timm's names of block `index` of stage `stage`.
    pub fn timm(stage: usize, index: usize, expands: bool) -> Self {
        let prefix = format!("blocks.{stage}.{index}");
        if expands {
            let pairs = [["conv_pw", "bn1"], ["conv_dw", "bn2"], ["conv_pwl", "bn3"]];
            Self::new(&prefix, pairs)
        } else {
            Self::new(&prefix, [["", ""], ["conv_dw", "bn1"], ["conv_pw", "bn2"]])
        }
    }
}

impl InvertedResidual {
    /// Appends the block; `names` has one entry for each scheme.
    pub fn push(&self, b: &mut Blueprint, style: Style, x: NodeId, names: &[BlockNames]) -> NodeId {
        let middle = self.cin * self.expand;
        let name = |part: &str| format!("{}.{part}", self.name);
        let mut layer = |part: &str, conv: Conv2d, activation, x, names: Vec<ConvNormNames>| {
            let (conv_name, norm_name) = (name(part), name(&format!("{part}_bn")));
            let norm = (style.eps, activation);
            b.conv_norm([&conv_name, &norm_name], conv, norm, x, &names)
        };
        let relu6 = Activation::RELU6;
        let mut y = x;
        if self.expand != 1 {
            let conv = style.conv(self.cin, middle, 1, 1);
            let names = names.iter().map(|n| n.expand.clone()).collect();
            y = layer("expand", conv, relu6, y, names);
        }
        let depthwise = Conv2d {
            groups: middle,
            ..style.conv(middle, middle, self.kernel, self.stride)
        };
        let depthwise_names = names.iter().map(|n| n.depthwise.clone()).collect();
        y = layer("depthwise", depthwise, relu6, y, depthwise_names);
        let project = style.conv(middle, self.cout, 1, 1);
        let project_names = names.iter().map(|n| n.project.clone()).collect();
        y = layer("project", project, Activation::IDENTITY, y, project_names);
        if self.stride == 1 && self.cin == self.cout {
            let add = Add {
                activation: Activation::IDENTITY,
            };
            y = b.op(&name("add"), Op::Add(add), &[y, x]);
        }
        y
    }
}
