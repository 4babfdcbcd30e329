//! From a point of the convex program to the weights of a two-layer network.
//!
//! A unit of a plain network computes `phi(x) = 1[gate] x'w1` and adds `phi(x) w2` to the outputs; its gate
//! is `x'w1 > 0` (ReLU), `x'g > 0` with a vector of its own (gated), or always open (linear). With weight
//! decay the network's training problem is
//!
//! ```text
//!     min over w1_k, w2_k    F(Z) + (lambda/2) sum_k ( ||w1_k||^2 + ||w2_k||^2 ) .          (1)
//! ```
//!
//! For a live neuron `(w, sign, c)` of the program take
//!
//! ```text
//!     w1 = w / sqrt(||w||) ,    w2 = sign sqrt(||w||) e_c ,                                 (2)
//! ```
//!
//! so that `phi(x) w2 = sign 1[gate] x'w e_c`, the neuron's own output, and
//! `(||w1||^2 + ||w2||^2) / 2 = ||w||`: (1) has the program's objective. By the inequality of the means
//! `(||w1||^2 + ||w2||^2) / 2 >= ||w1|| ||w2||`, with equality for balanced units, no other scaling of a
//! unit has a lower decay (Pilanci, Ergen, ICML 2020, theorem 1; Mishkin, Sahiner, Pilanci, ICML 2022,
//! theorem 2.1). With the nuclear norm a gate's `U = sum_r s_r p_r q_r'` becomes the units
//! `w1 = sqrt(s_r) p_r`, `w2 = sqrt(s_r) q_r`, whose decay is `sum_r s_r = ||U||_*`.
//!
//! The outputs are those of the program for every penalty; that the objectives agree is a theorem for the
//! neuron-wise norm and, with gates, for the nuclear norm.

use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::gated::{Activation, Neuron, Penalty};

use super::network::Network;
use crate::error::Error;

/// Singular values below this share of the largest are no units.
const TINY: f64 = 1e-14;

/// What opens a unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Gate {
    /// Its own value, `x'w1 > 0`.
    Relu,
    /// `x'g > 0`.
    Vector(Vec<f64>),
    /// It is always open.
    Linear,
}

/// A hidden unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// When it is on.
    pub gate: Gate,
    /// `w1`, length `d`, the bias last.
    pub hidden: Vec<f64>,
    /// `w2`, length `C`.
    pub output: Vec<f64>,
}

/// A two-layer network, unit by unit.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainNetwork {
    /// Hidden units.
    pub units: Vec<Unit>,
    /// Output biases, length `C`, not decayed.
    pub intercept: Vec<f64>,
}

impl Unit {
    /// Whether the unit is on for a row with the scores `x'w1` and `x'g`.
    fn is_on(&self, value: f64, score: f64) -> bool {
        match self.gate {
            Gate::Relu => value > 0.0,
            Gate::Vector(_) => score > 0.0,
            Gate::Linear => true,
        }
    }

    /// The only output that the unit feeds, if there is only one.
    pub fn only_output(&self) -> Option<usize> {
        let mut fed = (0..self.output.len()).filter(|c| self.output[*c] != 0.0);
        let first = fed.next()?;
        fed.next().is_none().then_some(first)
    }

    /// `(||w1||^2 + ||w2||^2) / 2`.
    pub fn decay(&self) -> f64 {
        let weights = self.hidden.iter().chain(&self.output);
        0.5 * weights.map(|w| w * w).sum::<f64>()
    }

    /// Multiplies both layers by `factor`.
    pub(super) fn scale(&mut self, factor: f64) {
        let weights = self.hidden.iter_mut().chain(&mut self.output);
        weights.for_each(|w| *w *= factor);
    }
}

