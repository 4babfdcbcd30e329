//! From labels to the targets `Y` of a program, and from outputs `Z` back to answers.
//!
//! | task | `C` | `Y` |
//! |---|---|---|
//! | regression | 1 | standardised values |
//! | two classes | 1 | -1 for the first class, 1 for the second |
//! | `K > 2` classes | `K` | squared loss and cross entropy: 1 for the row's class, else 0; squared hinge: 1, else -1 |
//!
//! The class that outputs stand for is the one with the largest output, the first of equals; with one output
//! the second class where it is positive.

use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::gated::Loss;

use super::table::Target;
use crate::error::Error;

/// That the loss suits the target, of the name `column`, which only the table tells when the task was not given.
///
/// # Errors
/// When it does not.
pub fn check_loss(loss: Loss, target: &Target, column: &str) -> Result<(), Error> {
    match target {
        Target::Values(_) if loss != Loss::Squared => Err(Error::Usage(format!(
            "this loss (--loss) is for classes, but the target {column} holds numbers: take the squared loss, or \
             say that they are classes (--task classification)"
        ))),
        _ => Ok(()),
    }
}

/// `C`, for so many classes (0 with regression).
pub fn outputs(classes: usize) -> usize {
    if classes <= 2 { 1 } else { classes }
}

/// `Y`, `n x C`.
pub fn matrix(target: &Target, classes: usize, loss: Loss) -> Mat<f64> {
    let off = if loss == Loss::SquaredHinge {
        -1.0
    } else {
        0.0
    };
    match target {
        Target::Values(values) => Mat::from_fn(values.len(), 1, |s, _| values[s]),
        Target::Classes(of) if classes <= 2 => {
            Mat::from_fn(of.len(), 1, |s, _| if of[s] == 1 { 1.0 } else { -1.0 })
        }
        Target::Classes(of) => {
            Mat::from_fn(of.len(), classes, |s, c| if of[s] == c { 1.0 } else { off })
        }
    }
}

/// The class of row `s` of the outputs `z`.
pub fn class(z: MatRef<'_, f64>, s: usize) -> usize {
    if z.ncols() == 1 {
        return usize::from(z[(s, 0)] > 0.0);
    }
    (1..z.ncols()).fold(0, |best, c| if z[(s, c)] > z[(s, best)] { c } else { best })
}

/// How wrong the outputs `z` are (`n x C`, `n > 0`): the share of rows classified wrongly; with regression
/// the root of the mean squared error of the standardised values.
pub fn error(z: MatRef<'_, f64>, target: &Target) -> f64 {
    let wrong = match target {
        Target::Classes(of) => (0..of.len()).filter(|s| class(z, *s) != of[*s]).count() as f64,
        Target::Values(values) => {
            let off = |s: usize| (z[(s, 0)] - values[s]).powi(2);
            (0..values.len()).map(off).sum()
        }
    };
    let mean = wrong / target.len().max(1) as f64;
    match target {
        Target::Classes(_) => mean,
        Target::Values(_) => mean.sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_errors_by_hand() {
        let two = Target::Classes(vec![1, 0]);
        let y = matrix(&two, 2, Loss::CrossEntropy);
        assert_eq!(y.col_as_slice(0), [1.0, -1.0]);
        assert!((error(y.as_ref(), &two)).abs() < 1e-15);
        let three = Target::Classes(vec![2, 0]);
        assert_eq!(
            matrix(&three, 3, Loss::SquaredHinge).col_as_slice(2),
            [1.0, -1.0]
        );
        let y = matrix(&three, 3, Loss::Squared);
        assert_eq!(y.col_as_slice(2), [1.0, 0.0]);
        // Equal outputs: the first class.
        let z = Mat::from_fn(2, 3, |s, c| if s == 0 && c == 2 { 1.0 } else { 0.5 });
        assert_eq!((class(z.as_ref(), 0), class(z.as_ref(), 1)), (2, 0));
        let values = Target::Values(vec![1.0, -1.0]);
        let z = Mat::from_fn(2, 1, |s, _| [1.0, 1.0][s]);
        assert!((error(z.as_ref(), &values) - 2.0_f64.sqrt()).abs() < 1e-15);
        assert_eq!((outputs(0), outputs(2), outputs(3)), (1, 1, 3));
    }
}
