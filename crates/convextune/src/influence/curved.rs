//! Influence by products alone: for more samples than a kernel can be held of, and for an approximation by the
//! curvature.
//!
//! In the unknowns `v` of `u = S v` the Hessian of the fit is `H = S J'P J S + Lambda I`, and equations 1 to 4 of
//! [`super::dual`] (which has the symbols) are
//!
//! ```text
//!     g_X = S (J_X - mean of J)' ,     H V_X = g_X ,     W_X = P J S V_X + B_X/N                  (6)
//!     f(X) - f_{-G}(X)  =  W_GX' (I - W_GG)^-1 (t - f)_G                                          (8)
//! ```
//!
//! where W_GX has the rows of G. (`W_GG = h_GG` is the leverage.) The systems of (6) are solved by conjugate gradients,
//! several side by side ([`convextune_solve::quadratic::several`]): to a tolerance, which is as good as exact, or with
//! a few iterations. They may be preconditioned by a model F of `J'P J` whose inverse costs a few small matrix products
//! ([`crate::linearize::Curvature`], K-FAC or EKFAC). One iteration is then the influence that this model alone gives,
//! at the length that suits H best. (At the length that it has by itself, leverages come out well above 1, where no true
//! one is: with more weights than rows of J, F has full rank and `J'P J` has not. Conjugate gradients stay below the
//! true ones.) For a head alone F is `J'P J` itself, and one iteration is exact. Elsewhere no preconditioner is better: its
//! products cost more than they save, and it spreads the many eigenvalues that are equal to Lambda
//! (`docs/math/influence.md` has the figures).
//!
//! **Between two samples** whose systems were both solved, `W = g_X'V_Y + V_X'r_Y` with `r = g - H V` is better than
//! the product of (6) once both residuals are small: it is short of the true W by `(V* - V)_X' H (V* - V)_Y`, a product
//! of two errors. (Of two large errors, which are alike, it is worse.) The matrix of leverages of a group so computed is
//! short of the true one by a positive semidefinite one.
//!
//! **How wrong it is** is measured without the exact answer: `||H V - g|| / ||g||`, by a product of its own.
//!
//! Sources: Koh and Liang, ICML 2017 (influence by the weights' Hessian); Grosse et al., arXiv 2308.03296, 2023
//! (its inverse by EKFAC); George et al., NeurIPS 2018 (EKFAC).

use std::ops::Range;

use convextune_solve::faer::linalg::solvers::{Llt, Solve};
use convextune_solve::faer::{Mat, Side};
use convextune_solve::quadratic::{
    Columns, Identity, NormalSystem, PcgOptions, Preconditioner, solve_several,
};
use convextune_solve::{Centred, LinearOperator, Scaled};

use super::dual::dot;
use super::linearised::{Linearised, Setting};
use crate::error::Error;
use crate::linearize::{Copies, CurvatureOptions};
use crate::progress::Reporter;
use crate::samples::Samples;

/// Numbers that the directions of a run take; about ten times as many are held at once.
const NUMBERS: usize = 1 << 25;
/// Relative residual up to which two of them are better than one; the error of W then falls with their product.
const SMALL: f64 = 0.1;

/// A fit and a model of its curvature.
pub struct Curved {
    linearised: Linearised,
    /// `(S F S + Lambda I)^-1`, or none.
    inverse: Box<dyn Preconditioner>,
    effort: PcgOptions,
    /// `S J'B/N`, a column a row of J that a sample has.
    mean: Vec<Vec<f64>>,
    /// `t - f`, `N x C`.
    residuals: Mat<f64>,
    /// q.
    rows: usize,
    scale: f64,
    lambda: f64,
}

/// Samples that are asked about, or left out: g and V of equation 6, q columns a sample.
#[derive(Clone, Debug, Default)]
pub struct Directions {
    g: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
    /// `g - H V`.
    r: Vec<Vec<f64>>,
    /// `||H V - g|| / ||g||`, a column each.
    pub residuals: Vec<f64>,
    /// Iterations of the solver, of all that were asked for together.
    pub iterations: usize,
}

impl Directions {
    /// The largest residual.
    pub fn worst(&self) -> f64 {
        self.residuals.iter().copied().fold(0.0, f64::max)
    }

    /// Those of some columns.
    pub fn of(&self, columns: Range<usize>) -> Self {
        Self {
            g: self.g[columns.clone()].to_vec(),
            v: self.v[columns.clone()].to_vec(),
            r: self.r[columns.clone()].to_vec(),
            residuals: self.residuals[columns].to_vec(),
            iterations: self.iterations,
        }
    }
}

