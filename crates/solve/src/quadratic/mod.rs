//! The ridge problem and everything that solves it.

pub mod pcg;
mod preconditioner;
mod problem;
mod ridge;

pub use pcg::{Pcg, PcgState};
pub use preconditioner::{Identity, Preconditioner};
pub use problem::RidgeProblem;
pub use ridge::{PcgOptions, Start, solve_dual, solve_primal};
