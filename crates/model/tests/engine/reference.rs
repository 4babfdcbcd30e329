//! The reference engine: a network's value and tangent by loops over its operators' definitions,
//! on numbers that carry their derivative. No tiles, no threads, no fusion, f64 only.

use convextune_model::graph::{Graph, Network};
use convextune_model::kernels::patches::Window;
use convextune_model::ops::{Activation, BatchNorm, Conv2d, Linear, Op, Role};
use convextune_model::tensor::Shape;

/// A number and its derivative in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dual {
    pub value: f64,
    pub slope: f64,
}

impl Dual {
    fn times(self, other: Self) -> Self {
        Self {
            value: self.value * other.value,
            slope: self.value * other.slope + self.slope * other.value,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            slope: self.slope + other.slope,
        }
    }
}

/// An NHWC tensor of dual numbers.
#[derive(Clone, Debug)]
pub struct Field {
    pub shape: Shape,
    pub numbers: Vec<Dual>,
}

impl Field {
    /// Values without derivatives.
    pub fn constant(shape: Shape, values: &[f64]) -> Self {
        let numbers = values.iter().map(|v| Dual {
            value: *v,
            slope: 0.0,
        });
        Self {
            shape,
            numbers: numbers.collect(),
        }
    }

    pub fn values(&self) -> Vec<f64> {
        self.numbers.iter().map(|n| n.value).collect()
    }

    pub fn slopes(&self) -> Vec<f64> {
        self.numbers.iter().map(|n| n.slope).collect()
    }

    fn at(&self, n: usize, h: usize, w: usize, c: usize) -> Dual {
        self.numbers[((n * self.shape.h + h) * self.shape.w + w) * self.shape.c + c]
    }

    /// A field of `shape` whose entry (n, h, w, c) is `f(n, h, w, c)`.
    fn build(shape: Shape, f: impl Fn(usize, usize, usize, usize) -> Dual) -> Self {
        let mut numbers = Vec::with_capacity(shape.len());
        for n in 0..shape.n {
            for h in 0..shape.h {
                for w in 0..shape.w {
                    numbers.extend((0..shape.c).map(|c| f(n, h, w, c)));
                }
            }
        }
        Self { shape, numbers }
    }
}

/// y[o, co] = b[co] + sum over taps and the group's channels of x[o s + k d - p, ci] w[k, ci, co].
pub fn convolve(conv: &Conv2d, w: &[Dual], x: &Field) -> Field {
    let window = conv.window_on(x.shape).unwrap();
    let Window {
        kernel: [kh, kw],
        output,
        ..
    } = window;
    let depth = conv.cin / conv.groups;
    let shape = Shape::new(x.shape.n, output[0], output[1], conv.cout);
    Field::build(shape, |n, oh, ow, co| {
        let group = co / (conv.cout / conv.groups);
        let mut sum = Dual::default();
        if conv.bias {
            sum = w[kh * kw * depth * conv.cout + co];
        }
        for (k, l) in (0..kh * kw).map(|t| (t / kw, t % kw)) {
            let (Some(h), Some(v)) = (window.source(0, oh, k), window.source(1, ow, l)) else {
                continue;
            };
            for ci in 0..depth {
                let weight = w[((k * kw + l) * depth + ci) * conv.cout + co];
                sum = sum.plus(x.at(n, h, v, group * depth + ci).times(weight));
            }
        }
        sum
    })
}

fn activate(activation: Activation, z: Dual) -> Dual {
    let cap = activation.cap.map_or(f64::INFINITY, f64::from);
    let (value, slope) = if z.value < 0.0 {
        let below = f64::from(activation.below);
        (below * z.value, below)
    } else if z.value > cap {
        let above = f64::from(activation.above);
        (cap + above * (z.value - cap), above)
    } else {
        (z.value, 1.0)
    };
    Dual {
        value,
        slope: slope * z.slope,
    }
}

