//! What every training image did to a fitted model, exactly.
//!
//! A model that minimises a quadratic problem is linear in its targets, so that leaving a sample or
//! a group out, and its effect on every output, come in closed form from one matrix: no fit is done
//! again and nothing is approximated ([`dual`]). [`Posterior`] joins that algebra to a model file and
//! its training images, which it finds again and checks to the byte ([`Trained`]). Where there are too many
//! images for the matrix, or an approximation will do, products with the Jacobian take its place ([`Curved`]), and to
//! rank all images rows of the Jacobian made short ([`Short`]).
//!
//! The head matters. One that has not seen the labels ([`HeadInit::Common`], [`HeadInit::Random`],
//! and the head of `lqf-fc`, which starts at zero) makes the answers those of a model fitted anew; one
//! that was itself fitted (`ridge`, `split`) makes them those of a fit that keeps this head
//! ([`Trained::honest`]).
//!
//! [`HeadInit::Common`]: crate::finetune::HeadInit::Common
//! [`HeadInit::Random`]: crate::finetune::HeadInit::Random

mod curved;
pub mod dual;
mod explanation;
mod group;
mod linearised;
mod queries;
mod ranker;
mod scores;
mod short;
#[cfg(test)]
mod tests;
mod trained;

use std::cell::OnceCell;
use std::path::Path;

use convextune_model::images::Item;
use convextune_solve::faer::{Mat, MatRef};

use crate::error::Error;
use crate::finetune::error_rate;
use crate::finetune::features::targets;
use crate::job::ReadOptions;
use crate::model_file::{Model, is_convex_network};
use crate::progress::Reporter;
use crate::samples::Samples;

pub use curved::{Curved, Directions};
pub use dual::{Dual, Removal};
pub use explanation::{Approximation, CurvedPosterior, Effect, Explainer, Explanation};
pub use group::{Quality, Without};
use linearised::check_quadratic;
pub(crate) use linearised::head_has_seen_labels;
pub use linearised::{Linearised, Setting, check_unconstrained};
pub use queries::{Joint, Queries};
pub use ranker::{Ranker, ShortPosterior, Trust};
pub use scores::{Nearest, Suspicion};
pub use short::Short;
pub use trained::Trained;

/// Entries of a matrix between training images and queries, at most.
const QUERY_ENTRIES: usize = 1 << 26;

/// A fitted model together with its training images and the inverse of its Hessian.
pub struct Posterior {
    trained: Trained,
    setting: Setting,
    /// Made when it is first needed, where the model has the kernel.
    linearised: OnceCell<Linearised>,
    dual: Dual,
}

impl Posterior {
    /// Finds the training images of `model` again, and factorises their kernel; where the model file has it, no image
    /// is decoded.
    ///
    /// # Errors
    /// When the model's loss is not quadratic, its training images are not there or not the same,
    /// or there are more of them than the closed form takes.
    pub fn of(model: Model, options: &ReadOptions, reporter: &dyn Reporter) -> Result<Self, Error> {
        let setting = Setting::of(&model)?;
        if setting.keep_f0 {
            return Err(Error::Usage(
                "the model was fitted with --keep-f0, and the closed form does not cover what the network itself says; \
                 `convextune explain PHOTO` takes such a model, or fit without it"
                    .into(),
            ));
        }
        check_size(&setting, model.header.report.train_samples)?;
        if let Some(kept) = &setting.kept {
            let trained = Trained::find(model, options, reporter)?;
            let t = targets(trained.labels(), setting.classes, setting.alpha);
            let wanted = t.nrows() * setting.classes / setting.copies;
            if kept.rows() != wanted {
                let text = format!(
                    "the kernel in the model file has {} rows instead of {wanted}: the file is damaged; fit again",
                    kept.rows()
                );
                return Err(Error::Usage(text));
            }
            let dual = dual_of(&setting, &t, kept.matrix())?;
            return Ok(Self {
                trained,
                setting,
                linearised: OnceCell::new(),
                dual,
            });
        }
        let (trained, samples) = Trained::read_all(model, options, reporter)?;
        let (linearised, dual) = posterior(&setting, samples, trained.labels(), reporter)?;
        Ok(Self {
            trained,
            setting,
            linearised: OnceCell::from(linearised),
            dual,
        })
    }

