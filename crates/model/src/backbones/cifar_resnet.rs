//! The CIFAR ResNets of 20, 32, 44 and 56 layers (He et al. 2016, "Deep Residual Learning for
//! Image Recognition", section 4.2), named as in `akamaster/pytorch_resnet_cifar10`.
//!
//! Shortcuts have no weights (option A): where the image shrinks they take every second pixel and
//! put zero channels on both sides.

use super::blueprint::{Blueprint, Scheme};
use super::resnet::conv;
use crate::graph::NodeId;
use crate::ops::{
    Activation, Add, AveragePool, ChannelPad, GlobalAveragePool, Op, Padding, WindowSpec,
};

/// Length of the pooled features.
pub(super) const FEATURES: usize = 64;

const SCHEMES: &[Scheme] = &[Scheme::new("pytorch_resnet_cifar10", "linear")];

const EPS: f64 = 1e-5;

const WIDTHS: [usize; 3] = [16, 32, 64];

/// The network of `6 blocks + 2` layers.
pub(super) fn blueprint(blocks: usize) -> Blueprint {
    let mut b = Blueprint::new(SCHEMES);
    let relu = (EPS, Activation::RELU);
    let names = [["conv1", "bn1"].map(str::to_owned)];
    let mut x = b.conv_norm(["stem.conv", "stem.bn"], conv(3, 16, 3, 1), relu, 0, &names);
    let mut cin = WIDTHS[0];
    for (stage, cout) in (1..).zip(WIDTHS) {
        for i in 0..blocks {
            x = block(&mut b, &format!("layer{stage}.{i}"), [cin, cout], x);
            cin = cout;
        }
    }
    b.op("pool", Op::GlobalAveragePool(GlobalAveragePool), &[x]);
    b
}

/// Two convolutions and a shortcut; the first has stride 2 where the channels change.
fn block(b: &mut Blueprint, name: &str, [cin, cout]: [usize; 2], x: NodeId) -> NodeId {
    let stride = if cin == cout { 1 } else { 2 };
    let convs = [
        (conv(cin, cout, 3, stride), Activation::RELU),
        (conv(cout, cout, 3, 1), Activation::IDENTITY),
    ];
    let mut y = x;
    for (i, (conv, activation)) in (1..).zip(convs) {
        let names = [format!("{name}.conv{i}"), format!("{name}.bn{i}")];
        let nodes = names.each_ref().map(String::as_str);
        y = b.conv_norm(
            nodes,
            conv,
            (EPS, activation),
            y,
            std::slice::from_ref(&names),
        );
    }
    let mut shortcut = x;
    if cin != cout {
        let every_second = AveragePool {
            window: WindowSpec::square(1, stride, Padding::all(0)),
            count_padding: true,
        };
        let sampled = format!("{name}.shortcut.sample");
        shortcut = b.op(&sampled, Op::AveragePool(every_second), &[shortcut]);
        let side = (cout - cin) / 2;
        let pad = ChannelPad {
            before: side,
            after: side,
        };
        shortcut = b.op(
            &format!("{name}.shortcut.pad"),
            Op::ChannelPad(pad),
            &[shortcut],
        );
    }
    let add = Add {
        activation: Activation::RELU,
    };
    b.op(&format!("{name}.add"), Op::Add(add), &[y, shortcut])
}
