//! Certificates of gated programs: weak duality, known optima, points that are no optima.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::gated::{Kind, PENALTIES, kinds, random, random_intercept, random_neurons};
use convextune_solve::SolveError;
use convextune_solve::faer::Mat;
use convextune_solve::gated::{
    Activation, GatedMatrix, Loss, Neuron, Patterns, Penalty, Problem, certify, lambda_max,
};
use convextune_testkit::Rng;

const SQUARED: Kind = Kind {
    loss: Loss::Squared,
    outputs: 1,
    penalty: Penalty::Neuron,
    activation: Activation::Gated,
    intercept: false,
    linear: false,
};

#[test]
fn no_dual_value_is_above_any_objective() {
    for (seed, kind) in kinds()
        .into_iter()
        .filter(|k| k.has_certificate())
        .enumerate()
    {
        let problem = random(kind, 14, 3, 12, 0.05, seed as u64);
        let mut rng = Rng::new(1000 + seed as u64);
        let (mut least, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
        for scale in [0.0, 0.01, 0.03, 0.1, 0.1, 0.3, 1.0] {
            let neurons = random_neurons(&problem, 4, scale, &mut rng);
            let intercept = random_intercept(&problem, &mut rng);
            let c = certify(&problem, &neurons, &intercept).unwrap();
            assert!(c.constraint_violation < 1e-11, "{kind:?}: {c:?}");
            assert!(
                c.duality_gap > 0.0 && c.dual_value.is_finite(),
                "{kind:?}: {c:?}"
            );
            least = least.min(c.objective);
            largest = largest.max(c.dual_value);
        }
        assert!(
            largest > 0.0 && largest <= least,
            "{kind:?}: {largest} {least}"
        );
    }
}

/// The zero network with the best intercept, found by bisection on the derivative of the loss.
fn best_intercept(problem: &Problem) -> Vec<f64> {
    if !problem.intercept {
        return Vec::new();
    }
    let mut b = vec![0.0; problem.outputs()];
    let mean_gradient = |b: &[f64], c: usize| {
        let z = Mat::from_fn(problem.matrix.samples(), b.len(), |_, c| b[c]);
        let gradient = problem.loss.gradient(z.as_ref(), problem.targets.as_ref());
        (0..z.nrows()).map(|s| gradient[(s, c)]).sum::<f64>()
    };
    // One coordinate after the other; the softmax couples them.
    for _ in 0..60 {
        for c in 0..b.len() {
            let (mut low, mut high) = (-20.0, 20.0);
            for _ in 0..60 {
                b[c] = f64::midpoint(low, high);
                if mean_gradient(&b, c) > 0.0 {
                    high = b[c];
                } else {
                    low = b[c];
                }
            }
        }
    }
    b
}

#[test]
fn at_lambda_max_the_zero_network_is_optimal_and_just_below_it_is_not() {
    let exact = |kind: &Kind| {
        let relaxed = kind.activation == Activation::Relu && kind.penalty == Penalty::Nuclear;
        kind.has_certificate() && kind.penalty != Penalty::SquaredL2 && !relaxed
    };
    for (seed, kind) in kinds().into_iter().filter(exact).enumerate() {
        let mut problem = random(kind, 15, 3, 10, 1.0, 7 + seed as u64);
        let b = best_intercept(&problem);
        let largest = lambda_max(&problem).unwrap();
        let gap = |problem: &Problem| certify(problem, &[], &b).unwrap().relative_duality_gap;
        for factor in [1.0, 1.0 + 1e-9, 1.7] {
            problem.lambda = factor * largest;
            assert!(
                gap(&problem).abs() < 1e-9,
                "{kind:?} {factor}: {}",
                gap(&problem)
            );
        }
        problem.lambda = 0.9 * largest;
        assert!(gap(&problem) > 1e-4, "{kind:?}: {}", gap(&problem));
    }
}

/// Two gates with disjoint samples, on which the columns of `X` are orthogonal and of square `n`: with
/// `c_i = X' D_i Y / n` the program is `1/(2n) ||Y||^2 - 1/2 ||c||^2 + 1/2 ||U - c||^2 + lambda R(U)`.
fn orthogonal(penalty: Penalty, lambda: f64) -> (Problem, Vec<Mat<f64>>) {
    let signs = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]];
    let x = Mat::from_fn(8, 2, |s, j| signs[s % 4][j] * 2.0_f64.sqrt());
    let mut patterns = Patterns::new(8);
    patterns.push((0..8).map(|s| s < 4));
    patterns.push((0..8).map(|s| s >= 4));
    let mut rng = Rng::new(11);
    let targets = Mat::from_fn(8, 2, |_, _| 2.0 * rng.normal());
    let correlation = |i: usize| {
        Mat::from_fn(2, 2, |j, c| {
            let samples = 4 * i..4 * i + 4;
            samples.map(|s| x[(s, j)] * targets[(s, c)]).sum::<f64>() / 8.0
        })
    };
    let c = vec![correlation(0), correlation(1)];
    let problem = Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets,
        penalty,
        lambda,
        loss: Loss::Squared,
        activation: Activation::Gated,
        linear: None,
        intercept: false,
    };
    (problem, c)
}

