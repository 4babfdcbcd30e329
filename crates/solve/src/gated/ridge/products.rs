//! The system of equation 1 of [`super`] for many samples: the kernel, mostly in single precision, conjugate gradients for all
//! outputs side by side, preconditioned by a Nyström approximation of the kernel that serves every `lambda`.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, get_global_parallelism};

use super::kernel;
use crate::dense::centre;
use crate::error::SolveError;
use crate::factor::row_major;
use crate::gated::Problem;
use crate::operator::OperatorError;
use crate::quadratic::pcg::SymmetricOperator;
use crate::quadratic::{NystroemPreconditioner, PcgOptions, Preconditioner, solve_several};

/// Rank of the Nyström approximation, at most.
const RANK: usize = 300;
/// Iterations allowed.
const MOST: usize = 500;

/// The kernel in one of two precisions.
#[derive(Debug)]
enum Entries {
    Single(Mat<f32>),
    Double(Mat<f64>),
}

impl Entries {
    fn samples(&self) -> usize {
        match self {
            Self::Single(k) => k.nrows(),
            Self::Double(k) => k.nrows(),
        }
    }

    /// Of an entry.
    fn precision(&self) -> f64 {
        match self {
            Self::Single(_) => f64::from(f32::EPSILON),
            Self::Double(_) => f64::EPSILON,
        }
    }

    /// `K v`.
    fn product(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        let kernel = match self {
            Self::Double(kernel) => return kernel * v,
            Self::Single(kernel) => kernel,
        };
        // Numbers of the size of 1.
        let size = v.norm_max().max(f64::MIN_POSITIVE);
        let narrow = Mat::from_fn(v.nrows(), v.ncols(), |s, c| (v[(s, c)] / size) as f32);
        let mut image = Mat::<f32>::zeros(v.nrows(), v.ncols());
        let par = get_global_parallelism();
        matmul(&mut image, Accum::Replace, kernel, &narrow, 1.0, par);
        Mat::from_fn(v.nrows(), v.ncols(), |s, c| size * f64::from(image[(s, c)]))
    }
}

/// The kernel and its approximation.
#[derive(Debug)]
pub(in crate::gated) struct Products {
    kernel: Entries,
    /// Whether the kernel is `P K P`.
    pub(super) centred: bool,
    nystroem: NystroemPreconditioner,
}

impl Products {
    /// Of `K`, or of `P K P`; in single precision.
    pub(in crate::gated) fn new(problem: &Problem, centred: bool) -> Result<Self, SolveError> {
        Self::of(Entries::Single(kernel::single(problem)), centred)
    }

    /// Of `K`, in double precision up to so many samples.
    pub(in crate::gated) fn within(problem: &Problem, double: usize) -> Result<Self, SolveError> {
        if problem.matrix.samples() > double {
            return Self::new(problem, false);
        }
        Self::of(Entries::Double(kernel::double(problem)), false)
    }

    fn of(kernel: Entries, centred: bool) -> Result<Self, SolveError> {
        let (n, precision) = (kernel.samples(), kernel.precision());
        let rank = RANK.min(n.div_ceil(8));
        let omega = NystroemPreconditioner::test_matrix(n, rank, &mut draws());
        let y = product(&kernel, centred, omega.as_ref());
        let nystroem = NystroemPreconditioner::from_products(&omega, y, 1.0, precision)?;
        Ok(Self {
            kernel,
            centred,
            nystroem,
        })
    }

    /// `K v`, or `P K P v`.
    pub(in crate::gated) fn product(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        product(&self.kernel, self.centred, v)
    }

    /// `B` of the approximation `B B'`.
    pub(in crate::gated) fn square_root(&self) -> Mat<f64> {
        self.nystroem.square_root()
    }

    /// The relative precision of the kernel's entries.
    pub(in crate::gated) fn precision(&self) -> f64 {
        self.kernel.precision()
    }

    /// The mean of the diagonal of `K`.
    pub(in crate::gated) fn mean_diagonal(&self) -> f64 {
        let n = self.kernel.samples();
        let entry = |s| match &self.kernel {
            Entries::Single(k) => f64::from(k[(s, s)]),
            Entries::Double(k) => k[(s, s)],
        };
        (0..n).map(entry).sum::<f64>() / n as f64
    }

    /// `K a`, or `P K P a` for columns of mean zero; and what centring took from the columns of `K a`.
    pub(super) fn fitted(&self, a: &Mat<f64>) -> (Mat<f64>, Vec<f64>) {
        let mut image = product(&self.kernel, false, a.as_ref());
        let above = if self.centred {
            centre_columns(&mut image)
        } else {
            vec![0.0; a.ncols()]
        };
        (image, above)
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
        let mut flat = vec![0.0; b.nrows() * k];
        MatMut::from_row_major_slice_mut(&mut flat, b.nrows(), k).copy_from(&b);
        let preconditioner = Approximate(&self.nystroem, k);
        let solved = solve_several(&system, &preconditioner, &flat, k, &options, &mut |_, _| {})?;
        let mut a = row_major(&solved.x, b.nrows(), k).to_owned();
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
        self.products.kernel.samples() * self.columns
    }

    fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
        let Products {
            kernel, centred, ..
        } = self.products;
        let (n, k) = (kernel.samples(), self.columns);
        let image = product(kernel, *centred, row_major(x, n, k));
        MatMut::from_row_major_slice_mut(y, n, k).copy_from(&image);
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
        let image = self.0.apply_columns(row_major(r, self.0.dim(), self.1));
        MatMut::from_row_major_slice_mut(z, self.0.dim(), self.1).copy_from(&image);
    }
}

/// `K v`, or `P K P v`.
fn product(kernel: &Entries, centred: bool, v: MatRef<'_, f64>) -> Mat<f64> {
    if !centred {
        return kernel.product(v);
    }
    let mut v = v.to_owned();
    centre_columns(&mut v);
    let mut image = kernel.product(v.as_ref());
    centre_columns(&mut image);
    image
}

/// Takes the columns' means, and returns them.
fn centre_columns(v: &mut Mat<f64>) -> Vec<f64> {
    let columns = 0..v.ncols();
    columns
        .flat_map(|c| centre(v.col_as_slice_mut(c), 1))
        .collect()
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
