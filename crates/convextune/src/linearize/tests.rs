//! The operator, its sketch, its kernel and its curvature against dense Jacobians.

mod ridge;

use convextune_model::graph::{Graph, Network};
use convextune_model::ops::{
    Activation, BatchNorm, Conv2d, GlobalAveragePool, Op, Padding, WindowSpec,
};
use convextune_testkit::{Rng, dot, relative_error};

use super::*;
use crate::progress::Silent;

pub(crate) const CLASSES: usize = 3;

/// A small network of the kinds of layers that have curvature blocks of their own.
pub(crate) fn network() -> Network<f32> {
    let mut g = Graph::new(3);
    let conv = |cin, cout, k, groups, bias| {
        let window = WindowSpec::square(k, 1, Padding::Same);
        Op::Conv2d(Conv2d {
            window,
            cin,
            cout,
            groups,
            bias,
        })
    };
    let bn = |channels| {
        let activation = Activation::RELU.leaky(0.1);
        Op::BatchNorm(BatchNorm {
            channels,
            eps: 1e-5,
            activation,
        })
    };
    let x = g.push("stem.conv", conv(3, 4, 3, 1, false), &[0]);
    let x = g.push("stem.bn", bn(4), &[x]);
    let x = g.push("blocks.0.depthwise", conv(4, 4, 3, 4, false), &[x]);
    let x = g.push("blocks.0.bn", bn(4), &[x]);
    let x = g.push("blocks.1.conv", conv(4, 6, 1, 1, true), &[x]);
    let x = g.push("blocks.1.grouped", conv(6, 6, 3, 2, false), &[x]);
    let x = g.push("blocks.1.bn", bn(6), &[x]);
    g.push("pool", Op::GlobalAveragePool(GlobalAveragePool), &[x]);
    let count: usize = g.parameters().iter().map(|p| p.range.len()).sum();
    let mut rng = Rng::new(21);
    let parameters = (0..count).map(|_| 0.5 * rng.normal() as f32).collect();
    let buffers = (0..28).map(|_| 0.5 + rng.uniform() as f32).collect();
    let head: Vec<f32> = (0..6 * CLASSES).map(|_| rng.normal() as f32).collect();
    Network::new(g, parameters, buffers).with_head("head", CLASSES, &head)
}

/// Noise around a colour of each sample's own: pooled features then differ between samples.
pub(crate) fn samples(n: usize) -> Samples {
    let shape = Shape::new(1, 5, 4, 3);
    let (mut colours, mut noise) = (Rng::new(23), Rng::new(22));
    let sample = |_| {
        let colour = colours.normals(3);
        let pixels = noise.normals(shape.len());
        let around = move |(i, x): (usize, f64)| (x + 2.0 * colour[i % 3]) as f32;
        pixels.into_iter().enumerate().map(around)
    };
    Samples::memory(shape, (0..n).flat_map(sample).collect())
}

/// J, row by row, from products with unit vectors of the image.
fn dense(lin: &Linearization<'_>) -> Vec<Vec<f64>> {
    let (rows, cols) = (lin.rows(), lin.cols());
    let unit = |i: usize| {
        (0..rows)
            .map(|j| f64::from(u8::from(i == j)))
            .collect::<Vec<_>>()
    };
    (0..rows)
        .map(|i| {
            let mut row = vec![0.0; cols];
            lin.apply_adjoint(&unit(i), &mut row).unwrap();
            row
        })
        .collect()
}

#[test]
fn products_agree_with_the_dense_jacobian() {
    let (network, samples) = (network(), samples(7));
    for stage in ["stem", "blocks.0.bn", "blocks.1", "head"] {
        let first = network.graph().find(stage).unwrap();
        let lin = Linearization::new(&network, first, &samples, 3, &Silent).unwrap();
        let j = dense(&lin);
        let mut rng = Rng::new(9);
        let (u, r) = (rng.normals(lin.cols()), rng.normals(lin.rows()));
        let ju: Vec<f64> = j.iter().map(|row| dot(row, &u)).collect();
        let (mut y, mut x) = (vec![0.0; lin.rows()], vec![0.0; lin.cols()]);
        lin.apply(&u, &mut y).unwrap();
        assert!(relative_error(&y, &ju) < 1e-5, "{stage}");
        lin.apply_adjoint(&r, &mut x).unwrap();
        let (left, right) = (dot(&y, &r), dot(&u, &x));
        let scale = dot(&y, &y).sqrt() * dot(&r, &r).sqrt();
        assert!(
            (left - right).abs() < 1e-5 * scale,
            "{stage}: {left} {right}"
        );
        let (mut image, mut normal) = (vec![0.0; lin.rows()], vec![0.0; lin.cols()]);
        lin.apply_normal(&u, &mut image, &mut normal).unwrap();
        assert!(relative_error(&image, &y) < 1e-6);
        lin.apply_adjoint(&y, &mut x).unwrap();
        assert!(relative_error(&normal, &x) < 1e-5);
    }
}

#[test]
fn work_is_counted() {
    let (network, samples) = (network(), samples(4));
    let lin = Linearization::new(&network, 0, &samples, 3, &Silent).unwrap();
    let (mut y, mut x) = (vec![0.0; lin.rows()], vec![0.0; lin.cols()]);
    lin.apply(&x.clone(), &mut y).unwrap();
    lin.apply_normal(&x.clone(), &mut y, &mut x).unwrap();
    let work = lin.work();
    assert_eq!(
        (work.passes, work.jvps, work.vjps, work.normal_products),
        (2.0, 2, 1, 1)
    );
}

