//! Products with `[D_1 X ... D_P X]`, which is never formed: a product is one with `X`, tile by tile,
//! masked on the side of the samples.

use std::sync::Arc;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use super::patterns::Patterns;

/// Columns of a tile: `n` times as many numbers are held for a thread.
const TILE: usize = 64;

/// Which gate and which output a column of weights belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// Index of the gate.
    pub gate: usize,
    /// Index of the output.
    pub output: usize,
}

/// `X` and the patterns of its gates; copies share them.
#[derive(Clone, Debug)]
pub struct GatedMatrix {
    x: Arc<Mat<f64>>,
    patterns: Arc<Patterns>,
}

impl GatedMatrix {
    /// `X` (`n x d`) with patterns over its `n` samples.
    ///
    /// # Panics
    /// When the numbers of samples differ.
    pub fn new(x: Mat<f64>, patterns: Patterns) -> Self {
        assert_eq!(
            x.nrows(),
            patterns.samples(),
            "samples of X and of its patterns"
        );
        Self {
            x: Arc::new(x),
            patterns: Arc::new(patterns),
        }
    }

    /// `X`.
    pub fn x(&self) -> MatRef<'_, f64> {
        (*self.x).as_ref()
    }

    /// The patterns.
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Adds patterns over the same samples.
    pub fn push(&mut self, on: impl IntoIterator<Item = bool>) {
        Arc::make_mut(&mut self.patterns).push(on);
    }

    /// `n`.
    pub fn samples(&self) -> usize {
        self.x.nrows()
    }

    /// `d`.
    pub fn features(&self) -> usize {
        self.x.ncols()
    }

    /// `P`.
    pub fn gates(&self) -> usize {
        self.patterns.len()
    }

    /// `Z[:, c_k] += D_{i_k} X W[:, k]` for all columns `k`; `W` is `d x k`, `Z` is `n x C`.
    pub fn apply(&self, columns: &[Column], weights: MatRef<'_, f64>, z: &mut Mat<f64>) {
        let tile = |first: usize| {
            let columns = &columns[first..(first + TILE).min(columns.len())];
            let mut t = Mat::<f64>::zeros(self.samples(), columns.len());
            let w = weights.subcols(first, columns.len());
            matmul(&mut t, Accum::Replace, self.x(), w, 1.0, Par::Seq);
            t
        };
        let firsts: Vec<usize> = (0..columns.len()).step_by(TILE).collect();
        // A few tiles at a time, added in order: the sum does not depend on the threads.
        for firsts in firsts.chunks(rayon::current_num_threads()) {
            let tiles: Vec<Mat<f64>> = firsts.par_iter().map(|first| tile(*first)).collect();
            for (first, t) in firsts.iter().zip(&tiles) {
                for (k, column) in columns[*first..].iter().take(t.ncols()).enumerate() {
                    let z = z.col_as_slice_mut(column.output);
                    self.patterns.add_masked(column.gate, t.col_as_slice(k), z);
                }
            }
        }
    }

    /// `X' D_{i_k} R[:, c_k]` for all columns `k`, as a `d x k` matrix; `R` is `n x C`.
    pub fn correlate(&self, columns: &[Column], r: &Mat<f64>) -> Mat<f64> {
        let mut out = Mat::zeros(self.features(), columns.len());
        let tiles = out.par_col_chunks_mut(TILE).zip(columns.par_chunks(TILE));
        tiles.for_each(|(out, columns)| {
            let mut t = Mat::<f64>::zeros(self.samples(), columns.len());
            for (k, column) in columns.iter().enumerate() {
                let r = r.col_as_slice(column.output);
                self.patterns.mask(column.gate, r, t.col_as_slice_mut(k));
            }
            matmul(out, Accum::Replace, self.x().transpose(), t, 1.0, Par::Seq);
        });
        out
    }

    /// All gates of one output.
    pub fn all_columns(&self, output: usize) -> Vec<Column> {
        let column = |gate| Column { gate, output };
        (0..self.gates()).map(column).collect()
    }
}
