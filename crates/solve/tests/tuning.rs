//! Criteria of the weight decay and their slopes against refitting and finite differences.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Matrix, ridge_with_bias};
use convextune_solve::SolveError;
use convextune_solve::faer::Mat;
use convextune_solve::quadratic::tuning::{
    CriterionPoint, SearchOptions, held_out_criterion, minimise,
};
use convextune_solve::quadratic::{Intercept, KernelRidge, log_grid};
use convextune_testkit::{Rng, dot};

const SAMPLES: usize = 9;

/// A (training rows, then held-out ones), its targets, rows a sample.
struct Problem {
    a: Matrix,
    t: Vec<f64>,
    classes: usize,
    /// Columns of targets.
    columns: usize,
    train: usize,
}

impl Problem {
    fn new(classes: usize, columns: usize) -> Self {
        let mut rng = Rng::new(31);
        let (train, all) = (SAMPLES * classes, (SAMPLES + 4) * classes);
        let a = Matrix::random(all, 6, &mut rng);
        let truth = Matrix::random(6, columns, &mut rng);
        let noise = rng.normals(all * columns);
        let signal = a.times(&truth).entries;
        let t = signal.iter().zip(noise).map(|(s, n)| s + 1.5 * n + 2.0);
        Self {
            t: t.collect(),
            a,
            classes,
            columns,
            train,
        }
    }

    fn kernel(&self) -> Mat<f64> {
        self.a.times(&self.a.transpose()).faer()
    }

    fn ridge(&self) -> KernelRidge {
        let kernel = self.kernel();
        let kernel = kernel.submatrix(0, 0, self.train, self.train).to_owned();
        KernelRidge::new(kernel, self.classes, Intercept::Free).unwrap()
    }

    /// Squared residuals on `rows` of the model fitted to the training rows without them.
    fn refitted(&self, rows: &[usize], lambda: f64) -> f64 {
        let kept: Vec<usize> = (0..self.train).filter(|r| !rows.contains(r)).collect();
        let (a, out) = (self.a.select_rows(&kept), self.a.select_rows(rows));
        let mut sum = 0.0;
        for j in 0..self.columns {
            let at = |r: &usize| self.t[r * self.columns + j];
            let t: Vec<f64> = kept.iter().map(at).collect();
            let (u, b) = ridge_with_bias(&a, &t, lambda, self.classes);
            for (row, r) in rows.iter().enumerate() {
                let f = dot(&out.entries[row * 6..(row + 1) * 6], &u) + b[r % self.classes];
                sum += (at(r) - f).powi(2);
            }
        }
        sum
    }

    fn leave_one_out(&self, samples: &[usize], lambda: f64) -> CriterionPoint {
        let train = (&self.t[..self.train * self.columns], self.columns);
        let spectrum = self.ridge().spectrum().unwrap();
        spectrum
            .leave_one_out_criterion(train, samples, lambda)
            .unwrap()
    }

    fn held_out(&self, lambda: f64) -> CriterionPoint {
        let (train, held_out) = self.t.split_at(self.train * self.columns);
        let (kernel, ridge) = (self.kernel(), self.ridge());
        let spectrum = ridge.spectrum().unwrap();
        let rows = kernel.nrows() - self.train;
        let cross = kernel.submatrix(self.train, 0, rows, self.train);
        let model = (&ridge, &spectrum);
        held_out_criterion(model, (train, self.columns), cross, held_out, lambda).unwrap()
    }
}

const KINDS: [(usize, usize); 4] = [(1, 1), (1, 3), (2, 1), (2, 2)];
const LAMBDAS: [f64; 4] = [0.01, 0.5, 4.0, 300.0];

#[test]
fn values_are_those_of_refitted_models() {
    for (classes, columns) in KINDS {
        let problem = Problem::new(classes, columns);
        let honest = [0, 2, 3, 8];
        for lambda in LAMBDAS {
            let own = |i: usize| (i * classes..(i + 1) * classes).collect::<Vec<_>>();
            let sum: f64 = honest
                .iter()
                .map(|i| problem.refitted(&own(*i), lambda))
                .sum();
            let expected = sum / (4 * classes * columns) as f64;
            let found = problem.leave_one_out(&honest, lambda).value;
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
            let rows: Vec<usize> = (problem.train..problem.a.rows).collect();
            let expected = problem.refitted(&rows, lambda) / (rows.len() * columns) as f64;
            let found = problem.held_out(lambda).value;
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
        }
    }
}

#[test]
fn slopes_are_finite_differences() {
    for (classes, columns) in KINDS {
        let problem = Problem::new(classes, columns);
        let all: Vec<usize> = (0..SAMPLES).collect();
        let criteria: [&dyn Fn(f64) -> CriterionPoint; 2] =
            [&|lambda| problem.leave_one_out(&all, lambda), &|lambda| {
                problem.held_out(lambda)
            }];
        for criterion in criteria {
            for lambda in LAMBDAS {
                let h: f64 = 1e-4;
                let [up, down] = [h, -h].map(|h| criterion(lambda * h.exp()).value);
                let difference = (up - down) / (2.0 * h);
                let point = criterion(lambda);
                let error = (point.slope - difference).abs();
                assert!(
                    error <= 1e-4 * difference.abs() + 1e-9 * point.value,
                    "{} for {difference}",
                    point.slope
                );
            }
        }
    }
}

/// The search ends where no point of a fine grid is better.
#[test]
fn the_minimum_is_that_of_a_fine_grid() {
    for (classes, columns) in KINDS {
        let problem = Problem::new(classes, columns);
        let spectrum = problem.ridge().spectrum().unwrap();
        let (t, all) = (
            &problem.t[..problem.train * columns],
            (0..SAMPLES).collect::<Vec<_>>(),
        );
        let mut criterion =
            |lambda: f64| spectrum.leave_one_out_criterion((t, columns), &all, lambda);
        let grid = |points| log_grid(1e-3, 1e3, points).unwrap();
        let path: Result<Vec<_>, SolveError> = grid(9).into_iter().map(&mut criterion).collect();
        let options = SearchOptions {
            tolerance: 1e-7,
            evaluations: 30,
        };
        let found = minimise(&path.unwrap(), options, &mut criterion).unwrap();
        assert!(found.converged || found.at_end);
        let best = grid(400).into_iter().map(|l| criterion(l).unwrap().value);
        let best = best.fold(f64::INFINITY, f64::min);
        assert!(found.best.value <= best, "{} {best}", found.best.value);
        if !found.at_end {
            assert!(best - found.best.value < 1e-3 * best);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let problem = Problem::new(2, 1);
    let (ridge, t) = (problem.ridge(), &problem.t[..problem.train]);
    let spectrum = ridge.spectrum().unwrap();
    let of = |t, samples: &[usize], lambda| spectrum.leave_one_out_criterion(t, samples, lambda);
    assert!(of((t, 1), &[0], 0.0).is_err());
    assert!(of((t, 1), &[SAMPLES], 1.0).is_err());
    assert!(of((t, 1), &[], 1.0).is_err());
    assert!(of((t, 2), &[0], 1.0).is_err());
    let cross = Mat::<f64>::zeros(4, problem.train);
    let held_out = |held: &[f64], lambda| {
        held_out_criterion((&ridge, &spectrum), (t, 1), cross.as_ref(), held, lambda)
    };
    assert!(held_out(&[0.0; 3], 1.0).is_err());
    assert!(held_out(&[0.0; 4], -1.0).is_err());
    assert!(held_out(&[0.0; 4], 1.0).is_ok());
}
