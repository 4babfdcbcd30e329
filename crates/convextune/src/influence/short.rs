//! Influence through short rows: for more samples than a kernel can be held of.
//!
//! One row of J a sample: every class has a copy of the weights, or a head is trained alone. The head's part of a
//! row is the sample's d features. The backbone's millions of numbers are made k long by a CountSketch
//! ([`crate::linearize`]), which keeps inner products on average. Let `z_i` be the short row, of length `m = k + d`,
//! under the prior and less the mean of all, `G = sum_i z_i z_i' + D = L L'` and `v_i = L^-1 z_i`, where the diagonal D
//! is Lambda for the features. Then W and V of equations 1 and 5 of [`super::dual`] are about
//!
//! ```text
//!     W_iX = v_i'v_X + 1/N ,    h_i = |v_i|^2 + 1/N ,    V(x) = |v_x|^2 + 1/N                          (9)
//! ```
//!
//! and with the residuals `t - f` of the fit itself, equations 2 and 4 are
//!
//! ```text
//!     t_i - f_{-i}(x_i)  =  e_i  =  (t - f)_i / (1 - h_i) ,    f(X) - f_{-i}(X)  =  W_iX e_i .         (10)
//! ```
//!
//! So a score is wrong by its leverage and its W alone. For a head alone nothing is sketched, and all is exact.
//!
//! **The penalty of sketched numbers**, their part of D, is smaller than Lambda ([`penalty`]).
//!
//! **How wrong it is** is measured without the exact answer: the fit of the short rows to the same targets has the
//! outputs `f' = W't` at the samples, and `||f' - f|| / ||f - mean of f||` is told.
//!
//! Sources: Charikar, Chen and Farach-Colton, 2002 (CountSketch); Park et al., *TRAK*, ICML 2023 (leaving out by
//! projected gradients; there of an ordinary network, by a Newton step, and without leverages).

pub(super) mod penalty;

use convextune_solve::faer::linalg::solvers::Llt;
use convextune_solve::faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use convextune_solve::faer::{Mat, MatRef, get_global_parallelism};

use self::penalty::factor;
use super::linearised::{Linearised, Setting};
use super::scores::{Nearest, norms};
use crate::error::Error;
use crate::linearize::{Linearization, SketchOptions};
use crate::progress::Reporter;
use crate::samples::Samples;

/// Numbers that the short rows of all samples take, about.
const NUMBERS: usize = 1 << 29;
/// k at least; at most unless there are more than twice as many samples; and at most.
const BUCKETS: [usize; 3] = [512, 8192, 16_384];
/// Samples whose rows are taken together; fixed, so that sums do not depend on the number of threads.
const BLOCK: usize = 512;
/// Least `1 - h` that residuals are divided by.
const LEAST: f64 = 1e-9;

/// The short rows of a fit's samples, whitened.
pub struct Short {
    linearised: Linearised,
    sketch: SketchOptions,
    scale: f64,
    /// L.
    factor: Llt<f64>,
    /// Of the rows before they are centred, length m.
    mean: Vec<f64>,
    /// v, `m x N`.
    v: Mat<f32>,
    /// e, `N x C`.
    left_out: Mat<f64>,
    error: f64,
}

impl Short {
    /// k for so many samples: twice as many, with many samples half as many, within the bounds of memory and time.
    pub fn buckets(linearised: &Linearised, samples: usize) -> usize {
        let [least, usual, most] = BUCKETS;
        let fits = (NUMBERS / samples.max(1)).saturating_sub(linearised.features());
        let wanted = (2 * samples).min(usual).max(samples / 2);
        wanted.min(fits).clamp(least, most)
    }

    /// The fit of a setting with one row a sample to targets `t` (`N x C`), whose residuals are `t - f`; the head's
    /// part of a row is not sketched.
    ///
    /// # Errors
    /// When a sample cannot be read, `G` has no Cholesky factor, or a sample has all the weight in its own output.
    pub fn new(
        setting: &Setting,
        linearised: Linearised,
        (targets, residuals): (&Mat<f64>, &Mat<f64>),
        (buckets, seed): (usize, u64),
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let n = residuals.nrows();
        let sketch = SketchOptions {
            buckets,
            seed,
            sketch_head: false,
        };
        reporter.stage("sketch", n as u64);
        let mut v = linearised.with(reporter, |lin| rows(lin, setting.scale, sketch))?;
        let mean = centre(&mut v);
        reporter.stage("leverages", n as u64);
        let sketched = v.nrows() - linearised.features();
        let factor = factor(&v, (sketched, setting.lambda), seed)?;
        reporter.advance(n as u64);
        whiten(&factor, &mut v);
        Ok(Self {
            linearised,
            sketch,
            scale: setting.scale,
            factor,
            mean,
            left_out: left_out(&v, residuals)?,
            error: misfit(&v, targets, &(targets - residuals)),
            v,
        })
    }

