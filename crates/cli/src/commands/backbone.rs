//! `convextune backbone`.

use std::path::Path;

use anyhow::{Result, bail};
use convextune::model_file::check_no_model;
use convextune::progress::Reporter;
use convextune_model::backbones::{Backbone, all, cache_dir, detect, locate, pull};
use convextune_model::graph::Executor;
use convextune_model::tensor::{Shape, Tensor};
use convextune_model::weights::{Format, WeightFile, sha256_of};
use serde::Serialize;

use crate::args::BackboneCommand;
use crate::output::{print, print_json};
use crate::progress::Terminal;
use crate::table::{columns, pairs};

/// Lists, fetches or checks.
pub fn run(command: &BackboneCommand) -> Result<()> {
    match command {
        BackboneCommand::List { json } => list(*json),
        BackboneCommand::Pull { backbone, quiet } => fetch(backbone, *quiet),
        BackboneCommand::Check {
            file,
            backbone,
            json,
        } => check(file, *backbone, *json),
    }
}

/// One known network.
#[derive(Serialize)]
struct Known {
    name: &'static str,
    features: usize,
    image_size: usize,
    description: &'static str,
    /// The weight file in the cache.
    cached: Option<String>,
    /// Where `pull` fetches the weights from.
    source: Option<String>,
    licence: Option<&'static str>,
}

fn list(json: bool) -> Result<()> {
    let cache = cache_dir()?;
    let known = |backbone: &Backbone| Known {
        name: backbone.name(),
        features: backbone.features(),
        image_size: backbone.transform().size(),
        description: backbone.description(),
        cached: locate(backbone, &cache)
            .ok()
            .map(|path| path.display().to_string()),
        source: backbone.source().map(|s| format!("{}/{}", s.repo, s.file)),
        licence: backbone.source().map(|s| s.licence),
    };
    let known: Vec<Known> = all().iter().map(known).collect();
    if json {
        return print_json(&known);
    }
    let heads = [
        "name",
        "features",
        "size",
        "cached",
        "fetched from",
        "description",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(known.into_iter().map(|k| {
        vec![
            k.name.to_owned(),
            k.features.to_string(),
            k.image_size.to_string(),
            if k.cached.is_some() { "yes" } else { "no" }.to_owned(),
            k.source.unwrap_or_else(|| "-".to_owned()),
            k.description.to_owned(),
        ]
    }));
    print(&format!(
        "{}\ncache: {}\n",
        columns(&rows, &[1, 2]),
        cache.display()
    ))
}

fn fetch(backbone: &'static Backbone, quiet: bool) -> Result<()> {
    let reporter = Terminal::new(quiet, 1e-3);
    let mut seen = 0;
    let mut progress = |done: u64, total: u64| {
        if done < seen || seen == 0 {
            reporter.stage(&format!("{} (bytes)", backbone.name()), total);
            seen = 0;
        }
        reporter.advance(done - seen);
        seen = done;
    };
    let path = pull(backbone, &cache_dir()?, &mut progress)?;
    reporter.finish();
    print(&format!("{}\n", path.display()))
}

/// What a weight file is.
#[derive(Serialize)]
struct Checked<'a> {
    file: &'a Path,
    backbone: &'static str,
    format: &'static str,
    /// Whose tensor names it uses.
    naming: &'static str,
    tensors: usize,
    weights: usize,
    /// Classes of the last layer, if the file has one that fits.
    classifier: Option<usize>,
    sha256: String,
    /// Mean of the features of a grey image.
    grey_mean: f64,
}

fn check(path: &Path, wanted: Option<&'static Backbone>, json: bool) -> Result<()> {
    let file = WeightFile::read(path)?;
    check_no_model(&file)?;
    let Some(backbone) = wanted.or_else(|| detect(&file)) else {
        bail!(
            "{}: its tensors are not those of a known backbone; name one with --backbone",
            path.display()
        );
    };
    let loaded = backbone.load(&file)?;
    let transform = backbone.transform();
    let mut image = vec![0.0; transform.values()];
    transform.normalise(&vec![128; transform.values()], false, &mut image);
    let shape = Shape::new(1, transform.size(), transform.size(), 3);
    let mut executor = Executor::new(&loaded.network, loaded.network.graph().nodes().len());
    let features = executor.forward(Tensor::from_vec(shape, image))?;
    if !features.data().iter().all(|x| x.is_finite()) {
        bail!(
            "{}: a grey image makes the network overflow; the weights are no good",
            path.display()
        );
    }
    let sum: f64 = features.data().iter().map(|x| f64::from(*x)).sum();
    let checked = Checked {
        file: path,
        backbone: backbone.name(),
        format: match file.format {
            Format::Safetensors => "safetensors",
            Format::TorchZip => "PyTorch (zip)",
            Format::TorchLegacy => "PyTorch (before 1.6)",
        },
        naming: loaded.naming,
        tensors: file.tensors.len(),
        weights: loaded.network.parameters().len(),
        classifier: loaded
            .classifier
            .as_ref()
            .map(convextune_model::backbones::Classifier::classes),
        sha256: sha256_of(path)?,
        grey_mean: sum / features.data().len().max(1) as f64,
    };
    if json {
        print_json(&checked)
    } else {
        print(&describe(&checked))
    }
}

fn describe(c: &Checked<'_>) -> String {
    pairs(&[
        ("file", c.file.display().to_string()),
        ("backbone", c.backbone.to_owned()),
        ("format", c.format.to_owned()),
        ("naming", c.naming.to_owned()),
        ("tensors", format!("{}, all finite", c.tensors)),
        ("weights", c.weights.to_string()),
        (
            "classifier",
            c.classifier
                .map_or("none".to_owned(), |n| format!("{n} classes")),
        ),
        ("SHA-256", c.sha256.clone()),
        (
            "grey image",
            format!("features finite, mean {:.4}", c.grey_mean),
        ),
    ])
}
