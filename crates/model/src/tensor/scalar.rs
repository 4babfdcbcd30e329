//! The two number types a network runs in.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

use crate::kernels::lanes::Lanes;
use crate::kernels::scratch::Shelf;

/// `f32` for work, `f64` for checks.
pub trait Scalar:
    Lanes
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + MulAssign
    + Div<Output = Self>
    + Neg<Output = Self>
    + Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The smallest number, below every finite one.
    const MIN: Self;

    /// The kernels' working memory of this type.
    fn shelf() -> &'static Shelf<Self>;
    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// Widens, exactly.
    fn to_f64(self) -> f64;
    /// `self * a + b`, rounded once.
    #[must_use]
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The smaller of two numbers.
    #[must_use]
    fn min(self, other: Self) -> Self;
    /// The larger of two numbers.
    #[must_use]
    fn max(self, other: Self) -> Self;
    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;
}

macro_rules! scalar {
    ($t:ident, $widen:expr) => {
        impl Scalar for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const MIN: Self = $t::NEG_INFINITY;

            fn shelf() -> &'static Shelf<Self> {
                static SHELF: Shelf<$t> = Shelf::new();
                &SHELF
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $widen(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $t::mul_add(self, a, b)
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if self < other { self } else { other }
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
        }
    };
}

scalar!(f32, f64::from);
scalar!(f64, std::convert::identity);