/// The proximal map of `lambda R` at `c`, for `d = C = 2`.
fn shrunk(penalty: Penalty, lambda: f64, c: &[Mat<f64>]) -> Vec<Mat<f64>> {
    let soft = |length: f64| (1.0 - lambda / length).max(0.0);
    let map = |f: &dyn Fn(usize, usize, usize) -> f64| -> Vec<Mat<f64>> {
        let block = |i| Mat::from_fn(2, 2, |j, k| f(i, j, k) * c[i][(j, k)]);
        (0..c.len()).map(block).collect()
    };
    match penalty {
        Penalty::Neuron => map(&|i, _, k| soft(c[i][(0, k)].hypot(c[i][(1, k)]))),
        Penalty::Feature => map(&|_, j, k| soft(c[0][(j, k)].hypot(c[1][(j, k)]))),
        Penalty::L1 => map(&|i, j, k| soft(c[i][(j, k)].abs())),
        Penalty::SquaredL2 => map(&|_, _, _| 1.0 / (1.0 + lambda)),
        Penalty::Nuclear => {
            let block = |c: &Mat<f64>| {
                let svd = c.thin_svd().unwrap();
                let s = svd.S().column_vector();
                let s = Mat::from_fn(2, 2, |i, j| if i == j { soft(s[i]) * s[i] } else { 0.0 });
                svd.U() * s * svd.V().transpose()
            };
            c.iter().map(block).collect()
        }
    }
}

/// Each output by itself has the dual value it has among the others: a bad one does not spoil the rest.
#[test]
fn outputs_that_do_not_couple_are_certified_one_by_one() {
    let separate = |kind: &Kind| {
        let coupled = kind.loss == Loss::CrossEntropy || kind.penalty == Penalty::Nuclear;
        kind.has_certificate() && kind.outputs == 3 && !coupled
    };
    for (seed, kind) in kinds().into_iter().filter(separate).enumerate() {
        let problem = random(kind, 14, 3, 8, 0.05, 300 + seed as u64);
        let mut rng = Rng::new(seed as u64);
        let neurons = random_neurons(&problem, 6, 0.3, &mut rng);
        let intercept = random_intercept(&problem, &mut rng);
        let whole = certify(&problem, &neurons, &intercept).unwrap();
        let (mut objective, mut dual) = (0.0, 0.0);
        for c in 0..3 {
            let mut part = problem.clone();
            part.targets = Mat::from_fn(14, 1, |s, _| problem.targets[(s, c)]);
            let own = neurons.iter().filter(|n| n.output == c).cloned();
            let own: Vec<Neuron> = own.map(|n| Neuron { output: 0, ..n }).collect();
            let b = intercept.get(c..=c).unwrap_or_default();
            let alone = certify(&part, &own, b).unwrap();
            objective += alone.objective;
            dual += alone.dual_value;
        }
        let off = (whole.objective - objective).abs() + (whole.dual_value - dual).abs();
        assert!(
            off < 1e-13 * objective,
            "{kind:?} {whole:?}: {objective} {dual}"
        );
    }
}

fn neurons_of(blocks: &[Mat<f64>]) -> Vec<Neuron> {
    let places = (0..blocks.len()).flat_map(|gate| [(gate, 0), (gate, 1)]);
    let neuron = |(gate, output): (usize, usize)| Neuron {
        gate,
        output,
        sign: 1.0,
        weights: blocks[gate].col_as_slice(output).to_vec(),
    };
    places.map(neuron).collect()
}

