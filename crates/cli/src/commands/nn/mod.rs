//! `convextune nn`: networks on tables.

mod certify;
mod check;
mod data;
mod export;
mod fit;
mod path;
mod predict;
mod summary;

use anyhow::Result;

use crate::args::nn::NetCommand;
use crate::plan::nn::{NetCheckPlan, NetFitPlan, NetPathPlan};

pub use summary::info;

/// Runs one of the commands.
pub fn run(command: NetCommand) -> Result<()> {
    match command {
        NetCommand::Fit(args) => fit::run(&NetFitPlan::try_from(*args)?),
        NetCommand::Path(args) => path::run(&NetPathPlan::try_from(*args)?),
        NetCommand::Predict(args) => predict::run(&args),
        NetCommand::Certify(args) => certify::run(&args),
        NetCommand::Export(args) => export::run(&args),
        NetCommand::Check(args) => check::run(&NetCheckPlan::try_from(*args)?),
    }
}
