//! Newton's method with conjugate gradients inside (Nocedal and Wright, 2nd ed., algorithm 7.1).
//!
//! ```text
//!     repeat   solve  H delta = -g   to  ||residual|| <= min(1/10, sqrt(||g||/||g_0||)) ||g||
//!              halve t from 1 until  L(theta + t delta) <= L(theta) + 1e-4 t <g, delta>
//!              theta += t delta
//! ```
//!
//! `theta` is `(r + 1) x C`; the last feature is 1 and its row of `theta`, the bias, is not
//! penalised. `H` has the null direction "the same shift for every bias"; `g` has no part in it, so
//! conjugate gradients never meet it.

use faer::{Mat, MatRef};

use super::LogisticOptions;
use crate::dense::{dot, ratio};
use crate::error::{SolveError, check_len};
use crate::operator::OperatorError;
use crate::quadratic::Preconditioner;
use crate::quadratic::pcg::{Pcg, SymmetricOperator};
use crate::status::{Observer, Progress, Record, Status};

/// Halvings of the step before giving up.
const HALVINGS: usize = 40;

/// Features with a last column of ones, labels, and what depends on them alone.
pub(super) struct Data {
    /// `N x (r + 1)`.
    pub(super) features: Mat<f64>,
    pub(super) labels: Vec<usize>,
    pub(super) classes: usize,
}

impl Data {
    pub(super) fn new(features: Mat<f64>, labels: Vec<usize>, classes: usize) -> Self {
        Self {
            features,
            labels,
            classes,
        }
    }

    pub(super) fn samples(&self) -> usize {
        self.labels.len()
    }

    /// The squared length of column `j` of the features.
    pub(super) fn column_square(&self, j: usize) -> f64 {
        let column = self.features.col_as_slice(j);
        dot(column, column)
    }

    /// `||grad L||` at zero, where the penalty does not matter.
    pub(super) fn gradient_norm_at_zero(&self) -> f64 {
        let zero = Mat::zeros(self.features.ncols(), self.classes);
        Iterate::at(self, 1.0, zero).gradient_norm()
    }

    /// The rows listed.
    pub(super) fn select(&self, rows: &[usize]) -> Self {
        let features = Mat::from_fn(rows.len(), self.features.ncols(), |i, j| {
            self.features[(rows[i], j)]
        });
        Self::new(
            features,
            rows.iter().map(|i| self.labels[*i]).collect(),
            self.classes,
        )
    }

    /// `P - Y` in place of `P`.
    fn minus_labels(&self, probabilities: &Mat<f64>) -> Mat<f64> {
        let mut difference = probabilities.clone();
        for (i, label) in self.labels.iter().enumerate() {
            difference[(i, *label)] -= 1.0;
        }
        difference
    }
}

/// A point and all that is computed there.
pub(super) struct Iterate {
    /// `(r + 1) x C`, the bias last.
    pub(super) theta: Mat<f64>,
    pub(super) logits: Mat<f64>,
    pub(super) probabilities: Mat<f64>,
    pub(super) objective: f64,
    /// Shaped as `theta`.
    pub(super) gradient: Mat<f64>,
}

impl Iterate {
    pub(super) fn at(data: &Data, lambda: f64, theta: Mat<f64>) -> Self {
        let logits = &data.features * &theta;
        let (probabilities, loss) = softmax(&logits, &data.labels);
        let mut gradient = data.features.transpose() * data.minus_labels(&probabilities);
        add_penalised(lambda, theta.as_ref(), &mut gradient);
        let objective = loss + penalty(lambda, &theta);
        Self {
            theta,
            logits,
            probabilities,
            objective,
            gradient,
        }
    }

    pub(super) fn gradient_norm(&self) -> f64 {
        self.gradient.norm_l2()
    }
}

/// The probabilities, `N x C`, and the summed cross entropy of the labels.
pub(super) fn softmax(logits: &Mat<f64>, labels: &[usize]) -> (Mat<f64>, f64) {
    let (mut probabilities, mut loss) = (logits.clone(), 0.0);
    let classes = logits.ncols();
    for (i, label) in labels.iter().enumerate() {
        let largest = (0..classes)
            .map(|c| logits[(i, c)])
            .fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for c in 0..classes {
            let e = (logits[(i, c)] - largest).exp();
            probabilities[(i, c)] = e;
            sum += e;
        }
        (0..classes).for_each(|c| probabilities[(i, c)] /= sum);
        loss += sum.ln() + largest - logits[(i, *label)];
    }
    (probabilities, loss)
}

