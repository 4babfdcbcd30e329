//! The blocks `U_i`, or `V_i` and `W_i`, of a list of neurons, and `R` of them.

use std::collections::BTreeMap;

use faer::Mat;

use crate::dense::{axpy, norm, norm_squared};
use crate::error::{SolveError, check_finite, check_len};
use crate::factor::ThinSvd;
use crate::gated::{Neuron, Penalty, Problem};

/// Columns of weights, by gate, part (`true` for `W_i`) and output. Without a cone there is one part.
pub(super) struct Blocks(BTreeMap<(usize, bool, usize), Vec<f64>>);

impl Blocks {
    pub(super) fn of(problem: &Problem, neurons: &[Neuron]) -> Self {
        let mut columns = BTreeMap::new();
        for neuron in neurons {
            let cone = problem.has_cone(neuron.gate);
            let key = (neuron.gate, cone && neuron.sign < 0.0, neuron.output);
            let column = columns
                .entry(key)
                .or_insert_with(|| vec![0.0; neuron.weights.len()]);
            let sign = if cone { 1.0 } else { neuron.sign };
            axpy(sign, &neuron.weights, column);
        }
        Self(columns)
    }

    /// The gates that have weights.
    pub(super) fn gates(&self) -> Vec<usize> {
        let mut gates: Vec<usize> = self.0.keys().map(|(gate, _, _)| *gate).collect();
        gates.dedup();
        gates
    }

    /// `R(U)`. With the feature-wise norm both parts of a ReLU gate belong to one group a feature.
    pub(super) fn penalty(&self, problem: &Problem) -> Result<f64, SolveError> {
        let columns = self.0.values();
        Ok(match problem.penalty {
            Penalty::Neuron => columns.map(|u| norm(u)).sum(),
            Penalty::L1 => columns.flatten().map(|u| u.abs()).sum(),
            Penalty::SquaredL2 => columns.map(|u| 0.5 * norm_squared(u)).sum(),
            Penalty::Feature => {
                let mut squares = BTreeMap::new();
                for ((_, _, output), u) in &self.0 {
                    for (feature, u) in u.iter().enumerate() {
                        *squares.entry((*output, feature)).or_insert(0.0) += u * u;
                    }
                }
                squares.values().map(|square: &f64| square.sqrt()).sum()
            }
            Penalty::Nuclear => {
                let mut blocks: BTreeMap<(usize, bool), Vec<&[f64]>> = BTreeMap::new();
                for ((gate, part, _), u) in &self.0 {
                    blocks.entry((*gate, *part)).or_default().push(u);
                }
                let mut sum = 0.0;
                for columns in blocks.values() {
                    let u = Mat::from_fn(columns[0].len(), columns.len(), |j, c| columns[c][j]);
                    let svd = ThinSvd::new("singular values of a block of weights", u.as_ref())?;
                    sum += svd.s.iter().sum::<f64>();
                }
                sum
            }
        })
    }
}

/// That the neurons and the intercept fit the problem.
pub(super) fn check(
    problem: &Problem,
    neurons: &[Neuron],
    intercept: &[f64],
) -> Result<(), SolveError> {
    for neuron in neurons {
        check_gate(problem, neuron.gate)?;
        check_len(
            "weights of a neuron",
            problem.matrix.features(),
            neuron.weights.len(),
        )?;
        check_finite("the weights of a neuron", &neuron.weights)?;
        if neuron.output >= problem.outputs() {
            return Err(outside(
                "output of a neuron",
                "below the number of outputs",
                neuron.output,
            ));
        }
        if ![1.0, -1.0].contains(&neuron.sign) {
            return Err(SolveError::Parameter {
                what: "sign of a neuron",
                domain: "1 or -1",
                got: neuron.sign,
            });
        }
    }
    check_finite("the intercept", intercept)?;
    if !intercept.is_empty() {
        check_len("intercept", problem.outputs(), intercept.len())?;
    }
    match intercept.iter().find(|b| **b != 0.0) {
        Some(b) if !problem.intercept => Err(SolveError::Parameter {
            what: "intercept of a problem without one",
            domain: "0",
            got: *b,
        }),
        _ => Ok(()),
    }
}

/// That there is such a gate.
pub(super) fn check_gate(problem: &Problem, gate: usize) -> Result<(), SolveError> {
    if gate < problem.matrix.gates() {
        Ok(())
    } else {
        Err(outside(
            "index of a gate",
            "below the number of gates",
            gate,
        ))
    }
}

fn outside(what: &'static str, domain: &'static str, got: usize) -> SolveError {
    SolveError::Parameter {
        what,
        domain,
        got: got as f64,
    }
}
