//! Tiles against triple loops.

use super::*;
use convextune_testkit::{Rng, relative_error};

fn products<T: Scalar>(tolerance: f64) {
    let mut rng = Rng::new(5);
    let cast = |x: Vec<f64>| -> Vec<T> { x.iter().map(|x| T::from_f64(*x)).collect() };
    let wide = |x: &[T]| -> Vec<f64> { x.iter().map(|x| x.to_f64()).collect() };
    for (m, run, n) in [(1, 1, 1), (14, 3, 32), (29, 17, 70), (6, 40, 31), (5, 0, 4)] {
        let taps = [4, 0, 2 * run];
        let (k, width) = (3 * run, 3 * run + 4);
        let (a, b) = (cast(rng.normals(m * width + 3)), cast(rng.normals(k * n)));
        let base: Vec<usize> = (0..m).map(|i| (m - 1 - i) * width + 1).collect();
        let panels = pack(k, n, |p| &b[p * n..(p + 1) * n]);
        for accumulate in [false, true] {
            let stride = n + 3;
            let start = cast(rng.normals(m * stride));
            let mut c = start.clone();
            let want: Vec<f64> = (0..m * stride)
                .map(|ij| {
                    let (i, j) = (ij / stride, ij % stride);
                    if j >= n {
                        return start[ij].to_f64();
                    }
                    let a = |p: usize| a[base[i] + taps[p / run] + p % run].to_f64();
                    let kept = if accumulate { start[ij].to_f64() } else { 0.0 };
                    kept + (0..k).map(|p| a(p) * b[p * n + j].to_f64()).sum::<f64>()
                })
                .collect();
            Rows {
                x: &a,
                base: &base,
                taps: &taps,
                run,
                panels: &panels,
                panel_stride: panel_width::<T>() * k,
                cols: n,
                c: &mut c,
                stride,
                accumulate,
            }
            .run();
            assert!(relative_error(&wide(&c), &want) < tolerance);
        }
    }
}

#[test]
fn rows_equal_the_triple_loop() {
    products::<f64>(1e-14);
    products::<f32>(1e-6);
}

#[test]
fn columns_equal_the_triple_loop() {
    let mut rng = Rng::new(6);
    for (m, k, n) in [(1, 1, 1), (14, 3, 16), (33, 20, 41), (16, 5, 7), (3, 9, 32)] {
        let (x, g) = (rng.normals(k * (m + 1)), rng.normals(k * (n + 3)));
        let x_base: Vec<usize> = (0..k).map(|p| p * (m + 1)).collect();
        let g_base: Vec<usize> = (0..k).rev().map(|p| p * (n + 3) + 3).collect();
        let stride = n + 2;
        let mut c = vec![1.0; m * stride];
        Columns {
            x: &x,
            x_base: &x_base,
            rows: m,
            g: &g,
            g_base: &g_base,
            cols: n,
            c: &mut c,
            stride,
        }
        .run();
        for (i, c) in c.chunks(stride).enumerate() {
            for (j, c) in c.iter().enumerate() {
                let product = |p: usize| x[x_base[p] + i] * g[g_base[p] + j];
                let want = if j < n {
                    1.0 + (0..k).map(product).sum::<f64>()
                } else {
                    1.0
                };
                assert!((c - want).abs() < 1e-12, "{c} is not {want}");
            }
        }
    }
}
