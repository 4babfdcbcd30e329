//! Saving a long run, and taking it up again.

use std::ops::ControlFlow;

use convextune_solve::quadratic::PcgState;
use convextune_solve::{Observer, Progress};

use super::descent::Descent;
use super::plan::Plan;
use super::prior::Prior;
use crate::progress::Reporter;

/// Where a long run is saved.
pub trait Checkpoints {
    /// The state of an interrupted run of the same fit, if there is one.
    fn load(&mut self) -> Option<Checkpoint>;
    /// Called after every iteration.
    fn save(&mut self, checkpoint: &CheckpointView<'_>);
}

/// A saved run.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The prior of the run.
    pub prior: Prior,
    /// The way that was chosen.
    pub plan: Plan,
    /// The loop.
    pub state: PcgState,
}

/// A run to be saved.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointView<'a> {
    /// The prior of the run.
    pub prior: Prior,
    /// The way that was chosen.
    pub plan: Plan,
    /// The loop.
    pub state: &'a PcgState,
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCheckpoints;

impl Checkpoints for NoCheckpoints {
    fn load(&mut self) -> Option<Checkpoint> {
        None
    }
    fn save(&mut self, _: &CheckpointView<'_>) {}
}

/// Passes progress on, takes note of it and saves checkpoints.
pub(super) struct Watch<'a> {
    pub reporter: &'a dyn Reporter,
    pub checkpoints: &'a mut dyn Checkpoints,
    pub prior: Prior,
    pub plan: Plan,
    pub descent: Descent,
}

impl Observer for Watch<'_> {
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        self.reporter.iteration(&progress.record);
        self.descent.push(&progress.record);
        if let Some(state) = progress.state {
            self.checkpoints.save(&CheckpointView {
                prior: self.prior,
                plan: self.plan,
                state,
            });
        }
        ControlFlow::Continue(())
    }
}
