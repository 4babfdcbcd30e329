//! Changes to a network: another activation, another head, a cut in two.

use super::{Graph, GraphError, Network, Node, NodeId};
use crate::ops::{Activation, Linear, Op};
use crate::tensor::{Scalar, Shape};

/// A network cut in two: `suffix(prefix(x)) = network(x)`.
#[derive(Clone, Debug)]
pub struct Split<T> {
    /// From the images to the cut.
    pub prefix: Network<T>,
    /// From the cut to the output; node ids are those of the whole, less `shift`.
    pub suffix: Network<T>,
    /// Difference between node ids of the whole and of the suffix.
    pub shift: usize,
}

impl Graph {
    /// Replaces every activation, fused or not.
    pub fn swap_activation(&mut self, swap: impl Fn(Activation) -> Activation) {
        for node in &mut self.nodes {
            if let Some(activation) = node.op.activation_mut()
                && !activation.is_identity()
            {
                *activation = swap(*activation);
            }
        }
    }

    /// Replaces every pooling node that `swap` maps to another operation.
    pub fn swap_pooling(&mut self, swap: impl Fn(&Op) -> Option<Op>) {
        for node in &mut self.nodes {
            let pools = matches!(
                node.op,
                Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool(_)
            );
            if let (true, Some(op)) = (pools, swap(&node.op)) {
                node.op = op;
            }
        }
    }

    /// The latest node at or before `first` that alone carries everything later nodes read:
    /// where the network can be cut so that the part before it is computed once.
    pub fn cut_before(&self, first: NodeId) -> NodeId {
        let crosses = |cut: NodeId| {
            self.nodes[cut + 1..]
                .iter()
                .any(|n| n.inputs.iter().any(|i| *i < cut))
        };
        (0..first).rev().find(|cut| !crosses(*cut)).unwrap_or(0)
    }
}

impl<T: Scalar> Network<T> {
    /// The network's structure, to be changed where that leaves the weights as they are.
    pub fn swap_activation(&mut self, swap: impl Fn(Activation) -> Activation) {
        self.graph.swap_activation(swap);
    }

    /// The network up to and including `last`.
    #[must_use]
    pub fn truncated(&self, last: NodeId) -> Self {
        let graph = Graph {
            channels: self.graph.channels,
            nodes: self.graph.nodes[..=last].to_vec(),
        };
        let layout = &self.layout[last];
        let parameters = self.parameters[..layout.parameters.end].to_vec();
        Self::new(
            graph,
            parameters,
            self.buffers[..layout.buffers.end].to_vec(),
        )
    }

    /// The network followed by a fully connected layer `[features, classes]` without bias.
    ///
    /// # Panics
    /// When `weights` does not hold a whole number of rows of `classes` numbers.
    #[must_use]
    pub fn with_head(&self, name: &str, classes: usize, weights: &[T]) -> Self {
        assert!(
            classes > 0 && weights.len().is_multiple_of(classes),
            "head of {classes} classes"
        );
        let mut graph = self.graph.clone();
        let last = graph.output();
        let head = Linear {
            cin: weights.len() / classes,
            cout: classes,
            bias: false,
        };
        graph.push(name, Op::Linear(head), &[last]);
        let parameters = [&self.parameters, weights].concat();
        Self::new(graph, parameters, self.buffers.clone())
    }

    /// Cuts the network after node `cut`, which must be the only one that later nodes read
    /// (see [`Graph::cut_before`]); `input` is the shape of one image.
    ///
    /// # Errors
    /// When the images do not fit the network, or a later node reads past the cut.
    pub fn split(&self, cut: NodeId, input: Shape) -> Result<Split<T>, GraphError> {
        let shapes = self.graph.shapes(input)?;
        let mut suffix = Graph::new(shapes[cut].c);
        for node in &self.graph.nodes[cut + 1..] {
            let renumber = |i: &NodeId| {
                i.checked_sub(cut)
                    .ok_or_else(|| GraphError::NothingToTrain(node.name.clone()))
            };
            let inputs = node.inputs.iter().map(renumber).collect::<Result<_, _>>()?;
            suffix.nodes.push(Node {
                name: node.name.clone(),
                op: node.op.clone(),
                inputs,
            });
        }
        let layout = &self.layout[cut];
        let parameters = self.parameters[layout.parameters.end..].to_vec();
        let buffers = self.buffers[layout.buffers.end..].to_vec();
        Ok(Split {
            prefix: self.truncated(cut),
            suffix: Self::new(suffix, parameters, buffers),
            shift: cut,
        })
    }
}
