//! Which solver and which preconditioner: a stated cost model.
//!
//! The unit is one forward pass of all N samples through the trainable part of the network. A
//! tangent costs two more units and so does an adjoint (two products a layer each), hence
//!
//! ```text
//! one iteration (dual: VJP pass, JVP pass)       3 + 3, and 2 c D / F where c > 1
//! features alone                                 1
//! sketch with k buckets                          1 + 2 C  (C backward passes)
//!   + Gram matrix of the sketch                  (NC)^2 k / (2 N F)   or     NC k^2 / (2 N F)
//! dual kernel in R runs                          R (1 + 2 C)  +  (NC)^2 D / (2 N F)
//! ```
//!
//! F is the number of multiply-adds of one sample's forward pass, c that of the weights' copies: where every class has
//! one ([`HeadInit::Common`]), kernel and sketch are those of one copy, C is 1 above, and a product with J takes a
//! product of a sample's gradient with every copy. The decision falls in two steps.
//! Before the prior is known: the exact kernel, if that is cheapest, and always where every class has
//! a copy and N <= 12,000, since it is `N x N` then; the sketch, if the choice of the prior will sketch all rows anyway;
//! otherwise open. Afterwards, an open choice is settled by iterations. Those without preconditioner and with the features'
//! are counted on the part of the kernel that chose the prior ([`convextune_solve::quadratic::dual_iterations`]) and grow
//! with the square root of the rows (the largest eigenvalue grows with them, Lambda does not). With a sketch, which errs in
//! `s^2 K_back` alone, the eigenvalues of the preconditioned system lie about between `(1 - r)^2` and `(1 + r)^2`,
//!
//! ```text
//!     r = (d / k)^(1/2) ,     d = tr s^2 K_back (K + Lambda I)^-1        (counted on the part, growing with the rows)
//! ```
//!
//! as those of a Wishart matrix of d dimensions and k degrees of freedom do (Marchenko and Pastur 1967), and conjugate
//! gradients gain a factor r an iteration; not fewer iterations than with the features where k is too small. Where nothing
//! was asked for and memory holds it, the exact kernel is a choice here too; with copies at three times the cost.
//!
//! K-FAC and EKFAC are there to be asked for and never chosen: with more weights than rows (D > NC,
//! the rule here) J'J + Lambda I has D - NC eigenvalues equal to Lambda, which conjugate gradients
//! settle in one iteration, and a block model of full rank spreads them
//! (`docs/math/preconditioners.md`).

use convextune_model::graph::Graph;
use convextune_model::ops::Op;
use convextune_model::tensor::Shape;
use serde::{Deserialize, Serialize};

use super::evidence::is_whole;
use super::memory::rows_held;
use super::options::{FitOptions, HeadInit, PreconditionerChoice, SolverChoice};

/// Bytes that the sketch Z may take; its preconditioner takes up to as much again.
const SKETCH_BYTES: usize = 3 << 30;
/// Buckets that the cost model chooses among.
const SKETCH_SIZES: [usize; 7] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768];
/// With copies of the weights, how many times the cost of other ways the kernel may have: leave-one-out, and what every
/// image did, are exact with it.
const EXACT: f64 = 3.0;
/// Bytes of Jacobian rows that the dual kernel stores at a time.
pub(crate) const KERNEL_BYTES: usize = 2 << 30;
/// Samples up to which the one kernel of all classes is formed whatever it costs: several such matrices are held.
const LARGEST_COMMON: usize = 12_000;
/// Rows NC up to which an `NC x NC` matrix is formed where classes share the weights.
const LARGEST_SHARED: usize = 20_000;

/// The sizes that decide.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// N.
    pub samples: usize,
    /// C, outputs of the network: 1 where every class has a copy of the weights.
    pub classes: usize,
    /// Copies of the trained weights, one for every class or one for all.
    pub copies: usize,
    /// D, of one copy.
    pub weights: usize,
    /// F, multiply-adds of one sample's forward pass.
    pub forward: f64,
    /// Runs in which the dual kernel would be computed.
    pub kernel_runs: usize,
    /// Rows of the largest kernel that is formed.
    pub largest_kernel: usize,
}

/// Rows of the largest kernel that is formed, with or without a copy of the weights for every class: as many as this
/// machine holds where that is `cheap`, beside other ways.
pub(crate) fn largest_kernel(copies: bool, cheap: bool) -> usize {
    let held = if cheap { rows_held() } else { 0 };
    held.max(if copies {
        LARGEST_COMMON
    } else {
        LARGEST_SHARED
    })
}

