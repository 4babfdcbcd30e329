//! Test error and certificate over methods, head kinds and options.

use std::path::PathBuf;

use convextune::finetune::{FitOptions, NoCheckpoints};
use convextune::job::{Job, JobOptions};
use convextune::progress::Reporter;
use convextune_model::images::Holdout;
use convextune_solve::Record;

/// An image set and a network.
#[derive(clap::Args)]
pub struct Place {
    /// Folder with `train` and `test`.
    pub folder: PathBuf,
    /// Backbone.
    #[arg(long)]
    backbone: Option<String>,
    /// Weight file.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Side of the images.
    #[arg(long)]
    image_size: Option<usize>,
}

/// Options of `study`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to measure.
    #[command(flatten)]
    place: Place,
    /// Fits to run: JSON objects that override the default options, such as `{"method":"fc"}`.
    #[arg(long = "fit", required = true)]
    fits: Vec<String>,
}

/// The default options with the fields of `overrides` replaced.
pub fn options(overrides: &str) -> anyhow::Result<FitOptions> {
    let mut value = serde_json::to_value(FitOptions::default())?;
    let given: serde_json::Map<String, serde_json::Value> = serde_json::from_str(overrides)?;
    for (key, new) in given {
        match value.get_mut(&key) {
            Some(slot) => *slot = new,
            None => anyhow::bail!("no option `{key}`"),
        }
    }
    Ok(serde_json::from_value(value)?)
}

impl Place {
    /// Opens a job on the folder, which is laid out as train and test.
    pub fn open(&self) -> anyhow::Result<Job> {
        let job = JobOptions {
            folder: self.folder.clone(),
            backbone: self.backbone.clone(),
            weights: self.weights.clone(),
            image_size: self.image_size,
            holdout: Holdout::Auto,
            test: None,
            cache_memory: 4 << 30,
            skip_unreadable: false,
            seed: 0,
        };
        Ok(Job::open(&job, &Lines)?)
    }
}

/// Progress as lines on standard error.
pub struct Lines;

impl Reporter for Lines {
    fn stage(&self, name: &str, total: u64) {
        eprintln!("[{name} {total}]");
    }
    fn note(&self, text: &str) {
        eprintln!("  {text}");
    }
    fn iteration(&self, record: &Record) {
        let gradient = record.relative_gradient_norm;
        eprintln!(
            "  {} residual {:.2e} gradient {gradient:?} bound {:.2e}",
            record.iteration, record.relative_residual, record.suboptimality_bound
        );
    }
}

/// One JSON line a fit.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let job = args.place.open()?;
    for fit in &args.fits {
        let options = options(fit)?;
        let model = job.fit(&options, &mut NoCheckpoints, &Lines)?;
        let report = serde_json::to_value(&model.header.report)?;
        println!(
            "{}",
            serde_json::json!({ "folder": args.place.folder, "overrides": fit, "report": report })
        );
    }
    Ok(())
}
