//! Checkpoints of a long fit in a file, for continuing after an interruption.
//!
//! Layout, all numbers little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `CVXTUNE2` |
//! | 8 | length h of the header |
//! | h | JSON: fingerprint, plan, lengths, iteration counts |
//! | 8 each | f64: the prior's four numbers, rho, the two residual norms, two optional figures (NaN for none) |
//! | 8 each | f64: x, r, p, energy |
//!
//! Numbers are stored as they are, so that the iteration continues bit for bit. The file is
//! written beside its final name and renamed, so that a process killed at any moment leaves
//! the checkpoint before or the one after, never half of one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use convextune_solve::quadratic::PcgState;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::finetune::{
    Checkpoint, CheckpointView, Checkpoints, FitOptions, LambdaSource, Plan, Prior,
};
use crate::job::Job;

const MAGIC: &[u8; 8] = b"CVXTUNE2";
/// Longest header that is believed.
const LONGEST_HEADER: usize = 1 << 16;
/// Numbers before the vectors.
const SCALARS: usize = 9;
/// Those among them, from the first on, that must be finite.
const REQUIRED: usize = 7;

/// The part of a checkpoint that is no f64.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    fingerprint: String,
    plan: Plan,
    /// Length of x, r and p.
    unknowns: usize,
    energy: usize,
    iteration: usize,
    preconditioner_applications: u64,
}

/// What is being fitted, as 64 hexadecimal digits: two fits with equal fingerprints have the same
/// minimum. Tolerance and limit on passes are left out, so that a fit can be continued further, the batch, so that it can be
/// continued in less memory, and what the model keeps.
pub fn fingerprint(job: &Job, options: &FitOptions) -> String {
    let mut hash = Sha256::new();
    let mut text = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    };
    text(job.training_set());
    let options = FitOptions {
        tolerance: 0.0,
        max_passes: 0,
        batch: 0,
        memory: None,
        keep_kernel: None,
        ..options.clone()
    };
    text(&format!("{options:?}"));
    text(&format!("{:?} {:?}", job.transform(), job.train_labels()));
    text(job.backbone().name());
    let network = job.network();
    for value in network.parameters().iter().chain(network.buffers()) {
        hash.update(value.to_le_bytes());
    }
    let mut digits = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// What lies where a checkpoint would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No file.
    Nothing,
    /// A checkpoint of this fit.
    Same,
    /// Something else: another fit's checkpoint, or a damaged one.
    Other,
}

/// Saves the state of a fit in one file.
#[derive(Debug)]
pub struct FileCheckpoints {
    path: PathBuf,
    fingerprint: String,
    interval: Duration,
    last: Option<Instant>,
    loaded: Option<Checkpoint>,
    failure: Option<io::Error>,
}

impl FileCheckpoints {
    /// Saves into `path`, at most once every `interval`. Nothing is touched yet.
    pub fn new(path: PathBuf, fingerprint: String, interval: Duration) -> Self {
        Self {
            path,
            fingerprint,
            interval,
            last: None,
            loaded: None,
            failure: None,
        }
    }

    /// What lies at the path now.
    pub fn found(&self) -> Found {
        if !self.path.exists() {
            return Found::Nothing;
        }
        match read(&self.path) {
            Ok((header, _)) if header.fingerprint == self.fingerprint => Found::Same,
            _ => Found::Other,
        }
    }

    /// Reads the checkpoint to continue from; `false` if there is none.
    ///
    /// # Errors
    /// When the file is damaged or belongs to another fit.
    pub fn resume(&mut self) -> Result<bool, Error> {
        if !self.path.exists() {
            return Ok(false);
        }
        let (header, checkpoint) = read(&self.path).map_err(|reason| self.unusable(&reason))?;
        if header.fingerprint != self.fingerprint {
            let reason = "is the checkpoint of another fit (other images, weights or options)";
            return Err(self.unusable(reason));
        }
        self.loaded = Some(checkpoint);
        Ok(true)
    }

    /// Removes the file, when the fit is done and its model written.
    pub fn remove(&self) {
        // One that cannot be removed does no harm: it is recognised by its fingerprint.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(beside(&self.path));
    }

    /// Why the latest checkpoint could not be written, if so. The fit goes on without.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .as_ref()
            .map(|e| format!("{}: cannot be written ({e})", self.path.display()))
    }

    fn unusable(&self, reason: &str) -> Error {
        let reason = format!("{reason}; leave out --resume to start from the beginning");
        Error::Model {
            path: self.path.clone(),
            reason,
        }
    }
}

