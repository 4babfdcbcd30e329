//! Orders of the training images: how much each tells, how well the others predict it, whether
//! its label is likely wrong, and which others are nearly the same picture.
//!
//! **Labels.** Let `f_i` be the outputs at image i of the fit without it, and
//!
//! ```text
//!     p_i(c) = exp(t f_i[c]) / sum_k exp(t f_i[k]) ,    t = argmin over t >= 0 of -sum_i log p_i(y_i) .   (1)
//! ```
//!
//! One number, t, turns the outputs into probabilities, by the likelihood of labels that the fits have not
//! seen (temperature scaling; C. Guo et al., *On calibration of modern neural networks*, ICML
//! 2017: there with held-out images). An image is as suspect as its own label is improbable,
//! `-log p_i(y_i)`. Unlike the margin to the best other class it counts how many others come near: with many
//! classes some other class often does.

use convextune_solve::faer::Mat;
use rayon::prelude::*;

use super::dual::Dual;
use super::queries::Queries;

/// What the model without an image thinks of its label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspicion {
    /// `-log p_i(y_i)` of (1), at least 0.
    pub surprise: f64,
    /// Largest output at another class less that at the label, of the fit without the image:
    /// positive where that fit takes it for another class.
    pub margin: f64,
    /// That other class.
    pub class: usize,
}

/// Most that `t` of (1) is multiplied with the largest output.
const SHARPEST: f64 = 1e3;
/// Halvings of the interval of `t`.
const HALVINGS: usize = 60;

/// The image most like another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearest {
    /// Its index.
    pub sample: usize,
    /// Cosine of the angle between the two in the centred kernel; 1 for the same picture.
    pub cosine: f64,
}

impl Dual {
    /// F-SI of every sample (eq. 9 of Achille et al., CVPR 2021, exact): the mean over the queries
    /// of `||f - f_{-i}||^2`.
    pub fn informativeness(&self, queries: &Queries) -> Vec<f64> {
        let n = queries.outputs.nrows().max(1) as f64;
        (0..self.samples())
            .into_par_iter()
            .map(|i| self.change_without(queries, i).squared_norm_l2() / n)
            .collect()
    }

    /// F-SI of every sample with the other samples as queries.
    pub fn informativeness_among(&self) -> Vec<f64> {
        let n = self.samples() as f64;
        let all = self.informativeness(&self.itself());
        let others = all.into_iter().zip(self.self_influence());
        others
            .map(|(all, own)| (n * all - own) / (n - 1.0))
            .collect()
    }

    /// `||f(x_i) - f_{-i}(x_i)||^2` of every sample: how much its own outputs depend on having
    /// seen it.
    pub fn self_influence(&self) -> Vec<f64> {
        norms(&(self.leave_one_out_residuals() - self.residuals()))
    }

    /// `||t_i - f_{-i}(x_i)||^2` of every sample: how badly the others predict it.
    pub fn leave_one_out_errors(&self) -> Vec<f64> {
        norms(&self.leave_one_out_residuals())
    }

    /// Mean over the classes of the leverage `(I - Lambda M)_ii` of every sample, between 0 and 1:
    /// how far its outputs follow its own targets.
    pub fn leverages(&self) -> Vec<f64> {
        let (q, m) = (self.rows(), self.inverse());
        let mean = |i: usize| (i * q..(i + 1) * q).map(|r| m[(r, r)]).sum::<f64>() / q as f64;
        (0..self.samples())
            .map(|i| 1.0 - self.lambda() * mean(i))
            .collect()
    }

    /// For labels of the samples, what the fit without each of them thinks of its label.
    pub fn suspicions(&self, labels: &[usize]) -> Vec<Suspicion> {
        suspicions(&self.leave_one_out(), labels)
    }

    /// For every sample the one nearest to it by the cosine of the centred kernel, its classes
    /// summed. Empty where there is only one sample.
    pub fn nearest(&self) -> Vec<Nearest> {
        let (n, q, k) = (self.samples(), self.rows(), self.kernel());
        let product = |i: usize, j: usize| (0..q).map(|c| k[(i * q + c, j * q + c)]).sum::<f64>();
        let lengths: Vec<f64> = (0..n).map(|i| product(i, i).max(0.0).sqrt()).collect();
        let cosine = |i: usize, j: usize| {
            let length = lengths[i] * lengths[j];
            if length > 0.0 {
                product(i, j) / length
            } else {
                0.0
            }
        };
        let nearest = |i: usize| {
            let others = (0..n).filter(|j| *j != i).map(|sample| Nearest {
                sample,
                cosine: cosine(i, sample),
            });
            others.max_by(|a, b| a.cosine.total_cmp(&b.cosine))
        };
        (0..n).into_par_iter().filter_map(nearest).collect()
    }
}

impl Queries {
    /// Mean over the classes of the posterior variance of every query's outputs, in units of the
    /// noise's variance.
    pub fn variances(&self) -> Vec<f64> {
        let q = self.covariance.nrows();
        let n = self.covariance.ncols() / q.max(1);
        let mean = |i: usize| (0..q).map(|c| self.covariance[(c, i * q + c)]).sum::<f64>();
        (0..n).map(|i| mean(i) / q as f64).collect()
    }
}

/// What the fits without each sample, whose outputs at it are the rows of `f`, think of its label.
pub(super) fn suspicions(f: &Mat<f64>, labels: &[usize]) -> Vec<Suspicion> {
    let t = sharpness(f, labels);
    let suspicion = |(i, label): (usize, &usize)| {
        let others = (0..f.ncols()).filter(|c| c != label);
        let best = others.max_by(|a, b| f[(i, *a)].total_cmp(&f[(i, *b)]));
        let class = best.unwrap_or(*label);
        Suspicion {
            surprise: probabilities(f, i, t).1 - t * f[(i, *label)],
            margin: f[(i, class)] - f[(i, *label)],
            class,
        }
    };
    labels.iter().enumerate().map(suspicion).collect()
}

/// `p_i` of (1) and `log sum_k exp(t f_i[k])`.
fn probabilities(f: &Mat<f64>, i: usize, t: f64) -> (Vec<f64>, f64) {
    let scores = (0..f.ncols()).map(|c| t * f[(i, c)]);
    let largest = scores.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.clone().map(|s| (s - largest).exp()).sum();
    let all = largest + sum.ln();
    (scores.map(|s| (s - all).exp()).collect(), all)
}

/// `t` of (1): the sum is convex, its slope is `sum_i (sum_c p_i(c) f_i[c] - f_i[y_i])`. Where the outputs are no
/// better than chance (`t = 0`), the reciprocal of the largest output, so that there is an order.
fn sharpness(f: &Mat<f64>, labels: &[usize]) -> f64 {
    let largest = f.norm_max();
    let unit = if largest > 0.0 { 1.0 / largest } else { 1.0 };
    let slope = |t: f64| -> f64 {
        let of = |(i, label): (usize, &usize)| {
            let (p, _) = probabilities(f, i, t);
            let mean: f64 = p.iter().enumerate().map(|(c, p)| p * f[(i, c)]).sum();
            mean - f[(i, *label)]
        };
        labels.iter().enumerate().map(of).sum()
    };
    let (mut low, mut high) = (0.0, SHARPEST * unit);
    if slope(low) >= 0.0 {
        return unit;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Squared lengths of the rows.
pub(super) fn norms(m: &Mat<f64>) -> Vec<f64> {
    m.row_iter().map(|row| row.squared_norm_l2()).collect()
}
