//! Whole networks, with every kind of chain, against the reference engine; and backbones against
//! themselves on other vector instructions.

use convextune_model::backbones::by_name;
use convextune_model::graph::{Engine, Executor, Graph, Network, NodeId};
use convextune_model::kernels::lanes::Limit;
use convextune_model::ops::{
    Activate, Activation, Add, BatchNorm, Conv2d, GlobalAveragePool, Linear, Op, Padding, Role,
    WindowSpec,
};
use convextune_model::tensor::{Scalar, Shape, Tensor};
use convextune_testkit::{Rng, dot, relative_error};

use crate::on_every_path;
use crate::reference::{Field, evaluate, filled};
use crate::slow::Slow;

fn conv(
    g: &mut Graph,
    from: NodeId,
    kernel: usize,
    stride: usize,
    [cin, cout]: [usize; 2],
) -> NodeId {
    let name = format!("{}.conv", g.nodes().len());
    let conv = Conv2d {
        window: WindowSpec::square(kernel, stride, Padding::Same),
        cin,
        cout,
        groups: if cin == cout && kernel == 5 { cin } else { 1 },
        bias: false,
    };
    g.push(name, Op::Conv2d(conv), &[from])
}

fn norm(g: &mut Graph, from: NodeId, channels: usize, activation: Activation) -> NodeId {
    let name = format!("{}.bn", g.nodes().len());
    let norm = BatchNorm {
        channels,
        eps: 1e-3,
        activation,
    };
    g.push(name, Op::BatchNorm(norm), &[from])
}

/// Channels of [`blocks`] that all kernels take part in.
const WIDE: [usize; 4] = [18, 20, 7, 9];
/// Channels for which a product with every single weight is soon done.
const NARROW: [usize; 4] = [3, 4, 2, 3];

/// Residual blocks with and without a convolution in the shortcut, a depthwise block, a
/// convolution with a bias and an activation of its own, and results that several nodes read.
fn blocks([p, q, r, s]: [usize; 4]) -> Graph {
    let leaky = Activation::RELU6.leaky(0.1);
    let identity = Activation::IDENTITY;
    let mut g = Graph::new(3);
    let stem = conv(&mut g, 0, 3, 2, [3, p]);
    let stem = norm(&mut g, stem, p, leaky);
    let a = conv(&mut g, stem, 3, 1, [p, q]);
    let a = norm(&mut g, a, q, identity);
    let shortcut = conv(&mut g, stem, 1, 1, [p, q]);
    let shortcut = norm(&mut g, shortcut, q, identity);
    let sum = g.push("sum", Op::Add(Add { activation: leaky }), &[shortcut, a]);
    let dw = conv(&mut g, sum, 5, 1, [q, q]);
    let dw = norm(&mut g, dw, q, leaky);
    let back = conv(&mut g, dw, 1, 1, [q, q]);
    let back = norm(&mut g, back, q, identity);
    let add = Add {
        activation: identity,
    };
    let sum = g.push("sum2", Op::Add(add), &[back, sum]);
    // Read twice, so not part of a chain.
    let twice = conv(&mut g, sum, 1, 1, [q, r]);
    let once = norm(&mut g, twice, r, leaky);
    let sum = g.push("sum3", Op::Add(Add { activation: leaky }), &[once, twice]);
    // Two sums read the same shortcut, so that its gradient comes from both.
    let mut top = sum;
    for name in ["sum4", "sum5"] {
        let branch = conv(&mut g, top, 1, 1, [r, r]);
        let branch = norm(&mut g, branch, r, identity);
        top = g.push(name, Op::Add(Add { activation: leaky }), &[branch, sum]);
    }
    let biased = Conv2d {
        window: WindowSpec::square(3, 1, Padding::all(1)),
        cin: r,
        cout: s,
        groups: 1,
        bias: true,
    };
    let biased = g.push("biased", Op::Conv2d(biased), &[top]);
    let act = Activate {
        activation: Activation::RELU.leaky(0.2),
    };
    let act = g.push("act", Op::Activate(act), &[biased]);
    let pool = g.push("pool", Op::GlobalAveragePool(GlobalAveragePool), &[act]);
    let linear = Linear {
        cin: s,
        cout: 4,
        bias: true,
    };
    g.push("fc", Op::Linear(linear), &[pool]);
    g
}

