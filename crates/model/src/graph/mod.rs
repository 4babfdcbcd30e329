//! The network as a list of nodes, its weights, and its passes.
//!
//! Nodes stand in the order in which they run: a node reads only nodes before it, and the last
//! one is the output. Weights lie in one flat vector in node order, so "the weights from stage s
//! on" is a suffix of that vector, and cutting a graph in two cuts the vector in two.

use std::ops::Range;

use thiserror::Error;

use crate::ops::{NodeWeights, Op, Operator, ParameterShape, Role, ShapeError};
use crate::tensor::{Scalar, Shape};

mod adjoint;
mod chains;
mod engine;
mod execute;
mod pool;
mod run;
mod surgery;
#[cfg(test)]
mod tests;

pub use engine::{Engine, LayerEngine, LayeredPass, SummedPass};
pub use execute::{Executor, LayerGradient, LayerRecording, Recording};
pub use surgery::Split;

/// A position in the list of nodes.
pub type NodeId = usize;

/// What can be wrong with a graph or with a request to it.
#[derive(Debug, Error)]
pub enum GraphError {
    /// Shapes that do not fit.
    #[error("node `{node}`: {source}")]
    Shape {
        /// The node that refused its inputs.
        node: String,
        /// Why.
        source: ShapeError,
    },
    /// A name that no node has.
    #[error("no node's name begins with `{name}`; the stages are: {}", stages.join(", "))]
    UnknownNode {
        /// What was asked for.
        name: String,
        /// What could have been asked for.
        stages: Vec<String>,
    },
    /// Images of another number of channels, or of no pixels.
    #[error("the network takes images of {wanted} channels, not {got}")]
    Input {
        /// Channels of the network.
        wanted: usize,
        /// Shape that came.
        got: Shape,
    },
    /// A stage that would leave nothing to train.
    #[error("nothing is left to train from `{0}` on; name an earlier stage")]
    NothingToTrain(String),
}

/// One operation of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Dotted name, as in the framework that the weights come from.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Whose outputs it reads.
    pub inputs: Vec<NodeId>,
}

/// One trainable array of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The node that it belongs to.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Dimensions, the last one fastest.
    pub dims: Vec<usize>,
    /// Where it lies in the weight vector.
    pub range: Range<usize>,
}

/// A network without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    channels: usize,
    nodes: Vec<Node>,
}

impl Graph {
    /// A graph of its input alone: images of `channels` channels.
    pub fn new(channels: usize) -> Self {
        let input = Node {
            name: "input".into(),
            op: Op::Input,
            inputs: Vec::new(),
        };
        Self {
            channels,
            nodes: vec![input],
        }
    }

