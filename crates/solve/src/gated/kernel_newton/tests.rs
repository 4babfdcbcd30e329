//! Against second differences of the loss, and against accelerated proximal gradients.

use std::ops::ControlFlow;

use convextune_testkit::Rng;
use faer::Mat;

use super::root::Root;
use super::solve;
use super::system::{Kernel, System, Woodbury};
use crate::gated::{
    Activation, GatedMatrix, Loss, Patterns, Penalty, Problem, SolveOptions, certify, fista,
};
use crate::quadratic::Preconditioner;

const KINDS: [(Loss, usize); 4] = [
    (Loss::CrossEntropy, 1),
    (Loss::CrossEntropy, 3),
    (Loss::SquaredHinge, 1),
    (Loss::SquaredHinge, 3),
];

fn problem(loss: Loss, outputs: usize, lambda: f64, intercept: bool) -> Problem {
    let mut rng = Rng::new(8);
    let (n, d) = (90, 4);
    let x = Mat::from_fn(n, d, |_, _| rng.normal());
    let gates = Mat::from_fn(d, 30, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), gates.as_ref());
    let off = if loss == Loss::CrossEntropy && outputs > 1 {
        0.0
    } else {
        -1.0
    };
    let targets = Mat::from_fn(n, outputs, |s, c| {
        let class = usize::from(x[(s, 0)] * x[(s, 1)] > 0.3) + usize::from(x[(s, 2)] > 1.0);
        if class == c { 1.0 } else { off }
    });
    Problem {
        matrix: GatedMatrix::new(x, patterns),
        targets,
        loss,
        penalty: Penalty::SquaredL2,
        activation: Activation::Gated,
        lambda,
        linear: None,
        intercept,
    }
}

#[test]
fn the_root_is_that_of_the_second_derivative() {
    let mut rng = Rng::new(9);
    let h = 1e-4;
    for (loss, k) in KINDS {
        let problem = problem(loss, k, 1.0, false);
        let n = problem.matrix.samples();
        let z = Mat::from_fn(n, k, |_, _| 1.5 * rng.normal());
        let v = Mat::from_fn(n, k, |_, _| rng.normal());
        let root = Root::of(&problem, &z);
        let bent = root.apply(root.adjoint(v.as_ref()).as_ref());
        let gradient = |t: f64| {
            let at = &z + &v * t;
            loss.gradient(at.as_ref(), problem.targets.as_ref()) * n as f64
        };
        let difference = (gradient(h) - gradient(-h)) / (2.0 * h);
        // No margin is within h of where the squared hinge bends.
        let bends = |s: usize, c: usize| {
            loss == Loss::SquaredHinge
                && (problem.targets[(s, c)] * z[(s, c)] - 1.0).abs() <= h * v[(s, c)].abs()
        };
        for s in 0..n {
            for c in 0..k {
                let error = (difference[(s, c)] - bent[(s, c)]).abs();
                assert!(bends(s, c) || error < 1e-6, "{loss:?} {k}: {error:e}");
            }
        }
        let back = root.apply(root.inverse(bent.as_ref(), 0.0).as_ref());
        assert!((&back - &bent).norm_l2() < 1e-9 * bent.norm_l2());
    }
}

#[test]
fn it_ends_where_proximal_gradients_end() {
    for (loss, outputs) in KINDS {
        for (lambda, intercept) in [(1.0, true), (1e-2, false), (1e-2, true)] {
            let problem = problem(loss, outputs, lambda, intercept);
            let options = SolveOptions {
                tolerance: 1e-9,
                max_iterations: 100,
            };
            let observe = |_| ControlFlow::Continue(());
            let ours = solve(&problem, &options, &observe).unwrap();
            let rounds = ours.rounds.len();
            let ours = certify(&problem, &ours.neurons, &ours.intercept).unwrap();
            let what = format!("{loss:?} {outputs} {lambda} {intercept}");
            assert!(ours.relative_duality_gap.abs() < 1e-9, "{what}: {ours:?}");
            // A wrong second derivative or intercept converges too, but slowly.
            assert!(rounds <= 14, "{what}: {rounds}");
            let theirs = fista::solve(&problem, &options, &[], &observe).unwrap();
            let theirs = certify(&problem, &theirs.neurons, &theirs.intercept).unwrap();
            let apart = (ours.objective / theirs.objective - 1.0).abs();
            assert!(apart < 1e-6, "{what}: {apart:e}");
        }
    }
}

