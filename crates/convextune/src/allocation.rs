//! How freed memory is kept for the next use.

use std::hint::black_box;

/// Just below the largest size that glibc's allocator learns from.
const LESSON: usize = (32 << 20) - (1 << 16);

/// Makes the allocator keep freed blocks of up to 32 MiB for the next use. A program calls it once, first.
///
/// glibc gives large blocks back to the system as soon as they are freed, and every page of the next
/// one has to be zeroed and mapped again: solvers that make a matrix an iteration spend up to half of
/// their time so. It stops for blocks up to the size of the largest that it has seen freed, and trims
/// its heap only beyond twice that. With another allocator this does nothing.
pub fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(LESSON)));
}
