//! The three ways against each other and against a dense matrix.
#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use convextune_testkit::{Rng, relative_error};
use faer::Mat;

use super::System;
use crate::gated::newton::Scalar;
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

#[test]
fn all_ways_solve_the_same_system() {
    let mut rng = Rng::new(3);
    let (n, d, gates) = (17, 4, 6);
    let x = Mat::from_fn(n, d, |_, _| rng.normal());
    let normals = Mat::from_fn(d, gates, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), normals.as_ref());
    let rows = Rows::new(x.as_ref());
    let matrix = GatedMatrix::new(x, patterns);
    for (intercept, weighted) in [(false, false), (true, false), (true, true)] {
        let gram = OnceLock::new();
        let scalar = Scalar {
            matrix: &matrix,
            cones: Cones {
                rows: &rows,
                patterns: matrix.patterns(),
            },
            target: vec![0.0; n],
            root: weighted.then(|| (0..n).map(|_| rng.uniform()).collect()),
            weight: 1.0,
            intercept,
            gram: &gram,
        };
        let mut live: Vec<(Group, Live)> = Vec::new();
        for gate in 0..gates {
            for (negative, cone) in [(false, false), (false, true), (true, true)] {
                let group = Group {
                    gate,
                    negative,
                    cone,
                };
                // Near the gate's own cone, so that some rows bind and others do not.
                let near = |j| 2.0 * normals[(j, gate)] + rng.normal();
                let w: Vec<f64> = (0..d).map(near).collect();
                let prox = scalar.cones.prox(group, &w, 0.3, &mut Vec::new());
                live.extend(prox.map(|live| (group, live)));
            }
        }
        let bound = live.iter().filter(|(_, live)| !live.basis.is_empty());
        assert!(bound.count() > 3 && live.len() > 12);
        let system = System {
            scalar: &scalar,
            live: live.iter().map(|(group, live)| (*group, live)).collect(),
            sigma: 0.7,
        };
        let matrix = dense(&system);
        let g = rng.normals(n);
        let (by_products, done) = system.by_products(&g, 1e-13, 500);
        assert!(done);
        let ways = [
            system.by_samples(&g).unwrap(),
            system.by_weights(&g).unwrap(),
            by_products,
        ];
        for (way, d) in ways.iter().enumerate() {
            let image = &matrix * Mat::from_fn(n, 1, |s, _| d[s]);
            let error = relative_error(image.col_as_slice(0), &g);
            assert!(error < 1e-10, "{way}: {error}");
        }
        // Too few iterations are seen, and the next call no longer tries.
        assert!(!system.by_products(&g, 1e-13, 2).1);
        for patient in [true, false] {
            let mut left = patient;
            let d = system.solve(&g, 1e-13, &mut left).unwrap();
            let image = &matrix * Mat::from_fn(n, 1, |s, _| d[s]);
            assert!(relative_error(image.col_as_slice(0), &g) < 1e-10);
            assert!(patient || !left);
        }
    }
}
