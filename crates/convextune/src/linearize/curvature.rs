//! Kronecker-factored curvature of the squared loss, J'J, block by block.
//!
//! Target-free: the output probes are v in {-1, 1}^C with E[v v'] = I, so the factors estimate the
//! Gauss-Newton matrix, not the residual-weighted empirical Fisher matrix.
//!
//! For a convolution with T output positions, a the patch (a 1 appended when there is a bias) and
//! g the back-propagated probe (Grosse and Martens 2016, eq. 20, summed over the N samples):
//!
//! ```text
//! F  ~  N T E[a a'] (x) E[g g']  =  A (x) G / (N T probes),   A = sum a a',  G = sum g g'
//! ```
//!
//! The head's G is the identity exactly, and its A is that of the centred features when the
//! model has a free bias. Depthwise kernels get one exact `k^2 x k^2` block a channel, BatchNorm
//! one exact 2 x 2 block (gamma, beta) a channel; "exact" up to the sampling of v. Grouped
//! convolutions get their diagonal. EKFAC (George et al. 2018) replaces the eigenvalues of
//! A (x) G by `S = E[(U_A' grad U_G)^2]`, estimated from a second pass.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use convextune_model::graph::{LayerGradient, NodeId};
use convextune_model::kernels::gemm::{Mat, MatMut, gemm_parallel};
use convextune_model::kernels::patches::{Channels, gather};
use convextune_model::ops::{Conv2d, Op};
use convextune_model::tensor::View;
use convextune_solve::faer::Mat as Dense;
use convextune_solve::quadratic::{Block, BlockPreconditioner, ChannelBlocks, KroneckerBlock};
use rayon::prelude::*;

use super::Linearization;
use super::gradients::Rows;
use crate::error::Error;
use crate::rng::Rng;

/// Patches gathered at a time.
const TILE_ROWS: usize = 4096;

/// How the curvature is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurvatureOptions {
    /// Output probes per sample.
    pub probes: usize,
    /// Seed of the probes.
    pub seed: u64,
    /// Whether the eigenvalues are rescaled (EKFAC); costs a second pass.
    pub rescale: bool,
}

/// Curvature blocks that serve every Lambda.
#[derive(Clone, Debug)]
pub struct Curvature {
    blocks: Vec<(Range<usize>, Block)>,
}

impl Curvature {
    /// `(F + Lambda I)^-1` over the trainable weights.
    ///
    /// # Errors
    /// When `lambda` is not positive, or a block does not fit its weights.
    pub fn preconditioner(&self, lambda: f64) -> Result<BlockPreconditioner, Error> {
        Ok(BlockPreconditioner::new(self.blocks.clone(), lambda)?)
    }
}

/// Sums over samples and probes for one layer.
enum Sums {
    /// A (`m x m`), G (`n x n`), and the number of positions of all samples.
    Kronecker {
        a: Square,
        g: Square,
        positions: f64,
    },
    /// One small matrix a channel: entry `j` of channel `c` is parameter `j * channels + c`.
    Channels(Vec<Square>),
    /// Squared gradients.
    Diagonal(Vec<f64>),
}

/// A symmetric matrix being summed in f64.
#[derive(Clone)]
struct Square {
    size: usize,
    data: Vec<f64>,
}

impl Square {
    fn zeros(size: usize) -> Self {
        Self {
            size,
            data: vec![0.0; size * size],
        }
    }

    /// `+= x'x` for `x` of `rows x size`.
    fn add_gram(&mut self, x: &[f32], rows: usize) {
        let mut part = vec![0.0f32; self.size * self.size];
        let x = Mat::new(x, rows, self.size);
        gemm_parallel(
            MatMut::new(&mut part, self.size, self.size),
            false,
            x.t(),
            x,
        );
        self.data
            .par_iter_mut()
            .zip(&part)
            .for_each(|(s, p)| *s += f64::from(*p));
    }

    fn scaled(&self, factor: f64) -> Dense<f64> {
        Dense::from_fn(self.size, self.size, |i, j| {
            0.5 * factor * (self.data[i * self.size + j] + self.data[j * self.size + i])
        })
    }
}

