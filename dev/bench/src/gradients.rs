//! Writes features and sketched gradients of every picture, for experiments with kernels.

use std::fs;
use std::path::{Path, PathBuf};

use convextune::finetune::FitOptions;
use convextune::linearize::{Linearization, SketchOptions};
use convextune::progress::Reporter;
use convextune::samples::Samples;
use convextune_model::graph::Network;
use convextune_model::tensor::Shape;

use crate::study::{Lines, Place};

/// Pictures that travel through the network together.
const BATCH: usize = 16;

/// Options of `gradients`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to measure.
    #[command(flatten)]
    place: Place,
    /// Directions in the space of features, raw f32, `R x d`: gradients are those of their products
    /// with the features.
    #[arg(long)]
    directions: PathBuf,
    /// Nodes (prefixes of names): one sketch of the gradients in all weights from each of them on.
    #[arg(long, value_delimiter = ',', default_value = "")]
    from: Vec<String>,
    /// Buckets of a sketch.
    #[arg(long, default_value_t = 4096)]
    buckets: usize,
    /// Mirror the pictures left to right.
    #[arg(long)]
    mirror: bool,
    /// Folder to write to: `labels` (i64, test pictures as -1 - label), `features` (N x d) and
    /// `from-<node>` (N x R x k), raw f32, training pictures first.
    #[arg(short)]
    output: PathBuf,
}

/// Training and test pictures in one.
fn pictures(train: &Samples, test: Option<&Samples>, mirror: bool) -> anyhow::Result<Samples> {
    let shape = train.shape();
    let mut data = Vec::new();
    for part in [Some(train), test].into_iter().flatten() {
        for range in part.batches(BATCH) {
            data.extend_from_slice(part.batch(range)?.data());
        }
    }
    if mirror {
        for row in data.chunks_mut(shape.w * shape.c) {
            for x in 0..shape.w / 2 {
                for c in 0..shape.c {
                    row.swap(x * shape.c + c, (shape.w - 1 - x) * shape.c + c);
                }
            }
        }
    }
    Ok(Samples::memory(shape, data))
}

/// The network with the directions as its head.
fn with_directions(
    network: &Network<f32>,
    shape: Shape,
    file: &Path,
) -> anyhow::Result<Network<f32>> {
    let raw = fs::read(file)?;
    let rows: Vec<f32> = raw
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let shapes = network.graph().shapes(shape)?;
    let d = shapes[network.graph().output()].c;
    let count = rows.len() / d;
    let head: Vec<f32> = (0..d * count)
        .map(|i| rows[(i % count) * d + i / count])
        .collect();
    Ok(network.with_head("directions", count, &head))
}

fn write<T: Copy>(path: &Path, values: &[T], bytes: fn(T) -> Vec<u8>) -> anyhow::Result<()> {
    let raw: Vec<u8> = values.iter().flat_map(|v| bytes(*v)).collect();
    Ok(fs::write(path, raw)?)
}

/// One file a sketch.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let job = args.place.open()?;
    fs::create_dir_all(&args.output)?;
    let (test, hidden) = job.test().map_or((None, &[][..]), |(s, l)| (Some(s), l));
    let all = pictures(job.train(), test, args.mirror)?;
    let labels = job.train_labels().iter().map(|l| *l as i64);
    let labels: Vec<i64> = labels
        .chain(hidden.iter().map(|l| -1 - *l as i64))
        .collect();
    write(&args.output.join("labels"), &labels, |l| {
        l.to_le_bytes().to_vec()
    })?;
    let network = with_directions(
        &job.leaky_network(&FitOptions::default()),
        all.shape(),
        &args.directions,
    )?;
    for from in &args.from {
        let first = network.graph().find(from)?;
        let cut = network.graph().cut_before(first);
        let split = network.split(cut, all.shape())?;
        Lines.stage(from, all.len() as u64);
        let seen = all.through(&split.prefix, BATCH, &Lines)?;
        let trainable = first.saturating_sub(split.shift);
        let lin = Linearization::new(&split.suffix, trainable, &seen, BATCH, &Lines)?;
        let rows = lin.sketch(SketchOptions {
            buckets: args.buckets,
            seed: 0,
            sketch_head: false,
        })?;
        let name = format!("from-{from}");
        write(&args.output.join(name), &rows.sketch.rows, |v| {
            v.to_le_bytes().to_vec()
        })?;
        write(&args.output.join("features"), &rows.features, |v| {
            v.to_le_bytes().to_vec()
        })?;
    }
    Ok(())
}
