use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use convextune_model::weights::{NamedTensor, write_safetensors};
use convextune_testkit::Rng;
use tempfile::TempDir;

use super::*;
use crate::convexnet::recovery::{PlainNetwork, Unit};
use crate::convexnet::{Data, NetModel, NetOptions, fit};
use crate::progress::Silent;

const LAMBDA: f64 = 0.001;

/// Hidden units, weights and bias, that the values of [`table`] come from.
const UNITS: [[f64; 3]; 2] = [[1.0, 0.5, 0.1], [-1.0, 1.0, 0.4]];

/// 30 rows with two numbers, none of them near a kink of [`UNITS`], and as the target a value or three
/// classes.
fn table(folder: &TempDir, target: &str) -> Table {
    let mut rng = Rng::new(21);
    let mut text = format!("a,b,{target}\n");
    let mut row = 0;
    while row < 30 {
        let (a, b) = (rng.normal(), rng.normal());
        let [first, second] = UNITS.map(|u| u[0] * a + u[1] * b + u[2]);
        if first.abs().min(second.abs()) < 0.4 {
            continue;
        }
        let value = 3.0 * first.max(0.0) - 2.0 * second.max(0.0) + 0.1 * rng.normal();
        let class = ["x", "y", "z"][row % 3];
        let target = match target {
            "value" => value.to_string(),
            _ => class.to_owned(),
        };
        let _ = writeln!(text, "{a},{b},{target}");
        row += 1;
    }
    let path = folder.path().join("data.csv");
    std::fs::write(&path, text).unwrap();
    Table::read(&path).unwrap()
}

fn options(target: &str) -> CheckOptions {
    CheckOptions {
        target: target.to_owned(),
        task: None,
        lambda: LAMBDA,
        loss: Loss::Squared,
        raw: false,
        gates: None,
        seed: 0,
        tolerance: 1e-8,
    }
}

fn tensor(shape: &[usize], data: Vec<f64>) -> NamedTensor<f64> {
    let shape = shape.to_vec();
    NamedTensor { shape, data }
}

fn write(path: &Path, tensors: &[(&str, NamedTensor<f64>)]) {
    let named = tensors.iter().map(|(n, t)| ((*n).to_owned(), t.clone()));
    let tensors: BTreeMap<String, NamedTensor<f64>> = named.collect();
    write_safetensors(path, &tensors, &BTreeMap::new()).unwrap();
}

/// A plain network with a bias in every hidden unit as the tensors `w1`, `b1`, `w2`, `b2`.
fn saved(folder: &TempDir, network: &PlainNetwork) -> ReluNetwork {
    let (m, d) = (network.units.len(), network.units[0].hidden.len() - 1);
    let c = network.intercept.len();
    let units = || network.units.iter();
    let w1 = units().flat_map(|u| u.hidden[..d].to_vec()).collect();
    let b1 = units().map(|u| u.hidden[d]).collect();
    let w2 = (0..c).flat_map(|c| units().map(move |u| u.output[c]));
    let path = folder.path().join("net.safetensors");
    write(
        &path,
        &[
            ("w1", tensor(&[m, d], w1)),
            ("b1", tensor(&[m], b1)),
            ("w2", tensor(&[c, m], w2.collect())),
            ("b2", tensor(&[c], network.intercept.clone())),
        ],
    );
    ReluNetwork::read(&path).unwrap()
}

fn all(table: &Table) -> Vec<usize> {
    (0..table.rows()).collect()
}

/// The best network of the program with the gates of [`UNITS`], or with all, as a plain one.
fn best(table: &Table, gates: GateChoice) -> (NetModel, PlainNetwork) {
    let data = Data {
        table,
        train: all(table),
        test: Vec::new(),
        target: "value".to_owned(),
    };
    let options = NetOptions {
        activation: Activation::Relu,
        gates,
        bias: Bias::Free,
        lambda: Some(LAMBDA),
        tolerance: 1e-10,
        ..NetOptions::default()
    };
    let encoder = Encoder::learn(table, &data.train, "value", None, Bias::Free).unwrap();
    let (shift, scale) = encoder.scales();
    let given = Mat::from_fn(3, UNITS.len(), |j, k| match j {
        2 => UNITS[k][2] + (0..2).map(|j| UNITS[k][j] * shift[j]).sum::<f64>(),
        _ => UNITS[k][j] * scale[j],
    });
    let given = (gates != GateChoice::All).then_some(given);
    let model = fit(&data, &options, given, &Silent).unwrap();
    let plain = model.plain().unwrap();
    (model, plain)
}

