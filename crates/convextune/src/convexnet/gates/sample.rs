//! Random gates.
//!
//! | sampler | gate | source |
//! |---|---|---|
//! | [`Gaussian`](Sampler::Gaussian) | standard normal | Pilanci and Ergen, ICML 2020 |
//! | [`NullVector`](Sampler::NullVector) | beside a vertex of the arrangement | ours |
//! | [`Sparse`](Sampler::Sparse) | normal on a few random features | the idea is in Mishkin, Sahiner and Pilanci, ICML 2022, who take all sets of features up to a size that the user gives; random sets and their size are ours |
//! | [`Convolutional`](Sampler::Convolutional) | normal on a window of features | there too, for 3 x 3 patches of pictures of two sizes; windows of a table's columns are ours |
//!
//! The chance of a pattern under normal gates is the solid angle of its cell, so they find large cells
//! again and again and small ones hardly ever.
//!
//! **Null vectors.** `r - 1` independent samples leave one direction of the row space with
//! `x_s' v = 0` for all of them: an edge of the arrangement, at which `2^(r-1)` cells meet. A step off it,
//!
//! ```text
//!     g = v + e t ,     e = 1/2 min over other samples of |x_s' v| / |x_s' t| ,             (1)
//! ```
//!
//! with a normal `t` goes into one of these, the sign of every other sample kept. A cell is then found
//! as often as it has edges, however thin it is. The edges come `r` at a time: for `r` independent samples
//! `B' = Q R` (a row of `B` is a sample), column `k` of `Q R^-T` is orthogonal to all samples but the `k`-th.
//! Each edge gives two gates, one for `t` and one for `-t`; that costs `O(r d + n d)` a gate.

use convextune_solve::faer::{Mat, MatRef};

use super::{BATCH, Collector, Gates};
use crate::convexnet::Sampler;
use crate::rng::Rng;

/// Draws for a gate that is wanted, at most, ...
const DRAWS: usize = 20;
/// ... as if there were at least so many wanted.
const FEW: usize = 50;
/// A sample adds nothing to others when its part outside their span is so short.
const DEPENDENT: f64 = 1e-9;
/// The least step off an edge: a shorter one could be lost in rounding.
const LEAST_STEP: f64 = 1e-6;
/// The shortest window, if there are so many features.
const SHORTEST_WINDOW: usize = 3;

/// `count` gates with different patterns, none of them all-off; fewer when so many are not found in
/// 20 draws each. `bias` says that the last column of `x` is that of ones. The gates are a function of `x`,
/// the sampler and the seed, and a smaller `count` gives the first of them.
pub fn sample(x: MatRef<'_, f64>, bias: bool, sampler: Sampler, count: usize, seed: u64) -> Gates {
    let mut rng = Rng::new(seed, "gates");
    let mut draw = source(x, bias, sampler);
    let mut found = Collector::new(x);
    let mut left = DRAWS * count.max(FEW);
    while found.len() < count && left > 0 {
        let batch: Vec<Vec<f64>> = (0..BATCH.min(left)).map(|_| draw(&mut rng)).collect();
        left -= batch.len();
        let gates = Mat::from_fn(x.ncols(), batch.len(), |j, i| batch[i][j]);
        found.offer(gates.as_ref(), count);
    }
    found.gates(false)
}

/// What makes one gate after the other.
fn source(
    x: MatRef<'_, f64>,
    bias: bool,
    sampler: Sampler,
) -> Box<dyn FnMut(&mut Rng) -> Vec<f64> + '_> {
    let d = x.ncols();
    let features = if bias { d.saturating_sub(1) } else { d };
    let masked = move |mask: &dyn Fn(usize) -> bool, rng: &mut Rng| {
        let weight = |j| {
            if j >= features || mask(j) {
                rng.normal()
            } else {
                0.0
            }
        };
        (0..d).map(weight).collect()
    };
    match sampler {
        Sampler::Gaussian => Box::new(move |rng| masked(&|_| true, rng)),
        Sampler::Sparse => {
            let most = root(features);
            let mut order: Vec<usize> = (0..features).collect();
            Box::new(move |rng| {
                let size = 1 + below(most, rng);
                rng.shuffle(&mut order);
                let chosen = &order[..size.min(features)];
                masked(&|j| chosen.contains(&j), rng)
            })
        }
        Sampler::Convolutional => {
            let length = root(features).max(SHORTEST_WINDOW).min(features);
            Box::new(move |rng| {
                let first = below(features - length + 1, rng);
                masked(&|j| (first..first + length).contains(&j), rng)
            })
        }
        Sampler::NullVector => {
            let mut edges = Edges::new(x);
            Box::new(move |rng| edges.next(rng))
        }
    }
}

/// The least whole number whose square is at least `n`.
fn root(n: usize) -> usize {
    (n as f64).sqrt().ceil() as usize
}

