//! What can be wrong with a folder of images, one sentence each.

use std::io;
use std::path::PathBuf;

/// Why one file is not usable as an image. The sentence follows the file's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageProblem {
    /// The file could not be opened or read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Zero bytes.
    #[error("is empty")]
    Empty,
    /// More bytes than a photograph has.
    #[error("is larger than {limit} bytes; give a smaller image")]
    FileTooLong {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The first bytes belong to no supported format.
    #[error("is not a JPEG, PNG, WebP or GIF image{}", hint(*.looks_like))]
    NotAnImage {
        /// The format that the bytes look like, when it is a known one.
        looks_like: Option<&'static str>,
    },
    /// The decoder gave up, or the file ends too early.
    #[error("is damaged or cut short: {0}")]
    Damaged(String),
    /// A valid file that uses a feature the decoder lacks.
    #[error("uses a feature that cannot be decoded: {0}")]
    Unsupported(String),
    /// A side is longer than the limit.
    #[error("is {width} x {height} pixels; at most {limit} a side are accepted, so scale it down")]
    TooManyPixels {
        /// Width in pixels, as the file states it.
        width: u32,
        /// Height in pixels, as the file states it.
        height: u32,
        /// Longest accepted side, in pixels.
        limit: u32,
    },
    /// Decoding would need more memory than the limit.
    #[error("would need more than {limit} bytes of memory to decode, so scale it down")]
    TooMuchMemory {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The resizer gave up.
    #[error("cannot be resized: {0}")]
    Resize(String),
    /// The sides differ too much for a square crop.
    #[error("is {width} x {height} pixels, too elongated for a square of {size} pixels; crop it")]
    Elongated {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Side of the square that was asked for, in pixels.
        size: usize,
    },
}

fn hint(looks_like: Option<&str>) -> String {
    looks_like.map_or_else(String::new, |format| {
        format!(" (it looks like {format}; convert it)")
    })
}

/// Every error of [`crate::images`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// The path does not exist.
    #[error("{} does not exist; check the path", .0.display())]
    NotFound(PathBuf),
    /// A folder was expected.
    #[error("{} is a file; give a folder with one folder of images per class", .0.display())]
    NotAFolder(PathBuf),
    /// The folder could not be listed.
    #[error("the folder {} cannot be read: {source}", .path.display())]
    UnreadableFolder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Names go into model files and reports, so they must be text.
    #[error("the name of {} is not valid UTF-8; rename it", .0.display())]
    NameNotUtf8(PathBuf),
    /// Images, but no folders around them.
    #[error("found {images} images directly in {}; put them in one folder per class", .dir.display())]
    ImagesWithoutClasses {
        /// The folder.
        dir: PathBuf,
        /// How many images lie in it.
        images: usize,
    },
    /// Neither images nor folders.
    #[error("{} holds no class folders; put the images in one folder per class", .0.display())]
    NoClasses(PathBuf),
    /// A class folder without a single image.
    #[error(
        "the class {class:?} in {} has no JPEG, PNG, WebP or GIF images{}; add some or remove the folder",
        .dir.display(), others(*.other_files)
    )]
    EmptyClass {
        /// The class.
        class: String,
        /// The folder that holds the class folder.
        dir: PathBuf,
        /// Files of other kinds in the class folder.
        other_files: usize,
    },
    /// A classifier needs two classes.
    #[error("{} holds only one class, {class:?}; training needs at least two", .dir.display())]
    OneClass {
        /// The folder.
        dir: PathBuf,
        /// Its only class.
        class: String,
    },
    /// Two names that many file systems and readers cannot tell apart.
    #[error("the classes {first:?} and {second:?} in {} differ only in case; merge or rename them", .dir.display())]
    ClassesDifferInCase {
        /// The folder.
        dir: PathBuf,
        /// One class.
        first: String,
        /// The other class.
        second: String,
    },
    /// The held-out folder has a class the training folder lacks.
    #[error("{} has the class {class:?}, which {} does not have; add it there or remove it here", .held_out.display(), .train.display())]
    UnknownClass {
        /// The class.
        class: String,
        /// The held-out folder.
        held_out: PathBuf,
        /// The training folder.
        train: PathBuf,
    },
    /// A held-out fraction that leaves nothing on one side.
    #[error("the held-out fraction is {0}; it must lie strictly between 0 and 1")]
    Fraction(f64),
    /// A fraction was asked for where a folder already says what is held out.
    #[error("{} is the held-out set already; remove it or give no held-out fraction", .0.display())]
    AlreadySplit(PathBuf),
    /// A folder given for prediction has no images.
    #[error("{} holds no JPEG, PNG, WebP or GIF images", .0.display())]
    NoImages(PathBuf),
    /// One file is not usable.
    #[error("{} {problem}", .path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: ImageProblem,
    },
    /// Some of a set of files are not usable.
    #[error("{} of {total} images cannot be used: {}; repair or remove them, or let them be skipped", .problems.len(), first_few(.problems))]
    Undecodable {
        /// How many images were tried.
        total: usize,
        /// Every unusable file, in the order of the set.
        problems: Vec<(PathBuf, ImageProblem)>,
    },
    /// A transform with values that make no image.
    #[error("the image transform is not valid: {0}")]
    Transform(String),
    /// An image was asked for by a number that the set does not have.
    #[error("image {index} was asked for, but there are {len}")]
    OutOfRange {
        /// The number asked for, from 0.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// A buffer of the wrong length.
    #[error("the buffer holds {given} values; this image size needs {needed}")]
    BufferLength {
        /// Values given.
        given: usize,
        /// Values needed, `size * size * 3`.
        needed: usize,
    },
}

fn others(count: usize) -> String {
    if count == 0 {
        String::new()
    } else {
        format!(" ({count} other files were ignored)")
    }
}

/// How many unusable files a message names before it only counts.
const NAMED: usize = 5;

fn first_few(problems: &[(PathBuf, ImageProblem)]) -> String {
    let mut named: Vec<_> = problems
        .iter()
        .take(NAMED)
        .map(|(path, problem)| format!("{} {problem}", path.display()))
        .collect();
    if problems.len() > NAMED {
        named.push(format!("and {} more", problems.len() - NAMED));
    }
    named.join("; ")
}

impl ImagesError {
    /// The problem `problem` of the file at `path`.
    pub(crate) fn image(path: impl Into<PathBuf>, problem: ImageProblem) -> Self {
        Self::Image {
            path: path.into(),
            problem,
        }
    }
}
