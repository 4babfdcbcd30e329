//! Vector arithmetic that the solvers share. Sums run left to right in fixed chunks, so a result
//! does not depend on the number of threads.

use faer::MatMut;

/// Length of a partial sum; bounds the rounding error of long dot products.
const CHUNK: usize = 4096;

/// `<a, b>`; slices of equal length.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    let partial = |(x, y): (&[f64], &[f64])| x.iter().zip(y).map(|(p, q)| p * q).sum::<f64>();
    a.chunks(CHUNK).zip(b.chunks(CHUNK)).map(partial).sum()
}

/// `||a||^2`.
pub(crate) fn norm_squared(a: &[f64]) -> f64 {
    dot(a, a)
}

/// `||a||`.
pub(crate) fn norm(a: &[f64]) -> f64 {
    norm_squared(a).sqrt()
}

/// `y += alpha x`.
pub(crate) fn axpy(alpha: f64, x: &[f64], y: &mut [f64]) {
    debug_assert_eq!(x.len(), y.len());
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// `p = z + beta p`.
pub(crate) fn xpby(z: &[f64], beta: f64, p: &mut [f64]) {
    debug_assert_eq!(z.len(), p.len());
    for (p, z) in p.iter_mut().zip(z) {
        *p = z + beta * *p;
    }
}

/// `a / b`, and 0 for `0 / 0`, which is what a relative residual should be when there is nothing
/// to solve.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b }
}

/// Subtracts from every entry the mean of its class over the samples: `v <- P v` with
/// `P = (I - 11'/N) (x) I_C`, `v` sample-major. Returns the means.
pub(crate) fn centre(v: &mut [f64], classes: usize) -> Vec<f64> {
    let means = class_means(v, classes);
    for row in v.chunks_exact_mut(classes) {
        for (x, mean) in row.iter_mut().zip(&means) {
            *x -= mean;
        }
    }
    means
}

/// The mean over samples of each class of the sample-major vector `v`.
pub(crate) fn class_means(v: &[f64], classes: usize) -> Vec<f64> {
    let mut means = vec![0.0; classes];
    for row in v.chunks_exact(classes) {
        axpy(1.0, row, &mut means);
    }
    let samples = (v.len() / classes).max(1) as f64;
    for mean in &mut means {
        *mean /= samples;
    }
    means
}

/// Every column of a matrix through a function.
pub(crate) fn map_columns(m: MatMut<'_, f64>, f: impl Fn(&[f64]) -> Vec<f64>) {
    for mut column in m.col_iter_mut() {
        let before: Vec<f64> = column.as_ref().iter().copied().collect();
        column
            .as_mut()
            .iter_mut()
            .zip(f(&before))
            .for_each(|(x, y)| *x = y);
    }
}