impl PlainNetwork {
    /// The units of equation (2).
    ///
    /// # Errors
    /// When a singular value decomposition fails.
    pub fn of(network: &Network, penalty: Penalty) -> Result<Self, Error> {
        let coupled = penalty == Penalty::Nuclear && network.activation == Activation::Gated;
        let units = if coupled {
            coupled_units(network)?
        } else {
            let one = |neuron: &Neuron| single_unit(network, neuron);
            network.neurons.iter().filter_map(one).collect()
        };
        Ok(Self {
            units,
            intercept: network.intercept.clone(),
        })
    }

    /// `phi_k(x)` for every row of `x` (`n x d`) and unit, `n x m`.
    pub fn hidden(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        let (d, m) = (x.ncols(), self.units.len());
        let weights = Mat::from_fn(d, m, |j, k| self.units[k].hidden[j]);
        let gates = Mat::from_fn(d, m, |j, k| match &self.units[k].gate {
            Gate::Vector(g) => g[j],
            _ => 0.0,
        });
        let (values, scores) = (x * weights, x * gates);
        Mat::from_fn(x.nrows(), m, |s, k| {
            let value = values[(s, k)];
            let on = self.units[k].is_on(value, scores[(s, k)]);
            if on { value } else { 0.0 }
        })
    }

    /// Outputs on the rows of `x` (`n x d`), `n x C`.
    pub fn predict(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        let c = self.intercept.len();
        let output = Mat::from_fn(self.units.len(), c, |k, c| self.units[k].output[c]);
        let mut z = self.hidden(x) * output;
        for c in 0..c {
            z.col_as_slice_mut(c)
                .iter_mut()
                .for_each(|z| *z += self.intercept[c]);
        }
        z
    }

    /// `1/2 sum_k ( ||w1_k||^2 + ||w2_k||^2 )`: what `lambda` multiplies in (1).
    pub fn decay(&self) -> f64 {
        self.units.iter().map(Unit::decay).sum()
    }
}

fn gate_of(network: &Network, gate: usize) -> Gate {
    if network.linear == Some(gate) {
        return Gate::Linear;
    }
    match network.activation {
        Activation::Relu => Gate::Relu,
        Activation::Gated => Gate::Vector(network.gates.col_as_slice(gate).to_vec()),
    }
}

/// Equation (2); nothing for a neuron of length zero.
fn single_unit(network: &Network, neuron: &Neuron) -> Option<Unit> {
    let length = neuron.weights.iter().map(|w| w * w).sum::<f64>().sqrt();
    if length == 0.0 {
        return None;
    }
    let root = length.sqrt();
    let mut output = vec![0.0; network.outputs()];
    output[neuron.output] = neuron.sign * root;
    Some(Unit {
        gate: gate_of(network, neuron.gate),
        hidden: neuron.weights.iter().map(|w| w / root).collect(),
        output,
    })
}

