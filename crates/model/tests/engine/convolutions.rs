//! Random convolutions against their definition.

use convextune_model::ops::{
    Conv2d, Cotangent, GradientSlot, NodeWeights, Operator, Padding, ParameterShape, Primal,
    WindowSpec,
};
use convextune_model::tensor::{Scalar, Shape, Tensor, View};
use convextune_testkit::{Rng, dot, relative_error};

use crate::on_every_path;
use crate::reference::{Dual, Field, convolve};

/// A convolution, an input that it fits, and random numbers for a pass.
struct Case {
    conv: Conv2d,
    shape: Shape,
    repeat: usize,
}

fn below(rng: &mut Rng, n: usize) -> usize {
    (rng.next_u64() % n as u64) as usize
}

/// All kinds in turn: dense, fast 3 x 3, grouped, depthwise; every kernel, stride, dilation, border.
fn draw(rng: &mut Rng, i: usize) -> Case {
    let many = [1, 3, 16, 17, 24, 33, 48];
    let channels = |rng: &mut Rng| many[below(rng, many.len())];
    let (cin, cout, groups) = match i % 4 {
        0 => (channels(rng), channels(rng), 1),
        1 => (16 + below(rng, 20), 16 + below(rng, 60), 1),
        2 => {
            let groups = 2 + below(rng, 3);
            (
                groups * (1 + below(rng, 9)),
                groups * (1 + below(rng, 40)),
                groups,
            )
        }
        _ => {
            let c = 2 + channels(rng);
            (c, c, c)
        }
    };
    let three = i % 4 == 1;
    let side = |rng: &mut Rng| if three { 3 } else { 1 + below(rng, 5) };
    let kernel = [side(rng), side(rng)];
    let step = |rng: &mut Rng, most: usize| if three { 1 } else { 1 + below(rng, most) };
    let window = WindowSpec {
        kernel,
        stride: [step(rng, 3), step(rng, 3)],
        dilation: [step(rng, 2), step(rng, 2)],
        padding: match below(rng, 3) {
            0 => Padding::Same,
            1 => Padding::all(below(rng, 3)),
            _ => Padding::Explicit {
                top: below(rng, 4),
                bottom: below(rng, 3),
                left: below(rng, 3),
                right: below(rng, 4),
            },
        },
    };
    // Large enough for one window.
    let reach = |axis: usize| (window.kernel[axis] - 1) * window.dilation[axis] + 1;
    let side = |rng: &mut Rng, axis: usize| reach(axis) + below(rng, 14);
    let shape = Shape::new(1 + below(rng, 3), side(rng, 0), side(rng, 1), cin);
    Case {
        conv: Conv2d {
            window,
            cin,
            cout,
            groups,
            bias: below(rng, 2) == 0,
        },
        shape,
        repeat: 1 + below(rng, 2),
    }
}

fn cast<T: Scalar>(x: &[f64]) -> Vec<T> {
    x.iter().map(|x| T::from_f64(*x)).collect()
}

