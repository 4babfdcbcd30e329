//! Seeded gated programs and points of them.

use convextune_solve::faer::Mat;
use convextune_solve::gated::{Activation, GatedMatrix, Loss, Neuron, Patterns, Penalty, Problem};
use convextune_solve::prox::cone::{Rows, project};
use convextune_testkit::{Rng, dot};

/// Every loss, each with a number of outputs.
pub const LOSSES: [(Loss, usize); 6] = [
    (Loss::Squared, 1),
    (Loss::Squared, 3),
    (Loss::CrossEntropy, 1),
    (Loss::CrossEntropy, 3),
    (Loss::SquaredHinge, 1),
    (Loss::SquaredHinge, 3),
];

/// Every penalty.
pub const PENALTIES: [Penalty; 5] = [
    Penalty::Neuron,
    Penalty::Feature,
    Penalty::L1,
    Penalty::SquaredL2,
    Penalty::Nuclear,
];

/// What a generated problem looks like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub loss: Loss,
    pub outputs: usize,
    pub penalty: Penalty,
    pub activation: Activation,
    pub intercept: bool,
    pub linear: bool,
}

impl Kind {
    /// Whether its certificate is implemented.
    pub fn has_certificate(self) -> bool {
        self.activation == Activation::Gated
            || !matches!(self.penalty, Penalty::Feature | Penalty::L1)
    }
}

/// All combinations.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (loss, outputs) in LOSSES {
        for penalty in PENALTIES {
            for activation in [Activation::Gated, Activation::Relu] {
                for (intercept, linear) in [(false, false), (true, false), (true, true)] {
                    kinds.push(Kind {
                        loss,
                        outputs,
                        penalty,
                        activation,
                        intercept,
                        linear,
                    });
                }
            }
        }
    }
    kinds
}

/// `n` samples, `d` normal features of which the last is 1, targets that depend on them, and the distinct
/// patterns among `gates` drawn ones.
pub fn random(kind: Kind, n: usize, d: usize, gates: usize, lambda: f64, seed: u64) -> Problem {
    let mut rng = Rng::new(seed);
    let x = Mat::from_fn(n, d, |_, j| if j + 1 == d { 1.0 } else { rng.normal() });
    let teacher = Mat::from_fn(d, kind.outputs, |_, _| rng.normal());
    let scores = &x * teacher;
    let noisy = Mat::from_fn(n, kind.outputs, |s, c| {
        scores[(s, c)].abs() - 1.0 + 0.5 * rng.normal()
    });
    let normals = Mat::from_fn(d, gates, |_, _| rng.normal());
    problem(kind, x, &noisy, &normals, lambda)
}

/// A problem on `x` whose targets are made from `scores` (`n x C`) in the way the loss asks for, with
/// the distinct patterns of `normals` (`d x P`).
pub fn problem(
    kind: Kind,
    x: Mat<f64>,
    scores: &Mat<f64>,
    normals: &Mat<f64>,
    lambda: f64,
) -> Problem {
    let n = x.nrows();
    let mean = |c: usize| (0..n).map(|s| scores[(s, c)]).sum::<f64>() / n as f64;
    // Above the mean: both classes occur.
    let means: Vec<f64> = (0..kind.outputs).map(mean).collect();
    let scores = Mat::from_fn(n, kind.outputs, |s, c| scores[(s, c)] - means[c]);
    let best = |s: usize| {
        let larger = |a: &usize, b: &usize| scores[(s, *a)].total_cmp(&scores[(s, *b)]);
        (0..kind.outputs).max_by(larger).unwrap()
    };
    let targets = Mat::from_fn(n, kind.outputs, |s, c| match (kind.loss, kind.outputs) {
        (Loss::Squared, _) => scores[(s, c)] + means[c],
        (_, 1) if scores[(s, 0)] > 0.0 => 1.0,
        (_, 1) => -1.0,
        (Loss::CrossEntropy, _) => f64::from(u8::from(best(s) == c)),
        (Loss::SquaredHinge, _) if best(s) == c => 1.0,
        (Loss::SquaredHinge, _) => -1.0,
    });
    let drawn = Patterns::of(x.as_ref(), normals.as_ref());
    let mut patterns = drawn.select(&drawn.distinct());
    let linear = kind.linear.then(|| patterns.len());
    if kind.linear {
        patterns.push((0..n).map(|_| true));
    }
    Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets,
        loss: kind.loss,
        penalty: kind.penalty,
        activation: kind.activation,
        lambda,
        linear,
        intercept: kind.intercept,
    }
}

