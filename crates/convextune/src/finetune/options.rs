//! What a fit is asked to do. The defaults are one setting for every data set.

use serde::{Deserialize, Serialize};

/// How a model is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Linear quadratic fine-tuning: the network, linearised; squared loss.
    Lqf,
    /// The head alone, squared loss, in closed form.
    LqfFc,
    /// The head alone, multinomial logistic loss.
    Fc,
}

/// The head W0 at which the network is linearised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadInit {
    /// One row of seeded signs for all classes, and a copy of the linearised weights for each
    /// ([`crate::linearize::Copies`]); free of the training data: leave-one-out is honest.
    Common,
    /// Seeded signs on features of its own for every class, free of the training data:
    /// leave-one-out is honest.
    Random,
    /// The ridge head of all training samples: leave-one-out is not honest.
    Ridge,
    /// The ridge head of a seeded, stratified half: leave-one-out is honest for the other half.
    Split,
}

/// How the ridge problem is solved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SolverChoice {
    /// By the cost model of [`super::plan`].
    #[default]
    Auto,
    /// Closed form through the dual kernel.
    Dual,
    /// Preconditioned conjugate gradients.
    Pcg,
}

/// What preconditions the conjugate gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreconditionerChoice {
    /// By the cost model of [`super::plan`].
    #[default]
    Auto,
    /// The head's part of the dual kernel, exactly; the rest as a multiple of the identity.
    Features,
    /// The sketched dual kernel.
    Sketch,
    /// Kronecker factors.
    Kfac,
    /// Kronecker factors with rescaled eigenvalues.
    Ekfac,
    /// Nothing.
    None,
}

/// The weight decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightDecay {
    /// Chosen by leave-one-out, without looking at test data.
    #[default]
    Auto,
    /// lambda; Lambda = N lambda.
    PerSample(f64),
    /// Lambda itself.
    Total(f64),
}

/// The weight of the backbone against the head: how freely the prior lets its weights move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackboneWeight {
    /// Chosen by leave-one-out, without looking at test data.
    #[default]
    Auto,
    /// Mean diagonal of the backbone's kernel in units of that of the head's.
    Share(f64),
    /// s, standard deviation of the backbone's weights in units of the head's.
    Scale(f64),
}

/// All options of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FitOptions {
    /// How the model is fitted.
    pub method: Method,
    /// Scale of the targets, 15 in the paper.
    pub alpha: f64,
    /// Slope that replaces the zero slopes of ReLU and ReLU6.
    pub leaky_slope: f64,
    /// The head at which the network is linearised.
    pub head_init: HeadInit,
    /// Weight of the backbone against the head.
    pub backbone_weight: BackboneWeight,
    /// Whether the network's own output f0 stays in the model, or only J(x) u + b is fitted.
    pub keep_f0: bool,
    /// Prefix of the first node whose weights are trained. `None`: the last layer before the head
    /// where every class has a copy, otherwise the whole network.
    pub linearize_from: Option<String>,
    /// Weight decay.
    pub weight_decay: WeightDecay,
    /// Relative gradient norm to reach.
    pub tolerance: f64,
    /// Limit on passes over the data in the solver.
    pub max_passes: usize,
    /// Solver.
    pub solver: SolverChoice,
    /// Preconditioner of the conjugate gradients.
    pub precondition: PreconditionerChoice,
    /// Buckets of the sketch; `None` for the cost model's choice.
    pub sketch_size: Option<usize>,
    /// Samples read at a time, at most.
    pub batch: usize,
    /// Bytes that the activations, gradients and working memory of a pass may take; `None` for no
    /// limit but the batch.
    pub memory: Option<usize>,
    /// Seed of the head, the sketch and the probes.
    pub seed: u64,
    /// Whether the model keeps the kernel of its training images, if one was formed; `None`: if it is small.
    pub keep_kernel: Option<bool>,
}

impl FitOptions {
    /// Copies of the trained weights in a model of `classes` classes: as many with
    /// [`HeadInit::Common`], otherwise one.
    pub fn copies(&self, classes: usize) -> usize {
        match (self.method, self.head_init) {
            (Method::Lqf, HeadInit::Common) => classes,
            _ => 1,
        }
    }
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            method: Method::Lqf,
            alpha: 15.0,
            leaky_slope: 0.0,
            head_init: HeadInit::Common,
            backbone_weight: BackboneWeight::Auto,
            keep_f0: false,
            linearize_from: None,
            weight_decay: WeightDecay::Auto,
            tolerance: 1e-3,
            max_passes: 500,
            solver: SolverChoice::Auto,
            precondition: PreconditionerChoice::Auto,
            sketch_size: None,
            batch: 16,
            memory: None,
            seed: 0,
            keep_kernel: None,
        }
    }
}
