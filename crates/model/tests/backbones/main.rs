//! Backbones against what PyTorch computed, and against themselves.
//!
//! Generated weights need no file. Real ones are looked for in `$CONVEXTUNE_DATA/weights` and
//! in `shared/data/weights` beside the repository; a test that lacks them says so and passes.

mod adjoint;
mod fixture;
mod forward;
