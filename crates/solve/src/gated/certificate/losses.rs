//! One sample's loss `f`, its gradient and its conjugate. `m = y z` is the margin, `p` the probabilities
//! `softmax(z)`.
//!
//! | loss | `f(z)` | `f'(z)` | `f*(g)` | domain of `f*` |
//! |---|---|---|---|---|
//! | squared | `1/2 \|\|y - z\|\|^2` | `z - y` | `<g, y> + 1/2 \|\|g\|\|^2` | all |
//! | cross entropy, `C = 1` | `log(1 + e^-m)` | `-y / (1 + e^m)` | `a log a + (1-a) log(1-a)`, `a = -y g` | `0 <= a <= 1` |
//! | cross entropy, `C > 1` | `log sum e^z - <y, z>` | `p - y` | `sum q log q`, `q = g + y` | `q` in the simplex |
//! | squared hinge, each output | `1/2 (1 - m)_+^2` | `-y (1 - m)_+` | `1/2 a^2 - a`, `a = -y g` | `a >= 0` |
//!
//! **Columns that sum to zero** ([`balance`]), which an intercept demands of `g`:
//! * squared: the means are taken away (the gradient at the best intercept).
//! * `C = 1` and squared hinge: `sum_s g_s = -sum_{y=1} a_s + sum_{y=-1} a_s`; the class with the larger sum
//!   of `a` is scaled down to the other.
//! * softmax: the columns of `Q` must sum to the class counts `n_c` but miss them by `delta_c`; as in
//!   [`crate::logistic`], `Q~ = (1 - t) Q + 1 (t n - (1 - t) delta)' / N` with the least `t` that keeps it in
//!   the simplex, `t = max_c  max(delta_c, 0) / (n_c + max(delta_c, 0))`.

use crate::error::SolveError;
use crate::gated::Loss;

/// `f(z)`.
pub(super) fn value(loss: Loss, z: &[f64], y: &[f64]) -> f64 {
    let pairs = z.iter().zip(y);
    match loss {
        Loss::Squared => pairs.map(|(z, y)| 0.5 * (y - z).powi(2)).sum(),
        Loss::SquaredHinge => pairs.map(|(z, y)| 0.5 * shortfall(y * z).powi(2)).sum(),
        Loss::CrossEntropy if z.len() == 1 => {
            let m = y[0] * z[0];
            (-m).max(0.0) + (-m.abs()).exp().ln_1p()
        }
        Loss::CrossEntropy => {
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
            top + total.ln() - pairs.map(|(z, y)| z * y).sum::<f64>()
        }
    }
}

/// `f'(z)`, length `C`.
pub(super) fn gradient(loss: Loss, z: &[f64], y: &[f64]) -> Vec<f64> {
    let pairs = z.iter().zip(y);
    match loss {
        Loss::Squared => pairs.map(|(z, y)| z - y).collect(),
        Loss::SquaredHinge => pairs.map(|(z, y)| -y * shortfall(y * z)).collect(),
        Loss::CrossEntropy if z.len() == 1 => vec![-y[0] / (1.0 + (y[0] * z[0]).exp())],
        Loss::CrossEntropy => {
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
            pairs.map(|(z, y)| (z - top).exp() / total - y).collect()
        }
    }
}

/// `f*(g)`. `g` may leave the domain by rounding.
pub(super) fn conjugate(loss: Loss, g: &[f64], y: &[f64]) -> f64 {
    let pairs = g.iter().zip(y);
    match loss {
        Loss::Squared => pairs.map(|(g, y)| g * y + 0.5 * g * g).sum(),
        Loss::SquaredHinge => pairs.map(|(g, y)| 0.5 * g * g + y * g).sum(),
        Loss::CrossEntropy if g.len() == 1 => {
            let a = -y[0] * g[0];
            entropy(a) + entropy(1.0 - a)
        }
        Loss::CrossEntropy => pairs.map(|(g, y)| entropy(g + y)).sum(),
    }
}

/// The largest `s` for which `s g` is in the domain of `f*`, where `g` is.
pub(super) fn reach(loss: Loss, g: &[f64], y: &[f64]) -> f64 {
    match loss {
        Loss::Squared | Loss::SquaredHinge => f64::INFINITY,
        Loss::CrossEntropy if g.len() == 1 => 1.0 / (-y[0] * g[0]).max(f64::MIN_POSITIVE),
        Loss::CrossEntropy => {
            let falling = g.iter().zip(y).filter(|(g, _)| **g < 0.0);
            falling.map(|(g, y)| y / -g).fold(f64::INFINITY, f64::min)
        }
    }
}

