//! The ridge problem and everything that solves it.

pub mod dual;
pub mod head;
mod lambda;
pub mod pcg;
mod preconditioner;
mod problem;
mod ridge;

pub use dual::{KernelCholesky, KernelInverse, KernelRidge, KernelSpectrum};
pub use head::{HeadFit, HeadRidge};
pub use lambda::{Intercept, LambdaChoice, log_grid};
pub use pcg::{Pcg, PcgState};
pub use preconditioner::{Identity, Preconditioner};
pub use problem::RidgeProblem;
pub use ridge::{PcgOptions, Start, solve_dual, solve_primal};
