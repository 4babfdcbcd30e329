//! The dual kernel K = J J' exactly: layer by layer, never all of J at once.
//!
//! K is the sum over layers of J_l J_l'. A run of layers whose rows fit in the memory allowed is
//! stored for all samples (`NC x D_run`; a wide layer is cut into several), multiplied by its
//! transpose, and dropped. Each run costs C backward passes a sample, which end at the run's first layer; and
//! of the product, which is symmetric, half is computed ([`add_gram`]). A fully connected layer's part
//! comes from what it read and its output gradients, without its rows. The head's part is (Phi Phi') (x) I_C
//! and costs nothing; it is kept apart, so that the weight of the backbone against it can be chosen afterwards.

use std::collections::BTreeMap;
use std::ops::Range;

use convextune_model::graph::{LayerGradient, NodeId};
use convextune_model::kernels::gemm::{Mat, MatMut, gemm_parallel};
use convextune_model::ops::Op;
use convextune_model::tensor::Scalar;
use convextune_solve::LinearOperator;
use convextune_solve::quadratic::KernelParts;
use faer::Mat as Dense;
use rayon::prelude::*;

use super::Linearization;
use super::gradients::Rows;
use crate::error::Error;

/// Columns of a run, at least.
const NARROWEST: usize = 16;

/// A run's part of a layer.
pub(super) struct Slot {
    /// Columns in the run.
    columns: Range<usize>,
    /// The layer's weights that stand there.
    weights: Range<usize>,
    /// Weights of the layer.
    of: usize,
}

impl Slot {
    /// Writes the gradient of one sample in one direction into its columns of `row`.
    fn fill<T: Scalar>(&self, layer: &LayerGradient<'_, T>, i: usize, r: usize, row: &mut [T]) {
        let row = &mut row[self.columns.clone()];
        if self.weights.len() == self.of {
            return layer.add_one_to(i, r, row);
        }
        let mut whole = vec![T::ZERO; self.of];
        layer.add_one_to(i, r, &mut whole);
        row.copy_from_slice(&whole[self.weights.clone()]);
    }
}

/// What a fully connected layer read, x (`N x m`), and its output gradients g (`NC x n`). Its weight
/// gradients are outer products, of which neither the weights nor the rows need be formed:
/// `<x_i g_r', x_j g_s'> = (x_i'x_j) (g_r'g_s)`, and a bias adds 1 to the first factor.
#[derive(Default)]
pub(super) struct Outer<T> {
    pub(super) x: Vec<T>,
    pub(super) g: Vec<T>,
    pub(super) bias: bool,
}

impl<T: Scalar> Outer<T> {
    fn add(&mut self, layer: &LayerGradient<'_, T>, rows: &Rows, classes: usize) {
        let (r, width) = (rows.directions.len(), layer.cotangent.g.shape.image_len());
        if rows.directions.start == 0 {
            self.x.extend_from_slice(layer.primal.inputs[0].data);
            self.g.resize(rows.samples.end * classes * width, T::ZERO);
            self.bias =
                layer.weights.parameters.len() > width * layer.primal.inputs[0].shape.image_len();
        }
        for (k, g) in layer.cotangent.g.data.chunks_exact(width).enumerate() {
            let row = (rows.samples.start + k / r) * classes + rows.directions.start + k % r;
            self.g[row * width..(row + 1) * width].copy_from_slice(g);
        }
    }

    /// `kernel += <rows, other's rows>`, `rows x other's rows`, row-major; of a set of samples and
    /// its rows.
    pub(super) fn add_products(
        &self,
        (samples, rows): (usize, usize),
        other: &Self,
        (others, columns): (usize, usize),
        kernel: &mut [f64],
    ) {
        let products = |a: &[T], b: &[T], (n, m): (usize, usize)| {
            let mut products = vec![0.0; n * m];
            add_products((a, n), (b, m), &mut products);
            products
        };
        let x = products(&self.x, &other.x, (samples, others));
        let g = products(&self.g, &other.g, (rows, columns));
        let (c, bias) = (rows / samples.max(1), f64::from(u8::from(self.bias)));
        kernel
            .par_iter_mut()
            .zip(&g)
            .enumerate()
            .for_each(|(k, (kernel, g))| {
                let (i, j) = (k / columns / c, k % columns / c);
                *kernel += (x[i * others + j] + bias) * g;
            });
    }
}

