//! A two-layer ReLU network, trained by descent on its weights.

use convextune_solve::gated::Neuron;
use convextune_testkit::{Rng, dot};

/// A two-layer ReLU network `x -> sum_i w2_i (x' w1_i)_+`, and its training by descent.
pub struct Network {
    first: Vec<Vec<f64>>,
    second: Vec<f64>,
}

impl Network {
    pub fn random(neurons: usize, d: usize, rng: &mut Rng) -> Self {
        let scale = 0.5;
        let mut normals = |k| rng.normals(k).iter().map(|z| scale * z).collect();
        Self {
            first: (0..neurons).map(|_| normals(d)).collect(),
            second: normals(neurons),
        }
    }

    /// `w1 = u / ||u||^(1/2)`, `w2 = +-||u||^(1/2)`.
    pub fn of(neurons: &[Neuron]) -> Self {
        let root = |n: &Neuron| dot(&n.weights, &n.weights).powf(0.25);
        let first = neurons.iter().map(|n| {
            let root = root(n);
            n.weights.iter().map(|u| u / root).collect()
        });
        Self {
            first: first.collect(),
            second: neurons.iter().map(|n| n.sign * root(n)).collect(),
        }
    }

    /// `1/(2n) ||f(X) - y||^2 + lambda/2 (||W1||^2 + ||w2||^2)`; takes a step of `rate` down its slope.
    pub fn step(&mut self, x: &[Vec<f64>], y: &[f64], lambda: f64, rate: f64) -> f64 {
        let n = y.len() as f64;
        let scores = |w: &Vec<f64>| -> Vec<f64> { x.iter().map(|x| dot(x, w)).collect() };
        let hidden: Vec<Vec<f64>> = self.first.iter().map(scores).collect();
        let residual: Vec<f64> = (0..y.len())
            .map(|s| {
                let units = hidden.iter().zip(&self.second);
                units.map(|(h, w)| w * h[s].max(0.0)).sum::<f64>() - y[s]
            })
            .collect();
        let squares = |w: &[f64]| dot(w, w);
        let weights = self.first.iter().map(|w| squares(w)).sum::<f64>() + squares(&self.second);
        let objective = squares(&residual) / (2.0 * n) + 0.5 * lambda * weights;
        for ((w1, w2), h) in self.first.iter_mut().zip(&mut self.second).zip(&hidden) {
            let old = *w2;
            let mut slope = lambda * *w2;
            w1.iter_mut().for_each(|w| *w -= rate * lambda * *w);
            for (s, h) in h.iter().enumerate().filter(|(_, h)| **h > 0.0) {
                slope += residual[s] * h / n;
                for (w, x) in w1.iter_mut().zip(&x[s]) {
                    *w -= rate * residual[s] * old * x / n;
                }
            }
            *w2 -= rate * slope;
        }
        objective
    }
}
