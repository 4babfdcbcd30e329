//! What the curvature is compared with: patches gathered by loops, gradients in f64 by central
//! differences of forward passes (f is piecewise linear in each number that is moved).

use convextune_model::graph::{Executor, Graph, Network, NodeId};
use convextune_model::ops::{
    Activate, Activation, BatchNorm, Conv2d, GlobalAveragePool, Linear, Op, Padding, WindowSpec,
};
use convextune_model::tensor::{Shape, Tensor};
use convextune_solve::faer::Mat as Dense;

use crate::rng::Rng;

pub const CLASSES: usize = 3;
pub const IMAGE: Shape = Shape::new(1, 7, 6, 3);
const STEP: f64 = 1e-6;

pub fn conv(window: WindowSpec, (cin, cout): (usize, usize), groups: usize, bias: bool) -> Conv2d {
    Conv2d {
        window,
        cin,
        cout,
        groups,
        bias,
    }
}

pub fn uneven(stride: [usize; 2], dilation: [usize; 2]) -> WindowSpec {
    WindowSpec {
        kernel: [3, 2],
        stride,
        dilation,
        padding: Padding::Explicit {
            top: 2,
            bottom: 0,
            left: 0,
            right: 1,
        },
    }
}

/// A chain, so that it can be cut after every node.
pub fn network() -> Network<f32> {
    let square = WindowSpec::square;
    let activation = Activation::RELU.leaky(0.1);
    let leaky = || Op::Activate(Activate { activation });
    let bn = |channels| {
        Op::BatchNorm(BatchNorm {
            channels,
            eps: 1e-5,
            activation,
        })
    };
    let hidden = Linear {
        cin: 5,
        cout: 4,
        bias: true,
    };
    let strided = conv(square(3, 2, Padding::all(1)), (3, 4), 1, true);
    let depthwise = conv(square(3, 1, Padding::Same), (5, 5), 5, false);
    let pointwise = conv(square(1, 1, Padding::Same), (3, 5), 1, false);
    let mut g = Graph::new(IMAGE.c);
    for (name, op) in [
        ("strided", Op::Conv2d(strided)),
        ("bn", bn(4)),
        (
            "uneven",
            Op::Conv2d(conv(uneven([1, 1], [1, 1]), (4, 3), 1, false)),
        ),
        ("leaky", leaky()),
        ("pointwise", Op::Conv2d(pointwise)),
        ("bn2", bn(5)),
        ("depthwise", Op::Conv2d(depthwise)),
        ("leaky2", leaky()),
        ("pool", Op::GlobalAveragePool(GlobalAveragePool)),
        ("hidden", Op::Linear(hidden)),
        ("leaky3", leaky()),
    ] {
        let last = g.output();
        g.push(name, op, &[last]);
    }
    let count: usize = g.parameters().iter().map(|p| p.range.len()).sum();
    let mut rng = Rng::new(41, "test");
    let mut normals = |n: usize| (0..n).map(|_| 0.5 * rng.normal() as f32).collect();
    let (parameters, head): (Vec<f32>, Vec<f32>) = (normals(count), normals(4 * CLASSES));
    let buffers = (0..18).map(|_| 0.5 + rng.uniform() as f32).collect();
    Network::new(g, parameters, buffers).with_head("head", CLASSES, &head)
}

pub fn images(count: usize) -> Vec<f32> {
    let mut rng = Rng::new(42, "test");
    (0..count).map(|_| rng.normal() as f32).collect()
}

pub fn forward(network: &Network<f64>, shape: Shape, x: Vec<f64>) -> Tensor<f64> {
    let mut executor = Executor::new(network, network.graph().nodes().len());
    executor.forward(Tensor::from_vec(shape, x)).unwrap()
}

/// The derivative of `f` (to R^C) with respect to each number of `x`, by central differences.
pub fn differences(x: &[f64], f: impl Fn(Vec<f64>) -> Vec<f64>) -> Vec<Vec<f64>> {
    let moved = |k: usize, step: f64| {
        let mut x = x.to_vec();
        x[k] += step;
        f(x)
    };
    let difference = |k: usize| {
        let (above, below) = (moved(k, STEP), moved(k, -STEP));
        let pairs = above.iter().zip(&below);
        pairs.map(|(a, b)| (a - b) / (2.0 * STEP)).collect()
    };
    (0..x.len()).map(difference).collect()
}

