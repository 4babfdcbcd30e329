//! The linearised ridge problem end to end in f64: every way to solve it against the dense
//! solution.

use convextune_model::ops::{Activate, Add, AveragePool, Linear, MaxPool};
use convextune_solve::faer::linalg::solvers::Solve;
use convextune_solve::faer::{Mat, Side};
use convextune_solve::quadratic::{
    Identity, Intercept, KernelRidge, PcgOptions, Preconditioner, RidgeProblem, SketchForm,
    SketchedKernel, Start, solve_dual, solve_primal,
};
use convextune_solve::{Centred, Quiet, Solution, Status};

use super::*;

const SHAPE: Shape = Shape::new(1, 9, 8, 2);

const TIGHT: PcgOptions = PcgOptions {
    tolerance: 1e-11,
    max_iterations: 2000,
};

/// Every kind of trainable operator, with strides, padding, poolings and a sum between them.
fn every_operator() -> Network<f64> {
    let mut g = Graph::new(2);
    let activation = Activation::RELU.leaky(0.1);
    let square = WindowSpec::square;
    let conv = |window, (cin, cout), groups, bias| {
        Op::Conv2d(Conv2d {
            window,
            cin,
            cout,
            groups,
            bias,
        })
    };
    let bn = |channels| {
        Op::BatchNorm(BatchNorm {
            channels,
            eps: 1e-5,
            activation,
        })
    };
    let uneven = WindowSpec {
        kernel: [3, 2],
        stride: [1, 2],
        dilation: [1, 1],
        padding: Padding::Explicit {
            top: 1,
            bottom: 0,
            left: 0,
            right: 2,
        },
    };
    let stem = conv(square(3, 2, Padding::all(1)), (2, 4), 1, false);
    let x = g.push("stem.conv", stem, &[0]);
    let x = g.push("stem.bn", bn(4), &[x]);
    let window = square(2, 1, Padding::Same);
    let x = g.push("stem.pool", Op::MaxPool(MaxPool { window }), &[x]);
    let depthwise = conv(square(3, 1, Padding::Same), (4, 4), 4, false);
    let y = g.push("blocks.depthwise", depthwise, &[x]);
    let y = g.push("blocks.bn", bn(4), &[y]);
    let pointwise = conv(square(1, 1, Padding::Same), (4, 4), 1, true);
    let y = g.push("blocks.pointwise", pointwise, &[y]);
    let x = g.push("blocks.sum", Op::Add(Add { activation }), &[x, y]);
    let grouped = conv(uneven, (4, 6), 2, true);
    let x = g.push("last.grouped", grouped, &[x]);
    let x = g.push("last.leaky", Op::Activate(Activate { activation }), &[x]);
    let mean = AveragePool {
        window: square(2, 1, Padding::Same),
        count_padding: false,
    };
    let x = g.push("last.mean", Op::AveragePool(mean), &[x]);
    let x = g.push("pool", Op::GlobalAveragePool(GlobalAveragePool), &[x]);
    let linear = Linear {
        cin: 6,
        cout: 5,
        bias: true,
    };
    let x = g.push("hidden", Op::Linear(linear), &[x]);
    g.push("hidden.leaky", Op::Activate(Activate { activation }), &[x]);
    let count: usize = g.parameters().iter().map(|p| p.range.len()).sum();
    let mut rng = Rng::new(31);
    let parameters = (0..count).map(|_| 0.5 * rng.normal()).collect();
    let buffers = (0..16).map(|_| 0.5 + rng.uniform()).collect();
    Network::new(g, parameters, buffers).with_head("head", CLASSES, &rng.normals(5 * CLASSES))
}

fn images(n: usize, seed: u64) -> Vec<f64> {
    Rng::new(seed).normals(n * SHAPE.len())
}

/// J, `NC x D`, from products with unit vectors of the weights.
fn jacobian(lin: &Linearization<'_, f64>) -> Mat<f64> {
    let mut j = Mat::zeros(lin.rows(), lin.cols());
    let mut unit = vec![0.0; lin.cols()];
    for column in 0..lin.cols() {
        unit[column] = 1.0;
        lin.apply(&unit, j.col_as_slice_mut(column)).unwrap();
        unit[column] = 0.0;
    }
    j
}

fn entries(m: &Mat<f64>) -> Vec<f64> {
    (0..m.ncols())
        .flat_map(|j| m.col_as_slice(j).to_vec())
        .collect()
}

