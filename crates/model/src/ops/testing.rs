//! One check for every operator: its four passes agree with each other and with differences.

use convextune_testkit::{Rng, dot, relative_error};

use super::{Cotangent, GradientSlot, NodeWeights, Operator, Primal};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// Random numbers of an operator: weights, frozen statistics (positive), inputs and tangents.
struct Sample {
    weights: Vec<f64>,
    dweights: Vec<f64>,
    buffers: Vec<f64>,
    x: Vec<Tensor<f64>>,
    dx: Vec<Tensor<f64>>,
    output: Shape,
}

impl Sample {
    fn draw(op: &dyn Operator<f64>, inputs: &[Shape]) -> Self {
        let mut rng = Rng::new(7);
        let count = op.parameters().iter().map(super::ParameterShape::len).sum();
        let tensor = |s: &Shape, rng: &mut Rng| Tensor::from_vec(*s, rng.normals(s.len()));
        Self {
            weights: rng.normals(count),
            dweights: rng.normals(count),
            buffers: (0..op.buffers()).map(|_| 0.5 + rng.uniform()).collect(),
            x: inputs.iter().map(|s| tensor(s, &mut rng)).collect(),
            dx: inputs.iter().map(|s| tensor(s, &mut rng)).collect(),
            output: op.output_shape(inputs).unwrap(),
        }
    }

    fn weights<'a>(&'a self, parameters: &'a [f64]) -> NodeWeights<'a, f64> {
        NodeWeights {
            parameters,
            buffers: &self.buffers,
        }
    }

    /// F(x + t dx; w + t dw).
    fn moved(&self, op: &dyn Operator<f64>, t: f64) -> Vec<f64> {
        let step = |a: &[f64], b: &[f64]| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| a + t * b).collect()
        };
        let w = step(&self.weights, &self.dweights);
        let moved = |(x, dx): (&Tensor<f64>, &Tensor<f64>)| {
            Tensor::from_vec(x.shape(), step(x.data(), dx.data()))
        };
        let x: Vec<Tensor<f64>> = self.x.iter().zip(&self.dx).map(moved).collect();
        let views: Vec<View<'_, f64>> = x.iter().map(Tensor::view).collect();
        let mut y = Tensor::from_vec(self.output, vec![f64::NAN; self.output.len()]);
        op.forward(self.weights(&w), &views, &mut y);
        y.into_vec()
    }

    fn dual(&self, op: &dyn Operator<f64>) -> (Vec<f64>, Vec<f64>) {
        let x: Vec<View<'_, f64>> = self.x.iter().map(Tensor::view).collect();
        let dx: Vec<Option<View<'_, f64>>> = self.dx.iter().map(|t| Some(t.view())).collect();
        let nan = || Tensor::from_vec(self.output, vec![f64::NAN; self.output.len()]);
        let (mut y, mut dy) = (nan(), nan());
        op.dual(
            self.weights(&self.weights),
            Some(&self.dweights),
            &x,
            &dx,
            &mut y,
            &mut dy,
        );
        (y.into_vec(), dy.into_vec())
    }

    /// Both adjoints of `repeat` gradients a sample: per-input gradients, weight gradient.
    fn adjoint(
        &self,
        op: &dyn Operator<f64>,
        g: &Tensor<f64>,
        repeat: usize,
        accumulate: bool,
    ) -> (Vec<Tensor<f64>>, Vec<f64>) {
        let views: Vec<View<'_, f64>> = self.x.iter().map(Tensor::view).collect();
        let y = Tensor::from_vec(self.output, self.moved(op, 0.0));
        let start = if accumulate { 1.0 } else { f64::NAN };
        let blank = |x: &Tensor<f64>| {
            let shape = x.shape().with_n(x.shape().n * repeat);
            Tensor::from_vec(shape, vec![start; shape.len()])
        };
        let mut gx: Vec<Tensor<f64>> = self.x.iter().map(blank).collect();
        let mut slots: Vec<Option<GradientSlot<'_, f64>>> = gx
            .iter_mut()
            .map(|gx| Some(GradientSlot { gx, accumulate }))
            .collect();
        let w = self.weights(&self.weights);
        let primal = Primal {
            inputs: &views,
            output: y.view(),
        };
        let g = Cotangent {
            g: g.view(),
            repeat,
        };
        op.adjoint_input(w, primal, g, &mut slots);
        let mut gw = vec![0.0; self.weights.len()];
        op.adjoint_weights(w, primal, g, &mut gw);
        (gx, gw)
    }
}

/// Runs `op` forward on random numbers; returns weights, inputs and output.
pub fn forward(
    op: &dyn Operator<f64>,
    inputs: &[Shape],
) -> (Vec<f64>, Vec<Tensor<f64>>, Tensor<f64>) {
    let sample = Sample::draw(op, inputs);
    let y = Tensor::from_vec(sample.output, sample.moved(op, 0.0));
    (sample.weights, sample.x, y)
}

