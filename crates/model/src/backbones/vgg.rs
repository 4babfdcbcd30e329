//! VGG-16 without BatchNorm (Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for
//! Large-Scale Image Recognition", configuration D), named and numbered as in torchvision.
//!
//! The features are the 4096 numbers behind the second fully connected layer. The first one reads
//! an image of 7 by 7, so that images must have 224 to 255 pixels a side. Dropout, which is the
//! identity when nothing is trained with it, is left out.

use super::blueprint::{Blueprint, Scheme};
use crate::graph::NodeId;
use crate::ops::{Activate, Activation, Conv2d, Flatten, Linear, MaxPool, Op, Padding, WindowSpec};

/// Length of the features.
pub(super) const FEATURES: usize = 4096;

/// Rows and columns that the first fully connected layer reads.
const IMAGE: [usize; 2] = [7, 7];

const SCHEMES: &[Scheme] = &[
    Scheme::new("torchvision", "classifier.6"),
    Scheme {
        dense_as_convolution: true,
        ..Scheme::new("timm", "head.fc")
    },
];

/// Convolutions and their channels in each stage; a pooling ends it.
const STAGES: [(usize, usize); 5] = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];

/// The network.
pub(super) fn blueprint() -> Blueprint {
    let mut b = Blueprint::new(SCHEMES);
    let (mut x, mut cin, mut index) = (0, 3, 0);
    for (convs, cout) in STAGES {
        for _ in 0..convs {
            x = convolution(&mut b, index, [cin, cout], x);
            (cin, index) = (cout, index + 2);
        }
        let pool = MaxPool {
            window: WindowSpec::square(2, 2, Padding::all(0)),
        };
        x = b.op(&format!("features.{index}"), Op::MaxPool(pool), &[x]);
        index += 1;
    }
    x = b.op("flatten", Op::Flatten(Flatten), &[x]);
    let inputs = cin * IMAGE[0] * IMAGE[1];
    x = dense(&mut b, 0, inputs, IMAGE, x, "pre_logits.fc1");
    dense(&mut b, 3, FEATURES, [1, 1], x, "pre_logits.fc2");
    b
}

fn activation(b: &mut Blueprint, name: &str, x: NodeId) -> NodeId {
    let activation = Activation::RELU;
    b.op(name, Op::Activate(Activate { activation }), &[x])
}

fn convolution(b: &mut Blueprint, index: usize, [cin, cout]: [usize; 2], x: NodeId) -> NodeId {
    let conv = Conv2d {
        window: WindowSpec::square(3, 1, Padding::all(1)),
        cin,
        cout,
        groups: 1,
        bias: true,
    };
    let name = format!("features.{index}");
    let x = b.conv(&name, conv, x, vec![name.clone(), name.clone()]);
    activation(b, &format!("features.{}", index + 1), x)
}

fn dense(
    b: &mut Blueprint,
    index: usize,
    cin: usize,
    image: [usize; 2],
    x: NodeId,
    timm: &str,
) -> NodeId {
    let linear = Linear {
        cin,
        cout: FEATURES,
        bias: true,
    };
    let name = format!("classifier.{index}");
    let x = b.dense(&name, linear, image, x, vec![name.clone(), timm.to_owned()]);
    activation(b, &format!("classifier.{}", index + 1), x)
}
