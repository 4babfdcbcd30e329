//! The three ways against each other and against a dense matrix.
#![allow(clippy::unwrap_used)]

use convextune_testkit::{Rng, relative_error};
use faer::Mat;

use super::{Factor, MANY, Memory, System};
use crate::gated::newton::Scalar;
use crate::gated::newton::gram::Grams;
use crate::gated::newton::group::{Cones, Group, Live};
use crate::gated::{GatedMatrix, Patterns};
use crate::prox::Rows;

/// `I + sigma (A P A' + 1 1')`, entry by entry; `A_i = sign diag(h^(1/2) m_i) X`.
fn dense(system: &System<'_>) -> Mat<f64> {
    let (n, d) = (system.scalar.samples(), system.scalar.features());
    let ones = system.scalar.ones();
    let mut sum = Mat::<f64>::identity(n, n);
    for (group, live) in &system.live {
        let a = Mat::from_fn(n, d, |s, j| {
            let on = system.scalar.matrix.patterns().get(group.gate, s);
            let x = system.scalar.matrix.x()[(s, j)];
            if on { group.sign() * ones[s] * x } else { 0.0 }
        });
        let unit = |j| (0..d).map(|k| f64::from(u8::from(j == k))).collect();
        let columns: Vec<Vec<f64>> = (0..d)
            .map(unit)
            .map(|unit: Vec<f64>| live.derivative(&unit))
            .collect();
        let p = Mat::from_fn(d, d, |j, k| columns[k][j]);
        sum += faer::Scale(system.sigma) * (&a * p * a.transpose());
    }
    if system.scalar.intercept {
        sum += Mat::from_fn(n, n, |s, t| system.sigma * ones[s] * ones[t]);
    }
    sum
}

/// Live groups near their own cones, so that some rows bind and others do not.
fn live_groups(scalar: &Scalar<'_>, normals: &Mat<f64>, rng: &mut Rng) -> Vec<(Group, Live)> {
    let mut live = Vec::new();
    for gate in 0..normals.ncols() {
        for (negative, cone) in [(false, false), (false, true), (true, true)] {
            let group = Group {
                gate,
                negative,
                cone,
            };
            let near = |j| 2.0 * normals[(j, gate)] + rng.normal();
            let w: Vec<f64> = (0..normals.nrows()).map(near).collect();
            let prox = scalar.cones.prox(group, &w, 0.3, &mut Vec::new());
            live.extend(prox.map(|live| (group, live)));
        }
    }
    live
}

fn scalar<'a>(matrix: &'a GatedMatrix, rows: &'a Rows, grams: &'a Grams) -> Scalar<'a> {
    Scalar {
        matrix,
        cones: Cones {
            rows,
            patterns: matrix.patterns(),
        },
        target: vec![0.0; matrix.samples()],
        root: None,
        weight: 1.0,
        intercept: false,
        grams,
    }
}

fn gated_matrix(n: usize, d: usize, gates: usize, rng: &mut Rng) -> (GatedMatrix, Mat<f64>) {
    gated(Mat::from_fn(n, d, |_, _| rng.normal()), gates, rng)
}

fn gated(x: Mat<f64>, gates: usize, rng: &mut Rng) -> (GatedMatrix, Mat<f64>) {
    let normals = Mat::from_fn(x.ncols(), gates, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), normals.as_ref());
    (GatedMatrix::new(x, patterns), normals)
}

fn borrow(live: &[(Group, Live)]) -> Vec<(Group, &Live)> {
    live.iter().map(|(group, live)| (*group, live)).collect()
}

/// `||(I + sigma A P A') d - g|| / ||g||`.
fn residual(system: &System<'_>, d: &[f64], g: &[f64]) -> f64 {
    relative_error(&system.product(d), g)
}

