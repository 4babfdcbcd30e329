//! From a dual point to a certified minimum.

use std::ops::ControlFlow;

use convextune_solve::faer::linalg::matmul::matmul;
use convextune_solve::faer::linalg::solvers::{Llt, Solve};
use convextune_solve::faer::{Accum, Mat, MatMut, MatRef, Side, get_global_parallelism};
use convextune_solve::quadratic::{
    Columns, PcgOptions, Preconditioner, RidgeProblem, Start, solve_dual,
};
use convextune_solve::{
    Centred, Certificate, LinearOperator, Observer, Progress, Scaled, SolveError, Status, Work,
};

use crate::error::Error;
use crate::finetune::{FitOptions, LeftOut};
use crate::influence::{Dual, Linearised, Setting};
use crate::linearize::Copies;
use crate::progress::Reporter;

/// The exact solution of the dual system over a training set: N samples, q rows each, p columns of
/// targets (see [`Dual`]).
pub(super) struct DualSolution {
    /// a, `Nq x p`.
    pub a: Mat<f64>,
    /// M, `Nq x Nq`.
    pub inverse: Mat<f64>,
    /// T, `Nq x p`.
    pub target: Mat<f64>,
    /// q.
    pub rows: usize,
    /// Lambda.
    pub lambda: f64,
    /// Mean diagonal of the centred kernel.
    pub mean_diagonal: f64,
    /// K, centred over these samples or more, `Nq x Nq`.
    kernel: Mat<f64>,
}

impl DualSolution {
    /// Over all samples of `dual`.
    pub fn of(dual: &Dual) -> Self {
        let all: Vec<usize> = (0..dual.samples()).collect();
        Self {
            a: dual.a().to_owned(),
            inverse: dual.inverse().to_owned(),
            target: dual.target().to_owned(),
            rows: dual.rows(),
            lambda: dual.lambda(),
            mean_diagonal: mean_diagonal(dual.kernel(), dual.rows(), &all),
            kernel: dual.kernel().to_owned(),
        }
    }

    /// Over the samples of `dual` that are not in `group`, in their order (equation 1 of the module).
    ///
    /// # Errors
    /// When `group` names a sample twice or one that is not there, or nothing is left.
    pub fn without(dual: &Dual, group: &[usize]) -> Result<Self, Error> {
        let removal = dual.removed(group)?;
        let q = dual.rows();
        let kept: Vec<usize> = (0..dual.samples()).filter(|i| !group.contains(i)).collect();
        let (r, g) = (rows_of(&kept, q), rows_of(group, q));
        let part = |m: MatRef<'_, f64>, rows: &[usize], columns: &[usize]| {
            Mat::from_fn(rows.len(), columns.len(), |i, j| m[(rows[i], columns[j])])
        };
        let m = dual.inverse();
        let within = part(m, &g, &g);
        let factor = Llt::new(within.as_ref(), Side::Lower).map_err(|_| {
            let (what, reason) = (
                "Cholesky of a leave-out block",
                "it is not positive definite to rounding; give a larger weight decay".into(),
            );
            SolveError::Factorisation { what, reason }
        })?;
        let (mut inverse, across) = (part(m, &r, &r), part(m, &r, &g));
        matmul(
            inverse.as_mut(),
            Accum::Add,
            across.as_ref(),
            factor.solve(across.transpose()).as_ref(),
            -1.0,
            get_global_parallelism(),
        );
        let (a, target, p) = (dual.a(), dual.target(), dual.target().ncols());
        Ok(Self {
            a: Mat::from_fn(r.len(), p, |i, c| a[(r[i], c)] - removal.dual[(r[i], c)]),
            inverse,
            target: Mat::from_fn(r.len(), p, |i, c| target[(r[i], c)]),
            rows: q,
            lambda: dual.lambda(),
            mean_diagonal: mean_diagonal(dual.kernel(), q, &kept),
            kernel: part(dual.kernel(), &r, &r),
        })
    }

    /// `sum over columns of x' K x` for `x` of `Nq x p`, row-major, without class means: what centring over more samples
    /// took from K vanishes between such columns.
    fn square(&self, x: &[f64]) -> f64 {
        let x = MatRef::from_row_major_slice(x, self.a.nrows(), self.a.ncols());
        let image = &self.kernel * x;
        let columns = x.col_iter().zip(image.col_iter());
        columns.map(|(x, image)| x.transpose() * image).sum()
    }

    /// Errors of fits without each sample, where there is one row a sample; `y`: targets of the outputs, `N x C`.
    pub fn left_out(&self, y: &Mat<f64>, labels: &[usize], seed: u64) -> Option<LeftOut> {
        let (m, a) = (self.inverse.as_ref(), self.a.as_ref());
        (self.rows == 1).then(|| LeftOut::of(m, a, (y, labels), seed))
    }
}

