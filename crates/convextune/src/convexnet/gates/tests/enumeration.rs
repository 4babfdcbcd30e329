//! Enumeration against independent ways to find or count patterns.

use std::collections::BTreeMap;

use super::*;
use crate::Error;
use crate::convexnet::gates::{count_bound, enumerate};

/// The patterns of open cells but all-off, by trying all sign vectors of the non-zero rows.
fn by_trying_all(x: &Mat<f64>) -> BTreeSet<Vec<bool>> {
    let row = |s: usize| -> Vec<f64> { x.row(s).iter().copied().collect() };
    let some = (0..x.nrows()).filter(|s| row(*s).iter().any(|v| *v != 0.0));
    let some: Vec<usize> = some.collect();
    let mut found = BTreeSet::new();
    for bits in 1..1u32 << some.len() {
        let on = |i: usize| bits >> i & 1 == 1;
        let signed = |(i, s): (usize, &usize)| {
            let sign = if on(i) { 1.0 } else { -1.0 };
            row(*s).iter().map(|v| sign * v).collect()
        };
        if attainable(some.iter().enumerate().map(signed).collect()) {
            let mut pattern = vec![false; x.nrows()];
            (0..some.len()).for_each(|i| pattern[some[i]] = on(i));
            found.insert(pattern);
        }
    }
    found
}

/// Whether `a' u > 0` for all rows `a` and some `u`, by eliminating one unknown after the other (Fourier
/// and Motzkin): rows of opposite signs in it are added so that it cancels; if all have the same sign
/// they can be met whatever the rest. A row of zeros that comes up says `0 > 0`.
fn attainable(mut rows: Vec<Vec<f64>>) -> bool {
    const ZERO: f64 = 1e-9;
    let unknowns = rows.first().map_or(0, Vec::len);
    for j in 0..unknowns {
        for row in &mut rows {
            let largest = row.iter().map(|v| v.abs()).fold(0.0, f64::max);
            if largest < ZERO {
                return false;
            }
            row.iter_mut().for_each(|v| *v /= largest);
        }
        let (with, mut rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|a| a[j].abs() > ZERO);
        for p in with.iter().filter(|a| a[j] > 0.0) {
            for n in with.iter().filter(|a| a[j] < 0.0) {
                let pairs = p.iter().zip(n);
                rest.push(pairs.map(|(pv, nv)| pv * n[j].abs() + nv * p[j]).collect());
            }
        }
        rows = rest;
    }
    rows.is_empty()
}

/// A few hundred thousand random gates, as patterns.
fn by_sampling(x: &Mat<f64>, draws: usize, seed: u64) -> BTreeSet<Vec<bool>> {
    let gates = normal(x.ncols(), draws, seed);
    let patterns = Patterns::of(x.as_ref(), gates.as_ref());
    set(&patterns.select(&patterns.distinct()))
}

#[test]
fn twelve_samples_in_three_dimensions_have_134_patterns() {
    assert!((count_bound(12, 3) - 134.0).abs() < 0.5);
    let mut seen = BTreeMap::new();
    for seed in 0..200 {
        let x = normal(12, 3, seed);
        let gates = enumerate(x.as_ref(), LIMIT).unwrap();
        check(&x, &gates);
        assert!(gates.exhaustive);
        // All-off is a cell's when all-on is; it is counted in the 134 and left out.
        let all_on = set(&gates.patterns).contains(&vec![true; 12]);
        assert_eq!(gates.patterns.len() + usize::from(all_on), 134);
        *seen.entry(gates.patterns.len()).or_insert(0) += 1;
    }
    // Both happen: all samples lie in a half space with a chance of 67 / 2048 (Wendel 1962).
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [133, 134]);
    assert!(seen[&133] < 20, "{seen:?}");

    let x = with_bias(&normal(12, 2, 1));
    assert_eq!(enumerate(x.as_ref(), LIMIT).unwrap().patterns.len(), 133);
}

#[test]
fn in_general_position_the_count_is_the_formula_and_holds_every_sampled_pattern() {
    for (n, d) in [
        (1, 1),
        (5, 1),
        (2, 2),
        (9, 2),
        (3, 5),
        (7, 4),
        (20, 3),
        (10, 6),
        (70, 3),
    ] {
        let x = normal(n, d, 7 * n as u64 + d as u64);
        let gates = enumerate(x.as_ref(), LIMIT).unwrap();
        check(&x, &gates);
        let rank = d.min(n);
        let all_off = usize::from(set(&gates.patterns).contains(&vec![true; n]));
        let count = (gates.patterns.len() + all_off) as f64;
        assert!((count - count_bound(n, rank)).abs() < 0.5, "n {n}, d {d}");
        let sampled = by_sampling(&x, 20_000, n as u64);
        assert!(sampled.is_subset(&set(&gates.patterns)), "n {n}, d {d}");
    }
}

