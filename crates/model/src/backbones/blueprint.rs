//! A network under construction: its graph, and what files call each of its parts.

use crate::graph::{Graph, NodeId};
use crate::ops::{Activation, BatchNorm, Conv2d, Linear, Op};

/// One way of naming a network's tensors, as some framework publishes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheme {
    /// Whose names these are, for messages.
    pub label: &'static str,
    /// What the last fully connected layer is called.
    pub classifier: &'static str,
    /// Whether a fully connected layer inside the network is stored as a convolution that covers
    /// its whole input.
    pub dense_as_convolution: bool,
}

impl Scheme {
    /// Names after which fully connected layers are stored as matrices.
    pub const fn new(label: &'static str, classifier: &'static str) -> Self {
        Self {
            label,
            classifier,
            dense_as_convolution: false,
        }
    }
}

/// A node with weights, and its names.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// The node.
    pub node: NodeId,
    /// What each scheme calls it, in the order of [`Blueprint::schemes`].
    pub names: Vec<String>,
    /// Rows and columns of the image that a fully connected layer reads flattened; else 1 by 1.
    pub image: [usize; 2],
}

/// A graph whose weights have names.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    /// The network, from images to pooled features.
    pub graph: Graph,
    /// Known ways of naming its tensors.
    pub schemes: &'static [Scheme],
    /// The nodes with weights, in node order.
    pub modules: Vec<Module>,
}

/// The names of a convolution and of the BatchNorm behind it, in one scheme.
pub(super) type ConvNormNames = [String; 2];

impl Blueprint {
    /// A network of its input alone: images of three channels.
    pub fn new(schemes: &'static [Scheme]) -> Self {
        Self {
            graph: Graph::new(3),
            schemes,
            modules: Vec::new(),
        }
    }

    /// Appends a node without weights that reads `x`.
    pub fn op(&mut self, name: &str, op: Op, x: &[NodeId]) -> NodeId {
        self.graph.push(name, op, x)
    }

    /// Appends a node with weights; `names` has one name for each scheme.
    fn module(&mut self, name: &str, op: Op, x: NodeId, names: Vec<String>) -> NodeId {
        debug_assert_eq!(names.len(), self.schemes.len(), "names of `{name}`");
        let node = self.graph.push(name, op, &[x]);
        self.modules.push(Module {
            node,
            names,
            image: [1, 1],
        });
        node
    }

    /// Appends a convolution.
    pub fn conv(&mut self, name: &str, conv: Conv2d, x: NodeId, names: Vec<String>) -> NodeId {
        self.module(name, Op::Conv2d(conv), x, names)
    }

    /// Appends a BatchNorm with its activation.
    pub fn norm(&mut self, name: &str, norm: BatchNorm, x: NodeId, names: Vec<String>) -> NodeId {
        self.module(name, Op::BatchNorm(norm), x, names)
    }

    /// Appends a fully connected layer that reads a flattened image of `image` pixels.
    pub fn dense(
        &mut self,
        name: &str,
        linear: Linear,
        image: [usize; 2],
        x: NodeId,
        names: Vec<String>,
    ) -> NodeId {
        let node = self.module(name, Op::Linear(linear), x, names);
        if let Some(module) = self.modules.last_mut() {
            module.image = image;
        }
        node
    }

    /// Appends a convolution without bias and its BatchNorm.
    pub fn conv_norm(
        &mut self,
        [conv_name, norm_name]: [&str; 2],
        conv: Conv2d,
        (eps, activation): (f64, Activation),
        x: NodeId,
        names: &[ConvNormNames],
    ) -> NodeId {
        let channels = conv.cout;
        let of = |which: usize| names.iter().map(|pair| pair[which].clone()).collect();
        let x = self.conv(conv_name, conv, x, of(0));
        let norm = BatchNorm {
            channels,
            eps,
            activation,
        };
        self.norm(norm_name, norm, x, of(1))
    }
}