/// Moves `g` (row-major `n x C`) within the domain of `f*` until its columns sum to zero.
pub(super) fn balance(loss: Loss, g: &mut [f64], y: &[f64], outputs: usize) {
    match loss {
        Loss::Squared => {
            crate::dense::centre(g, outputs);
        }
        Loss::CrossEntropy if outputs > 1 => mix(g, y, outputs),
        Loss::CrossEntropy | Loss::SquaredHinge => {
            (0..outputs).for_each(|c| equalise(g, y, outputs, c));
        }
    }
}

/// Scales down the class whose `a` have the larger sum, in column `c`.
fn equalise(g: &mut [f64], y: &[f64], outputs: usize, c: usize) {
    let (mut plus, mut minus) = (0.0, 0.0);
    let labels = || y.iter().skip(c).step_by(outputs);
    for (g, y) in g.iter().skip(c).step_by(outputs).zip(labels()) {
        *(if *y > 0.0 { &mut plus } else { &mut minus }) += g.abs();
    }
    let factor = |own: f64, other: f64| if own > other { other / own } else { 1.0 };
    let (of_plus, of_minus) = (factor(plus, minus), factor(minus, plus));
    for (g, y) in g.iter_mut().skip(c).step_by(outputs).zip(labels()) {
        *g *= if *y > 0.0 { of_plus } else { of_minus };
    }
}

/// Mixes the rows of `Q = G + Y` with one distribution.
fn mix(g: &mut [f64], y: &[f64], outputs: usize) {
    let samples = (y.len() / outputs) as f64;
    let sums = |v: &[f64]| -> Vec<f64> {
        let column = |c| v.iter().skip(c).step_by(outputs).sum();
        (0..outputs).map(column).collect()
    };
    let (delta, counts) = (sums(g), sums(y));
    let least = |(d, n): (&f64, &f64)| if *d > 0.0 { d / (n + d) } else { 0.0 };
    let t = delta.iter().zip(&counts).map(least).fold(0.0, f64::max);
    let common: Vec<f64> = delta
        .iter()
        .zip(&counts)
        .map(|(d, n)| ((t * n - (1.0 - t) * d) / samples).max(0.0))
        .collect();
    for (g, y) in g.chunks_exact_mut(outputs).zip(y.chunks_exact(outputs)) {
        for ((g, y), common) in g.iter_mut().zip(y).zip(&common) {
            *g = (1.0 - t) * (*g + y) + common - y;
        }
    }
}

/// The `b` that minimises `F(1 b')`: means, log odds, log shares, the difference of the classes' shares.
/// A class without samples gets a number so negative that its probability is 0.
pub(super) fn best_intercept(loss: Loss, y: &[f64], outputs: usize) -> Vec<f64> {
    let means = crate::dense::class_means(y, outputs);
    let log = |share: f64| share.max(f64::MIN_POSITIVE).ln();
    match loss {
        Loss::Squared | Loss::SquaredHinge => means,
        Loss::CrossEntropy if outputs == 1 => {
            vec![log(0.5 * (1.0 + means[0])) - log(0.5 * (1.0 - means[0]))]
        }
        Loss::CrossEntropy => means.into_iter().map(log).collect(),
    }
}

/// That targets are of the kind the loss asks for.
pub(super) fn check_targets(loss: Loss, y: &[f64], outputs: usize) -> Result<(), SolveError> {
    let one_hot = loss == Loss::CrossEntropy && outputs > 1;
    let (domain, allowed) = match loss {
        Loss::Squared => return Ok(()),
        Loss::CrossEntropy if one_hot => ("0 or 1 with softmax cross entropy", [0.0, 1.0]),
        Loss::CrossEntropy | Loss::SquaredHinge => ("-1 or 1 with this loss", [-1.0, 1.0]),
    };
    if let Some(got) = y.iter().find(|y| !allowed.contains(y)) {
        let (what, got) = ("target", *got);
        return Err(SolveError::Parameter { what, domain, got });
    }
    let mut sums = y
        .chunks_exact(outputs.max(1))
        .map(|y| y.iter().sum::<f64>());
    match sums.find(|sum| one_hot && ![1.0].contains(sum)) {
        Some(got) => Err(SolveError::Parameter {
            what: "sum of the targets of a row",
            domain: "1 with softmax cross entropy",
            got,
        }),
        None => Ok(()),
    }
}

/// `(1 - m)_+`.
fn shortfall(margin: f64) -> f64 {
    (1.0 - margin).max(0.0)
}

/// `q log q`, 0 at 0 and, for rounding, below.
fn entropy(q: f64) -> f64 {
    if q > 0.0 { q * q.ln() } else { 0.0 }
}
