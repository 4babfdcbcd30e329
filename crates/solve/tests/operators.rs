//! Operators: adjoint identity, agreement with dense matrices, and the oracle's must-fail case.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

mod common;

use common::{Matrix, adjoint_mismatch, ridge_with_bias};
use convextune_solve::{Centred, LinearOperator, OperatorError};
use convextune_testkit::{Rng, relative_error};
use proptest::prelude::*;

proptest! {
    #[test]
    fn dense_operator_satisfies_the_adjoint_identity(rows in 1usize..9, cols in 1usize..9, seed: u64) {
        let rng = &mut Rng::new(seed);
        let operator = Matrix::random(rows, cols, rng).operator();
        prop_assert!(adjoint_mismatch(&operator, rng) < 1e-12);
    }

    #[test]
    fn centred_operator_satisfies_the_adjoint_identity(
        samples in 2usize..7, classes in 1usize..4, cols in 1usize..6, seed: u64,
    ) {
        let rng = &mut Rng::new(seed);
        let inner = Matrix::random(samples * classes, cols, rng).operator();
        let operator = Centred::new(&inner, classes).unwrap();
        prop_assert!(adjoint_mismatch(&operator, rng) < 1e-12);
    }
}

/// `apply_adjoint` has the wrong sign in one coordinate.
struct WrongAdjoint<'a>(&'a dyn LinearOperator);

impl LinearOperator for WrongAdjoint<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn cols(&self) -> usize {
        self.0.cols()
    }
    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.0.apply(x, y)
    }
    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        self.0.apply_adjoint(y, x)?;
        x[0] = -x[0];
        Ok(())
    }
}

#[test]
fn the_adjoint_oracle_rejects_a_wrong_adjoint() {
    let rng = &mut Rng::new(1);
    let inner = Matrix::random(6, 3, rng).operator();
    assert!(adjoint_mismatch(&WrongAdjoint(&inner), rng) > 1e-3);
}

#[test]
fn centred_products_equal_the_dense_projection() {
    let rng = &mut Rng::new(2);
    let (samples, classes, cols) = (5, 3, 4);
    let a = Matrix::random(samples * classes, cols, rng);
    let mean = 1.0 / samples as f64;
    let p = Matrix::from_fn(samples, samples, |i, j| f64::from(u8::from(i == j)) - mean)
        .kron_identity(classes);
    let pa = p.times(&a);
    let inner = a.operator();
    let centred = Centred::new(&inner, classes).unwrap();
    let (x, y) = (rng.normals(cols), rng.normals(samples * classes));
    let (mut image, mut out) = (vec![0.0; y.len()], vec![0.0; cols]);
    centred.apply_normal(&x, &mut image, &mut out).unwrap();
    assert!(relative_error(&image, &pa.times_vector(&x)) < 1e-13);
    assert!(relative_error(&out, &pa.transpose().times_vector(&image)) < 1e-13);
    let mut gram = vec![0.0; y.len()];
    centred.apply_gram(&y, &mut out, &mut gram).unwrap();
    assert!(relative_error(&out, &pa.transpose().times_vector(&y)) < 1e-13);
    assert!(relative_error(&gram, &pa.times_vector(&out)) < 1e-13);
}

#[test]
fn the_eliminated_bias_is_the_best_bias() {
    let rng = &mut Rng::new(3);
    let (classes, lambda) = (2, 0.3);
    let a = Matrix::random(12, 5, rng);
    let t: Vec<f64> = rng.normals(12).iter().map(|t| t + 4.0).collect();
    let (u, b) = ridge_with_bias(&a, &t, lambda, classes);
    let inner = a.operator();
    let centred = Centred::new(&inner, classes).unwrap();
    assert!(relative_error(&centred.bias(&t, &u).unwrap(), &b) < 1e-12);
}

#[test]
fn wrong_lengths_are_errors() {
    let operator = Matrix::from_fn(2, 3, |_, _| 1.0).operator();
    assert!(operator.apply(&[1.0; 2], &mut [0.0; 2]).is_err());
    assert!(operator.apply_adjoint(&[1.0; 3], &mut [0.0; 3]).is_err());
    assert!(Centred::new(&operator, 3).is_err());
}
