//! The training samples as the trainable part of a network sees them.
//!
//! When a prefix of the network is frozen, its activations are the samples: they are computed
//! once and kept ("the frozen prefix computed once").

use std::ops::Range;

use convextune_model::graph::{Executor, Network};
use convextune_model::images::ImageSource;
use convextune_model::tensor::{Scalar, Shape, Tensor};

use crate::error::Error;
use crate::progress::Reporter;

/// `n` samples of one shape, read in batches as numbers of type `T`.
#[derive(Debug)]
pub struct Samples<T = f32> {
    origin: Origin<T>,
    /// The shape of one sample, `[1, h, w, c]`.
    shape: Shape,
}

#[derive(Debug)]
enum Origin<T> {
    Images(ImageSource),
    Memory(Vec<T>),
}

impl<T: Scalar> Samples<T> {
    /// Decoded and normalised images.
    pub fn images(source: ImageSource) -> Self {
        let size = source.transform().size();
        Self {
            origin: Origin::Images(source),
            shape: Shape::new(1, size, size, 3),
        }
    }

    /// Samples of `shape` (of one sample) that lie in memory one after the other.
    ///
    /// # Panics
    /// When `data` is not a whole number of samples.
    pub fn memory(shape: Shape, data: Vec<T>) -> Self {
        let shape = shape.with_n(1);
        assert_eq!(
            data.len() % shape.len().max(1),
            0,
            "a whole number of samples"
        );
        Self {
            origin: Origin::Memory(data),
            shape,
        }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match &self.origin {
            Origin::Images(source) => source.len(),
            Origin::Memory(data) => data.len() / self.shape.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of one sample.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The samples `range` as one batch.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn batch(&self, range: Range<usize>) -> Result<Tensor<T>, Error> {
        let shape = self.shape.with_n(range.len());
        let data = match &self.origin {
            Origin::Images(source) => {
                let mut data = Vec::new();
                source.load_range(range, &mut data)?;
                let convert = |x: f32| T::from_f64(x.into());
                data.into_iter().map(convert).collect()
            }
            Origin::Memory(data) => {
                data[range.start * self.shape.len()..range.end * self.shape.len()].to_vec()
            }
        };
        Ok(Tensor::from_vec(shape, data))
    }

    /// Some of the samples, in memory.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn pick(&self, chosen: &[usize]) -> Result<Self, Error> {
        let mut data = Vec::with_capacity(chosen.len() * self.shape.len());
        for i in chosen {
            data.extend_from_slice(self.batch(*i..i + 1)?.data());
        }
        Ok(Self::memory(self.shape, data))
    }

    /// Keeps the samples for which `keep` is true, in their order.
    ///
    /// # Panics
    /// When `keep` does not have one flag a sample.
    pub fn retain(&mut self, keep: &[bool]) {
        assert_eq!(keep.len(), self.len(), "one flag a sample");
        let size = self.shape.len().max(1);
        match &mut self.origin {
            Origin::Images(source) => source.retain(keep),
            Origin::Memory(data) => {
                let mut end = 0;
                for i in (0..keep.len()).filter(|i| keep[*i]) {
                    data.copy_within(i * size..(i + 1) * size, end);
                    end += size;
                }
                data.truncate(end);
            }
        }
    }

    /// As few batches of at most `size` samples as make up the whole set, in order; of nearly the same size,
    /// so that buffers serve all of them.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<T> {
        let (n, count) = (self.len(), self.len().div_ceil(size.max(1)));
        (0..count).map(move |k| k * n / count..(k + 1) * n / count)
    }

    /// The outputs of `network` for all samples, as samples that lie in memory.
    ///
    /// # Errors
    /// When an image cannot be read or does not fit the network.
    pub fn through(
        &self,
        network: &Network<T>,
        batch: usize,
        reporter: &dyn Reporter,
    ) -> Result<Self, Error> {
        let mut executor = Executor::new(network, network.graph().nodes().len());
        let mut data = Vec::new();
        let mut shape = Shape::new(1, 1, 1, 0);
        for range in self.batches(batch) {
            let n = range.len();
            let y = executor.forward(self.batch(range)?)?;
            shape = y.shape().with_n(1);
            if data.is_empty() {
                data.reserve_exact(self.len() * shape.len());
            }
            data.extend_from_slice(y.data());
            executor.recycle_tensor(y);
            reporter.advance(n as u64);
        }
        Ok(Self {
            origin: Origin::Memory(data),
            shape,
        })
    }

    /// All numbers, sample by sample, if they lie in memory.
    pub fn values(&self) -> Option<&[T]> {
        match &self.origin {
            Origin::Images(_) => None,
            Origin::Memory(data) => Some(data),
        }
    }
}