impl Linearization<'_> {
    /// Estimates the curvature block by block: one primal pass and `probes` backward passes, and
    /// the same again to rescale.
    ///
    /// # Errors
    /// When a sample cannot be read or an eigendecomposition fails.
    pub fn curvature(&self, options: CurvatureOptions) -> Result<Curvature, Error> {
        let mut sums: BTreeMap<NodeId, Sums> = BTreeMap::new();
        let probe = |i: usize, j: usize, g: &mut [f32]| probe(options.seed, (i, j), g);
        self.for_directions((options.probes, 0), probe, |layer, rows| {
            let op = &self.network().graph().nodes()[layer.node].op;
            let sums = sums
                .entry(layer.node)
                .or_insert_with(|| Sums::new(op, layer));
            sums.add(op, layer, rows);
        })?;
        let offset = self.offset;
        let mut blocks: BTreeMap<NodeId, (Range<usize>, Block)> = BTreeMap::new();
        for (node, sums) in sums {
            let range = self.network().parameter_range(node);
            let range = range.start - offset..range.end - offset;
            let block = sums.block(options.probes as f64, node == self.head())?;
            blocks.insert(node, (range, block));
        }
        if options.rescale {
            self.rescale(options, &mut blocks)?;
        }
        Ok(Curvature {
            blocks: blocks.into_values().collect(),
        })
    }

    /// Replaces the eigenvalues of every Kronecker block but the head's by measured ones.
    fn rescale(
        &self,
        options: CurvatureOptions,
        blocks: &mut BTreeMap<NodeId, (Range<usize>, Block)>,
    ) -> Result<(), Error> {
        let head = self.head();
        let mut measured: BTreeMap<NodeId, Vec<f64>> = BTreeMap::new();
        let probe = |i: usize, j: usize, g: &mut [f32]| probe(options.seed, (i, j), g);
        self.for_directions((options.probes, 0), probe, |layer, _| {
            let Some((_, Block::Kronecker(block))) = blocks.get(&layer.node) else {
                return;
            };
            if layer.node == head {
                return;
            }
            let rotated = |gw: &Vec<f32>| {
                let gw: Vec<f64> = gw.iter().map(|g| f64::from(*g)).collect();
                block.rotate(&gw).unwrap_or_default()
            };
            let rotated: Vec<Vec<f64>> = each_gradient(layer).par_iter().map(rotated).collect();
            let len = layer.weights.parameters.len();
            let sum = measured.entry(layer.node).or_insert_with(|| vec![0.0; len]);
            for row in &rotated {
                sum.iter_mut().zip(row).for_each(|(s, r)| *s += r * r);
            }
        })?;
        for (node, mut eigenvalues) in measured {
            eigenvalues
                .iter_mut()
                .for_each(|s| *s /= options.probes as f64);
            if let Some((_, slot)) = blocks.get_mut(&node)
                && let Block::Kronecker(block) = slot
            {
                *slot = Block::Kronecker(block.clone().with_eigenvalues(eigenvalues)?);
            }
        }
        Ok(())
    }
}

/// Writes probe `j` of sample `i`: signs, whose squares are 1 (for one output the curvature is then exact).
fn probe(seed: u64, (i, j): (usize, usize), g: &mut [f32]) {
    let mut rng = Rng::new(
        seed.wrapping_add((i as u64) << 20).wrapping_add(j as u64),
        "probe",
    );
    let sign = |negative: bool| if negative { -1.0 } else { 1.0 };
    g.iter_mut().for_each(|g| *g = sign(rng.normal() < 0.0));
}

/// The weight gradients of all samples and directions of a layer, one by one.
fn each_gradient(layer: &LayerGradient<'_, f32>) -> Vec<Vec<f32>> {
    let repeat = layer.cotangent.repeat;
    (0..layer.samples() * repeat)
        .into_par_iter()
        .map(|row| {
            let mut gw = vec![0.0f32; layer.weights.parameters.len()];
            layer.add_one_to(row / repeat, row % repeat, &mut gw);
            gw
        })
        .collect()
}

impl Sums {
    fn new(op: &Op, layer: &LayerGradient<'_, f32>) -> Self {
        let kronecker = |m: usize, n: usize| Self::Kronecker {
            a: Square::zeros(m),
            g: Square::zeros(n),
            positions: 0.0,
        };
        match op {
            Op::Conv2d(conv) if conv.is_depthwise() && !conv.bias => {
                let taps = conv.window.kernel[0] * conv.window.kernel[1];
                Self::Channels(vec![Square::zeros(taps); conv.cin])
            }
            Op::Conv2d(conv) if conv.groups == 1 => {
                let taps = conv.window.kernel[0] * conv.window.kernel[1];
                kronecker(taps * conv.cin + usize::from(conv.bias), conv.cout)
            }
            Op::Linear(linear) => kronecker(linear.cin + 1, linear.cout),
            Op::BatchNorm(norm) => Self::Channels(vec![Square::zeros(2); norm.channels]),
            _ => Self::Diagonal(vec![0.0; layer.weights.parameters.len()]),
        }
    }

