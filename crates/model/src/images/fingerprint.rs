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
    let mut entries = items
        .par_iter()
        .map(|item| {
            let class = classes.get(item.label).ok_or(ImagesError::OutOfRange {
                index: item.label,
                len: classes.len(),
            })?;
            let content = hash_file(&item.path)
                .map_err(|error| ImagesError::image(&item.path, error.into()))?;
            Ok((item.name.as_str(), class.as_str(), content))
        })
        .collect::<Vec<_>>()
        .into_iter()
        .collect::<Result<Vec<_>, ImagesError>>()?;
    entries.sort_unstable();

    let mut hash = Sha256::new_with_prefix("convextune images 1\n");
    for (name, class, content) in entries {
        for text in [name, class] {
            // The length in front keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update(content);
    }
    let mut digits = String::with_capacity(64);
    for byte in hash.finalize() {
        for half in [byte >> 4, byte & 15] {
            digits.push(char::from(b"0123456789abcdef"[usize::from(half)]));
        }
    }
    Ok(Fingerprint(digits))
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
