//! Times of single convolutions and of what goes with them, each pass by itself.
//!
//! `cargo bench -p convextune-model`, or with a part of a name: `cargo bench -p convextune-model -- depthwise`.

use std::hint::black_box;

use convextune_model::ops::{
    Activation, BatchNorm, Conv2d, Cotangent, GradientSlot, NodeWeights, Operator, Padding,
    ParameterShape, Primal, WindowSpec,
};
use convextune_model::tensor::{Shape, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Images in a batch.
const BATCH: usize = 16;

fn conv(kernel: usize, stride: usize, [cin, cout]: [usize; 2], groups: usize) -> Conv2d {
    Conv2d {
        window: WindowSpec::square(kernel, stride, Padding::Same),
        cin,
        cout,
        groups,
        bias: false,
    }
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (i * 37 % 253) as f32 / 128.0 - 1.0)
        .collect()
}

fn tensor(shape: Shape) -> Tensor<f32> {
    Tensor::from_vec(shape, numbers(shape.len()))
}

/// All passes of one operator on images of `side` pixels; `sums` multiplications in a forward pass.
fn passes(c: &mut Criterion, name: &str, op: &dyn Operator<f32>, x: Shape, sums: usize) {
    let Ok(shape) = op.output_shape(&[x]) else {
        return;
    };
    let length = op.parameters().iter().map(ParameterShape::len).sum();
    let (parameters, buffers) = (numbers(length), vec![1.0; op.buffers()]);
    let w = NodeWeights {
        parameters: &parameters,
        buffers: &buffers,
    };
    let (x, g) = (tensor(x), tensor(shape));
    let (mut y, mut dy, mut gx) = (tensor(shape), tensor(shape), x.clone());
    let mut gw = vec![0.0; length];
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    group.throughput(Throughput::Elements(sums as u64));
    let views = [x.view()];
    group.bench_function("forward", |b| {
        b.iter(|| op.forward(w, black_box(&views), &mut y));
    });
    group.throughput(Throughput::Elements(3 * sums as u64));
    group.bench_function("dual", |b| {
        b.iter(|| {
            let tangents = [Some(x.view())];
            op.dual(
                w,
                Some(&parameters),
                black_box(&views),
                &tangents,
                &mut y,
                &mut dy,
            );
        });
    });
    group.throughput(Throughput::Elements(sums as u64));
    let primal = Primal {
        inputs: &views,
        output: y.view(),
    };
    let cotangent = Cotangent {
        g: g.view(),
        repeat: 1,
    };
    group.bench_function("adjoint_input", |b| {
        b.iter(|| {
            let slot = GradientSlot {
                gx: &mut gx,
                accumulate: false,
            };
            op.adjoint_input(w, primal, black_box(cotangent), &mut [Some(slot)]);
        });
    });
    group.bench_function("adjoint_weights", |b| {
        b.iter(|| op.adjoint_weights(w, primal, black_box(cotangent), &mut gw));
    });
    group.finish();
}

fn convolutions(c: &mut Criterion) {
    let cases = [
        ("stem 7x7/2, 3 to 64 at 224", conv(7, 2, [3, 64], 1), 224),
        ("pointwise 256 to 64 at 56", conv(1, 1, [256, 64], 1), 56),
        ("pointwise 512 to 2048 at 7", conv(1, 1, [512, 2048], 1), 7),
        ("winograd 64 to 64 at 56", conv(3, 1, [64, 64], 1), 56),
        ("winograd 256 to 256 at 14", conv(3, 1, [256, 256], 1), 14),
        ("strided 3x3/2, 128 at 56", conv(3, 2, [128, 128], 1), 56),
        ("depthwise 3x3, 144 at 56", conv(3, 1, [144, 144], 144), 56),
        ("depthwise 5x5, 672 at 14", conv(5, 1, [672, 672], 672), 14),
        (
            "grouped 3x3, 32 groups of 4 at 56",
            conv(3, 1, [128, 128], 32),
            56,
        ),
    ];
    for (name, op, side) in cases {
        let x = Shape::new(BATCH, side, side, op.cin);
        let out = side / op.window.stride[0];
        let [kh, kw] = op.window.kernel;
        let sums = BATCH * out * out * op.cout * kh * kw * op.cin / op.groups;
        passes(c, name, &op, x, sums);
    }
}

fn normalisation(c: &mut Criterion) {
    let op = BatchNorm {
        channels: 256,
        eps: 1e-5,
        activation: Activation::RELU,
    };
    let x = Shape::new(BATCH, 56, 56, 256);
    passes(c, "batch norm and ReLU, 256 at 56", &op, x, x.len());
}

criterion_group!(benches, convolutions, normalisation);
criterion_main!(benches);
