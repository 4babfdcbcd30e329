//! The cells of a central arrangement of hyperplanes `x_s' g = 0` in `R^r`, each with a point inside.
//!
//! **Deletion and restriction** (Zaslavsky 1975; as an algorithm, Edelsbrunner, O'Rourke and Seidel,
//! SIAM J. Comput. 15, 1986). Hyperplanes come one after the other. `H`, the next one, cuts a cell of
//! those before it if and only if it meets the cell, and its intersections with the cells are the
//! cells of the arrangement restricted to `H`, whose dimension is `r - 1`:
//!
//! ```text
//!     cells(x_1 .. x_m) =
//!         for the cells f of { x_1 .. x_{m-1} restricted to H } :  f's cell, once on either side of H
//!         all other cells of x_1 .. x_{m-1} :                      whole, on the side of their witness
//! ```
//!
//! No linear program is solved: the restricted arrangement says which cells are cut, and its points
//! lie in the cuts.
//!
//! **Half of them.** With a cell comes its negative, so only cells with `x_1' g > 0` are kept. `x_1`
//! restricted to `H` is the first row there, so the recursion keeps the same half.
//!
//! **Witnesses stay inside.** Let `w` be the witness of a face `f`, of length 1 on `H`. Those of the
//! two halves are `w +- t h` with `h` the unit normal of `H`. A row `s` with slack `b_s = |x_s' w|` and
//! slope `c_s = sign(x_s' w) x_s' h` keeps `b_s +- t c_s`, and `H` gets `t`. They are taken where the first
//! of the others is no farther than `H`,
//!
//! ```text
//!     t = min over s of  b_s / (1 -+ c_s) ,     at least  1/2 min over s of b_s .       (1)
//! ```
//!
//! A cell that is not cut keeps its witness `w`, and keeps its margin too: the ball around `w` of
//! radius `min over s of |x_s' w|` lies in the cell, so `H` cannot be closer than that. Margins shrink
//! with the depth of the recursion, at most `r`, and not with the number of rows.
//!
//! **Degenerate rows.** On `H` rows may become proportional (three planes through one line); the
//! restricted arrangement keeps one of them. Whether they are is decided against a bound on the error
//! of a row that is carried along: restricting `x` to `H` leaves `x - (x'h) h`, of length `l`, and
//!
//! ```text
//!     error of the row  =  (error of x + |x'h| error of h + rounding) / l               (2)
//! ```
//!
//! So rows count as dependent when a change of the data by about rounding makes them so. If two such
//! decisions contradict each other, the faces on `H` are not those of as many cells, which is seen and
//! reported.
//!
//! **Cost.** Every cell beyond the first is made once, by one face, and faces are cells one dimension
//! lower: for `n` rows in general position `O(n^(r-1))` cells, each with `n` signs that cost `r`
//! operations, `O(n^r r)` in all.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};

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

/// A cell with a point inside.
#[derive(Clone, Debug)]
struct Cell {
    /// Of length 1.
    witness: Vec<f64>,
    on: Signs,
}

/// One point, of length 1, in every cell with `x_1' g > 0`. `rows` are pairwise not proportional; there
/// is at least one.
pub(super) fn witnesses(rows: &[Row]) -> Result<Vec<Vec<f64>>, Unresolved> {
    let mut cells = vec![Cell {
        witness: rows[0].direction.clone(),
        on: Signs::of(&[1.0]),
    }];
    for (m, row) in rows.iter().enumerate().skip(1) {
        let before = &rows[..m];
        let faces = faces(before, row)?;
        let mut halves = Vec::with_capacity(2 * faces.len());
        let mut cut = HashSet::with_capacity(faces.len());
        for face in &faces {
            let values: Vec<f64> = before.iter().map(|x| dot(&x.direction, face)).collect();
            let on = Signs::of(&values);
            for side in [1.0, -1.0] {
                let mut on = on.clone();
                on.set(m, side > 0.0);
                let witness = step(before, &values, face, &row.direction, side);
                halves.push(Cell { witness, on });
            }
            cut.insert(on);
        }
        let whole = cells.len();
        cells.retain(|cell| !cut.contains(&cell.on));
        if whole - cells.len() != faces.len() {
            return Err(Unresolved);
        }
        for cell in &mut cells {
            let on = dot(&cell.witness, &row.direction) > 0.0;
            cell.on.set(m, on);
        }
        cells.append(&mut halves);
    }
    Ok(cells.into_iter().map(|cell| cell.witness).collect())
}

/// One point, of length 1, in every cell of `rows` restricted to the hyperplane of `normal`, with
/// `x_1' g > 0`.
fn faces(rows: &[Row], normal: &Row) -> Result<Vec<Vec<f64>>, Unresolved> {
    let plane = Hyperplane::new(normal);
    if plane.dimension() == 1 {
        // A line has one half.
        let first = plane.restrict(&rows[0])?;
        return Ok(vec![plane.lift(&first.direction)]);
    }
    let restricted: Result<Vec<Row>, _> = rows.iter().map(|x| plane.restrict(x)).collect();
    let below = witnesses(&distinct(restricted?))?;
    Ok(below.iter().map(|w| plane.lift(w)).collect())
}

