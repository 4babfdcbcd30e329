//! Orders of images by what a fit says of them: in closed form, or by short rows ([`super::short`]).

use super::linearised::{Linearised, Setting};
use super::scores::{Nearest, Suspicion, norms, suspicions};
use super::short::Short;
use super::trained::Trained;
use super::{Posterior, check_size, fit_residuals, fit_targets};
use crate::error::Error;
use crate::finetune::features::targets;
use crate::job::ReadOptions;
use crate::model_file::Model;
use crate::progress::Reporter;
use crate::samples::Samples;

/// The way in which images are ranked.
pub enum Ranker {
    /// In closed form, by the kernel of all training images.
    Closed(Box<Posterior>),
    /// By rows of J made short.
    Short(Box<ShortPosterior>),
}

/// A fitted model together with its training images, by rows of J made short: for more images than a kernel can be
/// held of.
pub struct ShortPosterior {
    trained: Trained,
    short: Short,
    exact: bool,
}

/// How far scores are to be trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    /// Whether they are those of fits without each image, to the precision of the arithmetic.
    pub exact: bool,
    /// In closed form the relative residual of the fit's system; else how far the outputs of the short rows' fit are
    /// from those of the model, relative ([`Short::error`]).
    pub residual: f64,
}

impl Ranker {
    /// In closed form where the kernel can be held; by short rows where it cannot, where the network's own outputs are
    /// part of the model, and where an approximation will do (`fast`).
    ///
    /// # Errors
    /// When the model's loss is not quadratic, its training images are not there or not the same, or there are too
    /// many of them and the classes share the weights.
    pub fn of(
        model: Model,
        fast: bool,
        options: &ReadOptions,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let setting = Setting::of(&model)?;
        let held = check_size(&setting, model.header.report.train_samples);
        if held.is_ok() && !setting.keep_f0 && !fast {
            let posterior = Posterior::of(model, options, reporter)?;
            return Ok(Self::Closed(Box::new(posterior)));
        }
        if setting.copies == 1 {
            held?;
            return Err(Error::Usage(
                "classes share the weights in this model, and its images are ranked exactly or not at all: leave out \
                 --fast (or fit without --keep-f0, or with `--head-init common`)"
                    .into(),
            ));
        }
        let posterior = ShortPosterior::of(model, &setting, options, reporter)?;
        Ok(Self::Short(Box::new(posterior)))
    }

    /// The closed form, where it is that.
    pub fn closed(&self) -> Option<&Posterior> {
        match self {
            Self::Closed(posterior) => Some(posterior),
            Self::Short(_) => None,
        }
    }

    /// The model and its training images.
    pub fn trained(&self) -> &Trained {
        match self {
            Self::Closed(posterior) => posterior.trained(),
            Self::Short(posterior) => &posterior.trained,
        }
    }

    /// How far scores are to be trusted.
    pub fn trust(&self) -> Trust {
        match self {
            Self::Closed(posterior) => Trust {
                exact: true,
                residual: posterior.dual().residual(),
            },
            Self::Short(posterior) => Trust {
                exact: posterior.exact,
                residual: posterior.short.error(),
            },
        }
    }

    /// Queries that should be asked about at a time, at most.
    pub fn most_queries(&self) -> usize {
        match self {
            Self::Closed(posterior) => posterior.most_queries(),
            Self::Short(posterior) => posterior.short.most_queries(),
        }
    }

    /// F-SI of every training image: the mean over the queries of the squared change of their outputs without it.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn informativeness(
        &self,
        queries: &Samples,
        reporter: &dyn Reporter,
    ) -> Result<Vec<f64>, Error> {
        match self {
            Self::Closed(posterior) => {
                let queries = posterior.queries(queries, reporter)?;
                Ok(posterior.dual().informativeness(&queries))
            }
            Self::Short(posterior) => posterior.short.informativeness(queries, reporter),
        }
    }

    /// F-SI of every training image with the others as queries.
    pub fn informativeness_among(&self, reporter: &dyn Reporter) -> Vec<f64> {
        match self {
            Self::Closed(posterior) => posterior.dual().informativeness_among(),
            Self::Short(posterior) => posterior.short.informativeness_among(reporter),
        }
    }

    /// The squared error at every training image of the fit without it.
    pub fn leave_one_out_errors(&self) -> Vec<f64> {
        match self {
            Self::Closed(posterior) => posterior.dual().leave_one_out_errors(),
            Self::Short(posterior) => norms(posterior.short.leave_one_out_residuals()),
        }
    }

    /// What the fit without each training image thinks of its label.
    pub fn suspicions(&self) -> Vec<Suspicion> {
        let (header, labels) = (&self.trained().model().header, self.trained().labels());
        match self {
            Self::Closed(posterior) => posterior.dual().suspicions(labels),
            Self::Short(posterior) => {
                let t = targets(labels, header.classes.len(), header.options.alpha);
                suspicions(&(t - posterior.short.leave_one_out_residuals()), labels)
            }
        }
    }

    /// The training image most like each.
    pub fn nearest(&self, reporter: &dyn Reporter) -> Vec<Nearest> {
        match self {
            Self::Closed(posterior) => posterior.dual().nearest(),
            Self::Short(posterior) => posterior.short.nearest(reporter),
        }
    }

    /// Posterior variance of the outputs at images that need no labels.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn variances(&self, queries: &Samples, reporter: &dyn Reporter) -> Result<Vec<f64>, Error> {
        match self {
            Self::Closed(posterior) => Ok(posterior.queries(queries, reporter)?.variances()),
            Self::Short(posterior) => posterior.short.variances(queries, reporter),
        }
    }
}

impl ShortPosterior {
    fn of(
        model: Model,
        setting: &Setting,
        options: &ReadOptions,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let (trained, samples) = Trained::read_all(model, options, reporter)?;
        let (model, labels) = (trained.model(), trained.labels());
        let residuals = fit_residuals(model, setting, labels, &samples, reporter)?;
        let linearised = Linearised::new(setting, samples, reporter)?;
        let sketch = (
            Short::buckets(&linearised, labels.len()),
            model.header.options.seed,
        );
        let targets = fit_targets(setting, labels, &linearised, reporter)?;
        let exact = linearised.with(reporter, |lin| Ok(lin.backbone_range().is_empty()))?;
        let short = Short::new(
            setting,
            linearised,
            (&targets, &residuals),
            sketch,
            reporter,
        )?;
        Ok(Self {
            trained,
            short,
            exact,
        })
    }
}