    fn add(&mut self, op: &Op, layer: &LayerGradient<'_, f32>, rows: &Rows) {
        match self {
            Self::Kronecker { a, g, positions } => {
                let gradients = layer.cotangent.g;
                g.add_gram(gradients.data, gradients.shape.pixels());
                if rows.directions.start == 0 {
                    let x = layer.primal.inputs[0];
                    *positions += match op {
                        Op::Conv2d(conv) => add_patches(conv, x, a),
                        Op::Linear(_) => add_features(x, a),
                        _ => 0.0,
                    };
                }
            }
            Self::Channels(channels) => {
                let count = channels.len();
                let gradients = each_gradient(layer);
                channels.par_iter_mut().enumerate().for_each(|(c, block)| {
                    for gw in &gradients {
                        add_outer(block, |j| f64::from(gw[j * count + c]));
                    }
                });
            }
            Self::Diagonal(diagonal) => {
                for gw in each_gradient(layer) {
                    let squares = gw.iter().map(|g| f64::from(*g).powi(2));
                    diagonal.iter_mut().zip(squares).for_each(|(d, s)| *d += s);
                }
            }
        }
    }

    /// The layer's block from the sums over `probes` probes a sample.
    fn block(self, probes: f64, is_head: bool) -> Result<Block, Error> {
        Ok(match self {
            Self::Kronecker { a, g, positions } if is_head => {
                let identity = Dense::identity(g.size, g.size);
                let a = centred(&a, positions);
                Block::Kronecker(KroneckerBlock::new(a.as_ref(), identity.as_ref())?)
            }
            Self::Kronecker { a, g, positions } => {
                let g = g.scaled(1.0 / (positions * probes));
                Block::Kronecker(KroneckerBlock::new(a.scaled(1.0).as_ref(), g.as_ref())?)
            }
            Self::Channels(channels) => {
                let blocks: Vec<_> = channels.iter().map(|c| c.scaled(1.0 / probes)).collect();
                Block::Channels(ChannelBlocks::new(&blocks)?)
            }
            Self::Diagonal(diagonal) => {
                Block::Diagonal(diagonal.iter().map(|d| d / probes).collect())
            }
        })
    }
}

/// `A - s s' / N` for features whose A was summed with a 1 appended: what the free bias of the
/// head leaves, `Phi' P Phi`.
fn centred(a: &Square, samples: f64) -> Dense<f64> {
    let d = a.size - 1;
    let full = a.scaled(1.0);
    Dense::from_fn(d, d, |i, j| {
        full[(i, j)] - full[(i, d)] * full[(d, j)] / samples
    })
}

fn add_outer(block: &mut Square, entry: impl Fn(usize) -> f64) {
    let size = block.size;
    for i in 0..size {
        for j in 0..size {
            block.data[i * size + j] += entry(i) * entry(j);
        }
    }
}

/// `a += ` the sum over samples and positions of patch patch'; returns the number of positions.
fn add_patches(conv: &Conv2d, x: View<'_, f32>, a: &mut Square) -> f64 {
    let Ok(window) = conv.window_on(x.shape) else {
        return 0.0;
    };
    let pixels = x.shape.n * window.pixels();
    if window.is_pointwise() && !conv.bias {
        a.add_gram(x.data, pixels);
        return pixels as f64;
    }
    let depth = window.taps() * conv.cin;
    for first in (0..pixels).step_by(TILE_ROWS) {
        let count = TILE_ROWS.min(pixels - first);
        let mut tile = vec![0.0f32; count * depth];
        let rows = tile.par_chunks_mut(64 * depth).enumerate();
        rows.for_each(|(i, rows)| {
            let channels = Channels::all(conv.cin);
            gather(
                x.data,
                &window,
                channels,
                0..window.taps(),
                first + 64 * i,
                rows,
            );
        });
        if conv.bias {
            tile = with_ones(&tile, depth);
        }
        a.add_gram(&tile, count);
    }
    pixels as f64
}

/// `a += ` the sum of the features' outer products, a 1 appended; returns their number.
fn add_features(x: View<'_, f32>, a: &mut Square) -> f64 {
    a.add_gram(&with_ones(x.data, x.shape.c), x.shape.n);
    x.shape.n as f64
}

/// The rows of `x` (width `d`) with a 1 appended to each.
fn with_ones(x: &[f32], d: usize) -> Vec<f32> {
    x.chunks_exact(d)
        .flat_map(|row| row.iter().copied().chain([1.0]))
        .collect()
}
