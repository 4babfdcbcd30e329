//! Work is counted where it is done, in the operators, and reported beside the result.

use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// What a computation cost, in units that do not depend on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Passes over the data set: the number of times that every row's primal values were computed
    /// (or read). A fused normal product is one pass, two separate products are two.
    pub passes: f64,
    /// Products `A x` over all rows (for a network: JVPs of the whole data set).
    pub jvps: u64,
    /// Products `A' y` over all rows (for a network: VJPs of the whole data set).
    pub vjps: u64,
    /// How many of those came in pairs as a product `A'A x` or `A A' y`.
    pub normal_products: u64,
    /// Applications of a preconditioner.
    pub preconditioner_applications: u64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passes: self.passes + other.passes,
            jvps: self.jvps + other.jvps,
            vjps: self.vjps + other.vjps,
            normal_products: self.normal_products + other.normal_products,
            preconditioner_applications: self.preconditioner_applications
                + other.preconditioner_applications,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The work since an earlier reading of the same counters; counts saturate at zero.
impl Sub for Work {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            passes: self.passes - earlier.passes,
            jvps: self.jvps.saturating_sub(earlier.jvps),
            vjps: self.vjps.saturating_sub(earlier.vjps),
            normal_products: self.normal_products.saturating_sub(earlier.normal_products),
            preconditioner_applications: self
                .preconditioner_applications
                .saturating_sub(earlier.preconditioner_applications),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_undoes_sum() {
        let a = Work {
            passes: 1.5,
            jvps: 1,
            vjps: 2,
            normal_products: 3,
            ..Work::default()
        };
        let b = Work {
            passes: 0.5,
            jvps: 4,
            preconditioner_applications: 7,
            ..Work::default()
        };
        assert_eq!(a + b - a, b);
    }
}
