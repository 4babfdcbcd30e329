//! Linear quadratic fine-tuning: the network, linearised, fitted to its proven minimum.

use convextune_model::graph::{Network, NodeId, Split};
use convextune_model::ops::Op;
use convextune_model::tensor::Shape;
use convextune_solve::faer::{Mat, MatRef};
use convextune_solve::quadratic::{PcgOptions, RidgeProblem, Start};
use convextune_solve::{Centred, Certificate, LinearOperator, Scaled, Solution, Status, Work};
use serde::{Deserialize, Serialize};

use super::checkpoints::{Checkpoint, Checkpoints, Watch};
use super::descent::{Descent, DescentPoint};
use super::evidence::gather;
use super::features::{Features, targets};
use super::head::initial_head;
use super::left_out::LeftOut;
use super::lqf_model::LqfModel;
use super::options::{FitOptions, HeadInit};
use super::plan::{KERNEL_BYTES, Plan, Sizes, largest_kernel, multiply_adds, plan};
use super::prepared::{Statistics, statistics};
use super::prior::{LambdaSource, Prior, choose, iterations};
use crate::error::Error;
use crate::kept_kernel::KeptKernel;
use crate::linearize::{Copies, Linearization, batch_of_copies};
use crate::progress::Reporter;
use crate::samples::Samples;

/// Outputs of the frozen stages that are kept in memory, at most; beyond, every pass computes them
/// again.
const FROZEN_BYTES: usize = 4 << 30;

/// How the minimum was reached, and what is proved about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LqfRecord {
    /// Lambda.
    pub lambda: f64,
    /// Where it came from.
    pub lambda_source: LambdaSource,
    /// s, standard deviation of the backbone's weights under the prior, in units of the head's.
    pub backbone_scale: f64,
    /// Mean diagonal of the (sketched) centred kernel, if it was computed: the unit of Lambda.
    pub kernel_mean_diagonal: Option<f64>,
    /// Which way it was solved.
    pub plan: Plan,
    /// How the solver ended.
    pub status: Status,
    /// Recomputed at the returned point.
    pub certificate: Certificate,
    /// Iterations of the conjugate gradients.
    pub iterations: usize,
    /// How they came down, since the last time that the run was taken up.
    pub descent: Vec<DescentPoint>,
    /// Work of the solver alone, certificate included.
    pub solver_work: Work,
    /// Work of everything: head, preconditioner, solver, bias.
    pub work: Work,
    /// Exact leave-one-out error, a fraction; where every class has a copy of the weights and the
    /// kernel was formed.
    pub leave_one_out_error: Option<f64>,
    /// The same with one image of every other class left out as well.
    pub leave_one_of_each_out_error: Option<f64>,
    /// The backbone's mean diagonal in units of the head's.
    pub backbone_share: f64,
    /// Cost in forward passes over the data of choosing the prior, beyond the preconditioner's.
    pub prior_cost: f64,
    /// Cost in forward passes over the data of the preconditioner or kernel.
    pub preconditioner_cost: f64,
}

/// A fit's outcome.
#[derive(Clone, Debug)]
pub struct LqfFit {
    /// What predicts.
    pub model: LqfModel,
    /// What is known about it.
    pub record: LqfRecord,
    /// Outputs on the training samples, `N x C`.
    pub outputs: Mat<f64>,
    /// The dual kernel, where it was formed and is to be kept.
    pub kernel: Option<KeptKernel>,
}

/// Training data of a fit.
#[derive(Clone, Copy, Debug)]
pub struct TrainingSet<'a> {
    /// The images.
    pub samples: &'a Samples,
    /// Their labels, below `classes`.
    pub labels: &'a [usize],
    /// C.
    pub classes: usize,
}

/// Fits `backbone` (images to pooled features) with a new head to `data`.
///
/// # Errors
/// When a sample cannot be read, the stage to linearise from does not exist, or the problem has no
/// solution in floating point.
pub fn fit_lqf(
    backbone: &Network<f32>,
    data: TrainingSet<'_>,
    options: &FitOptions,
    checkpoints: &mut dyn Checkpoints,
    reporter: &dyn Reporter,
) -> Result<LqfFit, Error> {
    let network = with_initial_head(backbone, data, options, reporter)?;
    let first = first_trainable(&network, options)?;
    let copies = options.copies(data.classes);
    let batch = batch_of_copies(&network, first, options.batch, copies);
    let split = split_frozen(&network, first, data.samples)?;
    let frozen;
    let samples = if split.shift > 0 {
        reporter.stage("frozen stages", data.samples.len() as u64);
        frozen = data
            .samples
            .through(&split.prefix, options.batch, reporter)?;
        &frozen
    } else {
        data.samples
    };
    let trainable = first.saturating_sub(split.shift);
    let lin = Linearization::new(&split.suffix, trainable, samples, batch, reporter)?;
    let jacobian = Copies::new(&lin, copies)?;
    let solved = solve(&lin, &jacobian, data, options, checkpoints, reporter)?;
    let u = solved.solution.x.iter().map(|v| *v as f32).collect();
    let model = LqfModel {
        network,
        first_trainable: first,
        u,
        bias: solved.bias,
        keep_f0: options.keep_f0,
    };
    Ok(LqfFit {
        model,
        record: solved.record,
        outputs: solved.outputs,
        kernel: solved.kernel,
    })
}

