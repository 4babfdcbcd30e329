//! Fetching weights from the Hugging Face hub into the cache.
//!
//! The file comes into a temporary folder inside the cache, its SHA-256 is compared with the
//! pinned one, or with the one that the hub itself states, and only then does it get its name.
//! No token is read or sent: the repositories are public. `HF_ENDPOINT` names a mirror.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};

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
    let mirror = env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty());
    pull_from(mirror, backbone, dir, progress)
}

/// As [`pull`], from a given mirror.
fn pull_from(
    mirror: Option<String>,
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
    let fetched = fetch(mirror, &source, temporary.path(), progress).map_err(|error| {
        BackboneError::Download {
            name: backbone.name(),
            repo: source.repo,
            file: source.file,
            target: target.clone(),
            source: error,
        }
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

/// Downloads the file into `folder`; compares its length, and its SHA-256, with what the hub
/// states.
fn fetch(
    mirror: Option<String>,
    source: &Source,
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let mut builder = ApiBuilder::from_cache(Cache::new(folder.to_path_buf()))
        .with_token(None)
        .with_progress(false)
        .with_retries(2);
    if let Some(mirror) = mirror {
        builder = builder.with_endpoint(mirror);
    }
    let (repo, revision) = (source.repo.to_owned(), source.revision.to_owned());
    let repo = Repo::with_revision(repo, RepoType::Model, revision);
    let mut observer = Observer {
        done: 0,
        total: 0,
        progress,
    };
    let link = builder
        .build()?
        .repo(repo)
        .download_with_progress(source.file, &mut observer)?;
    let path = fs::canonicalize(link)?;
    let length = fs::metadata(&path)?.len();
    if length != observer.total {
        return Err(format!("{length} bytes came, not {}", observer.total).into());
    }
    // Large files are stored under their SHA-256.
    let stated = path.file_name().and_then(|name| name.to_str());
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

/// Adds up what arrives; a second attempt begins anew.
struct Observer<'a> {
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Progress for &mut Observer<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
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
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::backbones::by_name;

    /// A hub that serves `content` under the name `etag`, whatever it is asked for.
    fn hub(content: &'static [u8], etag: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let etag = etag.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), content, &etag);
            }
        });
        address
    }

    fn serve(mut stream: TcpStream, content: &[u8], etag: &str) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut probe) = (String::new(), false);
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            probe |= line.to_lowercase().contains("bytes=0-0");
            line.clear();
        }
        let body = if probe { &content[..1] } else { content };
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nETag: \"{etag}\"\r\nX-Repo-Commit: 1\r\n\
             Content-Range: bytes 0-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len() - 1,
            content.len(),
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
    }

    /// The SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn pull_abc(etag: &str, dir: &Path) -> (Result<PathBuf, BackboneError>, Vec<(u64, u64)>) {
        let mut seen = Vec::new();
        let mut progress = |done, total| seen.push((done, total));
        let backbone = by_name("resnet18").unwrap();
        let result = pull_from(Some(hub(b"abc", etag)), backbone, dir, &mut progress);
        (result, seen)
    }

    #[test]
    fn a_file_comes_whole_and_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, seen) = pull_abc(ABC, &dir.path().join("new/cache"));
        let path = path.unwrap();
        assert!(path.ends_with("new/cache/resnet18.safetensors"));
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(seen.last(), Some(&(3, 3)));
        // Nothing else is left.
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let message = pull_abc(&ABC.replace('b', "c"), dir.path())
            .0
            .unwrap_err()
            .to_string();
        assert!(message.contains("damaged on the way"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_connection_the_file_and_its_place_are_told() {
        let dir = tempfile::tempdir().unwrap();
        // Nobody listens on a port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mirror = Some(format!("http://127.0.0.1:{port}"));
        let backbone = by_name("resnet18").unwrap();
        let error = pull_from(mirror, backbone, dir.path(), &mut |_, _| ()).unwrap_err();
        let message = error.to_string();
        let target = dir
            .path()
            .join("resnet18.safetensors")
            .display()
            .to_string();
        for part in ["model.safetensors of timm/resnet18.tv_in1k", &target] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

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
