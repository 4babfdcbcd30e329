//! Orders of the training images: how much each tells, how well the others predict it, whether
//! its label is likely wrong, and which others are nearly the same picture.

use convextune_solve::faer::Mat;
use rayon::prelude::*;

use super::dual::{Dual, Queries};

/// How far the model without an image prefers another class to its label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspicion {
    /// Largest output at another class less that at the label, of the fit without the image:
    /// positive where that fit takes it for another class.
    pub margin: f64,
    /// That other class.
    pub class: usize,
}

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
        let f = self.leave_one_out();
        let suspicion = |(i, label): (usize, &usize)| {
            let others = (0..f.ncols()).filter(|c| c != label);
            let best = others.max_by(|a, b| f[(i, *a)].total_cmp(&f[(i, *b)]));
            let class = best.unwrap_or(*label);
            Suspicion {
                margin: f[(i, class)] - f[(i, *label)],
                class,
            }
        };
        labels.iter().enumerate().map(suspicion).collect()
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

/// Squared lengths of the rows.
fn norms(m: &Mat<f64>) -> Vec<f64> {
    m.row_iter().map(|row| row.squared_norm_l2()).collect()
}
