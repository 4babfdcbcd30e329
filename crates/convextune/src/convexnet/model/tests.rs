use std::fmt::Write as _;
use std::path::Path;

use convextune_model::weights::read_safetensors_with_metadata;
use convextune_solve::gated::{Activation, Penalty};
use convextune_testkit::Rng;
use tempfile::TempDir;

use super::*;
use crate::convexnet::table::Cell;
use crate::convexnet::{Bias, Data, GateChoice, NetReport, certify, fit, problem};
use crate::progress::Silent;

/// A table with two numbers, a colour and, as targets, a class of `classes` and a value.
fn table(folder: &TempDir, classes: usize) -> Table {
    let mut rng = Rng::new(11);
    let mut text = String::from("a,b,colour,class,value\n");
    for i in 0..40 {
        let (a, b) = (rng.normal(), rng.normal());
        let colour = ["red", "green", "blue"][i % 3];
        let class = if a * b > 0.0 {
            0
        } else {
            1 + i % (classes - 1)
        };
        let value = 100.0 + 20.0 * a.max(0.0) - 5.0 * b;
        let class = ["x", "y", "z"][class];
        let _ = writeln!(text, "{a},{b},{colour},{class},{value}");
    }
    let path = folder.path().join("data.csv");
    std::fs::write(&path, text).unwrap();
    Table::read(&path).unwrap()
}

fn fitted(table: &Table, target: &str, options: &NetOptions) -> NetModel {
    let other = if target == "class" { 0..30 } else { 5..35 };
    let data = Data {
        table,
        train: other.collect(),
        test: vec![36, 38],
        target: target.to_owned(),
    };
    fit(&data, options, None, &Silent).unwrap()
}

fn options(activation: Activation) -> NetOptions {
    NetOptions {
        activation,
        gates: GateChoice::Sampled(25),
        lambda: Some(0.02),
        tolerance: 1e-8,
        ..NetOptions::default()
    }
}

/// Programs that differ in everything that a file must keep.
fn programs() -> Vec<(usize, &'static str, NetOptions)> {
    let (gated, relu) = (options(Activation::Gated), options(Activation::Relu));
    let free = NetOptions {
        bias: Bias::Free,
        linear: true,
        ..gated.clone()
    };
    let bare = NetOptions {
        bias: Bias::None,
        ..relu.clone()
    };
    vec![
        (2, "class", gated),
        (3, "class", relu),
        (3, "class", free),
        (2, "value", bare),
    ]
}

/// What is read is what was written, to the last bit, and proves the same.
#[test]
fn a_model_is_read_as_it_was_written() {
    for (classes, target, options) in programs() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(&folder, classes);
        let model = fitted(&table, target, &options);
        let path = folder.path().join("m.safetensors");
        model.save(&path).unwrap();
        let read = NetModel::load(&path).unwrap();
        assert_eq!(read, model);
        let again = certify(&read, &table, &read.header.training_rows).unwrap();
        let stored = read.header.report.certificate;
        assert!(stored.relative_duality_gap <= 1e-8, "{options:?}");
        assert!((again.objective - stored.objective).abs() < 1e-12 * stored.objective);
        assert!((again.dual_value - stored.dual_value).abs() < 1e-12 * stored.objective);
        assert!(crate::model_file::is_convex_network(&path).unwrap());
        // A second writing gives the same bytes.
        let bytes = std::fs::read(&path).unwrap();
        read.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

/// The theorem, at the minimum: outputs and objective of the plain network are the program's.
#[test]
fn the_plain_network_has_the_objective_of_the_program() {
    for (classes, target, options) in programs() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(&folder, classes);
        let model = fitted(&table, target, &options);
        let problem = problem(&model, &table, &model.header.training_rows).unwrap();
        let plain = model.plain().unwrap();
        let z = problem.outputs_at(&model.network.neurons, &model.network.intercept);
        assert!((plain.predict(problem.matrix.x()) - z).norm_max() < 1e-12);
        let (ours, convex) = (
            NetModel::nonconvex_objective(&problem, &plain),
            model.header.report.certificate.objective,
        );
        assert!((ours - convex).abs() < 1e-12 * convex, "{ours} {convex}");
    }
}

#[test]
fn answers_are_classes_with_scores_or_values_with_units() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, 3);
    let rows: Vec<usize> = (0..table.rows()).collect();
    let model = fitted(&table, "class", &options(Activation::Gated));
    let outputs = model.outputs(&table, &rows).unwrap();
    let Predictions::Classes { classes, scores } = model.answers(outputs.as_ref()) else {
        panic!("classes were trained on");
    };
    assert_eq!((scores.nrows(), scores.ncols()), (40, 3));
    for (s, class) in classes.iter().enumerate() {
        assert!((0..3).all(|c| scores[(s, c)] <= scores[(s, *class)]));
    }
    assert_eq!(model.header.encoder.classes(), ["x", "y", "z"]);

    let model = fitted(&table, "value", &options(Activation::Relu));
    let outputs = model.outputs(&table, &rows).unwrap();
    let Predictions::Values(values) = model.answers(outputs.as_ref()) else {
        panic!("numbers were trained on");
    };
    // In units of the deviation, the error is that of the report.
    let column = table.names().iter().position(|name| name == "value");
    let trained = &model.header.training_rows;
    let square = |s: &usize| match table.cell(*s, column.unwrap()) {
        Cell::Number(truth) => (values[*s] - truth).powi(2),
        other => panic!("row {s} holds {other:?}"),
    };
    let mean = trained.iter().map(square).sum::<f64>() / trained.len() as f64;
    let error = mean.sqrt() / model.header.encoder.target_scale().1;
    let stored = model.header.report.train_error;
    assert!((error - stored).abs() < 1e-12 && error < 0.5, "{error}");
}