/// Away from its kinks, the best network for some patterns is stationary and optimal for them, and with all
/// patterns there is a better one.
#[test]
fn the_network_of_a_minimum_is_found_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, "value");
    let (model, plain) = best(&table, GateChoice::Sampled(2));
    let network = saved(&folder, &plain);
    let mut options = options("value");
    options.gates = Some(GateChoice::All);
    let report = check(&network, &table, &all(&table), &options, &Silent).unwrap();
    let objective = model.header.report.certificate.objective;
    assert!((report.objective - objective).abs() < 1e-9 * objective);
    assert!((report.split_objective - objective).abs() < 1e-9 * objective);
    assert!((report.error - model.header.report.train_error).abs() < 1e-9);
    assert!(report.relative_gradient_norm < 1e-4, "{report:?}");
    assert!(report.stationary && report.optimal_for_own_program);
    assert!(report.own_program.excess.abs() < 1e-6);
    let larger = report.larger_program.unwrap();
    assert!(larger.exhaustive && larger.gates > report.own_program.gates);
    assert!(larger.excess > 1e-4, "{larger:?}");
}

/// The best network of all is nowhere above a minimum, though it has kinks at the data.
#[test]
fn the_best_network_of_all_has_no_excess() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, "value");
    let (_, plain) = best(&table, GateChoice::All);
    let network = saved(&folder, &plain);
    let mut options = options("value");
    options.gates = Some(GateChoice::All);
    let report = check(&network, &table, &all(&table), &options, &Silent).unwrap();
    assert!(report.optimal_for_own_program);
    assert!(report.own_program.excess.abs() < 1e-6, "{report:?}");
    let larger = report.larger_program.unwrap();
    assert!(
        larger.exhaustive && larger.excess.abs() < 1e-6,
        "{larger:?}"
    );
}

/// The same network moved away: no stationary point, and above the minimum by what it costs more.
#[test]
fn a_moved_network_is_no_minimum() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, "value");
    let (_, mut plain) = best(&table, GateChoice::Sampled(2));
    for unit in &mut plain.units {
        unit.output.iter_mut().for_each(|w| *w *= 1.5);
    }
    let network = saved(&folder, &plain);
    let report = check(&network, &table, &all(&table), &options("value"), &Silent).unwrap();
    assert!(!report.stationary && !report.optimal_for_own_program);
    let own = report.own_program;
    let least = own.certificate.objective;
    let excess = (report.split_objective - least) / least;
    assert!(own.excess > 1e-2 && (own.excess - excess).abs() < 1e-12);
    // Unbalanced units pay more in (1) than in (3).
    assert!(report.objective > report.split_objective);
}

/// The gradient against central differences of the objective, with units that feed several outputs.
#[test]
fn the_gradient_is_that_of_the_objective() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, "class");
    let mut rng = Rng::new(4);
    let unit = |_| Unit {
        gate: crate::convexnet::recovery::Gate::Relu,
        hidden: rng.normals(3),
        output: rng.normals(3),
    };
    let plain = PlainNetwork {
        units: (0..4).map(unit).collect(),
        intercept: vec![0.1, -0.2, 0.3],
    };
    let network = saved(&folder, &plain);
    let options = options("class");
    let (x, y, _) = inputs(&network, &table, &all(&table), &options).unwrap();
    let objective =
        |n: &ReluNetwork| Evaluation::new(n, x.as_ref(), y.as_ref(), &options).objective;
    let h = 1e-6;
    let mut square = 0.0;
    let mut add = |change: &dyn Fn(&mut ReluNetwork, f64)| {
        let at = |t: f64| {
            let mut moved = network.clone();
            change(&mut moved, t);
            objective(&moved)
        };
        square += ((at(h) - at(-h)) / (2.0 * h)).powi(2);
    };
    for k in 0..4 {
        for j in 0..2 {
            add(&|n, t| n.w1[(j, k)] += t);
        }
        add(&|n, t| n.b1.as_mut().unwrap()[k] += t);
        for c in 0..3 {
            add(&|n, t| n.w2[(k, c)] += t);
        }
    }
    for c in 0..3 {
        add(&|n, t| n.b2.as_mut().unwrap()[c] += t);
    }
    let norm = Evaluation::new(&network, x.as_ref(), y.as_ref(), &options).gradient_norm;
    assert!(
        (norm - square.sqrt()).abs() < 1e-6 * norm,
        "{norm} {}",
        square.sqrt()
    );
}