#[test]
fn the_kernel_is_exact_in_one_run_and_in_many() {
    let (network, samples) = (network(), samples(5));
    let first = network.graph().find("blocks.0").unwrap();
    let lin = Linearization::new(&network, first, &samples, 2, &Silent).unwrap();
    let j = dense(&lin);
    for memory in [1 << 20, 4 * lin.rows() * 20] {
        let kernel = lin.kernel(memory).unwrap().kernel(1.0);
        for a in 0..lin.rows() {
            let want: Vec<f64> = j.iter().map(|row| dot(row, &j[a])).collect();
            let got: Vec<f64> = (0..lin.rows()).map(|b| kernel[(a, b)]).collect();
            assert!(relative_error(&got, &want) < 1e-5);
        }
    }
    assert!(lin.kernel_passes(4 * lin.rows() * 20) > 3);
}

#[test]
fn the_sketch_is_unbiased_and_its_head_part_exact() {
    let (network, samples) = (network(), samples(4));
    let lin = Linearization::new(&network, 0, &samples, 3, &Silent).unwrap();
    let kernel = lin.kernel(1 << 20).unwrap().kernel(1.0);
    let rows = lin.rows();
    let draws = 200;
    let mut mean = vec![0.0; rows * rows];
    let mut features = Vec::new();
    for seed in 0..draws {
        let options = SketchOptions {
            buckets: 64,
            seed,
            sketch_head: seed % 2 == 0,
        };
        let sketched = lin.sketch(options).unwrap();
        let z = |i: usize| &sketched.sketch.rows[i * 64..(i + 1) * 64];
        let head = |i: usize, j: usize| -> f64 {
            let phi = |i: usize| &sketched.features[(i / CLASSES) * 6..][..6];
            if options.sketch_head || i % CLASSES != j % CLASSES {
                return 0.0;
            }
            phi(i)
                .iter()
                .zip(phi(j))
                .map(|(a, b)| f64::from(a * b))
                .sum()
        };
        for i in 0..rows {
            for j in 0..rows {
                let inner: f64 = z(i).iter().zip(z(j)).map(|(a, b)| f64::from(a * b)).sum();
                mean[i * rows + j] += (inner + head(i, j)) / draws as f64;
            }
        }
        features = sketched.features;
    }
    let exact: Vec<f64> = (0..rows * rows)
        .map(|ij| kernel[(ij / rows, ij % rows)])
        .collect();
    assert!(
        relative_error(&mean, &exact) < 0.05,
        "{}",
        relative_error(&mean, &exact)
    );
    assert_eq!(features.len(), 4 * 6);
}

/// With one probe direction per class, sums over directions are exact; compare each block with
/// the same block of J'J where the factorisation is exact, and the head's with centred features.
#[test]
fn channel_blocks_equal_the_gauss_newton_matrix_in_expectation() {
    let (network, samples) = (network(), samples(6));
    let lin = Linearization::new(&network, 0, &samples, 4, &Silent).unwrap();
    let j = dense(&lin);
    let options = CurvatureOptions {
        probes: 3000,
        seed: 1,
        rescale: false,
    };
    let curvature = lin.curvature(options).unwrap();
    let lambda = 1.0;
    let preconditioner = curvature.preconditioner(lambda).unwrap();
    for (name, stride, size) in [("blocks.0.depthwise", 4, 9), ("blocks.0.bn", 4, 2)] {
        let start = network
            .parameter_range(network.graph().find(name).unwrap())
            .start;
        for channel in 0..2 {
            let columns: Vec<usize> = (0..size).map(|j| start + j * stride + channel).collect();
            let mut rng = Rng::new(3);
            let x = rng.normals(size);
            // r = (F + Lambda I) x with the exact F: the preconditioner must return about x.
            let mut r = vec![0.0; lin.cols()];
            for (a, &ca) in columns.iter().enumerate() {
                let fx: f64 = (0..size)
                    .map(|b| j.iter().map(|row| row[ca] * row[columns[b]]).sum::<f64>() * x[b])
                    .sum();
                r[ca] = fx + lambda * x[a];
            }
            let mut z = vec![0.0; lin.cols()];
            convextune_solve::quadratic::Preconditioner::apply(&preconditioner, &r, &mut z);
            let got: Vec<f64> = columns.iter().map(|c| z[*c]).collect();
            assert!(
                relative_error(&got, &x) < 0.1,
                "{name} {}",
                relative_error(&got, &x)
            );
        }
    }
}

#[test]
fn the_head_block_is_exact_for_the_centred_problem() {
    let (network, samples) = (network(), samples(6));
    let lin = Linearization::new(&network, 0, &samples, 4, &Silent).unwrap();
    let options = CurvatureOptions {
        probes: 1,
        seed: 1,
        rescale: false,
    };
    let preconditioner = lin.curvature(options).unwrap().preconditioner(0.7).unwrap();
    let centred = convextune_solve::Centred::new(&lin, CLASSES).unwrap();
    let head = network.parameter_range(network.graph().output());
    let mut x = vec![0.0; lin.cols()];
    let values = Rng::new(2).normals(head.len());
    x[head.clone()].copy_from_slice(&values);
    let (mut image, mut r) = (vec![0.0; lin.rows()], vec![0.0; lin.cols()]);
    centred.apply_normal(&x, &mut image, &mut r).unwrap();
    r.iter_mut().zip(&x).for_each(|(r, x)| *r += 0.7 * x);
    let mut z = vec![0.0; lin.cols()];
    convextune_solve::quadratic::Preconditioner::apply(&preconditioner, &r, &mut z);
    assert!(relative_error(&z[head], &values) < 1e-4);
}
