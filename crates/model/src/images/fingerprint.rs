//! One short name for the exact set of images that a model was fitted on.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::ImagesError;
use super::folder::Item;

/// SHA-256 over the names, classes and contents of a set of images, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fingerprint of `items` with class names `classes`.
///
/// It does not depend on the order of the items or on where the folder lies; it changes when an
/// image is added, removed, renamed, given another class or altered by a byte. Every file is
/// read once.
///
/// # Errors
/// A file that cannot be read; a label without a class.
pub fn fingerprint(items: &[Item], classes: &[String]) -> Result<Fingerprint, ImagesError> {
    let mut entries = entries(items, classes)?;
    entries.sort_unstable();
    let mut hash = Sha256::new_with_prefix("convextune images 1\n");
    for entry in &entries {
        entry.feed(&mut hash);
    }
    Ok(Fingerprint(digits(&hash.finalize())))
}

/// What names one image: see [`digests`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageDigest {
    /// SHA-256 over its name, class and contents, as [`fingerprint`] takes them: whether it is a
    /// certain image of a training set.
    pub member: String,
    /// SHA-256 of the file, as other programs compute it.
    pub content: String,
}

/// The digests of `items` with class names `classes`, in their order. Every file is read once.
///
/// # Errors
/// As [`fingerprint`].
pub fn digests(items: &[Item], classes: &[String]) -> Result<Vec<ImageDigest>, ImagesError> {
    let digest = |entry: &Entry<'_>| {
        let mut hash = Sha256::new_with_prefix("convextune image 1\n");
        entry.feed(&mut hash);
        ImageDigest {
            member: digits(&hash.finalize()),
            content: digits(&entry.content),
        }
    };
    Ok(entries(items, classes)?.iter().map(digest).collect())
}

/// What a fingerprint says about one image.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry<'a> {
    name: &'a str,
    class: &'a str,
    content: [u8; 32],
}

impl Entry<'_> {
    fn feed(&self, hash: &mut Sha256) {
        for text in [self.name, self.class] {
            // The length in front keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update(self.content);
    }
}

fn entries<'a>(items: &'a [Item], classes: &'a [String]) -> Result<Vec<Entry<'a>>, ImagesError> {
    let entry = |item: &'a Item| {
        let class = classes.get(item.label).ok_or(ImagesError::OutOfRange {
            index: item.label,
            len: classes.len(),
        })?;
        let content =
            hash_file(&item.path).map_err(|error| ImagesError::image(&item.path, error.into()))?;
        Ok(Entry {
            name: &item.name,
            class,
            content,
        })
    };
    let entries: Vec<Result<_, ImagesError>> = items.par_iter().map(entry).collect();
    entries.into_iter().collect()
}

/// Hexadecimal.
fn digits(bytes: &[u8]) -> String {
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves
        .map(|half| char::from(b"0123456789abcdef"[usize::from(half)]))
        .collect()
}

fn hash_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests;
