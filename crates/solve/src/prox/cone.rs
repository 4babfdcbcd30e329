//! Projection onto a polyhedral cone `K = { v : B v >= 0 }`, `B` `n x d` with rows `b_s` of length 1:
//! rows `x_s / ||x_s||`, each with a sign.
//!
//! The conditions for `v = P_K z` are
//!
//! ```text
//!     v = z + B' mu ,   mu >= 0 ,   B v >= 0 ,   mu' B v = 0 ,
//! ```
//!
//! those of the non-negative least squares problem `min over mu >= 0 of ||z + B' mu||`, whose minimum is
//! `||P_K z||`. It is solved by the active set method of Lawson and Hanson (1974, chapter 23) on an
//! orthogonal factorisation `B_F' = Q R` of the rows `F` with `mu > 0`: between changes of `F`,
//! `v = z - Q Q' z` and `mu_F = -R^-1 Q' z`. Every accepted change lowers `||z + B' mu||`, so no `F` comes
//! twice.
//!
//! Near `z` the projection is linear wherever no `mu_s` and no `(B v)_s` outside `F` is 0, with the
//! Jacobian `I - Q Q'`.

use faer::MatRef;

use crate::dense::{axpy, dot, norm};

/// A row must leave the cone by so much, relative to `||z||`, to be taken as violated.
const VIOLATED: f64 = 1e-13;
/// A row whose part outside the span of `F` is shorter than this adds nothing to it.
const DEPENDENT: f64 = 1e-9;

/// The rows of `X`, each divided by its length; zero rows stay zero and never bind.
#[derive(Clone, Debug)]
pub struct Rows {
    features: usize,
    /// `n x d`, row by row.
    by_row: Vec<f64>,
    /// The same column by column, for the products with all rows.
    by_column: Vec<f64>,
}

impl Rows {
    /// Of `X`, `n x d`.
    pub fn new(x: MatRef<'_, f64>) -> Self {
        let (n, d) = (x.nrows(), x.ncols());
        let mut rows = vec![0.0; n * d];
        for (s, row) in rows.chunks_exact_mut(d.max(1)).enumerate() {
            (0..d).for_each(|j| row[j] = x[(s, j)]);
            let length = norm(row);
            if length > 0.0 {
                row.iter_mut().for_each(|v| *v /= length);
            }
        }
        let by_column = (0..n * d).map(|i| rows[(i % n.max(1)) * d + i / n.max(1)]);
        Self {
            features: d,
            by_column: by_column.collect(),
            by_row: rows,
        }
    }

    /// No rows, where there is no cone to project onto.
    pub fn none() -> Self {
        Self {
            features: 0,
            by_row: Vec::new(),
            by_column: Vec::new(),
        }
    }

    /// `n`.
    pub fn samples(&self) -> usize {
        self.by_row.len() / self.features.max(1)
    }

    /// Row `s`, length `d`.
    pub fn row(&self, s: usize) -> &[f64] {
        &self.by_row[s * self.features..][..self.features]
    }

    /// The row with the least `sign_s x_s' v` outside `F`, and that value.
    fn worst(
        &self,
        sign: &dyn Fn(usize) -> f64,
        v: &[f64],
        active: &[Active],
        scores: &mut Vec<f64>,
    ) -> Option<(usize, f64)> {
        let n = self.samples();
        scores.clear();
        scores.resize(n, 0.0);
        for (column, v) in self.by_column.chunks_exact(n.max(1)).zip(v) {
            axpy(*v, column, scores);
        }
        for a in active {
            scores[a.row] = 0.0;
        }
        let mut worst = None;
        let mut least = 0.0;
        for (s, score) in scores.iter().enumerate() {
            let value = sign(s) * score;
            if value < least {
                least = value;
                worst = Some((s, value));
            }
        }
        worst
    }
}

/// A row of `F` with its multiplier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Active {
    /// Index of the row.
    pub row: usize,
    /// Its multiplier `mu`, for the row of length 1; positive.
    pub multiplier: f64,
}

/// `P_K z` and how it came about.
#[derive(Clone, Debug, Default)]
pub struct Projection {
    /// `v = P_K z`.
    pub point: Vec<f64>,
    /// The rows with positive multipliers.
    pub active: Vec<Active>,
    /// `Q`, an orthonormal basis of their span: one vector of length `d` a row of `F`.
    pub basis: Vec<Vec<f64>>,
}

/// Projects `z` onto `{ v : sign(s) x_s' v >= 0 for all s }`. `start` holds rows that are likely to be
/// active, such as those of a nearby point.
pub fn project(
    rows: &Rows,
    sign: &dyn Fn(usize) -> f64,
    z: &[f64],
    start: &[Active],
) -> Projection {
    project_above(rows, sign, z, start, 0.0)
}

