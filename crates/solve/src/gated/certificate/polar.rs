//! `R°(C)`, the norm dual to `R` on the cones, from above ((2) and (4) of [`super`]).
//!
//! | `R` | free weights | with a cone |
//! |---|---|---|
//! | neuron-wise | `max_{i,c} \|\|C_i[:, c]\|\|` | `max_{i,c} \|\|P_{K_i}(+-C_i[:, c])\|\|` |
//! | feature-wise | `max_{j,c} \|\|(C_i[j, c])_i\|\|` | not implemented |
//! | l1 | `max \|C\|` | not implemented |
//! | nuclear | `max_i \|\|C_i\|\|_2` | `max_i min_{M >= 0} \|\|+-C_i + B_i' M\|\|_2` |
//! | `1/2 \|\|U\|\|^2` | term `sum \|\|C\|\|^2` | term `sum \|\|P_K(C)\|\|^2 + \|\|P_K(-C)\|\|^2` |
//!
//! * With a cone, the l1 and the feature-wise norm have dual norms that are linear and second-order cone
//!   programs; the multipliers of a Euclidean projection would be feasible there, but leave a gap at the
//!   optimum.
//! * **Nuclear norm with a cone.** The columns of `M` are those of the projections of the columns of `C_i`.
//!   That is a bound, exact for one output. For more, `||(P_K c_c)_c||_2 <= (sum_c ||P_K c_c||^2)^(1/2)`,
//!   while `R°` is at least the largest `||P_K c_c||` (one column of weights): the bound is at most
//!   `min(C, d)^(1/2)` times too large, and the gap need not vanish at the optimum.
//!
//! A maximum over gates is found with the gates of live neurons first, where it lies near an optimum. A
//! projection never is longer than what is projected, so it is made only where that is longer than the
//! largest norm so far. The result does not depend on the order.

use std::sync::atomic::{AtomicU64, Ordering};

use faer::{Mat, MatRef};
use rayon::prelude::*;

use super::Data;
use crate::dense::{axpy, norm, norm_squared};
use crate::error::SolveError;
use crate::factor::eigen;
use crate::gated::Penalty;
use crate::prox::cone::{Rows, project};

/// Columns of `C` that a thread makes at a time.
const COLUMNS: usize = 64;
/// Gates whose terms are summed by one thread; sums do not depend on the threads.
const CHUNK: usize = 64;

/// What the penalty contributes to the dual, by output.
pub(super) struct Polar {
    /// `R°` of each output's part of `C` (nuclear norm: of all of `C`, for each), or 0 where `R` is no norm.
    pub(super) norms: Vec<f64>,
    /// `sum ||P_K C||^2` of (3), or 0 where `R` is a norm.
    pub(super) squares: Vec<f64>,
}

impl Polar {
    /// Of `C_i = X' D_i Theta`, `Theta` `n x C` and row-major.
    pub(super) fn of(data: &Data<'_>, theta: &[f64], live: &[usize]) -> Result<Self, SolveError> {
        let problem = data.problem;
        let gates = problem.matrix.gates();
        let cones = (0..gates).any(|gate| problem.has_cone(gate));
        if cones && matches!(problem.penalty, Penalty::Feature | Penalty::L1) {
            return Err(SolveError::Unsupported(
                "ReLU with the feature-wise or the l1 penalty has no certificate: use gated ReLU, or the \
                 neuron-wise penalty",
            ));
        }
        let work = Correlations {
            data,
            theta,
            rows: cones.then(|| Rows::new(problem.matrix.x())),
        };
        let norms = match problem.penalty {
            Penalty::SquaredL2 => vec![0.0; data.outputs],
            Penalty::Feature => work.feature(),
            Penalty::Neuron => {
                work.largest(live, |gate, c, least| Ok(work.column(gate, c, least)))?
            }
            Penalty::L1 => work.largest(live, |_, c, _| Ok(entries(c)))?,
            Penalty::Nuclear => {
                work.largest(live, |gate, c, least| work.spectral(gate, c, least))?
            }
        };
        let squares = match problem.penalty {
            Penalty::SquaredL2 => work.sum(data.outputs, |gate, c, sum| work.square(gate, c, sum)),
            _ => vec![0.0; data.outputs],
        };
        Ok(Self { norms, squares })
    }

