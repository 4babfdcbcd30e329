//! The way back through a network: for every layer by itself, or summed, chain by chain.

use super::NodeId;
use super::chains::Links;
use super::execute::{Executor, LayerGradient, LayerRecording, Recording};
use crate::kernels::elementwise::update;
use crate::ops::{Cotangent, GradientSlot, Primal};
use crate::tensor::{Scalar, Tensor, View};

/// What has arrived at each node on a way back.
struct Arrived<T> {
    /// Gradients at the output for each sample.
    repeat: usize,
    /// The node to go back to.
    down_to: NodeId,
    gradients: Vec<Option<Tensor<T>>>,
}

impl<T: Scalar> Arrived<T> {
    fn new(recording: &Recording<T>, output: NodeId, g: Tensor<T>) -> Self {
        let mut gradients: Vec<_> = recording.shapes.iter().map(|_| None).collect();
        gradients[output] = Some(g);
        Self {
            repeat: 1,
            down_to: 1,
            gradients,
        }
    }
}

impl<T: Scalar> Recording<T> {
    /// A node's value, or a view of its shape without data if it was not kept.
    fn stored(&self, id: NodeId) -> View<'_, T> {
        match &self.values[id] {
            Some(tensor) => tensor.view(),
            None => View {
                shape: self.shapes[id],
                data: &[],
            },
        }
    }
}

impl<T: Scalar> Executor<'_, T> {
    /// Propagates `g`, gradients at the output (`repeat` images for each recorded sample), back to the node
    /// `down_to`, and hands every trainable layer's gradient to `consume`, from the last layer to that.
    pub fn adjoint(
        &mut self,
        recording: &LayerRecording<T>,
        g: Tensor<T>,
        (repeat, down_to): (usize, NodeId),
        mut consume: impl FnMut(LayerGradient<'_, T>),
    ) {
        let last = self.network.graph.output();
        let g = self.pool.copy(&g);
        let recording = &recording.0;
        let mut arrived = Arrived {
            repeat,
            down_to,
            ..Arrived::new(recording, last, g)
        };
        for id in (down_to.max(1)..=last).rev() {
            if let Some(g) = arrived.gradients[id].take() {
                self.back_through_node(id, g, recording, &mut arrived, &mut consume);
            }
        }
    }

    /// `gw += J'g`, over the trainable weights, for one gradient `g` a sample. The buffers of the recording
    /// are used again as soon as they have been read for the last time.
    pub fn vjp(&mut self, mut recording: Recording<T>, g: Tensor<T>, gw: &mut [T]) {
        let (network, offset) = (self.network, self.offset());
        let last = network.graph.output();
        let g = self.pool.copy(&g);
        let mut arrived = Arrived::new(&recording, last, g);
        for id in (1..=last).rev() {
            if let Some(g) = arrived.gradients[id].take() {
                match self.chains.ending_at[id] {
                    Some(links) if self.depends[id] => {
                        self.back_through_chain(id, links, g, &recording, &mut arrived, gw);
                    }
                    _ => self.back_through_node(id, g, &recording, &mut arrived, &mut |layer| {
                        let range = network.parameter_range(layer.node);
                        layer.add_to(&mut gw[range.start - offset..range.end - offset]);
                    }),
                }
            }
            // All nodes that read this value lie behind it: they have had their turn.
            if let Some(value) = recording.values[id].take() {
                self.pool.give(value);
            }
        }
        self.recycle(recording);
    }

    fn back_through_node(
        &mut self,
        id: NodeId,
        g: Tensor<T>,
        recording: &Recording<T>,
        arrived: &mut Arrived<T>,
        consume: &mut impl FnMut(LayerGradient<'_, T>),
    ) {
        let network = self.network;
        let node = &network.graph.nodes()[id];
        let (true, Some(operator)) = (self.depends[id], node.op.operator::<T>()) else {
            return self.pool.give(g);
        };
        let inputs: Vec<View<'_, T>> = node.inputs.iter().map(|i| recording.stored(*i)).collect();
        let primal = Primal {
            inputs: &inputs,
            output: recording.stored(id),
        };
        let cotangent = Cotangent {
            g: g.view(),
            repeat: arrived.repeat,
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
        self.adjoint_inputs(&node.inputs, recording, arrived, |slots| {
            operator.adjoint_input(weights, primal, cotangent, slots);
        });
        self.pool.give(g);
    }

    /// The chain that ends at `id`, in one step; its weight gradients are added to `gw`.
    fn back_through_chain(
        &mut self,
        id: NodeId,
        links: Links,
        mut g: Tensor<T>,
        recording: &Recording<T>,
        arrived: &mut Arrived<T>,
        gw: &mut [T],
    ) {
        let (network, offset) = (self.network, self.offset());
        let Some(chain) = network.chain(id, links, |_| None) else {
            return;
        };
        let input = network.graph.nodes()[links.conv].inputs[0];
        let (x, y) = (recording.stored(input), recording.stored(id));
        // The normalisation's weights lie behind the convolution's.
        let range = |node| {
            let range = network.parameter_range(node);
            range.start - offset..range.end - offset
        };
        let conv = range(links.conv);
        let (front, behind) = gw.split_at_mut(conv.end);
        let norm = links.norm.map(range);
        let norm = norm.map(|r| &mut behind[r.start - conv.end..r.end - conv.end]);
        chain.adjoint_weights(x, y, &mut g, &mut front[conv.start..], norm);
        self.adjoint_inputs(&[input], recording, arrived, |slots| {
            if let Some(slot) = &mut slots[0] {
                chain.adjoint_input(x, g.view(), slot);
            }
        });
        match links.shortcut.filter(|s| self.depends[*s]) {
            Some(shortcut) => self.add_gradient(shortcut, g, arrived),
            None => self.pool.give(g),
        }
    }

    /// Adds `g` to what has arrived at a node.
    fn add_gradient(&mut self, id: NodeId, g: Tensor<T>, arrived: &mut Arrived<T>) {
        match &mut arrived.gradients[id] {
            Some(sum) => {
                update(
                    sum.data_mut(),
                    g.data(),
                    #[inline(always)]
                    |sum, g| sum + g,
                );
                self.pool.give(g);
            }
            none => *none = Some(g),
        }
    }

    /// Lends slots for the gradients of `inputs` to `propagate` and files them afterwards.
    fn adjoint_inputs(
        &mut self,
        inputs: &[NodeId],
        recording: &Recording<T>,
        arrived: &mut Arrived<T>,
        propagate: impl FnOnce(&mut [Option<GradientSlot<'_, T>>]),
    ) {
        let mut storage: Vec<Option<(Tensor<T>, bool)>> = Vec::with_capacity(inputs.len());
        for i in inputs {
            let shape = recording.shapes[*i];
            let shape = shape.with_n(shape.n * arrived.repeat);
            let wanted = self.depends[*i] && *i >= arrived.down_to;
            storage.push(wanted.then(|| match arrived.gradients[*i].take() {
                Some(gx) => (gx, true),
                None => (self.pool.take(shape), false),
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
                self.add_gradient(*i, gx, arrived);
            }
        }
    }
}
