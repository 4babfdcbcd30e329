//! The passes of a network: forward, dual (with a tangent), recorded, and adjoint.
//!
//! ```text
//! forward   f(x; w)
//! dual      f(x; w)  and  J v                          (J = df/dw at w, trainable weights only)
//! record    a forward or dual pass that keeps what the adjoint pass reads
//! adjoint   layer by layer, the pair (input, output gradient) of every trainable layer
//! ```
//!
//! The adjoint pass hands each layer's gradient to a consumer: the sum J'g, a per-sample sketch,
//! a Gram matrix, curvature statistics. Nothing of size samples x weights is ever stored.

use super::chains::Chains;
use super::pool::Pool;
use super::{GraphError, Network, NodeId};
use crate::ops::{Cotangent, GradientSlot, Keeps, NodeWeights, Operator, Primal};
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
    /// Whether the adjoint pass reads a node's value.
    pub(super) kept: Vec<bool>,
    pub(super) pool: Pool<T>,
}

/// What a recorded pass leaves.
#[derive(Debug)]
pub struct Recording<T> {
    pub(super) shapes: Vec<Shape>,
    pub(super) values: Vec<Option<Tensor<T>>>,
    /// The output f(x; w), `[n, 1, 1, classes]` for a classifier.
    pub output: Tensor<T>,
    /// J v, if a tangent was given.
    pub tangent: Option<Tensor<T>>,
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
        let mut kept = vec![false; nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            depends[id] = id >= first_trainable
                && (!network.layout[id].parameters.is_empty()
                    || node.inputs.iter().any(|i| depends[*i]));
            let keeps = node.op.operator::<T>().map(Operator::keeps);
            if let (true, Some(Keeps { inputs, output })) = (depends[id], keeps) {
                kept[id] |= output;
                node.inputs.iter().for_each(|i| kept[*i] |= inputs);
            }
        }
        let chains = Chains::of(&network.graph, &depends);
        for (id, node) in nodes.iter().enumerate() {
            for i in &node.inputs {
                last_use[*i] = last_use[*i].max(chains.runs_at[id]);
            }
        }
        Self {
            network,
            first_trainable,
            depends,
            chains,
            last_use,
            kept,
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
        Ok(self.run(x, None, false)?.output)
    }

    /// f(x; w) and J v, `v` over the trainable weights.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn dual(&mut self, x: Tensor<T>, v: &[T]) -> Result<(Tensor<T>, Tensor<T>), GraphError> {
        let Recording {
            output, tangent, ..
        } = self.run(x, Some(v), false)?;
        let tangent = tangent.unwrap_or_else(|| Tensor::zeros(output.shape()));
        Ok((output, tangent))
    }

    /// A forward pass, or a dual pass where `v` is given, that an adjoint pass can follow.
    ///
    /// # Errors
    /// When the images do not fit the network.
    pub fn record(&mut self, x: Tensor<T>, v: Option<&[T]>) -> Result<Recording<T>, GraphError> {
        self.run(x, v, true)
    }

    /// Gives the buffers of a recording back.
    pub fn recycle(&mut self, recording: Recording<T>) {
        let Recording {
            values,
            output,
            tangent,
            ..
        } = recording;
        for tensor in values.into_iter().flatten().chain([output]).chain(tangent) {
            self.pool.give(tensor);
        }
    }

    /// Gives a tensor's buffer back.
    pub fn recycle_tensor(&mut self, tensor: Tensor<T>) {
        self.pool.give(tensor);
    }

    /// Propagates `g`, gradients at the output (`repeat` images for each recorded sample), and
    /// hands every trainable layer's gradient to `consume`, from the last layer to the first.
    pub fn adjoint(
        &mut self,
        recording: &Recording<T>,
        g: Tensor<T>,
        repeat: usize,
        mut consume: impl FnMut(LayerGradient<'_, T>),
    ) {
        let network = self.network;
        let nodes = network.graph.nodes();
        let shapes = &recording.shapes;
        let mut gradients: Vec<Option<Tensor<T>>> = nodes.iter().map(|_| None).collect();
        gradients[network.graph.output()] = Some(g);
        for (id, node) in nodes.iter().enumerate().skip(1).rev() {
            let Some(g) = gradients[id].take() else {
                continue;
            };
            let (true, Some(operator)) = (self.depends[id], node.op.operator::<T>()) else {
                self.pool.give(g);
                continue;
            };
            let stored = |i: NodeId| match &recording.values[i] {
                Some(tensor) => tensor.view(),
                None => View {
                    shape: shapes[i],
                    data: &[],
                },
            };
            let inputs: Vec<View<'_, T>> = node.inputs.iter().map(|i| stored(*i)).collect();
            let primal = Primal {
                inputs: &inputs,
                output: stored(id),
            };
            let cotangent = Cotangent {
                g: g.view(),
                repeat,
            };
            let weights = network.node_weights(id);
            if !network.layout[id].parameters.is_empty() {
                consume(LayerGradient {
                    node: id,
                    operator,
                    weights,
                    primal,
                    cotangent,
                });
            }
            self.adjoint_inputs(&node.inputs, shapes, repeat, &mut gradients, |slots| {
                operator.adjoint_input(weights, primal, cotangent, slots);
            });
            self.pool.give(g);
        }
    }

    /// `gw += J'g`, over the trainable weights, for one gradient `g` a sample.
    pub fn vjp(&mut self, recording: &Recording<T>, g: Tensor<T>, gw: &mut [T]) {
        let (network, offset) = (self.network, self.offset());
        self.adjoint(recording, g, 1, |layer| {
            let range = network.parameter_range(layer.node);
            layer.add_to(&mut gw[range.start - offset..range.end - offset]);
        });
    }

    /// Lends slots for the gradients of `inputs` to `propagate` and files them afterwards.
    fn adjoint_inputs(
        &mut self,
        inputs: &[NodeId],
        shapes: &[Shape],
        repeat: usize,
        gradients: &mut [Option<Tensor<T>>],
        propagate: impl FnOnce(&mut [Option<GradientSlot<'_, T>>]),
    ) {
        let mut storage: Vec<Option<(Tensor<T>, bool)>> = Vec::with_capacity(inputs.len());
        for i in inputs {
            storage.push(self.depends[*i].then(|| match gradients[*i].take() {
                Some(gx) => (gx, true),
                None => (
                    self.pool.take(shapes[*i].with_n(shapes[*i].n * repeat)),
                    false,
                ),
            }));
        }
        let mut slots: Vec<Option<GradientSlot<'_, T>>> = storage
            .iter_mut()
            .map(|s| {
                s.as_mut().map(|(gx, accumulate)| GradientSlot {
                    gx,
                    accumulate: *accumulate,
                })
            })
            .collect();
        if slots.iter().any(Option::is_some) {
            propagate(&mut slots);
        }
        drop(slots);
        for (i, s) in inputs.iter().zip(storage) {
            if let Some((gx, _)) = s {
                gradients[*i] = Some(gx);
            }
        }
    }
}
