//! Eigenvalues of a symmetric operator that is seen only through its products.
//!
//! **The recurrence** (Lanczos 1950; Golub and Van Loan, 4th ed., section 10.1). For `A` symmetric on
//! R^n and a first direction `q_1` of length 1,
//!
//! ```text
//!     beta_j q_{j+1} = A q_j - alpha_j q_j - beta_{j-1} q_{j-1} ,     alpha_j = <q_j, A q_j> ,
//!     A Q_m = Q_m T_m + beta_m q_{m+1} e_m' ,                                               (1)
//! ```
//!
//! with orthonormal `Q_m = [q_1 .. q_m]` and `T_m` tridiagonal (`alpha` on the diagonal, `beta` beside
//! it). In floating point the q lose their orthogonality as soon as an eigenvalue has converged (Paige
//! 1971), and copies of it appear that are not there. Here every new direction is made orthogonal to
//! all earlier ones, twice (Kahan and Parlett: twice is enough), at `8 n m` operations a step.
//!
//! **Ritz pairs and their bound.** For `T_m s = theta s` and `y = Q_m s`, (1) gives `A y - theta y =
//! beta_m s_m q_{m+1}`, and for every symmetric `A` and `||y|| = 1` some eigenvalue lies within
//!
//! ```text
//!     | lambda - theta |  <=  || A y - theta y ||  =  beta_m | s_m |                         (2)
//! ```
//!
//! (Saad, *Numerical Methods for Large Eigenvalue Problems*, 2nd ed., 2011, chapters 3 and 6). The right
//! hand side decides when to stop. What is reported is the middle, computed again from a product with
//! the `y` that was found, with `theta = <y, A y>`. It proves that an eigenvalue is there, not that none
//! was passed over: the extreme ones come first unless q_1 happens to be orthogonal to them.
//!
//! **Invariant subspaces.** `beta_m = 0` means that Q_m spans an invariant subspace. Every Ritz value is
//! then an eigenvalue, but of a repeated one only a single copy is found. The iteration goes on from a
//! new direction orthogonal to Q_m (a zero in T_m), until the extreme Ritz values of that block have
//! converged too and lie inside those reported, or the whole space is spanned.
//!
//! **With a preconditioner** `B^-1`, symmetric positive definite, the eigenvalues of `B^-1 A` are those
//! of `B^-1/2 A B^-1/2`. With `q = B^-1/2 q~` and `p = B^1/2 q~ = B q`, where the q~ are the directions
//! of that matrix,
//!
//! ```text
//!     beta_j p_{j+1} = A q_j - alpha_j p_j - beta_{j-1} p_{j-1} ,     q_{j+1} = B^-1 p_{j+1} ,
//!     <q_i, p_j> = 1 if i = j, else 0 ,     bound (2): sqrt(<r, B^-1 r>) ,  r = A y - theta B y ,   (3)
//! ```
//!
//! so that only `B^-1` is applied, once a step, as in conjugate gradients.

mod density;

pub use density::{Bin, Quadrature, histogram, quadrature};

use faer::Mat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dense::{axpy, dot};
use crate::error::{SolveError, check_finite, check_len, check_positive};
use crate::factor::eigen;
use crate::quadratic::Preconditioner;
use crate::quadratic::pcg::SymmetricOperator;

/// What counts as zero beside the largest coefficient of T, or beside a direction drawn.
const NEGLIGIBLE: f64 = 1e-12;
/// Steps between two looks at T.
const LOOK_EVERY: usize = 4;

/// `A x = theta B x`: the eigenvalues of `A`, or of `B^-1 A`.
#[derive(Clone, Copy)]
pub struct Pencil<'a> {
    /// `A`, symmetric.
    pub operator: &'a dyn SymmetricOperator,
    /// `B^-1`; without it `B = I`.
    pub preconditioner: Option<&'a dyn Preconditioner>,
}

/// An eigenvalue and what is proved about it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eigenvalue {
    /// `theta`.
    pub value: f64,
    /// An eigenvalue lies within this distance of `value`: equation (2), from a fresh product.
    pub residual_bound: f64,
}

/// What to look for and when to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LanczosOptions {
    /// How many of the largest eigenvalues.
    pub largest: usize,
    /// How many of the smallest.
    pub smallest: usize,
    /// Residual bound to reach, relative to the eigenvalue; positive.
    pub tolerance: f64,
    /// Steps allowed. Each is one product with `A` and keeps one vector, two with a preconditioner.
    pub max_steps: usize,
}

/// The eigenvalues found.
#[derive(Clone, Debug, PartialEq)]
pub struct Extremes {
    /// The largest, falling.
    pub largest: Vec<Eigenvalue>,
    /// The smallest, rising.
    pub smallest: Vec<Eigenvalue>,
    /// Whether all met the tolerance; otherwise the steps were used up.
    pub converged: bool,
    /// Products with `A`, those of the fresh residuals included.
    pub products: usize,
    /// The quadrature that belongs to the first direction.
    pub quadrature: Quadrature,
}

