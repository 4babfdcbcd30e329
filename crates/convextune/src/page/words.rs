//! A fit in words.

use convextune_model::images::SplitOrigin;
use convextune_solve::Status;

use crate::finetune::{HeadInit, LambdaSource, Method, Plan, PreconditionerChoice, SolverChoice};
use crate::update::What;

/// A method's name on the command line.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::Lqf => "lqf",
        Method::LqfFc => "lqf-fc",
        Method::Fc => "fc",
    }
}

/// What a method does.
pub fn method_in_full(method: Method) -> &'static str {
    match method {
        Method::Lqf => {
            "linear quadratic fine-tuning: the network, linearised in its weights, with the squared loss"
        }
        Method::LqfFc => "the last layer alone, with the squared loss, in closed form",
        Method::Fc => "the last layer alone, with the logistic loss",
    }
}

/// What was done to images after the fit.
pub(super) fn what(what: What) -> &'static str {
    match what {
        What::Forgotten => "forgotten",
        What::Added => "added",
        What::Constrained => "with demands on their predictions",
    }
}

/// How training and test images were told apart.
pub fn split(origin: &SplitOrigin) -> String {
    match origin {
        SplitOrigin::Folders { held_out, .. } => format!("train/ and {held_out}/"),
        SplitOrigin::Seeded { fraction, seed } => {
            format!(
                "{:.1} % of every class held out, seed {seed}",
                100.0 * fraction
            )
        }
        SplitOrigin::Nothing => "all images of the folder for training".to_owned(),
    }
}

/// How a solver ended.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Converged => "converged",
        Status::MaxIterations => "stopped at --max-passes",
        Status::Interrupted => "interrupted",
        Status::Stalled => "stalled at the precision of the network",
        Status::Breakdown => "broke down",
    }
}

/// Where Lambda comes from.
pub fn source(source: LambdaSource) -> &'static str {
    match source {
        LambdaSource::Given => "given",
        LambdaSource::LeaveOneOut => "by leave-one-out",
        LambdaSource::HeadLeaveOneOut => "by leave-one-out of the head",
        LambdaSource::CrossValidation => "by cross validation",
        LambdaSource::Validation => "by held-out images",
        LambdaSource::Checkpoint => "from the checkpoint",
    }
}

/// How a problem was solved.
pub fn plan(plan: &Plan) -> String {
    let k = plan.sketch_size;
    match (plan.solver, plan.precondition) {
        (SolverChoice::Dual, _) => "dual kernel, closed form".to_owned(),
        (_, PreconditionerChoice::Sketch) => format!("conjugate gradients, sketch of {k}"),
        (_, PreconditionerChoice::Features) => "conjugate gradients, features".to_owned(),
        (_, PreconditionerChoice::Kfac) => "conjugate gradients, K-FAC".to_owned(),
        (_, PreconditionerChoice::Ekfac) => "conjugate gradients, EKFAC".to_owned(),
        _ => "conjugate gradients, no preconditioner".to_owned(),
    }
}

/// The head at which a network is linearised.
pub fn head(head: HeadInit) -> &'static str {
    match head {
        HeadInit::Common => {
            "one row of seeded signs, and a copy of the trained weights for every class"
        }
        HeadInit::Random => "seeded signs, weights shared by the classes",
        HeadInit::Ridge => "ridge regression on all training images",
        HeadInit::Split => "ridge regression on a seeded half of the training images",
    }
}

/// Where held-out images come from.
pub fn held_out(origin: &SplitOrigin) -> String {
    match origin {
        SplitOrigin::Folders { held_out, .. } => format!("the folder {held_out}/"),
        SplitOrigin::Seeded { .. } => "images held out of the folder".to_owned(),
        SplitOrigin::Nothing => "none".to_owned(),
    }
}
