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
//! * **products**: conjugate gradients, a product with `A` and one with `A'` an iteration. Their number is
//!   not known before, so they may take as long as the cheaper factorisation would; where they did not end in
//!   that time, the factorisation is made, and from then on at once (`sigma` only grows).

#[cfg(test)]
mod tests;

use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef};

use super::Scalar;
use super::group::{Group, Live};
use crate::dense::{axpy, dot, norm, xpby};
use crate::error::SolveError;
use crate::factor::{add_gram_lower, cholesky, column};

/// How much slower an operation is in a product with `A` than in a factorisation.
const SLOWER: f64 = 2.0;
/// Conjugate gradient iterations below which they are not worth trying.
const FEWEST: f64 = 10.0;
/// Conjugate gradient iterations allowed.
const ITERATIONS: f64 = 500.0;
/// Bytes that a factorisation may take.
const MOST_BYTES: f64 = 4e9;

/// The live groups of a point, and `sigma`.
pub(super) struct System<'a> {
    pub(super) scalar: &'a Scalar<'a>,
    pub(super) live: Vec<(Group, &'a Live)>,
    pub(super) sigma: f64,
}

impl System<'_> {
    /// `d` with `(I + sigma A P A') d = g`, to a relative residual of `tolerance` where it is iterated;
    /// `patient` as long as iterations have ended in time.
    pub(super) fn solve(
        &self,
        g: &[f64],
        tolerance: f64,
        patient: &mut bool,
    ) -> Result<Vec<f64>, SolveError> {
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
        let samples = n * n * (2.0 * k + bound) + n * n * n / 3.0;
        let samples = within(samples, 3.0 * n * n);
        let weights = n * width * width + width.powi(3) / 3.0;
        let weights = within(weights, (n + 2.0 * width) * width);
        let product = SLOWER * 4.0 * n * width;
        let iterations = (samples.min(weights) / product).min(ITERATIONS);
        if *patient && iterations >= FEWEST || iterations >= ITERATIONS {
            let (direction, done) = self.by_products(g, tolerance, iterations as usize);
            if done || iterations >= ITERATIONS {
                return Ok(direction);
            }
            *patient = false;
        }
        if samples < weights {
            self.by_samples(g)
        } else {
            self.by_weights(g)
        }
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

    fn by_samples(&self, g: &[f64]) -> Result<Vec<f64>, SolveError> {
        let n = self.scalar.samples();
        let patterns = self.scalar.matrix.patterns();
        let mut masks = Mat::zeros(n, self.live.len());
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for (k, (group, live)) in self.live.iter().enumerate() {
            let mut m = vec![live.shrink.sqrt(); n];
            self.scalar.scale(&mut m);
            patterns.mask(group.gate, &m, masks.col_as_slice_mut(k));
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
        let mut v = Mat::zeros(n, n);
        add_gram_lower(&mut v, masks.as_ref(), self.sigma);
        let gram = self.scalar.gram();
        for j in 0..n {
            let gram = &gram.col_as_slice(j)[j..];
            let v = &mut v.col_as_slice_mut(j)[j..];
            v.iter_mut().zip(gram).for_each(|(v, x)| *v *= x);
        }
        add_gram_lower(&mut v, by_columns(n, &plus).as_ref(), self.sigma);
        add_gram_lower(&mut v, by_columns(n, &minus).as_ref(), -self.sigma);
        let factor = cholesky("Newton system", v.as_ref(), 1.0)?;
        Ok(entries(factor.solve(column(g)).as_ref()))
    }

    fn by_weights(&self, g: &[f64]) -> Result<Vec<f64>, SolveError> {
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
        let mut inner = Mat::zeros(width, width);
        add_gram_lower(&mut inner, b.transpose(), 1.0);
        let factor = cholesky("Newton system", inner.as_ref(), 1.0 / self.sigma)?;
        let along = b.transpose() * column(g);
        let correction = &b * factor.solve(along);
        Ok((0..n).map(|s| g[s] - correction[(s, 0)]).collect())
    }

    /// Preconditioned by the diagonal without the parts of rank one; and whether the tolerance was reached.
    fn by_products(&self, g: &[f64], tolerance: f64, iterations: usize) -> (Vec<f64>, bool) {
        let diagonal = self.diagonal();
        let precondition =
            |r: &[f64]| -> Vec<f64> { r.iter().zip(&diagonal).map(|(r, d)| r / d).collect() };
        let mut d = vec![0.0; g.len()];
        let mut r = g.to_vec();
        let mut z = precondition(&r);
        let mut p = z.clone();
        let mut rho = dot(&r, &z);
        for _ in 0..iterations {
            if norm(&r) <= tolerance * norm(g) {
                return (d, true);
            }
            let image = self.product(&p);
            let alpha = rho / dot(&p, &image);
            axpy(alpha, &p, &mut d);
            axpy(-alpha, &image, &mut r);
            z = precondition(&r);
            let next = dot(&r, &z);
            xpby(&z, next / rho, &mut p);
            rho = next;
        }
        (d, norm(&r) <= tolerance * norm(g))
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

fn by_columns(rows: usize, columns: &[Vec<f64>]) -> Mat<f64> {
    Mat::from_fn(rows, columns.len(), |i, j| columns[j][i])
}

fn entries(m: MatRef<'_, f64>) -> Vec<f64> {
    (0..m.nrows()).map(|i| m[(i, 0)]).collect()
}