fn wide<T: Scalar>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// Every pass of one case, in number type `T`.
fn check<T: Scalar>(case: &Case, rng: &mut Rng, tolerance: f64) {
    let Case {
        conv,
        shape,
        repeat,
    } = case;
    let op: &dyn Operator<T> = conv;
    let (x, dx) = (rng.normals(shape.len()), rng.normals(shape.len()));
    let count = op.parameters().iter().map(ParameterShape::len).sum();
    let (w, dw) = (rng.normals(count), rng.normals(count));
    let duals = |a: &[f64], b: &[f64]| -> Vec<Dual> {
        let pair = |(value, slope): (&f64, &f64)| Dual {
            value: *value,
            slope: *slope,
        };
        a.iter().zip(b).map(pair).collect()
    };
    let field = Field {
        shape: *shape,
        numbers: duals(&x, &dx),
    };
    let want = convolve(conv, &duals(&w, &dw), &field);

    let parameters: Vec<T> = cast(&w);
    let weights = NodeWeights {
        parameters: &parameters,
        buffers: &[],
    };
    let (dw_t, x_t, dx_t): (Vec<T>, Vec<T>, Vec<T>) = (cast(&dw), cast(&x), cast(&dx));
    let view = |data| View {
        shape: *shape,
        data,
    };
    let unwritten = |s: Shape| Tensor::from_vec(s, vec![T::from_f64(f64::NAN); s.len()]);
    let (mut y, mut dy) = (unwritten(want.shape), unwritten(want.shape));
    let inputs = [view(&x_t)];
    op.forward(weights, &inputs, &mut y);
    let error = relative_error(&wide(y.data()), &want.values());
    assert!(
        error < tolerance,
        "forward of {conv:?} on {shape}: {error:e}"
    );
    let tangents = [Some(view(&dx_t))];
    op.dual(weights, Some(&dw_t), &inputs, &tangents, &mut y, &mut dy);
    let error = relative_error(&wide(dy.data()), &want.slopes());
    assert!(
        error < tolerance,
        "tangent of {conv:?} on {shape}: {error:e}"
    );

    // <J (dx, dw), g> = <dx, gx> + <dw, gw>, gradient by gradient.
    let g_shape = want.shape.with_n(want.shape.n * repeat);
    let g = rng.normals(g_shape.len());
    let g_t: Vec<T> = cast(&g);
    let cotangent = Cotangent {
        g: View {
            shape: g_shape,
            data: &g_t,
        },
        repeat: *repeat,
    };
    let primal = Primal {
        inputs: &inputs,
        output: y.view(),
    };
    let mut gx = unwritten(shape.with_n(shape.n * repeat));
    let slot = GradientSlot {
        gx: &mut gx,
        accumulate: false,
    };
    op.adjoint_input(weights, primal, cotangent, &mut [Some(slot)]);
    let mut gw = vec![T::ZERO; count];
    op.adjoint_weights(weights, primal, cotangent, &mut gw);
    let repeated = |x: &[f64], image: usize| -> Vec<f64> {
        let images = x.chunks_exact(image);
        images.flat_map(|x| x.repeat(*repeat)).collect()
    };
    let slopes = repeated(&want.slopes(), want.shape.image_len());
    let left = dot(&slopes, &g);
    let right = dot(&repeated(&dx, shape.image_len()), &wide(gx.data())) + dot(&dw, &wide(&gw));
    let size = dot(&slopes, &slopes).sqrt() * dot(&g, &g).sqrt();
    let error = (left - right).abs() / size.max(f64::MIN_POSITIVE);
    assert!(
        error < tolerance,
        "adjoint of {conv:?} on {shape}: {error:e}"
    );
}

#[test]
fn random_convolutions_agree_with_their_definition() {
    on_every_path(|limit| {
        let mut rng = Rng::new(20 + limit as u64);
        for i in 0..120 {
            let case = draw(&mut rng, i);
            if case.conv.window_on(case.shape).is_err() {
                continue;
            }
            check::<f32>(&case, &mut rng, 1e-5);
            check::<f64>(&case, &mut rng, 1e-13);
        }
    });
}

/// Cases that random ones seldom meet: a border on one side of a pointwise kernel, and distances
/// between pixels that fall on one set of the cache.
#[test]
fn rare_convolutions_agree_with_their_definition() {
    let case = |kernel: usize, stride, [top, bottom, left, right]: [usize; 4], cin, cout| Case {
        conv: Conv2d {
            window: WindowSpec::square(
                kernel,
                stride,
                Padding::Explicit {
                    top,
                    bottom,
                    left,
                    right,
                },
            ),
            cin,
            cout,
            groups: 1,
            bias: false,
        },
        shape: Shape::new(2, 4, 3, cin),
        repeat: 1,
    };
    on_every_path(|_| {
        let mut rng = Rng::new(30);
        for case in [
            case(1, 1, [0, 0, 0, 1], 3, 4),
            case(1, 1, [0, 1, 0, 0], 3, 4),
            case(1, 1, [0; 4], 1024, 5),
            case(1, 2, [0; 4], 512, 7),
            case(3, 2, [1, 0, 0, 1], 512, 3),
            case(3, 1, [1; 4], 1024, 17),
        ] {
            check::<f32>(&case, &mut rng, 1e-5);
            check::<f64>(&case, &mut rng, 1e-13);
        }
    });
}
