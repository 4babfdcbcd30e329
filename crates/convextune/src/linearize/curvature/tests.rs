//! Curvature blocks against brute force.

mod brute;

use convextune_model::ops::{Padding, WindowSpec};
use convextune_model::tensor::Shape;
use convextune_solve::LinearOperator;
use convextune_solve::faer::Side;
use convextune_solve::faer::linalg::solvers::DenseSolveCore;
use convextune_solve::quadratic::Preconditioner;
use convextune_testkit::relative_error;

use self::brute::{
    Brute, CLASSES, IMAGE, add_outer, along, conv, images, network, patches, uneven,
};
use super::*;
use crate::progress::Silent;
use crate::samples::Samples;

const SAMPLES: usize = 6;
const SEED: u64 = 5;

fn kronecker(a: &Dense<f64>, g: &Dense<f64>) -> Dense<f64> {
    let n = g.nrows();
    Dense::from_fn(a.nrows() * n, a.nrows() * n, |i, j| {
        a[(i / n, j / n)] * g[(i % n, j % n)]
    })
}

fn error(got: &Dense<f64>, want: &Dense<f64>) -> f64 {
    let entries = |m: &Dense<f64>| -> Vec<f64> {
        (0..m.ncols())
            .flat_map(|j| m.col_as_slice(j).to_vec())
            .collect()
    };
    relative_error(&entries(got), &entries(want))
}

#[test]
fn sums_of_patches_equal_loops_over_positions() {
    let square = WindowSpec::square;
    let shape = Shape::new(3, 41, 38, 2);
    let x = images(shape.len());
    for conv in [
        conv(square(3, 2, Padding::all(1)), (2, 4), 1, true),
        conv(square(3, 1, Padding::Same), (2, 4), 1, false),
        conv(square(1, 1, Padding::Same), (2, 4), 1, false),
        conv(square(1, 1, Padding::Same), (2, 4), 1, true),
        conv(square(1, 2, Padding::Same), (2, 4), 1, false),
        conv(uneven([1, 2], [1, 1]), (2, 4), 1, true),
        conv(uneven([1, 1], [2, 3]), (2, 4), 1, false),
    ] {
        let size = conv.window.kernel.iter().product::<usize>() * 2 + usize::from(conv.bias);
        let mut a = Square::zeros(size);
        let view = View { shape, data: &x };
        let positions = add_patches(&conv, view, &mut a);
        let (mut want, mut count) = (Dense::zeros(size, size), 0.0);
        for image in x.chunks_exact(shape.image_len()) {
            let image: Vec<f64> = image.iter().map(|x| f64::from(*x)).collect();
            for patch in patches(&conv, shape, &image) {
                add_outer(&mut want, &patch);
                count += 1.0;
            }
        }
        let error = error(&a.scaled(1.0), &want);
        assert!(error < 1e-5, "{conv:?}: {error}");
        assert!((positions - count).abs() < 0.5, "{conv:?}: {positions}");
    }
}

/// One layer of all samples, its probes, and its range of weights.
struct Layer {
    brute: Vec<Brute>,
    probes: usize,
    range: Range<usize>,
}

impl Layer {
    fn new(name: &str, probes: usize) -> Self {
        let network = network().cast::<f64>();
        let node = network.graph().find(name).unwrap();
        let images = images(SAMPLES * IMAGE.len());
        let image = images.chunks_exact(IMAGE.len());
        Self {
            brute: image.map(|x| Brute::new(&network, node, x)).collect(),
            probes,
            range: network.parameter_range(node),
        }
    }

    /// The layers of each sample with each probe of it.
    fn each_probe(&self) -> impl Iterator<Item = (&Brute, Vec<f64>)> {
        let all = self.brute.iter().enumerate();
        all.flat_map(|(i, brute)| {
            (0..self.probes).map(move |j| {
                let mut v = [0.0f32; CLASSES];
                probe(SEED, (i, j), &mut v);
                (brute, v.map(f64::from).to_vec())
            })
        })
    }

    /// N T.
    fn positions(&self) -> f64 {
        self.brute.iter().map(|b| b.patches.len()).sum::<usize>() as f64
    }

    /// A, the sum over samples and positions.
    fn a(&self) -> Dense<f64> {
        let size = self.brute[0].patches[0].len();
        let mut a = Dense::zeros(size, size);
        for patch in self.brute.iter().flat_map(|b| &b.patches) {
            add_outer(&mut a, patch);
        }
        a
    }

    /// G, the sum over samples, positions and probes.
    fn g(&self) -> Dense<f64> {
        let size = self.brute[0].at_output[0].len();
        let mut g = Dense::zeros(size, size);
        for (brute, v) in self.each_probe() {
            for position in &brute.at_output {
                add_outer(&mut g, &along(position, &v));
            }
        }
        g
    }