/// The units of the singular vectors of every gate's `U`.
fn coupled_units(network: &Network) -> Result<Vec<Unit>, Error> {
    let mut live: Vec<usize> = network.neurons.iter().map(|n| n.gate).collect();
    live.sort_unstable();
    live.dedup();
    let mut units = Vec::new();
    for gate in live {
        let mut u = Mat::<f64>::zeros(network.features(), network.outputs());
        for neuron in network.neurons.iter().filter(|n| n.gate == gate) {
            let column = u.col_as_slice_mut(neuron.output);
            for (u, w) in column.iter_mut().zip(&neuron.weights) {
                *u += neuron.sign * w;
            }
        }
        let svd = u.thin_svd().map_err(|e| {
            Error::Usage(format!(
                "the weights of gate {gate} have no singular value decomposition ({e:?})"
            ))
        })?;
        let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let least = TINY * values.iter().copied().fold(0.0, f64::max);
        for (r, s) in values.iter().enumerate().filter(|(_, s)| **s > least) {
            let root = s.sqrt();
            let scaled = |m: MatRef<'_, f64>| (0..m.nrows()).map(|j| root * m[(j, r)]).collect();
            units.push(Unit {
                gate: gate_of(network, gate),
                hidden: scaled(svd.U()),
                output: scaled(svd.V()),
            });
        }
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use convextune_solve::gated::Loss;
    use convextune_testkit::Rng;

    use super::*;

    /// A point of a program with `n` rows, `d` features, two outputs and one linear neuron.
    fn point(activation: Activation, rng: &mut Rng) -> Network {
        let (d, gates) = (4, 6);
        let g = Mat::from_fn(d, gates, |_, i| if i == 5 { 0.0 } else { rng.normal() });
        let neurons = (0..9).map(|k| Neuron {
            gate: k % gates,
            output: k % 2,
            sign: if k % 3 == 0 { -1.0 } else { 1.0 },
            weights: rng.normals(d),
        });
        let neurons = neurons.collect();
        Network {
            activation,
            gates: g,
            linear: Some(5),
            neurons,
            intercept: vec![0.3, -0.2],
        }
    }

    fn largest_difference(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
        (a - b).norm_max()
    }

    /// The theorem: the outputs and, with the decay of (1), the objective of the program.
    #[test]
    fn a_network_has_the_outputs_and_the_objective_of_its_program() {
        let mut rng = Rng::new(5);
        let x = Mat::from_fn(30, 4, |_, j| if j == 3 { 1.0 } else { rng.normal() });
        let y = Mat::from_fn(30, 2, |_, _| rng.normal());
        for activation in [Activation::Gated, Activation::Relu] {
            let network = point(activation, &mut rng);
            let plain = PlainNetwork::of(&network, Penalty::Neuron).unwrap();
            let (program, ours) = (network.predict(x.as_ref()), plain.predict(x.as_ref()));
            assert!(largest_difference(&program, &ours) < 1e-12);
            let norms: f64 = network.neurons.iter().map(|n| norm(&n.weights)).sum();
            let convex = Loss::Squared.value(program.as_ref(), y.as_ref()) + 0.1 * norms;
            let plain_value = Loss::Squared.value(ours.as_ref(), y.as_ref()) + 0.1 * plain.decay();
            assert!((convex - plain_value).abs() < 1e-12 * convex);
            // No scaling of a unit does better.
            let mut other = plain.units[0].clone();
            other.hidden.iter_mut().for_each(|w| *w *= 1.1);
            other.output.iter_mut().for_each(|w| *w /= 1.1);
            assert!(other.decay() > plain.units[0].decay());
        }
    }

    #[test]
    fn coupled_outputs_share_units_and_the_decay_is_the_nuclear_norm() {
        let mut rng = Rng::new(6);
        let x = Mat::from_fn(20, 4, |_, _| rng.normal());
        let mut network = point(Activation::Gated, &mut rng);
        // Both outputs of gate 1 along the same direction: rank one, one unit.
        network.neurons.retain(|n| n.gate != 1);
        let w = rng.normals(4);
        for (output, factor) in [(0, 3.0), (1, 4.0)] {
            network.neurons.push(Neuron {
                gate: 1,
                output,
                sign: 1.0,
                weights: w.iter().map(|w| factor * w).collect(),
            });
        }
        let plain = PlainNetwork::of(&network, Penalty::Nuclear).unwrap();
        let of_gate = |u: &&Unit| u.gate == gate_of(&network, 1);
        let shared: Vec<&Unit> = plain.units.iter().filter(of_gate).collect();
        assert_eq!(shared.len(), 1);
        assert!((shared[0].decay() - 5.0 * norm(&w)).abs() < 1e-12);
        assert_eq!(shared[0].only_output(), None);
        let difference =
            largest_difference(&network.predict(x.as_ref()), &plain.predict(x.as_ref()));
        assert!(difference < 1e-12);
    }

    fn norm(v: &[f64]) -> f64 {
        v.iter().map(|v| v * v).sum::<f64>().sqrt()
    }
}
