//! The method's steps, one by one; its results are compared with other methods' in `tests/`.
#![allow(clippy::unwrap_used)]

use convextune_testkit::Rng;
use faer::Mat;

use super::gram::Grams;
use super::group::{Cones, Group};
use super::{Scalar, State};
use crate::dense::norm;
use crate::gated::{GatedMatrix, Patterns};
use crate::prox::Rows;

#[test]
fn polishing_goes_on_with_the_last_phi() {
    let mut rng = Rng::new(1);
    let (n, d, gates) = (40, 3, 8);
    let x = Mat::from_fn(n, d, |_, _| rng.normal());
    let normals = Mat::from_fn(d, gates, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), normals.as_ref());
    let (matrix, rows, grams) = (
        GatedMatrix::new(x, patterns),
        Rows::none(),
        Grams::default(),
    );
    let scalar = Scalar {
        matrix: &matrix,
        cones: Cones {
            rows: &rows,
            patterns: matrix.patterns(),
        },
        target: rng.normals(n),
        root: None,
        weight: 0.5,
        intercept: false,
        grams: &grams,
    };
    let group = |gate| Group {
        gate,
        negative: false,
        cone: false,
    };
    let all: Vec<_> = (0..gates).map(|gate| (group(gate), Vec::new())).collect();
    let mut state = State::new(&scalar, &[]);
    state.work_on(&scalar, &all);
    state.run(&scalar, 1.0, 1).unwrap();
    let (first, apart) = (state.x.clone(), distance(&scalar, &state));
    assert!(apart > 1e-6, "{apart}");
    assert!(state.polish(&scalar, 1e-3).unwrap());
    assert!(distance(&scalar, &state) <= 1e-3 * apart);
    // Another proximal step would have gone further than the first was from its end.
    let moved = (&state.x - &first).norm_l2();
    assert!(moved < 10.0 * apart, "{moved} {apart}");
}

/// How far `y` is from the residual at `x`.
fn distance(scalar: &Scalar<'_>, state: &State) -> f64 {
    let (r, _) = scalar.residual(&state.groups, state.x.as_ref());
    let apart: Vec<f64> = r.iter().zip(&state.y).map(|(r, y)| r - y).collect();
    norm(&apart)
}
