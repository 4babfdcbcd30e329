//! Images per second of forward, JVP, forward + VJP and the normal product.

use std::time::Instant;

use anyhow::Context;
use convextune::finetune::multiply_adds;
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
    /// Pass: forward, jvp, vjp, normal; layers for a table; peak for matrix products in the cache.
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
    pub threads: usize,
}

/// Prints one JSON line: images per second of the fastest and the median repetition.
pub fn run(args: &Args) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build_global()?;
    if args.mode == "layers" {
        return crate::layers::run(args);
    }
    if args.mode == "peak" {
        peak(args);
        return Ok(());
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
    // Vectors that a pass does not read are not there, for the sake of its peak memory.
    let of = |modes: &[&str], value| {
        let used = modes.contains(&args.mode.as_str());
        vec![value; if used { executor.trainable_len() } else { 0 }]
    };
    let v = of(&["jvp", "normal"], 1e-3f32);
    let mut gw = of(&["vjp", "normal"], 0.0f32);
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
                executor.vjp(recording, g, &mut gw);
            }
            other => anyhow::bail!("unknown mode {other}"),
        }
        times.push(start.elapsed().as_secs_f64());
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let median = *times.get(times.len() / 2).context("no repetition")?;
    let per_second = |t: f64| args.batch as f64 / t;
    // As if every convolution were summed directly: primal once, tangent and adjoint twice each.
    let passes = match args.mode.as_str() {
        "forward" => 1.0,
        "normal" => 5.0,
        _ => 3.0,
    };
    let operations = 2.0 * passes * multiply_adds(network.graph(), shape);
    println!(
        "{}",
        serde_json::json!({
            "engine": "convextune", "model": args.backbone, "mode": args.mode, "batch": args.batch,
            "size": args.size, "threads": args.threads, "repetitions": times.len(),
            "images_per_second": per_second(median), "best": per_second(times[0]),
            "gflops_if_direct": per_second(median) * operations / 1e9,
            "peak_memory_bytes": peak_memory(),
        })
    );
    Ok(())
}

/// Prints the rate of matrix products whose operands stay in the second-level cache, one product a
/// thread: what a pass could reach at best. `gemm` is the crate, `tiles` the engine's own.
fn peak(args: &Args) {
    use convextune_model::kernels::gemm::{Mat, MatMut, gemm};
    use convextune_model::kernels::tile::{Rows, pack, panel_width};
    use rayon::prelude::*;
    let (m, k, n) = (196, 256, 256);
    let x: Vec<f32> = (0..m * k).map(symmetric).collect();
    let w: Vec<f32> = (0..k * n).map(symmetric).collect();
    let panels = pack(k, n, |i| &w[i * n..(i + 1) * n]);
    let base: Vec<usize> = (0..m).map(|i| i * k).collect();
    let products = 200;
    let rate = |own: bool| {
        let mut best = f64::INFINITY;
        for _ in 0..7 {
            let start = Instant::now();
            (0..args.threads).into_par_iter().for_each(|_| {
                let mut c = vec![0.0f32; m * n];
                for _ in 0..products {
                    if own {
                        Rows {
                            x: &x,
                            base: &base,
                            taps: &[0],
                            run: k,
                            panels: &panels,
                            panel_stride: k * panel_width::<f32>(),
                            cols: n,
                            c: &mut c,
                            stride: n,
                            accumulate: false,
                        }
                        .run();
                    } else {
                        let (a, b) = (Mat::new(&x, m, k), Mat::new(&w, k, n));
                        gemm(MatMut::new(&mut c, m, n), false, a, b);
                    }
                    std::hint::black_box(&mut c);
                }
            });
            best = best.min(start.elapsed().as_secs_f64());
        }
        2.0 * (m * k * n * products * args.threads) as f64 / best / 1e9
    };
    println!(
        "{}",
        serde_json::json!({
            "engine": "convextune", "mode": "peak", "threads": args.threads,
            "gemm_gflops": rate(false), "tiles_gflops": rate(true),
        })
    );
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
pub fn symmetric(i: usize) -> f32 {
    let mut z = (i as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z >> 40) as f32) / (1u64 << 23) as f32 - 1.0
}
