//! A fitted network as a function of encoded rows.

use std::collections::BTreeMap;

use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::gated::{Activation, Neuron};

/// Rows of a table that are handled together.
const ROWS: usize = 1024;

/// The numbers of a fitted network on encoded rows `x` (length `d`, bias included): output `c` is
/// `intercept_c + sum over its neurons of sign * 1[x'g > 0] x'w` (gated), or `sign * (x'w)_+` (ReLU), or
/// `sign * x'w` for the linear neuron.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Gated or ReLU.
    pub activation: Activation,
    /// All gates of the program, `d x P`; the patterns of the program are theirs on the training rows.
    pub gates: Mat<f64>,
    /// Which of `gates` is the linear neuron's, if any (its column is zero and is not used).
    pub linear: Option<usize>,
    /// Live neurons; `gate` is a column of `gates`.
    pub neurons: Vec<Neuron>,
    /// Free output biases, length `C` (zero without).
    pub intercept: Vec<f64>,
}

impl Network {
    /// `d`.
    pub fn features(&self) -> usize {
        self.gates.nrows()
    }

    /// `C`.
    pub fn outputs(&self) -> usize {
        self.intercept.len()
    }

    /// Outputs on the rows of `x` (`n x d`), `n x C`.
    ///
    /// # Panics
    /// When `x` has another number of columns.
    pub fn predict(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        assert_eq!(x.ncols(), self.features(), "features of a network");
        let weights = Mat::from_fn(self.features(), self.neurons.len(), |j, k| {
            self.neurons[k].sign * self.neurons[k].weights[j]
        });
        let (gates, gate_of) = self.live_gates();
        let mut z = Mat::from_fn(x.nrows(), self.outputs(), |_, c| self.intercept[c]);
        for first in (0..x.nrows()).step_by(ROWS) {
            let rows = x.subrows(first, ROWS.min(x.nrows() - first));
            let (values, scores) = (rows * &weights, rows * &gates);
            for (k, neuron) in self.neurons.iter().enumerate() {
                for s in 0..rows.nrows() {
                    let on = match (gate_of[k], self.activation) {
                        (None, _) => true,
                        (Some(gate), Activation::Gated) => scores[(s, gate)] > 0.0,
                        (Some(_), Activation::Relu) => neuron.sign * values[(s, k)] > 0.0,
                    };
                    if on {
                        z[(first + s, neuron.output)] += values[(s, k)];
                    }
                }
            }
        }
        z
    }

    /// The gates that live neurons read, `d x G`, and for every neuron its column there (`None`: linear).
    /// A ReLU neuron reads no gate but its own weights.
    fn live_gates(&self) -> (Mat<f64>, Vec<Option<usize>>) {
        let mut columns = BTreeMap::new();
        for neuron in &self.neurons {
            if self.linear != Some(neuron.gate) {
                columns.insert(neuron.gate, 0);
            }
        }
        for (k, column) in columns.values_mut().enumerate() {
            *column = k;
        }
        let gate_of = self.neurons.iter().map(|n| columns.get(&n.gate).copied());
        let gate_of = gate_of.collect();
        let read: Vec<usize> = match self.activation {
            Activation::Gated => columns.into_keys().collect(),
            Activation::Relu => Vec::new(),
        };
        let gates = Mat::from_fn(self.features(), read.len(), |j, k| self.gates[(j, read[k])]);
        (gates, gate_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neuron(gate: usize, output: usize, sign: f64, weights: &[f64]) -> Neuron {
        Neuron {
            gate,
            output,
            sign,
            weights: weights.to_vec(),
        }
    }

    /// By hand: one feature and a bias, rows x = -1, 2; the second gate is on for x < 1.
    #[test]
    fn outputs_are_those_of_the_formula() {
        let mut network = Network {
            activation: Activation::Gated,
            gates: Mat::from_fn(2, 3, |j, k| [[1.0, -1.0, 0.0], [0.0, 1.0, 0.0]][j][k]),
            linear: Some(2),
            neurons: vec![
                neuron(1, 0, -1.0, &[2.0, 1.0]),
                neuron(0, 1, 1.0, &[1.0, 1.0]),
                neuron(2, 1, 1.0, &[10.0, 0.0]),
            ],
            intercept: vec![0.5, 0.0],
        };
        let x = Mat::from_fn(2, 2, |s, j| [[-1.0, 1.0], [2.0, 1.0]][s][j]);
        let z = network.predict(x.as_ref());
        // Row x = -1: gate 1 is on, 2x + 1 = -1, sign -1; gate 0 is off. Row x = 2: the other way round.
        let expected = [[1.5, -10.0], [0.5, 23.0]];
        assert_eq!(z, Mat::from_fn(2, 2, |s, c| expected[s][c]));
        network.activation = Activation::Relu;
        let z = network.predict(x.as_ref());
        let expected = [[0.5, -10.0], [0.5 - 5.0, 23.0]];
        assert_eq!(z, Mat::from_fn(2, 2, |s, c| expected[s][c]));
    }
}
