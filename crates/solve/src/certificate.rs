//! How far from the minimum a point can be, proved at that point.
//!
//! `L(u) = 1/2 ||r0 - A u||^2 + (Lambda/2) ||u||^2` is `Lambda`-strongly convex: for all `v`
//!
//! ```text
//!     L(v) >= L(u) + <grad L(u), v - u> + (Lambda/2) ||v - u||^2 .
//! ```
//!
//! Minimising both sides over `v` gives
//!
//! ```text
//!     L(u) - L*  <=  ||grad L(u)||^2 / (2 Lambda) .                                   (1)
//! ```
//!
//! It is also a duality gap. The dual function is `D(s) = <s, r0> - 1/2 ||s||^2 - ||A' s||^2 /
//! (2 Lambda) <= L*`. With `grad L(u) = Lambda u - A' (r0 - A u)` and at the residual
//! `s = r0 - A u`, `A' s = Lambda u - g`,
//!
//! ```text
//!     L(u) - D(s) = ||s||^2 - <s, r0> + (Lambda/2) ||u||^2 + ||Lambda u - g||^2 / (2 Lambda)
//!                 = -<A' s, u> + Lambda ||u||^2 - <g, u> + ||g||^2 / (2 Lambda)
//!                 = ||g||^2 / (2 Lambda) .
//! ```
//!
//! When a dual point `a` with `u = A' a` is at hand, `s = Lambda a` is feasible as well. With the
//! dual residual `r = r0 - (A A' + Lambda I) a`, so that `r0 - A u = r + Lambda a`, the gap there is
//!
//! ```text
//!     L(u) - D(Lambda a) = 1/2 ||r||^2 ,                                              (2)
//! ```
//!
//! sharper than (1) along singular directions of `A` with `sigma^2 > Lambda`: the true distance is
//! `1/2 r' K (K + Lambda I)^-1 r`, while (1) reads `r' K r / (2 Lambda)`.

use serde::{Deserialize, Serialize};

use crate::dense::{norm, norm_squared, ratio};
use crate::error::{SolveError, check_len};
use crate::quadratic::RidgeProblem;

/// What is proved about a point `u` of a [`RidgeProblem`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// `L(u)`.
    pub objective: f64,
    /// `||grad L(u)||`.
    pub gradient_norm: f64,
    /// `||grad L(u)|| / ||grad L(0)||`.
    pub relative_gradient_norm: f64,
    /// An upper bound on `L(u) - min L`: equation (1), or (2) when a dual point made it smaller.
    pub suboptimality_bound: f64,
    /// The bound divided by `L(u)`.
    pub suboptimality_bound_relative: f64,
    /// `1/2 ||r||^2` of equation (2), when a dual point was given.
    pub duality_gap: Option<f64>,
    /// An estimate (from below) of `||u - u*||_H`, from conjugate gradients; `1/2` its square
    /// estimates `L(u) - min L`. Not a proof.
    pub energy_norm_estimate: Option<f64>,
}

impl Certificate {
    /// From a gradient that the caller computed at the point: equation (1).
    pub(crate) fn from_gradient(
        objective: f64,
        gradient_norm: f64,
        gradient_norm_at_zero: f64,
        lambda: f64,
    ) -> Self {
        let bound = gradient_norm.powi(2) / (2.0 * lambda);
        Self {
            objective,
            gradient_norm,
            relative_gradient_norm: ratio(gradient_norm, gradient_norm_at_zero),
            suboptimality_bound: bound,
            suboptimality_bound_relative: ratio(bound, objective),
            duality_gap: None,
            energy_norm_estimate: None,
        }
    }

    /// The certificate of `u` (length `D`), by one product with `A` and two with `A'`.
    ///
    /// # Errors
    /// When the operator fails or the length is wrong.
    pub fn compute(problem: &RidgeProblem<'_>, u: &[f64]) -> Result<Self, SolveError> {
        let reference = norm(&problem.gradient_at_zero()?);
        Ok(Evaluation::at(problem, u)?.certificate(problem, reference, None))
    }

