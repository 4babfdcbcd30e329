//! A block-diagonal preconditioner for the primal system: `z = (F + Lambda I)^-1 r` with `F` one
//! curvature block a parameter tensor.
//!
//! **Kronecker pair** (K-FAC, Martens and Grosse 2015). A weight matrix `W` (`m x n`, stored
//! row-major) has curvature `W -> A W G`. With `A = U_A diag(s) U_A'` and `G = U_G diag(t) U_G'`,
//!
//! ```text
//!     Z = U_A ( (U_A' R U_G) / (S + Lambda) ) U_G' ,      S_ij = s_i t_j ,
//! ```
//!
//! exact in `Lambda`: no damping is split between the factors. EKFAC (George et al. 2018, eq. 11)
//! replaces `S` by the second moments of the gradients in the same basis.
//!
//! **Channels.** One small dense block a channel, entry `j` of channel `c` stored at offset
//! `j * channels + c`: `k^2 x k^2` for a depthwise convolution, `2 x 2` for BatchNorm's
//! `[gamma..., beta...]`. One channel makes an ordinary dense block.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, get_global_parallelism};

use super::preconditioner::Preconditioner;
use crate::error::{SolveError, check_finite, check_len, check_positive};
use crate::factor::{check_square, eigen, row_major};

/// The eigenbasis of `A (x) G`, and eigenvalues in it.
#[derive(Clone, Debug)]
pub struct KroneckerBlock {
    /// `U_A`, `m x m`.
    left: Mat<f64>,
    /// `U_G`, `n x n`.
    right: Mat<f64>,
    /// `S`, row-major `m x n`.
    eigenvalues: Vec<f64>,
}

impl KroneckerBlock {
    /// The block with curvature `W -> A W G`; `A` (`m x m`) and `G` (`n x n`) symmetric positive
    /// semidefinite (negative eigenvalues, from rounding, count as zero).
    ///
    /// # Errors
    /// When a factor is not square or not finite, or an eigenvalue iteration fails.
    pub fn new(a: MatRef<'_, f64>, g: MatRef<'_, f64>) -> Result<Self, SolveError> {
        check_square("left Kronecker factor", a.nrows(), a)?;
        check_square("right Kronecker factor", g.nrows(), g)?;
        let (s, left) = eigen("eigenvalues of the left Kronecker factor", a)?;
        let (t, right) = eigen("eigenvalues of the right Kronecker factor", g)?;
        let row = |s: &f64| {
            t.iter()
                .map(move |t| s.max(0.0) * t.max(0.0))
                .collect::<Vec<_>>()
        };
        let eigenvalues = s.iter().flat_map(row).collect();
        Ok(Self {
            left,
            right,
            eigenvalues,
        })
    }

    /// Replaces the eigenvalues by `S` (row-major `m x n`, not negative), as in EKFAC: the mean over
    /// probes of the squared entries of [`KroneckerBlock::rotate`]d gradients.
    ///
    /// # Errors
    /// When the size is wrong, or a value is negative or not finite.
    pub fn with_eigenvalues(mut self, eigenvalues: Vec<f64>) -> Result<Self, SolveError> {
        check_len(
            "EKFAC eigenvalues",
            self.eigenvalues.len(),
            eigenvalues.len(),
        )?;
        check_not_negative("EKFAC eigenvalue", &eigenvalues)?;
        self.eigenvalues = eigenvalues;
        Ok(self)
    }

    /// `U_A' W U_G` for a row-major `W` (`m x n`); row-major.
    ///
    /// # Errors
    /// When the length is wrong.
    pub fn rotate(&self, w: &[f64]) -> Result<Vec<f64>, SolveError> {
        check_len("gradient", self.eigenvalues.len(), w.len())?;
        let mut out = vec![0.0; w.len()];
        sandwich(self.left.transpose(), w, self.right.as_ref(), &mut out);
        Ok(out)
    }

    fn solve(&self, lambda: f64, r: &[f64], z: &mut [f64]) {
        let mut rotated = vec![0.0; r.len()];
        sandwich(self.left.transpose(), r, self.right.as_ref(), &mut rotated);
        for (x, s) in rotated.iter_mut().zip(&self.eigenvalues) {
            *x /= s + lambda;
        }
        sandwich(self.left.as_ref(), &rotated, self.right.transpose(), z);
    }
}

/// `out = L W R`, `W` and `out` row-major; `L` and `R` square.
fn sandwich(l: MatRef<'_, f64>, w: &[f64], r: MatRef<'_, f64>, out: &mut [f64]) {
    let (m, n) = (l.nrows(), r.nrows());
    let product = l * row_major(w, m, n);
    let out = MatMut::from_row_major_slice_mut(out, m, n);
    matmul(
        out,
        Accum::Replace,
        &product,
        r,
        1.0,
        get_global_parallelism(),
    );
}

/// Small dense blocks, one a channel, in their eigenbases.
#[derive(Clone, Debug)]
pub struct ChannelBlocks {
    /// Eigenvalues and eigenvectors, one pair a channel.
    channels: Vec<(Vec<f64>, Mat<f64>)>,
    /// Entries a channel.
    size: usize,
}

impl ChannelBlocks {
    /// One symmetric positive semidefinite block (all of one size) a channel.
    ///
    /// # Errors
    /// When there is none, sizes differ, or an eigenvalue iteration fails.
    pub fn new(blocks: &[Mat<f64>]) -> Result<Self, SolveError> {
        check_positive("number of channels", blocks.len() as f64)?;
        let size = blocks.first().map_or(0, Mat::nrows);
        let decompose = |block: &Mat<f64>| {
            check_square("block of a channel", size, block.as_ref())?;
            eigen("eigenvalues of a channel's block", block.as_ref())
        };
        Ok(Self {
            channels: blocks.iter().map(decompose).collect::<Result<_, _>>()?,
            size,
        })
    }