/// `(Lambda/2) ||W||^2`: all rows of `theta` but the last.
fn penalty(lambda: f64, theta: &Mat<f64>) -> f64 {
    0.5 * lambda * theta.subrows(0, theta.nrows() - 1).squared_norm_l2()
}

/// `out += Lambda W` in all rows but the last.
fn add_penalised(lambda: f64, theta: MatRef<'_, f64>, out: &mut Mat<f64>) {
    let last = theta.nrows() - 1;
    for c in 0..theta.ncols() {
        for j in 0..last {
            out[(j, c)] += lambda * theta[(j, c)];
        }
    }
}

/// How a minimisation ended.
pub(super) struct End {
    pub(super) iterate: Iterate,
    pub(super) status: Status,
    pub(super) history: Vec<Record>,
}

/// Newton's method from `start`, or from zero.
pub(super) fn minimise(
    data: &Data,
    lambda: f64,
    options: &LogisticOptions,
    start: Option<&Mat<f64>>,
    observer: &mut dyn Observer,
) -> Result<End, SolveError> {
    let (rows, classes) = (data.features.ncols(), data.classes);
    let theta = start.cloned().unwrap_or_else(|| Mat::zeros(rows, classes));
    check_len("rows of the warm start", rows, theta.nrows())?;
    check_len("columns of the warm start", classes, theta.ncols())?;
    let reference = data.gradient_norm_at_zero();
    let mut iterate = Iterate::at(data, lambda, theta);
    let mut history = Vec::new();
    let status = loop {
        let record = record(data, lambda, &iterate, reference, history.len());
        history.push(record);
        if observer
            .iteration(&Progress {
                record,
                state: None,
            })
            .is_break()
        {
            break Status::Interrupted;
        }
        if record.relative_residual <= options.tolerance {
            break Status::Converged;
        }
        if record.iteration >= options.max_iterations {
            break Status::MaxIterations;
        }
        let forcing = record.relative_residual.sqrt().min(0.1);
        let delta = newton_direction(data, lambda, &iterate, forcing, options)?;
        match line_search(data, lambda, &iterate, &delta) {
            Some(next) => iterate = next,
            None => break Status::Stalled,
        }
    };
    Ok(End {
        iterate,
        status,
        history,
    })
}

fn record(data: &Data, lambda: f64, iterate: &Iterate, reference: f64, iteration: usize) -> Record {
    let relative = ratio(iterate.gradient_norm(), reference);
    Record {
        iteration,
        relative_residual: relative,
        relative_gradient_norm: Some(relative),
        objective: iterate.objective,
        suboptimality_bound: duality_gap(data, lambda, iterate),
    }
}

/// An approximate solution of `H delta = -g`, shaped as `theta`.
fn newton_direction(
    data: &Data,
    lambda: f64,
    iterate: &Iterate,
    forcing: f64,
    options: &LogisticOptions,
) -> Result<Mat<f64>, SolveError> {
    let (rows, classes) = (data.features.ncols(), data.classes);
    let hessian = Hessian {
        data,
        lambda,
        probabilities: &iterate.probabilities,
    };
    let diagonal = hessian.diagonal_estimate();
    let rhs: Vec<f64> = (0..classes)
        .flat_map(|c| iterate.gradient.col_as_slice(c).iter().map(|g| -g))
        .collect();
    let mut pcg = Pcg::new(&hessian, &diagonal, &rhs, None)?;
    while pcg.state().relative_residual() > forcing
        && pcg.state().iteration < options.max_inner_iterations
        && pcg.step()?
    {}
    Ok(MatRef::from_column_major_slice(&pcg.state().x, rows, classes).to_owned())
}

/// The first of `theta + t delta`, `t = 1, 1/2, 1/4 ..`, that decreases the objective enough; a
/// change lost in rounding counts as enough if the gradient decreases.
fn line_search(data: &Data, lambda: f64, from: &Iterate, delta: &Mat<f64>) -> Option<Iterate> {
    let image = &data.features * delta;
    let slope: f64 = (0..delta.ncols())
        .map(|c| dot(from.gradient.col_as_slice(c), delta.col_as_slice(c)))
        .sum();
    if !slope.is_finite() || slope >= 0.0 {
        return None;
    }
    let noise = 1e-13 * from.objective.abs();
    let mut t = 1.0;
    for _ in 0..HALVINGS {
        let theta = &from.theta + delta * faer::Scale(t);
        let logits = &from.logits + &image * faer::Scale(t);
        let objective = softmax(&logits, &data.labels).1 + penalty(lambda, &theta);
        if objective <= from.objective + 1e-4 * t * slope {
            return Some(Iterate::at(data, lambda, theta));
        }
        if objective <= from.objective + noise {
            let next = Iterate::at(data, lambda, theta);
            return (next.gradient_norm() < from.gradient_norm()).then_some(next);
        }
        t *= 0.5;
    }
    None
}

