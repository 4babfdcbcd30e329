//! Independent rows, and for each a vector orthogonal to all the others.
//!
//! Gram and Schmidt, with every step done twice (Giraud, Langou and Rozloznik, Computers and
//! Mathematics with Applications 50, 2005): `k` rows in `R^d` cost `O(k^2 d)`, and a row that is found
//! dependent on `k` others `O(k d)`.

use convextune_solve::faer::MatRef;

use super::rows::norm;

/// A row adds nothing to others when its part outside their span is so short, in its length.
pub(super) const DEPENDENT: f64 = 1e-9;

/// Independent rows of length 1, as the columns of `B' = Q R`.
#[derive(Default)]
pub(super) struct Independent {
    /// The columns of `Q`.
    basis: Vec<Vec<f64>>,
    /// The columns of `R`; column `k` has `k + 1` entries.
    triangle: Vec<Vec<f64>>,
}

impl Independent {
    /// The rows of `x` that are independent of those before them in `order`, `most` at most.
    pub fn of(x: MatRef<'_, f64>, order: &[usize], most: usize) -> Self {
        let mut rows = Self::default();
        for s in order {
            if rows.count() == most {
                break;
            }
            rows.append(x.row(*s).iter().copied().collect());
        }
        rows
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.basis.len()
    }

    /// Adds a row, unless it depends on the others.
    fn append(&mut self, mut q: Vec<f64>) {
        let length = norm(&q);
        if length == 0.0 {
            return;
        }
        q.iter_mut().for_each(|v| *v /= length);
        let mut column = vec![0.0; self.basis.len()];
        for _ in 0..2 {
            for (basis, r) in self.basis.iter().zip(&mut column) {
                let along: f64 = basis.iter().zip(&q).map(|(b, q)| b * q).sum();
                q.iter_mut().zip(basis).for_each(|(q, b)| *q -= along * b);
                *r += along;
            }
        }
        let rest = norm(&q);
        if rest > DEPENDENT {
            q.iter_mut().for_each(|v| *v /= rest);
            column.push(rest);
            self.basis.push(q);
            self.triangle.push(column);
        }
    }

    /// The columns of `V = Q R^-T`: `B V = I`.
    pub fn dual(&self) -> Vec<Vec<f64>> {
        let r = self.count();
        let mut columns = Vec::with_capacity(r);
        for k in 0..r {
            // R' c = e_k, forwards; then v = Q c.
            let mut c = vec![0.0; r];
            c[k] = 1.0 / self.triangle[k][k];
            for i in k + 1..r {
                let before = self.triangle[i][k..i].iter().zip(&c[k..i]);
                let sum: f64 = before.map(|(t, c)| t * c).sum();
                c[i] = -sum / self.triangle[i][i];
            }
            let mut v = vec![0.0; self.basis[k].len()];
            for (basis, c) in self.basis.iter().zip(&c).skip(k) {
                v.iter_mut().zip(basis).for_each(|(v, b)| *v += c * b);
            }
            columns.push(v);
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_solve::faer::Mat;

    #[test]
    fn dependent_rows_are_passed_over_and_the_dual_is_an_inverse() {
        let mut rng = convextune_testkit::Rng::new(2);
        let mut x = Mat::from_fn(6, 4, |_, _| 5.0 * rng.normal());
        for j in 0..4 {
            x[(1, j)] = 0.0;
            x[(3, j)] = x[(0, j)] - 2.0 * x[(2, j)];
        }
        let rows = Independent::of(x.as_ref(), &[0, 1, 2, 3, 4, 5], 3);
        let v = rows.dual();
        assert_eq!((rows.count(), v.len()), (3, 3));
        for (i, s) in [0, 2, 4].into_iter().enumerate() {
            for (k, v) in v.iter().enumerate() {
                let product: f64 = x.row(s).iter().zip(v).map(|(x, v)| x * v).sum();
                let expected = if i == k { x.row(s).norm_l2() } else { 0.0 };
                assert!((product - expected).abs() < 1e-12, "{i} {k}: {product}");
            }
        }
    }
}
