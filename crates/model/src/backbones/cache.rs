//! Where downloaded weights lie, and finding them there.

use std::env;
use std::path::{Path, PathBuf};

use super::{Backbone, BackboneError};
use crate::weights::sha256_of;

/// The folder for downloaded weights: `$CONVEXTUNE_CACHE`, else `$XDG_CACHE_HOME/convextune`, else
/// `~/.cache/convextune`. It may not exist yet.
///
/// # Errors
/// [`BackboneError::NoCacheFolder`] when none of these variables is set.
pub fn cache_dir() -> Result<PathBuf, BackboneError> {
    folder(|name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    })
}

/// As [`cache_dir`], from the variables that `variable` knows.
fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, BackboneError> {
    let own = variable("CONVEXTUNE_CACHE");
    // A relative XDG_CACHE_HOME is to be ignored, says its specification.
    let shared = || variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let home = || variable("HOME").or_else(|| variable("USERPROFILE"));
    let shared = || shared().or_else(|| Some(home()?.join(".cache")));
    own.or_else(|| Some(shared()?.join("convextune")))
        .ok_or(BackboneError::NoCacheFolder)
}

/// The weight file of `backbone` in the folder `dir`: the one that was fetched, or a published
/// one that was put there. Its SHA-256 is checked as far as it is known.
///
/// # Errors
/// [`BackboneError::NotCached`], which says how to get it; [`BackboneError::Digest`] for a file
/// with another content; [`BackboneError::Weights`] for one that cannot be read.
pub fn locate(backbone: &Backbone, dir: &Path) -> Result<PathBuf, BackboneError> {
    for (path, digest) in backbone.candidates(dir) {
        if path.is_file() {
            if let Some(wanted) = digest {
                check(&path, wanted)?;
            }
            return Ok(path);
        }
    }
    Err(BackboneError::NotCached {
        name: backbone.name(),
        folder: dir.to_path_buf(),
        files: backbone.wanted_files(),
        pullable: backbone.source().is_some(),
    })
}

/// Whether the SHA-256 of a file begins with `wanted`.
///
/// # Errors
/// [`BackboneError::Digest`] if not.
pub(super) fn check(path: &Path, wanted: &'static str) -> Result<(), BackboneError> {
    let found = sha256_of(path)?;
    if found.starts_with(wanted) {
        Ok(())
    } else {
        Err(BackboneError::Digest {
            path: path.to_path_buf(),
            wanted,
            found,
        })
    }
}

impl Backbone {
    /// Where the fetched weights lie in the folder `dir`, for backbones that can be fetched.
    pub fn cache_file(&self, dir: &Path) -> Option<PathBuf> {
        let extension = Path::new(self.source()?.file).extension()?;
        Some(dir.join(self.name()).with_extension(extension))
    }

    /// Files in `dir` that would do, in order of preference, with what is known of their SHA-256.
    fn candidates(&self, dir: &Path) -> Vec<(PathBuf, Option<&'static str>)> {
        let fetched = self
            .cache_file(dir)
            .map(|path| (path, self.source().and_then(|s| s.sha256)));
        let published = self
            .files()
            .iter()
            .map(|file| (dir.join(file.name), Some(file.sha256)));
        fetched.into_iter().chain(published).collect()
    }

    /// Names of files that would do, for messages.
    pub(super) fn wanted_files(&self) -> Vec<String> {
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let described = |(path, digest): (PathBuf, Option<&str>)| {
            let name = name(&path).unwrap_or_default();
            match digest {
                Some(digest) if digest.len() == 64 => format!("{name} (SHA-256 {digest})"),
                Some(digest) => format!("{name} (SHA-256 {digest}...)"),
                None => name,
            }
        };
        self.candidates(Path::new(""))
            .into_iter()
            .map(described)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::by_name;

    #[test]
    fn the_most_specific_variable_wins() {
        let with = |set: &'static [(&str, &str)]| {
            folder(move |name| {
                let found = set.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| PathBuf::from(value))
            })
        };
        let all = &[
            ("CONVEXTUNE_CACHE", "/a"),
            ("XDG_CACHE_HOME", "/b"),
            ("HOME", "/c"),
        ];
        assert_eq!(with(all).unwrap(), Path::new("/a"));
        assert_eq!(with(&all[1..]).unwrap(), Path::new("/b/convextune"));
        assert_eq!(with(&all[2..]).unwrap(), Path::new("/c/.cache/convextune"));
        assert!(matches!(with(&[]), Err(BackboneError::NoCacheFolder)));
    }

    #[test]
    fn a_missing_file_is_told_with_every_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let message = locate(by_name("efficientnet-lite0").unwrap(), dir.path()).unwrap_err();
        let message = message.to_string();
        for part in [
            "`convextune backbone pull efficientnet-lite0`",
            "efficientnet-lite0.safetensors",
            "efficientnet-lite0-57934424.pth (SHA-256 579344248a93",
            "--weights FILE",
            &dir.path().display().to_string(),
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        let message = locate(by_name("cifar-resnet20").unwrap(), dir.path()).unwrap_err();
        assert!(!message.to_string().contains("pull"), "{message}");
    }

    #[test]
    fn a_file_under_a_published_name_must_be_the_published_one() {
        let dir = tempfile::tempdir().unwrap();
        let backbone = by_name("efficientnet-lite0").unwrap();
        let path = dir.path().join("efficientnet-lite0-57934424.pth");
        std::fs::write(&path, b"something else").unwrap();
        let message = locate(backbone, dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("SHA-256") && message.contains("579344248a93"),
            "{message}"
        );
        // What was fetched comes first; its hash is not known.
        let fetched = backbone.cache_file(dir.path()).unwrap();
        std::fs::write(&fetched, b"something").unwrap();
        assert_eq!(locate(backbone, dir.path()).unwrap(), fetched);
    }
}
