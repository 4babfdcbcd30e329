//! A fitted network for other programs: plain tensors, or an ONNX graph.

use std::collections::BTreeMap;
use std::path::Path;

use convextune_model::weights::{NamedTensor, write_atomically, write_safetensors};
use serde_json::json;

use super::model::NetModel;
use super::onnx::{self, OutputScale, Standardisation};
use super::recovery::{Gate, PlainNetwork, Unit};
use super::table::Encoder;
use crate::error::Error;
use crate::model_file::{ENTRY, unusable};

/// What the header's `kind` says of exported tensors.
pub const PLAIN_KIND: &str = "plain-network";

/// The kind of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tensors by name.
    Safetensors,
    /// A graph.
    Onnx,
}

impl Format {
    /// By the ending of a file's name.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "safetensors" => Some(Self::Safetensors),
            "onnx" => Some(Self::Onnx),
            _ => None,
        }
    }
}

/// Writes `network`, a plain network of `model`, all or nothing.
///
/// Tensors: `w1` (`m x d`), `b1` (`m`), `w2` (`C x m`), `b2` (`C`); with gates `gate_weights`, `gate_biases`;
/// with linear units `linear_weights` (`C x d`), `linear_biases`; and `input_shift`, `input_scale` (`d`),
/// `output_shift`, `output_scale` (1). Biases are there if the model has them.
///
/// # Errors
/// When the file cannot be written; an existing one is then left as it was.
pub fn write(
    model: &NetModel,
    network: &PlainNetwork,
    format: Format,
    path: &Path,
) -> Result<(), Error> {
    let encoder = &model.header.encoder;
    let about = json!({
        "kind": PLAIN_KIND,
        "format_version": super::model::FORMAT_VERSION,
        "activation": model.header.options.activation,
        "target": encoder.target(),
        "classes": encoder.classes(),
        "features": &encoder.feature_names()[..inputs(encoder)],
    });
    let about = about.to_string();
    match format {
        Format::Safetensors => {
            let tensors = tensors(encoder, network);
            write_safetensors(path, &tensors, &BTreeMap::from([(ENTRY.to_owned(), about)]))?;
        }
        Format::Onnx => {
            let bytes = graph(encoder, network, &about);
            if bytes.len() > LARGEST_GRAPH {
                let reason = "would be an ONNX file of more than 2 GB, which no program reads; export to \
                              safetensors";
                return Err(unusable(path, reason.into()));
            }
            write_atomically(path, |out| out.write_all(&bytes))?;
        }
    }
    Ok(())
}

/// Protocol buffers end here.
const LARGEST_GRAPH: usize = i32::MAX as usize;

/// The network as an ONNX model from raw features to outputs in the units of the target.
fn graph(encoder: &Encoder, network: &PlainNetwork, about: &str) -> Vec<u8> {
    let (shift, scale) = encoder.scales();
    let (output_shift, output_scale) = encoder.target_scale();
    let output = OutputScale {
        scale: output_scale,
        shift: output_shift,
    };
    let bias = encoder.width() > shift.len();
    let input = Standardisation { shift, scale };
    onnx::encode(network, &input, output, bias, &[(ENTRY, about)])
}

/// Encoded features, without the ones.
fn inputs(encoder: &Encoder) -> usize {
    encoder.scales().0.len()
}

fn tensors(encoder: &Encoder, network: &PlainNetwork) -> BTreeMap<String, NamedTensor<f64>> {
    let (shift, scale) = encoder.scales();
    let (output_shift, output_scale) = encoder.target_scale();
    let (d, outputs) = (shift.len(), network.intercept.len());
    let bias = encoder.width() > d;
    let (linear, units): (Vec<&Unit>, Vec<&Unit>) =
        network.units.iter().partition(|u| u.gate == Gate::Linear);
    let mut tensors = BTreeMap::new();
    let mut put = |name: &str, shape: &[usize], data: Vec<f64>| {
        let shape = shape.to_vec();
        tensors.insert(name.to_owned(), NamedTensor { shape, data });
    };
    let m = units.len();
    let weights = |w: &[f64]| w[..d].to_vec();
    put(
        "w1",
        &[m, d],
        units.iter().flat_map(|u| weights(&u.hidden)).collect(),
    );
    let output = |c: usize| units.iter().map(move |u| u.output[c]);
    put("w2", &[outputs, m], (0..outputs).flat_map(output).collect());
    put("b2", &[outputs], network.intercept.clone());
    let gates: Vec<&[f64]> = units.iter().filter_map(|u| vector(u)).collect();
    let gated = !gates.is_empty();
    if gated {
        put(
            "gate_weights",
            &[m, d],
            gates.iter().flat_map(|g| weights(g)).collect(),
        );
    }
    let product = |c: usize, j: usize| {
        linear
            .iter()
            .map(|u| u.output[c] * u.hidden[j])
            .sum::<f64>()
    };
    if !linear.is_empty() {
        let row = |c: usize| (0..d).map(move |j| (c, j));
        let all = (0..outputs).flat_map(row).map(|(c, j)| product(c, j));
        put("linear_weights", &[outputs, d], all.collect());
    }
    if bias {
        put("b1", &[m], units.iter().map(|u| u.hidden[d]).collect());
        if gated {
            put("gate_biases", &[m], gates.iter().map(|g| g[d]).collect());
        }
        if !linear.is_empty() {
            put(
                "linear_biases",
                &[outputs],
                (0..outputs).map(|c| product(c, d)).collect(),
            );
        }
    }
    put("input_shift", &[d], shift);
    put("input_scale", &[d], scale);
    put("output_shift", &[1], vec![output_shift]);
    put("output_scale", &[1], vec![output_scale]);
    tensors
}

fn vector(unit: &Unit) -> Option<&[f64]> {
    match &unit.gate {
        Gate::Vector(g) => Some(g),
        Gate::Relu | Gate::Linear => None,
    }
}