/// The extreme eigenvalues. `draw` gives directions to begin with. Where all of them lie in a subspace
/// that `A` and `B` map into itself, the eigenvalues are those on that subspace.
///
/// # Errors
/// When the operator fails, lengths disagree, the tolerance is not positive, or the first direction
/// is zero.
pub fn lanczos(
    pencil: Pencil<'_>,
    draw: &mut dyn FnMut() -> Vec<f64>,
    options: &LanczosOptions,
) -> Result<Extremes, SolveError> {
    check_positive("tolerance", options.tolerance)?;
    let mut basis = Basis::new(pencil, draw)?;
    let (ritz, converged) = loop {
        basis.step()?;
        let last = basis.len() >= options.max_steps;
        if !(last || basis.is_invariant() || basis.len().is_multiple_of(LOOK_EVERY)) {
            continue;
        }
        let ritz = basis.ritz(0)?;
        if basis.settled(&ritz, options)? {
            break (ritz, true);
        }
        if last {
            break (ritz, false);
        }
        if basis.is_invariant() && !basis.restart(draw)? {
            break (ritz, true);
        }
    };
    let fresh = |k: usize| basis.fresh(&ritz, k);
    let largest = ritz.largest(options.largest).map(fresh);
    let largest = largest.collect::<Result<Vec<_>, _>>()?;
    let smallest = ritz.smallest(options.smallest).map(fresh);
    let smallest = smallest.collect::<Result<Vec<_>, _>>()?;
    Ok(Extremes {
        products: basis.len() + largest.len() + smallest.len(),
        quadrature: ritz.quadrature(),
        largest,
        smallest,
        converged,
    })
}

/// The directions so far, and T.
struct Basis<'a> {
    pencil: Pencil<'a>,
    /// The q.
    q: Vec<Vec<f64>>,
    /// The `p = B q`; empty where `B = I`.
    p: Vec<Vec<f64>>,
    alpha: Vec<f64>,
    /// One for every alpha; the last couples to a direction without an alpha yet.
    beta: Vec<f64>,
    /// Where the last block begins.
    block: usize,
}

impl<'a> Basis<'a> {
    fn new(pencil: Pencil<'a>, draw: &mut dyn FnMut() -> Vec<f64>) -> Result<Self, SolveError> {
        let mut basis = Self {
            pencil,
            q: Vec::new(),
            p: Vec::new(),
            alpha: Vec::new(),
            beta: Vec::new(),
            block: 0,
        };
        if let Some(preconditioner) = pencil.preconditioner {
            check_len(
                "preconditioner",
                pencil.operator.dim(),
                preconditioner.dim(),
            )?;
        }
        if basis.restart(draw)? {
            Ok(basis)
        } else {
            Err(SolveError::Unsupported(
                "Lanczos' iteration cannot begin with a direction that is zero",
            ))
        }
    }

    /// m, the size of T.
    fn len(&self) -> usize {
        self.alpha.len()
    }

    /// Whether the directions span an invariant subspace.
    fn is_invariant(&self) -> bool {
        self.q.len() == self.len()
    }

    /// A new direction, orthogonal to all others; `false` when there is none.
    fn restart(&mut self, draw: &mut dyn FnMut() -> Vec<f64>) -> Result<bool, SolveError> {
        let mut p = draw();
        check_len("direction", self.pencil.operator.dim(), p.len())?;
        check_finite("direction", &p)?;
        let (_, before) = self.precondition(&p);
        self.orthogonalise(&mut p);
        let (q, length) = self.precondition(&p);
        if length <= NEGLIGIBLE * before {
            return Ok(false);
        }
        self.push(p, q, length);
        self.block = self.len();
        Ok(true)
    }

    /// One line of (1), or of (3).
    fn step(&mut self) -> Result<(), SolveError> {
        let j = self.len();
        let mut p = vec![0.0; self.pencil.operator.dim()];
        self.pencil.operator.apply(&self.q[j], &mut p)?;
        check_finite("product with a direction of Lanczos' iteration", &p)?;
        self.alpha.push(dot(&self.q[j], &p));
        self.orthogonalise(&mut p);
        let (q, beta) = self.precondition(&p);
        let largest = |sum: f64, x: &f64| sum.max(x.abs());
        let scale = self.alpha.iter().chain(&self.beta).fold(0.0, largest);
        if beta <= NEGLIGIBLE * scale {
            self.beta.push(0.0);
        } else {
            self.beta.push(beta);
            self.push(p, q, beta);
        }
        Ok(())
    }

    /// `p -= sum_i p_i <q_i, p>`, twice.
    fn orthogonalise(&self, p: &mut [f64]) {
        let b_q = if self.p.is_empty() { &self.q } else { &self.p };
        for _ in 0..2 {
            let along: Vec<f64> = self.q.par_iter().map(|q| dot(q, p)).collect();
            for (b_q, along) in b_q.iter().zip(along) {
                axpy(-along, b_q, p);
            }
        }
    }

