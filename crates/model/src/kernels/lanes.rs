//! Vectors of numbers, one for both number types, and the choice of vector instructions.
//!
//! A kernel is written once over `T` and a [`Simd`]; `vectorize` runs it with the widest vectors
//! that the machine has: AVX-512, AVX2, NEON, or single numbers. `CONVEXTUNE_SIMD=avx2` or `scalar`
//! holds it back, which is how the narrower paths are tested on a wide machine.
#![allow(unsafe_code)]

use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, Ordering};

use pulp::{Arch, Simd, WithSimd};

mod sealed {
    /// Only the two number types are numbers: the loops rely on what their vectors look like.
    pub trait Number {}
    impl Number for f32 {}
    impl Number for f64 {}
}

/// Arithmetic on vectors of numbers of one type.
pub trait Lanes: sealed::Number + Copy + Debug + Default + Send + Sync + 'static {
    /// A vector register.
    type Vector<S: Simd>: Copy;

    /// All lanes `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// `a + b`.
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a - b`.
    fn minus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a b`.
    fn times<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// `a b + c`, rounded once.
    fn fma<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;

    /// Numbers in a vector.
    #[inline(always)]
    fn count<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }

    /// The vector at the beginning of `x`.
    ///
    /// # Panics
    /// When `x` is shorter than a vector.
    #[inline(always)]
    fn load<S: Simd>(x: &[Self]) -> Self::Vector<S> {
        assert!(x.len() >= Self::count::<S>());
        // SAFETY: the slice holds a whole vector, as asserted, and the read needs no alignment.
        unsafe { x.as_ptr().cast::<Self::Vector<S>>().read_unaligned() }
    }

    /// Writes a vector to the beginning of `x`.
    ///
    /// # Panics
    /// When `x` is shorter than a vector.
    #[inline(always)]
    fn store<S: Simd>(v: Self::Vector<S>, x: &mut [Self]) {
        assert!(x.len() >= Self::count::<S>());
        // SAFETY: the slice holds a whole vector, as asserted, and the write needs no alignment.
        unsafe {
            x.as_mut_ptr().cast::<Self::Vector<S>>().write_unaligned(v);
        }
    }
}

impl Lanes for f32 {
    type Vector<S: Simd> = S::f32s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: Self) -> S::f32s {
        simd.splat_f32s(x)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
    #[inline(always)]
    fn minus<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.sub_f32s(a, b)
    }
    #[inline(always)]
    fn times<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.mul_f32s(a, b)
    }
    #[inline(always)]
    fn fma<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_f32s(a, b, c)
    }
}

impl Lanes for f64 {
    type Vector<S: Simd> = S::f64s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, x: Self) -> S::f64s {
        simd.splat_f64s(x)
    }
    #[inline(always)]
    fn plus<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }
    #[inline(always)]
    fn minus<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.sub_f64s(a, b)
    }
    #[inline(always)]
    fn times<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.mul_f64s(a, b)
    }
    #[inline(always)]
    fn fma<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_f64s(a, b, c)
    }
}

/// How wide vectors may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Limit {
    /// As the machine has them.
    Machine = 1,
    /// At most AVX2, where that exists.
    Avx2 = 2,
    /// One number at a time, where wider vectors are optional.
    Scalar = 3,
}

/// The limit in force; zero until the environment has been asked.
static LIMIT: AtomicU8 = AtomicU8::new(0);

/// Holds the kernels of this process back, for tests: results must not depend on it but for
/// rounding. Not to be called while a kernel runs.
pub fn hold_back(limit: Limit) {
    LIMIT.store(limit as u8, Ordering::Relaxed);
}

/// The vector instructions that all kernels use.
#[inline]
pub fn arch() -> Arch {
    match LIMIT.load(Ordering::Relaxed) {
        1 => Arch::new(),
        2 => at_most(Limit::Avx2),
        3 => at_most(Limit::Scalar),
        _ => {
            hold_back(match std::env::var("CONVEXTUNE_SIMD").as_deref() {
                Ok("avx2") => Limit::Avx2,
                Ok("scalar") => Limit::Scalar,
                _ => Limit::Machine,
            });
            arch()
        }
    }
}

/// The widest instructions within a limit.
#[cfg(target_arch = "x86_64")]
fn at_most(limit: Limit) -> Arch {
    match limit {
        Limit::Machine => Arch::new(),
        Limit::Avx2 => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        Limit::Scalar => Arch::Scalar,
    }
}

/// The widest instructions within a limit.
#[cfg(not(target_arch = "x86_64"))]
fn at_most(_: Limit) -> Arch {
    Arch::new()
}

/// Runs a kernel with the chosen vector instructions.
#[inline]
pub fn vectorize<Op: WithSimd>(op: Op) -> Op::Output {
    arch().dispatch(op)
}
