//! The ridge problem and everything that solves it.

pub mod dual;
pub mod features;
pub mod head;
pub mod kronecker_preconditioner;
mod lambda;
mod nonnegative;
mod nystroem;
pub mod parts;
pub mod pcg;
mod preconditioner;
mod problem;
pub mod ridge;
pub mod several;
pub mod sketch;
mod system;
pub mod tuning;

pub use dual::{KernelCholesky, KernelInverse, KernelRidge, KernelSpectrum};
pub use features::{FeaturePreconditioner, dual_iterations};
pub use head::{HeadFit, HeadRidge};
pub use kronecker_preconditioner::{Block, BlockPreconditioner, ChannelBlocks, KroneckerBlock};
pub use lambda::{Intercept, LambdaChoice, log_grid};
pub use nonnegative::nonnegative;
pub use nystroem::NystroemPreconditioner;
pub use parts::KernelParts;
pub use pcg::{Pcg, PcgState};
pub use preconditioner::{Columns, Identity, Preconditioner};
pub use problem::RidgeProblem;
pub use ridge::{PcgOptions, Start, solve_dual, solve_primal};
pub use several::{Several, solve_several};
pub use sketch::{Sketch, SketchForm, SketchedKernel};
pub use system::{GramSystem, KernelSystem, NormalSystem};