/// Uniform on `0 .. n`.
fn below(n: usize, rng: &mut Rng) -> usize {
    ((rng.uniform() * n as f64) as usize).min(n.saturating_sub(1))
}

/// Gates beside edges of the arrangement.
struct Edges<'a> {
    x: MatRef<'a, f64>,
    order: Vec<usize>,
    /// The rank of `x`, once it is known.
    rank: Option<usize>,
    waiting: Vec<Vec<f64>>,
}

impl<'a> Edges<'a> {
    fn new(x: MatRef<'a, f64>) -> Self {
        Self {
            x,
            order: (0..x.nrows()).collect(),
            rank: None,
            waiting: Vec::new(),
        }
    }

    fn next(&mut self, rng: &mut Rng) -> Vec<f64> {
        if self.waiting.is_empty() {
            self.waiting = self.fill(rng);
        }
        // Nothing but zero rows: any gate will do.
        let gate = self.waiting.pop();
        gate.unwrap_or_else(|| vec![0.0; self.x.ncols()])
    }

    /// The gates beside the edges of one random set of independent samples.
    fn fill(&mut self, rng: &mut Rng) -> Vec<Vec<f64>> {
        rng.shuffle(&mut self.order);
        let edges = self.independent().dual();
        let mut gates = Vec::with_capacity(2 * edges.len());
        for v in edges {
            let t: Vec<f64> = v.iter().map(|_| rng.normal()).collect();
            let orientation = if rng.uniform() < 0.5 { 1.0 } else { -1.0 };
            let step = self.step(&v, &t);
            for side in [step, -step] {
                let pairs = v.iter().zip(&t);
                gates.push(pairs.map(|(v, t)| orientation * v + side * t).collect());
            }
        }
        gates
    }

    /// `e` of (1).
    fn step(&self, v: &[f64], t: &[f64]) -> f64 {
        let along = |s: usize, g: &[f64]| {
            let row = self.x.row(s);
            row.iter().zip(g).map(|(x, g)| x * g).sum::<f64>().abs()
        };
        let mut step = norm(v) / norm(t).max(f64::MIN_POSITIVE);
        let least = LEAST_STEP * step;
        for s in 0..self.x.nrows() {
            let off = along(s, v);
            if off > DEPENDENT * self.x.row(s).norm_l2() * norm(v) {
                step = step.min(0.5 * off / along(s, t).max(f64::MIN_POSITIVE));
            }
        }
        step.max(least)
    }

    /// As many independent samples as there are, taken in the present order (Gram and Schmidt, twice).
    fn independent(&mut self) -> Factor {
        let mut factor = Factor::default();
        let enough = self.rank.unwrap_or(self.x.ncols());
        for s in &self.order {
            if factor.basis.len() == enough {
                break;
            }
            factor.append(self.x.row(*s).iter().copied().collect());
        }
        self.rank = Some(factor.basis.len());
        factor
    }
}

/// `B' = Q R` of samples of length 1, `Q` and `R` by columns; column `k` of `R` has `k + 1` entries.
#[derive(Default)]
struct Factor {
    basis: Vec<Vec<f64>>,
    triangle: Vec<Vec<f64>>,
}

impl Factor {
    /// Adds a sample, unless it depends on the others.
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

    /// The columns of `Q R^-T`, each of length 1: column `k` solves `B v = e_k`, up to its length.
    fn dual(&self) -> Vec<Vec<f64>> {
        let r = self.basis.len();
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
            let length = norm(&v);
            v.iter_mut().for_each(|v| *v /= length);
            columns.push(v);
        }
        columns
    }
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gates come in pairs on either side of an edge, which is their mean.
    #[test]
    fn a_pair_of_gates_differs_on_the_samples_of_its_edge_alone() {
        let mut rng = convextune_testkit::Rng::new(11);
        let base = Mat::from_fn(25, 3, |_, _| rng.normal());
        // Rank 3 in 4 dimensions: the last two columns are equal.
        let x = Mat::from_fn(25, 4, |s, j| base[(s, j.min(2))]);
        let mut edges = Edges::new(x.as_ref());
        let mut rng = Rng::new(3, "test");
        for _ in 0..20 {
            let gates = edges.fill(&mut rng);
            assert_eq!(gates.len(), 6);
            for pair in gates.chunks(2) {
                let score = |s: usize, g: &[f64]| -> f64 {
                    x.row(s).iter().zip(g).map(|(x, g)| x * g).sum()
                };
                let (mut on_the_edge, mut turned) = (0, 0);
                for s in 0..25 {
                    let (a, b) = (score(s, &pair[0]), score(s, &pair[1]));
                    on_the_edge += usize::from((a + b).abs() < 1e-12);
                    turned += usize::from(a * b < 0.0);
                }
                assert_eq!((on_the_edge, turned), (2, 2));
            }
        }
    }
}
