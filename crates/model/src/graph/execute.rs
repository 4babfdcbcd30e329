//! The passes of a network: forward, dual (with a tangent), recorded, and adjoint.
//!
//! ```text
//! forward   f(x; w)
//! dual      f(x; w)  and  J v                          (J = df/dw at w, trainable weights only)
//! record    a forward or dual pass that keeps what an adjoint pass reads
//! vjp       J'g, summed over the samples, after `record`
//! adjoint   layer by layer, the pair (input, output gradient) of every trainable layer, after
//!           `record_layers`
//! ```
//!
//! The adjoint pass hands each layer's gradient to a consumer: a per-sample sketch, a Gram matrix,
//! curvature statistics. Nothing of size samples x weights is ever stored. The sum J'g needs less:
//! a chain of nodes goes back in one step and keeps nothing between its nodes.

use super::chains::Chains;
use super::pool::Pool;
use super::run::INPUT;
use super::{Graph, GraphError, Network, NodeId};
use crate::ops::{Cotangent, Keeps, NodeWeights, Operator, Primal};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// Runs the passes of one network, training the nodes from `first_trainable` on.
#[derive(Debug)]
pub struct Executor<'a, T> {
    pub(super) network: &'a Network<T>,
    pub(super) first_trainable: NodeId,
    /// Whether a node's value depends on a trainable weight.
    pub(super) depends: Vec<bool>,
    /// Nodes that run together.
    pub(super) chains: Chains,
    /// At whose place the last node runs that reads each node.
    pub(super) last_use: Vec<NodeId>,
    /// Whether [`Executor::vjp`] reads a node's value.
    pub(super) kept_for_sums: Vec<bool>,
    /// Whether [`Executor::adjoint`] reads a node's value.
    pub(super) kept_for_layers: Vec<bool>,
    pub(super) pool: Pool<T>,
}

/// What a pass leaves for which adjoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    ForSums,
    ForLayers,
}

/// What a recorded pass leaves for [`Executor::vjp`].
#[derive(Debug)]
pub struct Recording<T> {
    pub(super) shapes: Vec<Shape>,
    pub(super) values: Vec<Option<Tensor<T>>>,
    /// The output f(x; w), `[n, 1, 1, classes]` for a classifier.
    pub output: Tensor<T>,
    /// J v, if a tangent was given.
    pub tangent: Option<Tensor<T>>,
}

impl<T: Scalar> Recording<T> {
    /// Of no pass.
    pub(super) fn empty() -> Self {
        Self {
            shapes: Vec::new(),
            values: Vec::new(),
            output: nothing(),
            tangent: None,
        }
    }
}

fn nothing<T: Scalar>() -> Tensor<T> {
    Tensor::zeros(Shape::new(0, 0, 0, 0))
}

/// What a recorded pass leaves for [`Executor::adjoint`].
#[derive(Debug)]
pub struct LayerRecording<T>(pub(super) Recording<T>);

impl<T> LayerRecording<T> {
    /// The output f(x; w).
    pub fn output(&self) -> &Tensor<T> {
        &self.0.output
    }
}

/// The input and the output gradient of one trainable layer.
pub struct LayerGradient<'a, T> {
    /// Which node.
    pub node: NodeId,
    /// Its operator.
    pub operator: &'a dyn Operator<T>,
    /// Its numbers.
    pub weights: NodeWeights<'a, T>,
    /// What it read and wrote in the primal pass.
    pub primal: Primal<'a, T>,
    /// The gradients at its output.
    pub cotangent: Cotangent<'a, T>,
}

impl<T: Scalar> LayerGradient<'_, T> {
    /// `gw += ` this layer's weight gradient, summed over samples and gradients.
    pub fn add_to(&self, gw: &mut [T]) {
        self.operator
            .adjoint_weights(self.weights, self.primal, self.cotangent, gw);
    }

    /// `gw += ` the weight gradient of gradient `r` of sample `i` alone.
    pub fn add_one_to(&self, i: usize, r: usize, gw: &mut [T]) {
        let inputs: Vec<View<'_, T>> = self.primal.inputs.iter().map(|x| sample(x, i)).collect();
        let primal = Primal {
            inputs: &inputs,
            output: sample(&self.primal.output, i),
        };
        let g = self.cotangent.g.image(i * self.cotangent.repeat + r);
        self.operator
            .adjoint_weights(self.weights, primal, Cotangent { g, repeat: 1 }, gw);
    }

    /// Samples in the batch.
    pub fn samples(&self) -> usize {
        self.cotangent.g.shape.n / self.cotangent.repeat
    }
}

/// Image `i` of a view that may have no data.
fn sample<'a, T: Scalar>(x: &View<'a, T>, i: usize) -> View<'a, T> {
    if x.data.is_empty() {
        View {
            shape: x.shape.with_n(1),
            data: x.data,
        }
    } else {
        x.image(i)
    }
}

