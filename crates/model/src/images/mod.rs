//! From a folder of labelled photographs to normalised NHWC batches.
//!
//! ```text
//! Dataset::open ─► items (path, label) ─► ImageSource ─► Vec<f32>, [n, size, size, 3]
//!    folder.rs       dataset.rs             source.rs
//!                                              │ one image: decode.rs ─► transform.rs
//! ```
//!
//! [`Dataset`] finds the classes and the split, [`decode`] turns a file into 8-bit RGB,
//! [`Transform`] resizes, crops and normalises as Pillow and torchvision do, and [`ImageSource`]
//! does both for whole batches, in parallel and with a bounded cache. [`fingerprint`] names the
//! exact set of images that a model was fitted on.
//!
//! Files are untrusted: their format is taken from their bytes, their size is checked before
//! memory is set aside, and every refusal ([`ImagesError`]) names the file or folder, the reason
//! and the way out.

mod dataset;
pub mod decode;
mod error;
mod fingerprint;
mod folder;
mod source;
mod thumbnail;
mod transform;

#[cfg(test)]
mod testing;

pub use dataset::{Dataset, Holdout, Split, SplitOrigin};
pub use error::{ImageProblem, ImagesError};
pub use fingerprint::{Fingerprint, ImageDigest, digests, fingerprint};
pub use folder::{ImageFolder, Item, list_images};
pub use source::ImageSource;
pub use thumbnail::Thumbnail;
pub use transform::{Interpolation, Normalisation, Resize, Transform};