/// The network cut before its first trained node, so that what comes before is computed once; left
/// whole (`shift` 0) where the outputs of the frozen stages would be too many to keep.
pub(crate) fn split_frozen(
    network: &Network<f32>,
    first: NodeId,
    samples: &Samples,
) -> Result<Split<f32>, Error> {
    let cut = network.graph().cut_before(first);
    let split = network.split(cut, samples.shape())?;
    if frozen_bytes(&split.prefix, samples) > FROZEN_BYTES {
        return Ok(network.split(0, samples.shape())?);
    }
    Ok(split)
}

/// Bytes of the frozen stages' outputs over all samples.
fn frozen_bytes(prefix: &Network<f32>, samples: &Samples) -> usize {
    let shapes = prefix.graph().shapes(samples.shape());
    let last = shapes.ok().and_then(|s| s.last().map(Shape::len));
    4 * samples.len() * last.unwrap_or(0)
}

/// Where training begins: where the options say, else with the last layer before the head where
/// every class has a copy of it, else at the input.
pub(crate) fn first_trainable(
    network: &Network<f32>,
    options: &FitOptions,
) -> Result<NodeId, Error> {
    let graph = network.graph();
    if let Some(stage) = &options.linearize_from {
        return Ok(graph.find(stage)?);
    }
    if options.head_init != HeadInit::Common {
        return Ok(0);
    }
    let body = &graph.nodes()[..graph.output()];
    let layer = |op: &Op| matches!(op, Op::Conv2d(_) | Op::Linear(_));
    Ok(body.iter().rposition(|node| layer(&node.op)).unwrap_or(0))
}

fn with_initial_head(
    backbone: &Network<f32>,
    data: TrainingSet<'_>,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Network<f32>, Error> {
    let features = match options.head_init {
        HeadInit::Common | HeadInit::Random => None,
        HeadInit::Ridge | HeadInit::Split => Some(Features::of(
            backbone,
            data.samples,
            options.batch,
            reporter,
        )?),
    };
    let shapes = backbone.graph().shapes(data.samples.shape())?;
    let width = shapes.last().map_or(0, |s| s.c);
    let head = initial_head(
        options.head_init,
        (features.as_ref(), width),
        (data.labels, data.classes),
        options.alpha,
        options.seed,
    )?;
    let rows = head.len() / width.max(1);
    Ok(backbone.with_head("head.classifier", rows, &head))
}

/// What [`solve`] finds.
struct Solved {
    solution: Solution,
    bias: Vec<f64>,
    outputs: Mat<f64>,
    record: LqfRecord,
    kernel: Option<KeptKernel>,
}

