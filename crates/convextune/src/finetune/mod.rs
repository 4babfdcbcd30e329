//! Fine-tuning methods: `lqf`, `lqf-fc` and `fc`.

pub mod features;
pub mod head;
mod head_only;
mod lqf;
mod options;
mod plan;
mod prepared;
mod weight_decay;

pub use head_only::{HeadOnlyFit, HeadRecord, error_rate, fit_fc, fit_lqf_fc, predicted};
pub use lqf::{
    Checkpoint, CheckpointView, Checkpoints, LqfFit, LqfModel, LqfRecord, NoCheckpoints,
    TrainingSet, fit_lqf,
};
pub use options::{FitOptions, HeadInit, Method, PreconditionerChoice, SolverChoice, WeightDecay};
pub use plan::{Plan, Sizes, multiply_adds, plan};
pub use weight_decay::LambdaSource;
