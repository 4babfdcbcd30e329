//! Which nodes run as one sweep: a convolution, the normalisation or activation that alone reads
//! it, and the sum that alone reads that.

use super::{Graph, NodeId};
use crate::ops::Op;

/// Nodes that run together, at the place of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Links {
    /// The convolution.
    pub conv: NodeId,
    /// The normalisation.
    pub norm: Option<NodeId>,
    /// The other input of the sum.
    pub shortcut: Option<NodeId>,
}

/// The chains of a graph, each filed under its last node.
#[derive(Debug)]
pub(super) struct Chains {
    pub ending_at: Vec<Option<Links>>,
    /// The node at whose place each node runs.
    pub runs_at: Vec<NodeId>,
}

impl Chains {
    /// Chains whose nodes agree on whether they depend on a trained weight.
    pub fn of(graph: &Graph, depends: &[bool]) -> Self {
        let nodes = graph.nodes();
        let mut readers = vec![0usize; nodes.len()];
        for i in nodes.iter().flat_map(|n| &n.inputs) {
            readers[*i] += 1;
        }
        let alone = |id: NodeId, reader: NodeId| readers[id] == 1 && depends[id] == depends[reader];
        let mut chains = Self {
            ending_at: vec![None; nodes.len()],
            runs_at: (0..nodes.len()).collect(),
        };
        for (id, node) in nodes.iter().enumerate() {
            let links = match (&node.op, node.inputs.as_slice()) {
                (Op::BatchNorm(_), [conv]) if alone(*conv, id) => {
                    unbiased(graph, *conv).then_some(Links {
                        conv: *conv,
                        norm: Some(id),
                        shortcut: None,
                    })
                }
                (Op::Activate(_), [conv]) if alone(*conv, id) => {
                    matches!(nodes[*conv].op, Op::Conv2d(_)).then_some(Links {
                        conv: *conv,
                        norm: None,
                        shortcut: None,
                    })
                }
                (Op::Add(_), [a, b]) if a != b => {
                    let (late, early) = (*a.max(b), *a.min(b));
                    let linear =
                        matches!(&nodes[late].op, Op::BatchNorm(n) if n.activation.is_identity());
                    let links = chains.ending_at[late].filter(|_| linear && alone(late, id));
                    links.map(|links| Links {
                        shortcut: Some(early),
                        ..links
                    })
                }
                _ => None,
            };
            if let Some(links) = links {
                for member in [Some(links.conv), links.norm].into_iter().flatten() {
                    chains.ending_at[member] = None;
                    chains.runs_at[member] = id;
                }
                chains.ending_at[id] = Some(links);
            }
        }
        chains
    }
}

fn unbiased(graph: &Graph, conv: NodeId) -> bool {
    matches!(&graph.nodes()[conv].op, Op::Conv2d(c) if !c.bias)
}