    /// Appends a node.
    ///
    /// # Panics
    /// When an input is not an earlier node.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        let id = self.nodes.len();
        assert!(
            inputs.iter().all(|i| *i < id),
            "a node may read earlier nodes only"
        );
        self.nodes.push(Node {
            name: name.into(),
            op,
            inputs: inputs.to_vec(),
        });
        id
    }

    /// Channels of the images.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All nodes, in the order in which they run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The last node.
    pub fn output(&self) -> NodeId {
        self.nodes.len() - 1
    }

    /// The shape of every node's output for images of shape `input`.
    ///
    /// # Errors
    /// When an operator refuses its inputs.
    pub fn shapes(&self, input: Shape) -> Result<Vec<Shape>, GraphError> {
        if input.c != self.channels || input.is_empty() {
            return Err(GraphError::Input {
                wanted: self.channels,
                got: input,
            });
        }
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|i| shapes[*i]).collect();
            shapes.push(match node.op.operator::<f32>() {
                None => input,
                Some(op) => op
                    .output_shape(&inputs)
                    .map_err(|source| GraphError::Shape {
                        node: node.name.clone(),
                        source,
                    })?,
            });
        }
        Ok(shapes)
    }

    /// All trainable arrays, in the order of the weight vector.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut offset = 0;
        let mut all = Vec::new();
        for (node, n) in self.nodes.iter().enumerate() {
            for ParameterShape { role, dims } in
                n.op.operator::<f32>().map_or(vec![], Operator::parameters)
            {
                let len = dims.iter().product::<usize>();
                all.push(Parameter {
                    node,
                    role,
                    dims,
                    range: offset..offset + len,
                });
                offset += len;
            }
        }
        all
    }

    /// Where each node's trainable and frozen numbers lie.
    pub(crate) fn layout(&self) -> Vec<NodeLayout> {
        let (mut parameter, mut buffer) = (0, 0);
        let mut all = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let (p, b) = match node.op.operator::<f32>() {
                Some(op) => (
                    op.parameters().iter().map(ParameterShape::len).sum(),
                    op.buffers(),
                ),
                None => (0, 0),
            };
            all.push(NodeLayout {
                parameters: parameter..parameter + p,
                buffers: buffer..buffer + b,
            });
            parameter += p;
            buffer += b;
        }
        all
    }

    /// The first node whose name is `prefix` or begins with `prefix` followed by a dot.
    ///
    /// # Errors
    /// When there is none; the message lists the stages.
    pub fn find(&self, prefix: &str) -> Result<NodeId, GraphError> {
        let matches = |name: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.nodes
            .iter()
            .position(|n| matches(&n.name))
            .ok_or_else(|| GraphError::UnknownNode {
                name: prefix.into(),
                stages: self.stages(),
            })
    }

    /// The names by which parts of the network can be addressed: one or two leading components.
    pub fn stages(&self) -> Vec<String> {
        let mut stages: Vec<String> = Vec::new();
        for node in &self.nodes[1..] {
            let mut parts = node.name.split('.');
            let head = parts.next().unwrap_or_default();
            let stage = match parts.next() {
                Some(second) if second.chars().all(|c| c.is_ascii_digit()) => {
                    format!("{head}.{second}")
                }
                _ => head.to_owned(),
            };
            if !stages.contains(&stage) {
                stages.push(stage);
            }
        }
        stages
    }
}

/// Where one node's numbers lie.
#[derive(Clone, Debug)]
pub(crate) struct NodeLayout {
    /// In the weight vector.
    pub parameters: Range<usize>,
    /// In the vector of frozen numbers.
    pub buffers: Range<usize>,
}

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct Network<T> {
    graph: Graph,
    layout: Vec<NodeLayout>,
    parameters: Vec<T>,
    buffers: Vec<T>,
}

impl<T: Scalar> Network<T> {
    /// Joins a graph and its numbers.
    ///
    /// # Panics
    /// When the vectors have not the lengths that the graph asks for.
    pub fn new(graph: Graph, parameters: Vec<T>, buffers: Vec<T>) -> Self {
        let layout = graph.layout();
        let end = |r: Option<&Range<usize>>| r.map_or(0, |r| r.end);
        assert_eq!(
            end(layout.last().map(|l| &l.parameters)),
            parameters.len(),
            "weights of a graph"
        );
        assert_eq!(
            end(layout.last().map(|l| &l.buffers)),
            buffers.len(),
            "statistics of a graph"
        );
        Self {
            graph,
            layout,
            parameters,
            buffers,
        }
    }

    /// The network's structure.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// All trainable numbers, in node order.
    pub fn parameters(&self) -> &[T] {
        &self.parameters
    }

    /// All trainable numbers, to be changed in place.
    pub fn parameters_mut(&mut self) -> &mut [T] {
        &mut self.parameters
    }

    /// All frozen numbers, in node order.
    pub fn buffers(&self) -> &[T] {
        &self.buffers
    }

    /// Where the trainable numbers of a node lie in [`Self::parameters`].
    pub fn parameter_range(&self, node: NodeId) -> Range<usize> {
        self.layout[node].parameters.clone()
    }

    /// The numbers of one node.
    pub fn node_weights(&self, node: NodeId) -> NodeWeights<'_, T> {
        let NodeLayout {
            parameters,
            buffers,
        } = &self.layout[node];
        NodeWeights {
            parameters: &self.parameters[parameters.clone()],
            buffers: &self.buffers[buffers.clone()],
        }
    }

    /// The same network in another precision.
    pub fn cast<U: Scalar>(&self) -> Network<U> {
        let cast = |v: &[T]| v.iter().map(|x| U::from_f64(x.to_f64())).collect();
        Network::new(
            self.graph.clone(),
            cast(&self.parameters),
            cast(&self.buffers),
        )
    }
}
