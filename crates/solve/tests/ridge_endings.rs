//! How conjugate gradients on the ridge problem begin and end: warm starts, checkpoints, budgets,
//! breakdowns, and operators of limited precision.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

mod common;

use std::cell::Cell;
use std::ops::ControlFlow;

use common::{Matrix, TIGHT, ridge, solve_both};
use convextune_solve::quadratic::{
    Identity, PcgOptions, PcgState, Preconditioner, RidgeProblem, Start, solve_dual, solve_primal,
};
use convextune_solve::{LinearOperator, OperatorError, Progress, Quiet, Status};
use convextune_testkit::{Rng, relative_error};

#[test]
fn warm_start_at_the_solution_takes_no_iteration() {
    let rng = &mut Rng::new(6);
    let (a, t) = (Matrix::random(12, 8, rng), rng.normals(12));
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, t, 0.5).unwrap();
    let [primal, dual] = solve_both(&problem, &TIGHT);
    let options = PcgOptions {
        tolerance: 1e-9,
        ..TIGHT
    };
    let again = solve_primal(
        &problem,
        &Identity(8),
        &options,
        Start::Warm(primal.x),
        &mut Quiet,
    );
    assert_eq!(again.unwrap().iterations, 0);
    let start = Start::Warm(dual.dual.unwrap());
    let again = solve_dual(&problem, &Identity(12), &options, start, &mut Quiet);
    assert_eq!(again.unwrap().iterations, 0);
}

#[test]
fn resuming_a_checkpoint_continues_to_the_bit() {
    let rng = &mut Rng::new(7);
    let (a, t) = (Matrix::random(40, 30, rng), rng.normals(40));
    let operator = a.operator();
    let problem = RidgeProblem::new(&operator, t, 0.01).unwrap();
    let options = PcgOptions {
        tolerance: 1e-8,
        max_iterations: 500,
    };
    let [whole, whole_dual] = solve_both(&problem, &options);
    let mut saved: Option<PcgState> = None;
    let mut stop_at_five = |progress: &Progress<'_>| {
        saved = progress.state.cloned();
        if progress.record.iteration == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let part = solve_primal(
        &problem,
        &Identity(30),
        &options,
        Start::Zero,
        &mut stop_at_five,
    );
    assert_eq!(part.unwrap().status, Status::Interrupted);
    let start = Start::Resume(Box::new(saved.take().unwrap()));
    let rest = solve_primal(&problem, &Identity(30), &options, start, &mut Quiet).unwrap();
    assert_eq!((rest.x, rest.iterations), (whole.x, whole.iterations));
    let mut stop_at_five = |progress: &Progress<'_>| {
        saved = progress.state.cloned();
        if progress.record.iteration == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    solve_dual(
        &problem,
        &Identity(40),
        &options,
        Start::Zero,
        &mut stop_at_five,
    )
    .unwrap();
    let start = Start::Resume(Box::new(saved.unwrap()));
    let rest = solve_dual(&problem, &Identity(40), &options, start, &mut Quiet).unwrap();
    assert_eq!(
        (rest.dual, rest.iterations),
        (whole_dual.dual, whole_dual.iterations)
    );
}

/// A preconditioner that is not positive definite.
struct Negative(usize);

impl Preconditioner for Negative {
    fn dim(&self) -> usize {
        self.0
    }
    fn apply(&self, r: &[f64], z: &mut [f64]) {
        for (z, r) in z.iter_mut().zip(r) {
            *z = -r;
        }
    }
}

#[test]
fn an_indefinite_preconditioner_is_a_breakdown_with_a_sound_point() {
    let operator = Matrix::from_fn(3, 3, |i, j| (i + 2 * j) as f64).operator();
    let problem = RidgeProblem::new(&operator, vec![1.0; 3], 1.0).unwrap();
    let solution = solve_primal(&problem, &Negative(3), &TIGHT, Start::Zero, &mut Quiet).unwrap();
    assert_eq!(solution.status, Status::Breakdown);
    assert!(solution.x.iter().all(|x| x.is_finite()));
}

#[test]
fn the_budget_is_kept() {
    let rng = &mut Rng::new(9);
    let operator = Matrix::random(30, 30, rng).operator();
    let problem = RidgeProblem::new(&operator, rng.normals(30), 1e-6).unwrap();
    let options = PcgOptions {
        tolerance: 1e-10,
        max_iterations: 3,
    };
    for solution in solve_both(&problem, &options) {
        assert_eq!(
            (solution.status, solution.iterations),
            (Status::MaxIterations, 3)
        );
    }
}