    /// `B^-1 p` and the length `sqrt(<p, B^-1 p>)`.
    fn precondition(&self, p: &[f64]) -> (Vec<f64>, f64) {
        let mut q = p.to_vec();
        if let Some(preconditioner) = self.pencil.preconditioner {
            preconditioner.apply(p, &mut q);
        }
        let length = dot(p, &q).max(0.0).sqrt();
        (q, length)
    }

    /// Appends a direction of the given length.
    fn push(&mut self, mut p: Vec<f64>, mut q: Vec<f64>, length: f64) {
        let normalise = |v: &mut [f64]| v.iter_mut().for_each(|x| *x /= length);
        normalise(&mut q);
        self.q.push(q);
        if self.pencil.preconditioner.is_some() {
            normalise(&mut p);
            self.p.push(p);
        }
    }

    /// The eigenpairs of T from row `first` on.
    fn ritz(&self, first: usize) -> Result<Ritz, SolveError> {
        let m = self.len() - first;
        let (alpha, beta) = (&self.alpha[first..], &self.beta[first..]);
        let t = Mat::from_fn(m, m, |i, j| match i.abs_diff(j) {
            0 => alpha[i],
            1 => beta[i.min(j)],
            _ => 0.0,
        });
        let (values, vectors) = eigen("eigenvalues of Lanczos' matrix T", t.as_ref())?;
        Ok(Ritz {
            values,
            vectors,
            beta: beta.last().copied().unwrap_or(0.0),
        })
    }

    /// Whether the Ritz values wanted meet the tolerance, and nothing beyond them is to be expected.
    fn settled(&self, ritz: &Ritz, options: &LanczosOptions) -> Result<bool, SolveError> {
        let enough = self.len() >= options.largest.max(options.smallest);
        let mut wanted = ritz
            .largest(options.largest)
            .chain(ritz.smallest(options.smallest));
        if !enough || !wanted.all(|k| ritz.within(k, options.tolerance)) {
            return Ok(false);
        }
        if self.block == 0 {
            return Ok(!self.is_invariant());
        }
        // Eigenvalues of which the earlier blocks have a copy may have others in this one.
        let block = self.ritz(self.block)?;
        let inside = |mut wanted: Vec<usize>, of_block: usize, sign: f64| {
            let Some(last) = wanted.pop() else {
                return true;
            };
            let excess = sign * (block.values[of_block] - ritz.values[last]);
            block.within(of_block, options.tolerance)
                && excess <= options.tolerance * ritz.values[last].abs()
        };
        let largest = ritz.largest(options.largest).collect();
        let smallest = ritz.smallest(options.smallest).collect();
        Ok(inside(largest, block.values.len() - 1, 1.0) && inside(smallest, 0, -1.0))
    }

    /// Ritz value `k` from its vector, with its residual.
    fn fresh(&self, ritz: &Ritz, k: usize) -> Result<Eigenvalue, SolveError> {
        let s = ritz.vectors.col_as_slice(k);
        let combined = |directions: &[Vec<f64>]| {
            let mut sum = vec![0.0; self.pencil.operator.dim()];
            for (direction, s) in directions.iter().zip(s) {
                axpy(*s, direction, &mut sum);
            }
            sum
        };
        let y = combined(&self.q);
        let b_y = if self.p.is_empty() {
            y.clone()
        } else {
            combined(&self.p)
        };
        let mut r = vec![0.0; y.len()];
        self.pencil.operator.apply(&y, &mut r)?;
        let square = dot(&y, &b_y);
        let value = dot(&y, &r) / square;
        axpy(-value, &b_y, &mut r);
        let (_, length) = self.precondition(&r);
        Ok(Eigenvalue {
            value,
            residual_bound: length / square.sqrt(),
        })
    }
}

/// Eigenpairs of T, rising.
struct Ritz {
    values: Vec<f64>,
    vectors: Mat<f64>,
    /// `beta_m`.
    beta: f64,
}

impl Ritz {
    /// Positions of the `count` largest, falling.
    fn largest(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.values.len()).rev().take(count)
    }

    /// Positions of the `count` smallest, rising.
    fn smallest(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.values.len()).take(count)
    }

    /// Whether the bound (2), by the recurrence, is small beside the value.
    fn within(&self, k: usize, tolerance: f64) -> bool {
        let last = self.vectors[(self.values.len() - 1, k)];
        self.beta * last.abs() <= tolerance * self.values[k].abs()
    }

    /// The quadrature that belongs to the first direction.
    fn quadrature(&self) -> Quadrature {
        let weight = |k: usize| self.vectors[(0, k)].powi(2);
        let nodes = self.values.iter().enumerate();
        Quadrature {
            nodes: nodes.map(|(k, value)| (*value, weight(k))).collect(),
        }
    }
}
