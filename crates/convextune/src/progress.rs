//! How long-running work tells its caller where it stands. The library never prints.

use convextune_solve::Record;

/// Watches a fit. Every method has a default that does nothing. Solvers that work on several outputs at a
/// time call it from any thread.
pub trait Reporter: Sync {
    /// A stage begins that will see `total` items (samples, images; 0 if unknown).
    fn stage(&self, _name: &str, _total: u64) {}

    /// `items` more of the current stage are done.
    fn advance(&self, _items: u64) {}

    /// An iteration of the solver is done.
    fn iteration(&self, _record: &Record) {}

    /// An iteration of a solver is done whose measure of progress is the relative duality gap.
    fn gap(&self, _iteration: usize, _relative_duality_gap: f64) {}

    /// An iteration of a linear solver is done.
    fn residual(&self, _iteration: usize, _relative_residual: f64) {}

    /// Something the user should know, one sentence.
    fn note(&self, _text: &str) {}
}

/// A reporter that reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {}
