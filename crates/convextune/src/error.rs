//! What can go wrong in the library.

use std::path::PathBuf;

use convextune_model::graph::GraphError;
use convextune_model::images::ImagesError;
use convextune_model::weights::WeightsError;
use convextune_solve::{OperatorError, SolveError};
use thiserror::Error as ThisError;

/// Every error of the library: one clear sentence.
#[derive(Debug, ThisError)]
pub enum Error {
    /// Images or their folders.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// Backbones and their cache.
    #[error(transparent)]
    Backbone(#[from] convextune_model::backbones::BackboneError),
    /// Weight files and model files.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Networks and their surgery.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Solvers.
    #[error(transparent)]
    Solve(#[from] SolveError),
    /// Products of the linearised network.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// No trainable weight.
    #[error("nothing is left to train: the stage to linearise from comes after the last weight")]
    NothingToTrain,
    /// An option that contradicts the data or another option.
    #[error("{0}")]
    Usage(String),
    /// A model file that cannot be used.
    #[error("{path}: {reason}")]
    Model {
        /// The file.
        path: PathBuf,
        /// Why, and the way out.
        reason: String,
    },
    /// A table, matrix or folds file that cannot be used.
    #[error("{path}: {reason}")]
    Table {
        /// The file.
        path: PathBuf,
        /// Where in the file, why, and the way out.
        reason: String,
    },
}
