//! Fetching weights from the Hugging Face hub into the cache.
//!
//! The file comes into a temporary folder inside the cache, its SHA-256 is compared with the
//! pinned one, or with the one that the hub itself states, and only then does it get its name.
//! No token is read or sent: the repositories are public. `HF_ENDPOINT` names a mirror.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Repo, RepoType};

use super::{Backbone, BackboneError, Source, cache};
use crate::weights::sha256_of;

/// Fetches the weights of `backbone` into the folder `dir`, which is made if need be, and returns
/// their path, [`Backbone::cache_file`]. What is there already is not fetched again.
///
/// `progress(done, total)` is called with bytes as they come.
///
/// # Errors
/// [`BackboneError::NotPullable`] without a known source; [`BackboneError::Download`] when it
/// cannot be reached, which says which file to put where; [`BackboneError::Digest`] when another
/// file came than the one pinned; [`BackboneError::Io`] when `dir` cannot be written.
pub fn pull(
    backbone: &Backbone,
    dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf, BackboneError> {
    let (Some(source), Some(target)) = (backbone.source(), backbone.cache_file(dir)) else {
        return Err(BackboneError::NotPullable {
            name: backbone.name(),
            folder: dir.to_path_buf(),
            files: backbone.wanted_files(),
        });
    };
    if target.is_file() {
        if let Some(wanted) = source.sha256 {
            cache::check(&target, wanted)?;
        }
        return Ok(target);
    }
    let refused = |path: &Path, action| {
        let path = path.to_path_buf();
        move |source| BackboneError::Io {
            path,
            action,
            source,
        }
    };
    fs::create_dir_all(dir).map_err(refused(dir, "make this folder"))?;
    let temporary = tempfile::Builder::new()
        .prefix(".pull-")
        .tempdir_in(dir)
        .map_err(refused(dir, "write into this folder"))?;
    let fetched =
        fetch(&source, temporary.path(), progress).map_err(|error| BackboneError::Download {
            name: backbone.name(),
            repo: source.repo,
            file: source.file,
            target: target.clone(),
            source: error,
        })?;
    if let Some(wanted) = source.sha256 {
        cache::check(&fetched, wanted)?;
    }
    File::open(&fetched)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&fetched, &target))
        .map_err(refused(&target, "write it"))?;
    Ok(target)
}

/// Downloads the file into `folder`; compares its SHA-256 with what the hub states, if it does.
fn fetch(
    source: &Source,
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let api = ApiBuilder::from_env()
        .with_cache_dir(folder.to_path_buf())
        .with_token(None)
        .with_progress(false)
        .with_retries(2)
        .build()?;
    let (repo, revision) = (source.repo.to_owned(), source.revision.to_owned());
    let repo = api.repo(Repo::with_revision(repo, RepoType::Model, revision));
    let observer = Observer {
        done: 0,
        total: 0,
        progress,
    };
    let path = fs::canonicalize(repo.download_with_progress(source.file, observer)?)?;
    // Large files are stored under their SHA-256.
    let stated = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    if let Some(stated) = stated.filter(|name| is_sha256(name)) {
        let found = sha256_of(&path)?;
        if found != stated {
            return Err(format!("damaged on the way: SHA-256 {found}, not {stated}").into());
        }
    }
    Ok(path)
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Adds up what arrives.
struct Observer<'a> {
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Progress for Observer<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.total = size as u64;
        (self.progress)(0, self.total);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.progress)(self.done, self.total);
    }

    fn finish(&mut self) {
        (self.progress)(self.total, self.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::by_name;

    #[test]
    fn weights_without_a_source_are_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = pull(
            by_name("cifar-resnet20").unwrap(),
            dir.path(),
            &mut |_, _| (),
        );
        let message = error.unwrap_err().to_string();
        assert!(message.contains("resnet20-12fca82f.th"), "{message}");
    }

    #[test]
    fn what_is_there_is_not_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let backbone = by_name("resnet18").unwrap();
        let file = backbone.cache_file(dir.path()).unwrap();
        fs::write(&file, b"weights").unwrap();
        assert_eq!(pull(backbone, dir.path(), &mut |_, _| ()).unwrap(), file);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let backbone = by_name("resnet18").unwrap();
        let error = pull(backbone, &file.join("cache"), &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, BackboneError::Io { .. }), "{error}");
    }
}