#[test]
fn with_orthogonal_columns_the_gap_vanishes_at_the_optimum_alone() {
    let mut rng = Rng::new(3);
    for penalty in PENALTIES {
        let (problem, c) = orthogonal(penalty, 0.2);
        let optimum = shrunk(penalty, 0.2, &c);
        let best = certify(&problem, &neurons_of(&optimum), &[]).unwrap();
        assert!(
            best.objective > 0.1 && best.relative_duality_gap.abs() < 1e-13,
            "{penalty:?} {best:?}"
        );
        assert!(optimum.iter().any(|u| u.norm_l2() > 0.1), "{penalty:?}");
        for trial in 0..200 {
            let size = 10.0_f64.powi(-(trial % 5));
            let moved: Vec<Mat<f64>> = optimum
                .iter()
                .map(|u| Mat::from_fn(2, 2, |j, c| u[(j, c)] + size * rng.normal()))
                .collect();
            let at = certify(&problem, &neurons_of(&moved), &[]).unwrap();
            // A lower bound on the minimum, and a gap that covers the true distance.
            assert!(
                at.dual_value <= best.objective + 1e-14,
                "{penalty:?} {at:?}"
            );
            assert!(
                at.objective > best.objective && at.duality_gap > 0.0,
                "{penalty:?} {at:?}"
            );
        }
    }
}

/// Two samples along the axes. With both gates on, `c = X'Y / 2 = (0.5, -1)` and the cone is the first
/// quadrant: `||P c|| = 0.5`, `||P(-c)|| = 1`. The other patterns see one entry.
#[test]
fn lambda_max_by_hand() {
    let x = Mat::<f64>::identity(2, 2);
    let mut patterns = Patterns::new(2);
    patterns.push([true, true]);
    patterns.push([true, false]);
    let mut problem = random(SQUARED, 2, 2, 1, 1.0, 1);
    problem.matrix = GatedMatrix::new(x, patterns);
    problem.targets = Mat::from_fn(2, 1, |s, _| [1.0, -2.0][s]);
    assert!((lambda_max(&problem).unwrap() - 1.25_f64.sqrt()).abs() < 1e-15);
    problem.activation = Activation::Relu;
    assert!((lambda_max(&problem).unwrap() - 1.0).abs() < 1e-15);
    problem.linear = Some(0);
    assert!((lambda_max(&problem).unwrap() - 1.25_f64.sqrt()).abs() < 1e-15);
    problem.penalty = Penalty::SquaredL2;
    let error = lambda_max(&problem).unwrap_err();
    assert!(matches!(error, SolveError::Unsupported(_)), "{error}");
}

/// `d = C = 1`, `X = Y = 1`: the minimum of `f(u) + lambda R(u)` by hand.
#[test]
fn one_sample_by_hand() {
    let one = || Mat::from_fn(1, 1, |_, _| 1.0);
    let mut on = Patterns::new(1);
    on.push([true]);
    for activation in [Activation::Gated, Activation::Relu] {
        let mut problem = random(SQUARED, 1, 1, 1, 0.1, 1);
        problem.matrix = GatedMatrix::new(one(), on.clone());
        problem.targets = one();
        problem.activation = activation;
        let at = |problem: &Problem, u: f64| {
            let neuron = Neuron {
                gate: 0,
                output: 0,
                sign: 1.0,
                weights: vec![u],
            };
            certify(problem, &[neuron], &[]).unwrap()
        };
        // u = 1 - lambda in both; log(1 + e^-u) + lambda u at u = log((1 - lambda) / lambda).
        let best = at(&problem, 0.9);
        assert!(
            (best.objective - 0.095).abs() < 1e-15 && best.duality_gap.abs() < 1e-15,
            "{best:?}"
        );
        problem.loss = Loss::SquaredHinge;
        let best = at(&problem, 0.9);
        assert!(
            (best.objective - 0.095).abs() < 1e-15 && best.duality_gap.abs() < 1e-15,
            "{best:?}"
        );
        problem.loss = Loss::CrossEntropy;
        let best = at(&problem, 9.0_f64.ln());
        let entropy = -0.1 * 0.1_f64.ln() - 0.9 * 0.9_f64.ln();
        assert!(
            (best.objective - entropy).abs() < 1e-15 && best.duality_gap.abs() < 1e-14,
            "{best:?}"
        );
        // lambda/2 u^2: u = 1 / (1 + lambda), half lambda / (1 + lambda).
        problem.loss = Loss::Squared;
        problem.penalty = Penalty::SquaredL2;
        let best = at(&problem, 1.0 / 1.1);
        assert!(
            (best.objective - 0.05 / 1.1).abs() < 1e-15 && best.duality_gap.abs() < 1e-15,
            "{best:?}"
        );
    }
}