    /// `||f' - f|| / ||f - mean of f||`: how far the outputs of the short rows' fit are from those of the fit itself.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Queries that should be asked about at a time, at most.
    pub fn most_queries(&self) -> usize {
        4 * BLOCK
    }

    /// N.
    pub fn samples(&self) -> usize {
        self.v.ncols()
    }

    /// `t_i - f_{-i}(x_i)` of every sample (equation 10), `N x C`.
    pub fn leave_one_out_residuals(&self) -> &Mat<f64> {
        &self.left_out
    }

    /// F-SI of every sample: the mean over `queries` (of the form that the whole network takes) of `||f - f_{-i}||^2`.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn informativeness(
        &self,
        queries: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Vec<f64>, Error> {
        let asked = self.whitened(queries, reporter)?;
        let sums = self.sums_of_squares(asked.as_ref());
        let mean = sums.into_iter().zip(norms(&self.left_out));
        Ok(mean
            .map(|(sum, e)| sum * e / asked.ncols().max(1) as f64)
            .collect())
    }

    /// F-SI of every sample with the other samples as queries.
    pub fn informativeness_among(&self, reporter: &dyn Reporter) -> Vec<f64> {
        let n = self.samples();
        reporter.stage("products of all with all", n as u64);
        let mut sums = vec![0.0; n];
        for first in (0..n).step_by(BLOCK) {
            let asked = self.v.subcols(first, BLOCK.min(n - first));
            let some = self.sums_of_squares(asked).into_iter();
            sums.iter_mut().zip(some).for_each(|(sum, s)| *sum += s);
            reporter.advance(asked.ncols() as u64);
        }
        let others = (0..n).map(|i| sums[i] - leverage(&self.v, i).powi(2));
        others
            .zip(norms(&self.left_out))
            .map(|(sum, e)| sum * e / (n as f64 - 1.0))
            .collect()
    }

    /// V of equation 9 for queries (of the form that the whole network takes).
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn variances(&self, queries: &Samples, reporter: &dyn Reporter) -> Result<Vec<f64>, Error> {
        let asked = self.whitened(queries, reporter)?;
        let own = 1.0 / self.samples() as f64;
        Ok((0..asked.ncols())
            .map(|x| squared_norm(asked.col_as_slice(x)) + own)
            .collect())
    }

    /// For every sample the one nearest to it by the cosine of the centred short rows.
    pub fn nearest(&self, reporter: &dyn Reporter) -> Vec<Nearest> {
        let n = self.samples();
        let lower = single(self.factor.L());
        let mut z = lower * &self.v;
        for i in 0..n {
            let row = z.col_as_slice_mut(i);
            let length = squared_norm(row).sqrt().max(f64::MIN_POSITIVE);
            row.iter_mut()
                .for_each(|z| *z = (f64::from(*z) / length) as f32);
        }
        reporter.stage("products of all with all", n as u64);
        let mut nearest = Vec::with_capacity(n);
        for first in (0..n).step_by(BLOCK) {
            let block = z.subcols(first, BLOCK.min(n - first));
            let cosines = z.transpose() * block;
            for x in 0..block.ncols() {
                let others = cosines.col_as_slice(x).iter().enumerate();
                let others = others.filter(|(i, _)| *i != first + x);
                nearest.extend(
                    others
                        .max_by(|a, b| a.1.total_cmp(b.1))
                        .map(|(sample, cosine)| Nearest {
                            sample,
                            cosine: f64::from(*cosine),
                        }),
                );
            }
            reporter.advance(block.ncols() as u64);
        }
        nearest
    }

    /// v of queries, a column each.
    fn whitened(&self, queries: &Samples, reporter: &dyn Reporter) -> Result<Mat<f32>, Error> {
        let frozen = self.linearised.frozen(queries, reporter)?;
        let lin = self
            .linearised
            .over(frozen.as_ref().unwrap_or(queries), reporter)?;
        reporter.stage("sketch of the queries", queries.len() as u64);
        let mut v = rows(&lin, self.scale, self.sketch)?;
        subtract(&mut v, &self.mean);
        whiten(&self.factor, &mut v);
        Ok(v)
    }

