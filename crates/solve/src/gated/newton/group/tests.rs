//! The derivative of the proximal map against differences of it.
#![allow(clippy::unwrap_used)]

use convextune_testkit::{Rng, relative_error};
use faer::Mat;

use super::{Cones, Group};
use crate::gated::Patterns;
use crate::prox::Rows;

#[test]
fn derivatives_are_those_of_the_proximal_map() {
    let mut rng = Rng::new(8);
    let (n, d, h) = (20, 5, 1e-6);
    let x = Mat::from_fn(n, d, |_, _| rng.normal());
    let normals = Mat::from_fn(d, 30, |_, _| rng.normal());
    let patterns = Patterns::of(x.as_ref(), normals.as_ref());
    let rows = Rows::new(x.as_ref());
    let cones = Cones {
        rows: &rows,
        patterns: &patterns,
    };
    let mut bound = 0;
    for gate in 0..30 {
        let group = Group {
            gate,
            negative: false,
            cone: gate % 3 > 0,
        };
        let near = |j| 2.0 * normals[(j, gate)] + rng.normal();
        let w: Vec<f64> = (0..d).map(near).collect();
        let v = rng.normals(d);
        let at = |t: f64| {
            let w: Vec<f64> = w.iter().zip(&v).map(|(w, v)| w + t * v).collect();
            cones.prox(group, &w, 0.5, &mut Vec::new()).unwrap()
        };
        let (plus, minus) = (at(h).point, at(-h).point);
        let slope = plus.iter().zip(minus).map(|(a, b)| (a - b) / (2.0 * h));
        let slope: Vec<f64> = slope.collect();
        let error = relative_error(&at(0.0).derivative(&v), &slope);
        assert!(error < 1e-7, "{gate}: {error}");
        bound += at(0.0).basis.len();
    }
    assert!(bound > 10, "{bound}");
}