fn round(v: &mut [f64]) {
    for x in v {
        *x = f64::from(*x as f32);
    }
}

/// Products rounded to single precision, as a network's are.
struct SinglePrecision<'a>(&'a dyn LinearOperator);

impl LinearOperator for SinglePrecision<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn cols(&self) -> usize {
        self.0.cols()
    }
    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.0.apply(x, y)?;
        round(y);
        Ok(())
    }
    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        self.0.apply_adjoint(y, x)?;
        round(x);
        Ok(())
    }
}

#[test]
fn single_precision_operators_end_honestly() {
    let rng = &mut Rng::new(10);
    let a = Matrix::random(40, 60, rng);
    let inner = a.operator();
    let operator = SinglePrecision(&inner);
    let problem = RidgeProblem::new(&operator, rng.normals(40), 0.1).unwrap();
    for solution in solve_both(
        &problem,
        &PcgOptions {
            tolerance: 1e-5,
            max_iterations: 500,
        },
    ) {
        assert_eq!(solution.status, Status::Converged);
        assert!(solution.certificate.relative_gradient_norm <= 1e-5);
    }
    for solution in solve_both(
        &problem,
        &PcgOptions {
            tolerance: 1e-14,
            max_iterations: 5000,
        },
    ) {
        assert_eq!(
            solution.status,
            Status::Stalled,
            "1e-14 is out of reach in single precision"
        );
        assert!(solution.certificate.relative_gradient_norm < 1e-4);
    }
}

/// The third fused product is a little too large, so that the recurrences drift from the truth.
struct OneWrongProduct<'a> {
    inner: &'a dyn LinearOperator,
    products: Cell<usize>,
}

impl OneWrongProduct<'_> {
    fn disturb(&self, out: &mut [f64]) {
        self.products.set(self.products.get() + 1);
        if self.products.get() == 3 {
            out.iter_mut()
                .enumerate()
                .for_each(|(k, x)| *x *= 1.0 + 1e-3 * (k % 3) as f64);
        }
    }
}

impl LinearOperator for OneWrongProduct<'_> {
    fn rows(&self) -> usize {
        self.inner.rows()
    }
    fn cols(&self) -> usize {
        self.inner.cols()
    }
    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        self.inner.apply(x, y)
    }
    fn apply_adjoint(&self, y: &[f64], x: &mut [f64]) -> Result<(), OperatorError> {
        self.inner.apply_adjoint(y, x)
    }
    fn apply_normal(
        &self,
        x: &[f64],
        image: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.inner.apply_normal(x, image, out)?;
        self.disturb(out);
        Ok(())
    }
    fn apply_gram(
        &self,
        y: &[f64],
        preimage: &mut [f64],
        out: &mut [f64],
    ) -> Result<(), OperatorError> {
        self.inner.apply_gram(y, preimage, out)?;
        self.disturb(out);
        Ok(())
    }
}

#[test]
fn recurrences_that_drifted_are_corrected_from_fresh_residuals() {
    let rng = &mut Rng::new(11);
    let (a, t) = (Matrix::random(30, 20, rng), rng.normals(30));
    let (inner, exact) = (a.operator(), ridge(&a, &t, 0.5));
    let options = PcgOptions {
        tolerance: 1e-10,
        max_iterations: 300,
    };
    for formulation in 0..2 {
        let operator = OneWrongProduct {
            inner: &inner,
            products: Cell::new(0),
        };
        let problem = RidgeProblem::new(&operator, t.clone(), 0.5).unwrap();
        let solution = if formulation == 0 {
            solve_primal(&problem, &Identity(20), &options, Start::Zero, &mut Quiet).unwrap()
        } else {
            solve_dual(&problem, &Identity(30), &options, Start::Zero, &mut Quiet).unwrap()
        };
        assert_eq!(solution.status, Status::Converged);
        assert!(relative_error(&solution.x, &exact) < 1e-9);
        let repeated = solution
            .history
            .windows(2)
            .any(|w| w[0].iteration == w[1].iteration);
        assert!(repeated, "it began anew");
    }
}
