//! Which training images made an output what it is: by the closed form, or by products alone ([`super::curved`]).

use std::collections::BTreeSet;

use convextune_solve::faer::Mat;
use convextune_solve::quadratic::PcgOptions;

use super::curved::{Curved, Directions};
use super::linearised::Setting;
use super::trained::Trained;
use super::{Posterior, check_size, fit_residuals};
use crate::error::Error;
use crate::finetune::predicted;
use crate::job::ReadOptions;
use crate::linearize::CurvatureOptions;
use crate::model_file::Model;
use crate::progress::Reporter;
use crate::samples::Samples;

/// Iterations after which conjugate gradients are an approximation.
const FEW: usize = 10;
/// Iterations of conjugate gradients at most.
const MOST: usize = 1000;
/// Relative residual of the systems behind effects that are called exact where there is no closed form. Effects come
/// from two systems, and their errors are products of the two ([`super::curved`]).
const EXACT: f64 = 1e-3;
/// Training images whose effects are computed for each one that is told, where the first look is at weights alone.
const CANDIDATES: usize = 4;

/// An approximation of effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approximation {
    /// Ten iterations of conjugate gradients.
    Iterations,
    /// The inverse curvature by K-FAC alone.
    Kfac,
    /// The inverse curvature by EKFAC alone.
    Ekfac,
}

impl Approximation {
    /// The curvature it takes, and how far systems are solved.
    fn how(approximation: Option<Self>, seed: u64) -> (Option<CurvatureOptions>, PcgOptions) {
        let (rescale, max_iterations) = match approximation {
            None => (None, MOST),
            Some(Self::Iterations) => (None, FEW),
            Some(Self::Kfac) => (Some(false), 1),
            Some(Self::Ekfac) => (Some(true), 1),
        };
        let curvature = rescale.map(|rescale| CurvatureOptions {
            probes: 1,
            seed,
            rescale,
        });
        let effort = PcgOptions {
            // The residual that is told is recomputed, in single precision.
            tolerance: EXACT / 2.0,
            max_iterations,
        };
        (curvature, effort)
    }
}

/// The way in which a model is explained.
pub enum Explainer {
    /// In closed form, by the kernel of all training images.
    Closed(Box<Posterior>),
    /// By products alone.
    Products(Box<CurvedPosterior>),
}

impl Explainer {
    /// In closed form where the kernel can be held; by products where it cannot, where the network's own outputs are
    /// part of the model, and where an approximation will do.
    ///
    /// # Errors
    /// When the model's loss is not quadratic, or its training images are not there or not the same.
    pub fn of(
        model: Model,
        approximation: Option<Approximation>,
        options: &ReadOptions,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let setting = Setting::of(&model)?;
        let held = check_size(&setting, model.header.report.train_samples).is_ok();
        if held && !setting.keep_f0 && approximation.is_none() {
            let posterior = Posterior::of(model, options, reporter)?;
            return Ok(Self::Closed(Box::new(posterior)));
        }
        let posterior = CurvedPosterior::of(model, approximation, options, reporter)?;
        Ok(Self::Products(Box::new(posterior)))
    }

    /// The model and its training images.
    pub fn trained(&self) -> &Trained {
        match self {
            Self::Closed(posterior) => posterior.trained(),
            Self::Products(posterior) => posterior.trained(),
        }
    }

    /// Explains every query by the `top` images in each direction: its output for `class`, or for the predicted one.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn explain(
        &self,
        queries: &Samples,
        class: Option<usize>,
        top: usize,
        reporter: &dyn Reporter,
    ) -> Result<Vec<Explanation>, Error> {
        match self {
            Self::Closed(posterior) => posterior.explain(queries, class, top, reporter),
            Self::Products(posterior) => posterior.explain(queries, class, top, reporter),
        }
    }
}

/// A training image and what it did to one query.
#[derive(Clone, Debug)]
pub struct Effect {
    /// Place of the image among the training images.
    pub sample: usize,
    /// `f - f_{-i}` for every class.
    pub change: Vec<f64>,
    /// Relative residual of the linear systems behind it, computed afterwards.
    pub residual: f64,
    /// Whether it is what a fit without the image would show, to that residual.
    pub exact: bool,
}

/// A query and what made its outputs.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// f, length C.
    pub outputs: Vec<f64>,
    /// The class whose output orders the images.
    pub class: usize,
    /// Those that pushed it up, the strongest first.
    pub up: Vec<Effect>,
    /// Those that pushed it down, the strongest first.
    pub down: Vec<Effect>,
}

impl Explanation {
    /// The strongest of `effects` in either direction.
    fn new(outputs: Vec<f64>, class: usize, top: usize, mut effects: Vec<Effect>) -> Self {
        let key = |e: &Effect| e.change[class];
        effects.sort_by(|a, b| key(b).total_cmp(&key(a)));
        let down = effects.iter().rev().filter(|e| key(e) < 0.0).take(top);
        let down = down.cloned().collect();
        effects.retain(|e| key(e) > 0.0);
        effects.truncate(top);
        Self {
            outputs,
            class,
            up: effects,
            down,
        }
    }
}

