//! Groups of unknowns and their proximal maps.

#[cfg(test)]
mod tests;

use crate::dense::{axpy, dot, norm};
use crate::gated::patterns::Patterns;
use crate::prox::cone::{Active, Projection, Rows, project_above};

/// One group of unknowns: the weights behind a gate that enter an output with a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Group {
    /// Index of the gate.
    pub(crate) gate: usize,
    /// Whether it enters with a minus sign.
    pub(crate) negative: bool,
    /// Whether it must lie in the gate's cone.
    pub(crate) cone: bool,
}

impl Group {
    /// `1` or `-1`.
    pub(crate) fn sign(self) -> f64 {
        if self.negative { -1.0 } else { 1.0 }
    }
}

/// `p = prox(w)` of `t ||x|| + [x in K]` for one group, with what its derivative needs.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// `p`, not zero.
    pub(crate) point: Vec<f64>,
    /// `p / ||p||`.
    pub(crate) direction: Vec<f64>,
    /// `a = 1 - t / ||P_K w||`, in (0, 1].
    pub(crate) shrink: f64,
    /// An orthonormal basis `Q` of the rows that bind; empty without a cone.
    pub(crate) basis: Vec<Vec<f64>>,
}

impl Live {
    /// `P v`, where `P = a (I - Q Q' - s s') + s s'` is the derivative of the proximal map, `s` the
    /// direction: shrinking acts across the direction, the length along it moves freely.
    pub(crate) fn derivative(&self, v: &[f64]) -> Vec<f64> {
        let mut image = v.to_vec();
        for q in &self.basis {
            axpy(-dot(q, v), q, &mut image);
        }
        let along = dot(&self.direction, v);
        for (image, s) in image.iter_mut().zip(&self.direction) {
            *image = self.shrink * *image + (1.0 - self.shrink) * along * s;
        }
        image
    }
}

/// Projects onto the cones of a program's gates.
#[derive(Clone, Copy)]
pub(crate) struct Cones<'a> {
    /// Rows of `X`, of length 1.
    pub(crate) rows: &'a Rows,
    /// The patterns.
    pub(crate) patterns: &'a Patterns,
}

impl Cones<'_> {
    /// `prox(w)` for `t ||x|| + [x in K_gate]`; `None` where it is 0. `hint` holds rows likely to bind and
    /// is brought up to date.
    pub(crate) fn prox(
        &self,
        group: Group,
        w: &[f64],
        t: f64,
        hint: &mut Vec<Active>,
    ) -> Option<Live> {
        let length = norm(w);
        // A projection onto a cone is never longer than the point.
        if length <= t {
            return None;
        }
        if !group.cone {
            return Some(shrunk(w.to_vec(), length, t, Vec::new()));
        }
        let projection = self.project(group, w, t, hint);
        let length = norm(&projection.point);
        (length > t).then(|| shrunk(projection.point, length, t, projection.basis))
    }

    /// The norm dual to `||x|| + [x in K]`, `||P_K c||`; where that is at most `floor`, an upper bound on
    /// it that is at most `floor` too.
    pub(crate) fn dual_norm(
        &self,
        group: Group,
        c: &[f64],
        floor: f64,
        hint: &mut Vec<Active>,
    ) -> f64 {
        let length = norm(c);
        if !group.cone || length <= floor {
            return length;
        }
        norm(&self.project(group, c, floor, hint).point)
    }

    fn project(&self, group: Group, w: &[f64], floor: f64, hint: &mut Vec<Active>) -> Projection {
        let sign = |s: usize| {
            if self.patterns.get(group.gate, s) {
                1.0
            } else {
                -1.0
            }
        };
        let projection = project_above(self.rows, &sign, w, hint, floor);
        hint.clone_from(&projection.active);
        projection
    }
}

/// `(1 - t / length) v`, `length = ||v|| > t`.
fn shrunk(mut v: Vec<f64>, length: f64, t: f64, basis: Vec<Vec<f64>>) -> Live {
    let shrink = 1.0 - t / length;
    let direction = v.iter().map(|x| x / length).collect();
    v.iter_mut().for_each(|x| *x *= shrink);
    Live {
        point: v,
        direction,
        shrink,
        basis,
    }
}
