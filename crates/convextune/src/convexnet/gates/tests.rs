//! Enumeration against independent ways to find patterns, and samplers against what they promise.

use std::collections::{BTreeMap, BTreeSet};

use convextune_solve::faer::Mat;
use convextune_solve::gated::Patterns;
use convextune_testkit::Rng;

use super::{Gates, count_bound, enumerate, given, sample};
use crate::Error;
use crate::convexnet::Sampler;

const LIMIT: usize = 100_000;

fn normal(n: usize, d: usize, seed: u64) -> Mat<f64> {
    let mut rng = Rng::new(seed);
    Mat::from_fn(n, d, |_, _| rng.normal())
}

fn with_bias(x: &Mat<f64>) -> Mat<f64> {
    let bias = x.ncols();
    Mat::from_fn(
        x.nrows(),
        bias + 1,
        |s, j| if j == bias { 1.0 } else { x[(s, j)] },
    )
}

fn rows<const D: usize>(rows: &[[f64; D]]) -> Mat<f64> {
    Mat::from_fn(rows.len(), D, |s, j| rows[s][j])
}

/// The patterns as sets of samples.
fn set(patterns: &Patterns) -> BTreeSet<Vec<bool>> {
    let pattern = |i| {
        (0..patterns.samples())
            .map(|s| patterns.get(i, s))
            .collect()
    };
    (0..patterns.len()).map(pattern).collect()
}

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

/// That gates are what they claim to be, whatever made them.
fn check(x: &Mat<f64>, gates: &Gates) {
    assert_eq!(gates.vectors.nrows(), x.ncols());
    assert_eq!(gates.vectors.ncols(), gates.patterns.len());
    assert_eq!(
        Patterns::of(x.as_ref(), gates.vectors.as_ref()),
        gates.patterns
    );
    assert_eq!(gates.patterns.distinct().len(), gates.patterns.len());
}

/// A few hundred thousand random gates, as patterns.
fn by_sampling(x: &Mat<f64>, draws: usize, seed: u64) -> BTreeSet<Vec<bool>> {
    let gates = normal(x.ncols(), draws, seed);
    let patterns = Patterns::of(x.as_ref(), gates.as_ref());
    set(&patterns.select(&patterns.distinct()))
}

#[test]
fn twelve_samples_in_three_dimensions_have_134_patterns() {
    assert_eq!(count_bound(12, 3), 134.0);
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
        if d > 1 {
            let all_off = usize::from(set(&gates.patterns).contains(&vec![true; n]));
            let count = (gates.patterns.len() + all_off) as f64;
            assert_eq!(count, count_bound(n, rank), "n {n}, d {d}");
        }
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
    for trial in 0..60 {
        let (n, d) = (1 + trial % 8, 1 + trial % 4);
        let x = Mat::from_fn(n, d, |_, _| (2.5 * rng.symmetric()).round());
        cases.push(if trial % 3 == 0 { with_bias(&x) } else { x });
    }
    for (i, x) in cases.iter().enumerate() {
        let gates = enumerate(x.as_ref(), LIMIT).unwrap();
        check(x, &gates);
        let expected = by_trying_all(&scale_columns(x));
        assert_eq!(set(&gates.patterns), expected, "case {i}: {x:?}");
    }
}

/// With columns of a common size, so that the oracle does not overflow.
fn scale_columns(x: &Mat<f64>) -> Mat<f64> {
    let largest = |j| (0..x.nrows()).map(|s| x[(s, j)].abs()).fold(0.0, f64::max);
    Mat::from_fn(x.nrows(), x.ncols(), |s, j| {
        x[(s, j)] / f64::max(largest(j), 1e-300)
    })
}