#[test]
fn neurons_of_one_block_are_added_up() {
    let problem = random(SQUARED, 10, 3, 5, 0.1, 4);
    let neuron = |sign, w: [f64; 3]| Neuron {
        gate: 1,
        output: 0,
        sign,
        weights: w.to_vec(),
    };
    let split = [neuron(1.0, [1.0, 2.0, 3.0]), neuron(-1.0, [0.5, 2.5, 3.0])];
    let whole = [neuron(1.0, [0.5, -0.5, 0.0])];
    let (split, whole) = (
        certify(&problem, &split, &[]).unwrap(),
        certify(&problem, &whole, &[]).unwrap(),
    );
    assert!(
        (split.objective - whole.objective).abs() < 1e-14,
        "{split:?} {whole:?}"
    );
    assert!(
        (split.dual_value - whole.dual_value).abs() < 1e-13,
        "{split:?} {whole:?}"
    );
}

/// The second sample is on the wrong side: `-(1, 1)(1, -3)' / (2^(1/2) 10^(1/2)) = 5^(-1/2)`.
#[test]
fn weights_that_leave_their_cone_are_seen() {
    let mut problem = random(SQUARED, 2, 2, 1, 0.1, 4);
    let mut patterns = Patterns::new(2);
    patterns.push([true, true]);
    problem.matrix = GatedMatrix::new(
        Mat::from_fn(2, 2, |s, j| [[1.0, 0.0], [1.0, 1.0]][s][j]),
        patterns,
    );
    let neuron = Neuron {
        gate: 0,
        output: 0,
        sign: -1.0,
        weights: vec![1.0, -3.0],
    };
    let violation = |problem: &Problem| {
        let certificate = certify(problem, std::slice::from_ref(&neuron), &[]);
        certificate.unwrap().constraint_violation
    };
    assert!(violation(&problem) <= 0.0);
    problem.activation = Activation::Relu;
    assert!((violation(&problem) - 2.0 / 20.0_f64.sqrt()).abs() < 1e-15);
    problem.linear = Some(0);
    assert!(violation(&problem) <= 0.0);
}

#[test]
fn malformed_input_is_refused() {
    let good = random(SQUARED, 6, 2, 3, 0.1, 4);
    let neuron = Neuron {
        gate: 0,
        output: 0,
        sign: 1.0,
        weights: vec![1.0, 2.0],
    };
    let refused = |problem: &Problem, neuron: &Neuron, intercept: &[f64], word: &str| {
        let error = certify(problem, std::slice::from_ref(neuron), intercept).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    assert!(certify(&good, std::slice::from_ref(&neuron), &[0.0]).is_ok());
    refused(
        &good,
        &Neuron {
            gate: 99,
            ..neuron.clone()
        },
        &[],
        "gate",
    );
    refused(
        &good,
        &Neuron {
            output: 1,
            ..neuron.clone()
        },
        &[],
        "output",
    );
    refused(
        &good,
        &Neuron {
            sign: 0.5,
            ..neuron.clone()
        },
        &[],
        "sign",
    );
    refused(
        &good,
        &Neuron {
            weights: vec![1.0],
            ..neuron.clone()
        },
        &[],
        "weights",
    );
    refused(
        &good,
        &Neuron {
            weights: vec![1.0, f64::NAN],
            ..neuron.clone()
        },
        &[],
        "finite",
    );
    refused(&good, &neuron, &[1.0], "intercept");
    refused(&good, &neuron, &[0.0, 0.0], "intercept");
    let with = |change: &dyn Fn(&mut Problem), word: &str| {
        let mut problem = good.clone();
        change(&mut problem);
        refused(&problem, &neuron, &[], word);
    };
    with(&|p| p.lambda = 0.0, "lambda");
    with(&|p| p.linear = Some(99), "gate");
    with(&|p| p.targets[(2, 0)] = f64::INFINITY, "targets");
    with(&|p| p.loss = Loss::SquaredHinge, "target");
    with(
        &|p| {
            p.loss = Loss::CrossEntropy;
            p.targets = Mat::from_fn(6, 2, |_, _| 1.0);
        },
        "sum of the targets",
    );
    with(
        &|p| {
            p.activation = Activation::Relu;
            p.penalty = Penalty::L1;
        },
        "l1",
    );
}
