//! `X X' / s^2`, `s^2` the mean squared length of a row of `X`, in the precision asked for.

use std::sync::OnceLock;

use faer::traits::RealField;
use faer::traits::math_utils::from_f64;
use faer::{Mat, MatRef};

use crate::factor::add_gram_lower;

/// The products of all outputs of a problem, made when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Grams {
    single: OnceLock<Mat<f32>>,
    double: OnceLock<Mat<f64>>,
}

/// The precision of a factor.
pub(crate) trait Precision: RealField + Copy {
    fn place(grams: &Grams) -> &OnceLock<Mat<Self>>;
}

impl Precision for f32 {
    fn place(grams: &Grams) -> &OnceLock<Mat<f32>> {
        &grams.single
    }
}

impl Precision for f64 {
    fn place(grams: &Grams) -> &OnceLock<Mat<f64>> {
        &grams.double
    }
}

impl Grams {
    /// `X X' / s^2`, the lower triangle.
    pub(crate) fn get<T: Precision>(&self, x: MatRef<'_, f64>, s: f64) -> &Mat<T> {
        T::place(self).get_or_init(|| {
            let rows = Mat::from_fn(x.nrows(), x.ncols(), |i, j| from_f64::<T>(x[(i, j)] / s));
            let mut gram = Mat::zeros(x.nrows(), x.nrows());
            add_gram_lower(&mut gram, rows.as_ref(), from_f64(1.0));
            gram
        })
    }
}