#[test]
fn dependent_rows_in_eight_dimensions_are_counted_exactly() {
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

#[test]
fn given_gates_are_checked_and_made_distinct() {
    let x = rows(&[[1.0, 1.0], [-1.0, 1.0], [2.0, 1.0]]);
    let vectors = rows(&[[1.0, 2.0, 0.0, -1.0], [0.0, 0.0, -1.0, 0.0]]);
    let gates = given(x.as_ref(), vectors.as_ref()).unwrap();
    check(&x, &gates);
    assert!(!gates.exhaustive);
    assert_eq!(gates.vectors, rows(&[[1.0, -1.0], [0.0, 0.0]]));

    let message = |vectors: &Mat<f64>| given(x.as_ref(), vectors.as_ref()).unwrap_err().to_string();
    assert!(message(&normal(3, 2, 1)).starts_with("a gate has 3 numbers, but a sample has 2"));
    assert!(message(&rows(&[[0.0], [-1.0]])).starts_with("none of the given gates"));
    assert_eq!(
        message(&rows(&[[0.0, 1.0], [1.0, f64::INFINITY]])),
        "number 2 of gate 2 is not finite"
    );
}

const SAMPLERS: [Sampler; 4] = [
    Sampler::Gaussian,
    Sampler::NullVector,
    Sampler::Sparse,
    Sampler::Convolutional,
];

#[test]
fn samples_are_distinct_seeded_and_grow_from_the_front() {
    let x = with_bias(&normal(40, 9, 5));
    for sampler in SAMPLERS {
        let draw = |count, seed| sample(x.as_ref(), true, sampler, count, seed);
        let gates = draw(100, 1);
        check(&x, &gates);
        assert_eq!(gates.patterns.len(), 100, "{sampler:?}");
        assert_eq!(gates.vectors, draw(100, 1).vectors);
        assert_ne!(gates.vectors, draw(100, 2).vectors);
        assert_eq!(gates.vectors.subcols(0, 30), draw(30, 1).vectors);
    }
}

#[test]
fn sampling_ends_when_there_are_no_more_patterns_or_none_at_all() {
    for sampler in SAMPLERS {
        let line = rows(&[[1.0], [2.0], [-1.0], [0.0]]);
        let gates = sample(line.as_ref(), false, sampler, 10, 0);
        check(&line, &gates);
        assert_eq!(gates.patterns.len(), 2, "{sampler:?}");
        for empty in [Mat::zeros(4, 3), Mat::zeros(0, 3), Mat::zeros(3, 0)] {
            for bias in [false, true] {
                let gates = sample(empty.as_ref(), bias, sampler, 10, 0);
                assert!(gates.patterns.is_empty(), "{sampler:?}");
            }
        }
        let one = sample(Mat::<f64>::identity(1, 1).as_ref(), true, sampler, 3, 0);
        assert_eq!(one.patterns.len(), 1, "{sampler:?}");
    }
}

#[test]
fn sparse_gates_have_few_features_and_windows_are_windows() {
    let x = with_bias(&normal(200, 20, 6));
    let support = |sampler| -> Vec<Vec<usize>> {
        let g = sample(x.as_ref(), true, sampler, 300, 3).vectors;
        let nonzero = |i| (0..20).filter(|j| g[(*j, i)] != 0.0).collect();
        assert!(
            (0..300).all(|i| g[(20, i)] != 0.0),
            "the bias is always there"
        );
        (0..300).map(nonzero).collect()
    };
    let sparse = support(Sampler::Sparse);
    let sizes: BTreeSet<usize> = sparse.iter().map(Vec::len).collect();
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(
        sparse.concat().into_iter().collect::<BTreeSet<_>>().len(),
        20
    );
    let windows: BTreeSet<Vec<usize>> = support(Sampler::Convolutional).into_iter().collect();
    let expected = (0..16).map(|first| (first..first + 5).collect());
    assert_eq!(windows, expected.collect());
}

/// The point of null vectors: thin cells are found as well as wide ones.
#[test]
fn gates_beside_edges_find_every_pattern_where_normal_ones_do_not() {
    let x = normal(12, 3, 8);
    let all = enumerate(x.as_ref(), LIMIT).unwrap().patterns.len();
    let draw = |sampler| sample(x.as_ref(), false, sampler, 134, 1).patterns.len();
    // 20 draws for each of 134.
    assert_eq!(draw(Sampler::NullVector), all);
    assert!(draw(Sampler::Gaussian) < all, "{all}");
}
