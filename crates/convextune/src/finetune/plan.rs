//! Which solver and which preconditioner: a stated cost model.
//!
//! The unit is one forward pass of all N samples through the trainable part of the network. A
//! tangent costs two more units and so does an adjoint (two products a layer each), hence
//!
//! ```text
//! one iteration (dual: VJP pass, JVP pass)       (1 + 2 c) + (1 + 2 c)
//! features alone                                 1
//! sketch with k buckets                          1 + 2 C  (C backward passes)
//!   + Gram matrix of the sketch                  (NC)^2 k / (2 N F)   or     NC k^2 / (2 N F)
//! dual kernel in R runs                          R (1 + 2 C)  +  (NC)^2 D / (2 N F)
//! ```
//!
//! F is the number of multiply-adds of one sample's forward pass, c that of the weights' copies: where every class has
//! one ([`HeadInit::Common`]), kernel and sketch are those of one copy, and C is 1 above. The decision falls in two steps.
//! Before the prior is known: the exact kernel, if that is cheapest and memory holds it, and always where every class has
//! a copy and N <= 12,000, since it is `N x N` then; the sketch, if the choice of the prior will sketch all rows anyway;
//! otherwise open. Afterwards, an open choice is settled by
//! iterations: those without preconditioner and with the features' are counted on the part of the
//! kernel that chose the prior ([`convextune_solve::quadratic::dual_iterations`]) and grow with the
//! square root of the rows (the largest eigenvalue grows with them, Lambda does not); those with a
//! sketch are about `5 + 3 sqrt(NC / k)` where Lambda is small, and 2 and a quarter of the features'
//! where these do well already, whichever is less (measured, `dev/bench`).
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

    /// The cheapest of the sizes that fit in memory.
    fn sketch_size(&self) -> usize {
        let fitting = SKETCH_BYTES / (4 * self.rows() as usize).max(1);
        let sizes = SKETCH_SIZES.into_iter().filter(|k| *k <= fitting);
        let cheapest = sizes.min_by(|a, b| self.sketch_cost(*a).total_cmp(&self.sketch_cost(*b)));
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

    fn sketch_iterations(&self, k: usize) -> f64 {
        5.0 + 3.0 * (self.rows() / k as f64).sqrt()
    }

    fn sketch_cost(&self, k: usize) -> f64 {
        self.sketch_setup(k) + self.iteration() * self.sketch_iterations(k)
    }

    /// A pass of adjoints and one of tangents, of every copy.
    fn iteration(&self) -> f64 {
        2.0 * (1.0 + 2.0 * self.copies as f64)
    }

    fn dual_cost(&self) -> f64 {
        let gradients = self.kernel_runs as f64 * (1.0 + 2.0 * self.classes as f64);
        gradients + self.units(self.rows().powi(2) * self.weights as f64 / 2.0) + self.iteration()
    }
}

/// Iterations of conjugate gradients counted on a part of the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iterations {
    /// Rows of the part.
    pub rows: usize,
    /// Without preconditioner.
    pub plain: usize,
    /// With the features'.
    pub features: usize,
}