/// The same function of the table, once in standardised and once in raw numbers.
#[test]
fn raw_networks_read_the_table_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder, "value");
    let (_, plain) = best(&table, GateChoice::Sampled(2));
    let rows = all(&table);
    let encoder = Encoder::learn(&table, &rows, "value", None, Bias::Penalized).unwrap();
    let ((shift, scale), (mean, deviation)) = (encoder.scales(), encoder.target_scale());
    let mut raw = plain.clone();
    for unit in &mut raw.units {
        for j in 0..shift.len() {
            unit.hidden[j] /= scale[j];
            unit.hidden[shift.len()] -= unit.hidden[j] * shift[j];
        }
        unit.output[0] *= deviation;
    }
    raw.intercept[0] = mean + deviation * raw.intercept[0];
    let (standard, raw) = (saved(&folder, &plain), saved(&folder, &raw));
    let mut options = options("value");
    let a = check(&standard, &table, &rows, &options, &Silent).unwrap();
    options.raw = true;
    let b = check(&raw, &table, &rows, &options, &Silent).unwrap();
    // The loss is in the target's units squared.
    assert!((b.loss - deviation * deviation * a.loss).abs() < 1e-9 * b.loss);
    assert!((b.error - deviation * a.error).abs() < 1e-9 * b.error);
}

#[test]
fn networks_that_cannot_be_read_or_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let classes = table(&folder, "class");
    let path = folder.path().join("n.safetensors");
    let read = |tensors: &[(&str, NamedTensor<f64>)]| {
        write(&path, tensors);
        ReluNetwork::read(&path)
    };
    let w1 = ("0.weight", tensor(&[3, 2], vec![1.0; 6]));
    let w2 = ("2.weight", tensor(&[1, 3], vec![1.0; 3]));
    let ones = |n: usize| tensor(&[n], vec![1.0; n]);
    let good = read(&[w1.clone(), w2.clone()]).unwrap();
    assert_eq!((good.w1.nrows(), good.w1.ncols(), &good.b1), (2, 3, &None));
    for (tensors, words) in [
        (vec![("weight", ones(3))], "holds no two-layer network"),
        (vec![w1.clone()], "tensor `2.weight` is missing"),
        (
            vec![w1.clone(), w2.clone(), ("0.bias", ones(2))],
            "`0.bias` has 2 numbers instead of 3",
        ),
        (
            vec![w1.clone(), ("2.weight", tensor(&[1, 2], vec![1.0; 2]))],
            "3 hidden units in `0.weight`, but 2 in `2.weight`",
        ),
        (
            vec![("0.weight", ones(6)), w2.clone()],
            "shape [6], not a matrix",
        ),
        (
            vec![w1.clone(), w2.clone(), ("gate_weights", ones(6))],
            "has gates",
        ),
    ] {
        let said = read(&tensors).unwrap_err().to_string();
        assert!(
            said.contains(words) && said.contains("n.safetensors"),
            "{said}"
        );
    }
    let said = |network: &ReluNetwork, target: &str| {
        let result = check(network, &classes, &all(&classes), &options(target), &Silent);
        result.unwrap_err().to_string()
    };
    assert!(said(&good, "class").contains("has 1 outputs, but the target needs 3"));
    let wide = ("0.weight", tensor(&[3, 3], vec![1.0; 9]));
    let wide = read(&[wide, w2.clone()]).unwrap();
    assert!(said(&wide, "class").contains("reads 3 features, but the table has 2"));
    let off = tensor(&[3, 2], vec![0.0; 6]);
    let off = read(&[("0.weight", off), w2]).unwrap();
    let values = table(&folder, "value");
    let result = check(&off, &values, &all(&values), &options("value"), &Silent);
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("no unit that is on")
    );
}
