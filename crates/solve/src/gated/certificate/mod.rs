//! What is proved about a point of a gated program, recomputed from the data by plain loops: nothing here
//! is shared with the solvers.
//!
//! The Lagrangian dual of (1) in [`super`] is, with `R°` the dual norm of `R`,
//!
//! ```text
//!     max over Theta    -F*(-Theta)     with    R°(X' D_i Theta) <= lambda for all i ,
//!                                               1' Theta = 0  if there is a free intercept         (1)
//! ```
//!
//! and every feasible `Theta` bounds the minimum from below. At the optimum `Theta = -grad F(Z)`, so the
//! candidate is `T / n` with `T = -n grad F(Z)`, brought into the domain of `F*` and to columns with sum 0
//! ([`loss`]), then multiplied by the best `s` with `s R°(X' D_i T / n) <= lambda`.
//!
//! | `R` | `R°` of the gate's `c = X' D_i T / n` (`d x C`) |
//! |---|---|
//! | neuron | largest `||c[:, k]||_2`; with a cone, of `||P_K (+-c[:, k])||_2` |
//! | feature | largest over features `j` and outputs `k` of `( sum over gates of c_i[j, k]^2 )^(1/2)` |
//! | l1 | largest `|c[j, k]|` |
//! | nuclear | largest singular value of `c` |
//!
//! `||P_K c|| = min over mu >= 0 of ||c + B' mu||` (`B` the rows of the cone, see [`crate::prox::cone`]), so
//! any `mu >= 0` bounds it from above: the multipliers come from a projection, the norm is computed from
//! them here, and a wrong projection could only make the bound worse.
//!
//! `R = 1/2 ||U||^2` is no norm; its dual has no constraint but the term
//! `-1/(2 lambda) sum_i ||X' D_i Theta||^2` (with cones: of the projections of `c` and of `-c`).

mod loss;
mod prices;

use faer::Mat;

use self::loss::Residual;
use self::prices::Prices;
use super::{Activation, GapCertificate, Neuron, Penalty, Problem};
use crate::dense::ratio;
use crate::error::SolveError;

/// Recomputes objective, dual value, gap and constraint violation of a point.
///
/// # Errors
/// When the problem is not sound, a neuron does not belong to it, or its penalty has no certificate with
/// ReLU (only the neuron-wise norm and the squared norm do).
pub fn certify(
    problem: &Problem,
    neurons: &[Neuron],
    intercept: &[f64],
) -> Result<GapCertificate, SolveError> {
    problem.check()?;
    check_penalty(problem)?;
    check_neurons(problem, neurons)?;
    let z = outputs(problem, neurons, intercept);
    let residual = Residual::at(problem, &z);
    let objective = residual.value + problem.lambda * penalty(problem, neurons);
    let prices = Prices::of(problem, &residual.t);
    let dual_value = dual_value(problem, &residual, &prices);
    let gap = objective - dual_value;
    Ok(GapCertificate {
        objective,
        dual_value,
        duality_gap: gap,
        relative_duality_gap: ratio(gap, objective),
        constraint_violation: violation(problem, neurons),
    })
}

/// The least `lambda` for which the zero network, with the best intercept alone, is optimal.
///
/// # Errors
/// When the problem is not sound, or the penalty is the squared norm, for which there is none.
pub fn lambda_max(problem: &Problem) -> Result<f64, SolveError> {
    problem.check()?;
    check_penalty(problem)?;
    if problem.penalty == Penalty::SquaredL2 {
        return Err(SolveError::Parameter {
            what: "penalty with a largest lambda",
            domain: "a norm, not a squared norm",
            got: f64::NAN,
        });
    }
    let (n, outputs) = (problem.matrix.samples(), problem.outputs());
    let b = if problem.intercept {
        loss::best_intercept(problem)
    } else {
        vec![0.0; outputs]
    };
    let z = Mat::from_fn(n, outputs, |_, c| b[c]);
    let residual = Residual::at(problem, &z);
    Ok(Prices::of(problem, &residual.t).largest)
}

fn check_penalty(problem: &Problem) -> Result<(), SolveError> {
    let sound = matches!(problem.penalty, Penalty::Neuron | Penalty::SquaredL2);
    if problem.activation == Activation::Gated || sound {
        Ok(())
    } else {
        Err(SolveError::Unsupported {
            what: "ReLU with a penalty other than the neuron-wise or the squared norm",
        })
    }
}

