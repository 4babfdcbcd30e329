//! Fewest units with the same fit: from a point of the optimal set to one of its vertices.
//!
//! Let `q_k = phi_k(X) w2_k'` be what unit `k` adds to the outputs on the `n` training rows, and scale its
//! two layers by `sqrt(t_k)`, `t_k >= 0`: it then adds `t_k q_k` at the decay `t_k p_k`. All `t` with
//!
//! ```text
//!     sum_k t_k q_k = sum_k q_k ,    t >= 0                                              (1)
//! ```
//!
//! have the same fit, and no weight leaves its cone. As long as the `q_k` with `t_k > 0` are linearly
//! dependent there is a direction `v != 0` with `sum v_k q_k = 0`; take its sign such that
//! `sum v_k p_k <= 0`. Then some `v_k < 0`, and the step `t + s v` up to the first `t_k = 0` keeps the fit,
//! does not raise the objective, and removes a unit. At the end the `q_k` are independent.
//!
//! At a minimum `sum v_k p_k = 0`: with `Theta = -grad F`, a live neuron has `<Theta, q_k> = lambda p_k`, so
//! `lambda sum v_k p_k = <Theta, sum v_k q_k> = 0`. There every live block has one fixed direction, the
//! optimal set is the polytope (1), and the end is one of its vertices: no optimal network uses a proper
//! subset of its units, and there are at most `n` per output (Mishkin and Pilanci, *Optimal sets and solution paths of
//! ReLU networks*, ICML 2023, section 4). The least *number* of units over all vertices is a harder,
//! combinatorial question, not answered here.
//!
//! A free bias is one more `q`, the column of ones, with no sign and no decay.

use convextune_solve::faer::MatRef;

use super::recovery::PlainNetwork;

/// A part outside the span of the others that is shorter than this share counts as none.
const DEPENDENT: f64 = 1e-10;

/// Prunes to units whose contributions on the rows of `x` (`n x d`) are independent. `free_bias`: the
/// output biases are free, and may change as well.
pub fn prune(network: &PlainNetwork, x: MatRef<'_, f64>, free_bias: bool) -> PlainNetwork {
    let mut pruned = network.clone();
    let mut factors = vec![0.0; network.units.len()];
    for (outputs, units) in groups(network) {
        let mut vertex = Vertex::new(network, x, &outputs, units, free_bias);
        vertex.descend();
        for (unit, t) in vertex.units.iter().zip(&vertex.t) {
            factors[*unit] = *t;
        }
        for (c, shift) in outputs.iter().zip(&vertex.shift) {
            pruned.intercept[*c] += shift;
        }
    }
    let scaled = pruned.units.drain(..).zip(&factors);
    let kept = scaled.filter(|(_, t)| **t > 0.0).map(|(mut unit, t)| {
        unit.scale(t.sqrt());
        unit
    });
    pruned.units = kept.collect();
    pruned
}

/// Outputs and the units that feed them: one output at a time where every unit feeds one only.
fn groups(network: &PlainNetwork) -> Vec<(Vec<usize>, Vec<usize>)> {
    let fed: Option<Vec<usize>> = network.units.iter().map(|u| u.only_output()).collect();
    let outputs = 0..network.intercept.len();
    let Some(fed) = fed else {
        return vec![(outputs.collect(), (0..network.units.len()).collect())];
    };
    let of = |c: usize| (0..fed.len()).filter(|k| fed[*k] == c).collect();
    outputs.map(|c| (vec![c], of(c))).collect()
}

/// A point of (1) that goes to a vertex.
struct Vertex {
    /// Indices of the units; the vectors below are in this order.
    units: Vec<usize>,
    /// `q_k`, and after the units the columns of ones of free biases.
    q: Vec<Vec<f64>>,
    /// `p_k`.
    p: Vec<f64>,
    t: Vec<f64>,
    /// What was added to the bias of every output.
    shift: Vec<f64>,
    basis: Basis,
}