/// Neurons with normal weights of about the length `scale`, projected onto their cones.
pub fn random_neurons(problem: &Problem, count: usize, scale: f64, rng: &mut Rng) -> Vec<Neuron> {
    let rows = Rows::new(problem.matrix.x());
    let (gates, d) = (problem.matrix.gates(), problem.matrix.features());
    let mut draw = |below: usize| (rng.uniform() * below as f64) as usize;
    let places: Vec<(usize, usize, bool)> = (0..count)
        .map(|_| (draw(gates), draw(problem.outputs()), draw(2) == 0))
        .collect();
    let neuron = |(gate, output, plus): (usize, usize, bool)| {
        let z: Vec<f64> = rng.normals(d).iter().map(|z| scale * z).collect();
        let side = |s: usize| {
            if problem.matrix.patterns().get(gate, s) {
                1.0
            } else {
                -1.0
            }
        };
        let weights = if problem.has_cone(gate) {
            project(&rows, &side, &z, &[]).point
        } else {
            z
        };
        Neuron {
            gate,
            output,
            sign: if plus { 1.0 } else { -1.0 },
            weights,
        }
    };
    // What is projected onto 0 comes out as rounding errors in any direction.
    let alive = |neuron: &Neuron| dot(&neuron.weights, &neuron.weights).sqrt() > 1e-9 * scale;
    places.into_iter().map(neuron).filter(alive).collect()
}

/// An intercept for a problem that has one, and none for one that has not.
pub fn random_intercept(problem: &Problem, rng: &mut Rng) -> Vec<f64> {
    let length = if problem.intercept {
        problem.outputs()
    } else {
        0
    };
    rng.normals(length)
}

/// Gates with every pattern of samples in `R^3` in general position: each cone of the arrangement has an
/// edge, where two samples `s`, `t` have the score 0, and is one of the four around it, for whose gates
/// `+-x_s x x_t` moves a little along `+-x_s / ||x_s|| +- x_t / ||x_t||`.
pub fn every_gate(x: &Mat<f64>) -> Mat<f64> {
    let unit = |s: usize| {
        let length = (0..3).map(|j| x[(s, j)] * x[(s, j)]).sum::<f64>().sqrt();
        [0, 1, 2].map(|j| x[(s, j)] / length)
    };
    let mut gates = Vec::new();
    for (s, t) in (0..x.nrows()).flat_map(|s| (0..s).map(move |t| (s, t))) {
        let (a, b) = (unit(s), unit(t));
        let edge = [0, 1, 2].map(|j| {
            let (k, l) = ((j + 1) % 3, (j + 2) % 3);
            a[k] * b[l] - a[l] * b[k]
        });
        for (sign, along, across) in SIGNS {
            gates.push([0, 1, 2].map(|j| sign * edge[j] + 1e-7 * (along * a[j] + across * b[j])));
        }
    }
    Mat::from_fn(3, gates.len(), |j, i| gates[i][j])
}

const SIGNS: [(f64, f64, f64); 8] = [
    (1.0, 1.0, 1.0),
    (1.0, 1.0, -1.0),
    (1.0, -1.0, 1.0),
    (1.0, -1.0, -1.0),
    (-1.0, 1.0, 1.0),
    (-1.0, 1.0, -1.0),
    (-1.0, -1.0, 1.0),
    (-1.0, -1.0, -1.0),
];
