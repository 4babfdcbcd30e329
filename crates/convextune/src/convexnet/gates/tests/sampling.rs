//! Samplers against what they promise.

use super::*;
use crate::convexnet::Sampler;
use crate::convexnet::gates::{enumerate, sample};

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