/// Output size and leading padding along one axis, restated.
pub fn axis(window: &WindowSpec, axis: usize, size: usize) -> (usize, usize) {
    let stride = window.stride[axis];
    let extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
    match window.padding {
        Padding::Same => {
            let count = size.div_ceil(stride);
            (
                count,
                ((count - 1) * stride + extent).saturating_sub(size) / 2,
            )
        }
        Padding::Explicit {
            top,
            bottom,
            left,
            right,
        } => {
            let (before, after) = [(top, bottom), (left, right)][axis];
            ((size + before + after - extent) / stride + 1, before)
        }
    }
}

/// The patches of one image, `positions x (taps * channels (+ 1))`, by loops.
pub fn patches(conv: &Conv2d, shape: Shape, x: &[f64]) -> Vec<Vec<f64>> {
    let window = &conv.window;
    let ((rows, top), (columns, left)) = (axis(window, 0, shape.h), axis(window, 1, shape.w));
    let pixel = |row: usize, column: usize, channel: usize| {
        let inside =
            (top..top + shape.h).contains(&row) && (left..left + shape.w).contains(&column);
        if !inside {
            return 0.0;
        }
        x[((row - top) * shape.w + column - left) * shape.c + channel]
    };
    let mut all = Vec::new();
    for position in 0..rows * columns {
        let row = position / columns * window.stride[0];
        let column = position % columns * window.stride[1];
        let mut patch = Vec::new();
        for kh in 0..window.kernel[0] {
            for kw in 0..window.kernel[1] {
                for channel in 0..shape.c {
                    let (row, column) = (
                        row + kh * window.dilation[0],
                        column + kw * window.dilation[1],
                    );
                    patch.push(pixel(row, column, channel));
                }
            }
        }
        patch.extend(conv.bias.then_some(1.0));
        all.push(patch);
    }
    all
}

pub fn add_outer(sum: &mut Dense<f64>, x: &[f64]) {
    for (i, a) in x.iter().enumerate() {
        for (j, b) in x.iter().enumerate() {
            sum[(i, j)] += a * b;
        }
    }
}

/// What brute force knows about one layer of one sample.
pub struct Brute {
    /// What the kernel is multiplied with, one row a position.
    pub patches: Vec<Vec<f64>>,
    /// Derivatives of the C outputs with respect to the layer's output: per position, channel.
    pub at_output: Vec<Vec<Vec<f64>>>,
    /// Derivatives of the C outputs with respect to the layer's weights.
    pub at_weights: Vec<Vec<f64>>,
}

impl Brute {
    pub fn new(network: &Network<f64>, node: NodeId, image: &[f32]) -> Self {
        let image: Vec<f64> = image.iter().map(|x| f64::from(*x)).collect();
        let spec = &network.graph().nodes()[node];
        let input = forward(&network.truncated(spec.inputs[0]), IMAGE, image.clone());
        let patches = match &spec.op {
            Op::Conv2d(conv) if conv.groups == 1 => patches(conv, input.shape(), input.data()),
            Op::Linear(_) => vec![[input.data(), &[1.0]].concat()],
            _ => Vec::new(),
        };
        let split = network.split(node, IMAGE).unwrap();
        let output = forward(&split.prefix, IMAGE, image.clone());
        let shape = output.shape();
        let suffix = |y| forward(&split.suffix, shape, y).into_vec();
        let at_output = differences(output.data(), suffix);
        let range = network.parameter_range(node);
        let moved = |weights: Vec<f64>| {
            let mut network = network.clone();
            network.parameters_mut()[range.clone()].copy_from_slice(&weights);
            forward(&network, IMAGE, image.clone()).into_vec()
        };
        Self {
            patches,
            at_output: at_output.chunks(shape.c).map(<[_]>::to_vec).collect(),
            at_weights: differences(&network.parameters()[range.clone()], moved),
        }
    }
}

/// `sum_c v_c df_c/dx` for every x.
pub fn along(derivatives: &[Vec<f64>], v: &[f64]) -> Vec<f64> {
    let inner = |d: &Vec<f64>| d.iter().zip(v).map(|(d, v)| d * v).sum();
    derivatives.iter().map(inner).collect()
}
