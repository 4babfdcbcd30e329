//! What was removed from a model: hashes, kept beside the model and not in it.

use std::fs;
use std::path::{Path, PathBuf};

use convextune_model::images::{Item, digests};
use convextune_model::weights::write_atomically;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Version of the manifest's form.
const FORMAT_VERSION: u32 = 1;
/// What a model file's name gets behind it.
const ENDING: &str = ".removed.json";

/// Proof of which images a model was made to forget, for whoever has them: no images, and names only
/// where they are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format_version: u32,
    /// Removals in the order in which they were done.
    pub removals: Vec<Removal>,
}

/// One removal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Fingerprint of the training set before.
    pub training_set_before: String,
    /// Fingerprint of the training set afterwards.
    pub training_set: String,
    /// How many images.
    pub count: usize,
    /// SHA-256 of their files, sorted.
    pub sha256: Vec<String>,
    /// Their names, sorted; only where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Whether the model is certified not to have seen them.
    pub certified: bool,
}

/// SHA-256 of the files of `items`, images of `classes`; sorted.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn hashes(items: &[Item], classes: &[String]) -> Result<Vec<String>, Error> {
    let digests = digests(items, classes)?.into_iter();
    let mut hashes: Vec<String> = digests.map(|digest| digest.content).collect();
    hashes.sort_unstable();
    Ok(hashes)
}

impl Manifest {
    /// Where the manifest of a model file is.
    pub fn path_of(model: &Path) -> PathBuf {
        let mut name = model.as_os_str().to_owned();
        name.push(ENDING);
        name.into()
    }

    /// The manifest at `path`, to which a removal can be appended; empty where there is no file.
    ///
    /// # Errors
    /// When there is a file that is no manifest.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::Usage(format!(
                "{}: {why}; the hashes of what is forgotten belong there, so move it away",
                path.display()
            ))
        };
        let text = match fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    format_version: FORMAT_VERSION,
                    removals: Vec::new(),
                });
            }
            text => text.map_err(|e| wrong(&format!("cannot be read ({e})")))?,
        };
        let found: Self =
            serde_json::from_slice(&text).map_err(|_| wrong("is no manifest of removed images"))?;
        if found.format_version > FORMAT_VERSION {
            return Err(wrong("was written by a newer convextune"));
        }
        Ok(found)
    }

    /// Appends a removal, unless the same images were removed from the same training set before: then
    /// that entry is brought up to date, and the answer is false.
    pub fn record(&mut self, removal: Removal) -> bool {
        let same = |old: &&mut Removal| {
            old.training_set_before == removal.training_set_before && old.sha256 == removal.sha256
        };
        if let Some(old) = self.removals.iter_mut().find(same) {
            old.certified = removal.certified;
            old.names = removal.names.or(old.names.take());
            return false;
        }
        self.removals.push(removal);
        true
    }

    /// Writes the manifest, all or nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })?;
        Ok(())
    }
}