/// What the head reads, and what the fully connected layers read and are told; collected with the
/// rows of the first run.
pub(super) struct Read<T> {
    /// Phi, `N x d`, row-major.
    pub features: Vec<T>,
    /// By layer.
    pub outer: BTreeMap<NodeId, Outer<T>>,
}

impl<T: Scalar> Read<T> {
    /// Phi of `n` samples.
    pub(super) fn features(&self, n: usize) -> Dense<f64> {
        let d = self.features.len() / n.max(1);
        Dense::from_fn(n, d, |i, j| self.features[i * d + j].to_f64())
    }
}

impl<T> Default for Read<T> {
    fn default() -> Self {
        Self {
            features: Vec::new(),
            outer: BTreeMap::new(),
        }
    }
}

/// Layers, or parts of them, whose rows are held at a time.
pub(super) type Run = BTreeMap<NodeId, Slot>;

/// Rows of the stored block that one product takes: bounds the error of sums in `T`.
const DEPTH: usize = 1 << 14;

impl<T: Scalar> Linearization<'_, T> {
    /// K = J J' in two parts, in at most about `memory` bytes of rows at a time.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn kernel(&self, memory: usize) -> Result<KernelParts, Error> {
        let (n, nc) = (self.samples().len(), self.rows());
        let mut kernel = vec![0.0f64; nc * nc];
        let mut read = Read::default();
        let mut j = Vec::new();
        for run in self.layer_runs(memory / (size_of::<T>() * nc).max(1)) {
            self.run_rows(&run, &mut read, &mut j)?;
            add_gram(&j, nc, 0..nc, &mut kernel);
        }
        drop(j);
        for layer in read.outer.values() {
            layer.add_products((n, nc), layer, (n, nc), &mut kernel);
        }
        let rest = Dense::from_fn(nc, nc, |i, j| kernel[i.max(j) * nc + i.min(j)]);
        drop(kernel);
        Ok(KernelParts::new(rest, read.features(n).as_ref())?)
    }

    /// Backward passes over the data that [`Self::kernel`] needs, per class.
    pub fn kernel_passes(&self, memory: usize) -> usize {
        self.layer_runs(memory / (size_of::<T>() * self.rows()).max(1))
            .len()
    }

    /// Runs of trainable layers (head and fully connected ones excluded), each of at most `width`
    /// weights: what of each node is in it. A layer that is wider by itself takes several runs.
    pub(super) fn layer_runs(&self, width: usize) -> Vec<Run> {
        let width = width.max(NARROWEST);
        let mut runs: Vec<Run> = vec![Run::new()];
        let mut used = 0;
        for node in (self.first_trainable()..self.head()).rev() {
            if self.is_linear(node) {
                continue;
            }
            let of = self.network().parameter_range(node).len();
            for first in (0..of).step_by(width) {
                let weights = first..(first + width).min(of);
                if used > 0 && used + weights.len() > width {
                    runs.push(Run::new());
                    used = 0;
                }
                let columns = used..used + weights.len();
                used = columns.end;
                if let Some(run) = runs.last_mut() {
                    run.insert(
                        node,
                        Slot {
                            columns,
                            weights,
                            of,
                        },
                    );
                }
            }
        }
        runs
    }

    fn is_linear(&self, node: NodeId) -> bool {
        matches!(self.network().graph().nodes()[node].op, Op::Linear(_))
    }

    /// The columns of J that a run holds, `NC x width`, in `j`; the first run also collects the head's
    /// input and what the fully connected layers read and were told.
    pub(super) fn run_rows(
        &self,
        run: &Run,
        read: &mut Read<T>,
        j: &mut Vec<T>,
    ) -> Result<(), Error> {
        let (c, head) = (self.outputs(), self.head());
        let width = run.values().map(|slot| slot.columns.end).max().unwrap_or(0);
        let first_run = read.features.is_empty();
        j.clear();
        j.reserve_exact(self.rows() * width);
        j.resize(self.rows() * width, T::ZERO);
        let nodes = self.first_trainable()..=head;
        let down_to =
            nodes.filter(|node| run.contains_key(node) || first_run && self.is_linear(*node));
        let down_to = down_to.min().unwrap_or(head);
        self.for_jacobian_rows(down_to, |layer, rows| {
            if layer.node == head && first_run && rows.directions.start == 0 {
                read.features.extend_from_slice(layer.primal.inputs[0].data);
            }
            if layer.node != head && first_run && self.is_linear(layer.node) {
                read.outer
                    .entry(layer.node)
                    .or_default()
                    .add(layer, rows, c);
            }
            let Some(slot) = run.get(&layer.node) else {
                return;
            };
            let batch = &mut j[rows.samples.start * c * width..rows.samples.end * c * width];
            batch
                .par_chunks_mut(width)
                .enumerate()
                .for_each(|(row, j)| {
                    let (sample, class) = (row / c, row % c);
                    if rows.directions.contains(&class) {
                        let direction = class - rows.directions.start;
                        slot.fill(layer, sample, direction, j);
                    }
                });
        })
    }
}

