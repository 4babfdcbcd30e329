//! The bytes are read back by a decoder of its own and run.

use std::collections::BTreeMap;

use convextune_testkit::Rng;

use super::*;

/// Fields of a message: number and value; a varint counts as its eight bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => varint(&mut bytes).to_le_bytes().to_vec(),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                value.to_vec()
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn all(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    let fields = fields(message).into_iter();
    fields
        .filter(|(f, _)| *f == field)
        .map(|(_, v)| v)
        .collect()
}

fn texts(message: &[u8], field: u64) -> Vec<String> {
    let texts = all(message, field).into_iter();
    texts.map(|t| String::from_utf8(t).unwrap()).collect()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// A tensor as a matrix; of one dimension as a row.
fn tensor(message: &[u8]) -> (String, Mat<f64>) {
    let dims: Vec<usize> = all(message, 1).iter().map(|d| number(d) as usize).collect();
    assert_eq!(number(&all(message, 2)[0]), 11, "double");
    let raw = &all(message, 9)[0];
    let (rows, columns) = match dims[..] {
        [] => (1, 1),
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => panic!("{dims:?}"),
    };
    assert_eq!(raw.len(), 8 * rows * columns);
    let value = |i: usize| f64::from_le_bytes(raw[8 * i..8 * i + 8].try_into().unwrap());
    let matrix = Mat::from_fn(rows, columns, |i, j| value(i * columns + j));
    (texts(message, 8).remove(0), matrix)
}

/// Runs a model on `x`; also tells its operators.
fn run(model: &[u8], x: &Mat<f64>) -> (Mat<f64>, Vec<String>) {
    let graph = &all(model, 7)[0];
    let mut values: BTreeMap<String, Mat<f64>> = all(graph, 5).iter().map(|t| tensor(t)).collect();
    assert_eq!(texts(&all(graph, 11)[0], 1), ["features"]);
    values.insert("features".into(), x.clone());
    let mut ops = Vec::new();
    for node in all(graph, 1) {
        let inputs: Vec<Mat<f64>> = texts(&node, 1).iter().map(|i| values[i].clone()).collect();
        let op = texts(&node, 4).remove(0);
        let a = &inputs[0];
        // The second input is broadcast over the rows, or over everything.
        let b = |s: usize, j: usize| {
            let b = &inputs[1];
            b[(s % b.nrows(), j % b.ncols())]
        };
        let each = |f: &dyn Fn(f64, f64) -> f64| {
            let b = |s, j| if inputs.len() > 1 { b(s, j) } else { 0.0 };
            Mat::from_fn(a.nrows(), a.ncols(), |s, j| f(a[(s, j)], b(s, j)))
        };
        let out = match op.as_str() {
            "Sub" => each(&|a, b| a - b),
            "Div" => each(&|a, b| a / b),
            "Mul" => each(&|a, b| a * b),
            "Add" => each(&|a, b| a + b),
            "Relu" => each(&|a, _| a.max(0.0)),
            "Greater" => each(&|a, b| f64::from(u8::from(a > b))),
            "Cast" => {
                let attribute = &all(&node, 5)[0];
                assert_eq!(texts(attribute, 1), ["to"]);
                assert_eq!(number(&all(attribute, 3)[0]), 11);
                a.clone()
            }
            "Gemm" => {
                let attribute = &all(&node, 5)[0];
                assert_eq!(texts(attribute, 1), ["transB"]);
                assert_eq!(number(&all(attribute, 3)[0]), 1);
                let product = a * inputs[1].transpose();
                Mat::from_fn(product.nrows(), product.ncols(), |s, j| {
                    product[(s, j)] + inputs[2][(0, j)]
                })
            }
            other => panic!("{other}"),
        };
        let name = texts(&node, 2).remove(0);
        assert!(values.insert(name, out).is_none(), "a name is set once");
        ops.push(op);
    }
    assert_eq!(texts(&all(graph, 12)[0], 1), ["outputs"]);
    (values.remove("outputs").unwrap(), ops)
}

/// A network of some units, the gates of which are drawn by `gate`.
fn network(rng: &mut Rng, d: usize, gates: &[&str]) -> PlainNetwork {
    let unit = |gate: &&str| Unit {
        gate: match *gate {
            "relu" => Gate::Relu,
            "linear" => Gate::Linear,
            _ => Gate::Vector(rng.normals(d)),
        },
        hidden: rng.normals(d),
        output: rng.normals(2),
    };
    PlainNetwork {
        units: gates.iter().map(unit).collect(),
        intercept: vec![0.4, -1.0],
    }
}

#[test]
fn the_graph_computes_what_the_network_computes() {
    let mut rng = Rng::new(11);
    let d = 5;
    let input = Standardisation {
        shift: rng.normals(d),
        scale: (0..d).map(|_| 0.5 + rng.uniform()).collect(),
    };
    let scale = OutputScale {
        scale: 3.0,
        shift: 7.0,
    };
    let x = Mat::from_fn(20, d, |_, _| 2.0 * rng.normal());
    let relu = ["Sub", "Div", "Gemm", "Relu", "Gemm"].as_slice();
    let gated = [
        "Sub", "Div", "Gemm", "Gemm", "Greater", "Cast", "Mul", "Gemm",
    ]
    .as_slice();
    let linear = ["Sub", "Div", "Gemm", "Relu", "Gemm", "Gemm", "Add"].as_slice();
    for (units, ops) in [
        (["relu"; 4].as_slice(), relu),
        (&["vector"; 4], gated),
        (&["relu", "linear", "relu", "linear"], linear),
        (&["linear"], linear),
        (&[], relu),
    ] {
        for bias in [false, true] {
            let width = d + usize::from(bias);
            let network = network(&mut rng, width, units);
            let encoded = Mat::from_fn(x.nrows(), width, |s, j| {
                if j == d {
                    1.0
                } else {
                    (x[(s, j)] - input.shift[j]) / input.scale[j]
                }
            });
            let expected = network.predict(encoded.as_ref());
            let model = encode(&network, &input, scale, bias, &[("key", "value")]);
            let (outputs, found) = run(&model, &x);
            assert_eq!(found, ops);
            for s in 0..x.nrows() {
                for c in 0..2 {
                    let wanted = 3.0 * expected[(s, c)] + 7.0;
                    assert!((outputs[(s, c)] - wanted).abs() < 1e-12 * (1.0 + wanted.abs()));
                }
            }
        }
    }
}

/// Pinned bytes: the message that a tensor of one number is, as `onnx.proto` numbers its fields.
#[test]
fn a_tensor_is_these_bytes() {
    let mut graph = Graph::default();
    graph.tensor("a", &[1], [1.0]);
    let expected: [&[u8]; 4] = [
        &[0x08, 1],
        &[0x10, 11],
        &[0x42, 1, b'a'],
        &[0x4a, 8, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
    ];
    assert_eq!(graph.tensors[0].0, expected.concat());
    let mut message = Message::default();
    message.varint(14, 300);
    assert_eq!(message.0, [0x70, 0xac, 0x02]);
}

#[test]
fn the_model_says_what_it_is() {
    let network = network(&mut Rng::new(1), 2, &["relu"]);
    let input = Standardisation {
        shift: vec![0.0; 2],
        scale: vec![1.0; 2],
    };
    let scale = OutputScale {
        scale: 1.0,
        shift: 0.0,
    };
    let model = encode(&network, &input, scale, false, &[("classes", "a,b")]);
    assert_eq!(number(&all(&model, 1)[0]), 8);
    assert_eq!(texts(&model, 2), ["convextune"]);
    assert_eq!(number(&all(&all(&model, 8)[0], 2)[0]), 13);
    assert_eq!(texts(&all(&model, 14)[0], 2), ["a,b"]);
}
