//! CountSketch of the Jacobian's rows: Z in R^{NC x k} with E[Z Z'] = J J'.
//!
//! Every coordinate of a row is added, with a seeded sign, into one of k seeded buckets
//! (Charikar, Chen and Farach-Colton 2002). Coordinates travel in blocks of 16: a block has one
//! seeded position among k / 16 and each coordinate a sign of its own. Two coordinates meet in a
//! bucket only when their blocks' positions agree, and their signs are independent, so the
//! estimate of every inner product stays unbiased; its variance is that of a CountSketch where the
//! 16 lanes carry equal norm (`docs/math/preconditioners.md`). The inner loop is a vector addition.

use convextune_model::graph::LayerGradient;
use convextune_solve::quadratic::Sketch;
use rayon::prelude::*;

use super::Linearization;
use super::gradients::Rows;
use crate::error::Error;
use crate::rng::mix;

/// Coordinates that travel together.
const BLOCK: usize = 16;

/// What to sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SketchOptions {
    /// Buckets k; rounded up to a multiple of 16.
    pub buckets: usize,
    /// Seed of positions and signs.
    pub seed: u64,
    /// Whether the head's coordinates are sketched too. If not, only the features are returned,
    /// which give the head's part of the kernel exactly.
    pub sketch_head: bool,
}

/// A sketched Jacobian and what gives the head's part exactly.
#[derive(Clone, Debug)]
pub struct SketchedRows {
    /// Z, `NC x k`.
    pub sketch: Sketch,
    /// The head's input, `N x d`, row-major: the head's part of J J' is (Phi Phi') (x) I.
    pub features: Vec<f32>,
}

impl Linearization<'_> {
    /// Sketches every row of J: C backward passes a sample, which share one primal pass.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn sketch(&self, options: SketchOptions) -> Result<SketchedRows, Error> {
        self.sketch_of(&(0..self.outputs()).collect::<Vec<_>>(), options)
    }

    /// Sketches the rows of some `classes` alone, for every sample.
    ///
    /// # Errors
    /// When a sample cannot be read.
    pub fn sketch_of(
        &self,
        classes: &[usize],
        options: SketchOptions,
    ) -> Result<SketchedRows, Error> {
        let k = options.buckets.max(1).next_multiple_of(BLOCK);
        let (c, head) = (classes.len(), self.head());
        let mut z = vec![0.0f32; self.samples().len() * c * k];
        let mut features = Vec::new();
        let along = |_: usize, j: usize, g: &mut [f32]| g[classes[j]] = 1.0;
        self.for_directions((c, 0), along, |layer, rows| {
            if layer.node == head {
                if rows.directions.start == 0 {
                    features.extend_from_slice(layer.primal.inputs[0].data);
                }
                if !options.sketch_head {
                    return;
                }
            }
            let first = rows.samples.start * c * k;
            let z = &mut z[first..rows.samples.end * c * k];
            add_layer(layer, rows, options.seed, (c, k), z);
        })?;
        Ok(SketchedRows {
            sketch: Sketch {
                rows: z,
                width: k,
                classes: c,
            },
            features,
        })
    }
}

/// Adds one layer's share to the rows of `z`, which are those of the batch's samples.
fn add_layer(
    layer: &LayerGradient<'_, f32>,
    rows: &Rows,
    seed: u64,
    (classes, k): (usize, usize),
    z: &mut [f32],
) {
    let len = layer.weights.parameters.len();
    let seed = mix(seed ^ mix(layer.node as u64));
    let directions = rows.directions.clone();
    z.par_chunks_mut(k).enumerate().for_each_init(
        || vec![0.0f32; len],
        |gw, (row, z)| {
            let (sample, class) = (row / classes, row % classes);
            if directions.contains(&class) {
                gw.fill(0.0);
                layer.add_one_to(sample, class - directions.start, gw);
                count_sketch(gw, seed, z);
            }
        },
    );
}

/// `z += S gw` for the layer's part of the sketching matrix S.
fn count_sketch(gw: &[f32], seed: u64, z: &mut [f32]) {
    let groups = (z.len() / BLOCK) as u64;
    for (b, block) in gw.chunks(BLOCK).enumerate() {
        let hash = mix(seed.wrapping_add(b as u64));
        let group = (((hash >> 32) * groups) >> 32) as usize;
        let z = &mut z[group * BLOCK..(group + 1) * BLOCK];
        for (l, (z, &g)) in z.iter_mut().zip(block).enumerate() {
            let sign = ((hash >> l) as u32 & 1) << 31;
            *z += f32::from_bits(g.to_bits() ^ sign);
        }
    }
}