/// Rows of a Gram matrix whose products with each other are all formed.
const LEAF: usize = 128;

/// `gram += a a'` on and below the diagonal, in the rows and columns `range`, for `a` of `rows` rows: each half
/// of the range with itself, then one half with the other. About half of all products are formed.
fn add_gram<T: Scalar>(a: &[T], rows: usize, range: Range<usize>, gram: &mut [f64]) {
    let length = a.len() / rows.max(1);
    let of = |range: &Range<usize>| &a[range.start * length..range.end * length];
    let (lower, upper) = if range.len() <= LEAF {
        (range.clone(), range)
    } else {
        let middle = range.start + range.len() / 2;
        let halves = (middle..range.end, range.start..middle);
        add_gram(a, rows, halves.0.clone(), gram);
        add_gram(a, rows, halves.1.clone(), gram);
        halves
    };
    let part = &mut gram[lower.start * rows + upper.start..];
    add_strided(
        (of(&lower), lower.len()),
        (of(&upper), upper.len()),
        (part, rows),
    );
}

/// `products += a b'` for `a` of `rows` and `b` of `columns` rows of one length, all row-major; summed
/// in `T` over runs of that length, then in f64.
pub(super) fn add_products<T: Scalar>(a: (&[T], usize), b: (&[T], usize), products: &mut [f64]) {
    add_strided(a, b, (products, b.1));
}

/// [`add_products`] into rows that begin `stride` numbers apart.
fn add_strided<T: Scalar>(
    (a, rows): (&[T], usize),
    (b, columns): (&[T], usize),
    (products, stride): (&mut [f64], usize),
) {
    let length = a.len() / rows.max(1);
    let mut part = vec![T::ZERO; rows * columns];
    for first in (0..length).step_by(DEPTH) {
        let depth = DEPTH.min(length - first);
        let left = Mat::strided(&a[first..], rows, depth, length);
        let right = Mat::strided(&b[first..], columns, depth, length);
        gemm_parallel(
            MatMut::new(&mut part, rows, columns),
            false,
            left,
            right.t(),
        );
        let parts = part.par_chunks(columns.max(1));
        parts
            .zip(products.par_chunks_mut(stride.max(1)))
            .for_each(|(part, products)| {
                for (sum, p) in products.iter_mut().zip(part) {
                    *sum += p.to_f64();
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gram_matrix_of_several_leaves_is_that_of_all_products() {
        let (rows, length) = (2 * LEAF + 37, 11);
        let a: Vec<f64> = (0..rows * length).map(|k| (k as f64 * 0.7).sin()).collect();
        let (mut gram, mut all) = (vec![0.0; rows * rows], vec![0.0; rows * rows]);
        add_gram(&a, rows, 0..rows, &mut gram);
        add_products((&a, rows), (&a, rows), &mut all);
        for i in 0..rows {
            for j in 0..=i {
                assert!(
                    (gram[i * rows + j] - all[i * rows + j]).abs() < 1e-12,
                    "{i} {j}"
                );
            }
        }
    }
}
