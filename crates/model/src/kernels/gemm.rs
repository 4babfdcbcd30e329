//! Matrix products on borrowed strided matrices: a safe face on the `gemm` crate.
#![allow(unsafe_code)]

use crate::tensor::Scalar;

/// A borrowed strided matrix.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// `rows x cols`, row-major, consecutive rows `row_stride` apart.
    ///
    /// # Panics
    /// When the last entry lies outside `data`.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_extent(data.len(), rows, cols, row_stride);
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// `rows x cols`, row-major, without gaps.
    ///
    /// # Panics
    /// When the last entry lies outside `data`.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The transpose, without moving a number.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A borrowed row-major matrix to be written.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// `rows x cols`, row-major, consecutive rows `row_stride` apart.
    ///
    /// # Panics
    /// When the last entry lies outside `data`, or rows overlap.
    pub fn strided(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(
            row_stride >= cols || rows <= 1,
            "rows of a written matrix overlap"
        );
        check_extent(data.len(), rows, cols, row_stride);
        Self {
            data,
            rows,
            cols,
            row_stride,
        }
    }

    /// `rows x cols`, row-major, without gaps.
    ///
    /// # Panics
    /// When the last entry lies outside `data`.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }
}

fn check_extent(len: usize, rows: usize, cols: usize, row_stride: usize) {
    if rows > 0 && cols > 0 {
        assert!(
            (rows - 1) * row_stride + cols <= len,
            "matrix reaches beyond its data"
        );
    }
}

/// `C = A B`, or `C += A B` where `accumulate`, on the calling thread.
///
/// # Panics
/// When the sizes do not fit.
pub fn gemm<T: Scalar>(c: MatMut<'_, T>, accumulate: bool, a: Mat<'_, T>, b: Mat<'_, T>) {
    product(c, accumulate, a, b, gemm::Parallelism::None);
}

/// [`fn@gemm`] on all threads of the current pool.
///
/// # Panics
/// When the sizes do not fit.
pub fn gemm_parallel<T: Scalar>(c: MatMut<'_, T>, accumulate: bool, a: Mat<'_, T>, b: Mat<'_, T>) {
    product(c, accumulate, a, b, gemm::Parallelism::Rayon(0));
}

fn product<T: Scalar>(
    c: MatMut<'_, T>,
    accumulate: bool,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    parallelism: gemm::Parallelism,
) {
    assert!(
        c.rows == a.rows && c.cols == b.cols && a.cols == b.rows,
        "gemm: sizes do not fit"
    );
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    let alpha = if accumulate { T::ONE } else { T::ZERO };
    // SAFETY: `Mat` and `MatMut` check on construction that every index
    // `i * row_stride + j * col_stride` lies inside their slice; `c` is borrowed exclusively and
    // its rows do not overlap, so no entry is written through two indices or read while written.
    unsafe {
        gemm::gemm(
            c.rows,
            c.cols,
            a.cols,
            c.data.as_mut_ptr(),
            1,
            c.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            alpha,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convextune_testkit::Rng;

    fn naive(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
        let entry = |i: usize, j: usize| (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
        (0..m * n).map(|ij| entry(ij / n, ij % n)).collect()
    }

    #[test]
    fn equals_the_triple_loop() {
        let mut rng = Rng::new(1);
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (33, 17, 40), (2, 0, 3)] {
            let (a, b) = (rng.normals(m * k), rng.normals(k * n));
            let mut c = vec![1.0; m * n];
            gemm(
                MatMut::new(&mut c, m, n),
                true,
                Mat::new(&a, m, k),
                Mat::new(&b, k, n),
            );
            let want: Vec<f64> = naive(&a, &b, m, k, n).iter().map(|x| x + 1.0).collect();
            assert!(convextune_testkit::relative_error(&c, &want) < 1e-13);
        }
    }

    #[test]
    fn transposes_without_copying() {
        let mut rng = Rng::new(2);
        let (m, k, n) = (4, 6, 5);
        let (at, bt) = (rng.normals(k * m), rng.normals(n * k));
        let transpose = |x: &[f64], r: usize, c: usize| -> Vec<f64> {
            (0..r * c).map(|ij| x[(ij % r) * c + ij / r]).collect()
        };
        let mut c = vec![f64::NAN; m * n];
        gemm(
            MatMut::new(&mut c, m, n),
            false,
            Mat::new(&at, k, m).t(),
            Mat::new(&bt, n, k).t(),
        );
        let want = naive(&transpose(&at, k, m), &transpose(&bt, n, k), m, k, n);
        assert!(convextune_testkit::relative_error(&c, &want) < 1e-13);
    }

    #[test]
    #[should_panic(expected = "beyond its data")]
    fn refuses_a_matrix_larger_than_its_data() {
        let _ = Mat::new(&[0.0f32; 5], 2, 3);
    }
}
