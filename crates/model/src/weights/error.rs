//! The one error type of the weight readers and writers.
//!
//! Every message is one sentence that names the file, the entry inside it, the reason, and where
//! there is one the way out. Names that come from a file are escaped and cut before they are
//! shown, so a hostile file cannot write control sequences to a terminal.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// How many names a list in a message shows before it says "and N more".
const LISTED: usize = 8;
/// How many characters of a name that comes from a file are shown.
const SHOWN: usize = 96;

/// What can go wrong with a weight file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused to open, read or write.
    #[error("{}: cannot {action} ({source})", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: "open it", "write it", ...
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A directory, a device or a pipe stands where a file should.
    #[error("{}: is not a regular file; give the path of a weight file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Zero bytes.
    #[error("{}: is empty (0 bytes); download or save it again", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Not one of the three formats.
    #[error(
        "{}: is not a weight file this program reads ({found}); give a safetensors file or a \
         PyTorch state_dict saved with torch.save",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What the bytes look like instead.
        found: &'static str,
    },
    /// A recognised format whose content contradicts itself or ends too early.
    #[error(
        "{}: {entry}: {reason}; the file is damaged or incomplete, download or save it again",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The part of the file: a tensor, a zip entry, a header.
        entry: String,
        /// What contradicts what.
        reason: String,
    },
    /// A valid file that uses something this reader does not understand.
    #[error(
        "{}: {entry}: {reason}; save model.state_dict() as safetensors or with torch.save and \
         read that",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The part of the file: a tensor, a zip entry, a header.
        entry: String,
        /// What is not understood.
        reason: String,
    },
    /// A pickle refers to code other than the few tensor-building names.
    #[error(
        "{}: {entry}: contains a call to `{global}`; only tensor-building opcodes are read, \
         nothing was run; if you trust the file, load it where it was made and save \
         model.state_dict() as safetensors",
        path.display()
    )]
    ForbiddenGlobal {
        /// The file.
        path: PathBuf,
        /// The part of the file that holds the pickle.
        entry: String,
        /// The name, as `module.attribute`.
        global: String,
    },
    /// A weight is NaN or infinite (or overflows the type that it is read into).
    #[error(
        "{}: tensor `{}`: holds NaN, an infinity or a value that is too large; weights \
         must be finite, use a checkpoint from before the training diverged",
        path.display(), shown(tensor)
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor, by order of reading.
        tensor: String,
    },
    /// The same tensor name twice.
    #[error(
        "{}: tensor `{}`: the name appears twice, so it is unclear which values are meant; \
         save the file again",
        path.display(), shown(tensor)
    )]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        tensor: String,
    },
    /// A PyTorch file without a dictionary of tensors in a known place.
    #[error(
        "{}: top level: holds no dictionary of tensors, neither itself nor under `state_dict`, \
         `model_state_dict`, `model_state`, `model`, `net`, `network` or `weights` (found: {}); save \
         model.state_dict() with torch.save",
        path.display(), listed(found)
    )]
    NoStateDict {
        /// The file.
        path: PathBuf,
        /// The keys at the top level, or what stands there instead of a dictionary.
        found: Vec<String>,
    },
    /// The file's tensors are not those that the network needs.
    #[error("{}", mismatch(path, missing, surplus, misshaped))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Names the network needs and the file lacks.
        missing: Vec<String>,
        /// Names the file has and the network does not know.
        surplus: Vec<String>,
        /// Names on both sides with different shapes.
        misshaped: Vec<Misshaped>,
    },
    /// Tensors handed to the writer that no file could hold.
    #[error("{}: tensor `{}`: {reason}; nothing was written", path.display(), shown(tensor))]
    NotWritable {
        /// The file that was to be written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Why.
        reason: String,
    },
}

/// A tensor whose shape in the file is not the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshaped {
    /// The tensor's name.
    pub name: String,
    /// The shape the network needs.
    pub expected: Vec<usize>,
    /// The shape in the file.
    pub found: Vec<usize>,
}

/// A name from a file, safe to print: escaped, and cut after [`SHOWN`] characters.
pub(super) fn shown(name: &str) -> String {
    let mut text: String = name
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push_str("...");
    }
    text
}

/// "`a`, `b` and 120 more".
fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("`{}`", shown(name)))
        .collect();
    joined(&quoted)
}

fn joined(items: &[String]) -> String {
    let mut text = items
        .iter()
        .take(LISTED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > LISTED {
        let _ = write!(text, " and {} more", items.len() - LISTED);
    }
    if text.is_empty() {
        text.push_str("nothing");
    }
    text
}

fn mismatch(path: &Path, missing: &[String], surplus: &[String], bad: &[Misshaped]) -> String {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("{} missing: {}", missing.len(), listed(missing)));
    }
    if !surplus.is_empty() {
        parts.push(format!(
            "{} not in the network: {}",
            surplus.len(),
            listed(surplus)
        ));
    }
    if !bad.is_empty() {
        let items: Vec<String> = bad
            .iter()
            .map(|t| {
                format!(
                    "`{}` is {:?}, needs {:?}",
                    shown(&t.name),
                    t.found,
                    t.expected
                )
            })
            .collect();
        parts.push(format!(
            "{} of the wrong shape: {}",
            bad.len(),
            joined(&items)
        ));
    }
    format!(
        "{}: the tensors do not fit the network ({}); choose the backbone these weights were \
         trained for",
        path.display(),
        parts.join("; ")
    )
}
