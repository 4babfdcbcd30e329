//! Frozen features: what the head-only methods train on, and what a fitted head comes from.

use convextune_model::graph::Network;
use convextune_solve::faer::Mat;

use crate::error::Error;
use crate::linearize::Linearization;
use crate::progress::Reporter;
use crate::samples::Samples;

/// Features Phi (`N x d`) and labels of a set.
#[derive(Clone, Debug)]
pub struct Features {
    /// Phi, `N x d`.
    pub phi: Mat<f64>,
}

impl Features {
    /// The outputs of `backbone` for all samples; one pass.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn of(
        backbone: &Network<f32>,
        samples: &Samples,
        batch: usize,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        reporter.stage("features", samples.len() as u64);
        let out = samples.through(backbone, batch, reporter)?;
        Ok(Self::from_rows(out.values().unwrap_or_default(), out.len()))
    }

    /// From `n` rows that lie one after the other.
    pub fn from_rows(rows: &[f32], n: usize) -> Self {
        let d = rows.len() / n.max(1);
        Self {
            phi: Mat::from_fn(n, d, |i, j| f64::from(rows[i * d + j])),
        }
    }

    /// Some of the rows.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            phi: Mat::from_fn(rows.len(), self.phi.ncols(), |i, j| self.phi[(rows[i], j)]),
        }
    }
}

/// `alpha * onehot(y)`, `N x C`.
pub fn targets(labels: &[usize], classes: usize, alpha: f64) -> Mat<f64> {
    Mat::from_fn(labels.len(), classes, |i, c| {
        if labels[i] == c { alpha } else { 0.0 }
    })
}

impl Features {
    /// What the head of a linearised network reads; one pass.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn of_head(
        lin: &Linearization<'_>,
        batch: usize,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let network = lin.network();
        let body = network.truncated(network.graph().output() - 1);
        lin.count_part(lin.samples().len(), 0);
        Self::of(&body, lin.samples(), batch, reporter)
    }
}