    /// The model and its training images.
    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.trained.model()
    }

    /// The training images, in the order of the rows of every matrix here.
    pub fn items(&self) -> &[Item] {
        self.trained.items()
    }

    /// Their labels: indices into the model's classes.
    pub fn labels(&self) -> &[usize] {
        self.trained.labels()
    }

    /// The linearised network over the training images.
    fn linearised(&self, reporter: &dyn Reporter) -> Result<&Linearised, Error> {
        if let Some(linearised) = self.linearised.get() {
            return Ok(linearised);
        }
        let samples = self.trained.read(self.items().to_vec(), reporter)?;
        let linearised = Linearised::new(&self.setting, samples, reporter)?;
        Ok(self.linearised.get_or_init(|| linearised))
    }

    /// The algebra: residuals, leave-one-out, removal of groups, effects on queries.
    pub fn dual(&self) -> &Dual {
        &self.dual
    }

    /// Share of training images that the fit without them gets wrong.
    pub fn leave_one_out_error(&self) -> f64 {
        error_rate(&self.dual.leave_one_out(), self.labels())
    }

    /// Images to ask about: what every training image weighs in their outputs, their covariance,
    /// and their outputs at the minimum.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn queries(&self, samples: &Samples, reporter: &dyn Reporter) -> Result<Queries, Error> {
        let linearised = self.linearised(reporter)?;
        self.dual
            .queries(linearised.cross_kernel(samples, reporter)?)
    }

    /// Queries that should be asked about at a time, at most: their matrices then stay near a
    /// gigabyte. Every call of [`Self::queries`] runs over the training images once.
    pub fn most_queries(&self) -> usize {
        let (n, q) = (self.dual.samples(), self.dual.rows());
        (QUERY_ENTRIES / (n * q * q).max(1)).max(1)
    }

    /// The change `u - u_{-G}` of the weights that a group made, weight-major where every class has
    /// a copy.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn weights(&self, removal: &Removal, reporter: &dyn Reporter) -> Result<Vec<f64>, Error> {
        self.linearised(reporter)?.weights(&removal.dual, reporter)
    }
}

/// Reads a model file whose training problem is quadratic.
///
/// # Errors
/// When the file is no model file, or its model is a convex network or of the method `fc`.
pub fn quadratic_model(path: &Path) -> Result<Model, Error> {
    if is_convex_network(path)? {
        return Err(Error::Model {
            path: path.to_owned(),
            reason:
                "is a convex network on a table, and this command is for models of pictures: with most penalties \
                 the effect of a row has no closed form; to know it, fit again without the row"
                    .into(),
        });
    }
    let model = Model::load(path)?;
    check_quadratic(model.header.options.method)?;
    Ok(model)
}

/// The linearised network of a setting over its training samples, and the dual of the fit.
///
/// # Errors
/// When a sample cannot be read or the kernel has no Cholesky factor.
pub fn posterior(
    setting: &Setting,
    samples: Samples,
    labels: &[usize],
    reporter: &dyn Reporter,
) -> Result<(Linearised, Dual), Error> {
    let linearised = Linearised::new(setting, samples, reporter)?;
    let t = fit_targets(setting, labels, &linearised, reporter)?;
    let dual = dual_of(setting, &t, linearised.kernel(reporter)?)?;
    Ok((linearised, dual))
}

/// The dual of a fit of `t` (`N x C`) with the kernel of its samples.
pub(crate) fn dual_of(setting: &Setting, t: &Mat<f64>, kernel: Mat<f64>) -> Result<Dual, Error> {
    let n = t.nrows();
    let q = kernel.nrows() / n.max(1);
    let p = setting.classes / q.max(1);
    let by_row = Mat::from_fn(n * q, p, |r, c| t[(r / q, (r % q) * p + c)]);
    Dual::new(kernel, q, by_row, setting.lambda)
}

/// What the linear part of a fit is fitted to, `N x C`: the targets, less the network's own outputs where those are
/// kept.
pub(crate) fn fit_targets(
    setting: &Setting,
    labels: &[usize],
    linearised: &Linearised,
    reporter: &dyn Reporter,
) -> Result<Mat<f64>, Error> {
    let t = targets(labels, setting.classes, setting.alpha);
    if !setting.keep_f0 {
        return Ok(t);
    }
    let f0 = linearised.f0(reporter)?;
    Ok(t - MatRef::from_row_major_slice(&f0, labels.len(), setting.classes))
}

/// `t - f` of a fitted model at its training samples, `N x C`.
fn fit_residuals(
    model: &Model,
    setting: &Setting,
    labels: &[usize],
    samples: &Samples,
    reporter: &dyn Reporter,
) -> Result<Mat<f64>, Error> {
    reporter.stage("outputs", labels.len() as u64);
    let outputs = model.outputs(samples, reporter)?;
    Ok(targets(labels, setting.classes, setting.alpha) - outputs)
}

/// That the kernel's matrices can be held: the limits of the fit's own closed form.
pub(crate) fn check_size(setting: &Setting, samples: usize) -> Result<(), Error> {
    let shared = setting.copies == 1;
    let rows = samples * if shared { setting.classes } else { 1 };
    let most = setting.largest_kernel;
    if rows <= most {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "the closed form takes a matrix of {rows} x {rows} here, and {most} is the most that this \
         program holds; fit to fewer images, or with a copy of the weights for every class \
         (`--head-init common`)"
    )))
}
