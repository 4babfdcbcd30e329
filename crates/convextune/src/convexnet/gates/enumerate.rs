//! All patterns of a data set.
//!
//! Patterns survive `X -> S X T` with a positive diagonal `S` and an invertible `T` (gates become
//! `T^-1 g`). So columns and rows are brought to a common size first, exactly (by powers of two), then
//! rows are expressed in an orthonormal basis of their span (`R^r`, from the singular value decomposition)
//! and proportional ones merged; [`cells`](super::cells) does the rest.
//!
//! Every gate is checked at the end on the data as they came: `|x_s' g|` must exceed what rounding may
//! do to the product, for all rows that are not zero, and the patterns must be as many as the cells.

use convextune_solve::faer::linalg::solvers::Svd;
use convextune_solve::faer::{Mat, MatRef};

use super::cells::{Row, distinct, witnesses};
use super::{BATCH, Collector, Gates, check_data};
use crate::Error;

/// Relative rounding of scaled rows and of the decomposition, for a column.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// The number of patterns of `n` rows in general position in a space of dimension `rank`, all-off
/// included: `2 sum_{k < rank} C(n - 1, k)`; an upper bound for other rows. Infinite when too large for
/// the type.
pub fn count_bound(n: usize, rank: usize) -> f64 {
    let mut binomial = 1.0;
    let mut sum = 0.0;
    for k in 0..rank.min(n) {
        sum += binomial;
        binomial *= (n - 1 - k) as f64 / (k + 1) as f64;
    }
    2.0 * sum
}

/// One gate for every pattern of an open cell, the all-off pattern left out (see
/// [the module](super#what-all-patterns-means) for what these are). Costs `O(P n r)` operations and
/// `P (d + n / 64)` numbers, `P` from [`count_bound`] with `n` the number of rows that are neither zero nor
/// proportional.
///
/// # Errors
/// When `count_bound` exceeds `limit`, when a number is not finite, and when rows are so nearly dependent
/// that rounding decides whether a pattern exists.
pub fn enumerate(x: MatRef<'_, f64>, limit: usize) -> Result<Gates, Error> {
    check_data(x)?;
    let scaled = Scaled::new(x);
    let mut found = Collector::new(x);
    if scaled.x.nrows() == 0 {
        return Ok(found.gates(true));
    }
    let (basis, rows) = scaled.span()?;
    let rows = distinct(rows);
    let bound = count_bound(rows.len(), basis.ncols());
    if bound > limit as f64 {
        return Err(Error::Usage(format!(
            "the data ({} different rows of rank {}) have up to {} activation patterns, more than \
             the limit of {limit}; use --gates N or --gates adaptive",
            rows.len(),
            basis.ncols(),
            readable(bound)
        )));
    }
    let half = witnesses(&rows).map_err(|_| unresolved())?;
    for some in half.chunks(BATCH / 2) {
        let gates = Mat::from_fn(x.ncols(), 2 * some.len(), |j, i| {
            let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
            let w = some[i / 2].iter().enumerate();
            sign * scaled.columns[j] * w.map(|(k, w)| basis[(j, k)] * w).sum::<f64>()
        });
        if !scaled.clear_of_rounding(x, gates.as_ref()) {
            return Err(unresolved());
        }
        found.offer(gates.as_ref(), usize::MAX);
    }
    let gates = found.gates(true);
    let all_off = (0..gates.patterns.len()).any(|i| gates.patterns.count(i) == scaled.rows.len());
    if gates.patterns.len() + usize::from(all_off) != 2 * half.len() {
        return Err(unresolved());
    }
    Ok(gates)
}

fn unresolved() -> Error {
    Error::Usage(
        "rows of the data are so nearly, but not exactly, dependent that rounding decides which \
         activation patterns exist: round the data, or use --gates N or --gates adaptive"
            .into(),
    )
}

/// `134` or `1.2e9`.
fn readable(count: f64) -> String {
    if count < 1e6 {
        format!("{count}")
    } else {
        format!("{count:.1e}")
    }
}

/// The rows that are not zero, with columns and rows scaled to largest entries between 1/2 and 1 or so.
struct Scaled {
    x: Mat<f64>,
    /// What the columns were multiplied by.
    columns: Vec<f64>,
    /// The rows of the data that these are.
    rows: Vec<usize>,
}

impl Scaled {
    fn new(x: MatRef<'_, f64>) -> Self {
        let column = |j: usize| inverse_size((0..x.nrows()).map(|s| x[(s, j)]));
        let columns: Vec<f64> = (0..x.ncols()).map(column).collect();
        let row = |s: usize| inverse_size((0..x.ncols()).map(|j| x[(s, j)] * columns[j]));
        let nonzero = |s: &usize| (0..x.ncols()).any(|j| x[(*s, j)] != 0.0);
        let rows: Vec<usize> = (0..x.nrows()).filter(nonzero).collect();
        let factors: Vec<f64> = rows.iter().map(|s| row(*s)).collect();
        let x = Mat::from_fn(rows.len(), columns.len(), |i, j| {
            x[(rows[i], j)] * columns[j] * factors[i]
        });
        Self { x, columns, rows }
    }

    /// An orthonormal basis of the span of the rows (`d x r`) and the rows in it, of length 1.
    fn span(&self) -> Result<(Mat<f64>, Vec<Row>), Error> {
        let svd = Svd::new_thin(self.x.as_ref()).map_err(|_| unresolved())?;
        let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let rounding = ROUNDING * self.x.ncols() as f64;
        let zero = rounding * values.iter().copied().fold(0.0, f64::max);
        let rank = values.iter().filter(|v| **v > zero).count();
        let dropped = values
            .iter()
            .filter(|v| **v <= zero)
            .copied()
            .fold(0.0, f64::max);
        let basis = svd.V().subcols(0, rank).to_owned();
        let inside = &self.x * &basis;
        let row = |i: usize| {
            let length = inside.row(i).norm_l2();
            let entries = inside.row(i).iter();
            Row {
                direction: entries.map(|v| v / length).collect(),
                error: rounding + dropped,
            }
        };
        let rows = (0..inside.nrows()).map(row).collect();
        Ok((basis, rows))
    }

    /// Whether no sign of `X G` can be rounding's: `|x_s' g| > 2 d eps sum_j |x_sj g_j|`.
    fn clear_of_rounding(&self, x: MatRef<'_, f64>, gates: MatRef<'_, f64>) -> bool {
        let size = |m: MatRef<'_, f64>| Mat::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)].abs());
        let rounding = ROUNDING * x.ncols() as f64;
        let scores = x * gates;
        let sizes = size(x) * size(gates);
        let clear = |s: usize, i: usize| scores[(s, i)].abs() > rounding * sizes[(s, i)];
        (0..gates.ncols()).all(|i| self.rows.iter().all(|s| clear(*s, i)))
    }
}

/// A power of two that brings the largest of `values` to between 1/2 and 2; 1 when all are 0.
fn inverse_size(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.map(f64::abs).fold(0.0, f64::max);
    if largest == 0.0 {
        return 1.0;
    }
    // Numbers as small as these lose digits; their power would not be finite.
    let exponent = largest.log2().round().clamp(-1022.0, 1022.0);
    (-exponent).exp2()
}
