//! How a solver came down, in few points: the learning curve of the certificate.

use convextune_solve::Record;
use serde::{Deserialize, Serialize};

/// Points that are kept, at most.
const LIMIT: usize = 200;

/// A solver after one iteration. The figures come from recurrences; those of the certificate come
/// from fresh passes at the returned point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescentPoint {
    /// Iterations done.
    pub iteration: usize,
    /// Bound on L(u) - min L, divided by L(u) (`fc`: the duality gap).
    pub relative_bound: f64,
    /// ||grad L(u)|| / ||grad L(0)||, where the solver knows it: always in the primal, in the dual
    /// only at iterations that checked it.
    pub relative_gradient_norm: Option<f64>,
}

/// Keeps at most 200 points of a descent, evenly spread, and the last one.
#[derive(Clone, Debug)]
pub struct Descent {
    kept: Vec<DescentPoint>,
    last: Option<DescentPoint>,
    /// Only multiples of it are kept.
    stride: usize,
}

impl Default for Descent {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            last: None,
            stride: 1,
        }
    }
}

impl Descent {
    /// Takes note of an iteration. One that comes again, from a fresh residual, replaces itself;
    /// figures that are not finite are left out.
    pub fn push(&mut self, record: &Record) {
        let relative_bound = record.suboptimality_bound / record.objective;
        let point = DescentPoint {
            iteration: record.iteration,
            relative_bound,
            relative_gradient_norm: record.relative_gradient_norm.filter(|g| g.is_finite()),
        };
        if !relative_bound.is_finite() {
            return;
        }
        self.last = Some(point);
        if !point.iteration.is_multiple_of(self.stride) {
            return;
        }
        self.kept.pop_if(|p| p.iteration == point.iteration);
        self.kept.push(point);
        if self.kept.len() == LIMIT {
            self.stride *= 2;
            let stride = self.stride;
            self.kept.retain(|p| p.iteration.is_multiple_of(stride));
        }
    }

    /// The points in their order.
    pub fn into_points(mut self) -> Vec<DescentPoint> {
        let end = self.kept.last().map(|p| p.iteration);
        self.kept
            .extend(self.last.filter(|p| end != Some(p.iteration)));
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(iteration: usize, bound: f64) -> Record {
        Record {
            iteration,
            relative_residual: 1.0,
            relative_gradient_norm: iteration.is_multiple_of(3).then_some(0.5),
            objective: 2.0,
            suboptimality_bound: bound,
        }
    }

    fn descent(records: impl Iterator<Item = Record>) -> Vec<DescentPoint> {
        let mut descent = Descent::default();
        records.for_each(|r| descent.push(&r));
        descent.into_points()
    }

    #[test]
    fn a_short_descent_is_kept_whole() {
        let points = descent((0..5).map(|i| record(i, 1.0 / (i + 1) as f64)));
        assert_eq!(points.len(), 5);
        assert!((points[4].relative_bound - 0.1).abs() < 1e-15);
        assert_eq!(points[3].relative_gradient_norm, Some(0.5));
        assert_eq!(points[4].relative_gradient_norm, None);
    }

    #[test]
    fn a_long_one_is_thinned_and_keeps_both_ends() {
        for n in [199, 200, 201, 12_345] {
            let points = descent((0..n).map(|i| record(i, 1.0)));
            let at: Vec<usize> = points.iter().map(|p| p.iteration).collect();
            assert!(at.len() <= LIMIT && at.len() >= LIMIT / 2, "{n}: {at:?}");
            assert_eq!((at[0], at[at.len() - 1]), (0, n - 1));
            assert!(at.windows(2).all(|w| w[0] < w[1]), "{at:?}");
        }
    }

    #[test]
    fn an_iteration_that_comes_again_replaces_itself() {
        let again = [record(0, 1.0), record(1, 0.5), record(1, 0.8)];
        let points = descent(again.into_iter());
        assert_eq!(points.len(), 2);
        assert!((points[1].relative_bound - 0.4).abs() < 1e-15);
    }

    #[test]
    fn what_is_not_finite_cannot_be_written_to_a_file() {
        let points = descent([record(0, f64::NAN), record(1, f64::INFINITY)].into_iter());
        assert_eq!(points, []);
    }
}
