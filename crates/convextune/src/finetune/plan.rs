//! Which solver and which preconditioner: a stated cost model.
//!
//! The unit is one forward pass of all N samples through the trainable part of the network. A
//! tangent costs two more units and so does an adjoint (two products a layer each), hence
//!
//! ```text
//! one iteration (dual: VJP pass, JVP pass)       (1 + 2) + (1 + 2)           = 6
//! sketch with k buckets                          1 + 2 C  (C backward passes)
//!   + Gram matrix of the sketch                  (NC)^2 k / (2 N F)   or     NC k^2 / (2 N F)
//! K-FAC, one probe a sample                      1 + 2 + 4 (input and output Gram matrices)
//! EKFAC                                          K-FAC + 1 + 2 + 8 (rotations)
//! dual kernel in R runs                          R (1 + 2 C)  +  (NC)^2 D / (2 N F)
//! ```
//!
//! F is the number of multiply-adds of one sample's forward pass. Iterations to a relative
//! gradient of 1e-3 are taken from measurements (`dev/bench`): about `1.6 sqrt(NC)`
//! without preconditioner, about 60 % of that with K-FAC, and with a sketch
//! `5 + 3 sqrt(NC / k)`.

use convextune_model::graph::Graph;
use convextune_model::ops::Op;
use convextune_model::tensor::Shape;
use serde::{Deserialize, Serialize};

use super::options::{FitOptions, PreconditionerChoice, SolverChoice};

/// Bytes that the sketch Z may take; its preconditioner takes up to twice as much again.
const SKETCH_BYTES: usize = 3 << 30;
/// Buckets that the cost model chooses among.
const SKETCH_SIZES: [usize; 7] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768];
/// Bytes of Jacobian rows that the dual kernel stores at a time.
pub(crate) const KERNEL_BYTES: usize = 2 << 30;
/// Rows NC up to which an `NC x NC` matrix is formed.
const LARGEST_KERNEL: usize = 20_000;

/// The sizes that decide.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// N.
    pub samples: usize,
    /// C.
    pub classes: usize,
    /// D.
    pub weights: usize,
    /// F, multiply-adds of one sample's forward pass.
    pub forward: f64,
    /// Runs in which the dual kernel would be computed.
    pub kernel_runs: usize,
}

/// What will be done, and what it is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `Dual` or `Pcg`.
    pub solver: SolverChoice,
    /// Not `Auto`.
    pub precondition: PreconditionerChoice,
    /// k.
    pub sketch_size: usize,
    /// Expected cost in forward passes over the data.
    pub expected_cost: f64,
}

impl Sizes {
    fn rows(&self) -> f64 {
        (self.samples * self.classes) as f64
    }

    /// Multiply-adds in units of a forward pass over the data.
    fn units(&self, multiply_adds: f64) -> f64 {
        multiply_adds / (self.samples as f64 * self.forward)
    }

    /// The cheapest of the sizes that fit in memory.
    fn sketch_size(&self) -> usize {
        let fitting = SKETCH_BYTES / (4 * self.rows() as usize).max(1);
        let sizes = SKETCH_SIZES.into_iter().filter(|k| *k <= fitting);
        let cheapest = sizes.min_by(|a, b| self.sketch_cost(*a).total_cmp(&self.sketch_cost(*b)));
        cheapest.unwrap_or(SKETCH_SIZES[0])
    }

    fn sketch_cost(&self, k: usize) -> f64 {
        let (rows, k) = (self.rows(), k as f64);
        let gram = if rows <= k {
            rows * rows * k / 2.0
        } else {
            rows * k * k / 2.0
        };
        let iterations = 5.0 + 3.0 * (rows / k).sqrt();
        1.0 + 2.0 * self.classes as f64 + self.units(gram) + 6.0 * iterations
    }

    fn dual_cost(&self) -> f64 {
        let gradients = self.kernel_runs as f64 * (1.0 + 2.0 * self.classes as f64);
        gradients + self.units(self.rows().powi(2) * self.weights as f64 / 2.0) + 6.0
    }

