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
//! with the depth of the recursion, at most `r - 2`, and not with the number of rows.
//!
//! **In the plane** the recursion ends: cells lie between lines next to each other in the order of
//! their angles, and the bisector is the witness.
//!
//! **Degenerate rows.** On `H` rows may become proportional (three planes through one line); the
//! restricted arrangement keeps one of them ([`rows`](super::rows) has how that is decided). If two such
//! decisions contradict each other, the faces on `H` are not those of as many cells, which is seen and
//! reported.
//!
//! **Cost.** Every cell beyond the first is made once, by one face, and faces are cells one dimension
//! lower: for `n` rows in general position `O(n^(r-1))` cells, each with `n` signs that cost `r`
//! operations, `O(n^r r)` in all; `O(n log n)` in the plane.

use std::collections::HashSet;
use std::f64::consts::FRAC_PI_2;
use std::hash::{Hash, Hasher};

use super::rows::{Hyperplane, Row, Unresolved, distinct, dot, normalise};
use crate::rng::mix;

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
    if rows[0].direction.len() == 2 {
        return Ok(between_lines(rows));
    }
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
    let restricted: Result<Vec<Row>, _> = rows.iter().map(|x| plane.restrict(x)).collect();
    let below = witnesses(&distinct(restricted?))?;
    Ok(below.iter().map(|w| plane.lift(w)).collect())
}

/// The same in the plane: the bisectors of lines next to each other, in the order of their angles.
fn between_lines(rows: &[Row]) -> Vec<Vec<f64>> {
    let first = &rows[0].direction;
    let across = [-first[1], first[0]];
    // Coordinates `c` along `x_1` and `s` across: the half plane has angles between -90 and 90 degrees.
    let line = |x: &Row| (-dot(&x.direction, first) / dot(&x.direction, &across)).atan();
    let mut angles: Vec<f64> = rows[1..].iter().map(line).collect();
    angles.extend([-FRAC_PI_2, FRAC_PI_2]);
    angles.sort_unstable_by(f64::total_cmp);
    let bisector = |pair: &[f64]| {
        let (s, c) = f64::midpoint(pair[0], pair[1]).sin_cos();
        vec![c * first[0] + s * across[0], c * first[1] + s * across[1]]
    };
    angles.windows(2).map(bisector).collect()
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

#[cfg(test)]
mod tests {
    use super::super::rows::norm;
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
                    assert!(t >= 1.0 || slack >= t - 1e-14, "{slack} {t}");
                    assert!(slack > 0.0);
                }
            }
        }
    }

    #[test]
    fn in_the_plane_witnesses_bisect_angles() {
        // Lines at 90, 45, 90 + 30 and 0 degrees; the half plane is that of x_1 = (1, 0).
        let angles = [0.0f64, -45.0, 30.0, 90.0].map(f64::to_radians);
        let rows = angles.map(|a| unit(vec![a.cos(), a.sin()]));
        let found = witnesses(&rows).unwrap();
        let found: Vec<f64> = found
            .iter()
            .map(|w| w[1].atan2(w[0]).to_degrees())
            .collect();
        let expected = [-75.0, -30.0, 22.5, 67.5];
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-12, "{found:?}");
        }
        assert_eq!(witnesses(&rows[..1]).unwrap(), [[1.0, 0.0]]);
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
