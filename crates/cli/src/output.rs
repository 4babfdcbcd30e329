//! Standard output, and the check that a file can be written before hours go into it.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use serde::Serialize;

/// Writes to standard output; a full disk or a closed pipe is an error, not a panic.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => error.into(),
        _ => anyhow!("cannot write to standard output ({error})"),
    })
}

/// Writes one JSON value and a line end to standard output.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// That `path` can be written, or replaced, by a file: found out now, not after the work.
pub fn check_writable(path: &Path) -> Result<()> {
    let shown = path.display();
    if path.is_dir() {
        bail!("{shown}: is a folder; give the name of a file to write");
    }
    if path.exists() && !path.is_file() {
        bail!("{shown}: is no regular file; give the name of a file to write");
    }
    if path.file_name().is_none() {
        bail!("{shown}: is no name of a file; give one to write");
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        bail!(
            "{shown}: there is no folder {}; make it first",
            folder.display()
        );
    }
    let probe = tempfile::Builder::new()
        .prefix(".convextune-")
        .tempfile_in(folder);
    match probe {
        Ok(_) => Ok(()),
        Err(error) => bail!("{shown}: cannot write there ({error})"),
    }
}
