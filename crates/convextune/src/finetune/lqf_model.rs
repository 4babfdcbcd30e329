//! What predicts.

use convextune_model::graph::{Network, NodeId};

/// A fitted linearised network: `f(x) = [f0(x)] + J(x) u + b`.
#[derive(Clone, Debug)]
pub struct LqfModel {
    /// w0: the backbone and the head.
    pub network: Network<f32>,
    /// First node whose weights are trained.
    pub first_trainable: NodeId,
    /// u over the trainable weights; weight-major where every class has a copy.
    pub u: Vec<f32>,
    /// b, length C.
    pub bias: Vec<f64>,
    /// Whether f0 is part of the model.
    pub keep_f0: bool,
}

impl LqfModel {
    /// The numbers that were trained: u, or the weights of a head alone.
    pub fn trained(&self) -> &[f32] {
        let network = &self.network;
        match self.u.as_slice() {
            [] => network.node_weights(network.graph().output()).parameters,
            u => u,
        }
    }
}