/// The first step: what the options demand, and what does not depend on the prior. The
/// preconditioner may stay [`PreconditionerChoice::Auto`].
pub fn plan(sizes: &Sizes, options: &FitOptions) -> Plan {
    let sketch_size = options.sketch_size.unwrap_or_else(|| sizes.sketch_size());
    let sketch_cost = sizes.sketch_cost(sketch_size);
    let open = options.precondition == PreconditionerChoice::Auto;
    let rows = sizes.rows() as usize;
    let common = options.head_init == HeadInit::Common;
    let dual = match options.solver {
        SolverChoice::Dual => true,
        SolverChoice::Pcg => false,
        SolverChoice::Auto if open && common && rows <= LARGEST_COMMON => true,
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
    pub fn settled(self, sizes: &Sizes, iterations: Iterations) -> Self {
        let growth = (sizes.rows() / iterations.rows.max(1) as f64)
            .max(1.0)
            .sqrt();
        let pass = sizes.iteration();
        let cost = |iterations: usize| pass * growth * iterations as f64;
        let k = self.sketch_size;
        let sketched =
            (2.0 * pass + cost(iterations.features) / 4.0).min(pass * sizes.sketch_iterations(k));
        let costs = [
            (
                PreconditionerChoice::Features,
                1.0 + cost(iterations.features),
            ),
            (PreconditionerChoice::None, cost(iterations.plain)),
            (
                PreconditionerChoice::Sketch,
                sizes.sketch_setup(k) + sketched,
            ),
        ];
        let best = costs.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let (precondition, expected_cost) = best.unwrap_or(costs[0]);
        Self {
            precondition,
            expected_cost,
            ..self
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
mod tests {
    use super::*;

    /// Weights shared among the classes.
    fn shared() -> FitOptions {
        FitOptions {
            head_init: HeadInit::Random,
            ..FitOptions::default()
        }
    }

    fn sizes(samples: usize, classes: usize) -> Sizes {
        Sizes {
            samples,
            classes,
            copies: 1,
            weights: 3_400_000,
            forward: 4e8,
            kernel_runs: samples * classes / 140 + 1,
            largest_kernel: 20_000,
        }
    }

    #[test]
    fn few_rows_take_the_closed_form_and_more_the_sketch_that_the_prior_needs() {
        let options = shared();
        assert_eq!(plan(&sizes(10, 2), &options).solver, SolverChoice::Dual);
        let larger = plan(&sizes(200, 10), &options);
        assert_eq!(
            (larger.solver, larger.precondition),
            (SolverChoice::Pcg, PreconditionerChoice::Sketch)
        );
    }

    /// One kernel for all classes is formed whatever it costs; beyond a size only where it is cheap and fits.
    #[test]
    fn copies_of_the_weights_take_the_closed_form() {
        let with = |samples, copies, weights| {
            let sizes = Sizes {
                copies,
                weights,
                forward: 4.0 * weights as f64,
                ..sizes(samples, 1)
            };
            plan(&sizes, &FitOptions::default())
        };
        let solver = |samples, copies, weights| with(samples, copies, weights).solver;
        assert_eq!(solver(LARGEST_COMMON, 2, 3_400_000), SolverChoice::Dual);
        assert_eq!(solver(LARGEST_COMMON + 1, 2, 3_400_000), SolverChoice::Pcg);
        assert_eq!(solver(20_000, 100, 400_000), SolverChoice::Dual);
        assert_eq!(solver(20_001, 100, 400_000), SolverChoice::Pcg);
    }

    /// The dearer an iteration, the better the preconditioner.
    #[test]
    fn many_copies_take_a_larger_sketch() {
        let size = |copies| {
            let sizes = Sizes {
                copies,
                forward: 1.6e6,
                ..sizes(30_000, 1)
            };
            sizes.sketch_size()
        };
        assert!(size(1) < size(10) && size(10) < size(100));
    }

    #[test]
    fn many_rows_wait_for_the_prior_and_take_what_is_cheapest_under_it() {
        let sizes = sizes(2000, 100);
        let open = plan(&sizes, &shared());
        assert_eq!(open.precondition, PreconditionerChoice::Auto);
        let with = |plain, features| {
            let iterations = Iterations {
                rows: 5000,
                plain,
                features,
            };
            open.settled(&sizes, iterations).precondition
        };
        assert_eq!(with(20, 6), PreconditionerChoice::Features);
        assert_eq!(with(6, 6), PreconditionerChoice::None);
        assert_eq!(with(200, 100), PreconditionerChoice::Sketch);
    }

    #[test]
    fn what_the_user_asks_for_is_done() {
        let options = FitOptions {
            precondition: PreconditionerChoice::Kfac,
            ..shared()
        };
        let chosen = plan(&sizes(10, 2), &options);
        assert_eq!(
            (chosen.solver, chosen.precondition),
            (SolverChoice::Pcg, PreconditionerChoice::Kfac)
        );
        let options = FitOptions {
            solver: SolverChoice::Dual,
            ..shared()
        };
        assert_eq!(plan(&sizes(1000, 10), &options).solver, SolverChoice::Dual);
    }

    #[test]
    fn the_sketch_stays_within_memory() {
        let k = sizes(2000, 101).sketch_size();
        assert!(k * 2000 * 101 * 4 <= SKETCH_BYTES && k >= 512);
    }

    /// The table above, for N = 10, C = 2, D = 1000, F = 100.
    #[test]
    fn costs_are_those_of_the_table() {
        let sizes = Sizes {
            samples: 10,
            classes: 2,
            copies: 1,
            weights: 1000,
            forward: 100.0,
            kernel_runs: 3,
            largest_kernel: 20_000,
        };
        let near = |cost: f64, expected: f64| assert!((cost - expected).abs() < 1e-9, "{cost}");
        // 20^2 * 1000 / (2 * 10 * 100), one iteration.
        near(sizes.dual_cost(), 3.0 * 5.0 + 200.0 + 6.0);
        // 20^2 * 100 / 2000; below 20 buckets 20 * 5^2 / 2000.
        near(sizes.sketch_setup(100), 5.0 + 20.0);
        near(sizes.sketch_setup(5), 5.0 + 0.25);
        near(sizes.sketch_iterations(5), 5.0 + 3.0 * 2.0);
        near(sizes.sketch_cost(5), 5.25 + 6.0 * 11.0);
    }

    /// Four times the rows of the part: twice its iterations.
    #[test]
    fn iterations_grow_with_the_root_of_the_rows() {
        let sizes = sizes(2000, 100);
        let open = plan(&sizes, &shared());
        let cost = |plain, features| {
            let iterations = Iterations {
                rows: 50_000,
                plain,
                features,
            };
            open.settled(&sizes, iterations).expected_cost
        };
        assert!((cost(20, 6) - (1.0 + 6.0 * 12.0)).abs() < 1e-9);
        assert!((cost(6, 6) - 6.0 * 12.0).abs() < 1e-9);
        let sketched = sizes.sketch_cost(open.sketch_size);
        assert!((cost(2000, 1000) - sketched).abs() < 1e-9);
    }

    #[test]
    fn a_pass_counts_the_products_of_every_layer() {
        let network = crate::linearize::tests::network();
        // 5 x 4 pixels; each output of a convolution reads 3, 1, 4 and 6 / 2 channels. The other
        // nodes (the input, three norms, the pool) count their outputs.
        let convolutions = 4 * 9 * 3 + 4 * 9 + 6 * 4 + 6 * 9 * 3;
        let expected = 20 * (3 + convolutions + 4 + 4 + 6) + 6 + 6 * 3;
        let counted = multiply_adds(network.graph(), Shape::new(1, 5, 4, 3));
        assert!((counted - f64::from(expected)).abs() < 0.5, "{counted}");
    }
}