    /// `sum over the columns x of W_ix^2`, a sample i each.
    fn sums_of_squares(&self, asked: MatRef<'_, f32>) -> Vec<f64> {
        let n = self.samples();
        let own = 1.0 / n as f64;
        let mut sums = Vec::with_capacity(n);
        for first in (0..n).step_by(BLOCK) {
            let w = asked.transpose() * self.v.subcols(first, BLOCK.min(n - first));
            let square = |w: &f32| (f64::from(*w) + own).powi(2);
            sums.extend((0..w.ncols()).map(|i| w.col_as_slice(i).iter().map(square).sum::<f64>()));
        }
        sums
    }
}

/// The short rows under the prior, `m x N`: the sketch first, then the features.
fn rows(lin: &Linearization<'_>, scale: f64, mut sketch: SketchOptions) -> Result<Mat<f32>, Error> {
    let trained = !lin.backbone_range().is_empty();
    if !trained {
        sketch.buckets = 1;
    }
    let made = lin.sketch(sketch)?;
    let (width, n) = (made.sketch.width, lin.samples().len());
    let k = if trained { width } else { 0 };
    let d = made.features.len() / n.max(1);
    Ok(Mat::from_fn(k + d, n, |j, i| {
        if j < k {
            made.sketch.rows[i * width + j] * scale as f32
        } else {
            made.features[i * d + j - k]
        }
    }))
}

/// Takes the mean off every column, and returns it.
fn centre(z: &mut Mat<f32>) -> Vec<f64> {
    let mut mean = vec![0.0; z.nrows()];
    let n = z.ncols() as f64;
    for i in 0..z.ncols() {
        let row = z.col_as_slice(i).iter();
        mean.iter_mut()
            .zip(row)
            .for_each(|(m, z)| *m += f64::from(*z) / n);
    }
    subtract(z, &mean);
    mean
}

fn subtract(z: &mut Mat<f32>, mean: &[f64]) {
    for i in 0..z.ncols() {
        let row = z.col_as_slice_mut(i).iter_mut();
        row.zip(mean)
            .for_each(|(z, m)| *z = (f64::from(*z) - m) as f32);
    }
}

/// `v <- L^-1 v`.
fn whiten(factor: &Llt<f64>, v: &mut Mat<f32>) {
    let (m, n) = (v.nrows(), v.ncols());
    for first in (0..n).step_by(BLOCK) {
        let size = BLOCK.min(n - first);
        let mut block = double(v.subcols(first, size));
        solve_lower_triangular_in_place(factor.L(), block.as_mut(), get_global_parallelism());
        for i in 0..size {
            let column = v.col_as_slice_mut(first + i);
            (0..m).for_each(|j| column[j] = block[(j, i)] as f32);
        }
    }
}

/// h of equation 9.
fn leverage(v: &Mat<f32>, i: usize) -> f64 {
    squared_norm(v.col_as_slice(i)) + 1.0 / v.ncols() as f64
}

/// e of equation 10.
fn left_out(v: &Mat<f32>, residuals: &Mat<f64>) -> Result<Mat<f64>, Error> {
    let rest: Vec<f64> = (0..v.ncols()).map(|i| 1.0 - leverage(v, i)).collect();
    if rest.iter().any(|rest| *rest < LEAST) {
        return Err(all_the_weight());
    }
    Ok(Mat::from_fn(
        residuals.nrows(),
        residuals.ncols(),
        |i, c| residuals[(i, c)] / rest[i],
    ))
}

/// The error told by [`Short::error`].
fn misfit(v: &Mat<f32>, targets: &Mat<f64>, fitted: &Mat<f64>) -> f64 {
    let (n, classes) = (targets.nrows(), targets.ncols());
    let mean = |c: usize| targets.col_as_slice(c).iter().sum::<f64>() / n as f64;
    let means: Vec<f64> = (0..classes).map(mean).collect();
    let centred = Mat::from_fn(n, classes, |i, c| (targets[(i, c)] - means[c]) as f32);
    let short = v.transpose() * (v * &centred);
    let (mut wrong, mut all) = (0.0, 0.0);
    for c in 0..classes {
        for i in 0..n {
            let f = fitted[(i, c)] - means[c];
            wrong += (f64::from(short[(i, c)]) - f).powi(2);
            all += f * f;
        }
    }
    (wrong / f64::max(all, f64::MIN_POSITIVE)).sqrt()
}

fn squared_norm(v: &[f32]) -> f64 {
    v.iter().map(|v| f64::from(*v).powi(2)).sum()
}

fn double(m: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_fn(m.nrows(), m.ncols(), |i, j| f64::from(m[(i, j)]))
}

fn single(m: MatRef<'_, f64>) -> Mat<f32> {
    Mat::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)] as f32)
}

fn all_the_weight() -> Error {
    Error::Usage(
        "a training image has all the weight in its own output, to rounding; fit with a larger weight decay"
            .into(),
    )
}
