//! Hyperplanes `x' g = 0` given to within an error: which are one, and what is left of one on another.
//!
//! **Errors.** Whether rows are proportional is decided against a bound on the error of a row that is
//! carried along: restricting `x` to the hyperplane of `h` leaves `x - (x'h) h`, of length `l`, and
//!
//! ```text
//!     error of the row  =  (error of x + |x'h| error of h + rounding) / l               (1)
//! ```
//!
//! So rows count as dependent when a change of the data by about rounding makes them so.

use crate::rng::mix;

/// Rounding of one step, relative to a row's length.
const ROUNDING: f64 = 4.0 * f64::EPSILON;
/// Rows are one when they differ by at most so many times the sum of their errors.
const SAFETY: f64 = 2.0;
/// A row that is off by so much says nothing.
const LOST: f64 = 0.01;

/// The normal of a hyperplane, of length 1.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// In `R^r`.
    pub direction: Vec<f64>,
    /// A bound on its error, to first order.
    pub error: f64,
}

/// Decisions contradict each other: rows are so nearly dependent that rounding decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unresolved;

/// The first of every class of rows that are proportional within their errors, in their order.
///
/// Such rows have almost the same `|c' x|` for any `c`: after sorting by it a row is compared with those that
/// follow closely, and none is compared again once it has a class.
pub(super) fn distinct(rows: Vec<Row>) -> Vec<Row> {
    let Some(first) = rows.first() else {
        return rows;
    };
    let c: Vec<f64> = (0..first.direction.len() as u64)
        .map(|j| 0.5 + mix(j) as f64 / u64::MAX as f64)
        .collect();
    let worst = rows.iter().map(|x| x.error).fold(0.0, f64::max);
    let key: Vec<f64> = rows.iter().map(|x| dot(&c, &x.direction).abs()).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_unstable_by(|a, b| key[*a].total_cmp(&key[*b]));

    let mut classed = vec![false; rows.len()];
    let mut keep = vec![false; rows.len()];
    for (i, &a) in order.iter().enumerate() {
        if classed[a] {
            continue;
        }
        let mut first = a;
        let reach = key[a] + norm(&c) * SAFETY * (rows[a].error + worst);
        for &b in order[i + 1..].iter().take_while(|b| key[**b] <= reach) {
            if !classed[b] && proportional(&rows[a], &rows[b]) {
                classed[b] = true;
                first = first.min(b);
            }
        }
        keep[first] = true;
    }
    let mut keep = keep.into_iter();
    rows.into_iter()
        .filter(|_| keep.next() == Some(true))
        .collect()
}

/// Whether two rows are the same or opposite, within their errors.
fn proportional(a: &Row, b: &Row) -> bool {
    let distance = |sign: f64| {
        let pairs = a.direction.iter().zip(&b.direction);
        pairs
            .map(|(a, b)| (a - sign * b).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    distance(1.0).min(distance(-1.0)) <= SAFETY * (a.error + b.error)
}

/// A hyperplane through 0 with an orthonormal basis, the first `r - 1` columns of the reflection
/// `Q = I - v v' / (1 + |h_r|)` that takes `h` to a multiple of the last unit vector (Householder 1958).
pub(super) struct Hyperplane<'a> {
    normal: &'a Row,
    reflector: Vec<f64>,
    scale: f64,
}

impl<'a> Hyperplane<'a> {
    pub fn new(normal: &'a Row) -> Self {
        let mut reflector = normal.direction.clone();
        let mut scale = 1.0;
        if let Some(last) = reflector.last_mut() {
            scale = 1.0 / (1.0 + last.abs());
            *last += 1.0f64.copysign(*last);
        }
        Self {
            normal,
            reflector,
            scale,
        }
    }

    /// The row on the hyperplane, with the error (1).
    pub fn restrict(&self, row: &Row) -> Result<Row, Unresolved> {
        let mut direction = row.direction.clone();
        self.reflect(&mut direction);
        let along = direction.pop().unwrap_or(0.0);
        let error = row.error + along.abs() * self.normal.error + ROUNDING;
        let length = normalise(&mut direction);
        if error >= LOST * length {
            return Err(Unresolved);
        }
        let error = error / length;
        Ok(Row { direction, error })
    }

    /// A point of the hyperplane in `R^r`.
    pub fn lift(&self, point: &[f64]) -> Vec<f64> {
        let mut lifted = point.to_vec();
        lifted.push(0.0);
        self.reflect(&mut lifted);
        lifted
    }

    fn reflect(&self, x: &mut [f64]) {
        let along = self.scale * dot(&self.reflector, x);
        for (x, v) in x.iter_mut().zip(&self.reflector) {
            *x -= along * v;
        }
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Brings `a` to length 1; returns what it was.
pub(super) fn normalise(a: &mut [f64]) -> f64 {
    let length = norm(a);
    a.iter_mut().for_each(|a| *a /= length);
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::Rng;

    fn unit(direction: Vec<f64>) -> Row {
        let length = norm(&direction);
        Row {
            direction: direction.iter().map(|v| v / length).collect(),
            error: 4.0 * f64::EPSILON,
        }
    }

    #[test]
    fn restricting_drops_the_normal_and_lifting_stays_on_the_hyperplane() {
        let mut rng = Rng::new(4);
        for d in 2..7 {
            let (h, x) = (unit(rng.normals(d)), unit(rng.normals(d)));
            let plane = Hyperplane::new(&h);
            let w = rng.normals(d - 1);
            let lifted = plane.lift(&w);
            assert!(dot(&lifted, &h.direction).abs() < 1e-14 * norm(&w));
            assert!((norm(&lifted) - norm(&w)).abs() < 1e-14 * norm(&w));
            let along = dot(&x.direction, &h.direction);
            let length = (1.0 - along * along).sqrt();
            let below = dot(&plane.restrict(&x).unwrap().direction, &w);
            assert!((length * below - dot(&x.direction, &lifted)).abs() < 1e-13);
        }
    }

    #[test]
    fn only_the_first_of_proportional_rows_is_kept() {
        let rows = [
            [3.0, 4.0],
            [1.0, 0.0],
            [-6.0, -8.0],
            [0.3, 0.4],
            [0.3, 0.4 + 1e-9],
        ];
        let kept = distinct(rows.iter().map(|x| unit(x.to_vec())).collect());
        let first: Vec<f64> = kept.iter().map(|x| x.direction[0]).collect();
        assert_eq!(kept.len(), 3);
        assert_eq!(first[..2], [0.6, 1.0]);
    }

    /// Planes at 0, 0.01 and 0.02 about a line, given to `off`: on the first the others are one.
    #[test]
    fn errors_grow_as_rows_shorten_and_decide_which_are_one() {
        let off = 1e-9;
        let about = |angle: f64, off: f64, error: f64| Row {
            error,
            ..unit(vec![angle.cos(), angle.sin(), off])
        };
        let left = |error: f64| {
            let plane = about(0.0, 0.0, error);
            let plane = Hyperplane::new(&plane);
            let others = [about(0.01, off, error), about(0.02, -off, error)];
            let rows: Result<Vec<_>, _> = others.iter().map(|x| plane.restrict(x)).collect();
            rows.map(distinct)
        };
        let kept = left(off).unwrap();
        assert_eq!(kept.len(), 1);
        // 1 + cos(0.01) errors, over a length of sin(0.01).
        assert!((kept[0].error / off - 200.0).abs() < 0.01);
        assert_eq!(left(f64::EPSILON).unwrap().len(), 2);
        assert_eq!(left(1e-4).unwrap_err(), Unresolved);
    }
}
