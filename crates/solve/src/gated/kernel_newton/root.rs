//! `R` of equation 3 of [`super`]: a root of the second derivatives of the samples' losses.

use faer::{Mat, MatRef};

use crate::gated::{Loss, Problem};

/// `R`, as the square roots of its diagonal and, for coupled outputs, a projector.
pub(super) struct Root {
    pub(super) q: Mat<f64>,
    coupled: bool,
}

impl Root {
    pub(super) fn of(problem: &Problem, z: &Mat<f64>) -> Self {
        let (y, n) = (&problem.targets, problem.matrix.samples() as f64);
        let coupled = problem.loss == Loss::CrossEntropy && z.ncols() > 1;
        let q = match problem.loss {
            // A softmax is its gradient and the target.
            Loss::CrossEntropy if coupled => {
                let g = problem.loss.gradient(z.as_ref(), y.as_ref());
                Mat::from_fn(z.nrows(), z.ncols(), |s, c| {
                    (n * g[(s, c)] + y[(s, c)]).max(0.0).sqrt()
                })
            }
            Loss::CrossEntropy => Mat::from_fn(z.nrows(), 1, |s, c| {
                let p = 1.0 / (1.0 + z[(s, c)].abs().exp());
                (p * (1.0 - p)).sqrt()
            }),
            Loss::SquaredHinge => Mat::from_fn(z.nrows(), z.ncols(), |s, c| {
                if y[(s, c)] * z[(s, c)] < 1.0 {
                    1.0
                } else {
                    0.0
                }
            }),
            Loss::Squared => Mat::full(z.nrows(), z.ncols(), 1.0),
        };
        Self { q, coupled }
    }

    /// `diag(q) v`.
    pub(super) fn scaled(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        Mat::from_fn(v.nrows(), v.ncols(), |s, c| self.q[(s, c)] * v[(s, c)])
    }

    /// `(I - q q') v`, or `v` where outputs do not couple.
    pub(super) fn projected(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        if !self.coupled {
            return v.to_owned();
        }
        let columns = 0..v.ncols();
        let along = |s| columns.clone().map(|c| self.q[(s, c)] * v[(s, c)]).sum();
        let along: Vec<f64> = (0..v.nrows()).map(along).collect();
        Mat::from_fn(v.nrows(), v.ncols(), |s, c| {
            v[(s, c)] - self.q[(s, c)] * along[s]
        })
    }

    /// `R v`.
    pub(super) fn apply(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        self.scaled(self.projected(v).as_ref())
    }

    /// `(I - q q') v / q`, which `R` maps to `v` where nothing is left out: entries with a `q` below `least` are.
    pub(super) fn inverse(&self, v: MatRef<'_, f64>, least: f64) -> Mat<f64> {
        let divided = Mat::from_fn(v.nrows(), v.ncols(), |s, c| {
            let q = self.q[(s, c)];
            if q > least { v[(s, c)] / q } else { 0.0 }
        });
        self.projected(divided.as_ref())
    }

    /// `R' v`.
    pub(super) fn adjoint(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        self.projected(self.scaled(v).as_ref())
    }
}
