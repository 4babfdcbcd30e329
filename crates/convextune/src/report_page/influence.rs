//! The parts of a page that need the influence of training images, the spectrum or refitting. A model whose
//! training problem is not quadratic (`fc`) has none of them; where there are too many images for the closed form, orders of
//! training images are made as `rank` makes them, and the rest is left out. Notes say so.

use rayon::prelude::*;

use super::{Gathered, PageOptions};
use crate::error::Error;
use crate::finetune::Method;
use crate::influence::{Ranker, Trained, Trust};
use crate::job::{Job, ReadOptions, Reopen};
use crate::page::{
    Curve, DecayPath, Eigenvalues, Informative, Listing, Picture, Scored, Spectrum, Suspect,
};
use crate::progress::Reporter;
use crate::spectrum::{SpectrumMethod, SpectrumOptions, spectrum};
use crate::tune::{Criterion, tune_weight_decay};

/// Training images shown for a test error.
const RESPONSIBLE: usize = 3;
/// Training images shown of a class, of either kind.
const EXTREMES: usize = 3;
/// Suspected label errors shown.
const SUSPECTS: usize = 40;
/// Eigenvalues shown.
const EIGENVALUES: usize = 100;

/// What orders the training images of the gathered model; none, with a note, where nothing can.
pub(super) fn ranker(
    gathered: &Gathered<'_>,
    options: &PageOptions,
    reporter: &dyn Reporter,
) -> Result<Option<Ranker>, Error> {
    if gathered.model.header.options.method == Method::Fc {
        reporter.note("the logistic loss of fc has no closed form: the page says nothing of single training images");
        return Ok(None);
    }
    let read = ReadOptions {
        folder: Some(options.folder.clone()),
        cache_memory: options.cache_memory,
    };
    match Ranker::of(gathered.model.clone(), false, &read, reporter) {
        Ok(ranker) => {
            if ranker.closed().is_none() {
                reporter.note(
                    "without a kernel of the training images the page does not say which of them are responsible for \
                     a test error, and has no eigenvalues and no path over the weight decay; `convextune explain`, \
                     `spectrum` and `tune` do without it",
                );
            }
            Ok(Some(ranker))
        }
        Err(Error::Usage(why)) => {
            reporter.note(&format!(
                "the page says nothing of single training images: {why}"
            ));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Gathered<'_> {
    /// For every test error (index, predicted class, margin) the training images that did most for
    /// it, the most responsible first.
    pub(super) fn responsible(
        &self,
        wrong: &[(usize, usize, f64)],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Vec<Scored>>, Error> {
        let posterior = self.ranker.as_ref().and_then(Ranker::closed);
        let (Some(posterior), Some(test)) = (posterior, &self.test) else {
            return Ok(vec![Vec::new(); wrong.len()]);
        };
        let alpha = self.model.header.options.alpha;
        let mut found = Vec::new();
        for part in wrong.chunks(posterior.most_queries()) {
            let items = part.iter().map(|(i, ..)| test.items[*i].clone());
            let samples = posterior.trained().read(items.collect(), reporter)?;
            let queries = posterior.queries(&samples, reporter)?;
            for (x, (i, taken, _)) in part.iter().enumerate() {
                let (effects, truth) =
                    (posterior.dual().effects(&queries, x), test.items[*i].label);
                let margin: Vec<f64> = (0..effects.nrows())
                    .map(|s| (effects[(s, *taken)] - effects[(s, truth)]) / alpha)
                    .collect();
                let most = order(&margin).into_iter().take(RESPONSIBLE);
                let most: Vec<usize> = most.filter(|s| margin[*s] > 0.0).collect();
                found.push(self.scored(posterior.trained(), &most, &margin, reporter)?);
            }
        }
        Ok(found)
    }

    /// The most and least informative training images of every class.
    pub(super) fn informative(
        &self,
        reporter: &dyn Reporter,
    ) -> Result<Option<Listing<Informative>>, Error> {
        let Some(ranker) = &self.ranker else {
            return Ok(None);
        };
        let trained = ranker.trained();
        let scores = ranker.informativeness_among(reporter);
        let order = order(&scores);
        let classes = self.model.header.classes.iter().enumerate();
        let items = classes.map(|(c, class)| {
            let of_class = |s: &usize| trained.labels()[*s] == c;
            let here: Vec<usize> = order.iter().copied().filter(of_class).collect();
            let shown = EXTREMES.min(here.len() / 2);
            let least: Vec<usize> = here.iter().rev().copied().take(shown).collect();
            Ok(Informative {
                class: class.clone(),
                most: self.scored(
                    trained,
                    &here[..here.len().min(EXTREMES)],
                    &scores,
                    reporter,
                )?,
                least: self.scored(trained, &least, &scores, reporter)?,
            })
        });
        let items: Vec<Informative> = items.collect::<Result<_, Error>>()?;
        let how = format!(
            "The number is the F-SI: the mean squared change of the model's outputs at the other training images (not at \
             held-out ones), had this one not been there. {}",
            trust(ranker)
        );
        Ok(Some(Listing {
            how,
            total: items.len(),
            items,
        }))
    }

    /// Training images whose label may be wrong.
    pub(super) fn suspects(
        &self,
        reporter: &dyn Reporter,
    ) -> Result<Option<Listing<Suspect>>, Error> {
        let Some(ranker) = &self.ranker else {
            return Ok(None);
        };
        let suspicions = ranker.suspicions();
        let scores: Vec<f64> = suspicions.iter().map(|s| s.surprise).collect();
        let doubted: Vec<usize> = order(&scores)
            .into_iter()
            .filter(|s| suspicions[*s].margin > 0.0)
            .collect();
        let shown = &doubted[..doubted.len().min(SUSPECTS)];
        let pictures = self.scored(ranker.trained(), shown, &scores, reporter)?;
        let items = shown.iter().zip(pictures).map(|(s, picture)| Suspect {
            image: picture.image,
            likely: self.model.header.classes[suspicions[*s].class].clone(),
            score: picture.score,
        });
        let how = format!(
            "The model fitted without the image takes it for another class: the number is minus the logarithm of the \
             probability that this model gives to the label. {} Rare but right pictures are among them; look before \
             you change a label.",
            trust(ranker)
        );
        Ok((!doubted.is_empty()).then(|| Listing {
            how,
            total: doubted.len(),
            items: items.collect(),
        }))
    }

    fn scored(
        &self,
        trained: &Trained,
        samples: &[usize],
        scores: &[f64],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Scored>, Error> {
        let items: Vec<_> = samples
            .iter()
            .map(|s| trained.items()[*s].clone())
            .collect();
        let pictures: Vec<Picture> = self.pictures(&items, reporter)?;
        let scored = pictures
            .into_par_iter()
            .zip(samples)
            .map(|(image, s)| Scored {
                image,
                score: scores[*s],
            });
        Ok(scored.collect())
    }

    /// Eigenvalues of the Hessian, and the model over the weight decay.
    pub(super) fn curvature(
        &self,
        options: &PageOptions,
        reporter: &dyn Reporter,
    ) -> Result<(Option<Spectrum>, Option<DecayPath>), Error> {
        if self.ranker.as_ref().and_then(Ranker::closed).is_none() {
            return Ok((None, None));
        }
        let reopen = Reopen {
            folder: options.folder.clone(),
            test: options.test.clone(),
            cache_memory: options.cache_memory,
            skip_unreadable: options.skip_unreadable,
        };
        let job = Job::of_model(self.model, &reopen, reporter)?;
        let asked = SpectrumOptions {
            eigenvalues: EIGENVALUES,
            method: SpectrumMethod::Auto,
            precondition: crate::finetune::PreconditionerChoice::None,
        };
        let found = spectrum(self.model, &job, &asked, reporter)?;
        let values = found.eigenvalues.iter().map(|e| e.value).collect();
        let times = found.multiplicity;
        let how = format!(
            "The {} largest eigenvalues of the Hessian, each {times} times; below them {} are Lambda itself.",
            found.eigenvalues.len(),
            found.at_lambda
        );
        let spectrum = Spectrum {
            how,
            lambda: Some(found.lambda),
            operators: vec![Eigenvalues {
                name: "Hessian".to_owned(),
                values,
                condition_number: Some(found.condition_number),
            }],
        };
        let path = match tune_weight_decay(self.model, &job, Criterion::LeaveOneOut, reporter) {
            Ok(tuned) => {
                let points = tuned.minimum.points.iter().map(|p| (p.lambda, p.value));
                Some(DecayPath {
                    how: "The exact leave-one-out error at every Lambda, from one eigendecomposition; the scale of \
                          the backbone's weights is kept."
                        .to_owned(),
                    measure: "mean squared residual, in units of the targets' scale squared".to_owned(),
                    curves: vec![Curve {
                        name: "left-out training images".to_owned(),
                        points: points.collect(),
                    }],
                    chosen: Some(found.lambda),
                })
            }
            Err(Error::Usage(why)) => {
                reporter.note(&format!(
                    "the page has no path over the weight decay: {why}"
                ));
                None
            }
            Err(error) => return Err(error),
        };
        Ok((Some(spectrum), path))
    }
}

/// Whether scores are exact, in words.
fn trust(ranker: &Ranker) -> String {
    match ranker.trust() {
        Trust { exact: true, .. } => "Exact, by the closed form of the refit.".to_owned(),
        Trust { residual, .. } => format!(
            "Approximate, by sketched gradients: the outputs of the sketched fit are {:.1} % off.",
            100.0 * residual
        ),
    }
}

/// Indices, the largest value first.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order
}