    /// `R°(C)`.
    pub(super) fn norm(&self) -> f64 {
        self.norms.iter().copied().fold(0.0, f64::max)
    }
}

/// The columns of the `C` of a gate.
type Columns<'a> = Vec<&'a [f64]>;

/// `C`, some gates at a time.
struct Correlations<'a> {
    data: &'a Data<'a>,
    theta: &'a [f64],
    /// For projections, if there is a cone.
    rows: Option<Rows>,
}

impl Correlations<'_> {
    /// Calls `visit` with each of `gates` and the columns of its `C`, made for some gates at a time.
    fn visit<E>(
        &self,
        gates: &[usize],
        mut visit: impl FnMut(usize, &Columns<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let outputs = self.data.outputs;
        for gates in gates.chunks((COLUMNS / outputs).max(1)) {
            let c = self.data.correlate(gates, self.theta);
            for (k, gate) in gates.iter().enumerate() {
                let columns = (0..outputs).map(|o| c.col_as_slice(k * outputs + o));
                visit(*gate, &columns.collect())?;
            }
        }
        Ok(())
    }

    /// The maxima over gates of norms, by output; `norms(gate, C_gate, least)` may answer anything up to
    /// `least` where a norm is at most `least`.
    fn largest(
        &self,
        live: &[usize],
        norms: impl Fn(usize, &Columns<'_>, &[f64]) -> Result<Vec<f64>, SolveError> + Sync,
    ) -> Result<Vec<f64>, SolveError> {
        // The bits of numbers that are not negative are ordered as the numbers are.
        let largest: Vec<AtomicU64> = (0..self.data.outputs).map(|_| AtomicU64::new(0)).collect();
        let seen = |largest: &AtomicU64| f64::from_bits(largest.load(Ordering::Relaxed));
        let visit = |gate: usize, columns: &Columns<'_>| -> Result<(), SolveError> {
            let least: Vec<f64> = largest.iter().map(seen).collect();
            for (largest, norm) in largest.iter().zip(norms(gate, columns, &least)?) {
                largest.fetch_max(norm.max(0.0).to_bits(), Ordering::Relaxed);
            }
            Ok(())
        };
        let all: Vec<usize> = (0..self.data.problem.matrix.gates()).collect();
        for gates in [live, &all] {
            let parts = gates.par_chunks((COLUMNS / self.data.outputs).max(1));
            parts.try_for_each(|gates| self.visit(gates, visit))?;
        }
        Ok(largest.iter().map(seen).collect())
    }

    /// The sum over gates of what `add` adds to `width` numbers.
    fn sum(&self, width: usize, add: impl Fn(usize, &Columns<'_>, &mut [f64]) + Sync) -> Vec<f64> {
        let all: Vec<usize> = (0..self.data.problem.matrix.gates()).collect();
        let partial = |gates: &[usize]| {
            let mut sum = vec![0.0; width];
            let added: Result<(), std::convert::Infallible> = self.visit(gates, |gate, columns| {
                add(gate, columns, &mut sum);
                Ok(())
            });
            let Ok(()) = added;
            sum
        };
        let partials: Vec<Vec<f64>> = all.par_chunks(CHUNK).map(partial).collect();
        let mut sum = vec![0.0; width];
        partials.iter().for_each(|part| axpy(1.0, part, &mut sum));
        sum
    }

    /// The signs with which a gate's correlations count.
    fn signs(&self, gate: usize) -> &'static [f64] {
        if self.data.problem.has_cone(gate) {
            &[1.0, -1.0]
        } else {
            &[1.0]
        }
    }

    /// `+-c + B' mu` of (4) for a gate with a cone; `c` itself where the multipliers make it no shorter, and
    /// without a cone.
    fn shortened(&self, gate: usize, sign: f64, c: &[f64]) -> Vec<f64> {
        let signed: Vec<f64> = c.iter().map(|c| sign * c).collect();
        let Some(rows) = self
            .rows
            .as_ref()
            .filter(|_| self.data.problem.has_cone(gate))
        else {
            return signed;
        };
        let side = |s: usize| self.data.side(gate, s);
        let mut shorter = signed.clone();
        for active in project(rows, &side, &signed, &[]).active {
            let length = self.data.lengths[active.row];
            if active.multiplier > 0.0 && length > 0.0 {
                let mu = active.multiplier / length;
                axpy(
                    mu * side(active.row),
                    self.data.row(active.row),
                    &mut shorter,
                );
            }
        }
        if norm(&shorter) < norm(&signed) {
            shorter
        } else {
            signed
        }
    }

    /// `||P_K(+-c_c)||`.
    fn column(&self, gate: usize, columns: &Columns<'_>, least: &[f64]) -> Vec<f64> {
        let largest = |(c, least): (&&[f64], &f64)| {
            if norm(c) <= *least {
                return *least;
            }
            let signs = self.signs(gate).iter();
            let norms = signs.map(|sign| norm(&self.shortened(gate, *sign, c)));
            norms.fold(*least, f64::max)
        };
        columns.iter().zip(least).map(largest).collect()
    }

    /// `max_j ||(C_i[j, c])_i||`.
    fn feature(&self) -> Vec<f64> {
        let squares = self.sum(self.data.features * self.data.outputs, |_, columns, sum| {
            let entries = columns.iter().copied().flatten();
            sum.iter_mut()
                .zip(entries)
                .for_each(|(sum, c)| *sum += c * c);
        });
        let columns = squares.chunks(self.data.features.max(1));
        columns.map(|c| largest_size(c).sqrt()).collect()
    }

    /// Adds `||P_K(+-c_c)||^2`.
    fn square(&self, gate: usize, columns: &Columns<'_>, sum: &mut [f64]) {
        for (sum, c) in sum.iter_mut().zip(columns) {
            let signs = self.signs(gate).iter();
            let squares = signs.map(|sign| norm_squared(&self.shortened(gate, *sign, c)));
            *sum += squares.sum::<f64>();
        }
    }

    /// `||+-C + B' M||_2`, for each output.
    fn spectral(
        &self,
        gate: usize,
        columns: &Columns<'_>,
        least: &[f64],
    ) -> Result<Vec<f64>, SolveError> {
        let frobenius: f64 = columns.iter().map(|c| norm_squared(c)).sum();
        let mut largest = least.iter().copied().fold(0.0, f64::max);
        if frobenius.sqrt() > largest {
            for sign in self.signs(gate) {
                let shortened = columns.iter().map(|c| self.shortened(gate, *sign, c));
                let shortened: Vec<Vec<f64>> = shortened.collect();
                largest = largest.max(spectral_norm(&shortened)?);
            }
        }
        Ok(vec![largest; self.data.outputs])
    }
}

/// `max_j |C_gate[j, c]|`.
fn entries(columns: &Columns<'_>) -> Vec<f64> {
    columns.iter().map(|c| largest_size(c)).collect()
}

/// `max |v|`.
fn largest_size(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |largest, v| largest.max(v.abs()))
}

/// The largest singular value of the matrix with these columns.
fn spectral_norm(columns: &[Vec<f64>]) -> Result<f64, SolveError> {
    let (d, c) = (columns.first().map_or(0, Vec::len), columns.len());
    let m = Mat::from_fn(d, c, |j, c| columns[c][j]);
    let m: MatRef<'_, f64> = if d < c { m.transpose() } else { m.as_ref() };
    let (values, _) = eigen(
        "squared singular values of correlations",
        (m.transpose() * m).as_ref(),
    )?;
    Ok(values.into_iter().fold(0.0, f64::max).sqrt())
}
