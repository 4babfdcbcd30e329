//! A plain network as an ONNX graph in double precision (`onnx.proto`, IR version 8, opset 13), encoded by
//! hand.
//!
//! ```text
//!     features ─ Sub(mean) ─ Div(scale) ─┬─ Gemm(w1, b1) ─ Relu ──────────────────┐
//!                                        ├─ Gemm(w1, b1) ──────────────────┬─ Mul ┼─ Gemm(w2, b2) ─ outputs
//!                                        ├─ Gemm(gates) ─ Greater(0) ─ Cast┘      │
//!                                        └────────────────────────────────────────┘
//! ```
//!
//! with the first line for ReLU and the second and third for gated units. Linear units join the last
//! product by a `Gemm` of their own, whose result is added.
//!
//! A protocol buffer message is a row of fields: a varint `field << 3 | type`, then for type 0 a varint and
//! for type 2 a length and bytes. Only what these messages need is here.

use convextune_solve::faer::Mat;

use super::recovery::{Gate, PlainNetwork, Unit};

/// `TensorProto.DataType.DOUBLE`.
const DOUBLE: u64 = 11;
/// `AttributeProto.AttributeType.INT`.
const INT: u64 = 2;
const IR_VERSION: u64 = 8;
const OPSET: u64 = 13;

/// A map `x -> (x - shift) / scale` of every feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardisation {
    /// What is subtracted, one number a feature, the bias not among them.
    pub shift: Vec<f64>,
    /// What the difference is divided by.
    pub scale: Vec<f64>,
}

/// What outputs are multiplied by and then shifted by, to be in the units of the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputScale {
    /// The factor.
    pub scale: f64,
    /// The shift.
    pub shift: f64,
}

/// The bytes of a `ModelProto`: input `features` (`N x d`, not standardised, bias not among them), output
/// `outputs` (`N x C`). `bias`: the last entry of every weight vector is a bias. `entries` are stored as the model's
/// metadata.
pub fn encode(
    network: &PlainNetwork,
    input: &Standardisation,
    output: OutputScale,
    bias: bool,
    entries: &[(&str, &str)],
) -> Vec<u8> {
    let mut graph = Graph::default();
    let layers = Layers::new(network, input.shift.len(), output, bias);
    graph.row("mean", &input.shift);
    graph.row("scale", &input.scale);
    graph.node("Sub", &["features", "mean"], "centred", &[]);
    graph.node("Div", &["centred", "scale"], "encoded", &[]);
    layers.add_to(&mut graph);
    let mut model = Message::default();
    model.varint(1, IR_VERSION);
    model.text(2, "convextune");
    model.text(3, env!("CARGO_PKG_VERSION"));
    model.message(7, &graph.finish(input.shift.len(), network.intercept.len()));
    let mut opset = Message::default();
    opset.text(1, "");
    opset.varint(2, OPSET);
    model.message(8, &opset);
    for (key, value) in entries {
        let mut entry = Message::default();
        entry.text(1, key);
        entry.text(2, value);
        model.message(14, &entry);
    }
    model.0
}

/// The matrices of the graph, units in rows as `Gemm` with `transB` wants them.
struct Layers {
    hidden: Affine,
    gates: Option<Affine>,
    /// `C x m`, and the output biases.
    output: Affine,
    /// `C x d`.
    linear: Option<Affine>,
}

/// `x -> W x + b`.
struct Affine {
    weight: Mat<f64>,
    bias: Vec<f64>,
}

impl Affine {
    /// From weight vectors of length `d`, or `d + 1` with the bias last.
    fn rows(vectors: &[&[f64]], d: usize) -> Self {
        Self {
            weight: Mat::from_fn(vectors.len(), d, |k, j| vectors[k][j]),
            bias: vectors
                .iter()
                .map(|v| v.get(d).copied().unwrap_or(0.0))
                .collect(),
        }
    }
}

