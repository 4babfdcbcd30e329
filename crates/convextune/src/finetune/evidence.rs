//! What the choice of the prior looks at: the kernel of a part of the samples and classes.
//!
//! At most [`CLASSES`] classes make one part, with their samples alone: a problem of the same kind
//! with fewer classes, small enough for an exact factorisation. As many parts are made as fit in
//! [`ROWS`] rows. Their kernels come from the exact kernel or from the sketch where these are
//! computed anyway, and otherwise from a sketch of these rows alone.

use convextune_solve::faer::Mat;
use convextune_solve::quadratic::{KernelParts, Sketch};

use super::features::Features;
use super::lqf::TrainingSet;
use super::options::{FitOptions, HeadInit};
use super::plan::KERNEL_BYTES;
use super::prepared::Statistics;
use crate::error::Error;
use crate::linearize::{Linearization, SketchOptions, SketchedRows};
use crate::progress::Reporter;
use crate::rng::Rng;

/// Classes of a part, at most.
const CLASSES: usize = 10;
/// Rows (samples times classes) of a part, at most.
const PART: usize = 2400;
/// Samples of a part, at most: they are kept in memory.
const SAMPLES: usize = 400;
/// Rows after which no part is added.
const ROWS: usize = 4000;
/// Buckets of a sketch made for this purpose.
const BUCKETS: usize = 8192;

/// The kernel of some samples and classes.
pub(super) struct Evidence {
    /// Sorted.
    pub samples: Vec<usize>,
    /// Sorted.
    pub classes: Vec<usize>,
    pub parts: KernelParts,
}

impl Evidence {
    /// The entries of `t` (`NC`, sample-major) that belong to this part.
    pub(super) fn target(&self, t: &[f64], classes: usize) -> Vec<f64> {
        let mut target = Vec::with_capacity(self.samples.len() * self.classes.len());
        for i in &self.samples {
            target.extend(self.classes.iter().map(|c| t[i * classes + c]));
        }
        target
    }
}

/// Whether one part holds all samples and classes: its sketch is then that of every row.
pub(super) fn is_whole(samples: usize, classes: usize) -> bool {
    classes <= CLASSES && samples <= most_samples(classes)
}

/// Samples of a part of `classes` classes, at most.
fn most_samples(classes: usize) -> usize {
    (PART / classes.max(1)).clamp(2, SAMPLES)
}

/// The kernels of all parts.
pub(super) fn gather(
    lin: &Linearization<'_>,
    statistics: &Statistics,
    data: TrainingSet<'_>,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Vec<Evidence>, Error> {
    if options.head_init == HeadInit::Common {
        return Ok(vec![of_copies(lin, statistics, data, options, reporter)?]);
    }
    let parts = parts(data.labels, data.classes, options.seed);
    if !matches!(statistics, Statistics::Kernel(_) | Statistics::Sketch(_)) {
        let samples: usize = parts.iter().map(|(samples, _)| samples.len()).sum();
        reporter.stage("sketch of a part", samples as u64);
    }
    let evidence = |(samples, classes): (Vec<usize>, Vec<usize>)| {
        let parts = match statistics {
            Statistics::Kernel(kernel) => kernel.select(&samples, &classes),
            Statistics::Sketch(rows) => {
                let (sketch, phi) = select(rows, &samples, &classes, data.samples.len());
                KernelParts::from_sketch(&sketch, phi.as_ref())?
            }
            Statistics::Features(_) | Statistics::Curvature(_) | Statistics::Nothing => {
                let picked = lin.samples().pick(&samples)?;
                let options = SketchOptions {
                    buckets: BUCKETS,
                    seed: options.seed,
                    sketch_head: false,
                };
                let rows = lin.on(&picked)?.sketch_of(&classes, options)?;
                lin.count_part(samples.len(), classes.len());
                let phi = Features::from_rows(&rows.features, samples.len()).phi;
                KernelParts::from_sketch(&rows.sketch, phi.as_ref())?
            }
        };
        Ok(Evidence {
            samples,
            classes,
            parts,
        })
    };
    parts.into_iter().map(evidence).collect()
}

/// Where every class has a copy of the weights the kernel is `N x N` for all classes: that of all
/// samples, or of as many as a part has rows, always exact.
fn of_copies(
    lin: &Linearization<'_>,
    statistics: &Statistics,
    data: TrainingSet<'_>,
    options: &FitOptions,
    reporter: &dyn Reporter,
) -> Result<Evidence, Error> {
    let mut samples: Vec<usize> = (0..data.labels.len()).collect();
    if samples.len() > PART {
        Rng::new(options.seed, "prior").shuffle(&mut samples);
        samples.truncate(PART);
        samples.sort_unstable();
    }
    let parts = if let Statistics::Kernel(kernel) = statistics {
        kernel.select(&samples, &[0])
    } else {
        let picked = lin.samples().pick(&samples)?;
        let lin_of_part = lin.on(&picked)?;
        let runs = lin_of_part.kernel_passes(KERNEL_BYTES);
        reporter.stage("kernel of a part", (samples.len() * runs) as u64);
        lin.count_part(samples.len() * runs, 1);
        lin_of_part.kernel(KERNEL_BYTES)?
    };
    Ok(Evidence {
        samples,
        classes: (0..data.classes).collect(),
        parts,
    })
}

