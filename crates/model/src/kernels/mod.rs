//! The thin kernel layer: the inner loops, and the only `unsafe` of the project (in [`gemm`]).
//!
//! All kernels work on NHWC slices and on the rayon pool they are called from. Inner loops that
//! the compiler vectorises run inside [`simd`], which selects AVX2, AVX-512 or NEON when the
//! program runs, so `target-cpu=native` is not needed.

pub mod convolution;
pub mod depthwise;
pub mod elementwise;
pub mod gemm;
pub mod patches;
pub mod pooling;

/// Runs `f` compiled for the widest vector instructions that this machine has.
///
/// `f` and what it calls must be inlined for that to have an effect: mark the closure
/// `#[inline(always)]`, or it is compiled for the oldest machine.
#[inline]
pub fn simd<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Numbers an elementwise task handles at least, so that a task outweighs its scheduling.
pub(crate) const ELEMENTWISE_TASK: usize = 1 << 15;

/// Rows of a `[rows, width]` matrix that make one parallel task.
pub(crate) fn task_rows(width: usize) -> usize {
    (ELEMENTWISE_TASK / width.max(1)).max(1)
}
