//! From a weight file to a network: names, layouts, and which backbone a file belongs to.
//!
//! PyTorch keeps convolution kernels as `[out, in, rows, columns]` and matrices as `[out, in]`;
//! here they are `[rows, columns, in, out]` and `[in, out]`. A matrix that reads a flattened
//! image is a kernel that covers it (`in = channels rows columns`, channels slowest), so one
//! permutation serves all, and flattening in NHWC order comes out right.

use super::blueprint::{Blueprint, Module, Scheme};
use super::{Backbone, BackboneError, all};
use crate::graph::Network;
use crate::ops::{Linear, Op};
use crate::weights::{NamedTensor, WeightFile, bind};

/// Beginnings of the names of last layers, which users replace: anything there is welcome.
const HEADS: [&str; 5] = ["fc.", "_fc.", "classifier.", "head.", "linear."];

/// A backbone with its weights.
#[derive(Clone, Debug)]
pub struct LoadedBackbone {
    /// From images `[n, h, w, 3]` to pooled features `[n, 1, 1, d]`.
    pub network: Network<f32>,
    /// The last layer, if the file carries one that fits.
    pub classifier: Option<Classifier>,
    /// Whose tensor names the file uses, such as `timm`.
    pub naming: &'static str,
}

/// A fully connected layer, from features to class scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// `[d, classes]`, row-major.
    pub weights: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
}

impl Classifier {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.bias.len()
    }
}

impl LoadedBackbone {
    /// The network followed by its classifier, `[n, 1, 1, classes]`, for checking predictions.
    pub fn with_classifier(&self) -> Option<Network<f32>> {
        let Classifier { weights, bias } = self.classifier.as_ref()?;
        if bias.is_empty() || !weights.len().is_multiple_of(bias.len()) {
            return None;
        }
        let mut graph = self.network.graph().clone();
        let linear = Linear {
            cin: weights.len() / bias.len(),
            cout: bias.len(),
            bias: true,
        };
        let last = graph.output();
        graph.push("classifier", Op::Linear(linear), &[last]);
        let parameters = [self.network.parameters(), weights, bias].concat();
        Some(Network::new(
            graph,
            parameters,
            self.network.buffers().to_vec(),
        ))
    }
}

/// The backbone that the tensors of `file` fit by their names and shapes, whatever its head.
///
/// Networks that differ in nothing that a weight file holds (paddings, epsilons, activations)
/// cannot be told apart.
pub fn detect(file: &WeightFile) -> Option<&'static Backbone> {
    all().iter().find(|backbone| {
        let blueprint = backbone.blueprint();
        (0..blueprint.schemes.len())
            .any(|scheme| bind(file, &blueprint.expected(scheme), ignored).is_ok())
    })
}

/// Joins `backbone` and the tensors of `file`.
pub(super) fn load(
    backbone: &Backbone,
    file: &WeightFile,
) -> Result<LoadedBackbone, BackboneError> {
    let blueprint = backbone.blueprint();
    let scheme = blueprint.likeliest_scheme(file);
    let tensors = match bind(file, &blueprint.expected(scheme), ignored) {
        Ok(tensors) => tensors,
        Err(error) => {
            return Err(match detect(file) {
                Some(other) if other.name() != backbone.name() => BackboneError::OtherBackbone {
                    path: file.path.clone(),
                    wanted: backbone.name(),
                    found: other.name(),
                },
                _ => error.into(),
            });
        }
    };
    let Scheme {
        label, classifier, ..
    } = blueprint.schemes[scheme];
    let network = blueprint.assemble(&tensors);
    Ok(LoadedBackbone {
        network,
        classifier: find_classifier(file, classifier, backbone.features()),
        naming: label,
    })
}

fn ignored(name: &str) -> bool {
    name.ends_with("num_batches_tracked") || HEADS.iter().any(|head| name.starts_with(head))
}

/// The last layer, if it has the right width.
fn find_classifier(file: &WeightFile, name: &str, features: usize) -> Option<Classifier> {
    let weights = file.tensors.get(&format!("{name}.weight"))?;
    let bias = file.tensors.get(&format!("{name}.bias"))?;
    let classes = bias.data.len();
    if classes == 0 || weights.shape != [classes, features] || bias.shape != [classes] {
        return None;
    }
    Some(Classifier {
        weights: kernel_layout(&weights.data, [classes, features, 1, 1]),
        bias: bias.data.clone(),
    })
}