impl Layers {
    fn new(network: &PlainNetwork, d: usize, scale: OutputScale, bias: bool) -> Self {
        let outputs = network.intercept.len();
        let (linear, units): (Vec<&Unit>, Vec<&Unit>) =
            network.units.iter().partition(|u| u.gate == Gate::Linear);
        // An empty layer is no valid tensor everywhere; one unit of zeros is.
        let zero = Unit {
            gate: Gate::Relu,
            hidden: vec![0.0; d + usize::from(bias)],
            output: vec![0.0; outputs],
        };
        let units = if units.is_empty() { vec![&zero] } else { units };
        let vectors: Vec<&[f64]> = units.iter().map(|u| u.hidden.as_slice()).collect();
        let gates: Option<Vec<&[f64]>> = units
            .iter()
            .map(|u| match &u.gate {
                Gate::Vector(g) => Some(g.as_slice()),
                _ => None,
            })
            .collect();
        let shifted = network
            .intercept
            .iter()
            .map(|b| scale.scale * b + scale.shift);
        Self {
            hidden: Affine::rows(&vectors, d),
            gates: gates.map(|gates| Affine::rows(&gates, d)),
            output: Affine {
                weight: Mat::from_fn(outputs, units.len(), |c, k| {
                    scale.scale * units[k].output[c]
                }),
                bias: shifted.collect(),
            },
            linear: (!linear.is_empty()).then(|| {
                let w = |c: usize, j: usize| linear.iter().map(|u| u.output[c] * u.hidden[j]).sum();
                let bias = |c| if bias { w(c, d) } else { 0.0 };
                Affine {
                    weight: Mat::from_fn(outputs, d, |c, j| scale.scale * w(c, j)),
                    bias: (0..outputs).map(|c| scale.scale * bias(c)).collect(),
                }
            }),
        }
    }

    fn add_to(&self, graph: &mut Graph) {
        graph.affine("encoded", &self.hidden, ["w1", "b1"], "values");
        if let Some(gates) = &self.gates {
            graph.affine("encoded", gates, ["gate_weights", "gate_biases"], "scores");
            graph.tensor("zero", &[], [0.0]);
            graph.node("Greater", &["scores", "zero"], "on", &[]);
            graph.node("Cast", &["on"], "mask", &[("to", DOUBLE)]);
            graph.node("Mul", &["values", "mask"], "hidden", &[]);
        } else {
            graph.node("Relu", &["values"], "hidden", &[]);
        }
        let Some(linear) = &self.linear else {
            graph.affine("hidden", &self.output, ["w2", "b2"], "outputs");
            return;
        };
        graph.affine("hidden", &self.output, ["w2", "b2"], "nonlinear");
        graph.affine(
            "encoded",
            linear,
            ["linear_weights", "linear_biases"],
            "linear",
        );
        graph.node("Add", &["nonlinear", "linear"], "outputs", &[]);
    }
}

/// A `GraphProto` in the making.
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    tensors: Vec<Message>,
}

impl Graph {
    /// One node with one output; attributes are integers.
    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, u64)]) {
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.text(1, input));
        node.text(2, output);
        node.text(3, output);
        node.text(4, op);
        for (name, value) in attributes {
            let mut attribute = Message::default();
            attribute.text(1, name);
            attribute.varint(3, *value);
            attribute.varint(20, INT);
            node.message(5, &attribute);
        }
        self.nodes.push(node);
    }

    /// `output = input W' + b`, a `Gemm` with both as constants.
    fn affine(&mut self, input: &str, affine: &Affine, names: [&str; 2], output: &str) {
        let w = &affine.weight;
        let entries = (0..w.nrows()).flat_map(|k| (0..w.ncols()).map(move |j| w[(k, j)]));
        self.tensor(names[0], &[w.nrows(), w.ncols()], entries);
        self.row(names[1], &affine.bias);
        self.node(
            "Gemm",
            &[input, names[0], names[1]],
            output,
            &[("transB", 1)],
        );
    }

    fn row(&mut self, name: &str, values: &[f64]) {
        self.tensor(name, &[values.len()], values.iter().copied());
    }

    fn tensor(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = f64>) {
        let mut tensor = Message::default();
        dims.iter().for_each(|dim| tensor.varint(1, *dim as u64));
        tensor.varint(2, DOUBLE);
        tensor.text(8, name);
        let raw: Vec<u8> = values.into_iter().flat_map(f64::to_le_bytes).collect();
        tensor.bytes(9, &raw);
        self.tensors.push(tensor);
    }

    fn finish(self, inputs: usize, outputs: usize) -> Message {
        let mut graph = Message::default();
        self.nodes.iter().for_each(|node| graph.message(1, node));
        graph.text(2, "network");
        self.tensors
            .iter()
            .for_each(|tensor| graph.message(5, tensor));
        graph.message(11, &value_info("features", inputs));
        graph.message(12, &value_info("outputs", outputs));
        graph
    }
}

/// `ValueInfoProto` of a matrix with any number of rows.
fn value_info(name: &str, columns: usize) -> Message {
    let (mut rows, mut width) = (Message::default(), Message::default());
    rows.text(2, "N");
    width.varint(1, columns as u64);
    let mut shape = Message::default();
    shape.message(1, &rows);
    shape.message(1, &width);
    let mut tensor = Message::default();
    tensor.varint(1, DOUBLE);
    tensor.message(2, &shape);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut value = Message::default();
    value.text(1, name);
    value.message(2, &kind);
    value
}

/// A protocol buffer message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.raw_varint(field << 3);
        self.raw_varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }
}

#[cfg(test)]
mod tests;
