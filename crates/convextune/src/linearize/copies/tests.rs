//! Copies against one linearisation for every class, and their solutions against the dense one.

use convextune_model::graph::Network;
use convextune_solve::faer::linalg::solvers::Solve;
use convextune_solve::faer::{Mat as Dense, Side};
use convextune_solve::quadratic::{
    Columns, FeaturePreconditioner, Identity, Intercept, KernelRidge, PcgOptions, Preconditioner,
    RidgeProblem, Start, solve_dual, solve_primal,
};
use convextune_solve::{Centred, Quiet, Status};
use convextune_testkit::{Rng, dot, relative_error};

use super::*;
use crate::linearize::CurvatureOptions;
use crate::linearize::tests::{network, samples};
use crate::progress::Silent;
use crate::samples::Samples;

const COPIES: usize = 3;
const N: usize = 11;

/// The test network with one output.
fn one_output() -> Network<f32> {
    let network = network();
    let body = network.truncated(network.graph().output() - 1);
    let row: Vec<f32> = Rng::new(5).normals(6).iter().map(|w| *w as f32).collect();
    body.with_head("head", 1, &row)
}

fn in_f64(samples: &Samples) -> Samples<f64> {
    let values = samples.values().unwrap();
    Samples::memory(
        samples.shape(),
        values.iter().map(|x| f64::from(*x)).collect(),
    )
}

/// Column c of the products is the product of the one output's Jacobian with column c.
#[test]
fn every_copy_is_a_linearisation_of_its_own() {
    let (network, samples) = (one_output().cast::<f64>(), in_f64(&samples(N)));
    for stage in ["stem", "blocks.1.grouped", "head"] {
        let first = network.graph().find(stage).unwrap();
        let lin = Linearization::new(&network, first, &samples, 3, &Silent).unwrap();
        let mut copies = Copies::new(&lin, COPIES).unwrap();
        let mut rng = Rng::new(9);
        let (u, r) = (rng.normals(copies.cols()), rng.normals(copies.rows()));
        let column = |x: &[f64], c: usize| -> Vec<f64> {
            x.iter().skip(c).step_by(COPIES).copied().collect()
        };
        // All samples in one run, and in runs of 6 and 5.
        for run in [copies.run, 6] {
            copies.run = run;
            let (mut y, mut x) = (vec![0.0; copies.rows()], vec![0.0; copies.cols()]);
            let (mut image, mut normal) = (y.clone(), x.clone());
            copies.apply(&u, &mut y).unwrap();
            copies.apply_adjoint(&r, &mut x).unwrap();
            copies.apply_normal(&u, &mut image, &mut normal).unwrap();
            let (left, right) = (dot(&y, &r), dot(&u, &x));
            assert!((left - right).abs() < 1e-12 * dot(&y, &y).sqrt() * dot(&r, &r).sqrt());
            let (f0, ju) = copies.outputs_at(&u).unwrap();
            assert_eq!((&ju, &image), (&y, &y));
            for c in 0..COPIES {
                let (mut one, mut back) = (vec![0.0; lin.rows()], vec![0.0; lin.cols()]);
                lin.apply(&column(&u, c), &mut one).unwrap();
                assert!(relative_error(&column(&y, c), &one) < 1e-12, "{stage}");
                lin.apply_adjoint(&one, &mut back).unwrap();
                assert!(
                    relative_error(&column(&normal, c), &back) < 1e-12,
                    "{stage}"
                );
                lin.apply_adjoint(&column(&r, c), &mut back).unwrap();
                assert!(relative_error(&column(&x, c), &back) < 1e-12, "{stage}");
                assert!(relative_error(&column(&f0, c), &lin.f0().unwrap()) < 1e-12);
            }
        }
    }
}

/// `(J'P J + Lambda I)^-1 J'P t` with the dense `J = G (x) I`, for every way to solve it in f64.
#[test]
fn every_solver_finds_the_dense_solution_of_all_copies() {
    let narrow = samples(N);
    let (network32, samples) = (one_output(), in_f64(&narrow));
    let network = network32.cast::<f64>();
    let lin32 = Linearization::new(&network32, 0, &narrow, 4, &Silent).unwrap();
    let lin = Linearization::new(&network, 0, &samples, 4, &Silent).unwrap();
    let copies = Copies::new(&lin, COPIES).unwrap();
    let centred = Centred::new(&copies, COPIES).unwrap();
    let target = Rng::new(3).normals(copies.rows());
    let parts = lin.kernel(1 << 20).unwrap();
    let kernel = KernelRidge::new(parts.kernel(1.0), 1, Intercept::Free).unwrap();
    let lambda = 0.1 * kernel.mean_diagonal();
    let dense = dense_solution(&lin, &target, lambda);
    let problem = RidgeProblem::new(&centred, centred.target(&target).unwrap(), lambda).unwrap();
    let tight = PcgOptions {
        tolerance: 1e-11,
        max_iterations: 3000,
    };
    let dual = |what: &str, m: &dyn Preconditioner, most: usize| {
        let m = Columns(m, COPIES);
        let solution = solve_dual(&problem, &m, &tight, Start::Zero, &mut Quiet).unwrap();
        assert_eq!(solution.status, Status::Converged, "{what}");
        assert!(
            solution.iterations <= most,
            "{what}: {}",
            solution.iterations
        );
        let error = relative_error(&solution.x, &dense);
        assert!(error < 1e-8, "{what}: {error:e}");
    };
    let gram = parts.kernel(1.0);
    let exact = FeaturePreconditioner::from_gram(gram.as_ref(), 1, Intercept::Free, lambda);
    dual("exact kernel", &exact.unwrap(), 2);
    dual("plain", &Identity(N), 100);
    let options = CurvatureOptions {
        probes: 4,
        seed: 1,
        rescale: true,
    };
    let curvature = lin32.curvature(options).unwrap();
    let m = curvature.preconditioner(lambda).unwrap();
    let m = Columns(&m, COPIES);
    let solution = solve_primal(&problem, &m, &tight, Start::Zero, &mut Quiet).unwrap();
    assert_eq!(solution.status, Status::Converged);
    assert!(relative_error(&solution.x, &dense) < 1e-8);
}

fn dense_solution(lin: &Linearization<'_, f64>, target: &[f64], lambda: f64) -> Vec<f64> {
    let (n, d) = (lin.rows(), lin.cols());
    let mut g = Dense::<f64>::zeros(n, d);
    let mut unit = vec![0.0; d];
    for p in 0..d {
        unit[p] = 1.0;
        lin.apply(&unit, g.col_as_slice_mut(p)).unwrap();
        unit[p] = 0.0;
        let mean = g.col_as_slice(p).iter().sum::<f64>() / n as f64;
        g.col_as_slice_mut(p).iter_mut().for_each(|g| *g -= mean);
    }
    let t = Dense::from_fn(n, COPIES, |i, c| target[i * COPIES + c]);
    let mut h = g.transpose() * &g;
    for p in 0..d {
        h[(p, p)] += lambda;
    }
    let u = h.llt(Side::Lower).unwrap().solve(g.transpose() * &t);
    (0..d * COPIES)
        .map(|i| u[(i / COPIES, i % COPIES)])
        .collect()
}

#[test]
fn too_many_unknowns_are_refused_with_the_way_out() {
    let (network, samples) = (one_output(), samples(2));
    let lin = Linearization::new(&network, 0, &samples, 2, &Silent).unwrap();
    let message = Copies::new(&lin, UNKNOWNS).err().unwrap().to_string();
    assert!(message.contains("--linearize-from"), "{message}");
}
