//! The head W0 (`d x C`) at which a network is linearised, and the head-only ridge model.

use convextune_solve::faer::Mat;
use convextune_solve::quadratic::{HeadRidge, Intercept, LambdaChoice, log_grid};

use super::features::{Features, targets};
use super::options::HeadInit;
use crate::error::Error;
use crate::rng::Rng;

/// Points of the grid on which leave-one-out chooses a head's weight decay.
const GRID: usize = 25;

/// Length of the rows of a random head; any would do, since the prior weighs the backbone.
const ROW_LENGTH: f64 = 0.289;
/// Features that every class of a random head reads, at least.
const LEAST_SUPPORT: usize = 8;

/// A seeded head (`d x C`) in which every class reads features of its own, with random signs, while
/// there are at least 8 a class. It does not see the training data.
///
/// Classes share the backbone's weights, and each disturbs the others where both read a feature:
/// in the last convolution the kernel between classes c and c' is `sum_j w_jc w_jc' M_j` over the
/// features j. With a support of its own for every class it vanishes
/// (`docs/math/lqf.md`, section 5).
pub fn random_head(features: usize, classes: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, "head");
    let mut order: Vec<usize> = (0..features).collect();
    rng.shuffle(&mut order);
    let support = (features / classes.max(1)).max(LEAST_SUPPORT).min(features);
    let entry = (ROW_LENGTH / (support as f64).sqrt()) as f32;
    let mut head = vec![0.0; features * classes];
    for class in 0..classes {
        for j in 0..support {
            let feature = order[(class * support + j) % features];
            let sign = if rng.next() & 1 == 0 { 1.0 } else { -1.0 };
            head[feature * classes + class] = sign * entry;
        }
    }
    head
}

/// The row that all classes share ([`HeadInit::Common`]): seeded signs on all features.
pub fn common_row(features: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, "head");
    let entry = (ROW_LENGTH / (features.max(1) as f64).sqrt()) as f32;
    let sign = |_| if rng.next() & 1 == 0 { entry } else { -entry };
    (0..features).map(sign).collect()
}

/// The ridge head of `features` for targets `alpha * onehot(y)`, its Lambda chosen by
/// leave-one-out; `d x C`, row-major.
///
/// # Errors
/// When the ridge problem has no solution.
pub fn ridge_head(
    features: &Features,
    labels: &[usize],
    classes: usize,
    alpha: f64,
) -> Result<Vec<f32>, Error> {
    let ridge = HeadRidge::new(features.phi.as_ref(), Intercept::Free)?;
    let t = targets(labels, classes, alpha);
    let choice = choose_lambda(&ridge, &t)?;
    let weights = ridge.fit(t.as_ref(), choice.lambda)?.weights;
    let d = weights.nrows();
    Ok((0..d * classes)
        .map(|i| weights[(i / classes, i % classes)] as f32)
        .collect())
}

/// The weight decay of a head-only ridge model with the least leave-one-out error.
///
/// # Errors
/// When the ridge problem has no solution.
pub fn choose_lambda(ridge: &HeadRidge, t: &Mat<f64>) -> Result<LambdaChoice, Error> {
    let unit = ridge.mean_diagonal().max(f64::MIN_POSITIVE);
    let grid = log_grid(1e-4 * unit, 1e2 * unit, GRID)?;
    Ok(ridge.choose_lambda(t.as_ref(), &grid)?)
}

/// A seeded half of every class (rounded up), sorted: the anchor part of [`HeadInit::Split`].
pub fn anchor_part(labels: &[usize], classes: usize, seed: u64) -> Vec<usize> {
    let mut rng = Rng::new(seed, "anchor");
    let mut anchor = Vec::new();
    for class in 0..classes {
        let mut members: Vec<usize> = (0..labels.len()).filter(|i| labels[*i] == class).collect();
        rng.shuffle(&mut members);
        anchor.extend_from_slice(&members[..members.len().div_ceil(2)]);
    }
    anchor.sort_unstable();
    anchor
}

/// W0 of the wanted kind, `d x C`, or `d x 1` where classes share a row. `features` are read only by the fitted kinds.
///
/// # Errors
/// When the ridge problem has no solution, or features are missing.
pub fn initial_head(
    kind: HeadInit,
    (features, width): (Option<&Features>, usize),
    (labels, classes): (&[usize], usize),
    alpha: f64,
    seed: u64,
) -> Result<Vec<f32>, Error> {
    let given = || features.ok_or_else(|| Error::Usage("a fitted head needs features".into()));
    match kind {
        HeadInit::Common => Ok(common_row(width, seed)),
        HeadInit::Random => Ok(random_head(width, classes, seed)),
        HeadInit::Ridge => ridge_head(given()?, labels, classes, alpha),
        HeadInit::Split => {
            let anchor = anchor_part(labels, classes, seed);
            let its_labels: Vec<usize> = anchor.iter().map(|i| labels[*i]).collect();
            ridge_head(&given()?.select(&anchor), &its_labels, classes, alpha)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_a_random_head_read_features_of_their_own() {
        let head = random_head(1000, 3, 5);
        let read = |class: usize| head.iter().skip(class).step_by(3);
        for class in 0..3 {
            let squared: f32 = read(class).map(|w| w * w).sum();
            assert!((squared.sqrt() - ROW_LENGTH as f32).abs() < 1e-4);
        }
        assert!(
            head.chunks(3)
                .all(|f| f.iter().filter(|w| **w != 0.0).count() <= 1)
        );
        assert_eq!(head, random_head(1000, 3, 5));
        assert_ne!(head, random_head(1000, 3, 6));
    }

    #[test]
    fn with_few_features_classes_share_them() {
        let head = random_head(16, 10, 0);
        for class in 0..10 {
            let read = head.iter().skip(class).step_by(10);
            assert_eq!(read.filter(|w| **w != 0.0).count(), LEAST_SUPPORT);
        }
    }

    #[test]
    fn the_anchor_part_is_half_of_every_class() {
        let labels: Vec<usize> = (0..30).map(|i| i % 3).collect();
        let anchor = anchor_part(&labels, 3, 1);
        for class in 0..3 {
            assert_eq!(anchor.iter().filter(|i| labels[**i] == class).count(), 5);
        }
    }
}
