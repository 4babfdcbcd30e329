//! What a fit leaves: a model that predicts, and its file.
//!
//! A model file is a safetensors file. Its metadata entry `convextune` is a JSON header; its
//! tensors are, by name: `w0/<node>.<role>` (pre-trained weights and head), `stats/<node>` (frozen
//! statistics), `u/<node>.<role>` (their change, trained part only), `bias`. See
//! `docs/model-file.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use convextune_model::backbones::by_name;
use convextune_model::graph::{Network, NodeId};
use convextune_model::images::{SplitOrigin, Transform};
use convextune_model::ops::{Op, Role};
use convextune_model::weights::{
    Element, Metadata, NamedTensor, WeightFile, WeightsError, read_safetensors_metadata,
    read_safetensors_with_metadata, write_safetensors,
};
use convextune_solve::faer::Mat;
use serde::{Deserialize, Serialize};

use crate::convexnet;
use crate::error::Error;
use crate::finetune::{FitOptions, LqfModel, Method};
use crate::kept_kernel::KeptKernel;
use crate::linearize::{Copies, Linearization, batch_of_copies};
use crate::progress::Reporter;
use crate::report::FitReport;
use crate::samples::Samples;
use crate::update::Change;

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The metadata entry.
pub(crate) const ENTRY: &str = "convextune";
/// Name of the head's node.
pub const HEAD: &str = "head.classifier";

/// The JSON header of a model file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT_VERSION`] at the time of writing.
    pub format_version: u32,
    /// Canonical name of the backbone.
    pub backbone: String,
    /// Class names; a class is an index into them.
    pub classes: Vec<String>,
    /// Preprocessing.
    pub transform: Transform,
    /// Name of the first node whose weights are trained.
    pub first_trainable: String,
    /// All options of the fit.
    pub options: FitOptions,
    /// SHA-256 of the training set.
    pub training_set: String,
    /// How training and test images were told apart.
    pub split: SplitOrigin,
    /// Absolute path of the folder at the time of the fit; absent where it is not UTF-8 and from
    /// older files. Where the images are, never what they are: that is `training_set`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Of a model that was changed after its fit: the digest of every training image
    /// ([`convextune_model::images::ImageDigest::member`]), sorted. `None`: they are those of
    /// `folder` by `split`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_images: Option<Vec<String>>,
    /// Absolute paths of the folders that images were added from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_folders: Vec<String>,
    /// What was done to the model after its fit, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What was measured and proved.
    pub report: FitReport,
}

impl Header {
    /// Rows of the dual kernel: one a training image, or one for each of its classes where they share the weights.
    pub(crate) fn kernel_rows(&self) -> usize {
        let (options, classes) = (&self.options, self.classes.len());
        let shared = options.method == Method::Lqf && options.copies(classes) == 1;
        let each = if shared { classes } else { 1 };
        self.report.train_samples.saturating_mul(each)
    }
}

/// A fitted model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Everything but the numbers.
    pub header: Header,
    /// The numbers. A head-only model has an empty `u`.
    pub body: LqfModel,
    /// The dual kernel of the training images, where the fit formed it and it was kept.
    pub kernel: Option<Arc<KeptKernel>>,
}

/// Only the kind and the version, read first so that a foreign or newer file gets a clear answer.
#[derive(Deserialize)]
struct Opening {
    format_version: u32,
    /// Absent from models of pictures.
    #[serde(default)]
    kind: Option<String>,
}

impl Opening {
    fn read(path: &Path, metadata: &Metadata) -> Result<(Self, String), Error> {
        let header = metadata.get(ENTRY).ok_or_else(|| {
            let reason =
                "is a weight file, not a model that `convextune fit` or `convextune nn fit` wrote; give \
                 the model, or fit one with --weights";
            unusable(path, reason.into())
        })?;
        let opening = serde_json::from_str(header).map_err(|e| damaged(path, &e))?;
        Ok((opening, header.clone()))
    }
}