impl Curved {
    /// The fit of a setting to `samples` with the residuals `t - f` (`N x C`), and its curvature; systems are solved
    /// with the given effort.
    ///
    /// # Errors
    /// When a sample cannot be read or an eigendecomposition fails.
    pub fn new(
        setting: &Setting,
        samples: Samples,
        residuals: Mat<f64>,
        (curvature, effort): (Option<CurvatureOptions>, PcgOptions),
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let linearised = Linearised::new(setting, samples, reporter)?;
        let rows = linearised.rows()?;
        let n = residuals.nrows();
        let passes = rows + curvature.map_or(0, |c| 1 + usize::from(c.rescale));
        reporter.stage("curvature", (n * passes) as u64);
        let (inverse, mean) = linearised.with(reporter, |lin| {
            let backbone = lin.backbone_range();
            let inverse: Box<dyn Preconditioner> = match curvature {
                Some(options) => {
                    let blocks = lin.curvature(options)?.preconditioner(setting.lambda)?;
                    Box::new(blocks.scaled(&backbone, setting.scale)?)
                }
                None => Box::new(Identity(lin.cols())),
            };
            let mean = (0..rows).map(|c| {
                let ones: Vec<f64> = (0..n * rows)
                    .map(|r| f64::from(u8::from(r % rows == c)) / n as f64)
                    .collect();
                let mut mean = vec![0.0; lin.cols()];
                lin.apply_adjoint(&ones, &mut mean)?;
                scale(&mut mean[backbone.clone()], setting.scale);
                Ok(mean)
            });
            let mean = mean.collect::<Result<_, Error>>()?;
            Ok((inverse, mean))
        })?;
        Ok(Self {
            linearised,
            inverse,
            effort,
            mean,
            residuals,
            rows,
            scale: setting.scale,
            lambda: setting.lambda,
        })
    }

    /// N.
    pub fn samples(&self) -> usize {
        self.residuals.nrows()
    }

    /// q, rows of J a sample: 1 where every class has a copy of the weights, else C.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Samples whose [`Directions`] should be asked for at a time, at most.
    pub fn most(&self) -> usize {
        let longest = self.inverse.dim().max(self.samples() * self.rows);
        (NUMBERS / (self.rows * longest).max(1)).max(1)
    }

    /// The directions of samples (of the form that the whole network takes).
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn directions(
        &self,
        samples: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Directions, Error> {
        let frozen = self.linearised.frozen(samples, reporter)?;
        self.directions_of(frozen.as_ref().unwrap_or(samples), reporter)
    }

    /// The directions of some of the fit's own samples.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn own_directions(
        &self,
        chosen: &[usize],
        reporter: &dyn Reporter,
    ) -> Result<Directions, Error> {
        self.directions_of(&self.linearised.pick(chosen)?, reporter)
    }

    /// From the outputs of the frozen stages.
    fn directions_of(
        &self,
        samples: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Directions, Error> {
        let mut directions = Directions::default();
        for i in 0..samples.len() {
            let one = samples.pick(&[i])?;
            let lin = self.linearised.over(&one, reporter)?;
            for (c, mean) in self.mean.iter().enumerate() {
                let mut unit = vec![0.0; self.rows];
                unit[c] = 1.0;
                let mut g = vec![0.0; lin.cols()];
                lin.apply_adjoint(&unit, &mut g)?;
                scale(&mut g[lin.backbone_range()], self.scale);
                g.iter_mut().zip(mean).for_each(|(g, m)| *g -= m);
                directions.g.push(g);
            }
        }
        let Directions {
            g,
            v,
            r,
            residuals,
            iterations,
        } = &mut directions;
        self.in_runs(g, "influence systems", reporter, |operator, run| {
            let system = NormalSystem::new(operator, self.lambda);
            let (k, b) = (run.len(), weight_major(run));
            let solved = solve_several(
                &system,
                &Columns(self.inverse.as_ref(), k),
                &b,
                k,
                &self.effort,
                &mut |iteration, residual| reporter.residual(iteration, residual),
            )?;
            let column = |m: &[f64], j| m.iter().skip(j).step_by(k).copied().collect();
            v.extend((0..k).map(|j| column(&solved.x, j)));
            r.extend((0..k).map(|j| column(&solved.r, j)));
            residuals.extend(solved.residuals);
            *iterations += solved.iterations;
            Ok(())
        })?;
        Ok(directions)
    }

    /// W of equation 6 for all samples, `Nq x nq`: one pass over them, or one a column where classes share the
    /// weights.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn weights(
        &self,
        queries: &Directions,
        reporter: &dyn Reporter,
    ) -> Result<Mat<f64>, Error> {
        let (n, q) = (self.samples(), self.rows);
        let mut weights = Mat::zeros(n * q, queries.v.len());
        let mut first = 0;
        self.in_runs(
            &queries.v,
            "products with the queries",
            reporter,
            |operator, run| {
                let mut y = vec![0.0; operator.rows()];
                operator.apply(&weight_major(run), &mut y)?;
                for (r, y) in y.chunks_exact(run.len()).enumerate() {
                    for (j, y) in y.iter().enumerate() {
                        weights[(r, first + j)] = *y;
                    }
                }
                first += run.len();
                Ok(())
            },
        )?;
        for x in 0..weights.ncols() {
            let column = weights.col_as_slice_mut(x).iter_mut();
            let own = column.skip(x % q).step_by(q);
            own.for_each(|w| *w += 1.0 / n as f64);
        }
        Ok(weights)
    }