impl Posterior {
    /// [`Explainer::explain`].
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn explain(
        &self,
        queries: &Samples,
        class: Option<usize>,
        top: usize,
        reporter: &dyn Reporter,
    ) -> Result<Vec<Explanation>, Error> {
        let queries = self.queries(queries, reporter)?;
        let dual = self.dual();
        let mut residuals = vec![None; dual.samples()];
        let explain = |x: usize| {
            let class = class.unwrap_or_else(|| predicted(&queries.outputs, x));
            let effects = dual.effects(&queries, x);
            let effect = |sample: usize| Effect {
                sample,
                change: effects.row(sample).iter().copied().collect(),
                residual: 0.0,
                exact: true,
            };
            let outputs = queries.outputs.row(x).iter().copied().collect();
            let all = (0..dual.samples()).map(effect).collect();
            let mut explanation = Explanation::new(outputs, class, top, all);
            for effect in explanation.up.iter_mut().chain(&mut explanation.down) {
                let known = &mut residuals[effect.sample];
                effect.residual =
                    *known.get_or_insert_with(|| dual.residual_without(effect.sample));
            }
            explanation
        };
        Ok((0..queries.outputs.nrows()).map(explain).collect())
    }
}

/// A fitted model together with its training images, for products alone: for more images than a kernel can be held of,
/// and where an approximation will do.
pub struct CurvedPosterior {
    trained: Trained,
    curved: Curved,
    exact: bool,
}

impl CurvedPosterior {
    /// Finds the training images of `model` again, and models the curvature where the approximation needs it. Without
    /// one, systems are solved to a relative residual of 1e-3.
    ///
    /// # Errors
    /// When the model's loss is not quadratic, or its training images are not there or not the same.
    pub fn of(
        model: Model,
        approximation: Option<Approximation>,
        options: &ReadOptions,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let setting = Setting::of(&model)?;
        let (trained, samples) = Trained::read_all(model, options, reporter)?;
        let (model, labels) = (trained.model(), trained.labels());
        let residuals = fit_residuals(model, &setting, labels, &samples, reporter)?;
        let how = Approximation::how(approximation, model.header.options.seed);
        let curved = Curved::new(&setting, samples, residuals, how, reporter)?;
        Ok(Self {
            trained,
            curved,
            exact: approximation.is_none(),
        })
    }

    /// The model and its training images.
    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// [`Explainer::explain`]. All training images are ranked by what their weight in the output and their residual
    /// say, and the effects of the first are computed.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn explain(
        &self,
        queries: &Samples,
        class: Option<usize>,
        top: usize,
        reporter: &dyn Reporter,
    ) -> Result<Vec<Explanation>, Error> {
        reporter.stage("outputs of the queries", queries.len() as u64);
        let outputs = self.trained.model().outputs(queries, reporter)?;
        let mut explanations = Vec::new();
        for run in queries.batches(self.curved.most()) {
            let asked: Vec<usize> = run.clone().collect();
            let directions = self.curved.directions(&queries.pick(&asked)?, reporter)?;
            let mut pending = Vec::new();
            let weights = self.curved.weights(&directions, reporter)?;
            let q = self.curved.rows();
            for (k, x) in run.enumerate() {
                let class = class.unwrap_or_else(|| predicted(&outputs, x));
                let asked = directions.of(k * q..(k + 1) * q);
                let weights = weights.subcols(k * q, q).to_owned();
                let candidates = self.candidates(&weights, class, CANDIDATES * top);
                pending.push(Query {
                    x,
                    class,
                    asked,
                    candidates,
                });
            }
            let effects = self.effects(&pending, reporter)?;
            for (query, effects) in pending.into_iter().zip(effects) {
                let outputs = outputs.row(query.x).iter().copied().collect();
                explanations.push(Explanation::new(outputs, query.class, top, effects));
            }
        }
        Ok(explanations)
    }

    /// The samples with the largest products of weight and residual in each direction.
    fn candidates(&self, weights: &Mat<f64>, class: usize, most: usize) -> Vec<usize> {
        let first: Vec<f64> = self.curved.first_order(weights, class);
        let mut order: Vec<usize> = (0..first.len()).collect();
        order.sort_by(|i, j| first[*j].total_cmp(&first[*i]));
        if order.len() > 2 * most {
            order.drain(most..order.len() - most);
        }
        order
    }

    /// Effects of every query's candidates on it; a sample is solved for once.
    fn effects(
        &self,
        queries: &[Query],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Vec<Effect>>, Error> {
        let (curved, q) = (&self.curved, self.curved.rows());
        let all: BTreeSet<usize> = queries
            .iter()
            .flat_map(|query| query.candidates.clone())
            .collect();
        let all: Vec<usize> = all.into_iter().collect();
        let mut effects = vec![Vec::new(); queries.len()];
        for run in all.chunks(curved.most()) {
            let directions = curved.own_directions(run, reporter)?;
            for (k, sample) in run.iter().enumerate() {
                let own = directions.of(k * q..(k + 1) * q);
                let left_out = curved.left_out(&[*sample], &own)?;
                for (query, effects) in queries.iter().zip(&mut effects) {
                    if query.candidates.contains(sample) {
                        let worst = own.worst().max(query.asked.worst());
                        effects.push(Effect {
                            sample: *sample,
                            change: curved.change(&curved.between(&own, &query.asked), &left_out),
                            residual: worst,
                            exact: self.exact && worst <= EXACT,
                        });
                    }
                }
            }
        }
        Ok(effects)
    }
}

/// A picture that is asked about.
struct Query {
    x: usize,
    class: usize,
    asked: Directions,
    candidates: Vec<usize>,
}
