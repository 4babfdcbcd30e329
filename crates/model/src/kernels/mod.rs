//! The thin kernel layer: the inner loops, and the only `unsafe` of the project (in [`gemm`],
//! [`lanes`], [`tile`], [`lines`] and [`winograd`]).
//!
//! All kernels work on NHWC slices and on the rayon pool they are called from. The vector
//! instructions, AVX2, AVX-512 or NEON, are selected when the program runs ([`lanes`]), so
//! `target-cpu=native` is not needed.

pub mod bands;
pub mod convolution;
pub mod depthwise;
pub mod elementwise;
pub mod finish;
pub mod gemm;
pub mod lanes;
pub mod lines;
pub mod patches;
pub mod pooling;
pub mod scratch;
pub mod tile;
pub mod winograd;

/// Runs `f` compiled for the widest vector instructions that this machine has.
///
/// `f` and what it calls must be inlined for that to have an effect: mark the closure
/// `#[inline(always)]`, or it is compiled for the oldest machine.
#[inline]
pub fn simd<R>(f: impl FnOnce() -> R) -> R {
    lanes::arch().dispatch(f)
}

/// Numbers an elementwise task handles at least, so that a task outweighs its scheduling.
pub(crate) const ELEMENTWISE_TASK: usize = 1 << 15;

/// Rows of a `[rows, width]` matrix that make one parallel task.
pub(crate) fn task_rows(width: usize) -> usize {
    (ELEMENTWISE_TASK / width.max(1)).max(1)
}
