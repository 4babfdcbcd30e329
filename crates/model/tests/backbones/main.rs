//! Backbones against what PyTorch computed, and against themselves.
//!
//! Generated weights need no file. Real ones are looked for in `$CONVEXTUNE_DATA/weights` and
//! in `shared/data/weights` beside the repository; a test that lacks them says so and passes.
//! `dev/fixtures/README.md` tells where the pictures of the accuracy tests come from.

#![allow(clippy::unwrap_used)] // a helper that cannot go on fails the test, as it should

mod accuracy;
mod adjoint;
mod fixture;
mod forward;
mod names;