impl Vertex {
    fn new(
        network: &PlainNetwork,
        x: MatRef<'_, f64>,
        outputs: &[usize],
        mut units: Vec<usize>,
        free_bias: bool,
    ) -> Self {
        let decay = |k: usize| network.units[k].decay();
        // The heaviest first: they are the likeliest to stay.
        units.sort_by(|a, b| decay(*b).total_cmp(&decay(*a)).then(a.cmp(b)));
        let part = PlainNetwork {
            units: units.iter().map(|k| network.units[*k].clone()).collect(),
            intercept: network.intercept.clone(),
        };
        let (n, hidden) = (x.nrows(), part.hidden(x));
        let added = |(k, unit): (usize, &super::recovery::Unit)| {
            let value = |i: usize| hidden[(i % n, k)] * unit.output[outputs[i / n]];
            (0..n * outputs.len()).map(value).collect()
        };
        let mut q: Vec<Vec<f64>> = part.units.iter().enumerate().map(added).collect();
        let mut basis = Basis::default();
        let biases = if free_bias { outputs.len() } else { 0 };
        for c in 0..biases {
            let ones = (0..n * outputs.len()).map(|i| f64::from(u8::from(i / n == c)));
            q.push(ones.collect());
            basis.push(units.len() + c, &q);
        }
        Self {
            p: units.iter().map(|k| decay(*k)).collect(),
            t: vec![1.0; units.len()],
            shift: vec![0.0; outputs.len()],
            units,
            q,
            basis,
        }
    }

    /// Takes the units into the basis one by one; one that depends on those before it starts a step.
    fn descend(&mut self) {
        for k in 0..self.units.len() {
            while self.t[k] > 0.0
                && let Some(combination) = self.basis.express(&self.q[k])
            {
                self.step(k, &combination);
            }
            if self.t[k] > 0.0 {
                self.basis.push(k, &self.q);
            }
        }
    }

    /// With `q_k = sum_b c_b q_b` over the basis, moves along `+-(c, -1)` until a factor is zero.
    fn step(&mut self, k: usize, combination: &[f64]) {
        let members = self.basis.members.iter().copied();
        let mut direction: Vec<(usize, f64)> = members.zip(combination.iter().copied()).collect();
        direction.push((k, -1.0));
        let is_unit = |i: usize| i < self.units.len();
        let units = direction.iter().filter(|(i, _)| is_unit(*i));
        let rise: f64 = units.map(|(i, v)| v * self.p[*i]).sum();
        if rise > 0.0 {
            direction.iter_mut().for_each(|(_, v)| *v = -*v);
        }
        let limit = |(i, v): &(usize, f64)| (is_unit(*i) && *v < 0.0).then(|| -self.t[*i] / v);
        let length = direction
            .iter()
            .filter_map(limit)
            .fold(f64::INFINITY, f64::min);
        if !length.is_finite() {
            // Only rounding leads here; the unit adds nothing that the others do not.
            self.t[k] = 0.0;
            return;
        }
        for (i, v) in direction {
            if !is_unit(i) {
                self.shift[i - self.units.len()] += length * v;
            } else if v < 0.0 && -self.t[i] / v <= length {
                self.t[i] = 0.0;
                self.basis.remove(i, &self.q);
            } else {
                self.t[i] += length * v;
            }
        }
    }
}

/// Independent vectors with an orthonormal basis of their span, `q = E R`.
#[derive(Default)]
struct Basis {
    /// Which vectors.
    members: Vec<usize>,
    /// `E`.
    orthonormal: Vec<Vec<f64>>,
    /// Column `k` of `R`, its first `k + 1` entries.
    r: Vec<Vec<f64>>,
}

