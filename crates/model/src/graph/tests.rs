//! Whole passes on small networks: identities, differences, a dense Jacobian, cuts.

use convextune_testkit::{Rng, dot, relative_error};

use super::*;
use crate::ops::*;
use crate::tensor::Tensor;

/// A residual network with every operator, and its pieces shared by two paths.
fn small() -> Network<f64> {
    let mut g = Graph::new(3);
    let conv = |cin, cout, k, stride, groups| {
        let window = WindowSpec::square(k, stride, Padding::Same);
        Op::Conv2d(Conv2d {
            window,
            cin,
            cout,
            groups,
            bias: groups == 1,
        })
    };
    let leaky = Activation::RELU6.leaky(0.05);
    let bn = |channels, activation| {
        Op::BatchNorm(BatchNorm {
            channels,
            eps: 1e-3,
            activation,
        })
    };
    let stem = g.push("stem.conv", conv(3, 6, 3, 1, 1), &[0]);
    let stem = g.push("stem.bn", bn(6, leaky), &[stem]);
    let dw = g.push("blocks.0.dw", conv(6, 6, 3, 1, 6), &[stem]);
    let dw = g.push("blocks.0.bn", bn(6, Activation::IDENTITY), &[dw]);
    let add = g.push(
        "blocks.0.add",
        Op::Add(Add { activation: leaky }),
        &[dw, stem],
    );
    let pool = MaxPool {
        window: WindowSpec::square(3, 2, Padding::all(1)),
    };
    let pool = g.push("blocks.1.pool", Op::MaxPool(pool), &[add]);
    let a = g.push("blocks.1.a", conv(6, 4, 1, 1, 1), &[pool]);
    let b = g.push("blocks.1.b", conv(6, 4, 3, 1, 2), &[pool]);
    let cat = g.push("blocks.1.concat", Op::Concat(Concat), &[a, b]);
    let act = g.push(
        "blocks.1.act",
        Op::Activate(Activate { activation: leaky }),
        &[cat],
    );
    let pad = g.push(
        "blocks.2.pad",
        Op::ChannelPad(ChannelPad {
            before: 1,
            after: 0,
        }),
        &[act],
    );
    let average = AveragePool {
        window: WindowSpec::square(2, 1, Padding::all(0)),
        count_padding: true,
    };
    let average = g.push("blocks.2.pool", Op::AveragePool(average), &[pad]);
    let flat = g.push("blocks.2.flat", Op::Flatten(Flatten), &[average]);
    let fc = g.push(
        "fc",
        Op::Linear(Linear {
            cin: 2 * 2 * 9,
            cout: 4,
            bias: true,
        }),
        &[flat],
    );
    let _ = fc;
    let mut rng = Rng::new(5);
    let layout = g.layout();
    let last = layout.last().unwrap();
    let parameters = (0..last.parameters.end)
        .map(|_| 0.4 * rng.normal())
        .collect();
    let buffers = (0..last.buffers.end).map(|_| 0.5 + rng.uniform()).collect();
    Network::new(g, parameters, buffers)
}

fn images(n: usize) -> Tensor<f64> {
    let shape = Shape::new(n, 5, 6, 3);
    Tensor::from_vec(shape, Rng::new(6).normals(shape.len()))
}

/// J'g as one vector.
fn vjp(executor: &mut Executor<'_, f64>, x: Tensor<f64>, g: Tensor<f64>) -> Vec<f64> {
    let recording = executor.record(x, None).unwrap();
    let mut gw = vec![0.0; executor.trainable_len()];
    executor.vjp(recording, g, &mut gw);
    gw
}

