//! Random gates.
//!
//! | sampler | gate | source |
//! |---|---|---|
//! | [`Gaussian`](Sampler::Gaussian) | standard normal | Pilanci and Ergen, ICML 2020 |
//! | [`NullVector`](Sampler::NullVector) | beside a vertex of the arrangement | ours |
//! | [`Sparse`](Sampler::Sparse) | normal on a few random features | the idea is in Mishkin, Sahiner and Pilanci, ICML 2022, whose program takes all sets of features up to a size that the user gives; random sets and their size are ours |
//! | [`Convolutional`](Sampler::Convolutional) | normal on a window of features | there too, for 3 x 3 patches of pictures of two sizes; windows of a table's columns are ours |
//!
//! The chance of a pattern under normal gates is the solid angle of its cell, so they find large cells
//! again and again and small ones hardly ever.
//!
//! **Null vectors.** `r - 1` independent samples leave one direction of the row space with
//! `x_s' v = 0` for all of them: an edge of the arrangement, at which `2^(r-1)` cells meet in general
//! position. A step off it,
//!
//! ```text
//!     g = v + e t ,     e = 1/2 min over other samples of |x_s' v| / |x_s' t| ,             (1)
//! ```
//!
//! goes into one of these, the sign of every other sample kept. The edges come `r` at a time: take `r`
//! independent samples, of length 1, as the rows of `B`, and `B V = I` with `V` in their span. Column
//! `v_k` is orthogonal to all samples but the `k`-th, and
//!
//! ```text
//!     t = sum over j != k of  s_j v_j ,     s_j = 1 or -1 at random ,                       (2)
//! ```
//!
//! has `x_j' t = s_j`: all cells at the edge are as likely, and a cell is found as often as it has edges,
//! however thin it is. Each edge gives two gates, one for `t` and one for `-t`; `r` edges cost `O(r^2 d)` to
//! find and `O(r n d)` to step off.

use convextune_solve::faer::{Mat, MatRef};

use super::independent::{DEPENDENT, Independent};
use super::rows::norm;
use super::{BATCH, Collector, Gates};
use crate::convexnet::Sampler;
use crate::rng::Rng;

/// Draws for a gate that is wanted, at most, ...
const DRAWS: usize = 20;
/// ... as if there were at least so many wanted.
const FEW: usize = 50;
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
type Source<'a> = Box<dyn FnMut(&mut Rng) -> Vec<f64> + 'a>;

/// The source of a sampler's gates.
fn source(x: MatRef<'_, f64>, bias: bool, sampler: Sampler) -> Source<'_> {
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
    /// Edges beside which no gate has been taken yet.
    waiting: Vec<Edge>,
    /// Gates that have been made, the next one last.
    gates: Vec<Vec<f64>>,
}

impl<'a> Edges<'a> {
    fn new(x: MatRef<'a, f64>) -> Self {
        Self {
            x,
            order: (0..x.nrows()).collect(),
            rank: None,
            waiting: Vec::new(),
            gates: Vec::new(),
        }
    }

    fn next(&mut self, rng: &mut Rng) -> Vec<f64> {
        if self.gates.is_empty() {
            if self.waiting.is_empty() {
                rng.shuffle(&mut self.order);
                let rank = self.rank.unwrap_or(self.x.ncols());
                let samples = Independent::of(self.x, &self.order, rank);
                self.rank = Some(samples.count());
                self.waiting = directions(&samples.dual(), rng);
            }
            let left = self.waiting.len().saturating_sub(BATCH / 2);
            let edges = self.waiting.split_off(left);
            self.gates = self.beside(&edges, rng);
        }
        // Nothing but zero rows: any gate will do.
        let gate = self.gates.pop();
        gate.unwrap_or_else(|| vec![0.0; self.x.ncols()])
    }

    /// Two gates beside each of `edges`.
    fn beside(&self, edges: &[Edge], rng: &mut Rng) -> Vec<Vec<f64>> {
        let v = Mat::from_fn(self.x.ncols(), edges.len(), |j, k| edges[k].v[j]);
        let t = Mat::from_fn(self.x.ncols(), edges.len(), |j, k| edges[k].t[j]);
        let (off, along) = (self.x * &v, self.x * &t);
        let lengths: Vec<f64> = self.x.row_iter().map(|row| row.norm_l2()).collect();
        let mut gates = Vec::with_capacity(2 * edges.len());
        for (k, Edge { v, t }) in edges.iter().enumerate() {
            // `e` of (1), with bounds.
            let unit = 1.0 / norm(t).max(1.0);
            let mut step = unit;
            for (s, length) in lengths.iter().enumerate() {
                if off[(s, k)].abs() > DEPENDENT * length {
                    let room = off[(s, k)].abs() / along[(s, k)].abs().max(f64::MIN_POSITIVE);
                    step = step.min(0.5 * room);
                }
            }
            let step = step.max(LEAST_STEP * unit);
            let orientation = sign(rng);
            for side in [step, -step] {
                let pairs = v.iter().zip(t);
                gates.push(pairs.map(|(v, t)| orientation * v + side * t).collect());
            }
        }
        gates
    }
}

/// An edge with a way off it.
struct Edge {
    /// Of length 1.
    v: Vec<f64>,
    /// Of length 1 or more; 0 when the rank is 1.
    t: Vec<f64>,
}

/// Edge `k` for each column `v_k` of `dual`, with a random `t` of (2).
fn directions(dual: &[Vec<f64>], rng: &mut Rng) -> Vec<Edge> {
    let mut edges = Vec::with_capacity(dual.len());
    for (k, v) in dual.iter().enumerate() {
        let mut t = vec![0.0; v.len()];
        for (j, other) in dual.iter().enumerate() {
            if j != k {
                let s = sign(rng);
                t.iter_mut().zip(other).for_each(|(t, v)| *t += s * v);
            }
        }
        let length = norm(v);
        let v = v.iter().map(|v| v / length).collect();
        edges.push(Edge { v, t });
    }
    edges
}

/// 1 or -1.
fn sign(rng: &mut Rng) -> f64 {
    if rng.uniform() < 0.5 { 1.0 } else { -1.0 }
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
            let gates: Vec<_> = (0..6).map(|_| edges.next(&mut rng)).collect();
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

    /// Three planes with cells of very different sizes: all eight have three edges.
    #[test]
    fn thin_cells_are_found_as_often_as_wide_ones() {
        let rows = [[1.0, 0.0, 0.0], [1.0, 1e-4, 0.0], [0.3, -2.0, 0.1]];
        let x = Mat::from_fn(3, 3, |s, j| rows[s][j]);
        let mut edges = Edges::new(x.as_ref());
        let mut rng = Rng::new(5, "test");
        let mut counts = [0; 8];
        for _ in 0..1600 {
            let g = edges.next(&mut rng);
            let score = |s: usize| -> f64 { x.row(s).iter().zip(&g).map(|(x, g)| x * g).sum() };
            let pattern = (0..3).map(|s| usize::from(score(s) > 0.0) << s);
            counts[pattern.sum::<usize>()] += 1;
        }
        assert!(counts.iter().all(|c| (140..260).contains(c)), "{counts:?}");
    }
}
