//! Images per second of forward, JVP, forward + VJP and the normal product.

use std::time::Instant;

use anyhow::Context;
use convextune::report::peak_memory;
use convextune_model::backbones::by_name;
use convextune_model::graph::{Executor, Graph, Network};
use convextune_model::ops::Role;
use convextune_model::tensor::{Shape, Tensor};

/// Options of `engine`.
#[derive(clap::Args)]
pub struct Args {
    /// Backbone.
    #[arg(long, default_value = "efficientnet-lite0")]
    pub backbone: String,
    /// Pass: forward, jvp, vjp, normal, or layers for a table.
    #[arg(long, default_value = "forward")]
    pub mode: String,
    /// Images in a batch.
    #[arg(long, default_value_t = 16)]
    pub batch: usize,
    /// Side of an image.
    #[arg(long, default_value_t = 224)]
    pub size: usize,
    /// Seconds of measurement, after one pass to warm up.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Prints one JSON line: images per second of the fastest and the median repetition.
pub fn run(args: &Args) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build_global()?;
    if args.mode == "layers" {
        return crate::layers::run(args);
    }
    let network = filled(by_name(&args.backbone)?.graph());
    let mut executor = Executor::new(&network, 0);
    let shape = Shape::new(args.batch, args.size, args.size, 3);
    let image = Tensor::from_vec(
        shape,
        (0..shape.len())
            .map(|i| (i % 255) as f32 / 128.0 - 1.0)
            .collect(),
    );
    let v = vec![1e-3f32; executor.trainable_len()];
    let mut gw = vec![0.0f32; executor.trainable_len()];
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < args.seconds {
        let start = Instant::now();
        match args.mode.as_str() {
            "forward" => {
                let y = executor.forward(image.clone())?;
                executor.recycle_tensor(y);
            }
            "jvp" => {
                let (y, dy) = executor.dual(image.clone(), &v)?;
                executor.recycle_tensor(y);
                executor.recycle_tensor(dy);
            }
            "vjp" | "normal" => {
                let tangent = (args.mode == "normal").then_some(v.as_slice());
                let recording = executor.record(image.clone(), tangent)?;
                let mut g = recording.output.clone();
                g.data_mut().fill(1.0);
                executor.vjp(&recording, g, &mut gw);
                executor.recycle(recording);
            }
            other => anyhow::bail!("unknown mode {other}"),
        }
        times.push(start.elapsed().as_secs_f64());
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let median = *times.get(times.len() / 2).context("no repetition")?;
    let per_second = |t: f64| args.batch as f64 / t;
    println!(
        "{}",
        serde_json::json!({
            "engine": "convextune", "model": args.backbone, "mode": args.mode, "batch": args.batch,
            "size": args.size, "threads": args.threads, "repetitions": times.len(),
            "images_per_second": per_second(median), "best": per_second(times[0]),
            "peak_memory_bytes": peak_memory(),
        })
    );
    Ok(())
}

/// A leaky network with made-up weights.
pub fn filled(graph: Graph) -> Network<f32> {
    // He-scaled kernels and unit gammas keep activations of order one: no denormal numbers.
    let mut parameters = Vec::new();
    for p in graph.parameters() {
        let fan_in = p.dims[..p.dims.len() - 1].iter().product::<usize>().max(1) as f32;
        let value = |i: usize| match p.role {
            Role::Kernel => symmetric(p.range.start + i) * (6.0 / fan_in).sqrt(),
            Role::Gamma => 0.7,
            Role::Bias | Role::Beta => 0.1 * symmetric(p.range.start + i),
        };
        parameters.extend((0..p.range.len()).map(value));
    }
    // Frozen statistics: means of 0, variances of 1.
    let mut buffers = Vec::new();
    for op in graph.nodes().iter().filter_map(|n| n.op.operator::<f32>()) {
        let half = op.buffers() / 2;
        buffers.extend((0..2 * half).map(|i| if i < half { 0.0 } else { 1.0 }));
    }
    let mut network = Network::new(graph, parameters, buffers);
    network.swap_activation(|a| a.leaky(0.01));
    network
}

/// A number in [-1, 1) that looks random, from its index.
fn symmetric(i: usize) -> f32 {
    let mut z = (i as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z >> 40) as f32) / (1u64 << 23) as f32 - 1.0
}