/// f is piecewise linear in each weight alone, so central differences err by rounding only.
#[test]
fn products_in_f64_equal_finite_differences() {
    let network = every_operator();
    let samples = Samples::memory(SHAPE, images(4, 32));
    let lin = Linearization::new(&network, 0, &samples, 3, &Silent).unwrap();
    let j = jacobian(&lin);
    let step = 1e-6;
    let shifted = |weight: usize, step: f64| {
        let mut network = network.clone();
        network.parameters_mut()[weight] += step;
        let lin = Linearization::new(&network, 0, &samples, 3, &Silent).unwrap();
        lin.f0().unwrap()
    };
    let mut differences = Mat::zeros(lin.rows(), lin.cols());
    for weight in 0..lin.cols() {
        let (above, below) = (shifted(weight, step), shifted(weight, -step));
        for (row, (a, b)) in above.iter().zip(&below).enumerate() {
            differences[(row, weight)] = (a - b) / (2.0 * step);
        }
    }
    let differences = entries(&differences);
    close("finite differences", &entries(&j), &differences, 1e-8);
}

#[test]
fn adjoint_and_kernel_in_f64_are_those_of_the_jacobian() {
    let network = every_operator();
    let samples = Samples::memory(SHAPE, images(4, 32));
    let lin = Linearization::new(&network, 0, &samples, 3, &Silent).unwrap();
    let j = jacobian(&lin);
    let mut adjoint = Mat::zeros(lin.cols(), lin.rows());
    let mut unit = vec![0.0; lin.rows()];
    for row in 0..lin.rows() {
        unit[row] = 1.0;
        let column = adjoint.col_as_slice_mut(row);
        lin.apply_adjoint(&unit, column).unwrap();
        unit[row] = 0.0;
    }
    let transpose = j.transpose().to_owned();
    close("adjoint", &entries(&adjoint), &entries(&transpose), 1e-13);
    let gram = &j * j.transpose();
    for memory in [1 << 20, 1 << 10] {
        let kernel = lin.kernel(memory).unwrap().kernel(1.0);
        close("kernel", &entries(&kernel), &entries(&gram), 1e-13);
    }
}

fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    let error = relative_error(got, want);
    assert!(error < tolerance, "{what}: {error}");
}

/// The centred ridge problem solved densely.
struct DenseRidge {
    u: Vec<f64>,
    bias: Vec<f64>,
}

impl DenseRidge {
    /// `u = (J'P J + Lambda I)^-1 J'P t` and the class means of `t - J u`.
    fn solve(j: &Mat<f64>, target: &[f64], lambda: f64) -> Self {
        let (rows, cols) = (j.nrows(), j.ncols());
        let samples = (rows / CLASSES) as f64;
        let p = Mat::from_fn(rows, rows, |a, b| {
            let same = f64::from(u8::from(a == b));
            let class = f64::from(u8::from(a % CLASSES == b % CLASSES));
            same - class / samples
        });
        let t = Mat::from_fn(rows, 1, |row, _| target[row]);
        let mut h = j.transpose() * &p * j;
        for d in 0..cols {
            h[(d, d)] += lambda;
        }
        let u = h.llt(Side::Lower).unwrap().solve(j.transpose() * &p * &t);
        let residual = &t - j * &u;
        let mut bias = vec![0.0; CLASSES];
        for row in 0..rows {
            bias[row % CLASSES] += residual[(row, 0)] / samples;
        }
        let u = u.col_as_slice(0).to_vec();
        Self { u, bias }
    }
}

/// A training set and unseen samples, both linearised.
struct Setting<'l, 'a> {
    train: &'l Linearization<'a, f64>,
    unseen: &'l Linearization<'a, f64>,
    /// J over the unseen samples.
    j_unseen: Mat<f64>,
    target: Vec<f64>,
    dense: DenseRidge,
}

impl Setting<'_, '_> {
    /// u and the predictions of unseen samples, bias included, against the dense ones.
    fn check(&self, what: &str, u: &[f64]) {
        close(&format!("{what}, u"), u, &self.dense.u, 1e-8);
        let centred = Centred::new(self.train, CLASSES).unwrap();
        let bias = centred.bias(&self.target, u).unwrap();
        close(&format!("{what}, b"), &bias, &self.dense.bias, 1e-8);
        let (f0, ju) = self.unseen.outputs_at(u).unwrap();
        let got: Vec<f64> = (0..ju.len())
            .map(|row| f0[row] + ju[row] + bias[row % CLASSES])
            .collect();
        let want: Vec<f64> = (0..ju.len())
            .map(|row| {
                let columns = 0..self.dense.u.len();
                let ju: f64 = columns
                    .map(|d| self.j_unseen[(row, d)] * self.dense.u[d])
                    .sum();
                f0[row] + ju + self.dense.bias[row % CLASSES]
            })
            .collect();
        close(&format!("{what}, predictions"), &got, &want, 1e-8);
    }

    fn check_solution(&self, what: &str, solution: &Solution) {
        assert_eq!(solution.status, Status::Converged, "{what}");
        self.check(&format!("{what} ({})", solution.iterations), &solution.x);
    }
}