/// Rows of samples.
fn rows_of(samples: &[usize], q: usize) -> Vec<usize> {
    samples.iter().flat_map(|i| i * q..(i + 1) * q).collect()
}

/// Mean diagonal of a kernel of which some samples are taken, centred by their mean.
fn mean_diagonal(kernel: MatRef<'_, f64>, q: usize, samples: &[usize]) -> f64 {
    let n = samples.len() as f64;
    let of_class = |c: usize| {
        let row = |i: &usize| i * q + c;
        let trace: f64 = samples.iter().map(|i| kernel[(row(i), row(i))]).sum();
        let column = |j: &usize| {
            samples
                .iter()
                .map(|i| kernel[(row(i), row(j))])
                .sum::<f64>()
        };
        (trace - samples.iter().map(column).sum::<f64>() / n) / n
    };
    (0..q).map(of_class).sum::<f64>() / q as f64
}

/// The minimum over the samples of a linearised network.
pub(crate) struct Minimum {
    /// u; weight-major where every class has a copy.
    pub u: Vec<f64>,
    /// b, length C.
    pub bias: Vec<f64>,
    /// Outputs on the training samples, `N x C`.
    pub outputs: Mat<f64>,
    /// Computed at u.
    pub certificate: Certificate,
    pub status: Status,
    /// Of the conjugate gradients; 0 where the dual solution was good enough.
    pub iterations: usize,
    /// Of the certificate and the conjugate gradients.
    pub solver_work: Work,
}