    /// The block of the layer: the inverse of what the preconditioner does, less Lambda.
    fn block(&self, rescale: bool) -> Dense<f64> {
        let network = network();
        let samples = Samples::memory(IMAGE, images(SAMPLES * IMAGE.len()));
        let lin = Linearization::new(&network, 0, &samples, 4, &Silent).unwrap();
        let options = CurvatureOptions {
            probes: self.probes,
            seed: SEED,
            rescale,
        };
        let lambda = 10.0;
        let preconditioner = lin
            .curvature(options)
            .unwrap()
            .preconditioner(lambda)
            .unwrap();
        let len = self.range.len();
        let mut inverse = Dense::zeros(len, len);
        for k in 0..len {
            let mut unit = vec![0.0; lin.cols()];
            unit[self.range.start + k] = 1.0;
            let mut z = vec![0.0; lin.cols()];
            preconditioner.apply(&unit, &mut z);
            inverse
                .col_as_slice_mut(k)
                .copy_from_slice(&z[self.range.clone()]);
        }
        let full = inverse.partial_piv_lu().inverse();
        full - lambda * Dense::<f64>::identity(len, len)
    }
}

#[test]
fn kronecker_blocks_equal_loops_over_positions_and_probes() {
    for name in ["strided", "uneven", "pointwise", "hidden"] {
        let layer = Layer::new(name, 3);
        let scale = 1.0 / (layer.positions() * 3.0);
        let want = scale * kronecker(&layer.a(), &layer.g());
        let error = error(&layer.block(false), &want);
        assert!(error < 1e-5, "{name}: {error}");
    }
}

/// `F = (U_A (x) U_G) diag(S) (U_A (x) U_G)'` with `S = E[(U_A' grad U_G)^2]`, summed over samples.
#[test]
fn rescaled_blocks_have_the_measured_eigenvalues() {
    for name in ["strided", "uneven", "pointwise", "hidden"] {
        let layer = Layer::new(name, 3);
        let basis = |m: Dense<f64>| m.self_adjoint_eigen(Side::Lower).unwrap().U().to_owned();
        let basis = kronecker(&basis(layer.a()), &basis(layer.g()));
        let len = layer.range.len();
        let mut s = vec![0.0; len];
        for (brute, v) in layer.each_probe() {
            let gradient = along(&brute.at_weights, &v);
            let gradient = Dense::from_fn(len, 1, |i, _| gradient[i]);
            let rotated = basis.transpose() * gradient;
            let rotated = rotated.col_as_slice(0).iter();
            s.iter_mut()
                .zip(rotated)
                .for_each(|(s, r)| *s += r * r / 3.0);
        }
        let scaled = Dense::from_fn(len, len, |i, j| basis[(i, j)] * s[j]);
        let error = error(&layer.block(true), &(scaled * basis.transpose()));
        assert!(error < 1e-5, "{name}: {error}");
    }
}

#[test]
fn channel_blocks_equal_outer_products_of_gradients() {
    for (name, channels) in [("bn", 4), ("bn2", 5), ("depthwise", 5)] {
        let layer = Layer::new(name, 3);
        let len = layer.range.len();
        let mut full = Dense::zeros(len, len);
        for (brute, v) in layer.each_probe() {
            add_outer(&mut full, &along(&brute.at_weights, &v));
        }
        let want = Dense::from_fn(len, len, |i, j| {
            if i % channels == j % channels {
                full[(i, j)] / 3.0
            } else {
                0.0
            }
        });
        let error = error(&layer.block(false), &want);
        assert!(error < 1e-5, "{name}: {error}");
    }
}

/// `E[G] = sum_c g_c g_c'` over classes c; with `M = sum over positions of J_t[a] J_t[b]'` for a
/// sample, the variance of its part of `G_ab` is `2 ||sym M||^2` a probe.
#[test]
fn probes_average_to_the_sum_over_classes() {
    let probes = 500;
    let layer = Layer::new("uneven", probes);
    let size = layer.brute[0].at_output[0].len();
    let (mut exact, mut variance) = (Dense::<f64>::zeros(size, size), 0.0);
    for brute in &layer.brute {
        for (a, b) in (0..size * size).map(|ab| (ab / size, ab % size)) {
            let m = |c: usize, d: usize| -> f64 {
                brute.at_output.iter().map(|j| j[a][c] * j[b][d]).sum()
            };
            for c in 0..CLASSES {
                exact[(a, b)] += m(c, c);
                let squares = (0..CLASSES).map(|d| (0.5 * (m(c, d) + m(d, c))).powi(2));
                variance += 2.0 * squares.sum::<f64>() / probes as f64;
            }
        }
    }
    // <A (x) 1, F> over ||A||^2 leaves G / (N T probes).
    let (f, a) = (layer.block(false), layer.a());
    let scale = layer.positions() / a.squared_norm_l2();
    let estimate = Dense::from_fn(size, size, |p, q| {
        let entry = |i: usize, j: usize| a[(i, j)] * f[(i * size + p, j * size + q)];
        let rows = 0..a.nrows();
        scale
            * rows
                .map(|i| (0..a.nrows()).map(|j| entry(i, j)).sum::<f64>())
                .sum::<f64>()
    });
    let deviation = (&estimate - &exact).norm_l2() / variance.sqrt();
    println!(
        "{deviation} standard errors; relative {}",
        error(&estimate, &exact)
    );
    assert!(
        (0.05..2.5).contains(&deviation),
        "{deviation} standard errors"
    );
}