impl Checkpoints for FileCheckpoints {
    fn load(&mut self) -> Option<Checkpoint> {
        self.loaded.take()
    }

    fn save(&mut self, checkpoint: &CheckpointView<'_>) {
        if self.last.is_some_and(|at| at.elapsed() < self.interval) {
            return;
        }
        self.failure = write(&self.path, &self.fingerprint, checkpoint).err();
        self.last = Some(Instant::now());
    }
}

/// The temporary name: always the same, so that killed runs leave one such file at most.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn write(path: &Path, fingerprint: &str, view: &CheckpointView<'_>) -> io::Result<()> {
    let temporary = beside(path);
    let result =
        write_to(&temporary, fingerprint, view).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_to(path: &Path, fingerprint: &str, view: &CheckpointView<'_>) -> io::Result<()> {
    let state = view.state;
    let header = serde_json::to_vec(&Header {
        fingerprint: fingerprint.to_owned(),
        plan: view.plan,
        unknowns: state.x.len(),
        energy: state.energy.len(),
        iteration: state.iteration,
        preconditioner_applications: state.preconditioner_applications,
    })?;
    let scalars: [f64; SCALARS] = [
        view.prior.lambda,
        view.prior.scale,
        view.prior.unit,
        view.prior.backbone_unit,
        state.rho,
        state.residual_norm,
        state.reference,
        state.fresh_gradient.unwrap_or(f64::NAN),
        state.gradient_ratio.unwrap_or(f64::NAN),
    ];
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(MAGIC)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for vector in [&scalars[..], &state.x, &state.r, &state.p, &state.energy] {
        for value in vector {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// Reads a checkpoint; every size is checked against the file's before memory is set aside.
fn read(path: &Path) -> Result<(Header, Checkpoint), String> {
    let bytes = fs::read(path).map_err(|e| format!("cannot be read ({e})"))?;
    let damaged = || "is damaged or no checkpoint".to_owned();
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
    if length > LONGEST_HEADER {
        return Err(damaged());
    }
    let (header, numbers) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let header: Header = serde_json::from_slice(header).map_err(|_| damaged())?;
    let count = header
        .unknowns
        .checked_mul(3)
        .and_then(|n| n.checked_add(header.energy));
    let count = count
        .and_then(|n| n.checked_add(SCALARS))
        .and_then(|n| n.checked_mul(8));
    if count != Some(numbers.len()) {
        return Err(damaged());
    }
    let checkpoint = assemble(&header, numbers).ok_or_else(damaged)?;
    Ok((header, checkpoint))
}

/// The state from its numbers; `None` if one that must be finite is not.
fn assemble(header: &Header, bytes: &[u8]) -> Option<Checkpoint> {
    let mut numbers = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|b| f64::from_le_bytes(*b));
    let mut take = |n: usize| numbers.by_ref().take(n).collect::<Vec<f64>>();
    let scalars = take(SCALARS);
    let (x, r, p) = (
        take(header.unknowns),
        take(header.unknowns),
        take(header.unknowns),
    );
    let energy = take(header.energy);
    let [
        lambda,
        scale,
        unit,
        backbone_unit,
        rho,
        residual_norm,
        reference,
        fresh,
        gradient_ratio,
    ] = scalars[..]
    else {
        return None;
    };
    let finite = |values: &[f64]| values.iter().all(|v| v.is_finite());
    let sound = [&scalars[..REQUIRED], &x, &r, &p, &energy]
        .into_iter()
        .all(finite);
    if !sound || lambda <= 0.0 || scale <= 0.0 {
        return None;
    }
    let known = |v: f64| Some(v).filter(|v| v.is_finite());
    let state = PcgState {
        x,
        r,
        p,
        rho,
        residual_norm,
        reference,
        iteration: header.iteration,
        energy,
        preconditioner_applications: header.preconditioner_applications,
        fresh_gradient: known(fresh),
        gradient_ratio: known(gradient_ratio),
    };
    Some(Checkpoint {
        prior: Prior {
            lambda,
            scale,
            source: LambdaSource::Checkpoint,
            unit,
            backbone_unit,
        },
        plan: header.plan,
        state,
    })
}

#[cfg(test)]
mod tests;
