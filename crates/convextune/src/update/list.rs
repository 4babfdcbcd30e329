//! A list of images in a text file.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use convextune_model::images::Item;

use crate::error::Error;

/// Names of images, one a line, as `explain` and `rank` print them: paths below the training folder.
/// Empty lines and lines that begin with `#` do not count.
#[derive(Clone, Debug)]
pub struct SampleList {
    path: PathBuf,
    /// Lines, from 1, and names.
    names: Vec<(usize, String)>,
}

impl SampleList {
    /// Reads a list.
    ///
    /// # Errors
    /// When the file cannot be read, is no text, or names nothing.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|error| {
            let why = if error.kind() == std::io::ErrorKind::InvalidData {
                "is no text".to_owned()
            } else {
                format!("cannot be read ({error})")
            };
            wrong(
                path,
                &format!("{why}; give a text file with the name of one image a line"),
            )
        })?;
        let lines = text.lines().map(str::trim).enumerate();
        let names = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let names: Vec<_> = names
            .map(|(i, line)| (i + 1, line.strip_prefix("./").unwrap_or(line).to_owned()))
            .collect();
        if names.is_empty() {
            let why = "names no image; write one name a line, such as `explain` and `rank` print";
            return Err(wrong(path, why));
        }
        Ok(Self {
            path: path.to_owned(),
            names,
        })
    }

    /// Indices into `train` of the images that are listed, ascending.
    ///
    /// # Errors
    /// When a name is not that of a training image.
    pub fn find(&self, train: &[Item], held_out: &[Item]) -> Result<Vec<usize>, Error> {
        let index: HashMap<&str, usize> = train
            .iter()
            .enumerate()
            .map(|(i, item)| (item.name.as_str(), i))
            .collect();
        let mut found = BTreeSet::new();
        for (line, name) in &self.names {
            let Some(i) = index.get(name.as_str()) else {
                let why = if held_out.iter().any(|item| item.name == *name) {
                    "was held out of training: the model has never seen it".to_owned()
                } else {
                    let example = train.first().map_or("", |item| &item.name);
                    format!(
                        "is not among the training images of the model, or no longer; names are paths \
                         below the folder, such as {example}"
                    )
                };
                return Err(wrong(&self.path, &format!("line {line}: {name} {why}")));
            };
            found.insert(*i);
        }
        Ok(found.into_iter().collect())
    }
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::Usage(format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &[u8]) -> Result<SampleList, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        fs::write(&path, text).unwrap();
        SampleList::read(&path)
    }

    fn items(names: &[&str]) -> Vec<Item> {
        let item = |name: &&str| Item {
            path: PathBuf::from(name),
            name: (*name).to_owned(),
            label: 0,
        };
        names.iter().map(item).collect()
    }

    #[test]
    fn names_are_found_in_any_order_and_once() {
        let list = listed(b"# wrong label\n\n./a/2.png\r\na/0.png\na/2.png\n").unwrap();
        let (train, held_out) = (
            items(&["a/0.png", "a/1.png", "a/2.png"]),
            items(&["a/9.png"]),
        );
        assert_eq!(list.find(&train, &held_out).unwrap(), [0, 2]);
        let error = list.find(&train[..2], &held_out).unwrap_err().to_string();
        assert!(
            error.contains("list.txt: line 3: a/2.png is not"),
            "{error}"
        );
        let error = listed(b"a/9.png").unwrap().find(&train, &held_out);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("held out"), "{error}");
    }

    #[test]
    fn lists_of_nothing_are_refused() {
        for (text, part) in [
            (&b"# nothing\n \n"[..], "no image"),
            (&[0xff, 0xfe], "no text"),
        ] {
            let error = listed(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(SampleList::read(Path::new("/nowhere/list.txt")).is_err());
    }
}