/// As [`project`], but stops at the first point `z + B' mu` that is no longer than `floor`: the projection
/// is no longer than that, and the rest is not worth the work.
pub fn project_above(
    rows: &Rows,
    sign: &dyn Fn(usize) -> f64,
    z: &[f64],
    start: &[Active],
    floor: f64,
) -> Projection {
    let mut work = ActiveSet::new(rows, sign, z);
    work.begin(start);
    let limit = 10 * (rows.samples() + rows.features);
    let tolerance = VIOLATED * norm(z);
    let mut refused = Vec::new();
    let mut scores = Vec::new();
    for _ in 0..limit {
        let point = work.point();
        if norm(&point) <= floor {
            break;
        }
        let all: Vec<Active> = work.active.iter().chain(&refused).copied().collect();
        match rows.worst(sign, &point, &all, &mut scores) {
            Some((row, value)) if value < -tolerance => {
                if !work.add(row) {
                    refused.push(Active {
                        row,
                        multiplier: 0.0,
                    });
                }
            }
            _ => break,
        }
    }
    let point = work.point();
    Projection {
        point,
        active: work.active,
        basis: work.basis,
    }
}

/// The active set method's state: `B_F' = Q R`.
struct ActiveSet<'a> {
    rows: &'a Rows,
    sign: &'a dyn Fn(usize) -> f64,
    z: &'a [f64],
    active: Vec<Active>,
    /// `Q`, by columns.
    basis: Vec<Vec<f64>>,
    /// `R`, by columns; column `k` has `k + 1` entries.
    triangle: Vec<Vec<f64>>,
}

impl<'a> ActiveSet<'a> {
    fn new(rows: &'a Rows, sign: &'a dyn Fn(usize) -> f64, z: &'a [f64]) -> Self {
        Self {
            rows,
            sign,
            z,
            active: Vec::new(),
            basis: Vec::new(),
            triangle: Vec::new(),
        }
    }

    /// Takes `start` as far as its rows are independent, and drops rows until all multipliers are
    /// positive.
    fn begin(&mut self, start: &[Active]) {
        for a in start {
            if self.append(a.row) {
                self.active.push(Active {
                    row: a.row,
                    multiplier: 0.0,
                });
            }
        }
        loop {
            let multipliers = self.multipliers();
            if multipliers.iter().all(|m| *m > 0.0) {
                for (a, m) in self.active.iter_mut().zip(multipliers) {
                    a.multiplier = m;
                }
                return;
            }
            let mut kept = multipliers.iter().map(|m| *m > 0.0);
            self.active.retain(|_| kept.next() == Some(true));
            self.factorise();
        }
    }

    /// Adds a violated row, then moves to the least squares multipliers, dropping on the way those
    /// that reach 0. `false` when the row depends on those in `F`.
    fn add(&mut self, row: usize) -> bool {
        if !self.append(row) {
            return false;
        }
        self.active.push(Active {
            row,
            multiplier: 0.0,
        });
        loop {
            let target = self.multipliers();
            let ratio = |(k, t): (usize, &f64)| {
                let multiplier = self.active[k].multiplier;
                (*t <= 0.0).then(|| (k, multiplier / (multiplier - t)))
            };
            let ratios = target.iter().enumerate().filter_map(ratio);
            let Some((blocking, step)) = ratios.min_by(|a, b| a.1.total_cmp(&b.1)) else {
                for (a, t) in self.active.iter_mut().zip(target) {
                    a.multiplier = t;
                }
                return true;
            };
            let useless = step == 0.0 && self.active[blocking].row == row;
            for (a, t) in self.active.iter_mut().zip(&target) {
                a.multiplier += step * (t - a.multiplier);
            }
            // Rounding must not keep the row that blocks.
            self.active[blocking].multiplier = 0.0;
            self.active.retain(|a| a.multiplier > 0.0);
            self.factorise();
            if useless {
                return false;
            }
        }
    }

    /// `v = z - Q Q' z`, orthogonalised twice.
    fn point(&self) -> Vec<f64> {
        let mut v = self.z.to_vec();
        for _ in 0..2 {
            for q in &self.basis {
                let along = dot(q, &v);
                axpy(-along, q, &mut v);
            }
        }
        v
    }

    /// `mu_F = -R^-1 Q' z`.
    fn multipliers(&self) -> Vec<f64> {
        let mut mu: Vec<f64> = self.basis.iter().map(|q| -dot(q, self.z)).collect();
        for k in (0..mu.len()).rev() {
            mu[k] /= self.triangle[k][k];
            let m = mu[k];
            for (i, r) in self.triangle[k][..k].iter().enumerate() {
                mu[i] -= r * m;
            }
        }
        mu
    }

