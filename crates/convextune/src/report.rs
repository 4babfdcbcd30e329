//! The figures of a fit, as plain serialisable values.

use convextune_solve::{Status, Work};
use serde::{Deserialize, Serialize};

use crate::finetune::{DescentPoint, LambdaSource, Method, Plan};

/// Everything that `fit` says about a model; the keys of its JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FitReport {
    /// Method.
    pub method: Method,
    /// Canonical name of the backbone.
    pub backbone: String,
    /// Side of the network's input, in pixels.
    pub image_size: usize,
    /// C.
    pub classes: usize,
    /// N.
    pub train_samples: usize,
    /// Held-out samples.
    pub test_samples: usize,
    /// Share of held-out samples classified rightly; `None` without any.
    pub accuracy: Option<f64>,
    /// One minus the accuracy.
    pub test_error: Option<f64>,
    /// Share of training samples classified wrongly.
    pub train_error: f64,
    /// Leave-one-out error where it is exact and honest (`lqf-fc`, and `lqf` with a copy of the
    /// weights for every class).
    pub leave_one_out_error: Option<f64>,
    /// The same with one image of every other class left out as well, so that classes keep their proportions; where
    /// every class has two. Absent from older files.
    #[serde(default)]
    pub leave_one_of_each_out_error: Option<f64>,
    /// L(u) at the returned point.
    pub objective: f64,
    /// ||grad L(u)|| / ||grad L(0)||, recomputed at the returned point.
    pub relative_gradient_norm: f64,
    /// Proven bound on L(u) - min L, divided by L(u).
    pub suboptimality_bound_relative: f64,
    /// How the solver ended.
    pub status: Status,
    /// Lambda.
    pub lambda_total: f64,
    /// Lambda / N.
    pub weight_decay: f64,
    /// Where Lambda comes from.
    pub lambda_source: LambdaSource,
    /// s: standard deviation of the backbone's weights under the prior in units of the head's; the
    /// penalty is `(Lambda/2) (||u_head||^2 + ||u_back||^2 / s^2)`.
    #[serde(default)]
    pub backbone_scale: Option<f64>,
    /// Mean diagonal of the backbone's kernel under the prior in units of that of the head's.
    #[serde(default)]
    pub backbone_share: Option<f64>,
    /// Mean diagonal of the kernel, the unit of Lambda.
    pub kernel_mean_diagonal: Option<f64>,
    /// What was solved how (`lqf`).
    pub plan: Option<Plan>,
    /// Iterations of the solver.
    pub iterations: usize,
    /// How they came down, in at most 200 points; empty with `lqf-fc` and in older files.
    #[serde(default)]
    pub descent: Vec<DescentPoint>,
    /// Passes over the training data, of everything.
    pub passes: f64,
    /// JVPs over the training data.
    pub jvps: u64,
    /// VJPs over the training data.
    pub vjps: u64,
    /// Work of the solver alone.
    pub solver_work: Work,
    /// Cost of the preconditioner in forward passes over the data.
    pub preconditioner_cost: f64,
    /// Cost of choosing the prior beyond that, in the same unit.
    #[serde(default)]
    pub prior_cost: f64,
    /// Wall-clock seconds of the fit, training images decoded.
    pub seconds: f64,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Files that could not be read and were left out.
    pub skipped: Vec<String>,
}

/// Peak resident memory of this process in bytes, from `/proc`.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
