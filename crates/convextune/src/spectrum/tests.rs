//! The spectrum against that of the dense Hessian of a small network.

use convextune_solve::faer::linalg::solvers::SelfAdjointEigen;
use convextune_solve::faer::{Mat, Side};
use convextune_solve::quadratic::{Intercept, KernelRidge};

use super::*;
use crate::finetune::{LambdaSource, Prior};
use crate::linearize::tests::{CLASSES, network, samples};
use crate::progress::Silent;

const SCALE: f64 = 0.6;
const LAMBDA: f64 = 0.5;

fn part(n: usize, first: usize, copies: usize) -> TrainedPart {
    let prior = Prior {
        lambda: LAMBDA,
        scale: SCALE,
        source: LambdaSource::Given,
        unit: 3.0,
        backbone_unit: 1.0,
    };
    let whole = network();
    let network = if copies == 1 {
        whole
    } else {
        let body = whole.truncated(whole.graph().output() - 1);
        body.with_head("head", 1, &[0.3, -0.3, 0.3, 0.3, -0.3, 0.3])
    };
    TrainedPart::new((network, first), (copies, 4), prior, (&samples(n), &Silent)).unwrap()
}

/// `A = P J S`, one row a row of J.
fn dense(lin: &Linearization<'_>) -> Mat<f64> {
    let scaled = Scaled::new(lin, lin.backbone_range(), SCALE).unwrap();
    matrix(&Centred::new(&scaled, lin.outputs()).unwrap())
}

fn matrix(operator: &dyn LinearOperator) -> Mat<f64> {
    let (rows, cols) = (operator.rows(), operator.cols());
    let mut a = Mat::zeros(rows, cols);
    for r in 0..rows {
        let unit: Vec<f64> = (0..rows).map(|i| f64::from(u8::from(i == r))).collect();
        let mut row = vec![0.0; cols];
        operator.apply_adjoint(&unit, &mut row).unwrap();
        (0..cols).for_each(|j| a[(r, j)] = row[j]);
    }
    a
}

/// Falling.
fn eigenvalues(m: &Mat<f64>) -> Vec<f64> {
    let eigen = SelfAdjointEigen::new(m.as_ref(), Side::Lower).unwrap();
    eigen.S().column_vector().iter().rev().copied().collect()
}

/// `(B^-1/2 H B^-1/2)`'s eigenvalues for an inverse that is only applied: those of `R' H R` with
/// `B^-1 = R R'`.
fn pencil(h: &Mat<f64>, preconditioner: &dyn Preconditioner) -> Vec<f64> {
    let n = h.nrows();
    let mut inverse = Mat::zeros(n, n);
    for j in 0..n {
        let unit: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i == j))).collect();
        preconditioner.apply(&unit, inverse.col_as_slice_mut(j));
    }
    let eigen = SelfAdjointEigen::new(inverse.as_ref(), Side::Lower).unwrap();
    let roots: Vec<f64> = eigen
        .S()
        .column_vector()
        .iter()
        .map(|s| s.max(0.0).sqrt())
        .collect();
    let r = Mat::from_fn(n, n, |i, j| eigen.U()[(i, j)] * roots[j]);
    eigenvalues(&(r.transpose() * h * &r))
}

fn shifted(gram: Mat<f64>) -> Mat<f64> {
    let shift = |i, j| if i == j { LAMBDA } else { 0.0 };
    Mat::from_fn(gram.nrows(), gram.ncols(), |i, j| {
        gram[(i, j)] + shift(i, j)
    })
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found / expected - 1.0).abs() < tolerance,
        "{found} for {expected}"
    );
}

const WANTED: SpectrumOptions = SpectrumOptions {
    eigenvalues: 5,
    method: SpectrumMethod::Auto,
    precondition: PreconditionerChoice::Auto,
};

