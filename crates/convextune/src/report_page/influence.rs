//! The parts of a page that need the influence of training images, the spectrum or refitting. A model whose
//! training problem has no closed form (`fc`, or too many images) has none of them, and a note says why.

use rayon::prelude::*;

use super::{Gathered, PageOptions};
use crate::error::Error;
use crate::finetune::Method;
use crate::influence::Posterior;
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

/// The posterior of the gathered model; none, with a note, where there is no closed form.
pub(super) fn posterior(
    gathered: &Gathered<'_>,
    options: &PageOptions,
    reporter: &dyn Reporter,
) -> Result<Option<Posterior>, Error> {
    if gathered.model.header.options.method == Method::Fc {
        reporter.note("the logistic loss of fc has no closed form: the page says nothing of single training images");
        return Ok(None);
    }
    let read = ReadOptions {
        folder: Some(options.folder.clone()),
        cache_memory: options.cache_memory,
    };
    match Posterior::of(gathered.model.clone(), &read, reporter) {
        Ok(posterior) => Ok(Some(posterior)),
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
        let (Some(posterior), Some(test)) = (&self.posterior, &self.test) else {
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
                found.push(self.scored(posterior, &most, &margin, reporter)?);
            }
        }
        Ok(found)
    }

    /// The most and least informative training images of every class.
    pub(super) fn informative(
        &self,
        reporter: &dyn Reporter,
    ) -> Result<Option<Listing<Informative>>, Error> {
        let Some(posterior) = &self.posterior else {
            return Ok(None);
        };
        let scores = posterior.dual().informativeness_among();
        let order = order(&scores);
        let classes = self.model.header.classes.iter().enumerate();
        let items = classes.map(|(c, class)| {
            let of_class = |s: &usize| posterior.labels()[*s] == c;
            let here: Vec<usize> = order.iter().copied().filter(of_class).collect();
            let shown = EXTREMES.min(here.len() / 2);
            let least: Vec<usize> = here.iter().rev().copied().take(shown).collect();
            Ok(Informative {
                class: class.clone(),
                most: self.scored(
                    posterior,
                    &here[..here.len().min(EXTREMES)],
                    &scores,
                    reporter,
                )?,
                least: self.scored(posterior, &least, &scores, reporter)?,
            })
        });
        let items: Vec<Informative> = items.collect::<Result<_, Error>>()?;
        let how = "The number is the F-SI: the mean squared change of the model's outputs at the other training \
                   images (not at held-out ones), had this one not been there; exact, by the closed form of the refit.";
        Ok(Some(Listing {
            how: how.to_owned(),
            total: items.len(),
            items,
        }))
    }

    /// Training images whose label may be wrong.
    pub(super) fn suspects(
        &self,
        reporter: &dyn Reporter,
    ) -> Result<Option<Listing<Suspect>>, Error> {
        let Some(posterior) = &self.posterior else {
            return Ok(None);
        };
        let suspicions = posterior.dual().suspicions(posterior.labels());
        let scores: Vec<f64> = suspicions.iter().map(|s| s.surprise).collect();
        let doubted: Vec<usize> = order(&scores)
            .into_iter()
            .filter(|s| suspicions[*s].margin > 0.0)
            .collect();
        let shown = &doubted[..doubted.len().min(SUSPECTS)];
        let pictures = self.scored(posterior, shown, &scores, reporter)?;
        let items = shown.iter().zip(pictures).map(|(s, picture)| Suspect {
            image: picture.image,
            likely: self.model.header.classes[suspicions[*s].class].clone(),
            score: picture.score,
        });
        let how = "The model fitted without the image takes it for another class: the number is minus the \
                   logarithm of the probability that this model gives to the label. Exact. Rare but right pictures \
                   are among them; look before you change a label.";
        Ok((!doubted.is_empty()).then(|| Listing {
            how: how.to_owned(),
            total: doubted.len(),
            items: items.collect(),
        }))
    }

    fn scored(
        &self,
        posterior: &Posterior,
        samples: &[usize],
        scores: &[f64],
        reporter: &dyn Reporter,
    ) -> Result<Vec<Scored>, Error> {
        let items: Vec<_> = samples
            .iter()
            .map(|s| posterior.items()[*s].clone())
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
        if self.posterior.is_none() {
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

/// Indices, the largest value first.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order
}
