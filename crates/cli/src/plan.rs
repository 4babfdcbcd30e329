//! From arguments to resolved plans: everything that can be decided before a file is touched.

pub mod nn;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use convextune::finetune::{
    BackboneWeight, FitOptions, Method, PreconditionerChoice, SolverChoice, WeightDecay,
};
use convextune::job::JobOptions;
use convextune::model_file::HEAD;

use crate::args::fit::{BackboneArgs, CompareArgs, DataArgs, FitArgs, ProblemArgs, SolverArgs};
use crate::args::{ReadArgs, RunArgs};
use crate::failure::wrong_usage;

/// A resolved `fit`.
pub struct FitPlan {
    /// What to train on.
    pub job: JobOptions,
    /// How.
    pub options: FitOptions,
    /// Where the model goes.
    pub output: Option<PathBuf>,
    /// Whether to continue from a checkpoint.
    pub resume: bool,
    /// Time between two checkpoints.
    pub checkpoint_every: Duration,
    /// How to print.
    pub run: RunArgs,
}

/// A resolved `compare`: one job, several fits.
pub struct ComparePlan {
    /// What to train on.
    pub job: JobOptions,
    /// How, once per method.
    pub fits: Vec<FitOptions>,
    /// How to print.
    pub run: RunArgs,
}

impl TryFrom<FitArgs> for FitPlan {
    type Error = anyhow::Error;

    fn try_from(args: FitArgs) -> Result<Self> {
        let options = FitOptions {
            keep_kernel: if args.output.is_some() {
                args.keep_kernel
            } else {
                Some(false)
            },
            ..options(args.method, &args.problem, &args.solver, &args.data)
        };
        check_stage(&args.backbone, options.linearize_from.as_deref())?;
        check_used(&[args.method], &options)?;
        Ok(Self {
            job: job(args.folder, &args.backbone, args.data, args.read),
            options,
            output: args.output,
            resume: args.resume,
            checkpoint_every: Duration::from_secs(args.checkpoint_every.into()),
            run: args.run,
        })
    }
}

impl TryFrom<CompareArgs> for ComparePlan {
    type Error = anyhow::Error;

    fn try_from(args: CompareArgs) -> Result<Self> {
        let fit = |method: &Method| options(*method, &args.problem, &args.solver, &args.data);
        let fits: Vec<FitOptions> = args.methods.iter().map(fit).collect();
        check_stage(&args.backbone, args.problem.linearize_from.as_deref())?;
        if let Some(options) = fits.first() {
            check_used(&args.methods, options)?;
        }
        Ok(Self {
            job: job(args.folder, &args.backbone, args.data, args.read),
            fits,
            run: args.run,
        })
    }
}

/// A named backbone tells its stages before its weights are read.
fn check_stage(args: &BackboneArgs, stage: Option<&str>) -> Result<()> {
    let (Some(backbone), Some(stage)) = (args.backbone, stage) else {
        return Ok(());
    };
    if HEAD.starts_with(stage) {
        return Ok(());
    }
    match backbone.graph().find(stage) {
        Ok(_) => Ok(()),
        Err(error) => Err(wrong_usage(format!(
            "--linearize-from: {}: {error}",
            backbone.name()
        ))),
    }
}

/// That no option is given that all methods, or the solver, would pass over.
fn check_used(methods: &[Method], options: &FitOptions) -> Result<()> {
    if options.linearize_from.is_some() && !methods.contains(&Method::Lqf) {
        let text = "--linearize-from: the methods fc and lqf-fc train the head alone; leave it out, or \
                    use --method lqf";
        return Err(wrong_usage(text.into()));
    }
    if options.keep_kernel == Some(true) && methods == [Method::Fc] {
        let text = "--keep-kernel: the logistic loss of --method fc has no kernel; leave it out, or use another method";
        return Err(wrong_usage(text.into()));
    }
    let idle = [PreconditionerChoice::Auto, PreconditionerChoice::None];
    if options.solver == SolverChoice::Dual && !idle.contains(&options.precondition) {
        let text = "--precondition: the closed form of --solver dual needs no preconditioner; leave one \
                    of the two out";
        return Err(wrong_usage(text.into()));
    }
    Ok(())
}

fn job(folder: PathBuf, backbone: &BackboneArgs, data: DataArgs, read: ReadArgs) -> JobOptions {
    JobOptions {
        folder,
        backbone: backbone.backbone.map(|b| b.name().to_owned()),
        weights: backbone.weights.clone(),
        image_size: data.image_size,
        holdout: data.holdout.unwrap_or_default(),
        test: data.test,
        cache_memory: read.cache_memory,
        skip_unreadable: read.skip_unreadable,
        seed: data.seed,
    }
}

fn options(
    method: Method,
    problem: &ProblemArgs,
    solver: &SolverArgs,
    data: &DataArgs,
) -> FitOptions {
    let weight_decay = match (problem.weight_decay, problem.lambda_total) {
        (Some(each), _) => WeightDecay::PerSample(each),
        (None, Some(total)) => WeightDecay::Total(total),
        (None, None) => WeightDecay::Auto,
    };
    let backbone_weight = match (problem.backbone_share, problem.backbone_scale) {
        (Some(share), _) => BackboneWeight::Share(share),
        (None, Some(scale)) => BackboneWeight::Scale(scale),
        (None, None) => BackboneWeight::Auto,
    };
    FitOptions {
        method,
        alpha: problem.alpha,
        leaky_slope: problem.leaky_slope,
        head_init: problem.head_init,
        backbone_weight,
        keep_f0: problem.keep_f0,
        linearize_from: problem.linearize_from.clone(),
        weight_decay,
        tolerance: solver.solver_tolerance,
        max_passes: solver.max_passes,
        solver: solver.solver,
        precondition: solver.precondition,
        sketch_size: solver.sketch_size,
        batch: data.batch,
        memory: data.memory,
        seed: data.seed,
        keep_kernel: Some(false),
    }
}
