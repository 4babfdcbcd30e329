//! Reading a two-layer ReLU network from a weight file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use convextune_model::weights::{
    NamedTensor, WeightFile, WeightsError, read_safetensors_with_metadata,
};
use convextune_solve::faer::{Mat, MatRef};

use crate::error::Error;
use crate::model_file::unusable;

/// Names of the four tensors: ours, and those of `torch.nn.Sequential(Linear, ReLU, Linear)`.
const NAMES: [[&str; 4]; 2] = [
    ["w1", "b1", "w2", "b2"],
    ["0.weight", "0.bias", "2.weight", "2.bias"],
];

/// A two-layer ReLU network.
#[derive(Clone, Debug, PartialEq)]
pub struct ReluNetwork {
    path: PathBuf,
    /// Weights of hidden units, `d x m`.
    pub w1: Mat<f64>,
    /// Their biases, length `m`.
    pub b1: Option<Vec<f64>>,
    /// Output weights, `m x C`.
    pub w2: Mat<f64>,
    /// Output biases, length `C`.
    pub b2: Option<Vec<f64>>,
}

impl ReluNetwork {
    /// Reads `w1` (`m x d`), `b1` (`m`), `w2` (`C x m`), `b2` (`C`), or `0.weight`, `0.bias`, `2.weight`,
    /// `2.bias` of the same shapes, biases if they are there; from safetensors or a PyTorch state_dict.
    ///
    /// # Errors
    /// When the file cannot be read, tensors are missing, or their shapes do not fit together.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let tensors = tensors(path)?;
        let Some(names) = NAMES.iter().find(|names| tensors.contains_key(names[0])) else {
            let found: Vec<&str> = tensors.keys().take(8).map(String::as_str).collect();
            let reason = format!(
                "holds no two-layer network: it needs w1 and w2 (b1, b2), or 0.weight and 2.weight \
                 (0.bias, 2.bias), and has {found:?}"
            );
            return Err(unusable(path, reason));
        };
        let [w1, b1, w2, b2] = names.map(|name| (name, tensors.get(name)));
        if tensors.contains_key("gate_weights") || tensors.contains_key("linear_weights") {
            let reason = "has gates or linear units: only ReLU networks are checked, models by \
                          `convextune nn certify`";
            return Err(unusable(path, reason.into()));
        }
        let w1 = matrix(path, w1)?;
        let w2 = matrix(path, w2)?;
        let (m, outputs) = (w1.ncols(), w2.ncols());
        if w2.nrows() != m {
            let reason = format!(
                "has {m} hidden units in `{}`, but {} in `{}`",
                names[0],
                w2.nrows(),
                names[2]
            );
            return Err(unusable(path, reason));
        }
        Ok(Self {
            path: path.to_owned(),
            b1: vector(path, b1, m)?,
            b2: vector(path, b2, outputs)?,
            w1,
            w2,
        })
    }

    /// `w1` with `b1` as its last row, `d x m`.
    pub(super) fn stacked(&self) -> Mat<f64> {
        let d = self.w1.nrows();
        Mat::from_fn(
            d + usize::from(self.b1.is_some()),
            self.w1.ncols(),
            |j, k| match &self.b1 {
                Some(b1) if j == d => b1[k],
                _ => self.w1[(j, k)],
            },
        )
    }

    /// The columns of [`Self::stacked`] of units that are on for a row of `x` and feed an output.
    pub(super) fn live(&self, x: MatRef<'_, f64>) -> Result<Mat<f64>, Error> {
        let all = self.stacked();
        let scores = x * &all;
        let live = |k: &usize| {
            let on = (0..x.nrows()).any(|s| scores[(s, *k)] > 0.0);
            on && (0..self.w2.ncols()).any(|c| self.w2[(*k, c)] != 0.0)
        };
        let live: Vec<usize> = (0..all.ncols()).filter(live).collect();
        if live.is_empty() {
            let reason = "has no unit that is on for a training row and feeds an output";
            return Err(unusable(&self.path, reason.into()));
        }
        Ok(Mat::from_fn(all.nrows(), live.len(), |j, k| {
            all[(j, live[k])]
        }))
    }

    /// That the network reads so many features and has so many outputs.
    pub(super) fn check_fits(&self, features: usize, outputs: usize) -> Result<(), Error> {
        let (d, c) = (self.w1.nrows(), self.w2.ncols());
        let reason = if d != features {
            format!("reads {d} features, but the table has {features} once encoded")
        } else if c != outputs {
            format!("has {c} outputs, but the target needs {outputs} (two classes share one)")
        } else {
            return Ok(());
        };
        Err(unusable(&self.path, reason))
    }
}

/// All tensors, in double precision where the file has it.
fn tensors(path: &Path) -> Result<BTreeMap<String, NamedTensor<f64>>, Error> {
    match read_safetensors_with_metadata(path) {
        Ok((tensors, _)) => Ok(tensors),
        Err(WeightsError::UnknownFormat { .. }) => {
            let file = WeightFile::read(path)?;
            let wide = |(name, t): (String, NamedTensor)| {
                let data = t.data.into_iter().map(f64::from).collect();
                (
                    name,
                    NamedTensor {
                        shape: t.shape,
                        data,
                    },
                )
            };
            Ok(file.tensors.into_iter().map(wide).collect())
        }
        Err(error) => Err(error.into()),
    }
}

/// A matrix stored as rows, transposed.
fn matrix(
    path: &Path,
    (name, tensor): (&str, Option<&NamedTensor<f64>>),
) -> Result<Mat<f64>, Error> {
    let Some(tensor) = tensor else {
        return Err(unusable(path, format!("tensor `{name}` is missing")));
    };
    match tensor.shape[..] {
        [rows, columns] if rows > 0 && columns > 0 => Ok(Mat::from_fn(columns, rows, |j, k| {
            tensor.data[k * columns + j]
        })),
        _ => {
            let reason = format!(
                "tensor `{name}` is of shape {:?}, not a matrix",
                tensor.shape
            );
            Err(unusable(path, reason))
        }
    }
}

fn vector(
    path: &Path,
    (name, tensor): (&str, Option<&NamedTensor<f64>>),
    len: usize,
) -> Result<Option<Vec<f64>>, Error> {
    match tensor {
        Some(tensor) if tensor.data.len() != len => {
            let reason = format!(
                "tensor `{name}` has {} numbers instead of {len}",
                tensor.data.len()
            );
            Err(unusable(path, reason))
        }
        other => Ok(other.map(|tensor| tensor.data.clone())),
    }
}