#[test]
fn scores_of_two_classes_are_opposite() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, 2);
    let model = fitted(&table, "class", &options(Activation::Gated));
    let z = Mat::from_fn(2, 1, |s, _| [0.25, -0.5][s]);
    let expected = Predictions::Classes {
        classes: vec![1, 0],
        scores: Mat::from_fn(2, 2, |s, c| [[-0.25, 0.25], [0.5, -0.5]][s][c]),
    };
    assert_eq!(model.answers(z.as_ref()), expected);
}

/// A model of one gate and one neuron, by hand.
fn small(folder: &TempDir) -> NetModel {
    let table = table(folder, 2);
    let mut model = fitted(&table, "class", &options(Activation::Gated));
    let d = model.header.encoder.width();
    model.network = Network {
        activation: Activation::Gated,
        gates: Mat::from_fn(d, 2, |j, i| (j + i) as f64),
        linear: Some(1),
        neurons: vec![Neuron {
            gate: 1,
            output: 0,
            sign: -1.0,
            weights: vec![0.5; d],
        }],
        intercept: vec![0.0],
    };
    model
}

/// Writes a model's tensors and header after `change`, and reads them.
fn changed(
    change: impl Fn(&mut BTreeMap<String, NamedTensor<f64>>, &mut serde_json::Value),
) -> Result<NetModel, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    small(&folder).save(&path).unwrap();
    let (mut tensors, mut metadata) = read_safetensors_with_metadata::<f64>(&path).unwrap();
    let mut header = serde_json::from_str(&metadata[ENTRY]).unwrap();
    change(&mut tensors, &mut header);
    metadata.insert(ENTRY.to_owned(), header.to_string());
    write_safetensors(&path, &tensors, &metadata).unwrap();
    NetModel::load(&path)
}

#[test]
fn damaged_files_are_refused_by_name_and_reason() {
    type Change = fn(&mut BTreeMap<String, NamedTensor<f64>>, &mut serde_json::Value);
    let cases: [(Change, &str); 12] = [
        (|t, _| drop(t.remove("gates")), "tensor `gates` is missing"),
        (|t, _| drop(t.remove("intercept")), "`intercept` is missing"),
        (
            |t, _| t.get_mut("weights").unwrap().shape = vec![7],
            "`weights` is of shape [7]",
        ),
        (
            |t, _| set(t, "neuron_gates", 2.0),
            "`neuron_gates` holds 2, not an index below 2",
        ),
        (|t, _| set(t, "neuron_gates", 0.5), "holds 0.5"),
        (|t, _| set(t, "neuron_outputs", -1.0), "holds -1"),
        (|t, _| set(t, "neuron_signs", 0.0), "holds 0, not 1 or -1"),
        (
            |t, _| {
                let signs = t.get_mut("neuron_signs").unwrap();
                *signs = NamedTensor {
                    shape: vec![2],
                    data: vec![1.0, 1.0],
                };
            },
            "has 2 numbers instead of 1",
        ),
        (|_, h| h["linear_gate"] = 2.into(), "the linear one is 2"),
        (|_, h| h["format_version"] = 99.into(), "newer convextune"),
        (|_, h| h["kind"] = "other".into(), "unknown kind, \"other\""),
        (|_, h| h["options"] = 3.into(), "header is damaged"),
    ];
    for (change, words) in cases {
        let said = changed(change).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
        assert!(said.contains("m.safetensors: "), "{said}");
    }
    assert!(changed(|_, _| {}).is_ok());
}

fn set(tensors: &mut BTreeMap<String, NamedTensor<f64>>, name: &str, value: f64) {
    tensors.get_mut(name).unwrap().data[0] = value;
}

#[test]
fn a_table_with_fewer_rows_than_were_trained_on_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, 2);
    let model = fitted(&table, "class", &options(Activation::Gated));
    model.check_training_rows(&table).unwrap();
    let text = std::fs::read_to_string(table.path()).unwrap();
    let lines: Vec<&str> = text.lines().take(21).collect();
    let short = folder.path().join("short.csv");
    std::fs::write(&short, lines.join("\n")).unwrap();
    let short = Table::read(&short).unwrap();
    let said = model.check_training_rows(&short).unwrap_err().to_string();
    assert!(
        said.contains("20 rows") && said.contains("number 30"),
        "{said}"
    );
}

/// The folder's other files stay as they are when a model cannot be written.
#[test]
fn a_model_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let model = small(&folder);
    let error = model.save(Path::new("/proc/m.safetensors")).unwrap_err();
    assert!(error.to_string().contains("/proc/m.safetensors"), "{error}");
}

/// Penalties without a theorem keep the outputs.
#[test]
fn every_penalty_keeps_the_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = small(&folder);
    let table = table(&folder, 2);
    let rows: Vec<usize> = (0..table.rows()).collect();
    let x = model.header.encoder.features(&table, &rows).unwrap();
    for penalty in [Penalty::L1, Penalty::SquaredL2, Penalty::Nuclear] {
        model.header.options.penalty = penalty;
        let z = model.plain().unwrap().predict(x.as_ref());
        let difference = model.outputs(&table, &rows).unwrap() - z;
        assert!(difference.norm_max() < 1e-12, "{penalty:?}");
    }
    let NetReport { train_rows, .. } = model.header.report;
    assert_eq!(train_rows, 30);
}
