//! The exact dual kernel and its sketch beside a product with J'J: what each costs, and after how
//! many products the kernel has paid.

use std::time::Instant;

use convextune::finetune::multiply_adds;
use convextune::linearize::{Linearization, SketchOptions};
use convextune::progress::Silent;
use convextune::report::peak_memory;
use convextune::samples::Samples;
use convextune_model::backbones::by_name;
use convextune_model::tensor::Shape;
use convextune_solve::LinearOperator;

use crate::engine::{filled, symmetric};

/// Options of `dual`.
#[derive(clap::Args)]
pub struct Args {
    /// Backbone; weights and pictures are made up.
    #[arg(long, default_value = "efficientnet-lite0")]
    backbone: String,
    /// What to compute: kernel, sketch or normal (one product with J'J). One a process, for the
    /// sake of peak memory.
    #[arg(long, default_value = "kernel")]
    what: String,
    /// Pictures.
    #[arg(long, default_value_t = 200)]
    samples: usize,
    /// Classes, which share the weights.
    #[arg(long, default_value_t = 10)]
    classes: usize,
    /// Side of a picture.
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Buckets of the sketch.
    #[arg(long, default_value_t = 2048)]
    buckets: usize,
    /// Train from this node on; left out, the whole network.
    #[arg(long)]
    from: Option<String>,
    /// Bytes of rows of J that the kernel holds at a time.
    #[arg(long, default_value_t = 2 << 30)]
    memory: usize,
}

/// Prints one JSON line.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let backbone = by_name(&args.backbone)?;
    let body = filled(backbone.graph());
    let head: Vec<f32> = (0..backbone.features() * args.classes)
        .map(symmetric)
        .collect();
    let network = body.with_head("head", args.classes, &head);
    let shape = Shape::new(1, args.size, args.size, 3);
    let pictures = (0..args.samples * shape.len()).map(symmetric).collect();
    let samples = Samples::memory(shape, pictures);
    let first = match &args.from {
        Some(name) => network.graph().find(name)?,
        None => 0,
    };
    let lin = Linearization::new(&network, first, &samples, 16, &Silent)?;
    let start = Instant::now();
    match args.what.as_str() {
        "kernel" => drop(lin.kernel(args.memory)?),
        "sketch" => drop(lin.sketch(SketchOptions {
            buckets: args.buckets,
            seed: 0,
            sketch_head: false,
        })?),
        "normal" => {
            let u = vec![1e-3; lin.cols()];
            let (mut image, mut out) = (vec![0.0; lin.rows()], u.clone());
            lin.apply_normal(&u, &mut image, &mut out)?;
        }
        other => anyhow::bail!("{other} is not kernel, sketch or normal"),
    }
    let seconds = start.elapsed().as_secs_f64();
    let (rows, weights) = (lin.rows() as f64, lin.cols() as f64);
    let primal = multiply_adds(network.graph(), shape) * args.samples as f64;
    println!(
        "{}",
        serde_json::json!({
            "what": args.what, "backbone": args.backbone, "from": args.from,
            "samples": args.samples, "classes": args.classes, "rows": lin.rows(),
            "weights": lin.cols(), "size": args.size, "buckets": args.buckets, "seconds": seconds,
            // Of the kernel: half of rows x rows inner products of D numbers each.
            "gram_gflops_if_direct": (args.what == "kernel").then(|| rows * rows * weights / seconds / 1e9),
            "forward_gflop": 2e-9 * primal,
            "peak_memory_bytes": peak_memory(),
        })
    );
    Ok(())
}