    /// Runs `f` on the operator `P J S` with as many copies of the weights as a run has directions. (Where a sample
    /// has several rows, one at a time.)
    fn in_runs(
        &self,
        directions: &[Vec<f64>],
        stage: &str,
        reporter: &dyn Reporter,
        mut f: impl FnMut(&dyn LinearOperator, &[Vec<f64>]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let most = if self.rows == 1 { self.most() } else { 1 };
        reporter.stage(stage, 0);
        self.linearised.with(reporter, |lin| {
            for run in directions.chunks(most) {
                let copies = Copies::new(lin, run.len())?;
                let scaled = Scaled::new(&copies, copies.backbone_range(), self.scale)?;
                f(&Centred::new(&scaled, self.rows * run.len())?, run)?;
            }
            Ok(())
        })
    }

    /// W between samples left out and queries, both solved, `mq x nq`: by two residuals where both are small, and
    /// otherwise by the queries' solutions alone.
    pub fn between(&self, left: &Directions, right: &Directions) -> Mat<f64> {
        let mut residuals = left.residuals.iter().chain(&right.residuals);
        self.products(left, right, residuals.all(|r| *r <= SMALL))
    }

    /// W by both residuals, or by the queries' solutions alone.
    pub(super) fn products(&self, left: &Directions, right: &Directions, both: bool) -> Mat<f64> {
        let (n, q) = (self.samples() as f64, self.rows);
        Mat::from_fn(left.g.len(), right.v.len(), |x, y| {
            let correction = if both {
                dot(&left.v[x], &right.r[y])
            } else {
                0.0
            };
            dot(&left.g[x], &right.v[y]) + correction + f64::from(u8::from(x % q == y % q)) / n
        })
    }

    /// The leverages h_GG of a group, `mq x mq`, never above the true ones.
    pub fn leverages(&self, group: &Directions) -> Mat<f64> {
        self.products(group, group, true)
    }

    /// `(I - W_GG)^-1 (t - f)_G` of equation 8 for a group of samples, `m x C`.
    ///
    /// # Errors
    /// When a leverage is 1 to rounding.
    pub fn left_out(&self, group: &[usize], directions: &Directions) -> Result<Mat<f64>, Error> {
        let (q, c) = (self.rows, self.residuals.ncols());
        let p = c / q;
        let h = self.leverages(directions);
        let one = |r: usize, s: usize| f64::from(u8::from(r == s));
        let block = Mat::from_fn(h.nrows(), h.nrows(), |r, s| one(r, s) - h[(r, s)]);
        let residual = |r: usize, k: usize| self.residuals[(group[r / q], (r % q) * p + k)];
        let factor = Llt::new(block.as_ref(), Side::Lower).map_err(|_| {
            Error::Usage(
                "a training image has all the weight in its own output, to rounding; fit with a larger weight decay"
                    .into(),
            )
        })?;
        let e = factor.solve(Mat::from_fn(h.nrows(), p, residual));
        Ok(Mat::from_fn(group.len(), c, |i, c| {
            e[(i * q + c / p, c % p)]
        }))
    }

    /// Equation 8 for one query, whose columns of W at the group are `weights` (`mq x q`), and the group's
    /// [`Self::left_out`]: length C.
    pub fn change(&self, weights: &Mat<f64>, left_out: &Mat<f64>) -> Vec<f64> {
        let (q, c) = (self.rows, left_out.ncols());
        let p = c / q;
        let term = |r: usize, class: usize| {
            weights[(r, class / p)] * left_out[(r / q, (r % q) * p + class % p)]
        };
        let change = |class| (0..weights.nrows()).map(|r| term(r, class)).sum();
        (0..c).map(change).collect()
    }

    /// The change of a query's output for `class` that each sample made, to first order (leverages taken as 0), from the
    /// query's columns of W (`Nq x q`); length N.
    pub fn first_order(&self, weights: &Mat<f64>, class: usize) -> Vec<f64> {
        let (q, p) = (self.rows, self.residuals.ncols() / self.rows);
        let term = |i: usize, r: usize| {
            weights[(i * q + r, class / p)] * self.residuals[(i, r * p + class % p)]
        };
        let change = |i: usize| (0..q).map(|r| term(i, r)).sum();
        (0..self.samples()).map(change).collect()
    }
}

fn scale(values: &mut [f64], factor: f64) {
    values.iter_mut().for_each(|v| *v *= factor);
}

/// Columns of the same length as one vector, entry by entry.
fn weight_major(columns: &[Vec<f64>]) -> Vec<f64> {
    let length = columns.first().map_or(0, Vec::len);
    (0..length)
        .flat_map(|p| columns.iter().map(move |column| column[p]))
        .collect()
}