/// The weights, bias and outputs that belong to `solution`, certified over the samples of `linearised`;
/// and conjugate gradients from there where the certificate misses the tolerance.
///
/// # Errors
/// When a sample cannot be read or the samples are not those of the solution.
pub(super) fn minimum(
    linearised: &Linearised,
    setting: &Setting,
    solution: &DualSolution,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Minimum, Error> {
    linearised.with(reporter, |lin| {
        let jacobian = Copies::new(lin, setting.copies)?;
        let scaled = Scaled::new(&jacobian, jacobian.backbone_range(), setting.scale)?;
        let centred = Centred::new(&scaled, setting.classes)?;
        let target = row_major(&solution.target);
        let problem = RidgeProblem::new(&centred, centred.target(&target)?, setting.lambda)?;
        let a = row_major(&solution.a);
        reporter.stage("certificate", 2 * lin.samples().len() as u64);
        let mut v = vec![0.0; centred.cols()];
        centred.apply_adjoint(&a, &mut v)?;
        let point = Point::at(&jacobian, &scaled, v)?;
        let residual = centred.target(&point.residual(&target))?;
        let certificate = Certificate::from_dual(&problem, &a, (point.square, &residual), |x| {
            solution.square(x)
        })?;
        // Both, since the gradient is that of a kernel which may be the file's.
        let most = certificate
            .relative_gradient_norm
            .max(certificate.suboptimality_bound_relative);
        if most <= options.tolerance {
            let solver_work = lin.work();
            return Ok(point.minimum(setting, &target, certificate, solver_work));
        }
        reporter.stage("solver", 0);
        let pcg = PcgOptions {
            tolerance: options.tolerance,
            max_iterations: options.max_passes / 2,
        };
        let mut observer = watch(reporter);
        let columns = Columns(solution, solution.a.ncols());
        let solved = solve_dual(&problem, &columns, &pcg, Start::Warm(a), &mut observer)?;
        let solver_work = lin.work();
        reporter.stage("training error", lin.samples().len() as u64);
        let point = Point::at(&jacobian, &scaled, solved.x)?;
        Ok(Minimum {
            status: solved.status,
            iterations: solved.iterations,
            ..point.minimum(setting, &target, solved.certificate, solver_work)
        })
    })
}

/// A point, and what the linearised network says there.
pub(super) struct Point {
    u: Vec<f64>,
    /// `||S^-1 u||^2`.
    square: f64,
    /// f0, length NC.
    f0: Vec<f64>,
    /// J u, length NC.
    ju: Vec<f64>,
}

impl Point {
    /// Of `v = S^-1 u`; one product with J.
    pub fn at(
        jacobian: &Copies<'_, '_>,
        scaled: &Scaled<'_>,
        mut v: Vec<f64>,
    ) -> Result<Self, Error> {
        let square = v.iter().map(|v| v * v).sum();
        scaled.scale(&mut v);
        let (f0, ju) = jacobian.outputs_at(&v)?;
        Ok(Self {
            u: v,
            square,
            f0,
            ju,
        })
    }

    /// `T - J u` for targets `T`, both `N x C`, row-major.
    fn residual(&self, target: &[f64]) -> Vec<f64> {
        target.iter().zip(&self.ju).map(|(t, f)| t - f).collect()
    }

    /// With the bias, which is the class means of the residual, and the outputs on the training samples.
    pub fn minimum(
        self,
        setting: &Setting,
        target: &[f64],
        certificate: Certificate,
        solver_work: Work,
    ) -> Minimum {
        let classes = setting.classes;
        let n = target.len() / classes;
        let residual = self.residual(target);
        let mean = |c: usize| residual.iter().skip(c).step_by(classes).sum::<f64>() / n as f64;
        let bias: Vec<f64> = (0..classes).map(mean).collect();
        let output = |i: usize, c: usize| {
            let r = i * classes + c;
            self.ju[r] + bias[c] + if setting.keep_f0 { self.f0[r] } else { 0.0 }
        };
        Minimum {
            outputs: Mat::from_fn(n, classes, output),
            u: self.u,
            bias,
            certificate,
            status: Status::Converged,
            iterations: 0,
            solver_work,
        }
    }
}

/// Passes the iterations on.
pub(super) fn watch(reporter: &dyn Reporter) -> impl Observer + '_ {
    |progress: &Progress<'_>| {
        reporter.iteration(&progress.record);
        ControlFlow::Continue(())
    }
}

fn row_major(m: &Mat<f64>) -> Vec<f64> {
    let p = m.ncols();
    (0..m.nrows() * p).map(|k| m[(k / p, k % p)]).collect()
}

/// `(P K P + Lambda I)^-1 = M + B B'/(N Lambda)`.
impl Preconditioner for DualSolution {
    fn dim(&self) -> usize {
        self.inverse.nrows()
    }

    fn apply(&self, r: &[f64], z: &mut [f64]) {
        z.copy_from_slice(r);
        let rows = z.len();
        self.apply_columns(MatMut::from_column_major_slice_mut(z, rows, 1));
    }

    fn apply_columns(&self, mut r: MatMut<'_, f64>) {
        let (q, n) = (self.rows, r.nrows() / self.rows);
        let image = &self.inverse * r.as_ref();
        for (column, image) in r.as_mut().col_iter_mut().zip(image.col_iter()) {
            let sum = |c: usize| column.as_ref().iter().skip(c).step_by(q).sum::<f64>();
            let sums: Vec<f64> = (0..q).map(sum).collect();
            for (i, (z, image)) in column.iter_mut().zip(image.iter()).enumerate() {
                *z = image + sums[i % q] / (n as f64 * self.lambda);
            }
        }
    }
}
