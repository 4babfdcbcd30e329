//! Convex optimisation: operators, solvers, certificates. Pure mathematics: no files, no networks,
//! no printing.
//!
//! # The quadratic problem
//!
//! ```text
//!     minimise over u in R^D    L(u) = 1/2 || r0 - A u ||^2 + (Lambda/2) || u ||^2
//! ```
//!
//! For Linear Quadratic Fine-Tuning (Achille et al., CVPR 2021) `A` is the Jacobian of a network's
//! outputs on all samples at the pre-trained weights, `u` the change of the weights, and
//! `r0 = alpha y - f0`. `A` is never stored; a solver sees it through [`LinearOperator`].
//!
//! | symbol    | shape      | meaning                                                          |
//! |-----------|------------|------------------------------------------------------------------|
//! | `N, C, D` |            | samples, classes (outputs a sample), unknowns                    |
//! | `A`       | `NC x D`   | rows ordered sample-major: row `i C + c` is class `c` of sample `i` |
//! | `r0`, `t` | `NC`       | target (residual at `u = 0`)                                     |
//! | `u`       | `D`        | primal unknown                                                   |
//! | `a`       | `NC`       | dual unknown, `u = A' a`                                         |
//! | `Lambda`  |            | total weight decay, `> 0`; `Lambda = N lambda` per sample        |
//! | `H`       | `D x D`    | `A'A + Lambda I`, so `H u* = A' r0`                              |
//! | `K`       | `NC x NC`  | kernel `A A'`, so `(K + Lambda I) a* = r0`                       |
//! | `M`       | `NC x NC`  | `(K + Lambda I)^-1`, or its free-bias counterpart                |
//! | `P`       | `NC x NC`  | `(I - 11'/N) (x) I_C`, takes away each class's mean over samples |
//! | `Phi`     | `N x d`    | features of a head-only model, `K = (Phi Phi') (x) I_C`          |
//!
//! Every iterative solver returns a [`Solution`] whose [`Certificate`] was recomputed, by fresh
//! passes, at the very point that is returned. Not having converged is a [`Status`], not an error;
//! an [`Observer`] watches, records checkpoints and can stop a run.

mod dense;
mod error;
mod factor;

pub mod certificate;
pub mod gated;
pub mod lanczos;
pub mod logistic;
pub mod operator;
pub mod prox;
pub mod quadratic;
pub mod status;
pub mod work;

pub use certificate::Certificate;
pub use error::SolveError;
pub use operator::{Centred, DenseOperator, LinearOperator, OperatorError, Scaled};
pub use status::{Observer, Progress, Quiet, Record, Solution, Status};
pub use work::Work;

/// The dense linear algebra library whose matrices appear in this crate's interface.
pub use faer;
