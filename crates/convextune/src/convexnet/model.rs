//! A fitted convex network and its file.
//!
//! The file is safetensors with tensors of double precision, so that a certificate can be recomputed from
//! it: `gates` (`P x d`), `weights` (`m x d`), `neuron_gates`, `neuron_outputs`, `neuron_signs` (`m`) and
//! `intercept` (`C`). The metadata entry `convextune` is the JSON header. See `docs/model-file.md`.

use std::collections::BTreeMap;
use std::path::Path;

use convextune_model::weights::{NamedTensor, write_safetensors};
use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::gated::{Neuron, Problem};
use serde::{Deserialize, Serialize};

use super::recovery::PlainNetwork;
use super::table::{Encoder, Table};
use super::{NetOptions, NetReport, Network, Task, targets};
use crate::error::Error;
use crate::model_file::{ENTRY, damaged, header_of, read_model, unusable};

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// What the header's `kind` says.
pub const KIND: &str = "convex-network";

/// The JSON header of a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetHeader {
    /// [`FORMAT_VERSION`] at the time of writing.
    pub format_version: u32,
    /// [`KIND`].
    pub kind: String,
    /// How rows of a table become inputs, and outputs answers.
    pub encoder: Encoder,
    /// All options of the fit.
    pub options: NetOptions,
    /// What was measured and proved.
    pub report: NetReport,
    /// Rows of the table that were trained on, counted from 0.
    pub training_rows: Vec<usize>,
}

/// A fitted model.
#[derive(Clone, Debug, PartialEq)]
pub struct NetModel {
    /// Everything but the numbers.
    pub header: NetHeader,
    /// The numbers.
    pub network: Network,
}

/// What the header holds of the network.
#[derive(Serialize, Deserialize)]
struct Linear {
    linear_gate: Option<usize>,
}

/// The header as it is written.
#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    header: &'a NetHeader,
    #[serde(flatten)]
    linear: Linear,
}

/// Answers for rows of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    /// Classification.
    Classes {
        /// An index into the encoder's classes for every row.
        classes: Vec<usize>,
        /// The scores of all `K` classes, `n x K`, not probabilities. Those of two classes are the output
        /// and its negative.
        scores: Mat<f64>,
    },
    /// Regression: values in the units of the target.
    Values(Vec<f64>),
}

impl NetModel {
    /// A header and a network that belong together.
    pub fn new(
        encoder: Encoder,
        options: NetOptions,
        report: NetReport,
        training_rows: Vec<usize>,
        network: Network,
    ) -> Self {
        let header = NetHeader {
            format_version: FORMAT_VERSION,
            kind: KIND.to_owned(),
            encoder,
            options,
            report,
            training_rows,
        };
        Self { header, network }
    }

    /// Outputs on some rows, `n x C`.
    ///
    /// # Errors
    /// When the table lacks columns or holds what cannot be encoded.
    pub fn outputs(&self, table: &Table, rows: &[usize]) -> Result<Mat<f64>, Error> {
        let x = self.header.encoder.features(table, rows)?;
        Ok(self.network.predict(x.as_ref()))
    }

    /// What `outputs` stand for.
    pub fn answers(&self, outputs: MatRef<'_, f64>) -> Predictions {
        let encoder = &self.header.encoder;
        let rows = 0..outputs.nrows();
        match encoder.task() {
            Task::Regression => {
                Predictions::Values(rows.map(|s| encoder.value(outputs[(s, 0)])).collect())
            }
            Task::Classification => Predictions::Classes {
                classes: rows.map(|s| targets::class(outputs, s)).collect(),
                scores: Mat::from_fn(outputs.nrows(), encoder.classes().len(), |s, c| {
                    match (outputs.ncols(), c) {
                        (1, 0) => -outputs[(s, 0)],
                        (1, _) => outputs[(s, 0)],
                        _ => outputs[(s, c)],
                    }
                }),
            },
        }
    }

    /// The network as a plain one.
    ///
    /// # Errors
    /// When a singular value decomposition fails.
    pub fn plain(&self) -> Result<PlainNetwork, Error> {
        PlainNetwork::of(&self.network, self.header.options.penalty)
    }

    /// `F + (lambda/2) (||W1||^2 + ||W2||^2)` of a plain network as a candidate for `problem`.
    pub fn nonconvex_objective(problem: &Problem, network: &PlainNetwork) -> f64 {
        let z = network.predict(problem.matrix.x());
        problem.loss.value(z.as_ref(), problem.targets.as_ref()) + problem.lambda * network.decay()
    }

