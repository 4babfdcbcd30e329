//! The part of a fitted model that was trained, linearised over the images it was trained on.
//!
//! A head alone (`lqf-fc`) is the linearisation whose first trained node is the head, with a copy for
//! every class: its row of J is the feature vector, whatever W0.

use convextune_model::graph::{Network, NodeId};

use crate::error::Error;
use crate::finetune::{LqfModel, Method, Prior, split_frozen};
use crate::linearize::{Linearization, batch_of_copies};
use crate::model_file::{HEAD, Model};
use crate::progress::Reporter;
use crate::samples::Samples;

/// The trained part of a model, and its prior.
pub(crate) struct TrainedPart {
    /// What comes before, where it is computed once.
    prefix: Option<Network<f32>>,
    network: Network<f32>,
    first_trainable: NodeId,
    /// The training samples after the prefix.
    frozen: Option<Samples>,
    batch: usize,
    /// Copies of the trained weights: C, or 1 where classes share them.
    pub(crate) copies: usize,
    /// Lambda and s of the fit.
    pub(crate) prior: Prior,
}

impl TrainedPart {
    /// Runs the frozen stages of `model` over `images`, those it was trained on, once.
    ///
    /// # Errors
    /// When the model's loss is not quadratic, or an image cannot be read.
    pub(crate) fn of(
        model: &Model,
        images: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let (header, body) = (&model.header, &model.body);
        let classes = header.classes.len();
        let (network, first, copies) = match header.options.method {
            Method::Lqf => {
                let copies = header.options.copies(classes);
                (body.network.clone(), body.first_trainable, copies)
            }
            Method::LqfFc => {
                let network = head_of_ones(body, classes);
                let first = network.graph().output();
                (network, first, classes)
            }
            Method::Fc => {
                let text = "the model was fitted with `--method fc`, whose logistic loss is not \
                            quadratic; fit with `--method lqf-fc` (the head alone) or `--method lqf` \
                            instead";
                return Err(Error::Usage(text.into()));
            }
        };
        let batch = batch_of_copies(&network, first, header.options.batch, copies);
        Self::new(
            (network, first),
            (copies, batch),
            prior(model),
            (images, reporter),
        )
    }

    /// Of a network trained from `first` on, with copies of the trained weights.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub(crate) fn new(
        (network, first): (Network<f32>, NodeId),
        (copies, batch): (usize, usize),
        prior: Prior,
        (images, reporter): (&Samples, &dyn Reporter),
    ) -> Result<Self, Error> {
        let split = split_frozen(&network, first, images)?;
        let mut part = Self {
            prefix: (split.shift > 0).then_some(split.prefix),
            network: split.suffix,
            first_trainable: first.saturating_sub(split.shift),
            frozen: None,
            batch,
            copies,
            prior,
        };
        part.frozen = part.through(images, reporter)?;
        Ok(part)
    }

    /// `images` after the frozen stages; `None` where these are not computed apart.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub(crate) fn through(
        &self,
        images: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Option<Samples>, Error> {
        let Some(prefix) = &self.prefix else {
            return Ok(None);
        };
        reporter.stage("frozen stages", images.len() as u64);
        images.through(prefix, self.batch, reporter).map(Some)
    }

    /// The training samples as the trained part reads them; `images` as they were given.
    pub(crate) fn samples<'a>(&'a self, images: &'a Samples) -> &'a Samples {
        self.frozen.as_ref().unwrap_or(images)
    }

    /// One copy of the trained part, linearised over samples that have been through the frozen stages.
    ///
    /// # Errors
    /// As [`Linearization::new`].
    pub(crate) fn over<'a>(
        &'a self,
        samples: &'a Samples,
        reporter: &'a dyn Reporter,
    ) -> Result<Linearization<'a>, Error> {
        Linearization::new(
            &self.network,
            self.first_trainable,
            samples,
            self.batch,
            reporter,
        )
    }
}

/// The features with one row of the head, the same for all classes.
fn head_of_ones(body: &LqfModel, classes: usize) -> Network<f32> {
    let head = body.network.graph().output();
    let width = body.network.node_weights(head).parameters.len() / classes;
    let features = body.network.truncated(head - 1);
    features.with_head(HEAD, 1, &vec![1.0; width])
}

/// The prior of the fit, as its report has it.
fn prior(model: &Model) -> Prior {
    let report = &model.header.report;
    let (unit, share) = (
        report.kernel_mean_diagonal.unwrap_or(0.0),
        report.backbone_share.unwrap_or(0.0),
    );
    Prior {
        lambda: report.lambda_total,
        scale: report.backbone_scale.unwrap_or(1.0),
        source: report.lambda_source,
        unit,
        backbone_unit: unit * share / (1.0 + share),
    }
}
