//! Seconds of every node's passes by themselves: where a backbone's time goes.

use std::time::Instant;

use convextune_model::backbones::by_name;
use convextune_model::graph::Network;
use convextune_model::ops::{Cotangent, GradientSlot, Op, Operator, Primal};
use convextune_model::tensor::{Shape, Tensor, View};

use crate::engine::{Args, filled};

/// Prints one JSON line a node: milliseconds of forward, dual, adjoint to the input and adjoint to the
/// weights; and for convolutions the GFLOP/s of each as if summed directly (a dual pass has three such sums).
pub fn run(args: &Args) -> anyhow::Result<()> {
    let network = filled(by_name(&args.backbone)?.graph());
    let shapes = network
        .graph()
        .shapes(Shape::new(args.batch, args.size, args.size, 3))?;
    for id in 1..shapes.len() {
        let Some(times) = node_times(&network, id, &shapes) else {
            continue;
        };
        let node = &network.graph().nodes()[id];
        let operations = 2e-9 * multiply_adds_of(&node.op, shapes[id]);
        let rates = (operations > 0.0).then(|| {
            let [f, d, i, w] = times;
            [1.0 / f, 3.0 / d, 1.0 / i, 1.0 / w].map(|sums| sums * operations)
        });
        println!(
            "{}",
            serde_json::json!({
                "model": args.backbone, "batch": args.batch, "size": args.size, "threads": args.threads,
                "node": node.name, "kind": kind(&node.op), "output": shapes[id].to_string(),
                "milliseconds": times.map(|t| 1e3 * t), "gflops_if_direct": rates,
            })
        );
    }
    Ok(())
}

/// Multiplications of a convolution summed directly.
fn multiply_adds_of(op: &Op, output: Shape) -> f64 {
    match op {
        Op::Conv2d(conv) => {
            let [kh, kw] = conv.window.kernel;
            (output.len() * kh * kw * conv.cin / conv.groups) as f64
        }
        _ => 0.0,
    }
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Conv2d(conv) if conv.is_depthwise() => "depthwise",
        Op::Conv2d(conv) if conv.window.kernel == [1, 1] => "pointwise",
        Op::Conv2d(_) => "convolution",
        Op::BatchNorm(_) => "batch norm",
        _ => "other",
    }
}

/// Best of three of each pass of node `id`.
fn node_times(network: &Network<f32>, id: usize, shapes: &[Shape]) -> Option<[f64; 4]> {
    let node = &network.graph().nodes()[id];
    let op: &dyn Operator<f32> = node.op.operator()?;
    let w = network.node_weights(id);
    let tensor = |s: Shape| {
        Tensor::from_vec(
            s,
            (0..s.len())
                .map(|i| (i % 253) as f32 / 128.0 - 1.0)
                .collect(),
        )
    };
    let x: Vec<Tensor<f32>> = node.inputs.iter().map(|i| tensor(shapes[*i])).collect();
    let views: Vec<View<'_, f32>> = x.iter().map(Tensor::view).collect();
    let tangents: Vec<Option<View<'_, f32>>> = views.iter().map(|v| Some(*v)).collect();
    let (mut y, mut dy) = (tensor(shapes[id]), tensor(shapes[id]));
    let g = tensor(shapes[id]);
    let mut gx = x.clone();
    let mut gw = vec![0.0; w.parameters.len()];
    let mut best = [f64::INFINITY; 4];
    for _ in 0..3 {
        let mut time = |slot: usize, f: &mut dyn FnMut()| {
            let start = Instant::now();
            f();
            best[slot] = best[slot].min(start.elapsed().as_secs_f64());
        };
        time(0, &mut || op.forward(w, &views, &mut y));
        let dw = (!w.parameters.is_empty()).then_some(w.parameters);
        time(1, &mut || {
            op.dual(w, dw, &views, &tangents, &mut y, &mut dy);
        });
        let primal = Primal {
            inputs: &views,
            output: y.view(),
        };
        let cotangent = Cotangent {
            g: g.view(),
            repeat: 1,
        };
        time(2, &mut || {
            let mut slots: Vec<_> = gx
                .iter_mut()
                .map(|gx| {
                    Some(GradientSlot {
                        gx,
                        accumulate: false,
                    })
                })
                .collect();
            op.adjoint_input(w, primal, cotangent, &mut slots);
        });
        time(3, &mut || op.adjoint_weights(w, primal, cotangent, &mut gw));
    }
    Some(best)
}