impl Blueprint {
    /// The names and shapes of a scheme's tensors.
    pub fn expected(&self, scheme: usize) -> Vec<(String, Vec<usize>)> {
        let as_convolution = self.schemes[scheme].dense_as_convolution;
        let mut all = Vec::new();
        for module in &self.modules {
            let name = &module.names[scheme];
            let mut add = |part: &str, shape: &[usize]| {
                all.push((format!("{name}.{part}"), shape.to_vec()));
            };
            match &self.graph.nodes()[module.node].op {
                Op::BatchNorm(norm) => {
                    for part in ["weight", "bias", "running_mean", "running_var"] {
                        add(part, &[norm.channels]);
                    }
                }
                Op::Linear(linear) if !as_convolution => {
                    add("weight", &[linear.cout, linear.cin]);
                    add("bias", &[linear.cout]);
                }
                op => {
                    let (dims, bias) = kernel_dims(op, module);
                    add("weight", &dims);
                    if bias {
                        add("bias", &dims[..1]);
                    }
                }
            }
        }
        all
    }

    /// The scheme under which most names are in the file.
    fn likeliest_scheme(&self, file: &WeightFile) -> usize {
        let present = |scheme: &usize| {
            let expected = self.expected(*scheme);
            let found = expected
                .iter()
                .filter(|(name, _)| file.tensors.contains_key(name));
            found.count()
        };
        // Of equals the first, which is the most usual.
        (0..self.schemes.len())
            .rev()
            .max_by_key(present)
            .unwrap_or(0)
    }

    /// The network with these tensors, which are in the order of [`Self::expected`].
    fn assemble(self, tensors: &[&NamedTensor]) -> Network<f32> {
        let (mut parameters, mut buffers) = (Vec::new(), Vec::new());
        let mut tensors = tensors.iter();
        let mut next = || tensors.next().map_or(&[][..], |tensor| &tensor.data);
        for module in &self.modules {
            let op = &self.graph.nodes()[module.node].op;
            if let Op::BatchNorm(_) = op {
                parameters.extend_from_slice(next());
                parameters.extend_from_slice(next());
                buffers.extend_from_slice(next());
                buffers.extend_from_slice(next());
            } else {
                let (dims, bias) = kernel_dims(op, module);
                parameters.extend(kernel_layout(next(), dims));
                if bias {
                    parameters.extend_from_slice(next());
                }
            }
        }
        Network::new(self.graph, parameters, buffers)
    }
}

/// `[out, in / groups, rows, columns]` of a convolution, or of a fully connected layer seen as
/// one, and whether it has a bias.
fn kernel_dims(op: &Op, module: &Module) -> ([usize; 4], bool) {
    match op {
        Op::Conv2d(conv) => {
            let [rows, columns] = conv.window.kernel;
            (
                [conv.cout, conv.cin / conv.groups, rows, columns],
                conv.bias,
            )
        }
        Op::Linear(linear) => {
            let [rows, columns] = module.image;
            (
                [linear.cout, linear.cin / (rows * columns), rows, columns],
                linear.bias,
            )
        }
        _ => ([0; 4], false),
    }
}

/// `[out, in, rows, columns]` to `[rows, columns, in, out]`.
fn kernel_layout(values: &[f32], [outs, ins, rows, columns]: [usize; 4]) -> Vec<f32> {
    /// Outputs that are moved together: one cache line.
    const TOGETHER: usize = 16;
    let (pixels, per_out) = (rows * columns, ins * rows * columns);
    let mut kernel = vec![0.0; values.len()];
    for first in (0..outs).step_by(TOGETHER) {
        let run = first..(first + TOGETHER).min(outs);
        for i in 0..ins {
            for p in 0..pixels {
                let target = &mut kernel[(p * ins + i) * outs..][run.clone()];
                for (value, out) in target.iter_mut().zip(run.clone()) {
                    *value = values[out * per_out + i * pixels + p];
                }
            }
        }
    }
    kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_transposed() {
        let dims = [19, 2, 3, 2];
        let values: Vec<f32> = (0..19 * 12).map(|v| v as f32).collect();
        let kernel = kernel_layout(&values, dims);
        let at = |o: usize, i: usize, y: usize, x: usize| {
            kernel[((y * 2 + x) * 2 + i) * 19 + o] as usize
        };
        assert_eq!(at(0, 0, 0, 0), 0);
        assert_eq!(at(18, 1, 2, 1), 19 * 12 - 1);
        assert_eq!(at(17, 0, 2, 0), 17 * 12 + 4);
    }
}