    fn solve(&self, lambda: f64, r: &[f64], z: &mut [f64]) {
        let stride = self.channels.len();
        z.fill(0.0);
        for (c, (values, vectors)) in self.channels.iter().enumerate() {
            for (k, value) in values.iter().enumerate() {
                let vector = vectors.col_as_slice(k);
                let along: f64 = vector
                    .iter()
                    .enumerate()
                    .map(|(j, v)| v * r[j * stride + c])
                    .sum();
                for (j, v) in vector.iter().enumerate() {
                    z[j * stride + c] += v * along / (value.max(0.0) + lambda);
                }
            }
        }
    }
}

/// The curvature of one parameter tensor.
#[derive(Clone, Debug)]
pub enum Block {
    /// `A (x) G` on a row-major matrix.
    Kronecker(KroneckerBlock),
    /// Small dense blocks, strided.
    Channels(ChannelBlocks),
    /// A diagonal, not negative.
    Diagonal(Vec<f64>),
    /// `curvature * I` on this many entries; curvature 0 leaves `z = r / Lambda`.
    Scaled {
        /// Number of entries.
        len: usize,
        /// The curvature, not negative.
        curvature: f64,
    },
}

impl Block {
    /// Number of parameters.
    pub fn len(&self) -> usize {
        match self {
            Self::Kronecker(block) => block.eigenvalues.len(),
            Self::Channels(blocks) => blocks.channels.len() * blocks.size,
            Self::Diagonal(diagonal) => diagonal.len(),
            Self::Scaled { len, .. } => *len,
        }
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self) -> Result<(), SolveError> {
        match self {
            Self::Diagonal(diagonal) => check_not_negative("diagonal curvature", diagonal),
            Self::Scaled { curvature, .. } => check_not_negative("curvature", &[*curvature]),
            Self::Kronecker(_) | Self::Channels(_) => Ok(()),
        }
    }

    /// `z = (F + Lambda I)^-1 r`.
    fn solve(&self, lambda: f64, r: &[f64], z: &mut [f64]) {
        match self {
            Self::Kronecker(block) => block.solve(lambda, r, z),
            Self::Channels(blocks) => blocks.solve(lambda, r, z),
            Self::Diagonal(diagonal) => {
                for ((z, r), d) in z.iter_mut().zip(r).zip(diagonal) {
                    *z = r / (d + lambda);
                }
            }
            Self::Scaled { curvature, .. } => {
                for (z, r) in z.iter_mut().zip(r) {
                    *z = r / (curvature + lambda);
                }
            }
        }
    }
}

/// `(S F S + Lambda I)^-1`, block by block; S a multiple of the identity in each, by default 1.
#[derive(Clone, Debug)]
pub struct BlockPreconditioner {
    blocks: Vec<(Range<usize>, Block)>,
    scales: Vec<f64>,
    lambda: f64,
}

impl BlockPreconditioner {
    /// The blocks in the order of their ranges, which must cover `0..D` without gap or overlap.
    ///
    /// # Errors
    /// When ranges do not follow each other, a range and its block differ in length, a curvature is
    /// negative, or `lambda` is not positive.
    pub fn new(blocks: Vec<(Range<usize>, Block)>, lambda: f64) -> Result<Self, SolveError> {
        check_positive("Lambda", lambda)?;
        let mut covered = 0;
        for (range, block) in &blocks {
            check_len("start of a preconditioner block", covered, range.start)?;
            check_len("preconditioner block", range.len(), block.len())?;
            block.check()?;
            covered = range.end;
        }
        let scales = vec![1.0; blocks.len()];
        Ok(Self {
            blocks,
            scales,
            lambda,
        })
    }

    /// The same curvature in the unknowns `v` of `u = S v` ([`crate::Scaled`]): blocks that begin
    /// within `range` have the scale `factor`.
    ///
    /// # Errors
    /// When the factor is not positive.
    pub fn scaled(mut self, range: &Range<usize>, factor: f64) -> Result<Self, SolveError> {
        check_positive("scale of a block", factor)?;
        for ((block, _), scale) in self.blocks.iter().zip(&mut self.scales) {
            if range.contains(&block.start) {
                *scale = factor;
            }
        }
        Ok(self)
    }

    /// The same curvature with another `Lambda`; nothing is factorised again.
    ///
    /// # Errors
    /// When `lambda` is not positive.
    pub fn with_lambda(self, lambda: f64) -> Result<Self, SolveError> {
        check_positive("Lambda", lambda)?;
        Ok(Self { lambda, ..self })
    }
}

impl Preconditioner for BlockPreconditioner {
    fn dim(&self) -> usize {
        self.blocks.last().map_or(0, |(range, _)| range.end)
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        for ((range, block), scale) in self.blocks.iter().zip(&self.scales) {
            // (s^2 F + Lambda I)^-1 = (F + Lambda / s^2 I)^-1 / s^2
            let square = scale * scale;
            let z = &mut z[range.clone()];
            block.solve(self.lambda / square, &r[range.clone()], z);
            z.iter_mut().for_each(|z| *z /= square);
        }
    }
}

fn check_not_negative(what: &'static str, values: &[f64]) -> Result<(), SolveError> {
    check_finite(what, values)?;
    match values.iter().find(|v| **v < 0.0) {
        Some(v) => Err(SolveError::Parameter {
            what,
            domain: "not negative",
            got: *v,
        }),
        None => Ok(()),
    }
}
