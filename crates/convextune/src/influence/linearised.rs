//! The linearised network of a fitted model over its training samples, as the fit had it.

use std::cell::Cell;
use std::sync::Arc;

use convextune_model::graph::{Network, NodeId};
use convextune_model::tensor::Shape;
use convextune_solve::faer::Mat;
use convextune_solve::{LinearOperator, Scaled, Work};

use crate::error::Error;
use crate::finetune::{
    FitOptions, HeadInit, KERNEL_BYTES, Method, formed_kernel, largest_kernel, split_frozen,
};
use crate::kept_kernel::KeptKernel;
use crate::linearize::{Copies, CrossKernel, Linearization, batch_of_copies};
use crate::model_file::{HEAD, Model};
use crate::progress::Reporter;
use crate::samples::Samples;
use crate::update::What;

/// What the rows of J come from, and the prior.
#[derive(Clone, Debug)]
pub struct Setting {
    /// w0: the backbone and the head.
    pub network: Network<f32>,
    /// First node whose weights are trained.
    pub first_trainable: NodeId,
    /// Copies of the trained weights: C, or 1 where classes share them.
    pub copies: usize,
    /// C.
    pub classes: usize,
    /// Whether the fit subtracted the network's own output from the targets.
    pub keep_f0: bool,
    /// alpha.
    pub alpha: f64,
    /// Lambda.
    pub lambda: f64,
    /// s, standard deviation of the backbone's weights under the prior in units of the head's.
    pub scale: f64,
    /// Samples read at a time, at most.
    pub batch: usize,
    /// Rows of the largest kernel that is formed.
    pub largest_kernel: usize,
    /// The kernel of the training samples, where the model file has it.
    pub kept: Option<Arc<KeptKernel>>,
}

impl Setting {
    /// That of a fitted model. A head alone (`lqf-fc`) is the linearisation whose first trained node
    /// is the head, with a copy for every class: its row of J is the feature vector, whatever W0.
    ///
    /// # Errors
    /// When the model's loss is not quadratic.
    pub fn of(model: &Model) -> Result<Self, Error> {
        let (options, body) = (&model.header.options, &model.body);
        let classes = model.header.classes.len();
        let report = &model.header.report;
        let common = Self {
            network: body.network.clone(),
            first_trainable: body.first_trainable,
            copies: options.copies(classes),
            classes,
            keep_f0: body.keep_f0,
            alpha: options.alpha,
            lambda: report.lambda_total,
            scale: report.backbone_scale.unwrap_or(1.0),
            batch: options.batch,
            largest_kernel: largest_kernel(
                options.copies(classes) > 1,
                formed_kernel(report.plan.as_ref()),
            ),
            kept: model.kernel.clone(),
        };
        check_quadratic(options.method)?;
        check_unconstrained(model)?;
        if options.method == Method::Lqf {
            return Ok(common);
        }
        let graph = body.network.graph();
        let features = body.network.truncated(graph.output() - 1);
        let width = body.network.node_weights(graph.output()).parameters.len() / classes;
        let network = features.with_head(HEAD, 1, &vec![1.0; width]);
        Ok(Self {
            first_trainable: network.graph().output(),
            network,
            copies: classes,
            keep_f0: false,
            largest_kernel: largest_kernel(true, false),
            ..common
        })
    }
}

/// That leaving out has a closed form.
pub(super) fn check_quadratic(method: Method) -> Result<(), Error> {
    match method {
        Method::Lqf | Method::LqfFc => Ok(()),
        Method::Fc => Err(Error::Usage(
            "the model was fitted with `--method fc`, whose logistic loss is not quadratic: what a \
             picture did to it has no closed form; fit with `--method lqf-fc` (the head alone) or \
             `--method lqf` instead"
                .into(),
        )),
    }
}

/// That no demands were made on a model's predictions.
///
/// # Errors
/// When there were.
pub fn check_unconstrained(model: &Model) -> Result<(), Error> {
    let changes = &model.header.changes;
    if changes
        .iter()
        .all(|change| change.what != What::Constrained)
    {
        return Ok(());
    }
    Err(Error::Usage(
        "the model meets demands on single predictions (`convextune constrain`), and what follows from its training \
         images is no longer linear in them; use the model that it was made from"
            .into(),
    ))
}

/// Whether a head of this kind has seen labels, so that leaving a sample out of the fit does not
/// take it out of w0.
pub(crate) fn head_has_seen_labels(options: &FitOptions) -> bool {
    options.method == Method::Lqf && matches!(options.head_init, HeadInit::Ridge | HeadInit::Split)
}

/// The samples after the frozen stages, and the network that is trained on them.
#[derive(Debug)]
pub struct Linearised {
    prefix: Option<Network<f32>>,
    suffix: Network<f32>,
    first_trainable: NodeId,
    samples: Samples,
    copies: usize,
    scale: f64,
    batch: usize,
    /// Of the samples.
    kept: Option<Arc<KeptKernel>>,
    /// Of everything so far.
    work: Cell<Work>,
}