impl Basis {
    /// Coefficients in `E`, and the rest. Twice, as once leaves rounding behind (Gram and Schmidt).
    fn split(&self, q: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut along, mut rest) = (vec![0.0; self.orthonormal.len()], q.to_vec());
        for _ in 0..2 {
            for (along, e) in along.iter_mut().zip(&self.orthonormal) {
                let dot: f64 = e.iter().zip(&rest).map(|(e, r)| e * r).sum();
                *along += dot;
                rest.iter_mut().zip(e).for_each(|(r, e)| *r -= dot * e);
            }
        }
        (along, rest)
    }

    /// The coefficients with which the members add up to `q`, if they do.
    fn express(&self, q: &[f64]) -> Option<Vec<f64>> {
        let (mut c, rest) = self.split(q);
        if norm(&rest) > DEPENDENT * norm(q) {
            return None;
        }
        for k in (0..c.len()).rev() {
            c[k] /= self.r[k][k];
            for i in 0..k {
                c[i] -= c[k] * self.r[k][i];
            }
        }
        Some(c)
    }

    fn push(&mut self, member: usize, q: &[Vec<f64>]) {
        let (mut column, mut rest) = self.split(&q[member]);
        let length = norm(&rest);
        rest.iter_mut().for_each(|r| *r /= length);
        column.push(length);
        self.members.push(member);
        self.orthonormal.push(rest);
        self.r.push(column);
    }

    /// Takes a member out, if it is one; those after it are entered anew.
    fn remove(&mut self, member: usize, q: &[Vec<f64>]) {
        let Some(at) = self.members.iter().position(|m| *m == member) else {
            return;
        };
        let after = self.members.split_off(at);
        self.orthonormal.truncate(at);
        self.r.truncate(at);
        for member in after.into_iter().skip(1) {
            self.push(member, q);
        }
    }
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use convextune_solve::faer::Mat;
    use convextune_testkit::Rng;

    use super::*;
    use crate::convexnet::recovery::{Gate, Unit};

    fn relu(hidden: &[f64], output: &[f64]) -> Unit {
        Unit {
            gate: Gate::Relu,
            hidden: hidden.to_vec(),
            output: output.to_vec(),
        }
    }

    /// Hinges on five points of a line. Between the points 0 and 1 the slope may change at any place: one
    /// hinge there or two add the same to the rows.
    #[test]
    fn dependent_units_go_and_the_fit_stays() {
        let x = Mat::from_fn(5, 2, |s, j| if j == 0 { s as f64 } else { 1.0 });
        let units = vec![
            relu(&[1.0, -0.2], &[1.0]),
            relu(&[1.0, -0.5], &[1.0]),
            relu(&[1.0, -0.9], &[1.0]),
            relu(&[-1.0, 2.5], &[-1.0]),
        ];
        let network = PlainNetwork {
            units,
            intercept: vec![0.7],
        };
        let pruned = prune(&network, x.as_ref(), false);
        // (x - 0.5)+ = 4/7 (x - 0.2)+ + 3/7 (x - 0.9)+ on the rows, so one of three goes.
        assert_eq!(pruned.units.len(), 3);
        let difference = network.predict(x.as_ref()) - pruned.predict(x.as_ref());
        assert!(difference.norm_max() < 1e-12);
        assert!(pruned.decay() < network.decay());
        assert!((pruned.intercept[0] - 0.7).abs() < 1e-15);
    }

    /// Any network on few rows: at most one unit a row and output, with a free bias one fewer.
    #[test]
    fn no_more_units_than_rows_are_left() {
        let mut rng = Rng::new(4);
        let (n, d) = (7, 3);
        let x = Mat::from_fn(n, d, |_, _| rng.normal());
        let coupled = |rng: &mut Rng| rng.normals(2);
        let single = |rng: &mut Rng| vec![0.0, rng.normal()];
        let outputs: [&dyn Fn(&mut Rng) -> Vec<f64>; 2] = [&coupled, &single];
        for (output, rows) in outputs.into_iter().zip([2 * n, n]) {
            for free_bias in [false, true] {
                let unit = |_| relu(&rng.normals(d), &output(&mut rng));
                let units: Vec<Unit> = (0..60).map(unit).collect();
                let network = PlainNetwork {
                    units,
                    intercept: vec![0.1, 0.2],
                };
                let pruned = prune(&network, x.as_ref(), free_bias);
                let biases = if free_bias { rows / n } else { 0 };
                assert!(
                    pruned.units.len() <= rows - biases,
                    "{}",
                    pruned.units.len()
                );
                let difference = network.predict(x.as_ref()) - pruned.predict(x.as_ref());
                assert!(difference.norm_max() < 1e-9, "{}", difference.norm_max());
                assert!(pruned.decay() <= network.decay());
                let again = prune(&pruned, x.as_ref(), free_bias);
                assert_eq!(again.units.len(), pruned.units.len());
            }
        }
    }

    #[test]
    fn a_unit_that_is_off_on_all_rows_goes() {
        let x = Mat::from_fn(3, 1, |s, _| 1.0 + s as f64);
        let network = PlainNetwork {
            units: vec![relu(&[-1.0], &[1.0]), relu(&[1.0], &[2.0])],
            intercept: vec![0.0],
        };
        let pruned = prune(&network, x.as_ref(), false);
        assert_eq!(pruned.units, network.units[1..]);
    }
}