/// The JSON header of a model file of one kind (`None`: of pictures), of a version that is not newer than
/// `newest`.
pub(crate) fn header_of(
    path: &Path,
    metadata: &Metadata,
    kind: Option<&str>,
    newest: u32,
) -> Result<String, Error> {
    let (opening, header) = Opening::read(path, metadata)?;
    if opening.kind.as_deref() != kind {
        let reason = match opening.kind.as_deref() {
            None => "is a model of pictures that `convextune fit` wrote, and a network on a table is needed, \
                     which `convextune nn fit` writes; for pictures there is `convextune predict`"
                .into(),
            Some(convexnet::KIND) => {
                "is a convex network that `convextune nn fit` wrote, and a model of pictures is needed, \
                 which `convextune fit` writes; for tables there is `convextune nn predict`"
                    .into()
            }
            Some(convexnet::PLAIN_KIND) => {
                "holds the weights that `convextune nn export` wrote, not the model; give the model"
                    .into()
            }
            Some(other) => format!("is a model of an unknown kind, {other:?}; update convextune"),
        };
        return Err(unusable(path, reason));
    }
    if opening.format_version > newest {
        let reason = format!(
            "was written by a newer convextune (format version {}, this one reads up to {newest}); \
             update convextune",
            opening.format_version
        );
        return Err(unusable(path, reason));
    }
    Ok(header)
}

/// Tensors and metadata of a file that should be a model.
pub(crate) fn read_model<T: Element>(
    path: &Path,
) -> Result<(BTreeMap<String, NamedTensor<T>>, Metadata), Error> {
    of_model(read_safetensors_with_metadata(path))
}

/// What was read of a file that should be a model.
fn of_model<R>(read: Result<R, WeightsError>) -> Result<R, Error> {
    match read {
        Err(WeightsError::UnknownFormat { path, found }) => {
            let reason = format!(
                "is not a model ({found}); give a file that `convextune fit` or `convextune nn fit` wrote"
            );
            Err(unusable(&path, reason))
        }
        read => Ok(read?),
    }
}

/// That a weight file is not a model, whose tensors have other names than a backbone's.
///
/// # Errors
/// When it is one.
pub fn check_no_model(file: &WeightFile) -> Result<(), Error> {
    if !file.metadata.contains_key(ENTRY) {
        return Ok(());
    }
    let reason = "is a model that convextune wrote, and the weights of a backbone are needed; give the \
                  weight file of the backbone, such as `convextune backbone pull` fetches";
    Err(unusable(&file.path, reason.into()))
}

/// Whether a model file holds a convex network, by its header.
///
/// # Errors
/// When the file is no model file.
pub fn is_convex_network(path: &Path) -> Result<bool, Error> {
    let metadata = of_model(read_safetensors_metadata(path))?;
    let (opening, _) = Opening::read(path, &metadata)?;
    Ok(opening.kind.as_deref() == Some(convexnet::KIND))
}

impl Model {
    /// Outputs for all samples, `n x C`.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn outputs(&self, samples: &Samples, reporter: &dyn Reporter) -> Result<Mat<f64>, Error> {
        let LqfModel {
            network,
            first_trainable,
            u,
            bias,
            keep_f0,
        } = &self.body;
        let (options, classes) = (&self.header.options, bias.len());
        let first = *first_trainable;
        let copies = options.copies(classes);
        let batch = batch_of_copies(network, first, options.batch, copies);
        let lin = Linearization::new(network, first, samples, batch, reporter)?;
        let outputs = if options.method == Method::Lqf {
            let jacobian = Copies::new(&lin, copies)?;
            let u: Vec<f64> = u.iter().map(|u| f64::from(*u)).collect();
            let (f0, mut ju) = jacobian.outputs_at(&u)?;
            if *keep_f0 {
                ju.iter_mut().zip(f0).for_each(|(ju, f)| *ju += f);
            }
            ju
        } else {
            lin.f0()?
        };
        let output = |i: usize, c: usize| outputs[i * classes + c] + bias[c];
        Ok(Mat::from_fn(samples.len(), classes, output))
    }

    /// Writes the model, all or nothing.
    ///
    /// # Errors
    /// When the file cannot be written; an existing one is then left as it was.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let network = &self.body.network;
        let mut tensors = BTreeMap::new();
        let copies = self.header.options.copies(self.header.classes.len());
        let offset = network.parameters().len() - self.body.u.len() / copies;
        for p in network.graph().parameters() {
            let name = format!(
                "{}.{}",
                network.graph().nodes()[p.node].name,
                role_name(p.role)
            );
            let tensor = |shape: Vec<usize>, data: &[f32]| NamedTensor {
                shape,
                data: data.to_vec(),
            };
            if p.range.start >= offset {
                let range = (p.range.start - offset) * copies..(p.range.end - offset) * copies;
                let shape = if copies == 1 {
                    p.dims.clone()
                } else {
                    [p.dims.as_slice(), &[copies]].concat()
                };
                tensors.insert(format!("u/{name}"), tensor(shape, &self.body.u[range]));
            }
            let w0 = &network.parameters()[p.range.clone()];
            tensors.insert(format!("w0/{name}"), tensor(p.dims.clone(), w0));
        }
        for (id, node) in network.graph().nodes().iter().enumerate() {
            let data = network.node_weights(id).buffers.to_vec();
            if !data.is_empty() {
                let shape = vec![2, data.len() / 2];
                tensors.insert(format!("stats/{}", node.name), NamedTensor { shape, data });
            }
        }
        let bias: Vec<f32> = self.body.bias.iter().map(|b| *b as f32).collect();
        tensors.insert(
            "bias".into(),
            NamedTensor {
                shape: vec![bias.len()],
                data: bias,
            },
        );
        tensors.extend(self.kernel.iter().flat_map(|kernel| kernel.tensors()));
        let header = serde_json::to_string(&self.header)
            .map_err(|e| unusable(path, format!("its header cannot be written: {e}")))?;
        write_safetensors(
            path,
            &tensors,
            &BTreeMap::from([(ENTRY.to_owned(), header)]),
        )?;
        Ok(())
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// When the file is not a model file, is damaged, or was written by a newer version.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let (mut tensors, metadata) = read_model(path)?;
        let header = header_of(path, &metadata, None, FORMAT_VERSION)?;
        let header: Header = serde_json::from_str(&header).map_err(|e| damaged(path, &e))?;
        if header.options.batch == 0 || header.classes.is_empty() {
            let reason = "its header is damaged: it names no classes, or batches of 0 images";
            return Err(unusable(path, reason.into()));
        }
        let body = assemble(path, &header, &mut tensors)?;
        let kernel = KeptKernel::take(path, &mut tensors, header.kernel_rows())?.map(Arc::new);
        Ok(Self {
            header,
            body,
            kernel,
        })
    }
}

