//! The alternating direction method of multipliers with a Nyström-preconditioned inner solve, for gated
//! programs with the squared loss and neuron-wise norms whose number of samples is large.
//!
//! With `A = [D_1 X ... D_P X]` and one output `y`, split `u = v`:
//!
//! ```text
//!     u <- argmin  1/(2n) ||A u - y||^2 + rho/2 ||u - v + w||^2 :   (A'A / n + rho I) u = A'y / n + rho (v - w)
//!     v <- prox_{lambda / rho}(u + w)          (each block shrunk)
//!     w <- w + u - v                                                                        (1)
//! ```
//!
//! The system is solved by conjugate gradients from the last `u`, preconditioned by a randomised Nyström
//! approximation of `A'A / n` ([`crate::quadratic::NystroemPreconditioner`]), which serves every `rho`. `rho` is
//! doubled or halved while the primal residual `||u - v||` and the dual one `rho ||v - v_before||` are apart by
//! a factor of ten (Boyd et al. 2011, section 3.4.1). `v` is sparse; certificates are made there.
//!
//! Source: M. Feng, Z. Frangella, M. Pilanci, *CRONOS: enhancing deep learning with scalable GPU accelerated
//! convex neural networks*, NeurIPS 2024, which has the scheme; S. Boyd et al., *Distributed optimization
//! and statistical learning via the alternating direction method of multipliers*, 2011.
//!
//! It needs no factorisation that grows with the samples, and is a second opinion on [`super::solve`].

use faer::Mat;

use super::{
    Activation, Column, GatedMatrix, Loss, Neuron, Penalty, Problem, Solution, SolveOptions,
    certify,
};
use crate::dense::{axpy, norm};
use crate::error::SolveError;
use crate::operator::OperatorError;
use crate::quadratic::NystroemPreconditioner;
use crate::quadratic::pcg::{Pcg, SymmetricOperator};
use crate::status::{Observer, Progress, Status};

/// Parameters of the method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdmmOptions {
    /// When to stop; an iteration here is [`AdmmOptions::between`] rounds of (1).
    pub solve: SolveOptions,
    /// Rank of the Nyström approximation.
    pub rank: usize,
    /// Rounds between two certificates.
    pub between: usize,
}

impl Default for AdmmOptions {
    fn default() -> Self {
        Self {
            solve: SolveOptions::default(),
            rank: 50,
            between: 20,
        }
    }
}

/// Conjugate gradient iterations in one round, at most.
const INNER: usize = 100;
/// Relative residual of the first inner solves; it falls with the residuals of (1).
const ROUGH: f64 = 1e-3;

/// Minimises a gated problem with squared loss, neuron-wise norms and no free intercept.
///
/// # Errors
/// When the problem is of another kind or not sound, or a factorisation fails.
pub fn admm(
    problem: &Problem,
    options: &AdmmOptions,
    normal: &mut dyn FnMut() -> f64,
    observer: &mut dyn Observer,
) -> Result<Solution, SolveError> {
    problem.check()?;
    let covered = problem.activation == Activation::Gated
        && problem.loss == Loss::Squared
        && problem.penalty == Penalty::Neuron
        && !problem.intercept;
    if !covered {
        return Err(SolveError::Unsupported(
            "ADMM is for gated ReLU with squared loss, neuron-wise norms and no free intercept",
        ));
    }
    let gram = Gram {
        matrix: &problem.matrix,
        columns: problem.matrix.all_columns(0),
        shift: 0.0,
    };
    let rho = 10.0 * problem.lambda;
    let nystroem = NystroemPreconditioner::new(&gram, options.rank, rho, normal)?;
    let mut state = State::new(problem, gram, nystroem, rho);
    let mut history = Vec::new();
    loop {
        let neurons = state.neurons();
        let certificate = certify(problem, &neurons, &[])?;
        let record = super::solve::record(history.len(), certificate.into());
        history.push(record);
        let progress = Progress {
            record,
            state: None,
        };
        let interrupted = observer.iteration(&progress).is_break();
        let status = if certificate.relative_duality_gap <= options.solve.tolerance {
            Some(Status::Converged)
        } else if interrupted {
            Some(Status::Interrupted)
        } else {
            (history.len() > options.solve.max_iterations).then_some(Status::MaxIterations)
        };
        if let Some(status) = status {
            return Ok(Solution {
                neurons,
                intercept: vec![0.0; problem.outputs()],
                certificate,
                status,
                // The start is record 0.
                iterations: history.len() - 1,
                history,
            });
        }
        for _ in 0..options.between {
            state.round()?;
        }
    }
}

/// `A'A / n + shift I` for one output.
struct Gram<'a> {
    matrix: &'a GatedMatrix,
    columns: Vec<Column>,
    shift: f64,
}