/// More weights than rows, fewer (the head alone), and a copy of the weights for every class.
#[test]
fn both_ways_agree_with_the_dense_hessian() {
    let head = network().graph().output();
    for (n, first, copies) in [
        (9, 0, 1),
        (15, head, 1),
        (12, 0, CLASSES),
        (12, head - 2, 4),
    ] {
        let part = part(n, first, copies);
        let images = samples(n);
        let lin = part.over(part.samples(&images), &Silent).unwrap();
        let a = dense(&lin);
        let all = eigenvalues(&shifted(a.transpose() * &a));
        let options = FitOptions::default();
        let problem = Problem {
            lin: &lin,
            part: &part,
            options: &options,
            reporter: &Silent,
        };
        for method in [SpectrumMethod::Exact, SpectrumMethod::Lanczos] {
            let wanted = SpectrumOptions { method, ..WANTED };
            let found = problem
                .spectrum(&wanted, PreconditionerChoice::None)
                .unwrap();
            assert_eq!((found.method, found.multiplicity), (method, copies));
            assert!(found.converged && found.preconditioned.is_none());
            assert_eq!(found.eigenvalues.len(), 5);
            for (found, expected) in found.eigenvalues.iter().zip(&all) {
                close(found.value, *expected, 1e-4);
                assert!(found.residual_bound < 1e-3 * expected);
            }
            close(found.condition_number, all[0] / all[all.len() - 1], 1e-3);
            assert_eq!(found.weights, all.len() * copies);
            let counted: f64 = found.density.iter().map(|bin| bin.count).sum();
            close(counted + found.at_lambda as f64, found.weights as f64, 1e-9);
            if method == SpectrumMethod::Exact {
                // The top bin, counted by hand.
                let last = found.density.last().unwrap();
                let above = all.iter().filter(|v| **v >= last.from).count() * copies;
                close(last.count, above as f64, 1e-9);
            }
        }
    }
}

/// Condition numbers before and after, for preconditioners of the rows and of the weights.
#[test]
fn preconditioned_ends_are_those_of_the_formed_systems() {
    let n = 10;
    let part = part(n, 0, 1);
    let images = samples(n);
    let lin = part.over(part.samples(&images), &Silent).unwrap();
    let a = dense(&lin);
    let options = FitOptions::default();
    let problem = Problem {
        lin: &lin,
        part: &part,
        options: &options,
        reporter: &Silent,
    };
    for precondition in [
        PreconditionerChoice::Features,
        PreconditionerChoice::Sketch,
        PreconditionerChoice::Kfac,
    ] {
        let found = problem.spectrum(&WANTED, precondition).unwrap();
        let p = found.preconditioned.unwrap();
        let plan = Plan {
            solver: SolverChoice::Pcg,
            precondition,
            ..plan(&sizes(&lin, 1), &options)
        };
        let prepared = statistics(&lin, &plan, &options, &Silent).unwrap();
        let prepared = prepared.prepare(&lin, &part.prior).unwrap();
        let (system, m) = prepared.preconditioner(LAMBDA).unwrap().unwrap();
        assert_eq!(p.system, system);
        let (h, skip) = match system {
            System::Primal => (shifted(a.transpose() * &a), 0),
            // The range of P: constants are eigenvectors of both, and are taken out.
            System::Dual => (shifted(&a * a.transpose()), CLASSES),
        };
        let inside = |m: &dyn Preconditioner| {
            let mut values = pencil(&h, m);
            if skip > 0 {
                let constant: Vec<f64> = (0..h.nrows())
                    .map(|r| f64::from(u8::from(r % CLASSES == 0)))
                    .collect();
                let mut z = vec![0.0; h.nrows()];
                m.apply(&constant, &mut z);
                for _ in 0..skip {
                    let at = |v: &f64| (v - LAMBDA * z[0]).abs();
                    let k = (0..values.len())
                        .min_by(|i, j| at(&values[*i]).total_cmp(&at(&values[*j])));
                    values.remove(k.unwrap());
                }
            }
            (values[0], values[values.len() - 1])
        };
        let (largest, smallest) = inside(m.as_ref());
        close(p.after.largest.value, largest, 1e-4);
        close(p.after.smallest.value, smallest, 1e-3);
        let (largest, smallest) = inside(&convextune_solve::quadratic::Identity(h.nrows()));
        close(p.before.condition_number(), largest / smallest, 1e-3);
        close(
            found.condition_number_preconditioned.unwrap(),
            p.after.condition_number(),
            1e-12,
        );
    }
}

/// The formed kernel, what `exact` decomposes, is the dense one to the rounding of f32 before centring.
#[test]
fn the_kernel_of_the_part_is_centred_and_scaled() {
    let part = part(8, 0, 1);
    let images = samples(8);
    let lin = part.over(part.samples(&images), &Silent).unwrap();
    let scaled = Scaled::new(&lin, lin.backbone_range(), SCALE).unwrap();
    let a = matrix(&scaled);
    let expected = &a * a.transpose();
    let n = expected.nrows();
    let rounding = 1e-5 * (0..n).map(|i| expected[(i, i)]).fold(0.0, f64::max);
    let expected = KernelRidge::new(expected, CLASSES, Intercept::Free).unwrap();
    let kernel = part.kernel(&lin, &Silent).unwrap();
    assert!(expected.mean_diagonal() > 10.0 * rounding);
    for j in 0..n {
        for i in 0..n {
            let apart = kernel.kernel()[(i, j)] - expected.kernel()[(i, j)];
            assert!(apart.abs() < rounding, "{apart:e} of {rounding:e}");
        }
    }
}