#[test]
fn degenerate_data_agree_with_trying_all_sign_vectors() {
    let mut cases = vec![
        rows(&[[1.0]]),
        rows(&[[0.0], [2.0], [-3.0]]),
        // The example of the module: opposite rows.
        rows(&[[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]),
        // Duplicates, opposites, multiples, zero rows.
        rows(&[
            [1.0, 2.0],
            [1.0, 2.0],
            [-2.0, -4.0],
            [0.0, 0.0],
            [0.1, 0.2],
            [3.0, 1.0],
        ]),
        // Rank 1 in three dimensions, rank 2 in four.
        rows(&[[1.0, 2.0, 3.0], [-2.0, -4.0, -6.0], [0.5, 1.0, 1.5]]),
        rows(&[
            [1.0, 0.0, 1.0, 0.0],
            [0.0, 1.0, 0.0, 1.0],
            [1.0, 1.0, 1.0, 1.0],
            [2.0, -1.0, 2.0, -1.0],
        ]),
        // A grid in the plane with a bias: collinear triples.
        with_bias(&rows(&[
            [0.0, 0.0],
            [1.0, 0.0],
            [2.0, 0.0],
            [0.0, 1.0],
            [1.0, 1.0],
            [2.0, 1.0],
            [0.0, 2.0],
        ])),
        // The same after a standardisation that rounds.
        with_bias(&rows(
            &[
                [0.0, 0.0],
                [1.0, 0.0],
                [2.0, 0.0],
                [0.0, 1.0],
                [1.0, 1.0],
                [2.0, 1.0],
            ]
            .map(|x| x.map(|v| (v - 0.7) / 0.3)),
        )),
        // Scales far apart.
        rows(&[
            [1e200, 1e-150],
            [2e200, -1e-150],
            [1e200, 3e-150],
            [1e-3, 1e-150],
        ]),
    ];
    // The cube: many planes through a line, many lines in a plane.
    cases.push(Mat::from_fn(7, 3, |s, j| f64::from((s + 1) >> j & 1 == 1)));
    // Small whole numbers, with and without a bias.
    let mut rng = Rng::new(2);
    for trial in 0..400 {
        let (n, d) = (1 + trial % 7, 1 + trial % 4);
        let size = 1.0 + 3.0 * rng.uniform();
        let x = Mat::from_fn(n, d, |_, _| (size * rng.symmetric()).round());
        cases.push(if trial % 3 == 0 { with_bias(&x) } else { x });
    }
    for (i, x) in cases.iter().enumerate() {
        let gates = enumerate(x.as_ref(), LIMIT).unwrap();
        check(x, &gates);
        let expected = by_trying_all(&scale_columns(x));
        assert_eq!(set(&gates.patterns), expected, "case {i}: {x:?}");
        // In other coordinates the same rows are dependent, but for rounding.
        let turned = scale_columns(x) * normal(x.ncols(), x.ncols(), i as u64);
        let gates = enumerate(turned.as_ref(), LIMIT).unwrap();
        assert_eq!(set(&gates.patterns), expected, "case {i} turned: {x:?}");
    }
}

/// With columns of a common size, so that the oracle does not overflow.
fn scale_columns(x: &Mat<f64>) -> Mat<f64> {
    let largest = |j| (0..x.nrows()).map(|s| x[(s, j)].abs()).fold(0.0, f64::max);
    Mat::from_fn(x.nrows(), x.ncols(), |s, j| {
        x[(s, j)] / f64::max(largest(j), 1e-300)
    })
}

/// The example of the module: a gate on a hyperplane can have a pattern that no cell has.
#[test]
fn patterns_of_gates_on_hyperplanes_are_not_among_all() {
    let x = rows(&[[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]);
    let on_a_hyperplane = given(x.as_ref(), rows(&[[0.0], [1.0]]).as_ref()).unwrap();
    let pattern = set(&on_a_hyperplane.patterns);
    assert_eq!(pattern, BTreeSet::from([vec![false, false, true]]));
    let all = set(&enumerate(x.as_ref(), LIMIT).unwrap().patterns);
    assert!(all.len() == 4 && all.is_disjoint(&pattern));
}

#[test]
fn hyperplanes_of_all_pairs_have_a_cell_for_every_order() {
    // The hyperplanes g_i = g_j have a cell for every order of the coordinates: 6! of them.
    let pairs: Vec<(usize, usize)> = (0..6).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
    let entry = |s: usize, j: usize| {
        let (a, b) = pairs[s];
        f64::from(u8::from(j == a)) - f64::from(u8::from(j == b))
    };
    let x = Mat::from_fn(pairs.len(), 6, entry);
    let gates = enumerate(x.as_ref(), LIMIT).unwrap();
    check(&x, &gates);
    assert_eq!(gates.patterns.len(), 720 - 1);
    // The coordinate hyperplanes of R^8: every sign vector.
    let gates = enumerate(Mat::<f64>::identity(8, 8).as_ref(), LIMIT).unwrap();
    assert_eq!(gates.patterns.len(), 255);
}

#[test]
fn dependent_columns_do_not_count() {
    let x = normal(40, 3, 5) * normal(3, 20, 6);
    let gates = enumerate(x.as_ref(), LIMIT).unwrap();
    check(&x, &gates);
    assert!([1561, 1562].contains(&gates.patterns.len()));
    assert!(by_sampling(&x, 20_000, 1).is_subset(&set(&gates.patterns)));
}

#[test]
fn the_patterns_do_not_depend_on_the_coordinates_of_the_features() {
    let (x, t) = (normal(15, 3, 3), normal(3, 3, 4));
    let set_of = |x: &Mat<f64>| set(&enumerate(x.as_ref(), LIMIT).unwrap().patterns);
    assert_eq!(set_of(&x), set_of(&(&x * &t)));
}

#[test]
fn too_many_patterns_and_bad_numbers_are_refused_in_one_sentence() {
    let message = |result: Result<Gates, Error>| result.unwrap_err().to_string();
    let x = normal(60, 20, 1);
    assert_eq!(
        message(enumerate(x.as_ref(), LIMIT)),
        "the data (60 different rows of rank 20) have up to 5.0e15 activation patterns, more than \
         the limit of 100000; use --gates N or --gates adaptive"
    );
    assert!(count_bound(100_000, 5_000).is_infinite());
    let x = normal(80, 90, 1);
    assert_eq!(
        message(enumerate(x.as_ref(), LIMIT)),
        "the data (64 independent rows and others) have at least 1.8e19 activation patterns, more \
         than the limit of 100000; use --gates N or --gates adaptive"
    );
    let mut x = normal(5, 2, 1);
    x[(3, 1)] = f64::NAN;
    assert_eq!(
        message(enumerate(x.as_ref(), LIMIT)),
        "the data, row 4, column 2: not a finite number"
    );
    let gates = normal(2, 1, 1);
    assert_eq!(
        message(given(x.as_ref(), gates.as_ref())),
        "the data, row 4, column 2: not a finite number"
    );

    for empty in [Mat::zeros(4, 3), Mat::zeros(0, 3), Mat::zeros(3, 0)] {
        let gates = enumerate(empty.as_ref(), LIMIT).unwrap();
        assert!(gates.patterns.is_empty() && gates.vectors.ncols() == 0);
    }
}

/// Cells of planes through 0 in space: `2 (1 + sum over the lines in which they meet of (planes - 1))`, the
/// count of regions of lines in the projective plane. In whole numbers, so degenerate data are exact.
fn cells_in_space(rows: &[[i64; 3]]) -> usize {
    let mut planes: Vec<[i64; 3]> = rows.iter().filter_map(primitive).collect();
    planes.sort_unstable();
    planes.dedup();
    let cross = |a: &[i64; 3], b: &[i64; 3]| {
        let minor = |i: usize, j: usize| a[i] * b[j] - a[j] * b[i];
        [minor(1, 2), minor(2, 0), minor(0, 1)]
    };
    let mut on_line: BTreeMap<[i64; 3], BTreeSet<usize>> = BTreeMap::new();
    for (i, a) in planes.iter().enumerate() {
        for (j, b) in planes.iter().enumerate().take(i) {
            if let Some(line) = primitive(&cross(a, b)) {
                on_line.entry(line).or_default().extend([i, j]);
            }
        }
    }
    2 * (1 + on_line
        .values()
        .map(|planes| planes.len() - 1)
        .sum::<usize>())
}

/// The shortest whole-number vector of the same line, its first entry that is not 0 positive; none for 0.
fn primitive(v: &[i64; 3]) -> Option<[i64; 3]> {
    fn gcd(a: i64, b: i64) -> i64 {
        if b == 0 { a.abs() } else { gcd(b, a % b) }
    }
    let first = v.iter().find(|v| **v != 0)?;
    let common = v.iter().fold(0, |g, v| gcd(g, *v)) * first.signum();
    Some(v.map(|v| v / common))
}

#[test]
fn whole_numbers_in_space_have_the_cells_that_exact_arithmetic_counts() {
    assert_eq!(cells_in_space(&[[1, 0, 0], [0, 1, 0], [0, 0, 1]]), 8);
    assert_eq!(cells_in_space(&[[1, 0, 0], [0, 1, 0], [2, 2, 0]]), 6);
    let mut rng = Rng::new(6);
    for (n, size) in [(10, 1.5), (30, 2.5), (60, 3.5), (60, 6.5), (100, 2.5)] {
        for bias in [false, true] {
            let mut entry = || (size * rng.symmetric()).round() as i64;
            let data: Vec<[i64; 3]> = (0..n)
                .map(|_| [entry(), entry(), if bias { 1 } else { entry() }])
                .collect();
            let x = Mat::from_fn(n, 3, |s, j| data[s][j] as f64);
            // The same data in other units: sums and products round.
            let y = Mat::from_fn(n, 3, |s, j| {
                let shift = if j < 2 && bias { 0.7 } else { 0.0 };
                (x[(s, j)] - shift) / [0.3, 170.0, 1.0][j]
            });
            for x in [x, y] {
                let gates = enumerate(x.as_ref(), LIMIT).unwrap();
                check(&x, &gates);
                let zero = |s: &usize| (0..3).all(|j| x[(*s, j)] == 0.0);
                let nonzero = n - (0..n).filter(zero).count();
                let all_on = (0..gates.patterns.len()).any(|i| gates.patterns.count(i) == nonzero);
                let cells = gates.patterns.len() + usize::from(all_on);
                assert_eq!(
                    cells,
                    cells_in_space(&data),
                    "n {n}, size {size}, bias {bias}"
                );
            }
        }
    }
}

/// The closed cones of the patterns cover all weights, those on hyperplanes too, but for weights that
/// switch nothing on.
#[test]
fn every_relu_neuron_has_a_pattern_among_all() {
    let mut rng = Rng::new(3);
    for trial in 0..30 {
        let x = Mat::from_fn(9, 2 + trial % 2, |_, _| (2.5 * rng.symmetric()).round());
        let patterns = enumerate(x.as_ref(), LIMIT).unwrap().patterns;
        for _ in 0..100 {
            let u = Mat::from_fn(x.ncols(), 1, |_, _| (2.5 * rng.symmetric()).round());
            let scores = &x * &u;
            let score = |s: usize| scores[(s, 0)];
            let inside =
                |i| (0..9).all(|s| score(s) == 0.0 || patterns.get(i, s) == (score(s) > 0.0));
            let off = (0..9).all(|s| score(s) <= 0.0);
            assert!(off || (0..patterns.len()).any(inside), "{x:?} {u:?}");
        }
    }
}

/// Rows that are closer and closer: they are different, then rounding decides (and
/// the data are refused, or not), then they are one.
#[test]
fn nearly_dependent_rows_are_different_then_perhaps_refused_then_one() {
    let three_near = |e: f64| {
        rows(&[
            [1.0, 0.0, 0.0],
            [1.0, e, 0.0],
            [1.0, 0.0, e],
            [0.0, 1.0, 0.5],
        ])
    };
    let nearly_collinear =
        |e: f64| with_bias(&rows(&[[0.1, 0.3], [0.2, 0.6], [0.3 + e, 0.9], [0.7, 0.1]]));
    let outcomes = |case: &dyn Fn(f64) -> Mat<f64>| -> Vec<usize> {
        let count = |k: i32| {
            let x = case(10f64.powi(-k));
            match enumerate(x.as_ref(), LIMIT) {
                Ok(gates) => {
                    check(&x, &gates);
                    Some(gates.patterns.len())
                }
                Err(e) => {
                    assert!(e.to_string().contains("nearly, but not exactly, dependent"));
                    None
                }
            }
        };
        let mut outcomes: Vec<_> = (2..20).map(count).collect();
        assert!(outcomes[..8].iter().all(Option::is_some), "{outcomes:?}");
        outcomes.dedup();
        assert!(outcomes.len() <= 3, "{outcomes:?}");
        outcomes.into_iter().flatten().collect()
    };
    assert_eq!(outcomes(&three_near), [13, 3]);
    assert_eq!(outcomes(&nearly_collinear), [13, 11]);
}