/// Preconditioners need not be exact: the sketch and the curvature come from the network in f32.
#[test]
fn every_solver_finds_the_dense_ridge_solution() {
    let network = every_operator();
    let (train, unseen) = (images(30, 33), images(5, 34));
    let narrow = train.iter().map(|x| *x as f32).collect();
    let samples32 = Samples::memory(SHAPE, narrow);
    let network32 = network.cast::<f32>();
    let lin32 = Linearization::new(&network32, 0, &samples32, 16, &Silent).unwrap();
    let (train, unseen) = (
        Samples::memory(SHAPE, train),
        Samples::memory(SHAPE, unseen),
    );
    let lin = Linearization::new(&network, 0, &train, 16, &Silent).unwrap();
    let unseen = Linearization::new(&network, 0, &unseen, 5, &Silent).unwrap();
    let (j, j_unseen) = (jacobian(&lin), jacobian(&unseen));
    let mut target = lin.f0().unwrap();
    for (row, t) in target.iter_mut().enumerate() {
        let hot = (row / CLASSES) % CLASSES == row % CLASSES;
        *t = if hot { 15.0 } else { 0.0 } - *t;
    }
    let kernel = KernelRidge::new(
        lin.kernel(1 << 12).unwrap().kernel(1.0),
        CLASSES,
        Intercept::Free,
    )
    .unwrap();
    let centred = Centred::new(&lin, CLASSES).unwrap();
    for share in [0.03, 0.3] {
        let lambda = share * kernel.mean_diagonal();
        let setting = Setting {
            train: &lin,
            unseen: &unseen,
            j_unseen: j_unseen.clone(),
            target: target.clone(),
            dense: DenseRidge::solve(&j, &target, lambda),
        };
        let problem = RidgeProblem::new(&centred, centred.target(&target).unwrap(), lambda);
        let problem = problem.unwrap();
        closed_form(&kernel, &problem, &setting);
        primal(&lin32, &problem, &setting);
        dual(&lin32, &problem, &setting);
    }
}

/// `u = J'a` with `a` from one Cholesky factorisation of the exact kernel; the bias from the kernel.
fn closed_form(kernel: &KernelRidge, problem: &RidgeProblem<'_>, setting: &Setting<'_, '_>) {
    let factor = kernel.cholesky(problem.lambda()).unwrap();
    let a = factor.dual(&setting.target).unwrap();
    let mut u = vec![0.0; problem.operator().cols()];
    problem.operator().apply_adjoint(&a, &mut u).unwrap();
    setting.check("closed form", &u);
    let bias = kernel.bias(&setting.target, &a).unwrap();
    close("closed form, bias", &bias, &setting.dense.bias, 1e-8);
}

/// Conjugate gradients on the weights: without a preconditioner, with K-FAC, with EKFAC.
fn primal(lin32: &Linearization<'_>, problem: &RidgeProblem<'_>, setting: &Setting<'_, '_>) {
    let solve = |what: &str, preconditioner: &dyn Preconditioner| {
        let solution = solve_primal(problem, preconditioner, &TIGHT, Start::Zero, &mut Quiet);
        setting.check_solution(what, &solution.unwrap());
    };
    solve("primal", &Identity(problem.operator().cols()));
    for (what, rescale) in [("primal K-FAC", false), ("primal EKFAC", true)] {
        let options = CurvatureOptions {
            probes: 4,
            seed: 1,
            rescale,
        };
        let curvature = lin32.curvature(options).unwrap();
        solve(what, &curvature.preconditioner(problem.lambda()).unwrap());
    }
}

/// Conjugate gradients on the dual unknowns: without a preconditioner, and with the sketch, head
/// apart, in both its forms.
fn dual(lin32: &Linearization<'_>, problem: &RidgeProblem<'_>, setting: &Setting<'_, '_>) {
    let solve = |what: &str, preconditioner: &dyn Preconditioner| {
        let solution = solve_dual(problem, preconditioner, &TIGHT, Start::Zero, &mut Quiet);
        setting.check_solution(what, &solution.unwrap());
    };
    solve("dual", &Identity(problem.operator().rows()));
    let options = SketchOptions {
        buckets: 64,
        seed: 1,
        sketch_head: false,
    };
    let rows = lin32.sketch(options).unwrap();
    let width = rows.features.len() / lin32.samples().len();
    let phi = Mat::from_fn(lin32.samples().len(), width, |i, j| {
        f64::from(rows.features[i * width + j])
    });
    for (what, form) in [
        ("dual Gram sketch", SketchForm::Gram),
        ("dual Woodbury sketch", SketchForm::Woodbury),
    ] {
        let head = Some(phi.as_ref());
        let kernel = SketchedKernel::new(rows.sketch.clone(), head, Intercept::Free, form);
        let kernel = kernel.unwrap();
        solve(what, kernel.factorise(problem.lambda()).unwrap().as_ref());
    }
}