/// Whether a model's fit formed the kernel of all samples.
pub(crate) fn formed_kernel(plan: Option<&Plan>) -> bool {
    plan.is_some_and(|plan| plan.solver == SolverChoice::Dual)
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
    /// Expected cost in forward passes over the data; 0 where the model has no estimate.
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

    /// The cheapest of the sizes that fit in memory, by `cost`.
    fn sketch_size(&self, cost: impl Fn(usize) -> f64) -> usize {
        let fitting = SKETCH_BYTES / (4 * self.rows() as usize).max(1);
        let sizes = SKETCH_SIZES.into_iter().filter(|k| *k <= fitting);
        let cheapest = sizes.min_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        cheapest.unwrap_or(SKETCH_SIZES[0])
    }

    fn sketch_setup(&self, k: usize) -> f64 {
        let (rows, k) = (self.rows(), k as f64);
        let gram = if rows <= k {
            rows * rows * k / 2.0
        } else {
            rows * k * k / 2.0
        };
        1.0 + 2.0 * self.classes as f64 + self.units(gram)
    }

    /// For a Lambda that is not known yet.
    fn sketch_iterations(&self, k: usize) -> f64 {
        5.0 + 3.0 * (self.rows() / k as f64).sqrt()
    }

    fn sketch_cost(&self, k: usize) -> f64 {
        self.sketch_setup(k) + self.iteration() * self.sketch_iterations(k)
    }

    /// A pass of adjoints and one of tangents.
    fn iteration(&self) -> f64 {
        let products = if self.copies > 1 {
            self.copies as f64 * self.weights as f64 / self.forward
        } else {
            0.0
        };
        2.0 * (3.0 + products)
    }

    fn dual_cost(&self) -> f64 {
        let gradients = self.kernel_runs as f64 * (1.0 + 2.0 * self.classes as f64);
        gradients + self.units(self.rows().powi(2) * self.weights as f64 / 2.0) + self.iteration()
    }
}

/// What was found on a part of the kernel under the prior.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iterations {
    /// Rows of the part.
    pub rows: usize,
    /// Iterations of conjugate gradients without preconditioner.
    pub plain: usize,
    /// With the features'.
    pub features: usize,
    /// `tr s^2 K_back (K + Lambda I)^-1`, of the centred kernel: degrees of freedom that a sketch has to cover.
    pub freedom: f64,
}

/// The first step: what the options demand, and what does not depend on the prior. The
/// preconditioner may stay [`PreconditionerChoice::Auto`].
pub fn plan(sizes: &Sizes, options: &FitOptions) -> Plan {
    let cheapest = || sizes.sketch_size(|k| sizes.sketch_cost(k));
    let sketch_size = options.sketch_size.unwrap_or_else(cheapest);
    let sketch_cost = sizes.sketch_cost(sketch_size);
    let open = options.precondition == PreconditionerChoice::Auto;
    let rows = sizes.rows() as usize;
    let common = options.head_init == HeadInit::Common;
    let dual = match options.solver {
        SolverChoice::Dual => true,
        SolverChoice::Pcg => false,
        SolverChoice::Auto if common => open && rows <= LARGEST_COMMON,
        SolverChoice::Auto => {
            open && rows <= sizes.largest_kernel && sizes.dual_cost() < sketch_cost
        }
    };
    let precondition = match options.precondition {
        PreconditionerChoice::Auto if dual => PreconditionerChoice::None,
        PreconditionerChoice::Auto if !common && is_whole(sizes.samples, sizes.classes) => {
            PreconditionerChoice::Sketch
        }
        choice => choice,
    };
    Plan {
        solver: if dual {
            SolverChoice::Dual
        } else {
            SolverChoice::Pcg
        },
        precondition,
        sketch_size,
        expected_cost: match precondition {
            _ if dual => sizes.dual_cost(),
            PreconditionerChoice::Sketch => sketch_cost,
            _ => 0.0,
        },
    }
}

impl Plan {
    /// Whether the preconditioner waits for the second step.
    pub fn is_open(&self) -> bool {
        self.precondition == PreconditionerChoice::Auto
    }

    /// The second step, for an open plan: the cheapest under the prior.
    #[must_use]
    pub fn settled(self, sizes: &Sizes, found: Iterations, options: &FitOptions) -> Self {
        let share = (sizes.rows() / found.rows.max(1) as f64).max(1.0);
        let all = |iterations: usize| share.sqrt() * iterations as f64;
        let with_features = 1.0 + sizes.iteration() * all(found.features);
        let sketch = |k: usize| {
            let r = (share * found.freedom / k as f64).sqrt();
            let gained = if r < 1.0 {
                options.tolerance.ln() / r.ln()
            } else {
                f64::INFINITY
            };
            sizes.sketch_setup(k) + sizes.iteration() * (1.0 + gained).min(all(found.features))
        };
        let cheapest = || sizes.sketch_size(sketch);
        let k = options.sketch_size.unwrap_or_else(cheapest);
        let kernel = match options.solver {
            SolverChoice::Auto if sizes.rows() <= sizes.largest_kernel as f64 => {
                sizes.dual_cost() / if sizes.copies > 1 { EXACT } else { 1.0 }
            }
            _ => f64::INFINITY,
        };
        let (pcg, none) = (SolverChoice::Pcg, PreconditionerChoice::None);
        let choices = [
            (pcg, PreconditionerChoice::Features, with_features),
            (pcg, none, sizes.iteration() * all(found.plain)),
            (pcg, PreconditionerChoice::Sketch, sketch(k)),
            (SolverChoice::Dual, none, kernel),
        ];
        let best = choices.into_iter().min_by(|a, b| a.2.total_cmp(&b.2));
        let (solver, precondition, cost) = best.unwrap_or(choices[0]);
        Self {
            solver,
            precondition,
            sketch_size: k,
            expected_cost: match solver {
                SolverChoice::Dual => sizes.dual_cost(),
                _ => cost,
            },
        }
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
mod tests;
