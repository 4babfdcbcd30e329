//! What a group of training images did to a model: to its weights, to its outputs on any images, and to its error there.

use convextune_solve::faer::Mat;

use super::Posterior;
use crate::error::Error;
use crate::finetune::error_rate;
use crate::finetune::features::targets;
use crate::progress::Reporter;
use crate::samples::Samples;

/// A model beside the one that has never seen a group of its training images (equations 2 to 4 of [`super::dual`]).
#[derive(Clone, Debug)]
pub struct Without {
    /// `||u - u_{-G}|| / ||u||`.
    pub weights: f64,
    /// f at the queries, `n x C`.
    pub outputs: Mat<f64>,
    /// `f - f_{-G}` at the queries, `n x C`.
    pub change: Mat<f64>,
    /// Relative residual of the linear system behind the change, computed afterwards.
    pub residual: f64,
}

/// How well outputs fit labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Share of images whose largest output is that of another class.
    pub error: f64,
    /// Mean over the images of `||alpha y - f||^2`, with the outputs `f` of all classes.
    pub squared_error: f64,
}

impl Quality {
    /// Of outputs `f` (`n x C`) for `labels`, with targets `alpha`.
    pub fn of(f: &Mat<f64>, labels: &[usize], alpha: f64) -> Self {
        let n = labels.len().max(1) as f64;
        let residual = targets(labels, f.ncols(), alpha) - f;
        Self {
            error: error_rate(f, labels),
            squared_error: residual.squared_norm_l2() / n,
        }
    }
}

impl Without {
    /// `f_{-G}` at the queries, `n x C`.
    pub fn outputs_without(&self) -> Mat<f64> {
        &self.outputs - &self.change
    }
}

impl Posterior {
    /// What the training images `group` (indices) did to the weights and to the outputs at `queries`.
    ///
    /// # Errors
    /// When an index is out of range or repeated, nothing is left, or an image cannot be read.
    pub fn without(
        &self,
        group: &[usize],
        queries: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Without, Error> {
        let removal = self.dual().removed(group)?;
        let (n, classes) = (queries.len(), self.dual().classes());
        let (mut outputs, mut change) = (Mat::zeros(n, classes), Mat::zeros(n, classes));
        for run in queries.batches(self.most_queries()) {
            let (first, count) = (run.start, run.len());
            let part = (count < n).then(|| queries.pick(&run.collect::<Vec<_>>()));
            let part = part.transpose()?;
            let asked = self.queries(part.as_ref().unwrap_or(queries), reporter)?;
            let moved = self.dual().change(&asked, &removal);
            outputs.subrows_mut(first, count).copy_from(&asked.outputs);
            change.subrows_mut(first, count).copy_from(moved);
        }
        let moved = self.weights(&removal, reporter)?;
        let length = |u: &mut dyn Iterator<Item = f64>| u.map(|u| u * u).sum::<f64>().sqrt();
        let u = self.model().body.trained();
        let all = length(&mut u.iter().map(|u| f64::from(*u)));
        Ok(Without {
            weights: length(&mut moved.into_iter()) / all,
            outputs,
            change,
            residual: removal.residual,
        })
    }
}
