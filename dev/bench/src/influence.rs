//! Answers of `convextune::influence` against true fits: leaving out, label errors, dropping images.

use std::time::Instant;

use convextune::finetune::{
    BackboneWeight, FitOptions, LqfFit, NoCheckpoints, TrainingSet, WeightDecay, error_rate,
    fit_lqf,
};
use convextune::influence::{Dual, Setting, posterior};
use convextune::job::Job;
use convextune::model_file::Model;
use convextune::samples::Samples;
use convextune_solve::faer::Mat;
use serde_json::json;

use crate::approximate::approximate;
use crate::study::{Lines, Place, options};

/// Options of `influence`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to measure.
    #[command(flatten)]
    pub(crate) place: Place,
    /// What to compare.
    #[arg(long, value_enum)]
    what: What,
    /// Overrides of the default options, a JSON object.
    #[arg(long, default_value = "{}")]
    pub(crate) fit: String,
    /// Samples left out one by one, and groups of a tenth of the data.
    #[arg(long, default_value_t = 30)]
    samples: usize,
    /// Groups.
    #[arg(long, default_value_t = 3)]
    groups: usize,
    /// Test images that `approximate` asks about, evenly spread.
    #[arg(long, default_value_t = 64)]
    pub(crate) queries: usize,
    /// Share of labels that are flipped.
    #[arg(long, default_value_t = 0.2)]
    flipped: f64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What to compare.
#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// Changes of all test outputs with true fits without samples.
    Exact,
    /// Changes of all test outputs by K-FAC and EKFAC alone with the exact ones.
    Approximate,
    /// The order of suspected label errors with the labels that were flipped.
    Labels,
    /// Test errors of fits without the most, the least informative, or random samples.
    Summary,
}

/// A training set with the images of a job, or some of them.
pub(crate) struct Part<'a> {
    job: &'a Job,
    kept: Vec<usize>,
    labels: Vec<usize>,
}

impl<'a> Part<'a> {
    fn of(job: &'a Job, kept: Vec<usize>, labels: &[usize]) -> Self {
        let labels = kept.iter().map(|i| labels[*i]).collect();
        Self { job, kept, labels }
    }

    pub(crate) fn samples(&self) -> anyhow::Result<Samples> {
        Ok(self.job.train().pick(&self.kept)?)
    }

    fn fit(&self, options: &FitOptions) -> anyhow::Result<LqfFit> {
        let samples = self.samples()?;
        let data = TrainingSet {
            samples: &samples,
            labels: &self.labels,
            classes: self.job.classes().len(),
        };
        let network = self.job.leaky_network(options);
        Ok(fit_lqf(
            &network,
            data,
            options,
            &mut NoCheckpoints,
            &Lines,
        )?)
    }

    pub(crate) fn setting(&self, fit: &LqfFit, options: &FitOptions) -> Setting {
        let classes = self.job.classes().len();
        Setting {
            network: fit.model.network.clone(),
            first_trainable: fit.model.first_trainable,
            copies: options.copies(classes),
            classes,
            keep_f0: options.keep_f0,
            alpha: options.alpha,
            lambda: fit.record.lambda,
            scale: fit.record.backbone_scale,
            batch: options.batch,
            largest_kernel: 12_000,
            kept: None,
        }
    }

    /// The algebra of a fit.
    pub(crate) fn posterior(
        &self,
        fit: &LqfFit,
        options: &FitOptions,
        queries: &Samples,
    ) -> anyhow::Result<(Dual, convextune::influence::Queries)> {
        let setting = self.setting(fit, options);
        let (linearised, dual) = posterior(&setting, self.samples()?, &self.labels, &Lines)?;
        let queries = dual.queries(linearised.cross_kernel(queries, &Lines)?)?;
        Ok((dual, queries))
    }
}

/// The options of `fit`, its Lambda and s held.
fn held(options: &FitOptions, fit: &LqfFit) -> FitOptions {
    FitOptions {
        weight_decay: WeightDecay::Total(fit.record.lambda),
        backbone_weight: BackboneWeight::Scale(fit.record.backbone_scale),
        ..options.clone()
    }
}

