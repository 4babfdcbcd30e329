//! `<J v, g> = <v, J' g>` on whole backbones.

use convextune_model::backbones::{Backbone, all, by_name};
use convextune_model::graph::{Executor, Network};
use convextune_model::ops::{Op, Role};
use convextune_model::tensor::{Scalar, Tensor};
use convextune_testkit::Rng;

use crate::fixture::{images, real_weights};

/// Weights that keep activations at a sane size in every network: kernels of variance 2 / fan-in,
/// normalisations that are not far from the identity.
fn tame(backbone: &Backbone) -> Network<f32> {
    let graph = backbone.graph();
    let mut parameters = Vec::new();
    let mut rng = Rng::new(17);
    for p in graph.parameters() {
        let fan_in = p.dims[..p.dims.len() - 1].iter().product::<usize>().max(1) as f64;
        let scale = match p.dims.len() {
            1 => 0.1,
            _ => (2.0 / fan_in).sqrt(),
        };
        let mean = f64::from(p.role == Role::Gamma) * 0.8;
        let len: usize = p.dims.iter().product();
        parameters.extend((0..len).map(|_| (mean + scale * 1.7 * rng.symmetric()) as f32));
    }
    let mut buffers = Vec::new();
    for node in graph.nodes() {
        if let Op::BatchNorm(norm) = &node.op {
            let c = norm.channels;
            buffers.extend((0..c).map(|_| (0.1 * rng.symmetric()) as f32));
            buffers.extend((0..c).map(|_| (1.0 + 0.3 * rng.symmetric()) as f32));
        }
    }
    Network::new(graph, parameters, buffers)
}

/// |<Jv, g> - <v, J'g>| / (||Jv|| ||g||), all weights trained.
fn defect<T: Scalar>(network: &Network<T>, x: &Tensor<T>) -> f64 {
    let mut rng = Rng::new(3);
    let mut executor = Executor::new(network, 0);
    // Directions as large as the weights themselves, array by array.
    let v: Vec<T> = network
        .parameters()
        .iter()
        .map(|w| T::from_f64(w.to_f64() * rng.symmetric()))
        .collect();
    let recording = executor.record(x.clone(), Some(&v)).unwrap();
    let dy = recording.tangent.clone().unwrap();
    let g: Vec<T> = (0..dy.shape().len())
        .map(|_| T::from_f64(rng.symmetric()))
        .collect();
    let g = Tensor::from_vec(dy.shape(), g);
    let mut gw = vec![T::ZERO; executor.trainable_len()];
    executor.vjp(recording, g.clone(), &mut gw);
    let (dy, g) = (dy.data(), g.data());
    let (left, size) = (dot(dy, g), (dot(dy, dy) * dot(g, g)).sqrt());
    assert!(
        size.is_finite() && size > 0.0,
        "the pass has left the range of numbers"
    );
    (left - dot(&v, &gw)).abs() / size
}

/// `<a, b>`, summed in f64.
fn dot<T: Scalar>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

#[test]
fn in_both_precisions() {
    for backbone in all() {
        let network = tame(backbone);
        let size = backbone.transform().size();
        // VGG's fully connected layers fix the size of the images, and fill gigabytes in f64.
        let flatten = network.graph().find("flatten").ok();
        let side = if flatten.is_some() {
            size
        } else {
            size.min(64)
        };
        let single = defect(&network, &images(2, side, side));
        let convolutional = flatten.map_or(network.clone(), |node| network.truncated(node));
        let side = side.min(64);
        let double = defect(&convolutional.cast::<f64>(), &images(1, side, side).cast());
        println!(
            "{}: {single:.1e} in f32, {double:.1e} in f64",
            backbone.name()
        );
        assert!(
            single < 1e-4 && double < 1e-10,
            "{}: {single} {double}",
            backbone.name()
        );
    }
}

#[test]
fn with_the_weights_of_a_trained_network() {
    let Some(file) = real_weights("efficientnet-lite0-57934424.pth") else {
        return;
    };
    let loaded = by_name("efficientnet-lite0").unwrap().load(&file).unwrap();
    let single = defect(&loaded.network, &images(2, 224, 224));
    let double = defect(&loaded.network.cast::<f64>(), &images(1, 64, 64).cast());
    println!("real efficientnet-lite0: {single:.1e} in f32, {double:.1e} in f64");
    assert!(single < 1e-4 && double < 1e-10, "{single} {double}");
}