    /// That the rows trained on are rows of `table`.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_training_rows(&self, table: &Table) -> Result<(), Error> {
        let last = self.header.training_rows.iter().max().copied();
        match last {
            Some(last) if last >= table.rows() => Err(Error::Table {
                path: table.path().to_owned(),
                reason: format!(
                    "has {} rows, but the model was trained on rows up to number {}; give the table of \
                     the fit",
                    table.rows(),
                    last + 1
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Writes the model, all or nothing.
    ///
    /// # Errors
    /// When the file cannot be written; an existing one is then left as it was.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let Network {
            gates,
            linear,
            neurons,
            intercept,
            ..
        } = &self.network;
        let d = gates.nrows();
        let of = |f: fn(&Neuron) -> f64| neurons.iter().map(f).collect();
        let column = |i| gates.col_as_slice(i);
        let tensors = BTreeMap::from([
            tensor(
                "gates",
                &[gates.ncols(), d],
                (0..gates.ncols()).flat_map(column).copied().collect(),
            ),
            tensor(
                "weights",
                &[neurons.len(), d],
                neurons.iter().flat_map(|n| &n.weights).copied().collect(),
            ),
            tensor("neuron_gates", &[neurons.len()], of(|n| n.gate as f64)),
            tensor("neuron_outputs", &[neurons.len()], of(|n| n.output as f64)),
            tensor("neuron_signs", &[neurons.len()], of(|n| n.sign)),
            tensor("intercept", &[intercept.len()], intercept.clone()),
        ]);
        let stored = Stored {
            header: &self.header,
            linear: Linear {
                linear_gate: *linear,
            },
        };
        let header = serde_json::to_string(&stored)
            .map_err(|e| unusable(path, format!("its header cannot be written: {e}")))?;
        let metadata = BTreeMap::from([(ENTRY.to_owned(), header)]);
        write_safetensors(path, &tensors, &metadata)?;
        Ok(())
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// When the file is not a model file of this kind, is damaged, or was written by a newer version.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let (tensors, metadata) = read_model::<f64>(path)?;
        let text = header_of(path, &metadata, Some(KIND), FORMAT_VERSION)?;
        let header: NetHeader = serde_json::from_str(&text).map_err(|e| damaged(path, &e))?;
        let linear: Linear = serde_json::from_str(&text).map_err(|e| damaged(path, &e))?;
        let outputs = targets::outputs(header.encoder.classes().len());
        let tensors = Tensors {
            path,
            by_name: tensors,
            features: header.encoder.width(),
            outputs,
        };
        let network = tensors.network(&header.options, linear.linear_gate)?;
        Ok(Self { header, network })
    }
}

fn tensor(name: &str, shape: &[usize], data: Vec<f64>) -> (String, NamedTensor<f64>) {
    let shape = shape.to_vec();
    (name.to_owned(), NamedTensor { shape, data })
}

/// The tensors of a file, with what their shapes must be.
struct Tensors<'a> {
    path: &'a Path,
    by_name: BTreeMap<String, NamedTensor<f64>>,
    /// `d`.
    features: usize,
    /// `C`.
    outputs: usize,
}

impl Tensors<'_> {
    fn network(&self, options: &NetOptions, linear: Option<usize>) -> Result<Network, Error> {
        let d = self.features;
        let gates = self.rows("gates")?;
        let weights = self.rows("weights")?;
        let (p, m) = (gates.len() / d, weights.len() / d);
        let gate = self.indices("neuron_gates", m, p)?;
        let output = self.indices("neuron_outputs", m, self.outputs)?;
        let sign = self.vector("neuron_signs", m)?;
        if let Some(wrong) = sign.iter().find(|s| ![1.0, -1.0].contains(*s)) {
            return Err(self.unusable(format!("tensor `neuron_signs` holds {wrong}, not 1 or -1")));
        }
        if let Some(gate) = linear.filter(|gate| *gate >= p) {
            let reason =
                format!("its header is damaged: it has {p} gates, but the linear one is {gate}");
            return Err(self.unusable(reason));
        }
        let neuron = |k: usize| Neuron {
            gate: gate[k],
            output: output[k],
            sign: sign[k],
            weights: weights[k * d..(k + 1) * d].to_vec(),
        };
        Ok(Network {
            activation: options.activation,
            gates: Mat::from_fn(d, p, |j, i| gates[i * d + j]),
            linear,
            neurons: (0..m).map(neuron).collect(),
            intercept: self.vector("intercept", self.outputs)?.to_vec(),
        })
    }

    fn tensor(&self, name: &str) -> Result<&NamedTensor<f64>, Error> {
        let missing = || self.unusable(format!("tensor `{name}` is missing"));
        self.by_name.get(name).ok_or_else(missing)
    }

    /// The numbers of a matrix with `d` columns.
    fn rows(&self, name: &str) -> Result<&[f64], Error> {
        let tensor = self.tensor(name)?;
        match tensor.shape[..] {
            [_, d] if d == self.features && d > 0 => Ok(&tensor.data),
            _ => Err(self.unusable(format!(
                "tensor `{name}` is of shape {:?} instead of [any, {}]",
                tensor.shape, self.features
            ))),
        }
    }

    fn vector(&self, name: &str, len: usize) -> Result<&[f64], Error> {
        let tensor = self.tensor(name)?;
        if tensor.data.len() == len {
            return Ok(&tensor.data);
        }
        Err(self.unusable(format!(
            "tensor `{name}` has {} numbers instead of {len}",
            tensor.data.len()
        )))
    }

    /// Whole numbers below `limit`.
    fn indices(&self, name: &str, len: usize, limit: usize) -> Result<Vec<usize>, Error> {
        let index = |value: &f64| {
            let whole = *value >= 0.0 && value.fract() == 0.0 && *value < limit as f64;
            let wrong = || {
                self.unusable(format!(
                    "tensor `{name}` holds {value}, not an index below {limit}"
                ))
            };
            whole.then_some(*value as usize).ok_or_else(wrong)
        };
        self.vector(name, len)?.iter().map(index).collect()
    }

    fn unusable(&self, reason: String) -> Error {
        unusable(self.path, reason)
    }
}

#[cfg(test)]
mod tests;