/// `face + side t normal` with the `t` of (1), at most 1, of length 1.
fn step(rows: &[Row], values: &[f64], face: &[f64], normal: &[f64], side: f64) -> Vec<f64> {
    let limit = |(x, value): (&Row, &f64)| {
        let slope = side * value.signum() * dot(&x.direction, normal);
        value.abs() / (1.0 - slope).max(f64::MIN_POSITIVE)
    };
    let t = rows.iter().zip(values).map(limit).fold(1.0, f64::min);
    let mut witness: Vec<f64> = face
        .iter()
        .zip(normal)
        .map(|(w, h)| w + side * t * h)
        .collect();
    normalise(&mut witness);
    witness
}

/// The first of every class of rows that are proportional within their errors.
///
/// Such rows have almost the same `|c' x|` for any `c`: after sorting by it only neighbours are compared.
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

    let mut keep = vec![true; rows.len()];
    for (i, &a) in order.iter().enumerate() {
        let reach = key[a] + norm(&c) * SAFETY * (rows[a].error + worst);
        for &b in order[i + 1..].iter().take_while(|b| key[**b] <= reach) {
            if proportional(&rows[a], &rows[b]) {
                keep[a.max(b)] = false;
            }
        }
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
struct Hyperplane<'a> {
    normal: &'a Row,
    reflector: Vec<f64>,
    scale: f64,
}

impl<'a> Hyperplane<'a> {
    fn new(normal: &'a Row) -> Self {
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

    /// `r - 1`.
    fn dimension(&self) -> usize {
        self.reflector.len() - 1
    }

    /// The row on the hyperplane, with the error (2).
    fn restrict(&self, row: &Row) -> Result<Row, Unresolved> {
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
    fn lift(&self, point: &[f64]) -> Vec<f64> {
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

/// On which rows a cell is on, with a hash that follows every change, so that a set of cells is asked
/// without reading all bits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signs {
    hash: u64,
    bits: Vec<u64>,
}

impl Signs {
    fn of(values: &[f64]) -> Self {
        let mut signs = Self {
            hash: 0,
            bits: Vec::with_capacity(values.len() / 64 + 1),
        };
        for (s, value) in values.iter().enumerate() {
            signs.set(s, *value > 0.0);
        }
        signs
    }

    /// Sets the sign of row `s`, which must not be set yet, all rows before it being set.
    fn set(&mut self, s: usize, on: bool) {
        if s.is_multiple_of(64) {
            self.bits.push(0);
        }
        if on {
            self.bits[s / 64] |= 1 << (s % 64);
            self.hash ^= mix(s as u64 + 1);
        }
    }
}

impl Hash for Signs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// Brings `a` to length 1; returns what it was.
fn normalise(a: &mut [f64]) -> f64 {
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

    #[test]
    fn a_step_off_a_face_keeps_its_signs_and_half_of_its_margin() {
        let mut rng = Rng::new(9);
        let normal = unit(vec![0.0, 0.0, 1.0]);
        let face = [0.6, 0.8, 0.0];
        for _ in 0..50 {
            let rows: Vec<Row> = (0..4).map(|_| unit(rng.normals(3))).collect();
            let values: Vec<f64> = rows.iter().map(|x| dot(&x.direction, &face)).collect();
            let margin = values.iter().map(|v| v.abs()).fold(1.0, f64::min);
            for side in [1.0, -1.0] {
                let w = step(&rows, &values, &face, &normal.direction, side);
                assert!((norm(&w) - 1.0).abs() < 1e-14);
                // Undo the scaling: w = face + side t normal.
                let length = 0.6 / w[0];
                let t = side * w[2] * length;
                assert!(t >= 0.5 * margin);
                for (x, value) in rows.iter().zip(&values) {
                    let slack = value.signum() * dot(&x.direction, &w) * length;
                    assert!(t == 1.0 || slack >= t - 1e-14, "{slack} {t}");
                    assert!(slack > 0.0);
                }
            }
        }
    }

    #[test]
    fn rows_that_rounding_makes_dependent_are_refused_or_merged_never_a_panic() {
        let near = |e: f64| {
            let rows = [
                [1.0, 0.0, 0.0],
                [1.0, e, 0.0],
                [1.0, 0.0, e],
                [0.0, 1.0, 0.5],
            ];
            witnesses(&distinct(rows.iter().map(|x| unit(x.to_vec())).collect()))
        };
        assert_eq!(near(1e-3).unwrap().len(), 7);
        for e in (8..20).map(|k| 10f64.powi(-k)) {
            if let Ok(cells) = near(e) {
                assert!([2, 7].contains(&cells.len()), "{e}: {}", cells.len());
            }
        }
    }
}
