//! Fine-tuning methods: `lqf`, `lqf-fc` and `fc`.

mod checkpoints;
mod descent;
mod evidence;
pub mod features;
pub mod head;
mod head_only;
mod left_out;
mod lqf;
mod lqf_model;
mod memory;
mod options;
mod plan;
mod prepared;
mod prior;

pub use checkpoints::{Checkpoint, CheckpointView, Checkpoints, NoCheckpoints};
pub use descent::{Descent, DescentPoint};
pub use head_only::{HeadOnlyFit, HeadRecord, error_rate, fit_fc, fit_lqf_fc, predicted};
pub(crate) use left_out::LeftOut;
pub use lqf::{LqfFit, LqfRecord, TrainingSet, fit_lqf};
pub(crate) use lqf::{cost, first_trainable, sizes, split_frozen};
pub use lqf_model::LqfModel;
pub use options::{
    BackboneWeight, FitOptions, HeadInit, Method, PreconditionerChoice, SolverChoice, WeightDecay,
};
pub(crate) use plan::{KERNEL_BYTES, formed_kernel, largest_kernel};
pub use plan::{Plan, Sizes, multiply_adds, plan};
pub use prepared::System;
pub(crate) use prepared::{Prepared, Statistics, statistics};
pub(crate) use prior::{GRID, honest_samples, leave_one_out};
pub use prior::{LambdaSource, Prior};

#[cfg(test)]
mod tests;