pub(crate) fn unusable(path: &Path, reason: String) -> Error {
    Error::Model {
        path: path.to_owned(),
        reason,
    }
}

pub(crate) fn damaged(path: &Path, error: &serde_json::Error) -> Error {
    unusable(path, format!("its header is damaged: {error}"))
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Kernel => "kernel",
        Role::Bias => "bias",
        Role::Gamma => "gamma",
        Role::Beta => "beta",
    }
}

/// The network of a header, with the file's numbers.
fn assemble(
    path: &Path,
    header: &Header,
    tensors: &mut BTreeMap<String, NamedTensor>,
) -> Result<LqfModel, Error> {
    let backbone = by_name(&header.backbone).map_err(|e| unusable(path, e.to_string()))?;
    let mut graph = backbone.graph();
    let slope = header.options.leaky_slope as f32;
    graph.swap_activation(|activation| activation.leaky(slope));
    let classes = header.classes.len();
    let copies = header.options.copies(classes);
    let linear = convextune_model::ops::Linear {
        cin: backbone.features(),
        cout: classes / copies,
        bias: false,
    };
    let last = graph.output();
    graph.push(HEAD, Op::Linear(linear), &[last]);
    let first_trainable: NodeId = graph.find(&header.first_trainable)?;

    let mut take = |name: String, len: usize| -> Result<Vec<f32>, Error> {
        match tensors.remove(&name) {
            Some(tensor) if tensor.data.len() == len => Ok(tensor.data),
            Some(tensor) => Err(unusable(
                path,
                format!(
                    "tensor `{name}` has {} numbers instead of {len}",
                    tensor.data.len()
                ),
            )),
            None => Err(unusable(path, format!("tensor `{name}` is missing"))),
        }
    };
    let (mut w0, mut u, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
    for p in graph.parameters() {
        let name = format!("{}.{}", graph.nodes()[p.node].name, role_name(p.role));
        w0.extend(take(format!("w0/{name}"), p.range.len())?);
        if header.options.method == Method::Lqf && p.node >= first_trainable {
            u.extend(take(format!("u/{name}"), p.range.len() * copies)?);
        }
    }
    for node in graph.nodes() {
        let count = node
            .op
            .operator::<f32>()
            .map_or(0, convextune_model::ops::Operator::buffers);
        if count > 0 {
            statistics.extend(take(format!("stats/{}", node.name), count)?);
        }
    }
    let bias = take("bias".into(), classes)?
        .into_iter()
        .map(f64::from)
        .collect();
    let network = Network::new(graph, w0, statistics);
    Ok(LqfModel {
        network,
        first_trainable,
        u,
        bias,
        keep_f0: header.options.keep_f0,
    })
}
