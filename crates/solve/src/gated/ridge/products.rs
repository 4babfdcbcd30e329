//! The system of equation 1 of [`super`] for many samples: the kernel in single precision, conjugate gradients for all
//! outputs side by side, preconditioned by a Nyström approximation of the kernel that serves every `lambda`.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, get_global_parallelism};

use super::kernel;
use crate::dense::centre;
use crate::error::SolveError;
use crate::gated::Problem;
use crate::operator::OperatorError;
use crate::quadratic::pcg::SymmetricOperator;
use crate::quadratic::{NystroemPreconditioner, PcgOptions, Preconditioner, solve_several};

/// Rank of the Nyström approximation, at most.
const RANK: usize = 300;
/// Iterations allowed.
const MOST: usize = 500;

/// The kernel and its approximation.
#[derive(Clone, Debug)]
pub(super) struct Products {
    kernel: Mat<f32>,
    /// Whether the kernel is `P K P`.
    pub(super) centred: bool,
    nystroem: NystroemPreconditioner,
}

impl Products {
    pub(super) fn new(problem: &Problem) -> Result<Self, SolveError> {
        let kernel = kernel::single(problem);
        let (n, centred) = (kernel.nrows(), problem.intercept);
        let rank = RANK.min(n.div_ceil(8));
        let omega = NystroemPreconditioner::test_matrix(n, rank, &mut draws());
        let y = product(&kernel, centred, &omega);
        let nystroem =
            NystroemPreconditioner::from_products(&omega, y, 1.0, f64::from(f32::EPSILON))?;
        Ok(Self {
            kernel,
            centred,
            nystroem,
        })
    }

    /// `K v`, or `P K P v`.
    pub(super) fn product(&self, v: &Mat<f64>) -> Mat<f64> {
        product(&self.kernel, self.centred, v)
    }

    /// `1'K/n v` of every column: what the outputs are above those of the centred kernel.
    pub(super) fn means(&self, v: &Mat<f64>) -> Vec<f64> {
        let image = product(&self.kernel, false, v);
        let mean = |c| image.col_as_slice(c).iter().sum::<f64>() / image.nrows() as f64;
        (0..image.ncols()).map(mean).collect()
    }

    /// `(K + shift I)^-1 b`, or `(P K P + shift I)^-1 P b`, to a relative residual.
    pub(super) fn solve(
        &mut self,
        b: &Mat<f64>,
        shift: f64,
        tolerance: f64,
    ) -> Result<Mat<f64>, SolveError> {
        self.nystroem.set_shift(shift);
        let mut b = b.clone();
        if self.centred {
            centre_columns(&mut b);
        }
        let k = b.ncols();
        let system = System {
            products: self,
            shift,
            columns: k,
        };
        let options = PcgOptions {
            tolerance,
            max_iterations: MOST,
        };
        let b = row_major(&b);
        let solved = solve_several(&system, &Approximate(&self.nystroem, k), &b, k, &options)?;
        let mut a = by_column(&solved.x, k);
        if self.centred {
            centre_columns(&mut a);
        }
        Ok(a)
    }
}

/// `K + shift I` on every column.
struct System<'a> {
    products: &'a Products,
    shift: f64,
    columns: usize,
}

impl SymmetricOperator for System<'_> {
    fn dim(&self) -> usize {
        self.products.kernel.nrows() * self.columns
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        let image = self.products.product(&by_column(x, self.columns));
        y.copy_from_slice(&row_major(&image));
        y.iter_mut().zip(x).for_each(|(y, x)| *y += self.shift * x);
        Ok(())
    }
}

/// The Nyström approximation for all columns in one product.
struct Approximate<'a>(&'a NystroemPreconditioner, usize);

impl Preconditioner for Approximate<'_> {
    fn dim(&self) -> usize {
        self.0.dim() * self.1
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        let image = self.0.apply_columns(&by_column(r, self.1));
        z.copy_from_slice(&row_major(&image));
    }
}

/// `K v`, or `P K P v`, in single precision.
fn product(kernel: &Mat<f32>, centred: bool, v: &Mat<f64>) -> Mat<f64> {
    let mut v = v.clone();
    if centred {
        centre_columns(&mut v);
    }
    // Numbers of the size of 1.
    let size = v.norm_max().max(f64::MIN_POSITIVE);
    let narrow = Mat::from_fn(v.nrows(), v.ncols(), |s, c| (v[(s, c)] / size) as f32);
    let mut image = Mat::<f32>::zeros(v.nrows(), v.ncols());
    let par = get_global_parallelism();
    matmul(&mut image, Accum::Replace, kernel, &narrow, 1.0, par);
    let mut wide = Mat::from_fn(v.nrows(), v.ncols(), |s, c| size * f64::from(image[(s, c)]));
    if centred {
        centre_columns(&mut wide);
    }
    wide
}

fn centre_columns(v: &mut Mat<f64>) {
    for c in 0..v.ncols() {
        centre(v.col_as_slice_mut(c), 1);
    }
}

fn row_major(m: &Mat<f64>) -> Vec<f64> {
    let k = m.ncols();
    (0..m.nrows() * k).map(|i| m[(i / k, i % k)]).collect()
}

fn by_column(x: &[f64], k: usize) -> Mat<f64> {
    Mat::from_fn(x.len() / k, k, |s, c| x[s * k + c])
}

/// Numbers of mean 0 and variance 1, always the same: sums of twelve uniform ones.
fn draws() -> impl FnMut() -> f64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        let uniform = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..12).map(uniform).sum::<f64>() - 6.0
    }
}