fn check_neurons(problem: &Problem, neurons: &[Neuron]) -> Result<(), SolveError> {
    let features = problem.matrix.features();
    for neuron in neurons {
        crate::error::check_len("weights of a neuron", features, neuron.weights.len())?;
        crate::error::check_finite("weights of a neuron", &neuron.weights)?;
        let fits = neuron.gate < problem.matrix.gates() && neuron.output < problem.outputs();
        if !fits {
            return Err(SolveError::Parameter {
                what: "gate of a neuron",
                domain: "one of the problem's, with an output of the problem's",
                got: neuron.gate as f64,
            });
        }
    }
    Ok(())
}

/// `Z`, sample by sample.
fn outputs(problem: &Problem, neurons: &[Neuron], intercept: &[f64]) -> Mat<f64> {
    let (n, outputs) = (problem.matrix.samples(), problem.outputs());
    let x = problem.matrix.x();
    let mut z = Mat::from_fn(n, outputs, |_, c| intercept.get(c).copied().unwrap_or(0.0));
    for neuron in neurons {
        for s in (0..n).filter(|s| problem.matrix.patterns().get(neuron.gate, *s)) {
            let along: f64 = neuron
                .weights
                .iter()
                .enumerate()
                .map(|(j, w)| x[(s, j)] * w)
                .sum();
            z[(s, neuron.output)] += neuron.sign * along;
        }
    }
    z
}

/// `R(U)`.
fn penalty(problem: &Problem, neurons: &[Neuron]) -> f64 {
    let squares = |n: &Neuron| n.weights.iter().map(|w| w * w).sum::<f64>();
    match problem.penalty {
        Penalty::Neuron => neurons.iter().map(|n| squares(n).sqrt()).sum(),
        Penalty::SquaredL2 => 0.5 * neurons.iter().map(squares).sum::<f64>(),
        Penalty::L1 => neurons
            .iter()
            .flat_map(|n| &n.weights)
            .map(|w| w.abs())
            .sum(),
        Penalty::Feature => {
            let mut sums = Mat::<f64>::zeros(problem.matrix.features(), problem.outputs());
            for neuron in neurons {
                for (j, w) in neuron.weights.iter().enumerate() {
                    sums[(j, neuron.output)] += w * w;
                }
            }
            (0..sums.ncols())
                .flat_map(|c| sums.col_as_slice(c))
                .map(|s| s.sqrt())
                .sum()
        }
        Penalty::Nuclear => {
            let mut by_gate = std::collections::BTreeMap::new();
            for neuron in neurons {
                let zeros = || Mat::zeros(problem.matrix.features(), problem.outputs());
                let u: &mut Mat<f64> = by_gate.entry(neuron.gate).or_insert_with(zeros);
                for (j, w) in neuron.weights.iter().enumerate() {
                    u[(j, neuron.output)] += neuron.sign * w;
                }
            }
            by_gate
                .values()
                .map(|u| prices::singular_values(u).iter().sum::<f64>())
                .sum()
        }
    }
}

/// The best value of (1) among the multiples `s T / n`.
fn dual_value(problem: &Problem, residual: &Residual, prices: &Prices) -> f64 {
    if problem.penalty == Penalty::SquaredL2 {
        return residual.dual(problem, 1.0) - prices.squares / (2.0 * problem.lambda);
    }
    let limit = if prices.largest > 0.0 {
        problem.lambda / prices.largest
    } else {
        f64::INFINITY
    };
    residual.dual(problem, residual.best_scale(problem).clamp(0.0, limit))
}

/// The most by which a neuron's weights leave its cone, by the cosine with the row.
fn violation(problem: &Problem, neurons: &[Neuron]) -> f64 {
    let x = problem.matrix.x();
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let mut worst: f64 = 0.0;
    for neuron in neurons.iter().filter(|n| problem.has_cone(n.gate)) {
        let length = norm(&mut neuron.weights.iter().copied());
        for s in 0..x.nrows() {
            let scale = length * norm(&mut (0..x.ncols()).map(|j| x[(s, j)]));
            if scale > 0.0 {
                let along: f64 = (0..x.ncols()).map(|j| x[(s, j)] * neuron.weights[j]).sum();
                let on = problem.matrix.patterns().get(neuron.gate, s);
                worst = worst.max(if on { -along } else { along } / scale);
            }
        }
    }
    worst
}