/// Nothing passes a gate; all targets are of one class, which an intercept fits alone; lambda is small or huge.
#[test]
fn odd_problems_end_soon() {
    let options = SolveOptions {
        tolerance: 1e-6,
        max_iterations: 80,
    };
    let observe = |_| ControlFlow::Continue(());
    for (loss, outputs) in KINDS {
        let usual = problem(loss, outputs, 1e-2, true);
        let mut closed = usual.clone();
        closed.matrix = GatedMatrix::new(
            usual.matrix.x().to_owned(),
            Patterns::of(usual.matrix.x(), Mat::zeros(4, 3).as_ref()),
        );
        let mut one_class = usual.clone();
        one_class.targets = Mat::from_fn(90, outputs, |_, c| usual.targets[(0, c)]);
        let with = |lambda| Problem {
            lambda,
            ..usual.clone()
        };
        for (what, problem) in [
            ("closed", closed),
            ("huge", with(1e9)),
            ("small", with(1e-3)),
            ("one class", one_class),
        ] {
            let found = solve(&problem, &options, &observe).unwrap();
            let gap = certify(&problem, &found.neurons, &found.intercept).unwrap();
            let what = format!("{what} {loss:?} {outputs}: {gap:?}");
            let separable = what.starts_with("one") && loss == Loss::CrossEntropy;
            assert!(found.rounds.len() <= 81, "{what}");
            assert!(gap.objective.is_finite(), "{what}");
            assert!(
                separable || gap.duality_gap <= 1e-6 * gap.objective.max(1e-6),
                "{what}"
            );
        }
    }
}

/// Below the precision of the kernel the other method takes over, and does not lose what was found.
#[test]
fn a_tiny_lambda_is_left_to_proximal_gradients() {
    let problem = problem(Loss::CrossEntropy, 1, 1e-13, true);
    let options = SolveOptions {
        tolerance: 1e-6,
        max_iterations: 20,
    };
    let mut silent = |_: &crate::Progress<'_>| ControlFlow::Continue(());
    let found = crate::gated::solve(&problem, &options, &[], &mut silent).unwrap();
    let observe = |_| ControlFlow::Continue(());
    let alone = solve(&problem, &options, &observe).unwrap();
    let rounds = alone.rounds.len();
    let alone = certify(&problem, &alone.neurons, &alone.intercept).unwrap();
    // Where rounding makes it end depends on the machine's vectors; with AVX-512 it does.
    let early = rounds <= options.max_iterations && alone.relative_duality_gap > options.tolerance;
    assert!(!early || found.iterations >= rounds, "nothing took over");
    let reached = found.certificate.objective;
    assert!(
        reached < 0.1 * alone.objective.min(0.69),
        "{reached:e} {alone:?}"
    );
}

#[test]
fn the_preconditioner_inverts_its_approximation() {
    let mut rng = Rng::new(10);
    for outputs in [1, 3] {
        let problem = problem(Loss::SquaredHinge, outputs, 1e-2, true);
        let kernel = Kernel::new(&problem).unwrap();
        let n = problem.matrix.samples();
        let root = Root::of(
            &problem,
            &Mat::from_fn(n, outputs, |_, _| 2.0 * rng.normal()),
        );
        let system = System {
            kernel: &kernel,
            root: &root,
            shift: 0.9,
        };
        let near = Woodbury::new(&system).unwrap();
        let v = Mat::from_fn(n, outputs, |_, _| rng.normal());
        let low = &kernel.basis * (kernel.basis.transpose() * root.scaled(v.as_ref()));
        let image = &v * system.shift + root.scaled(low.as_ref());
        let mut back = vec![0.0; near.dim()];
        near.apply(&super::flat(&image), &mut back);
        let size = image.norm_l2();
        for (b, v) in back.iter().zip(super::flat(&v)) {
            assert!((b - system.shift * v).abs() < 1e-9 * size, "{b} {v}");
        }
    }
}