fn wide<T: Scalar>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// Plain and recorded passes, with and without a tangent, against the reference; the adjoint by
/// its identity, and the sum that goes back chain by chain by that over all layers.
fn check<T: Scalar>(network: &Network<f64>, tolerance: f64) {
    let mut rng = Rng::new(3);
    let shape = Shape::new(3, 22, 19, 3);
    let (x, v) = (
        rng.normals(shape.len()),
        rng.normals(network.parameters().len()),
    );
    let want = evaluate(network, &v, Field::constant(shape, &x));
    let narrow = |x: &[f64]| -> Vec<T> { x.iter().map(|x| T::from_f64(*x)).collect() };
    let network = network.cast::<T>();
    let mut executor = Executor::new(&network, 0);
    let images = || Tensor::from_vec(shape, narrow(&x));
    let agrees = |got: &[T], want: &[f64]| {
        let error = relative_error(&wide(got), want);
        assert!(error < tolerance, "{error:e}");
    };
    agrees(executor.forward(images()).unwrap().data(), &want.values());
    let (y, dy) = executor.dual(images(), &narrow(&v)).unwrap();
    agrees(y.data(), &want.values());
    agrees(dy.data(), &want.slopes());
    for tangent in [None, Some(narrow(&v))] {
        let recording = executor.record(images(), tangent.as_deref()).unwrap();
        agrees(recording.output.data(), &want.values());
        if let Some(dy) = &recording.tangent {
            agrees(dy.data(), &want.slopes());
        }
        let g = rng.normals(want.numbers.len());
        let mut gw = vec![T::ZERO; v.len()];
        let cotangent = Tensor::from_vec(recording.output.shape(), narrow(&g));
        executor.vjp(recording, cotangent.clone(), &mut gw);
        let mut by_layers = vec![T::ZERO; v.len()];
        let recording = executor.record_layers(images()).unwrap();
        executor.adjoint(&recording, cotangent, (1, 0), |layer| {
            layer.add_to(&mut by_layers[network.parameter_range(layer.node)]);
        });
        executor.recycle_layers(recording);
        agrees(&gw, &wide(&by_layers));
        let (left, right) = (dot(&want.slopes(), &g), dot(&v, &wide(&gw)));
        let error = (left - right).abs() / left.abs().max(right.abs());
        assert!(error < 10.0 * tolerance, "{left} is not {right}");
    }
}

#[test]
fn a_network_with_every_chain_agrees_with_the_reference() {
    let mut rng = Rng::new(2);
    let mut network = filled(blocks(WIDE), || rng.normal());
    // A channel that a normalisation shuts off still has gradients.
    let ranges = network.graph().parameters();
    let gammas = ranges.iter().filter(|p| p.role == Role::Gamma);
    let shut: Vec<usize> = gammas.map(|p| p.range.start + 1).collect();
    shut.iter().for_each(|i| network.parameters_mut()[*i] = 0.0);
    on_every_path(|_| {
        check::<f64>(&network, 1e-12);
        check::<f32>(&network, 2e-5);
    });
}