#[test]
fn tangent_equals_differences_and_adjoint_identity_holds_from_every_stage() {
    let network = small();
    for stage in ["stem", "blocks.0.bn", "blocks.1", "fc"] {
        let first = network.graph().find(stage).unwrap();
        let mut executor = Executor::new(&network, first);
        let mut rng = Rng::new(8);
        let v = rng.normals(executor.trainable_len());
        let (y, dy) = executor.dual(images(3), &v).unwrap();
        let g = Tensor::from_vec(y.shape(), rng.normals(y.shape().len()));
        let gw = vjp(&mut executor, images(3), g.clone());
        let (left, right) = (dot(dy.data(), g.data()), dot(&v, &gw));
        assert!(
            (left - right).abs() < 1e-12 * left.abs().max(1.0),
            "{stage}: {left} {right}"
        );

        let offset = executor.offset();
        let moved = |t: f64| {
            let mut network = network.clone();
            for (w, v) in network.parameters[offset..].iter_mut().zip(&v) {
                *w += t * v;
            }
            Executor::new(&network, 0)
                .forward(images(3))
                .unwrap()
                .into_vec()
        };
        let h = 1e-6;
        let quotient: Vec<f64> = moved(h)
            .iter()
            .zip(moved(-h))
            .map(|(p, m)| (p - m) / (2.0 * h))
            .collect();
        assert!(relative_error(dy.data(), &quotient) < 1e-6, "{stage}");
    }
}

#[test]
fn columns_of_the_dense_jacobian_agree_with_its_rows() {
    let network = small();
    let first = network.graph().find("blocks.1").unwrap();
    let mut executor = Executor::new(&network, first);
    let d = executor.trainable_len();
    let outputs = 2 * 4;
    let mut by_columns = vec![0.0; outputs * d];
    for j in 0..d {
        let mut v = vec![0.0; d];
        v[j] = 1.0;
        let (_, dy) = executor.dual(images(2), &v).unwrap();
        (0..outputs).for_each(|i| by_columns[i * d + j] = dy.data()[i]);
    }
    for i in 0..outputs {
        let mut g = Tensor::zeros(Shape::new(2, 1, 1, 4));
        g.data_mut()[i] = 1.0;
        let row = vjp(&mut executor, images(2), g);
        assert!(relative_error(&row, &by_columns[i * d..(i + 1) * d]) < 1e-12);
    }
}

#[test]
fn gradients_of_single_samples_and_classes_share_one_primal_pass() {
    let network = small();
    let mut executor = Executor::new(&network, 0);
    let recording = executor.record_layers(images(2)).unwrap();
    let classes = 4;
    let mut g = Tensor::zeros(Shape::new(2 * classes, 1, 1, classes));
    for i in 0..2 * classes {
        g.data_mut()[i * classes + i % classes] = 1.0;
    }
    let d = network.parameters().len();
    let mut rows = vec![vec![0.0; d]; 2 * classes];
    executor.adjoint(&recording, g, (classes, 0), |layer| {
        for (i, row) in rows.iter_mut().enumerate() {
            let range = network.parameter_range(layer.node);
            layer.add_one_to(i / classes, i % classes, &mut row[range]);
        }
    });
    for (i, row) in rows.iter().enumerate() {
        let mut g = Tensor::zeros(Shape::new(2, 1, 1, classes));
        g.data_mut()[i] = 1.0;
        assert!(relative_error(row, &vjp(&mut executor, images(2), g)) < 1e-12);
    }
}

/// The way back may end at any node: the layers up to there are told the same, the others nothing.
#[test]
fn the_way_back_ends_where_it_is_told() {
    let network = small();
    let mut executor = Executor::new(&network, 0);
    let recording = executor.record_layers(images(2)).unwrap();
    let g = Tensor::from_vec(Shape::new(2, 1, 1, 4), Rng::new(8).normals(8));
    let mut down_to = |node| {
        let mut told = Vec::new();
        executor.adjoint(&recording, g.clone(), (1, node), |layer| {
            let mut gw = vec![0.0; network.parameter_range(layer.node).len()];
            layer.add_to(&mut gw);
            told.push((layer.node, gw));
        });
        told
    };
    let all = down_to(0);
    for node in 0..=network.graph().output() {
        let expected: Vec<_> = all.iter().filter(|(n, _)| *n >= node).cloned().collect();
        assert_eq!(down_to(node), expected, "{node}");
    }
}

#[test]
fn recorded_and_plain_passes_agree_and_buffers_are_reused() {
    let network = small();
    let mut executor = Executor::new(&network, 0);
    let v = Rng::new(3).normals(executor.trainable_len());
    let plain = executor.forward(images(2)).unwrap();
    for _ in 0..3 {
        let recording = executor.record(images(2), Some(&v)).unwrap();
        assert_eq!(recording.output, plain);
        let (y, dy) = executor.dual(images(2), &v).unwrap();
        assert_eq!((Some(&dy), &y), (recording.tangent.as_ref(), &plain));
        executor.recycle(recording);
    }
}