    /// The certificate of `u = A' a` (squared norm `norm_squared_of_u`) from its `residual` `r0 - A u` and the quadratic form
    /// `square(x) = x' K x` of a kernel that is at hand; by no product with `A`. The bound is equation (2), which takes
    /// nothing from the kernel; the gradient, `grad L(u) = Lambda A' a - A' (r0 - A u) = -A' r`, has the norm
    /// `sqrt(r' K r)`.
    ///
    /// # Errors
    /// When a length is wrong.
    pub fn from_dual(
        problem: &RidgeProblem<'_>,
        a: &[f64],
        (norm_squared_of_u, residual): (f64, &[f64]),
        square: impl Fn(&[f64]) -> f64,
    ) -> Result<Self, SolveError> {
        check_len("dual point", problem.operator().rows(), a.len())?;
        check_len("residual", a.len(), residual.len())?;
        let lambda = problem.lambda();
        let r = dual_residual(residual, lambda, a);
        let length = |x: &[f64]| square(x).max(0.0).sqrt();
        let (gradient_norm, gap) = (length(&r), 0.5 * norm_squared(&r));
        let objective = 0.5 * norm_squared(residual) + 0.5 * lambda * norm_squared_of_u;
        Ok(Self {
            objective,
            gradient_norm,
            relative_gradient_norm: ratio(gradient_norm, length(problem.target())),
            suboptimality_bound: gap,
            suboptimality_bound_relative: ratio(gap, objective),
            duality_gap: Some(gap),
            energy_norm_estimate: None,
        })
    }
}

/// `r = r0 - A u - Lambda a`, the residual of the dual system at `a` when `u = A' a`, from `residual` `r0 - A u`.
pub(crate) fn dual_residual(residual: &[f64], lambda: f64, a: &[f64]) -> Vec<f64> {
    let pairs = residual.iter().zip(a);
    pairs.map(|(s, a)| s - lambda * a).collect()
}

/// The objective and its gradient at a point, by one product with `A` and one with `A'`.
pub(crate) struct Evaluation {
    pub(crate) objective: f64,
    /// `grad L(u) = Lambda u - A' (r0 - A u)`.
    pub(crate) gradient: Vec<f64>,
    /// `r0 - A u`.
    pub(crate) residual: Vec<f64>,
}

impl Evaluation {
    pub(crate) fn at(problem: &RidgeProblem<'_>, u: &[f64]) -> Result<Self, SolveError> {
        check_len("u", problem.operator().cols(), u.len())?;
        let lambda = problem.lambda();
        let mut residual = vec![0.0; problem.operator().rows()];
        problem.operator().apply(u, &mut residual)?;
        for (f, t) in residual.iter_mut().zip(problem.target()) {
            *f = t - *f;
        }
        let mut gradient = vec![0.0; u.len()];
        problem.operator().apply_adjoint(&residual, &mut gradient)?;
        for (g, u) in gradient.iter_mut().zip(u) {
            *g = lambda * u - *g;
        }
        let objective = 0.5 * norm_squared(&residual) + 0.5 * lambda * norm_squared(u);
        Ok(Self {
            objective,
            gradient,
            residual,
        })
    }

    /// Puts the certificate together; `reference` is `||grad L(0)||`.
    pub(crate) fn certificate(
        &self,
        problem: &RidgeProblem<'_>,
        reference: f64,
        duality_gap: Option<f64>,
    ) -> Certificate {
        let gradient_norm = norm(&self.gradient);
        let by_gradient = gradient_norm * gradient_norm / (2.0 * problem.lambda());
        let bound = duality_gap.map_or(by_gradient, |gap| gap.min(by_gradient));
        Certificate {
            objective: self.objective,
            gradient_norm,
            relative_gradient_norm: ratio(gradient_norm, reference),
            suboptimality_bound: bound,
            suboptimality_bound_relative: ratio(bound, self.objective),
            duality_gap,
            energy_norm_estimate: None,
        }
    }
}