/// All training images, the fit to them, and the options that hold its prior.
pub(crate) fn fitted<'a>(
    job: &'a Job,
    options: &FitOptions,
) -> anyhow::Result<(Part<'a>, LqfFit, FitOptions)> {
    let all = (0..job.train().len()).collect();
    let whole = Part::of(job, all, job.train_labels());
    let fit = whole.fit(options)?;
    let options = held(options, &fit);
    Ok((whole, fit, options))
}

/// `k` of `0..n`, by the seed.
fn drawn(n: usize, k: usize, seed: u64) -> Vec<usize> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut order: Vec<usize> = (0..n).collect();
    for i in 0..k.min(n) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let j = i + (state >> 33) as usize % (n - i);
        order.swap(i, j);
    }
    order.truncate(k);
    order
}

/// One JSON line a comparison.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let options = options(&args.fit)?;
    let job = args.place.open()?;
    match args.what {
        What::Exact => exact(args, &job, &options),
        What::Approximate => approximate(args, &job, &options),
        What::Labels => labels(args, &job, &options),
        What::Summary => summary(args, &job, &options),
    }
}

pub(crate) fn tested(job: &Job) -> anyhow::Result<(&Samples, &[usize])> {
    job.test().ok_or_else(|| anyhow::anyhow!("no test images"))
}

/// Outputs of a fit at samples.
fn outputs(fit: &LqfFit, whole: &Model, samples: &Samples) -> anyhow::Result<Mat<f64>> {
    let mut model = whole.clone();
    model.body = fit.model.clone();
    Ok(model.outputs(samples, &Lines)?)
}

fn exact(args: &Args, job: &Job, options: &FitOptions) -> anyhow::Result<()> {
    let (test, _) = tested(job)?;
    let model = job.fit(options, &mut NoCheckpoints, &Lines)?;
    let n = job.train().len();
    let (whole, fit, options) = fitted(job, options)?;
    let start = Instant::now();
    let (dual, queries) = whole.posterior(&fit, &options, test)?;
    let prepared = start.elapsed().as_secs_f64();
    let before = outputs(&fit, &model, test)?;
    for group in groups(args, n) {
        let start = Instant::now();
        let removal = dual.removed(&group)?;
        let predicted = dual.change(&queries, &removal);
        let seconds = start.elapsed().as_secs_f64();
        let kept = (0..n).filter(|i| !group.contains(i)).collect();
        let start = Instant::now();
        let part = Part::of(job, kept, job.train_labels()).fit(&options)?;
        let refit = start.elapsed().as_secs_f64();
        let true_change = &before - outputs(&part, &model, test)?;
        let error = (&predicted - &true_change).norm_l2() / true_change.norm_l2();
        println!(
            "{}",
            json!({
                "what": "exact", "folder": args.place.folder, "overrides": args.fit, "left_out": group.len(),
                "sample": group[0], "relative_error": error, "correlation": correlation(&predicted, &true_change),
                "change_norm": true_change.norm_l2(), "seconds": seconds, "refit_seconds": refit,
                "prepare_seconds": prepared, "residual": removal.residual, "train": n, "queries": test.len(),
                "refit_relative_gradient": part.record.certificate.relative_gradient_norm,
            })
        );
    }
    Ok(())
}

/// Single samples and groups of a tenth of `n`.
pub(crate) fn groups(args: &Args, n: usize) -> Vec<Vec<usize>> {
    let single = drawn(n, args.samples, args.seed)
        .into_iter()
        .map(|i| vec![i]);
    let groups = (0..args.groups as u64).map(|g| drawn(n, n.div_ceil(10), args.seed + 1 + g));
    single.chain(groups).collect()
}

