//! The way forward through a network: node by node, or chain by chain, with or without a tangent.

use super::chains::Links;
use super::execute::{Executor, Keep, Recording};
use super::{GraphError, Network, NodeId};
use crate::ops::{ConvolutionChain, Normalisation, Op};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// The node that holds the images.
pub(super) const INPUT: NodeId = 0;

/// A pass under way.
struct Pass<'v, T> {
    /// The tangent of the trainable weights.
    v: Option<&'v [T]>,
    /// Which adjoint pass follows.
    keep: Keep,
    values: Vec<Option<Tensor<T>>>,
    tangents: Vec<Option<Tensor<T>>>,
}

impl<T: Scalar> Executor<'_, T> {
    pub(super) fn run(
        &mut self,
        x: Tensor<T>,
        v: Option<&[T]>,
        keep: Keep,
    ) -> Result<Recording<T>, GraphError> {
        let network = self.network;
        let nodes = network.graph.nodes();
        let shapes = network.graph.shapes(x.shape())?;
        let mut values: Vec<Option<Tensor<T>>> = nodes.iter().map(|_| None).collect();
        let tangents: Vec<Option<Tensor<T>>> = nodes.iter().map(|_| None).collect();
        values[0] = Some(x);
        let mut pass = Pass {
            v,
            keep,
            values,
            tangents,
        };
        for id in 1..nodes.len() {
            if self.chains.runs_at[id] != id {
                continue;
            }
            match self.chains.ending_at[id] {
                Some(links) => self.run_chain(id, links, shapes[id], &mut pass),
                None => self.run_node(id, shapes[id], &mut pass),
            }
            self.release_inputs(id, &mut pass);
        }
        let Pass {
            mut values,
            mut tangents,
            ..
        } = pass;
        let last = network.graph.output();
        debug_assert!(
            keep != Keep::Nothing
                || (0..last).all(|i| values[i].is_none() && tangents[i].is_none()),
            "a tensor outlived its last reader"
        );
        let output = match &values[last] {
            Some(y) if self.keeps(last, keep) => self.pool.copy(y),
            _ => values[last]
                .take()
                .unwrap_or_else(|| Tensor::zeros(shapes[last])),
        };
        Ok(Recording {
            shapes,
            values,
            output,
            tangent: tangents[last].take(),
        })
    }

    /// The part of a tangent that belongs to a node, if it has weights.
    fn tangent_of<'v>(&self, id: NodeId, v: &'v [T]) -> Option<&'v [T]> {
        let (range, offset) = (&self.network.layout[id].parameters, self.offset());
        (!range.is_empty()).then(|| &v[range.start - offset..range.end - offset])
    }

    fn run_node(&mut self, id: NodeId, shape: Shape, pass: &mut Pass<'_, T>) {
        let network = self.network;
        let node = &network.graph.nodes()[id];
        let Some(op) = node.op.operator::<T>() else {
            return;
        };
        let mut y = self.take_value(id, shape, pass.keep);
        let inputs = node.inputs.iter();
        let x: Vec<View<'_, T>> = inputs
            .clone()
            .filter_map(|i| view(pass.values[*i].as_ref()))
            .collect();
        let weights = network.node_weights(id);
        if let (Some(v), true) = (pass.v, self.depends[id]) {
            let mut dy = self.pool.take(shape);
            let dx: Vec<_> = inputs.map(|i| view(pass.tangents[*i].as_ref())).collect();
            let dw = self.tangent_of(id, v);
            op.dual(weights, dw, &x, &dx, &mut y, &mut dy);
            pass.tangents[id] = Some(dy);
        } else {
            op.forward(weights, &x, &mut y);
        }
        pass.values[id] = Some(y);
    }

    /// Runs the chain that ends at `id`.
    fn run_chain(&mut self, id: NodeId, links: Links, shape: Shape, pass: &mut Pass<'_, T>) {
        let network = self.network;
        let v = pass.v.filter(|_| self.depends[id]);
        // The convolution's own result has a place where the adjoint pass reads it.
        let keep = self.keeps(links.conv, pass.keep);
        let mut z = self.take_value(if keep { links.conv } else { id }, shape, pass.keep);
        let mut y = keep.then(|| self.take_value(id, shape, pass.keep));
        let mut dz = v.map(|_| self.pool.take(shape));
        let dual = |i: NodeId| {
            let x = view(pass.values[i].as_ref())?;
            Some((x, view(pass.tangents[i].as_ref())))
        };
        let tangent = |node| v.and_then(|v| self.tangent_of(node, v));
        let Some(chain) = network.chain(id, links, tangent) else {
            return;
        };
        let chain = ConvolutionChain {
            shortcut: links.shortcut.and_then(dual),
            ..chain
        };
        debug_assert_eq!(chain.shortcut.is_some(), links.shortcut.is_some());
        let Some(x) = dual(network.graph.nodes()[links.conv].inputs[0]) else {
            debug_assert!(false, "a chain ran before its input");
            return;
        };
        chain.run(x, (&mut z, dz.as_mut()), y.as_mut());
        match y {
            Some(y) => {
                pass.values[links.conv] = Some(z);
                pass.values[id] = Some(y);
            }
            None => pass.values[id] = Some(z),
        }
        pass.tangents[id] = dz;
    }

    /// A tensor for the value of a node.
    fn take_value(&mut self, id: NodeId, shape: Shape, keep: Keep) -> Tensor<T> {
        if self.keeps(id, keep) {
            self.pool.take_to_keep(shape)
        } else {
            self.pool.take(shape)
        }
    }

    /// Gives back what no node after the one at `id` reads.
    fn release_inputs(&mut self, id: NodeId, pass: &mut Pass<'_, T>) {
        let nodes = self.network.graph.nodes();
        let members = match self.chains.ending_at[id] {
            Some(links) => vec![Some(links.conv), links.norm, Some(id)],
            None => vec![Some(id)],
        };
        let inputs = members.into_iter().flatten().flat_map(|m| &nodes[m].inputs);
        // A node that none reads is done with at once.
        let unread = (self.last_use[id] == id && id + 1 < nodes.len()).then_some(&id);
        for i in inputs.chain(unread) {
            if self.last_use[*i] == id {
                self.release(&mut pass.tangents[*i]);
                if *i == INPUT {
                    // The caller's tensor: the pool would grow by one with every pass.
                    pass.values[INPUT].take_if(|_| !self.keeps(INPUT, pass.keep));
                } else if !self.keeps(*i, pass.keep) {
                    self.release(&mut pass.values[*i]);
                }
            }
        }
    }

    fn release(&mut self, slot: &mut Option<Tensor<T>>) {
        if let Some(tensor) = slot.take() {
            self.pool.give(tensor);
        }
    }
}

impl<T: Scalar> Network<T> {
    /// The operators and numbers of the chain that ends at `id`, without its shortcut's values;
    /// `tangent` is that of a node's numbers.
    pub(super) fn chain<'s>(
        &'s self,
        id: NodeId,
        links: Links,
        tangent: impl Fn(NodeId) -> Option<&'s [T]>,
    ) -> Option<ConvolutionChain<'s, T>> {
        let nodes = self.graph.nodes();
        let Op::Conv2d(conv) = &nodes[links.conv].op else {
            return None;
        };
        let norm = links.norm.and_then(|norm| match &nodes[norm].op {
            Op::BatchNorm(op) => Some(Normalisation {
                norm: op,
                weights: self.node_weights(norm),
                dweights: tangent(norm),
            }),
            _ => None,
        });
        Some(ConvolutionChain {
            conv,
            weights: self.node_weights(links.conv),
            dweights: tangent(links.conv),
            norm,
            activation: nodes[id].op.activation(),
            shortcut: None,
        })
    }
}

fn view<T: Scalar>(slot: Option<&Tensor<T>>) -> Option<View<'_, T>> {
    slot.map(Tensor::view)
}
