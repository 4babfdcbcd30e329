//! The choice of the weight decay by leave-one-out squared error.

use serde::{Deserialize, Serialize};

use crate::dense::centre;
use crate::error::{SolveError, check_finite, check_positive};

/// Whether each class has a bias of its own that is not penalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intercept {
    /// No bias.
    None,
    /// A free bias a class, fitted again whenever samples are left out.
    Free,
}

impl Intercept {
    /// `P v` with a free bias, else `v`; `v` sample-major.
    pub(super) fn project(self, v: &[f64], classes: usize) -> Vec<f64> {
        let mut v = v.to_vec();
        if self == Self::Free {
            centre(&mut v, classes);
        }
        v
    }
}

/// The outcome of a search over a grid of weight decays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LambdaChoice {
    /// The best total weight decay `Lambda`.
    pub lambda: f64,
    /// Its position in the grid. At either end the grid may have been too short.
    pub index: usize,
    /// For each point of the grid the criterion that was minimised (for ridge: the mean, over
    /// samples and classes, of the squared leave-one-out residual).
    pub errors: Vec<f64>,
}

impl LambdaChoice {
    /// The point of `grid` with the least error; of equals the largest `Lambda`.
    ///
    /// # Errors
    /// When the grid is empty or an error is not finite.
    pub fn from_errors(grid: &[f64], errors: Vec<f64>) -> Result<Self, SolveError> {
        check_finite("leave-one-out errors", &errors)?;
        let better = |(i, j): (usize, usize)| {
            let order = errors[i]
                .total_cmp(&errors[j])
                .then(grid[j].total_cmp(&grid[i]));
            if order.is_le() { i } else { j }
        };
        let best = (0..errors.len().min(grid.len())).reduce(|i, j| better((i, j)));
        match best {
            Some(index) => Ok(Self {
                lambda: grid[index],
                index,
                errors,
            }),
            None => Err(SolveError::Shape {
                what: "grid of weight decays",
                expected: 1,
                got: 0,
            }),
        }
    }
}

/// `points` values from `from` to `to`, both included, equally spaced on a log scale.
///
/// # Errors
/// When an end is not positive, or `points` is 0.
pub fn log_grid(from: f64, to: f64, points: usize) -> Result<Vec<f64>, SolveError> {
    check_positive("start of the grid", from)?;
    check_positive("end of the grid", to)?;
    check_positive("points of the grid", points as f64)?;
    let steps = (points - 1).max(1) as f64;
    let at = |k: usize| from * (to / from).powf(k as f64 / steps);
    Ok((0..points).map(at).collect())
}

/// Mean of squares.
pub(crate) fn mean_square(residuals: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = residuals.fold((0.0, 0usize), |(s, n), r| (s + r * r, n + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_grid_has_its_ends_and_equal_ratios() {
        let grid = log_grid(1e-3, 10.0, 5).unwrap();
        for (value, expected) in grid.iter().zip([1e-3, 1e-2, 1e-1, 1.0, 10.0]) {
            assert!((value - expected).abs() < 1e-12 * expected);
        }
        assert_eq!(log_grid(2.0, 5.0, 1).unwrap(), vec![2.0]);
        assert!(log_grid(0.0, 1.0, 3).is_err());
        assert!(log_grid(1.0, 2.0, 0).is_err());
    }

    #[test]
    fn the_least_error_wins_and_ties_go_to_the_larger_lambda() {
        let choice = LambdaChoice::from_errors(&[1.0, 2.0, 3.0], vec![0.5, 0.2, 0.2]).unwrap();
        assert_eq!((choice.index, choice.lambda), (2, 3.0));
        assert!(LambdaChoice::from_errors(&[], vec![]).is_err());
        assert!(LambdaChoice::from_errors(&[1.0], vec![f64::NAN]).is_err());
    }
}