/// Samples and classes of every part, each sorted.
fn parts(labels: &[usize], classes: usize, seed: u64) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut rng = Rng::new(seed, "prior");
    let mut all: Vec<usize> = (0..classes).collect();
    let groups = classes.div_ceil(CLASSES).max(1);
    if groups > 1 {
        rng.shuffle(&mut all);
    }
    let mut parts = Vec::new();
    let mut rows = 0;
    for group in all.chunks(classes.div_ceil(groups).max(1)) {
        let mut chosen = group.to_vec();
        chosen.sort_unstable();
        let of_group = |i: &usize| chosen.binary_search(&labels[*i]).is_ok();
        let mut samples: Vec<usize> = (0..labels.len()).filter(of_group).collect();
        let most = most_samples(chosen.len());
        if samples.len() > most {
            rng.shuffle(&mut samples);
            samples.truncate(most);
            samples.sort_unstable();
        }
        rows += samples.len() * chosen.len();
        parts.push((samples, chosen));
        if rows >= ROWS {
            break;
        }
    }
    parts
}

/// The rows of a sketch that belong to `samples` and `classes`, and the features of `samples`.
fn select(
    rows: &SketchedRows,
    samples: &[usize],
    classes: &[usize],
    n: usize,
) -> (Sketch, Mat<f64>) {
    let sketch = &rows.sketch;
    let k = sketch.width;
    let mut picked = Vec::with_capacity(samples.len() * classes.len() * k);
    for i in samples {
        for c in classes {
            let row = i * sketch.classes + c;
            picked.extend_from_slice(&sketch.rows[row * k..(row + 1) * k]);
        }
    }
    let sketch = Sketch {
        rows: picked,
        width: k,
        classes: classes.len(),
    };
    (
        sketch,
        Features::from_rows(&rows.features, n).select(samples).phi,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_few_classes_and_their_samples_alone() {
        let labels: Vec<usize> = (0..2000).map(|i| i % 101).collect();
        let parts = parts(&labels, 101, 1);
        assert!(parts.len() > 1 && parts.len() < 11);
        for (samples, classes) in &parts {
            assert!(classes.len() <= CLASSES && samples.len() * classes.len() <= PART);
            assert!(samples.is_sorted() && classes.is_sorted());
            assert!(samples.iter().all(|i| classes.contains(&labels[*i])));
        }
    }

    #[test]
    fn a_small_set_is_one_part_with_everything() {
        let labels: Vec<usize> = (0..40).map(|i| i % 4).collect();
        let all = parts(&labels, 4, 0);
        assert_eq!(all, vec![((0..40).collect(), (0..4).collect())]);
    }

    #[test]
    fn a_part_too_large_is_drawn_from_all_its_samples_by_the_seed() {
        let labels: Vec<usize> = (0..2000).map(|i| i / 500).collect();
        let drawn = |seed| parts(&labels, 4, seed).remove(0).0;
        let samples = drawn(1);
        assert_eq!(samples.len(), most_samples(4));
        for class in 0..4 {
            let members = samples.iter().filter(|i| labels[**i] == class).count();
            assert!((60..140).contains(&members), "{members}");
        }
        assert_eq!(samples, drawn(1));
        assert_ne!(samples, drawn(2));
    }

    #[test]
    fn a_set_is_whole_where_one_part_holds_it() {
        let sets = [
            (40, 4),
            (240, 10),
            (241, 10),
            (400, 2),
            (401, 2),
            (22, 11),
            (3000, 30),
        ];
        for (n, classes) in sets {
            let labels: Vec<usize> = (0..n).map(|i| i % classes).collect();
            let all = vec![((0..n).collect(), (0..classes).collect())];
            assert_eq!(is_whole(n, classes), parts(&labels, classes, 0) == all);
        }
    }

    #[test]
    fn the_target_of_a_part_is_that_of_its_samples_and_classes() {
        let part = Evidence {
            samples: vec![1, 3],
            classes: vec![0, 2],
            parts: KernelParts::new(Mat::zeros(4, 4), Mat::zeros(2, 1).as_ref()).unwrap(),
        };
        let t: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(part.target(&t, 3), [3.0, 5.0, 9.0, 11.0]);
    }
}