/// `L - D(P~)`, see the documentation of [`super`].
pub(super) fn duality_gap(data: &Data, lambda: f64, iterate: &Iterate) -> f64 {
    let mended = mend_column_sums(data, &iterate.probabilities);
    let entropy: f64 = mended
        .col_iter()
        .map(|c| {
            c.iter()
                .filter(|p| **p > 0.0)
                .map(|p| -p * p.ln())
                .sum::<f64>()
        })
        .sum();
    let penalised = data.features.subcols(0, data.features.ncols() - 1);
    let correlation = penalised.transpose() * data.minus_labels(&mended);
    let dual = entropy - correlation.squared_norm_l2() / (2.0 * lambda);
    (iterate.objective - dual).max(0.0)
}

/// `P~`: rows in the simplex, column sums those of the labels.
fn mend_column_sums(data: &Data, probabilities: &Mat<f64>) -> Mat<f64> {
    let n = data.samples() as f64;
    let mut counts = vec![0.0; data.classes];
    data.labels.iter().for_each(|label| counts[*label] += 1.0);
    let delta: Vec<f64> = (0..data.classes)
        .map(|c| probabilities.col_as_slice(c).iter().sum::<f64>() - counts[c])
        .collect();
    let theta = delta
        .iter()
        .zip(&counts)
        .map(|(d, n)| ratio(d.max(0.0), n + d.max(0.0)))
        .fold(0.0, f64::max);
    let mut mended = probabilities.clone();
    for c in 0..data.classes {
        let shift = ((theta * counts[c] - (1.0 - theta) * delta[c]) / n).max(0.0);
        mended
            .col_as_slice_mut(c)
            .iter_mut()
            .for_each(|p| *p = (1.0 - theta) * *p + shift);
    }
    mended
}

/// `V -> Phi' Q(Phi V) + Lambda W-part`, where `Q` multiplies row `i` by `diag(p_i) - p_i p_i'`.
struct Hessian<'a> {
    data: &'a Data,
    lambda: f64,
    probabilities: &'a Mat<f64>,
}

impl SymmetricOperator for Hessian<'_> {
    fn dim(&self) -> usize {
        self.data.features.ncols() * self.data.classes
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        let (rows, classes) = (self.data.features.ncols(), self.data.classes);
        let v = MatRef::from_column_major_slice(x, rows, classes);
        let mut image = &self.data.features * v;
        for i in 0..image.nrows() {
            let mean: f64 = (0..classes)
                .map(|c| self.probabilities[(i, c)] * image[(i, c)])
                .sum();
            for c in 0..classes {
                image[(i, c)] = self.probabilities[(i, c)] * (image[(i, c)] - mean);
            }
        }
        let mut out = self.data.features.transpose() * &image;
        add_penalised(self.lambda, v, &mut out);
        for (c, y) in y.chunks_exact_mut(rows).enumerate() {
            y.copy_from_slice(out.col_as_slice(c));
        }
        Ok(())
    }
}

impl Hessian<'_> {
    /// `||column j||^2 mean_i p_ic (1 - p_ic) + Lambda` for entry `(j, c)`.
    fn diagonal_estimate(&self) -> Diagonal {
        let (rows, n) = (self.data.features.ncols(), self.data.samples() as f64);
        let squares: Vec<f64> = (0..rows).map(|j| self.data.column_square(j)).collect();
        let mut diagonal = Vec::with_capacity(self.dim());
        for column in self.probabilities.col_iter() {
            let spread = column.iter().map(|p| p * (1.0 - p)).sum::<f64>() / n;
            let spread = spread.max(1e-8);
            diagonal.extend(
                squares.iter().enumerate().map(|(j, square)| {
                    spread * square + if j + 1 < rows { self.lambda } else { 0.0 }
                }),
            );
        }
        Diagonal(diagonal)
    }
}

/// Division by a positive diagonal.
struct Diagonal(Vec<f64>);

impl Preconditioner for Diagonal {
    fn dim(&self) -> usize {
        self.0.len()
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        for ((z, r), d) in z.iter_mut().zip(r).zip(&self.0) {
            *z = r / d;
        }
    }
}