    fn plain_cost(&self) -> f64 {
        6.0 * 1.6 * self.rows().sqrt()
    }
}

/// The cheapest way that the options allow.
pub fn plan(sizes: &Sizes, options: &FitOptions) -> Plan {
    let k = options.sketch_size.unwrap_or_else(|| sizes.sketch_size());
    let pcg = [
        (PreconditionerChoice::Sketch, sizes.sketch_cost(k)),
        (PreconditionerChoice::Kfac, 7.0 + 0.6 * sizes.plain_cost()),
        (PreconditionerChoice::Ekfac, 18.0 + 0.6 * sizes.plain_cost()),
        (PreconditionerChoice::None, sizes.plain_cost()),
    ];
    let wanted = |(choice, _): &(PreconditionerChoice, f64)| {
        options.precondition == PreconditionerChoice::Auto || options.precondition == *choice
    };
    let best = pcg
        .into_iter()
        .filter(wanted)
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let (precondition, cost) = best.unwrap_or((PreconditionerChoice::None, sizes.plain_cost()));
    let fits = sizes.rows() as usize <= LARGEST_KERNEL;
    let dual = match options.solver {
        SolverChoice::Dual => true,
        SolverChoice::Pcg => false,
        SolverChoice::Auto => {
            fits && options.precondition == PreconditionerChoice::Auto && sizes.dual_cost() < cost
        }
    };
    let solver = if dual {
        SolverChoice::Dual
    } else {
        SolverChoice::Pcg
    };
    let expected_cost = if dual { sizes.dual_cost() } else { cost };
    Plan {
        solver,
        precondition,
        sketch_size: k,
        expected_cost,
    }
}

/// Multiply-adds of a forward pass of one sample of shape `input`; 0 where shapes do not fit.
pub fn multiply_adds(graph: &Graph, input: Shape) -> f64 {
    let Ok(shapes) = graph.shapes(input.with_n(1)) else {
        return 0.0;
    };
    let cost = |(node, y): (&convextune_model::graph::Node, &Shape)| match &node.op {
        Op::Conv2d(conv) => {
            let taps = conv.window.kernel[0] * conv.window.kernel[1];
            (y.len() * taps * conv.cin / conv.groups) as f64
        }
        Op::Linear(linear) => (linear.cin * linear.cout) as f64,
        _ => y.len() as f64,
    };
    graph.nodes().iter().zip(&shapes).map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(samples: usize, classes: usize) -> Sizes {
        Sizes {
            samples,
            classes,
            weights: 3_400_000,
            forward: 4e8,
            kernel_runs: samples * classes / 140 + 1,
        }
    }

    #[test]
    fn few_rows_take_the_closed_form_and_many_the_sketch() {
        let options = FitOptions::default();
        assert_eq!(plan(&sizes(10, 2), &options).solver, SolverChoice::Dual);
        let large = plan(&sizes(1000, 10), &options);
        assert_eq!(
            (large.solver, large.precondition),
            (SolverChoice::Pcg, PreconditionerChoice::Sketch)
        );
    }

    #[test]
    fn what_the_user_asks_for_is_done() {
        let options = FitOptions {
            precondition: PreconditionerChoice::Kfac,
            ..FitOptions::default()
        };
        let chosen = plan(&sizes(10, 2), &options);
        assert_eq!(
            (chosen.solver, chosen.precondition),
            (SolverChoice::Pcg, PreconditionerChoice::Kfac)
        );
        let options = FitOptions {
            solver: SolverChoice::Dual,
            ..FitOptions::default()
        };
        assert_eq!(plan(&sizes(1000, 10), &options).solver, SolverChoice::Dual);
    }

    #[test]
    fn the_sketch_stays_within_memory() {
        let k = sizes(2000, 101).sketch_size();
        assert!(k * 2000 * 101 * 4 <= SKETCH_BYTES && k >= 512);
    }
}
