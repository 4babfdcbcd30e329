//! The Newton systems `(I + sigma A P A') d = g` of [`super`], by whichever way costs least.
//!
//! With `P_i = a_i (I - Q_i Q_i' - s_i s_i') + s_i s_i'` for the live groups `i`, masks `m_i` in `{0, 1}^n`
//! and `A_i = diag(m_i) X`:
//!
//! * **samples**: `A P A' = (X X') o (M diag(a) M') - sum a_i (A_i Q_i)(A_i Q_i)' + sum (1 - a_i) (A_i s_i)(A_i s_i)'`
//!   with `M = [m_1 ...]` (`o` entry by entry): the products with `X` are made once, and a live gate costs
//!   two columns of a symmetric product instead of `d`. Then a Cholesky factor of size `n`.
//! * **weights**: `B = [A_i P_i^(1/2)]`, `n x r`, and Woodbury's identity
//!   `(I + sigma B B')^-1 = I - B (I / sigma + B' B)^-1 B'`: a Cholesky factor of size `r`.
//! * **products**: conjugate gradients, a product with `A` and one with `A'` an iteration. At first they are
//!   preconditioned by the diagonal, and all together may take as long as one factorisation would; then a factor is
//!   made and preconditions the systems after it: from one Newton step to the next a few masks and scales change,
//!   and a `sigma` five times as large leaves the eigenvalues of the preconditioned matrix within `[1, 5]`. When the
//!   iterations since the last factor have taken as long as another would, it is made.
//!
//! A large factor over samples is made in single precision, and conjugate gradients bring its solution to the
//! tolerance; where it does not exist or they do not end, it is made again in double precision.

mod factor;
#[cfg(test)]
mod tests;

use faer::Mat;
use faer::linalg::solvers::Llt;
use faer::traits::math_utils::{from_f64, mul};

use self::factor::Factor;
use super::Scalar;
use super::gram::Precision;
use super::group::{Group, Live};
use crate::dense::{axpy, dot, norm, xpby};
use crate::error::SolveError;
use crate::factor::{add_gram_lower, cholesky, column};

/// How much slower an operation is in a product with `A` than in a factorisation.
const SLOWER: f64 = 2.0;
/// The same in a product with a factor's inverse, which memory bounds.
const MUCH_SLOWER: f64 = 8.0;
/// Conjugate gradient iterations below which they are not worth trying.
const FEWEST: f64 = 10.0;
/// Conjugate gradient iterations allowed.
const ITERATIONS: f64 = 500.0;
/// Conjugate gradient iterations in which a new factor in single precision must end.
const FRESH: f64 = 50.0;
/// Samples from which a factor over them is made in single precision.
const MANY: usize = 1000;
/// Bytes that a factorisation may take.
const MOST_BYTES: f64 = 4e9;

/// The live groups of a point, and `sigma`.
pub(super) struct System<'a> {
    pub(super) scalar: &'a Scalar<'a>,
    pub(super) live: Vec<(Group, &'a Live)>,
    pub(super) sigma: f64,
}

/// What one system leaves to those after it.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// The last factor that was made.
    factor: Option<Factor>,
    /// What conjugate gradients may take before another is made, in units of its cost.
    patience: f64,
    /// Whether single precision has been enough.
    single: bool,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            factor: None,
            patience: 1.0,
            single: true,
        }
    }

    fn keep(&mut self, factor: Factor) -> &Factor {
        self.patience = 1.0;
        self.factor.insert(factor)
    }
}

