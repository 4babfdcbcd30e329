//! Batches of normalised images, decoded in parallel and kept in memory as far as they fit.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::decode;
use super::error::{ImageProblem, ImagesError};
use super::folder::Item;
use super::transform::Transform;

/// A list of labelled images and the transform that they go through.
///
/// Decoded squares are kept as 8-bit RGB, `size * size * 3` bytes each. Which ones are kept does
/// not depend on the order of loading: the first ones of the list, as many as fit. What is
/// loaded is the same whether it was kept or not.
#[derive(Debug)]
pub struct ImageSource {
    items: Vec<Item>,
    transform: Transform,
    skip_undecodable: bool,
    skipped: Vec<(PathBuf, ImageProblem)>,
    /// One slot for each of the first items, filled when the item is first decoded.
    kept: Vec<OnceLock<Box<[u8]>>>,
}

impl ImageSource {
    /// A source over `items`, in their order. At most `cache_bytes` bytes of decoded squares are
    /// kept. With `skip_undecodable`, [`Self::preload`] removes what cannot be used instead of
    /// failing.
    ///
    /// Nothing is read yet.
    pub fn new(
        items: Vec<Item>,
        transform: Transform,
        cache_bytes: usize,
        skip_undecodable: bool,
    ) -> Self {
        let slots = (cache_bytes / transform.values()).min(items.len());
        let kept = (0..slots).map(|_| OnceLock::new()).collect();
        Self {
            items,
            transform,
            skip_undecodable,
            skipped: Vec::new(),
            kept,
        }
    }

    /// Number of images, less those that [`Self::preload`] removed.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The images, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The transform that every image goes through.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// The label of image `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    pub fn label(&self, index: usize) -> usize {
        self.items[index].label
    }

    /// All labels, in order.
    pub fn labels(&self) -> Vec<usize> {
        self.items.iter().map(|item| item.label).collect()
    }

    /// What [`Self::preload`] removed, and why.
    pub fn skipped(&self) -> &[(PathBuf, ImageProblem)] {
        &self.skipped
    }

    /// Decodes every image once, so that everything unusable is reported together and before any
    /// long work. Calls `progress(done, total)` after every image, from several threads.
    ///
    /// With `skip_undecodable` the unusable images are removed and the others move up: indices
    /// and labels must be asked for afterwards. A class may lose all its images that way.
    ///
    /// # Errors
    /// [`ImagesError::Undecodable`] when images are unusable and not to be skipped, or when no
    /// usable one would remain.
    pub fn preload(&mut self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<(), ImagesError> {
        let total = self.len();
        let done = AtomicUsize::new(0);
        let problems: Vec<Option<ImageProblem>> = (0..total)
            .into_par_iter()
            .map(|index| {
                let problem = self.with_square(index, |_| ()).err();
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                problem
            })
            .collect();
        let count = problems.iter().flatten().count();
        if count == 0 {
            return Ok(());
        }
        if self.skip_undecodable && count < total {
            self.remove(problems);
            return Ok(());
        }
        let paths = self.items.iter().map(|item| item.path.clone());
        let problems = paths
            .zip(problems)
            .filter_map(|(path, problem)| Some((path, problem?)))
            .collect();
        Err(ImagesError::Undecodable { total, problems })
    }

    /// Loads the images `indices` into `out` as [indices, size, size, 3]; what `out` held before
    /// is dropped, its memory is used again.
    ///
    /// # Errors
    /// An index that is not below [`Self::len`]; the first of the images, in the order asked
    /// for, that cannot be used.
    pub fn load(&self, indices: &[usize], out: &mut Vec<f32>) -> Result<(), ImagesError> {
        self.load_as(indices, false, out)
    }

    /// As [`Self::load`], for a contiguous range.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_range(&self, range: Range<usize>, out: &mut Vec<f32>) -> Result<(), ImagesError> {
        self.load_as(&range.collect::<Vec<_>>(), false, out)
    }

    /// As [`Self::load`], every image mirrored left to right.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_mirrored(&self, indices: &[usize], out: &mut Vec<f32>) -> Result<(), ImagesError> {
        self.load_as(indices, true, out)
    }

    fn load_as(
        &self,
        indices: &[usize],
        mirror: bool,
        out: &mut Vec<f32>,
    ) -> Result<(), ImagesError> {
        if let Some(&index) = indices.iter().find(|&&index| index >= self.len()) {
            return Err(ImagesError::OutOfRange {
                index,
                len: self.len(),
            });
        }
        let values = self.transform.values();
        out.resize(indices.len() * values, 0.0);
        let problems: Vec<Option<ImageProblem>> = indices
            .par_iter()
            .zip(out.par_chunks_exact_mut(values))
            .map(|(&index, out)| {
                let normalise = |pixels: &[u8]| self.transform.normalise(pixels, mirror, out);
                self.with_square(index, normalise).err()
            })
            .collect();
        match indices
            .iter()
            .zip(problems)
            .find_map(|(&index, problem)| Some((index, problem?)))
        {
            None => Ok(()),
            Some((index, problem)) => Err(ImagesError::image(&self.items[index].path, problem)),
        }
    }

    /// Hands the 8-bit square of image `index` to `use_pixels`: the kept one, or a fresh one,
    /// which is kept if it has a slot.
    fn with_square<T>(
        &self,
        index: usize,
        use_pixels: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ImageProblem> {
        let slot = self.kept.get(index);
        if let Some(pixels) = slot.and_then(OnceLock::get) {
            return Ok(use_pixels(pixels));
        }
        let rgb = decode::read_file(&self.items[index].path)?;
        let pixels = self.transform.square(&rgb)?.into_raw();
        let result = use_pixels(&pixels);
        if let Some(slot) = slot {
            // Another thread may have been faster with the same pixels.
            let _ = slot.set(pixels.into_boxed_slice());
        }
        Ok(result)
    }

    /// Keeps the images for which `keep` is true, in their order; the others' decoded squares are
    /// given up.
    ///
    /// # Panics
    /// If `keep` is not of length [`Self::len`].
    pub fn retain(&mut self, keep: &[bool]) {
        assert_eq!(keep.len(), self.len(), "one flag an image");
        let mut flags = keep.iter().copied();
        self.take_out(|_| (!flags.next().unwrap_or(true)).then_some(()));
    }

    /// Removes the items with a problem.
    fn remove(&mut self, problems: Vec<Option<ImageProblem>>) {
        let mut problems = problems.into_iter();
        for (item, problem) in self.take_out(|_| problems.next().flatten()) {
            self.skipped.push((item.path, problem));
        }
    }

    /// Takes out the items for which `reason` gives one. Kept squares move up with their items; slots
    /// that become free are filled by later loads.
    fn take_out<R>(&mut self, mut reason: impl FnMut(&Item) -> Option<R>) -> Vec<(Item, R)> {
        let slots = self.kept.len();
        let mut kept = std::mem::take(&mut self.kept).into_iter();
        let mut out = Vec::new();
        for item in std::mem::take(&mut self.items) {
            let slot = kept.next();
            if let Some(reason) = reason(&item) {
                out.push((item, reason));
            } else {
                self.items.push(item);
                self.kept.extend(slot);
            }
        }
        self.kept
            .resize_with(slots.min(self.items.len()), OnceLock::new);
        out
    }
}

#[cfg(test)]
mod tests;
