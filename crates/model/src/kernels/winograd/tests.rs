//! The fast algorithm against the direct sum.

use super::*;
use crate::kernels::convolution::Convolution;
use crate::kernels::finish::nothing;
use convextune_testkit::{Rng, dot, relative_error};

/// Both ways of the same convolution.
struct Pair {
    fast: Winograd,
    direct: Convolution,
    images: usize,
}

fn pair(images: usize, input: [usize; 2], pad: usize, cin: usize, cout: usize) -> Pair {
    let window = Window {
        input,
        output: input.map(|i| i + 2 * pad - 2),
        kernel: [3, 3],
        stride: [1, 1],
        pad: [pad, pad],
        dilation: [1, 1],
    };
    Pair {
        fast: Winograd {
            window,
            cin,
            cout,
            images,
            // Small, so that every pass takes several chunks and blocks.
            limits: Limits {
                block: 1 << 13,
                chunk: 1 << 10,
                back: 1,
            },
        },
        direct: Convolution {
            window,
            cin,
            cout,
            groups: 1,
        },
        images,
    }
}

/// Sizes that tiles cover exactly and not, one pixel, channels beside whole vectors and tiles.
fn pairs() -> Vec<Pair> {
    vec![
        pair(2, [8, 8], 1, 16, 32),
        pair(3, [7, 10], 1, 20, 37),
        pair(1, [3, 5], 0, 3, 5),
        pair(1, [1, 2], 1, 17, 70),
        pair(2, [6, 9], 2, 5, 18),
    ]
}

fn numbers<T: Scalar>(rng: &mut Rng, len: usize) -> Vec<T> {
    rng.normals(len).into_iter().map(T::from_f64).collect()
}

fn wide<T: Scalar>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

fn agrees<T: Scalar>(tolerance: f64) {
    let mut rng = Rng::new(7);
    for p in pairs() {
        let Winograd {
            window, cin, cout, ..
        } = p.fast;
        let (nx, nw) = (
            p.images * window.input[0] * window.input[1] * cin,
            9 * cin * cout,
        );
        let ny = p.images * window.pixels() * cout;
        let mut random = |len| numbers::<T>(&mut rng, len);
        let (x, dx, w, dw) = (random(nx), random(nx), random(nw), random(nw));
        let (g, start) = (random(ny), random(ny));
        let check = |fast: &[T], direct: &[T], what: &str| {
            let error = relative_error(&wide(fast), &wide(direct));
            assert!(error < tolerance, "{what} of {window:?}: {error:e}");
        };
        for accumulate in [false, true] {
            let (mut a, mut b) = (start.clone(), start.clone());
            let operands = Operands {
                inputs: &[&x],
                weights: &[&w],
                crossed: &[],
                accumulate,
            };
            p.fast.products(&operands, (&mut a, None), None, &nothing);
            p.direct
                .run((&x, &w), (None, None), (&mut b, None), None, &nothing);
            if accumulate {
                b.iter_mut().zip(&start).for_each(|(b, s)| *b += *s);
            }
            check(&a, &b, "forward");
            let (mut a, mut b) = (dx.clone(), dx.clone());
            p.fast.adjoint_input(&g, &w, accumulate, &mut a);
            p.direct.adjoint_input(&g, &w, accumulate, &mut b);
            check(&a, &b, "adjoint to the input");
        }
        for (dx, dw) in [(Some(&dx), Some(&dw)), (Some(&dx), None), (None, Some(&dw))] {
            let (mut y, mut a, mut b) = (start.clone(), start.clone(), start.clone());
            let tangent = (dx.map(Vec::as_slice), dw.map(Vec::as_slice));
            p.fast
                .run((&x, &w), tangent, (&mut y, Some(&mut a)), None, &nothing);
            p.direct
                .run((&x, &w), tangent, (&mut y, Some(&mut b)), None, &nothing);
            check(&a, &b, "tangent");
        }
        let (mut a, mut b) = (dw.clone(), dw.clone());
        p.fast.adjoint_weights(&x, &g, 1, &mut a);
        p.direct.adjoint_weights(&x, &g, 1, &mut b);
        check(&a, &b, "adjoint to the weights");
        let gg: Vec<T> = [g.as_slice(), start.as_slice()].concat();
        let (mut a, mut b) = (dw.clone(), dw.clone());
        p.fast.adjoint_weights(&x, &gg, 2, &mut a);
        p.direct.adjoint_weights(&x, &gg, 2, &mut b);
        check(&a, &b, "adjoint of two gradients to the weights");
    }
}

#[test]
fn all_passes_equal_the_direct_sum() {
    agrees::<f64>(1e-13);
    agrees::<f32>(1e-5);
}

/// <y, P(x) dW> = <P(x)' y, dW>, over several blocks and chunks.
#[test]
fn the_weight_gradient_is_the_adjoint() {
    let mut rng = Rng::new(8);
    let p = pair(2, [10, 10], 1, 18, 70);
    assert!(
        p.fast.blocks().count() > 1 && p.fast.chunk() < 70,
        "one block only"
    );
    let (x, dw) = (rng.normals(200 * 18), rng.normals(9 * 18 * 70));
    let y = rng.normals(200 * 70);
    let mut image = vec![0.0; y.len()];
    let mut z = y.clone();
    let tangent = (None, Some(dw.as_slice()));
    p.fast.run(
        (&x, &dw),
        tangent,
        (&mut z, Some(&mut image)),
        None,
        &nothing,
    );
    let mut gw = vec![0.0; dw.len()];
    p.fast.adjoint_weights(&x, &y, 1, &mut gw);
    let (a, b) = (dot(&image, &y), dot(&gw, &dw));
    assert!(
        (a - b).abs() < 1e-11 * a.abs().max(b.abs()).max(1.0),
        "{a} is not {b}"
    );
}