impl System<'_> {
    /// `d` with `(I + sigma A P A') d = g`, to a relative residual of `tolerance` where it is iterated.
    pub(super) fn solve(
        &self,
        g: &[f64],
        tolerance: f64,
        memory: &mut Memory,
    ) -> Result<Vec<f64>, SolveError> {
        if let Some(direction) = self.iterate(g, tolerance, memory) {
            return Ok(direction);
        }
        let (samples, weights) = self.costs(memory);
        if samples >= weights {
            return Ok(memory.keep(self.by_weights()?).solve(g));
        }
        if self.single(memory) {
            if let Ok(factor) = self.by_samples::<f32>() {
                let factor = memory.keep(Factor::Single(factor));
                let run = self.by_products(g, tolerance, FRESH, |r| factor.solve(r));
                if run.done {
                    return Ok(run.direction);
                }
            }
            memory.single = false;
        }
        let factor = Factor::Double(self.by_samples()?);
        Ok(memory.keep(factor).solve(g))
    }

    /// Whether the next factor over samples is to be in single precision.
    fn single(&self, memory: &Memory) -> bool {
        memory.single && self.scalar.samples() >= MANY
    }

    /// Conjugate gradients, as long as patience lasts.
    fn iterate(&self, g: &[f64], tolerance: f64, memory: &mut Memory) -> Option<Vec<f64>> {
        let (samples, weights) = self.costs(memory);
        let cost = samples.min(weights);
        let inverse = memory.factor.as_ref().map_or(0.0, Factor::cost);
        let most = cost / (SLOWER * self.product_cost() + MUCH_SLOWER * inverse);
        let allowed = memory.patience * most;
        if allowed < FEWEST {
            return None;
        }
        let run = if let Some(factor) = &memory.factor {
            self.by_products(g, tolerance, allowed, |r| factor.solve(r))
        } else {
            let diagonal = self.diagonal();
            let divide = |r: &[f64]| r.iter().zip(&diagonal).map(|(r, d)| r / d).collect();
            self.by_products(g, tolerance, allowed, divide)
        };
        memory.patience -= run.iterations / most;
        (run.done || most.is_infinite()).then_some(run.direction)
    }

    /// Operations of a factorisation over samples, and over weights; infinite where memory does not allow it.
    fn costs(&self, memory: &Memory) -> (f64, f64) {
        let (n, d) = (self.scalar.samples() as f64, self.scalar.features() as f64);
        let k = self.live.len() as f64;
        let bound: f64 = self.live.iter().map(|(_, l)| l.basis.len() as f64).sum();
        let width = k * d;
        let within = |cost: f64, entries: f64| {
            if 8.0 * entries <= MOST_BYTES {
                cost
            } else {
                f64::INFINITY
            }
        };
        let half = if self.single(memory) { 0.5 } else { 1.0 };
        let samples = half * (n * n * (2.0 * k + bound) + n * n * n / 3.0);
        let weights = n * width * width + width.powi(3) / 3.0;
        (
            within(samples, 3.0 * n * n),
            within(weights, (n + 2.0 * width) * width),
        )
    }

    /// Operations of a product with `A P A'`.
    fn product_cost(&self) -> f64 {
        4.0 * (self.scalar.samples() * self.live.len() * self.scalar.features()) as f64
    }

    /// `diag(root) D_i X v`.
    fn image(&self, group: Group, v: &[f64]) -> Vec<f64> {
        let x = self.scalar.matrix.x();
        let scores = x * column(v);
        let mut image = vec![0.0; self.scalar.samples()];
        let patterns = self.scalar.matrix.patterns();
        patterns.mask(group.gate, scores.col_as_slice(0), &mut image);
        self.scalar.scale(&mut image);
        image
    }

    fn by_samples<T: Precision>(&self) -> Result<Llt<T>, SolveError> {
        let n = self.scalar.samples();
        let patterns = self.scalar.matrix.patterns();
        let mut masks = Vec::with_capacity(self.live.len());
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for (group, live) in &self.live {
            let mut mask = vec![0.0; n];
            let mut m = vec![live.shrink.sqrt(); n];
            self.scalar.scale(&mut m);
            patterns.mask(group.gate, &m, &mut mask);
            masks.push(mask);
            let along = |v: &[f64], weight: f64| {
                let mut image = self.image(*group, v);
                image.iter_mut().for_each(|x| *x *= weight.sqrt());
                image
            };
            plus.push(along(&live.direction, 1.0 - live.shrink));
            minus.extend(live.basis.iter().map(|q| along(q, live.shrink)));
        }
        if self.scalar.intercept {
            plus.push(self.scalar.ones());
        }
        // Rows of length about 1, as single precision wants them.
        let s = self.scalar.row_length();
        let scale: T = from_f64(self.sigma * s * s);
        let minus_scale: T = from_f64(-self.sigma * s * s);
        let mut v = Mat::zeros(n, n);
        add_gram_lower(&mut v, by_columns(n, &masks, 1.0).as_ref(), scale);
        let gram = self.scalar.grams.get::<T>(self.scalar.matrix.x(), s);
        for j in 0..n {
            let gram = &gram.col_as_slice(j)[j..];
            let v = &mut v.col_as_slice_mut(j)[j..];
            v.iter_mut().zip(gram).for_each(|(v, x)| *v = mul(v, x));
        }
        add_gram_lower(&mut v, by_columns(n, &plus, s).as_ref(), scale);
        add_gram_lower(&mut v, by_columns(n, &minus, s).as_ref(), minus_scale);
        cholesky("Newton system", v.as_ref(), from_f64(1.0))
    }

    fn by_weights(&self) -> Result<Factor, SolveError> {
        let (n, d) = (self.scalar.samples(), self.scalar.features());
        let width = self.live.len() * d + usize::from(self.scalar.intercept);
        let mut b = Mat::zeros(n, width);
        let patterns = self.scalar.matrix.patterns();
        for (k, (group, live)) in self.live.iter().enumerate() {
            let root = Live {
                shrink: live.shrink.sqrt(),
                ..(*live).clone()
            };
            let mut unit = vec![0.0; d];
            let mut half = Mat::zeros(d, d);
            for j in 0..d {
                unit[j] = 1.0;
                half.col_as_slice_mut(j)
                    .copy_from_slice(&root.derivative(&unit));
                unit[j] = 0.0;
            }
            let images = self.scalar.matrix.x() * half;
            for j in 0..d {
                let b = b.col_as_slice_mut(k * d + j);
                patterns.mask(group.gate, images.col_as_slice(j), b);
                self.scalar.scale(b);
            }
        }
        if self.scalar.intercept {
            let ones = self.scalar.ones();
            b.col_as_slice_mut(width - 1).copy_from_slice(&ones);
        }
        let mut gram = Mat::zeros(width, width);
        add_gram_lower(&mut gram, b.transpose(), 1.0);
        let inner = cholesky("Newton system", gram.as_ref(), 1.0 / self.sigma)?;
        Ok(Factor::Weights { b, inner })
    }

    /// Preconditioned conjugate gradients, `most` iterations. Given up at half of them where not half the way is
    /// behind, if there is another way.
    fn by_products(
        &self,
        g: &[f64],
        tolerance: f64,
        most: f64,
        precondition: impl Fn(&[f64]) -> Vec<f64>,
    ) -> Run {
        let half = if most.is_finite() { most / 2.0 } else { most };
        let mut d = vec![0.0; g.len()];
        let mut r = g.to_vec();
        let mut z = precondition(&r);
        let mut p = z.clone();
        let mut rho = dot(&r, &z);
        let mut iterations = 0.0;
        loop {
            let within = |part: f64| norm(&r) <= part * norm(g);
            let done = within(tolerance);
            let hopeless = iterations >= half && !within(tolerance.sqrt());
            if done || hopeless || iterations >= most.min(ITERATIONS) {
                return Run {
                    direction: d,
                    iterations,
                    done,
                };
            }
            let image = self.product(&p);
            let alpha = rho / dot(&p, &image);
            axpy(alpha, &p, &mut d);
            axpy(-alpha, &image, &mut r);
            z = precondition(&r);
            let next = dot(&r, &z);
            xpby(&z, next / rho, &mut p);
            rho = next;
            iterations += 1.0;
        }
    }

    /// `(I + sigma A P A') v`.
    fn product(&self, v: &[f64]) -> Vec<f64> {
        let groups: Vec<Group> = self.live.iter().map(|(group, _)| *group).collect();
        let mut weights = self.scalar.correlate(&groups, v);
        for (k, (_, live)) in self.live.iter().enumerate() {
            let image = live.derivative(weights.col_as_slice(k));
            weights.col_as_slice_mut(k).copy_from_slice(&image);
        }
        let offset = if self.scalar.intercept {
            dot(&self.scalar.ones(), v)
        } else {
            0.0
        };
        let mut out = self.scalar.apply(&groups, weights.as_ref(), offset);
        for (out, v) in out.iter_mut().zip(v) {
            *out = v + self.sigma * *out;
        }
        out
    }

    /// Of `I + sigma A P A'`, without the parts of rank one.
    fn diagonal(&self) -> Vec<f64> {
        let n = self.scalar.samples();
        let squares = self.scalar.scaled_squares();
        let patterns = self.scalar.matrix.patterns();
        let mut diagonal = vec![1.0; n];
        for (group, live) in &self.live {
            let scaled: Vec<f64> = squares
                .iter()
                .map(|x| self.sigma * live.shrink * x)
                .collect();
            patterns.add_masked(group.gate, &scaled, &mut diagonal);
        }
        diagonal
    }
}

/// What conjugate gradients came to.
struct Run {
    direction: Vec<f64>,
    iterations: f64,
    /// Whether the tolerance was reached.
    done: bool,
}

/// `columns / s`, as a matrix.
fn by_columns<T: Precision>(rows: usize, columns: &[Vec<f64>], s: f64) -> Mat<T> {
    Mat::from_fn(rows, columns.len(), |i, j| from_f64(columns[j][i] / s))
}
