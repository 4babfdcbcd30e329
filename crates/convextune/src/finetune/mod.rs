//! Fine-tuning methods: `lqf`, `lqf-fc` and `fc`.

pub mod features;
pub mod head;
mod options;

pub use options::{
    FitOptions, HeadInit, Method, PreconditionerChoice, SolverChoice, WeightDecay,
};
