//! The engine against a slow one that is obviously right, on every set of vector instructions.

#![allow(clippy::unwrap_used)] // a helper that cannot go on fails the test, as it should

mod convolutions;
mod networks;
mod reference;
mod slow;

use convextune_model::kernels::lanes::{Limit, hold_back};

/// Runs `test` once for every set of vector instructions. Tests that do so share one lock: the
/// choice is the process's.
fn on_every_path(mut test: impl FnMut(Limit)) {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for limit in [Limit::Scalar, Limit::Avx2, Limit::Machine] {
        hold_back(limit);
        test(limit);
    }
}
