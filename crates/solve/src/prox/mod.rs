//! Proximal maps and projections.
//!
//! ```text
//!     prox_{t R}(z) = argmin over x of  t R(x) + 1/2 ||x - z||^2
//! ```
//!
//! For a norm on a closed convex cone `K`, `R(x) = ||x|| + [x in K]`, write `x = r s` with `s` in `K` of
//! length 1: the best `s` has `<s, z> = ||P_K z||` (if that is positive), so
//!
//! ```text
//!     prox_{t R}(z) = (1 - t / ||P_K z||)_+ P_K z ,                                    (1)
//! ```
//!
//! the projection, shrunk; with `K` the whole space it is the group soft threshold. The norm dual to `R`
//! is `||P_K z||` as well: `max { <x, z> : x in K, ||x|| <= 1 }`.

pub mod cone;
pub mod penalty;

pub use cone::{Projection, Rows};
