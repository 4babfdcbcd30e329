//! What can go wrong between a backbone's name and its weights, one sentence each.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::weights::WeightsError;

/// What can go wrong with a backbone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackboneError {
    /// A name that no backbone has.
    #[error(
        "no backbone is called `{name}`{}; the backbones are: {}",
        nearest.map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default(),
        known.join(", ")
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<&'static str>,
        /// All known names.
        known: Vec<&'static str>,
    },
    /// Weights of another backbone than the one asked for.
    #[error(
        "{}: these look like the weights of {found}, not of {wanted}; ask for {found}, or give a \
         file of {wanted}",
        path.display()
    )]
    OtherBackbone {
        /// The file.
        path: PathBuf,
        /// The backbone asked for.
        wanted: &'static str,
        /// The backbone whose tensors these are.
        found: &'static str,
    },
    /// The file cannot be read or its tensors do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// No place is known for downloaded weights.
    #[error(
        "no folder is known for downloaded weights, since neither CONVEXTUNE_CACHE nor \
         XDG_CACHE_HOME nor HOME is set; set CONVEXTUNE_CACHE, or give --weights FILE"
    )]
    NoCacheFolder,
    /// The weights are not in the cache.
    #[error("{name}: no weights in {}; {}", folder.display(), ways_out(name, files, *pullable))]
    NotCached {
        /// The backbone.
        name: &'static str,
        /// The folder that was looked through.
        folder: PathBuf,
        /// Files that would do, with what is known of their SHA-256.
        files: Vec<String>,
        /// Whether the file can be fetched.
        pullable: bool,
    },
    /// A backbone whose weights no repository known here offers.
    #[error(
        "{name}: its weights cannot be fetched; put one of these files into {}: {}; or give \
         --weights FILE",
        folder.display(), files.join(", ")
    )]
    NotPullable {
        /// The backbone.
        name: &'static str,
        /// The cache folder.
        folder: PathBuf,
        /// Files that would do.
        files: Vec<String>,
    },
    /// The download failed.
    #[error(
        "{name}: cannot fetch {file} of {repo} ({source}); check the connection, or fetch that \
         file on another machine and save it as {}",
        target.display()
    )]
    Download {
        /// The backbone.
        name: &'static str,
        /// The repository.
        repo: &'static str,
        /// The file in the repository.
        file: &'static str,
        /// Where it belongs.
        target: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file whose content is not what was published under its name.
    #[error(
        "{}: its SHA-256 is {found}, but that of the published file begins {wanted}; delete it \
         and fetch it again",
        path.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The known beginning.
        wanted: &'static str,
        /// The file's own.
        found: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {action} ({source})", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
}

fn ways_out(name: &str, files: &[String], pullable: bool) -> String {
    let files = files.join(", ");
    if pullable {
        format!(
            "`convextune backbone pull {name}` fetches them, or put one of these files there: \
             {files}; or give --weights FILE"
        )
    } else {
        format!("put one of these files there: {files}; or give --weights FILE")
    }
}