impl Linearised {
    /// Runs the frozen stages over `samples` once.
    ///
    /// # Errors
    /// When a sample cannot be read or does not fit the network.
    pub fn new(
        setting: &Setting,
        samples: Samples,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let first = setting.first_trainable;
        let split = split_frozen(&setting.network, first, &samples)?;
        let batch = batch_of_copies(&setting.network, first, setting.batch, setting.copies);
        let mut this = Self {
            prefix: (split.shift > 0).then_some(split.prefix),
            suffix: split.suffix,
            first_trainable: first.saturating_sub(split.shift),
            samples,
            copies: setting.copies,
            scale: setting.scale,
            batch,
            kept: None,
            work: Cell::default(),
        };
        let rows = this.samples.len() * setting.classes / setting.copies;
        let of_samples = setting.kept.iter().find(|kept| kept.rows() == rows);
        this.kept = of_samples.cloned();
        if let Some(samples) = this.frozen(&this.samples, reporter)? {
            this.samples = samples;
        }
        Ok(this)
    }

    /// The outputs of the frozen stages, where there are any.
    pub(super) fn frozen(
        &self,
        samples: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Option<Samples>, Error> {
        let Some(prefix) = &self.prefix else {
            return Ok(None);
        };
        reporter.stage("frozen stages", samples.len() as u64);
        samples.through(prefix, self.batch, reporter).map(Some)
    }

    /// q: rows of J a sample.
    ///
    /// # Errors
    /// When the samples do not fit the network.
    pub fn rows(&self) -> Result<usize, Error> {
        let shapes = self.suffix.graph().shapes(self.samples.shape())?;
        Ok(shapes.last().map_or(0, Shape::image_len))
    }

    /// d: what the head reads, where it has one row.
    pub(super) fn features(&self) -> usize {
        let head = self.suffix.graph().output();
        self.suffix.node_weights(head).parameters.len()
    }

    /// Runs `f` on the linearisation over the training samples, one copy of the weights.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn with<R>(
        &self,
        reporter: &dyn Reporter,
        f: impl FnOnce(&Linearization<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let lin = self.over(&self.samples, reporter)?;
        let result = f(&lin);
        self.work.set(self.work.get() + lin.work());
        result
    }

    /// Work over the training samples so far; the frozen stages are not counted.
    pub fn work(&self) -> Work {
        self.work.get()
    }

    /// Some of the training samples, after the frozen stages.
    pub(super) fn pick(&self, chosen: &[usize]) -> Result<Samples, Error> {
        self.samples.pick(chosen)
    }

    /// Keeps the training samples for which `keep` is true, in their order.
    ///
    /// # Panics
    /// When `keep` does not have one flag a sample.
    pub fn retain(&mut self, keep: &[bool]) {
        self.kept = None;
        self.samples.retain(keep);
    }

    /// The linearisation over samples that have been through the frozen stages.
    pub(super) fn over<'a>(
        &'a self,
        samples: &'a Samples,
        reporter: &'a dyn Reporter,
    ) -> Result<Linearization<'a>, Error> {
        Linearization::new(
            &self.suffix,
            self.first_trainable,
            samples,
            self.batch,
            reporter,
        )
    }

    /// f0 over the training samples, length NC.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn f0(&self, reporter: &dyn Reporter) -> Result<Vec<f64>, Error> {
        reporter.stage("initial outputs", self.samples.len() as u64);
        self.with(reporter, |lin| Copies::new(lin, self.copies)?.f0())
    }

    /// The kernel `J S^2 J'` under the prior, `Nq x Nq`, not centred; that of the model file where it is that of these
    /// samples.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn kernel(&self, reporter: &dyn Reporter) -> Result<Mat<f64>, Error> {
        if let Some(kept) = &self.kept {
            return Ok(kept.matrix());
        }
        self.with(reporter, |lin| {
            let runs = lin.kernel_passes(KERNEL_BYTES);
            reporter.stage("dual kernel", (self.samples.len() * runs) as u64);
            Ok(lin.kernel(KERNEL_BYTES)?.kernel(self.scale))
        })
    }

    /// `kernel`, which is that of these samples, for a model file.
    pub(crate) fn keep(&self, kernel: &Mat<f64>) -> Arc<KeptKernel> {
        let anew = || Arc::new(KeptKernel::new(kernel.as_ref()));
        self.kept.clone().unwrap_or_else(anew)
    }

    /// The kernel of the training samples with `queries` (of the form that the whole network takes).
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn cross_kernel(
        &self,
        queries: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<CrossKernel, Error> {
        let frozen = self.frozen(queries, reporter)?;
        let asked = self.over(frozen.as_ref().unwrap_or(queries), reporter)?;
        self.with(reporter, |lin| {
            let passes = lin.cross_kernel_passes(&asked, KERNEL_BYTES);
            let n = (self.samples.len() + asked.samples().len()) * passes;
            reporter.stage("kernel with the queries", n as u64);
            lin.cross_kernel(&asked, self.scale, KERNEL_BYTES)
        })
    }

    /// `u = S^2 J' a` for dual unknowns (`Nq x p`): the change of the weights that they make;
    /// weight-major where every class has a copy.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn weights(&self, a: &Mat<f64>, reporter: &dyn Reporter) -> Result<Vec<f64>, Error> {
        let p = a.ncols();
        let flat: Vec<f64> = (0..a.nrows() * p).map(|k| a[(k / p, k % p)]).collect();
        reporter.stage("weights", self.samples.len() as u64);
        self.with(reporter, |lin| {
            let copies = Copies::new(lin, self.copies)?;
            let scaled = Scaled::new(&copies, copies.backbone_range(), self.scale)?;
            let mut u = vec![0.0; scaled.cols()];
            scaled.apply_adjoint(&flat, &mut u)?;
            scaled.scale(&mut u);
            Ok(u)
        })
    }
}