/// Minimises `1/2 ||P (t - J u)||^2 + (Lambda/2) (||u_head||^2 + ||u_back||^2 / s^2)` and adds the
/// best bias.
fn solve(
    lin: &Linearization<'_>,
    jacobian: &Copies<'_, '_>,
    data: TrainingSet<'_>,
    options: &FitOptions,
    checkpoints: &mut dyn Checkpoints,
    reporter: &dyn Reporter,
) -> Result<Solved, Error> {
    let n = data.samples.len();
    let classes = data.classes;
    let y = targets(data.labels, classes, options.alpha);
    let mut target: Vec<f64> = (0..n * classes)
        .map(|r| y[(r / classes, r % classes)])
        .collect();
    if options.keep_f0 {
        reporter.stage("initial outputs", n as u64);
        target
            .iter_mut()
            .zip(jacobian.f0()?)
            .for_each(|(t, f)| *t -= f);
    }
    let resumed = checkpoints.load();
    let decided = decide(lin, &target, data, options, resumed.as_ref(), reporter)?;
    let Decided { plan, prior, .. } = decided;
    let kernel = decided.statistics.kept(&prior, options.keep_kernel);
    let prepared = decided.statistics.prepare(lin, &prior)?;
    let scaled = Scaled::new(jacobian, jacobian.backbone_range(), prior.scale)?;
    let centred = Centred::new(&scaled, classes)?;
    let problem = RidgeProblem::new(&centred, centred.target(&target)?, prior.lambda)?;
    let start = resumed.map_or(Start::Zero, |c| Start::Resume(Box::new(c.state)));
    let before = lin.work();
    reporter.stage("solver", 0);
    let pcg = PcgOptions {
        tolerance: options.tolerance,
        max_iterations: options.max_passes / 2,
    };
    let mut observer = Watch {
        reporter,
        checkpoints,
        prior,
        plan,
        descent: Descent::default(),
    };
    let mut solution = prepared.solve(&problem, jacobian.copies(), &pcg, start, &mut observer)?;
    let solver_work = lin.work() - before;
    reporter.stage("training error", n as u64);
    scaled.scale(&mut solution.x);
    let (f0, ju) = jacobian.outputs_at(&solution.x)?;
    let inverse = prepared.inverse(prior.lambda, jacobian.copies())?;
    let left_out = inverse.map(|inverse| {
        let (m, target) = (
            inverse.matrix(),
            MatRef::from_row_major_slice(&target, n, classes),
        );
        LeftOut::of(m, (m * target).as_ref(), (&y, data.labels), options.seed)
    });
    let bias = class_means(&target, &ju, classes);
    let output = |i: usize, c: usize| {
        let r = i * classes + c;
        ju[r] + bias[c] + if options.keep_f0 { f0[r] } else { 0.0 }
    };
    let outputs = Mat::from_fn(n, classes, output);
    let record = LqfRecord {
        lambda: prior.lambda,
        lambda_source: prior.source,
        backbone_scale: prior.scale,
        kernel_mean_diagonal: Some(prior.unit),
        plan,
        status: solution.status,
        certificate: solution.certificate,
        iterations: solution.iterations,
        descent: observer.descent.into_points(),
        solver_work,
        work: lin.work(),
        preconditioner_cost: decided.preconditioner_cost,
        prior_cost: decided.prior_cost,
        leave_one_out_error: left_out.map(|errors| errors.leave_one_out),
        leave_one_of_each_out_error: left_out.and_then(|errors| errors.one_of_each),
        backbone_share: prior.share(),
    };
    Ok(Solved {
        solution,
        bias,
        outputs,
        record,
        kernel,
    })
}

/// How a problem will be solved, before the first iteration.
struct Decided {
    statistics: Statistics,
    prior: Prior,
    plan: Plan,
    preconditioner_cost: f64,
    prior_cost: f64,
}

/// The plan, what it needs computed, and the prior; after an interruption the same as before it.
fn decide(
    lin: &Linearization<'_>,
    target: &[f64],
    data: TrainingSet<'_>,
    options: &FitOptions,
    resumed: Option<&Checkpoint>,
    reporter: &dyn Reporter,
) -> Result<Decided, Error> {
    let spent = || cost(lin.work());
    let begin = spent();
    if let Some(&Checkpoint { prior, plan, .. }) = resumed {
        return Ok(Decided {
            statistics: statistics(lin, &plan, options, reporter)?,
            prior,
            plan,
            preconditioner_cost: spent() - begin,
            prior_cost: 0.0,
        });
    }
    let sizes = sizes(lin, options.copies(data.classes));
    let mut plan = plan(&sizes, options);
    let mut computed = statistics(lin, &plan, options, reporter)?;
    let with_statistics = spent();
    let evidence = gather(lin, &computed, data, options, reporter)?;
    let prior = choose(lin, &evidence, target, data, options, reporter)?;
    let with_prior = spent();
    reporter.note(&format!(
        "the backbone's kernel weighs {:.2} of the head's, Lambda is {:.1e} of the mean diagonal",
        prior.share(),
        prior.lambda / prior.unit,
    ));
    if plan.is_open() {
        let counted = iterations(&evidence, &prior, target, data.classes, options.tolerance)?;
        plan = plan.settled(&sizes, counted, options);
        computed = statistics(lin, &plan, options, reporter)?;
    }
    let prior_cost = with_prior - with_statistics;
    Ok(Decided {
        statistics: computed,
        prior,
        plan,
        preconditioner_cost: spent() - begin - prior_cost,
        prior_cost,
    })
}

/// Work in forward passes over the data, by the cost model of [`super::plan`].
pub(crate) fn cost(work: Work) -> f64 {
    work.passes + 2.0 * (work.jvps + work.vjps) as f64
}

/// What the plan depends on, with so many copies of the weights of `lin`.
pub(crate) fn sizes(lin: &Linearization<'_>, copies: usize) -> Sizes {
    let forward = multiply_adds(lin.network().graph(), lin.samples().shape()).max(1.0);
    Sizes {
        samples: lin.samples().len(),
        classes: lin.outputs(),
        copies,
        weights: lin.cols(),
        forward,
        kernel_runs: lin.kernel_passes(KERNEL_BYTES),
        largest_kernel: largest_kernel(copies > 1, true),
    }
}

/// The class means of `t - J u`.
fn class_means(target: &[f64], ju: &[f64], classes: usize) -> Vec<f64> {
    let n = (target.len() / classes) as f64;
    let mut means = vec![0.0; classes];
    for (r, (t, f)) in target.iter().zip(ju).enumerate() {
        means[r % classes] += (t - f) / n;
    }
    means
}