/// Outputs, tangents and the gradient of every single weight.
#[test]
fn the_engine_agrees_with_the_slow_one_number_by_number() {
    let mut rng = Rng::new(12);
    let network = filled(blocks(NARROW), || rng.normal());
    let shape = Shape::new(2, 7, 6, 3);
    let (x, v) = (
        Tensor::from_vec(shape, rng.normals(shape.len())),
        rng.normals(network.parameters().len()),
    );
    let g = rng.normals(2 * 4);
    let run = |engine: &mut dyn Engine<f64>| {
        assert_eq!(engine.trainable_len(), v.len());
        let mut all = engine.forward(x.clone()).unwrap().into_vec();
        let (y, dy) = engine.dual(x.clone(), &v).unwrap();
        all.extend(y.into_vec().into_iter().chain(dy.into_vec()));
        let pass = engine.record_sum(x.clone(), Some(&v)).unwrap();
        all.extend_from_slice(pass.output().data());
        all.extend_from_slice(pass.tangent().unwrap().data());
        let mut gw = vec![0.0; v.len()];
        let shape = pass.output().shape();
        pass.vjp(Tensor::from_vec(shape, g.clone()), &mut gw);
        (all, gw)
    };
    let (want, want_gradient) = run(&mut Slow(&network));
    on_every_path(|_| {
        let (got, gradient) = run(&mut Executor::new(&network, 0));
        assert!(relative_error(&got, &want) < 1e-13);
        for (i, (got, want)) in gradient.iter().zip(&want_gradient).enumerate() {
            assert!((got - want).abs() < 1e-11, "weight {i}: {got}, not {want}");
        }
    });
}

/// The output of a backbone in f32. (Tangents of networks this deep differ by percents between any
/// two orders of summation: an activation near its kink takes the other slope.)
fn outputs(network: &Network<f32>) -> Vec<f64> {
    let mut rng = Rng::new(4);
    let shape = Shape::new(2, 64, 64, 3);
    let x: Vec<f32> = rng.normals(shape.len()).iter().map(|x| *x as f32).collect();
    let mut executor = Executor::new(network, 0);
    wide(executor.forward(Tensor::from_vec(shape, x)).unwrap().data())
}

#[test]
fn backbones_give_the_same_on_every_path() {
    for name in ["efficientnet-lite0", "mobilenetv2", "resnet18", "resnet50"] {
        let graph = by_name(name).unwrap().graph();
        let mut rng = Rng::new(6);
        let network = filled(graph, || rng.normal()).cast::<f32>();
        let mut first: Option<Vec<f64>> = None;
        on_every_path(|limit| {
            if limit == Limit::Scalar && name.starts_with("resnet") {
                return; // minutes without optimisation
            }
            let got = outputs(&network);
            let error = first
                .as_ref()
                .map_or(0.0, |first| relative_error(&got, first));
            assert!(error < 1e-4, "{name} with {limit:?}: {error:e}");
            first.get_or_insert(got);
        });
    }
}

/// Masks are read off activations, so these must not depend on what else is in the batch.
#[test]
fn a_sample_alone_equals_itself_in_a_batch_to_the_bit() {
    let networks = ["efficientnet-lite0", "resnet18"].map(|name| {
        let mut rng = Rng::new(9);
        filled(by_name(name).unwrap().graph(), || rng.normal()).cast::<f32>()
    });
    on_every_path(|limit| {
        if limit == Limit::Scalar {
            return; // minutes without optimisation
        }
        for network in &networks {
            let shape = Shape::new(9, 64, 64, 3);
            let x = Rng::new(8).normals(shape.len());
            let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            let mut executor = Executor::new(network, 0);
            let all = executor
                .forward(Tensor::from_vec(shape, x.clone()))
                .unwrap();
            for i in [0, 8] {
                let image = x[i * shape.image_len()..(i + 1) * shape.image_len()].to_vec();
                let one = executor
                    .forward(Tensor::from_vec(shape.with_n(1), image))
                    .unwrap();
                assert!(one.data() == all.view().image(i).data, "image {i}");
            }
        }
    });
}

#[test]
fn a_network_cut_inside_a_block_runs() {
    let network = filled(blocks(WIDE), || 0.5);
    // After the convolution in a shortcut: the node before it has no reader left.
    let cut = network.truncated(5);
    on_every_path(|_| {
        let x = Tensor::from_vec(Shape::new(1, 8, 8, 3), vec![1.0; 192]);
        let shape = Executor::new(&cut, 0).forward(x).unwrap().shape();
        assert_eq!(shape, Shape::new(1, 4, 4, 20));
    });
}