impl Gram<'_> {
    /// `A' r / n`.
    fn adjoint(&self, r: &Mat<f64>) -> Vec<f64> {
        let c = self.matrix.correlate(&self.columns, r);
        let n = self.matrix.samples() as f64;
        (0..c.ncols())
            .flat_map(|k| c.col_as_slice(k))
            .map(|c| c / n)
            .collect()
    }

    fn product(&self, x: &[f64]) -> Mat<f64> {
        let d = self.matrix.features();
        let weights = faer::MatRef::from_column_major_slice(x, d, self.columns.len());
        let mut z = Mat::zeros(self.matrix.samples(), 1);
        self.matrix.apply(&self.columns, weights, &mut z);
        z
    }
}

impl SymmetricOperator for Gram<'_> {
    fn dim(&self) -> usize {
        self.matrix.features() * self.columns.len()
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        y.copy_from_slice(&self.adjoint(&self.product(x)));
        axpy(self.shift, x, y);
        Ok(())
    }
}

/// Where (1) stands, all outputs.
struct State<'a> {
    problem: &'a Problem,
    gram: Gram<'a>,
    nystroem: NystroemPreconditioner,
    rho: f64,
    /// `A' y / n`, by output.
    right: Vec<Vec<f64>>,
    u: Vec<Vec<f64>>,
    v: Vec<Vec<f64>>,
    w: Vec<Vec<f64>>,
    /// Relative residual that the inner solves must reach.
    accuracy: f64,
}

impl<'a> State<'a> {
    fn new(
        problem: &'a Problem,
        gram: Gram<'a>,
        nystroem: NystroemPreconditioner,
        rho: f64,
    ) -> Self {
        let column = |c: usize| {
            let y = problem.targets.col_as_slice(c);
            gram.adjoint(&Mat::from_fn(y.len(), 1, |s, _| y[s]))
        };
        let right: Vec<Vec<f64>> = (0..problem.outputs()).map(column).collect();
        let zeros = vec![vec![0.0; gram.dim()]; problem.outputs()];
        Self {
            problem,
            gram,
            nystroem,
            rho,
            right,
            u: zeros.clone(),
            v: zeros.clone(),
            w: zeros,
            accuracy: ROUGH,
        }
    }

    /// One round of (1) for every output, and a new `rho` where it is due.
    fn round(&mut self) -> Result<(), SolveError> {
        let (mut primal, mut dual, mut scale) = (0.0_f64, 0.0_f64, 0.0_f64);
        for c in 0..self.right.len() {
            let mut b = self.right[c].clone();
            axpy(self.rho, &self.v[c], &mut b);
            axpy(-self.rho, &self.w[c], &mut b);
            self.solve_system(c, &b)?;
            let before = self.v[c].clone();
            self.v[c].copy_from_slice(&self.u[c]);
            axpy(1.0, &self.w[c], &mut self.v[c]);
            self.shrink(c);
            axpy(1.0, &self.u[c], &mut self.w[c]);
            axpy(-1.0, &self.v[c], &mut self.w[c]);
            primal = primal.max(distance(&self.u[c], &self.v[c]));
            dual = dual.max(self.rho * distance(&self.v[c], &before));
            scale = scale.max(norm(&self.right[c]));
        }
        self.accuracy = (0.1 * (primal * self.rho).min(dual) / scale).clamp(1e-12, self.accuracy);
        let (primal, dual) = (primal * self.rho, dual);
        let factor = if primal > 10.0 * dual {
            2.0
        } else if dual > 10.0 * primal {
            0.5
        } else {
            return Ok(());
        };
        self.rho *= factor;
        self.nystroem.set_shift(self.rho);
        self.w.iter_mut().flatten().for_each(|w| *w /= factor);
        Ok(())
    }

    fn solve_system(&mut self, c: usize, b: &[f64]) -> Result<(), SolveError> {
        self.gram.shift = self.rho;
        let start = std::mem::take(&mut self.u[c]);
        let mut pcg = Pcg::new(&self.gram, &self.nystroem, b, Some(start))?;
        for _ in 0..INNER {
            if pcg.state().relative_residual() <= self.accuracy || !pcg.step()? {
                break;
            }
        }
        self.u[c] = pcg.into_state().x;
        Ok(())
    }

    fn shrink(&mut self, c: usize) {
        let t = self.problem.lambda / self.rho;
        for block in self.v[c].chunks_exact_mut(self.problem.matrix.features()) {
            let length = norm(block);
            let factor = if length > t { 1.0 - t / length } else { 0.0 };
            block.iter_mut().for_each(|x| *x *= factor);
        }
    }

    fn neurons(&self) -> Vec<Neuron> {
        let d = self.problem.matrix.features();
        let blocks = self.v.iter().enumerate().flat_map(|(output, v)| {
            v.chunks_exact(d)
                .enumerate()
                .map(move |(gate, block)| (gate, output, block))
        });
        let live = blocks.filter(|(_, _, block)| norm(block) > 0.0);
        live.map(|(gate, output, block)| Neuron {
            gate,
            output,
            sign: 1.0,
            weights: block.to_vec(),
        })
        .collect()
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b) * (a - b))
        .sum::<f64>()
        .sqrt()
}