fn normalise(norm: &BatchNorm, w: &[Dual], statistics: &[f64], x: &Field) -> Field {
    let c = norm.channels;
    Field::build(x.shape, |n, h, v, j| {
        let inverse = 1.0 / (statistics[c + j] + norm.eps).sqrt();
        let x = x.at(n, h, v, j);
        let normal = Dual {
            value: (x.value - statistics[j]) * inverse,
            slope: x.slope * inverse,
        };
        activate(norm.activation, normal.times(w[j]).plus(w[c + j]))
    })
}

fn connect(linear: &Linear, w: &[Dual], x: &Field) -> Field {
    let shape = Shape::new(x.shape.n, 1, 1, linear.cout);
    Field::build(shape, |n, _, _, o| {
        let mut sum = Dual::default();
        if linear.bias {
            sum = w[linear.cin * linear.cout + o];
        }
        for i in 0..linear.cin {
            sum = sum.plus(x.numbers[n * linear.cin + i].times(w[i * linear.cout + o]));
        }
        sum
    })
}

/// The mean over the image.
fn average(x: &Field) -> Field {
    let Shape { n, h, w, c } = x.shape;
    let part = Dual {
        value: 1.0 / (h * w) as f64,
        slope: 0.0,
    };
    Field::build(Shape::new(n, 1, 1, c), |n, _, _, j| {
        let pixels = (0..h * w).map(|p| x.at(n, p / w, p % w, j).times(part));
        pixels.fold(Dual::default(), Dual::plus)
    })
}

/// The network's output and its tangent in the direction `v` of all its weights.
///
/// # Panics
/// At operators that the tests' networks do not have.
pub fn evaluate(network: &Network<f64>, v: &[f64], x: Field) -> Field {
    let graph: &Graph = network.graph();
    let mut fields = vec![x];
    for (id, node) in graph.nodes().iter().enumerate().skip(1) {
        let range = network.parameter_range(id);
        let w: Vec<Dual> = range
            .map(|i| Dual {
                value: network.parameters()[i],
                slope: v[i],
            })
            .collect();
        let x = &fields[node.inputs[0]];
        fields.push(match &node.op {
            Op::Conv2d(conv) => convolve(conv, &w, x),
            Op::BatchNorm(norm) => normalise(norm, &w, network.node_weights(id).buffers, x),
            Op::Activate(act) => Field::build(x.shape, |n, h, v, c| {
                activate(act.activation, x.at(n, h, v, c))
            }),
            Op::Add(add) => {
                let other = &fields[node.inputs[1]];
                Field::build(x.shape, |n, h, v, c| {
                    activate(add.activation, x.at(n, h, v, c).plus(other.at(n, h, v, c)))
                })
            }
            Op::GlobalAveragePool(_) => average(x),
            Op::Linear(linear) => connect(linear, &w, x),
            other => panic!("the reference engine has no {other:?}"),
        });
    }
    fields.pop().unwrap()
}

/// Numbers of order one for every weight of a graph, and positive variances.
pub fn filled(graph: Graph, mut normal: impl FnMut() -> f64) -> Network<f64> {
    let mut parameters = Vec::new();
    for p in graph.parameters() {
        let fan_in = p.dims[..p.dims.len() - 1].iter().product::<usize>().max(1);
        let scale = (1.0 / fan_in as f64).sqrt();
        parameters.extend((0..p.range.len()).map(|_| match p.role {
            Role::Kernel => 1.4 * scale * normal(),
            Role::Gamma => 1.0 + 0.2 * normal(),
            Role::Bias | Role::Beta => 0.2 * normal(),
        }));
    }
    let mut buffers = Vec::new();
    for node in graph.nodes() {
        if let Op::BatchNorm(norm) = &node.op {
            buffers.extend((0..norm.channels).map(|_| 0.3 * normal()));
            buffers.extend((0..norm.channels).map(|_| 0.5 + normal().abs()));
        }
    }
    Network::new(graph, parameters, buffers)
}