/// Applies an operator without weights.
pub fn apply(op: &dyn Operator<f64>, x: &Tensor<f64>) -> Tensor<f64> {
    let mut y = Tensor::zeros(op.output_shape(&[x.shape()]).unwrap());
    op.forward(
        NodeWeights {
            parameters: &[],
            buffers: &[],
        },
        &[x.view()],
        &mut y,
    );
    y
}

/// The tangent equals central differences, the adjoints are the tangent's adjoint (also when they
/// accumulate, and with three gradients a sample), all in f64; and f32 agrees with f64.
pub fn check_operator<O: Operator<f64> + Operator<f32>>(op: &O, inputs: &[Shape]) {
    let s = Sample::draw(op, inputs);
    let (y, dy) = s.dual(op);
    assert_eq!(y, s.moved(op, 0.0), "dual and forward disagree");
    let h = 1e-6;
    let (plus, minus) = (s.moved(op, h), s.moved(op, -h));
    let quotient: Vec<f64> = plus
        .iter()
        .zip(&minus)
        .map(|(p, m)| (p - m) / (2.0 * h))
        .collect();
    let error = relative_error(&dy, &quotient);
    assert!(error < 1e-7, "tangent differs from differences by {error}");

    let mut rng = Rng::new(11);
    let g = Tensor::from_vec(s.output, rng.normals(s.output.len()));
    let (gx, gw) = s.adjoint(op, &g, 1, false);
    let pairing = |gx: &[Tensor<f64>], gw: &[f64]| -> f64 {
        let inputs = gx
            .iter()
            .zip(&s.dx)
            .map(|(gx, dx)| dot(gx.data(), dx.data()));
        inputs.sum::<f64>() + dot(gw, &s.dweights)
    };
    let (left, right) = (dot(&dy, g.data()), pairing(&gx, &gw));
    let scale = dot(&dy, &dy).sqrt() * dot(g.data(), g.data()).sqrt();
    assert!(
        (left - right).abs() <= 1e-12 * scale,
        "adjoint identity: {left} is not {right}"
    );

    let (sums, _) = s.adjoint(op, &g, 1, true);
    for (gx, sum) in gx.iter().zip(&sums) {
        let want: Vec<f64> = gx.data().iter().map(|x| x + 1.0).collect();
        assert!(
            relative_error(sum.data(), &want) < 1e-12,
            "accumulation differs"
        );
    }
    check_repeat(&s, op, 3);
    check_f32(&s, op, &y);
}

/// `repeat` gradients a sample give what each of them gives alone.
fn check_repeat(s: &Sample, op: &dyn Operator<f64>, repeat: usize) {
    let mut rng = Rng::new(13);
    let many = s.output.with_n(s.output.n * repeat);
    let g = Tensor::from_vec(many, rng.normals(many.len()));
    let (gx, gw) = s.adjoint(op, &g, repeat, false);
    let mut total = vec![0.0; gw.len()];
    for r in 0..repeat {
        let image = s.output.image_len();
        let pick = |i: usize| &g.data()[(i * repeat + r) * image..][..image];
        let one = (0..s.output.n)
            .flat_map(|i| pick(i).iter().copied())
            .collect();
        let (gx1, gw1) = s.adjoint(op, &Tensor::from_vec(s.output, one), 1, false);
        total.iter_mut().zip(&gw1).for_each(|(t, g)| *t += g);
        for (gx, gx1) in gx.iter().zip(&gx1) {
            for i in 0..gx1.shape().n {
                let (a, b) = (gx.view().image(i * repeat + r), gx1.view().image(i));
                assert!(
                    relative_error(a.data, b.data) < 1e-12,
                    "repeated gradients differ"
                );
            }
        }
    }
    assert!(
        gw.is_empty() || relative_error(&gw, &total) < 1e-12,
        "repeated weight gradients differ"
    );
}

fn check_f32(s: &Sample, op: &dyn Operator<f32>, y64: &[f64]) {
    let cast = |v: &[f64]| -> Vec<f32> { v.iter().map(|x| *x as f32).collect() };
    let x: Vec<Tensor<f32>> = s.x.iter().map(Tensor::cast).collect();
    let views: Vec<View<'_, f32>> = x.iter().map(Tensor::view).collect();
    let mut y = Tensor::zeros(s.output);
    let (parameters, buffers) = (cast(&s.weights), cast(&s.buffers));
    op.forward(
        NodeWeights {
            parameters: &parameters,
            buffers: &buffers,
        },
        &views,
        &mut y,
    );
    let y: Vec<f64> = y.data().iter().map(|v| v.to_f64()).collect();
    assert!(relative_error(&y, y64) < 1e-5, "f32 and f64 disagree");
}
