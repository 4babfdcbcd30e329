//! Rows of the Jacobian, layer by layer: one backward pass per class, one primal pass per sample.
//!
//! The consumers (sketch, kernel, curvature) see each layer's input and output gradients for a
//! batch of samples and a run of classes, and never a whole row of J.

use std::ops::Range;

use convextune_model::graph::{LayerGradient, NodeId};
use convextune_model::tensor::{Scalar, Shape, Tensor};
use convextune_solve::Work;

use super::Linearization;
use crate::error::Error;

/// Output gradients held at once: samples of a batch times directions of a run.
const GRADIENTS: usize = 32;
/// Directions of a run: with small batches, which are asked for to save memory, no more.
pub(super) const DIRECTIONS: usize = 2;

/// A batch's share of the rows of J: samples `samples`, output directions `directions`.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Samples of the batch, as positions in the whole set.
    pub samples: Range<usize>,
    /// Directions of this run.
    pub directions: Range<usize>,
}

impl<T: Scalar> Linearization<'_, T> {
    /// The node that reads the features: the head, last of the network.
    pub(super) fn head(&self) -> NodeId {
        self.network().graph().output()
    }

    /// Hands `consume` the gradients of every layer from the node `down_to` on, for output directions
    /// `directions` of every sample: direction j of sample i is the vector written by `direction(i, j,
    /// out)`. One primal pass, `directions` backward passes a sample.
    pub(super) fn for_directions(
        &self,
        (directions, down_to): (usize, NodeId),
        direction: impl Fn(usize, usize, &mut [T]),
        mut consume: impl FnMut(&LayerGradient<'_, T>, &Rows),
    ) -> Result<(), Error> {
        let c = self.outputs;
        let batch = self.batch.min(GRADIENTS);
        let run = (GRADIENTS / batch).clamp(1, DIRECTIONS.min(directions.max(1)));
        let mut engine = self.engine.borrow_mut();
        for samples in self.samples.batches(batch) {
            let mut pass = engine.record_layers(self.samples.batch(samples.clone())?)?;
            for first in (0..directions).step_by(run) {
                let rows = Rows {
                    samples: samples.clone(),
                    directions: first..(first + run).min(directions),
                };
                let (n, r) = (samples.len(), rows.directions.len());
                let mut g = Tensor::zeros(Shape::new(n * r, 1, 1, c));
                for (row, g) in g.data_mut().chunks_exact_mut(c).enumerate() {
                    direction(samples.start + row / r, first + row % r, g);
                }
                pass.adjoint(g, (r, down_to), &mut |layer| consume(&layer, &rows));
            }
            self.reporter.advance(samples.len() as u64);
        }
        let vjps = directions as u64;
        self.count(Work {
            passes: 1.0,
            vjps,
            ..Work::default()
        });
        Ok(())
    }

    /// [`Self::for_directions`] along the classes: the rows of J themselves.
    pub(super) fn for_jacobian_rows(
        &self,
        down_to: NodeId,
        consume: impl FnMut(&LayerGradient<'_, T>, &Rows),
    ) -> Result<(), Error> {
        let directions = (self.outputs, down_to);
        self.for_directions(directions, |_, class, g| g[class] = T::ONE, consume)
    }
}
