//! Working memory of the kernels, used again so that a pass in its steady state allocates nothing.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tensor::Scalar;

/// Buffers that wait for their next use.
#[derive(Debug)]
pub struct Shelf<T>(Mutex<Vec<Vec<T>>>);

/// Numbers a shelf keeps at most: a quarter of a gigabyte in f32.
const KEPT: usize = 1 << 26;
/// A buffer more than this many times too large is left for whom it fits.
const ROOMY: usize = 8;

impl<T> Shelf<T> {
    /// An empty shelf.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A borrowed buffer; it goes back to its shelf when it is dropped.
#[derive(Debug)]
pub struct Scratch<T: Scalar> {
    data: Vec<T>,
    len: usize,
}

/// A buffer of `len` numbers with unspecified contents.
pub fn scratch<T: Scalar>(len: usize) -> Scratch<T> {
    let mut shelf = T::shelf().lock();
    let most = ROOMY * len.max(1 << 12);
    let fitting = (0..shelf.len())
        .filter(|i| (len..=most).contains(&shelf[*i].len()))
        .min_by_key(|i| shelf[*i].len());
    // Without one that fits, one not much too small grows.
    let smaller = (0..shelf.len()).filter(|i| (len / 2..len).contains(&shelf[*i].len()));
    let mut buffer = fitting
        .or(smaller.max_by_key(|i| shelf[*i].len()))
        .map_or_else(Vec::new, |i| shelf.swap_remove(i));
    drop(shelf);
    if buffer.len() < len {
        buffer.clear();
        buffer.resize(len, T::ZERO);
    }
    Scratch { data: buffer, len }
}

impl<T: Scalar> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[..self.len]
    }
}

impl<T: Scalar> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.len]
    }
}

impl<T: Scalar> Drop for Scratch<T> {
    fn drop(&mut self) {
        let mut shelf = T::shelf().lock();
        shelf.push(std::mem::take(&mut self.data));
        // Beyond the limit the largest goes: it is the dearest to keep.
        if shelf.iter().map(Vec::len).sum::<usize>() > KEPT
            && let Some(i) = (0..shelf.len()).max_by_key(|i| shelf[*i].len())
        {
            shelf.swap_remove(i);
        }
    }
}