/// Images and gradients that come from outside must not pile up in the pool.
#[test]
fn the_pool_does_not_grow_with_the_passes() {
    let network = small();
    let mut executor = Executor::new(&network, 0);
    let v = vec![0.1; executor.trainable_len()];
    let mut gw = v.clone();
    let mut bytes = Vec::new();
    for _ in 0..20 {
        let y = executor.forward(images(2)).unwrap();
        let ones = Tensor::from_vec(y.shape(), vec![1.0; y.shape().len()]);
        executor.recycle_tensor(y);
        let (y, dy) = executor.dual(images(2), &v).unwrap();
        executor.recycle_tensor(y);
        executor.recycle_tensor(dy);
        let recording = executor.record(images(2), Some(&v)).unwrap();
        executor.vjp(recording, ones.clone(), &mut gw);
        let recording = executor.record_layers(images(2)).unwrap();
        executor.adjoint(&recording, ones, (1, 0), |_| {});
        executor.recycle_layers(recording);
        bytes.push(executor.buffer_bytes());
    }
    assert!(bytes[1..].iter().all(|b| *b == bytes[1]), "{bytes:?}");
}

#[test]
fn a_node_may_read_another_twice() {
    let mut graph = Graph::new(3);
    let conv = Conv2d {
        window: WindowSpec::square(1, 1, Padding::Same),
        cin: 3,
        cout: 2,
        groups: 1,
        bias: true,
    };
    let conv = graph.push("conv", Op::Conv2d(conv), &[0]);
    let activation = Activation::RELU;
    graph.push("twice", Op::Add(Add { activation }), &[conv, conv]);
    let weights = Rng::new(4).normals(8);
    let network = Network::new(graph, weights, Vec::new());
    let mut executor = Executor::new(&network, 0);
    let v = Rng::new(7).normals(8);
    let (y, dy) = executor.dual(images(2), &v).unwrap();
    let g = Tensor::from_vec(y.shape(), Rng::new(9).normals(y.shape().len()));
    let left: f64 = dy.data().iter().zip(g.data()).map(|(a, b)| a * b).sum();
    let gw = vjp(&mut executor, images(2), g);
    let right: f64 = v.iter().zip(&gw).map(|(a, b)| a * b).sum();
    assert!((left - right).abs() < 1e-12 * left.abs(), "{left} {right}");
}

#[test]
fn a_split_network_computes_the_same() {
    let network = small();
    let whole = Executor::new(&network, 0).forward(images(2)).unwrap();
    for stage in ["blocks.0", "blocks.0.add", "blocks.1.b", "fc"] {
        let cut = network
            .graph()
            .cut_before(network.graph().find(stage).unwrap());
        let split = network.split(cut, images(1).shape()).unwrap();
        let middle = Executor::new(&split.prefix, 0).forward(images(2)).unwrap();
        let y = Executor::new(&split.suffix, 0).forward(middle).unwrap();
        assert_eq!(y, whole, "{stage}");
    }
    assert_eq!(
        network
            .graph()
            .cut_before(network.graph().find("blocks.0.bn").unwrap()),
        2
    );
}

#[test]
fn an_unknown_stage_lists_the_known_ones() {
    let message = small().graph().find("layer3").unwrap_err().to_string();
    assert!(
        message.contains("blocks.1") && message.contains("layer3"),
        "{message}"
    );
    assert!(small().graph().find("blocks.1").is_ok());
    assert!(small().graph().find("block").is_err());
}

#[test]
fn the_adjoint_identity_fails_for_a_broken_tangent() {
    let network = small();
    let mut executor = Executor::new(&network, 0);
    let mut rng = Rng::new(8);
    let v = rng.normals(executor.trainable_len());
    let (y, dy) = executor.dual(images(2), &v).unwrap();
    let g = Tensor::from_vec(y.shape(), rng.normals(y.shape().len()));
    let mut gw = vjp(&mut executor, images(2), g.clone());
    gw[0] += 1e-3;
    assert!((dot(dy.data(), g.data()) - dot(&v, &gw)).abs() > 1e-6);
}