/// Pearson's, over all entries.
pub(crate) fn correlation(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let entries = |m: &Mat<f64>| -> Vec<f64> {
        m.col_iter()
            .flat_map(|c| c.iter().copied().collect::<Vec<_>>())
            .collect()
    };
    let centred = |m: &Mat<f64>| {
        let v = entries(m);
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        v.into_iter().map(|x| x - mean).collect::<Vec<_>>()
    };
    let (a, b) = (centred(a), centred(b));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

fn labels(args: &Args, job: &Job, options: &FitOptions) -> anyhow::Result<()> {
    let (n, classes) = (job.train().len(), job.classes().len());
    let mut labels = job.train_labels().to_vec();
    let wrong = drawn(n, (args.flipped * n as f64).round() as usize, args.seed);
    for (k, i) in wrong.iter().enumerate() {
        let step = 1 + drawn(classes - 1, 1, args.seed + 1000 + k as u64)[0];
        labels[*i] = (labels[*i] + step) % classes;
    }
    let part = Part::of(job, (0..n).collect(), &labels);
    let start = Instant::now();
    let fit = part.fit(options)?;
    let fitted = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let one = job.train().pick(&[0])?;
    let (dual, _) = part.posterior(&fit, options, &one)?;
    let suspicions = dual.suspicions(&labels);
    let margins: Vec<f64> = suspicions.iter().map(|s| s.margin).collect();
    let surprises: Vec<f64> = suspicions.iter().map(|s| s.surprise).collect();
    let seconds = start.elapsed().as_secs_f64();
    let is_wrong: Vec<bool> = (0..n).map(|i| wrong.contains(&i)).collect();
    for (score, values) in [
        ("leave-one-out margin", margins),
        ("improbable label", surprises),
        ("leave-one-out error", dual.leave_one_out_errors()),
        ("self-influence", dual.self_influence()),
    ] {
        let found = |share: f64| {
            let first = order(&values)
                .into_iter()
                .take((share * n as f64).round() as usize);
            first.filter(|i| is_wrong[*i]).count() as f64 / wrong.len() as f64
        };
        println!(
            "{}",
            json!({
                "what": "labels", "folder": args.place.folder, "overrides": args.fit, "score": score,
                "train": n, "flipped": wrong.len(), "seed": args.seed, "auc": auc(&values, &is_wrong),
                "found_in_first_10_percent": found(0.1), "found_in_first_20_percent": found(0.2),
                "fit_seconds": fitted, "seconds": seconds, "leave_one_out_error": fit.record.leave_one_out_error,
            })
        );
    }
    Ok(())
}

/// Indices, the largest value first.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order
}

/// The chance that a true one has the larger value than a false one.
fn auc(values: &[f64], positive: &[bool]) -> f64 {
    let (mut negatives, mut wins) = (0.0, 0.0);
    for i in order(values) {
        if positive[i] {
            wins += 1.0;
        } else {
            negatives += wins;
        }
    }
    let of = |wanted: bool| positive.iter().filter(|p| **p == wanted).count() as f64;
    negatives / (of(true) * of(false))
}

fn summary(args: &Args, job: &Job, options: &FitOptions) -> anyhow::Result<()> {
    let (test, truth) = tested(job)?;
    let model = job.fit(options, &mut NoCheckpoints, &Lines)?;
    let n = job.train().len();
    let (whole, fit, options) = fitted(job, options)?;
    let one = job.train().pick(&[0])?;
    let (dual, _) = whole.posterior(&fit, &options, &one)?;
    let most = order(&dual.informativeness_among());
    let least: Vec<usize> = most.iter().rev().copied().collect();
    let random = drawn(n, n, args.seed);
    for share in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] {
        let count = (share * n as f64).round() as usize;
        for (name, order) in [("most", &most), ("least", &least), ("random", &random)] {
            let mut kept = order[count..].to_vec();
            kept.sort_unstable();
            let part = Part::of(job, kept, job.train_labels()).fit(&options)?;
            let error = error_rate(&outputs(&part, &model, test)?, truth);
            println!(
                "{}",
                json!({
                    "what": "summary", "folder": args.place.folder, "overrides": args.fit, "dropped": name,
                    "share": share, "count": count, "test_error": error, "whole": model.header.report.test_error,
                })
            );
        }
    }
    Ok(())
}
