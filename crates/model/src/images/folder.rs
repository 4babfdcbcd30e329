//! Listing: which files are images, which folders are classes.
//!
//! A data folder holds one folder per class; a class folder holds its images. Nothing deeper is
//! looked at, hidden names (a leading dot) are ignored, and everything is sorted by the bytes of
//! its name, so a listing is the same on every machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ImagesError;

/// Endings of file names that are taken for images, compared without regard to case.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "gif"];

/// One image file and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where the file is.
    pub path: PathBuf,
    /// The path below the data folder, with `/` between its parts: the image's name in reports.
    pub name: String,
    /// Index into the classes of the data set.
    pub label: usize,
}

/// A folder with one folder of images per class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFolder {
    /// Names of the class folders, sorted by their bytes; a label is an index into them.
    pub classes: Vec<String>,
    /// All images, by class, then by name.
    pub items: Vec<Item>,
}

impl ImageFolder {
    /// Lists `dir/<class>/<image>`.
    ///
    /// # Errors
    /// No such folder, no or only one class, a class without images, two classes that differ only
    /// in case, an unreadable folder, a name that is not UTF-8.
    pub fn open(dir: &Path) -> Result<Self, ImagesError> {
        let folder = Self::scan(dir, "")?;
        for (label, class) in folder.classes.iter().enumerate() {
            if !folder.items.iter().any(|item| item.label == label) {
                return Err(ImagesError::EmptyClass {
                    class: class.clone(),
                    dir: dir.to_path_buf(),
                    other_files: visible(&dir.join(class))?.len(),
                });
            }
        }
        match folder.classes.as_slice() {
            [class] => Err(ImagesError::OneClass {
                dir: dir.to_path_buf(),
                class: class.clone(),
            }),
            _ => Ok(folder),
        }
    }

    /// Lists `dir` to test on: one class is enough, and a class may be empty.
    ///
    /// # Errors
    /// As [`Self::open`], and when there is no image at all.
    pub fn held_out(dir: &Path) -> Result<Self, ImagesError> {
        let folder = Self::scan(dir, "")?;
        if folder.items.is_empty() {
            return Err(ImagesError::NoImages(dir.to_path_buf()));
        }
        Ok(folder)
    }

    /// Lists `dir` without asking that every class has images or that there are two of them, as
    /// is right for a held-out set. `prefix` is put before the items' names.
    pub(crate) fn scan(dir: &Path, prefix: &str) -> Result<Self, ImagesError> {
        let classes = subfolders(dir)?;
        if classes.is_empty() {
            let images = images_in(dir)?.len();
            let dir = dir.to_path_buf();
            return Err(match images {
                0 => ImagesError::NoClasses(dir),
                images => ImagesError::ImagesWithoutClasses { dir, images },
            });
        }
        refuse_same_but_case(dir, &classes)?;
        let mut items = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            for file in images_in(&dir.join(class))? {
                let path = dir.join(class).join(&file);
                items.push(Item {
                    path,
                    name: format!("{prefix}{class}/{file}"),
                    label,
                });
            }
        }
        Ok(Self { classes, items })
    }
}

/// The images that a user names for prediction: files as they are, in the order given, and the
/// images directly in each folder, sorted by name.
///
/// A named file is taken whatever its ending; its content decides when it is decoded.
///
/// # Errors
/// A path that does not exist, a folder that cannot be read or holds no images.
pub fn list_images(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ImagesError> {
    let mut images = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
        if !metadata.is_dir() {
            images.push(path.clone());
            continue;
        }
        let found = images_in(path)?;
        if found.is_empty() {
            return Err(ImagesError::NoImages(path.clone()));
        }
        images.extend(found.into_iter().map(|name| path.join(name)));
    }
    Ok(images)
}

/// Names of the visible folders in `dir`, sorted by their bytes.
pub(crate) fn subfolders(dir: &Path) -> Result<Vec<String>, ImagesError> {
    let names = visible(dir)?;
    Ok(names
        .into_iter()
        .filter(|name| dir.join(name).is_dir())
        .collect())
}

/// Names of the visible image files in `dir`, sorted by their bytes. A link that leads nowhere
/// counts, so that it is reported and not silently left out.
pub(crate) fn images_in(dir: &Path) -> Result<Vec<String>, ImagesError> {
    let names = visible(dir)?;
    Ok(names
        .into_iter()
        .filter(|name| is_image_name(name) && may_be_file(&dir.join(name)))
        .collect())
}

fn may_be_file(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

fn is_image_name(name: &str) -> bool {
    Path::new(name)
        .extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| {
            EXTENSIONS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(ending))
        })
}

/// Names in `dir` that do not start with a dot, sorted by their bytes.
fn visible(dir: &Path) -> Result<Vec<String>, ImagesError> {
    let entries = fs::read_dir(dir).map_err(|error| unreadable(dir, error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(dir, error))?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        names.push(
            name.into_string()
                .map_err(|_| ImagesError::NameNotUtf8(entry.path()))?,
        );
    }
    names.sort_unstable();
    Ok(names)
}

fn unreadable(path: &Path, source: io::Error) -> ImagesError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::NotFound => ImagesError::NotFound(path),
        io::ErrorKind::NotADirectory => ImagesError::NotAFolder(path),
        _ => ImagesError::UnreadableFolder { path, source },
    }
}

fn refuse_same_but_case(dir: &Path, classes: &[String]) -> Result<(), ImagesError> {
    let mut folded: Vec<_> = classes
        .iter()
        .map(|class| (class.to_lowercase(), class))
        .collect();
    folded.sort_unstable();
    match folded.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(ImagesError::ClassesDifferInCase {
            dir: dir.to_path_buf(),
            first: pair[0].1.clone(),
            second: pair[1].1.clone(),
        }),
    }
}

#[cfg(test)]
mod tests;