#[test]
fn all_ways_solve_the_same_system() {
    let mut rng = Rng::new(3);
    let n = 17;
    let (matrix, normals) = gated_matrix(n, 4, 6, &mut rng);
    let rows = Rows::new(matrix.x());
    for (intercept, weighted) in [(false, false), (true, false), (true, true)] {
        let grams = Grams::default();
        let scalar = Scalar {
            root: weighted.then(|| (0..n).map(|_| rng.uniform()).collect()),
            intercept,
            ..scalar(&matrix, &rows, &grams)
        };
        let live = live_groups(&scalar, &normals, &mut rng);
        let bound = live.iter().filter(|(_, live)| !live.basis.is_empty());
        assert!(bound.count() > 3 && live.len() > 12);
        let system = System {
            scalar: &scalar,
            live: borrow(&live),
            sigma: 0.7,
        };
        let matrix = dense(&system);
        let g = rng.normals(n);
        let run = system.by_products(&g, 1e-13, 500.0, <[f64]>::to_vec);
        assert!(run.done);
        let single = Factor::Single(system.by_samples().unwrap());
        let refined = system.by_products(&g, 1e-13, 10.0, |r| single.solve(r));
        assert!(refined.done && refined.iterations <= 4.0);
        let ways = [
            (
                Factor::Double(system.by_samples().unwrap()).solve(&g),
                1e-10,
            ),
            (system.by_weights().unwrap().solve(&g), 1e-10),
            (run.direction, 1e-10),
            (refined.direction, 1e-10),
            (single.solve(&g), 1e-4),
        ];
        for (way, (d, allowed)) in ways.iter().enumerate() {
            let image = &matrix * Mat::from_fn(n, 1, |s, _| d[s]);
            let error = relative_error(image.col_as_slice(0), &g);
            assert!(error < *allowed, "{way}: {error}");
        }
        // Too few iterations are seen.
        assert!(!system.by_products(&g, 1e-13, 2.0, <[f64]>::to_vec).done);
    }
}

/// Live groups without cones, so many that the system is best factored over its samples, of which every other one is
/// the one before again.
fn many(n: usize) -> (GatedMatrix, Vec<(Group, Live)>, Vec<f64>) {
    let mut rng = Rng::new(5);
    let half = Mat::from_fn(n / 2, 40, |_, _| rng.normal());
    let x = Mat::from_fn(n, 40, |s, j| half[(s / 2, j)]);
    let (matrix, normals) = gated(x, n / 15, &mut rng);
    let (rows, grams) = (Rows::none(), Grams::default());
    let mut live = live_groups(&scalar(&matrix, &rows, &grams), &normals, &mut rng);
    live.retain(|(group, _)| !group.cone);
    let g = rng.normals(n);
    (matrix, live, g)
}

#[test]
fn a_factor_serves_the_systems_after_its_own() {
    let (matrix, live, g) = many(300);
    let (rows, grams) = (Rows::none(), Grams::default());
    let scalar = scalar(&matrix, &rows, &grams);
    let system = |sigma: f64, groups: usize| System {
        scalar: &scalar,
        live: borrow(&live[..groups]),
        sigma,
    };
    let first = system(10.0, live.len());
    let factor = Factor::Double(first.by_samples().unwrap());
    let next = system(50.0, live.len() - 1);
    let with = next.by_products(&g, 1e-10, 500.0, |r| factor.solve(r));
    let without = next.by_products(&g, 1e-10, 500.0, <[f64]>::to_vec);
    assert!(with.done && residual(&next, &with.direction, &g) < 1e-9);
    assert!(3.0 * with.iterations < without.iterations);
}

#[test]
fn patience_ends_with_a_factor_and_single_precision_where_it_fails() {
    let (matrix, live, g) = many(MANY + MANY / 2);
    let (rows, grams) = (Rows::none(), Grams::default());
    let scalar = scalar(&matrix, &rows, &grams);
    let mut memory = Memory::new();
    // Conjugate gradients, a new factor, the same one again, a new one in double precision.
    let cases = [
        (1e-6, false, true, true),
        (10.0, true, false, true),
        (20.0, true, true, true),
        (1e5, true, false, false),
    ];
    for (sigma, factor, used, single) in cases {
        let system = System {
            scalar: &scalar,
            live: borrow(&live),
            sigma,
        };
        let d = system.solve(&g, 1e-8, &mut memory).unwrap();
        let error = residual(&system, &d, &g);
        assert!(error < 1e-5, "{sigma}: {error}");
        assert_eq!(memory.factor.is_some(), factor, "{sigma}");
        assert_eq!(memory.patience < 1.0, used, "{sigma}");
        assert_eq!(memory.single, single, "{sigma}");
    }
}