    /// Extends the factorisation by one row (Gram and Schmidt, twice).
    fn append(&mut self, row: usize) -> bool {
        let sign = (self.sign)(row);
        let mut q: Vec<f64> = self.rows.row(row).iter().map(|x| sign * x).collect();
        let mut column = vec![0.0; self.basis.len() + 1];
        for _ in 0..2 {
            for (k, basis) in self.basis.iter().enumerate() {
                let along = dot(basis, &q);
                axpy(-along, basis, &mut q);
                column[k] += along;
            }
        }
        let length = norm(&q);
        if length < DEPENDENT {
            return false;
        }
        q.iter_mut().for_each(|v| *v /= length);
        column[self.basis.len()] = length;
        self.basis.push(q);
        self.triangle.push(column);
        true
    }

    /// The factorisation of the rows in `F`, anew.
    fn factorise(&mut self) {
        self.basis.clear();
        self.triangle.clear();
        for a in std::mem::take(&mut self.active) {
            if self.append(a.row) {
                self.active.push(a);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::Rng;
    use faer::Mat;

    fn signs(bits: u64) -> impl Fn(usize) -> f64 {
        move |s| if bits >> s & 1 == 1 { 1.0 } else { -1.0 }
    }

    /// The optimality conditions, which characterise the projection, on random cones.
    #[test]
    fn the_projection_meets_its_optimality_conditions() {
        let mut rng = Rng::new(5);
        for trial in 0..300 {
            let (n, d) = (1 + trial % 40, 1 + trial % 7);
            let x = Mat::from_fn(n, d, |_, _| rng.normal());
            let rows = Rows::new(x.as_ref());
            // Half the cones have an interior: signs of a point; the others may be {0}.
            let inside = rng.normals(d);
            let bits = rng.next_u64();
            let open = |s: usize| dot(rows.row(s), &inside).signum();
            let any = signs(bits);
            let sign: &dyn Fn(usize) -> f64 = if trial % 2 == 0 { &open } else { &any };
            let z = rng.normals(d);
            let p = project(&rows, sign, &z, &[]);
            let mut rebuilt = z.clone();
            for a in &p.active {
                assert!(a.multiplier > 0.0);
                axpy(a.multiplier * sign(a.row), rows.row(a.row), &mut rebuilt);
                assert!(dot(rows.row(a.row), &p.point).abs() < 1e-12);
            }
            for (a, b) in rebuilt.iter().zip(&p.point) {
                assert!((a - b).abs() < 1e-10, "trial {trial}");
            }
            for s in 0..n {
                let slack = sign(s) * dot(rows.row(s), &p.point);
                assert!(slack > -1e-11, "trial {trial}: {slack}");
            }
            // From the active set of another point, the same.
            let other = project(&rows, sign, &rng.normals(d), &[]);
            let again = project(&rows, sign, &z, &other.active);
            for (a, b) in again.point.iter().zip(&p.point) {
                assert!((a - b).abs() < 1e-10, "trial {trial}, warm");
            }
        }
    }

    /// Cones with hundreds of rows, from points at which many rows bind: rounding must not end the method
    /// early. (A row that blocked a step was once kept because its multiplier was not quite 0.)
    #[test]
    fn hundreds_of_rows() {
        let mut rng = Rng::new(8);
        for trial in 0..60 {
            let (n, d) = (300, 24);
            let x = Mat::from_fn(n, d, |_, j| rng.normal() + if j == 0 { 1.0 } else { 0.0 });
            let rows = Rows::new(x.as_ref());
            let inside = rng.normals(d);
            let sign = |s: usize| dot(rows.row(s), &inside).signum();
            let z: Vec<f64> = rng
                .normals(d)
                .iter()
                .zip(&inside)
                .map(|(a, b)| 0.3 * a + b)
                .collect();
            let p = project(&rows, &sign, &z, &[]);
            let mut rebuilt = z.clone();
            for a in &p.active {
                assert!(a.multiplier > 0.0);
                axpy(a.multiplier * sign(a.row), rows.row(a.row), &mut rebuilt);
            }
            for (a, b) in rebuilt.iter().zip(&p.point) {
                assert!((a - b).abs() < 1e-10, "trial {trial}");
            }
            let slack = |s: usize| sign(s) * dot(rows.row(s), &p.point);
            let least = (0..n).map(slack).fold(0.0, f64::min);
            assert!(least > -1e-11, "trial {trial}: {least}");
        }
    }

    /// In the plane, by hand: the first quadrant.
    #[test]
    fn the_first_quadrant() {
        let rows = Rows::new(Mat::<f64>::identity(2, 2).as_ref());
        let at = |z: &[f64]| project(&rows, &|_| 1.0, z, &[]).point;
        assert_eq!(at(&[1.0, -2.0]), [1.0, 0.0]);
        assert_eq!(at(&[-1.0, -2.0]), [0.0, 0.0]);
        assert_eq!(at(&[3.0, 4.0]), [3.0, 4.0]);
    }
}
