//! The head W0 (`d x C`) at which a network is linearised, and the head-only ridge model.

use convextune_solve::faer::Mat;
use convextune_solve::quadratic::{HeadRidge, Intercept, LambdaChoice, log_grid};

use super::features::{Features, targets};
use super::options::HeadInit;
use crate::error::Error;
use crate::rng::Rng;

/// Points of the grid on which leave-one-out chooses a head's weight decay.
const GRID: usize = 25;

/// A seeded head of normal numbers whose rows (one per class, length d) have mean length `scale`.
/// It does not see the training data.
pub fn random_head(features: usize, classes: usize, scale: f64, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, "head");
    let deviation = scale / (features as f64).sqrt();
    (0..features * classes)
        .map(|_| (deviation * rng.normal()) as f32)
        .collect()
}

/// The ridge head of `features`, its Lambda chosen by leave-one-out, scaled to rows of mean
/// length `scale`; `d x C`, row-major.
///
/// # Errors
/// When the ridge problem has no solution.
pub fn ridge_head(
    features: &Features,
    labels: &[usize],
    classes: usize,
    scale: f64,
) -> Result<Vec<f32>, Error> {
    let ridge = HeadRidge::new(features.phi.as_ref(), Intercept::Free)?;
    let t = targets(labels, classes, 1.0);
    let choice = choose_lambda(&ridge, &t)?;
    let weights = ridge.fit(t.as_ref(), choice.lambda)?.weights;
    let length = |c: usize| weights.col(c).iter().map(|w| w * w).sum::<f64>().sqrt();
    let mean = (0..classes).map(length).sum::<f64>() / classes as f64;
    let factor = if mean > 0.0 { scale / mean } else { 1.0 };
    let d = weights.nrows();
    Ok((0..d * classes)
        .map(|i| (factor * weights[(i / classes, i % classes)]) as f32)
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

/// W0 of the wanted kind, `d x C`. `features` are read only by the fitted kinds.
///
/// # Errors
/// When the ridge problem has no solution, or features are missing.
pub fn initial_head(
    kind: HeadInit,
    (features, width): (Option<&Features>, usize),
    (labels, classes): (&[usize], usize),
    scale: f64,
    seed: u64,
) -> Result<Vec<f32>, Error> {
    let given = || features.ok_or_else(|| Error::Usage("a fitted head needs features".into()));
    match kind {
        HeadInit::Random => Ok(random_head(width, classes, scale, seed)),
        HeadInit::Ridge => ridge_head(given()?, labels, classes, scale),
        HeadInit::Split => {
            let anchor = anchor_part(labels, classes, seed);
            let its_labels: Vec<usize> = anchor.iter().map(|i| labels[*i]).collect();
            ridge_head(&given()?.select(&anchor), &its_labels, classes, scale)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_head_has_rows_of_the_wanted_length_and_depends_on_its_seed_only() {
        let head = random_head(1000, 3, 0.3, 5);
        for class in 0..3 {
            let squared: f32 = head.iter().skip(class).step_by(3).map(|w| w * w).sum();
            assert!((squared.sqrt() - 0.3).abs() < 0.03);
        }
        assert_eq!(head, random_head(1000, 3, 0.3, 5));
        assert_ne!(head, random_head(1000, 3, 0.3, 6));
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