impl<'a, T: Scalar> Executor<'a, T> {
    /// Passes of `network` in which the nodes from `first_trainable` on are trained.
    pub fn new(network: &'a Network<T>, first_trainable: NodeId) -> Self {
        let nodes = network.graph.nodes();
        let mut depends = vec![false; nodes.len()];
        let mut last_use: Vec<NodeId> = (0..nodes.len()).collect();
        for (id, node) in nodes.iter().enumerate() {
            depends[id] = id >= first_trainable
                && (!network.layout[id].parameters.is_empty()
                    || node.inputs.iter().any(|i| depends[*i]));
        }
        let chains = Chains::of(&network.graph, &depends);
        for (id, node) in nodes.iter().enumerate() {
            for i in &node.inputs {
                last_use[*i] = last_use[*i].max(chains.runs_at[id]);
            }
        }
        let kept_for_sums = kept(&network.graph, &depends, Some(&chains));
        let kept_for_layers = kept(&network.graph, &depends, None);
        Self {
            network,
            first_trainable,
            depends,
            chains,
            last_use,
            kept_for_sums,
            kept_for_layers,
            pool: Pool { free: Vec::new() },
        }
    }

    /// The network.
    pub fn network(&self) -> &'a Network<T> {
        self.network
    }

    /// Trainable numbers.
    pub fn trainable_len(&self) -> usize {
        self.network.parameters.len() - self.offset()
    }

    /// Where the trainable numbers begin in the weight vector.
    pub fn offset(&self) -> usize {
        let layout = self.network.layout.get(self.first_trainable);
        layout.map_or(self.network.parameters.len(), |l| l.parameters.start)
    }

    /// f(x; w).
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn forward(&mut self, x: Tensor<T>) -> Result<Tensor<T>, GraphError> {
        Ok(self.run(x, None, Keep::Nothing)?.output)
    }

    /// f(x; w) and J v, `v` over the trainable weights.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn dual(&mut self, x: Tensor<T>, v: &[T]) -> Result<(Tensor<T>, Tensor<T>), GraphError> {
        let Recording {
            output, tangent, ..
        } = self.run(x, Some(v), Keep::Nothing)?;
        let tangent = tangent.unwrap_or_else(|| Tensor::zeros(output.shape()));
        Ok((output, tangent))
    }

    /// A forward pass, or a dual pass where `v` is given, that [`Self::vjp`] can follow.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn record(&mut self, x: Tensor<T>, v: Option<&[T]>) -> Result<Recording<T>, GraphError> {
        self.run(x, v, Keep::ForSums)
    }

    /// A forward pass that [`Self::adjoint`] can follow.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn record_layers(&mut self, x: Tensor<T>) -> Result<LayerRecording<T>, GraphError> {
        Ok(LayerRecording(self.run(x, None, Keep::ForLayers)?))
    }

    /// Whether a node's value is read again.
    pub(super) fn keeps(&self, id: NodeId, keep: Keep) -> bool {
        match keep {
            Keep::Nothing => false,
            Keep::ForSums => self.kept_for_sums[id],
            Keep::ForLayers => self.kept_for_layers[id],
        }
    }

    /// Takes the tensors of a recording, but for the caller's images.
    pub(super) fn reclaim(&mut self, recording: &mut Recording<T>) {
        if let Some(images) = recording.values.get_mut(INPUT) {
            *images = None;
        }
        let output = std::mem::replace(&mut recording.output, nothing());
        let values = recording.values.drain(..).flatten();
        for tensor in values.chain([output]).chain(recording.tangent.take()) {
            self.pool.give(tensor);
        }
    }

    /// Gives the buffers of a recording back.
    pub fn recycle(&mut self, mut recording: Recording<T>) {
        self.reclaim(&mut recording);
    }

    /// Gives the buffers of a recording back.
    pub fn recycle_layers(&mut self, recording: LayerRecording<T>) {
        self.recycle(recording.0);
    }

    /// Bytes of the buffers that wait for the next pass: all, once results are given back.
    pub fn buffer_bytes(&self) -> usize {
        let numbers: usize = self.pool.free.iter().map(Vec::len).sum();
        numbers * size_of::<T>()
    }

    /// Gives a tensor's buffer back.
    pub fn recycle_tensor(&mut self, tensor: Tensor<T>) {
        self.pool.give(tensor);
    }
}

/// Which values adjoint passes read, node by node, or chain by chain where chains are given.
fn kept(graph: &Graph, depends: &[bool], chains: Option<&Chains>) -> Vec<bool> {
    let nodes = graph.nodes();
    let mut kept = vec![false; nodes.len()];
    for (id, node) in nodes.iter().enumerate().filter(|(id, _)| depends[*id]) {
        let Some(operator) = node.op.operator::<f32>() else {
            continue;
        };
        if let Some(chains) = chains {
            if let Some(links) = chains.ending_at[id] {
                kept[nodes[links.conv].inputs[0]] = true;
                kept[id] |= !node.op.activation().is_identity();
                continue;
            }
            if chains.runs_at[id] != id {
                continue;
            }
        }
        let Keeps { inputs, output } = operator.keeps();
        kept[id] |= output;
        node.inputs.iter().for_each(|i| kept[*i] |= inputs);
    }
    kept
}
