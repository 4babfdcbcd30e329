//! What the dual of a fit says about samples that it was not fitted to (equations 1 and 5 of [`super::dual`]).

use convextune_solve::faer::{Mat, MatRef};

use super::dual::{Dual, class_means, dot};
use crate::error::Error;
use crate::linearize::CrossKernel;

/// Queries as the dual sees them.
#[derive(Clone, Debug)]
pub struct Queries {
    /// W of equation 1, `Nq x nq`.
    pub weights: Mat<f64>,
    /// Posterior covariances (equation 5), `q x nq`: a block of q columns a query.
    pub covariance: Mat<f64>,
    /// Outputs of the fit, `n x C`.
    pub outputs: Mat<f64>,
}

/// Queries with the covariances between them.
#[derive(Clone, Debug)]
pub struct Joint {
    /// `M k~` of equation 1, `Nq x nq`.
    pub dual: Mat<f64>,
    /// V of equation 5 between all queries, `nq x nq`.
    pub covariance: Mat<f64>,
    /// Outputs of the fit, `n x C`.
    pub outputs: Mat<f64>,
}

impl Dual {
    /// Queries from their kernel with the samples.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn queries(&self, cross: CrossKernel) -> Result<Queries, Error> {
        let q = self.rows;
        let CrossKernel { mut samples, own } = cross;
        if own.nrows() != q || own.ncols() != samples.ncols() {
            return Err(foreign());
        }
        let own = |s: usize, x: usize| own[(s % q, x)];
        let centre = self.centre(&mut samples)?;
        let m_k = self.inverse() * &samples;
        let covariance = Mat::from_fn(q, samples.ncols(), |s, x| {
            let first = x - x % q;
            self.covariance(own(s, x), (first + s, x), (&samples, &m_k), &centre)
        });
        let weights = self.with_bias(m_k);
        let outputs = self.by_sample((weights.transpose() * self.target()).as_ref());
        Ok(Queries {
            weights,
            covariance,
            outputs,
        })
    }

    /// Queries from their kernel with the samples (`Nq x nq`) and with each other (`nq x nq`).
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn joint(&self, mut samples: Mat<f64>, own: MatRef<'_, f64>) -> Result<Joint, Error> {
        let n = samples.ncols();
        if (own.nrows(), own.ncols()) != (n, n) {
            return Err(foreign());
        }
        let centre = self.centre(&mut samples)?;
        let dual = self.inverse() * &samples;
        let covariance = Mat::from_fn(n, n, |x, y| {
            self.covariance(own[(x, y)], (x, y), (&samples, &dual), &centre)
        });
        let weights = self.with_bias(dual.clone());
        let outputs = self.by_sample((weights.transpose() * self.target()).as_ref());
        Ok(Joint {
            dual,
            covariance,
            outputs,
        })
    }

    /// The samples themselves as queries: `W = I - Lambda M`.
    pub fn itself(&self) -> Queries {
        let m = self.inverse();
        let one = |r: usize, s: usize| f64::from(u8::from(r == s));
        let hat = |r: usize, s: usize| one(r, s) - self.lambda * m[(r, s)];
        let q = self.rows;
        Queries {
            weights: Mat::from_fn(m.nrows(), m.ncols(), hat),
            covariance: Mat::from_fn(q, m.ncols(), |s, x| hat(x - x % q + s, x)),
            outputs: self.outputs(),
        }
    }

    /// `k <- k~`; what centring took.
    fn centre(&self, k: &mut Mat<f64>) -> Result<Centre, Error> {
        let q = self.rows;
        if k.nrows() != self.target().nrows() || !k.ncols().is_multiple_of(q) {
            return Err(foreign());
        }
        let grand = class_means(self.row_means.transpose(), q);
        let means = class_means(k.as_ref(), q);
        for x in 0..k.ncols() {
            for (r, k) in k.col_as_slice_mut(x).iter_mut().enumerate() {
                *k -= means[(r % q, x)] + self.row_means[(x % q, r)] - grand[(r % q, x % q)];
            }
        }
        Ok(Centre { means, grand })
    }

    /// V of equation 5 between the rows `x` and `y` of queries, `own` being their kernel.
    fn covariance(
        &self,
        own: f64,
        (x, y): (usize, usize),
        (k, m_k): (&Mat<f64>, &Mat<f64>),
        centre: &Centre,
    ) -> f64 {
        let (q, n) = (self.rows, self.samples() as f64);
        let (c, d) = (x % q, y % q);
        let centred = own - centre.means[(c, y)] - centre.means[(d, x)] + centre.grand[(c, d)];
        let explained = dot(k.col_as_slice(x), m_k.col_as_slice(y));
        (centred - explained) / self.lambda + f64::from(u8::from(c == d)) / n
    }

    /// `M k~ + B/N`.
    fn with_bias(&self, mut weights: Mat<f64>) -> Mat<f64> {
        let (q, n) = (self.rows, self.samples() as f64);
        for x in 0..weights.ncols() {
            let column = weights.col_as_slice_mut(x);
            column
                .iter_mut()
                .skip(x % q)
                .step_by(q)
                .for_each(|w| *w += 1.0 / n);
        }
        weights
    }
}

/// Class means of the kernel with queries (`q x nq`), and of the samples' own (`q x q`).
struct Centre {
    means: Mat<f64>,
    grand: Mat<f64>,
}

fn foreign() -> Error {
    Error::Usage("the queries are not of this model".into())
}
