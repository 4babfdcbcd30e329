//! Fitting a file's tensors to the names and shapes that a network needs.

use std::collections::HashSet;

use super::{Misshaped, NamedTensor, WeightFile, WeightsError};

/// Finds the tensors of `expected` in `file`, in the order of `expected`.
///
/// Tensors of the file that nothing expects are an error unless `ignore` accepts their name (as
/// it should for `num_batches_tracked`, or for a classifier that is to be replaced).
///
/// # Errors
/// [`WeightsError::Mismatch`] with all missing, surplus and mis-shaped tensors together.
pub fn bind<'f>(
    file: &'f WeightFile,
    expected: &[(String, Vec<usize>)],
    ignore: impl Fn(&str) -> bool,
) -> Result<Vec<&'f NamedTensor>, WeightsError> {
    let (mut bound, mut missing, mut misshaped) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in expected {
        match file.tensors.get(name) {
            Some(tensor) if tensor.shape == *shape => bound.push(tensor),
            Some(tensor) => misshaped.push(Misshaped {
                name: name.clone(),
                expected: shape.clone(),
                found: tensor.shape.clone(),
            }),
            None => missing.push(name.clone()),
        }
    }
    let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let unknown = |name: &&String| !known.contains(name.as_str()) && !ignore(name);
    let surplus: Vec<String> = file.tensors.keys().filter(unknown).cloned().collect();
    if missing.is_empty() && surplus.is_empty() && misshaped.is_empty() {
        return Ok(bound);
    }
    let path = file.path.clone();
    Err(WeightsError::Mismatch {
        path,
        missing,
        surplus,
        misshaped,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::weights::Format;

    fn file(names: &[&str]) -> WeightFile {
        let tensor = NamedTensor {
            shape: vec![2],
            data: vec![1.0, 2.0],
        };
        WeightFile {
            path: PathBuf::from("net.pth"),
            format: Format::TorchZip,
            tensors: names
                .iter()
                .map(|&name| (name.to_owned(), tensor.clone()))
                .collect(),
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn tensors_come_in_the_expected_order() -> Result<(), WeightsError> {
        let mut file = file(&["a", "b", "bn.num_batches_tracked"]);
        file.tensors.insert(
            "b".to_owned(),
            NamedTensor {
                shape: vec![],
                data: vec![5.0],
            },
        );
        let expected = [("b".to_owned(), vec![]), ("a".to_owned(), vec![2])];
        let bound = bind(&file, &expected, |name| {
            name.ends_with("num_batches_tracked")
        })?;
        assert_eq!(bound[0].data, [5.0]);
        assert_eq!(bound[1].data, [1.0, 2.0]);
        Ok(())
    }

    #[test]
    fn all_differences_are_reported_together() {
        let file = file(&["a", "b", "extra"]);
        let mut expected = vec![("a".to_owned(), vec![3]), ("b".to_owned(), vec![1, 2])];
        expected.extend((0..20).map(|i| (format!("layer{i:02}"), vec![2])));
        let error = bind(&file, &expected, |_| false).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("net.pth: the tensors do not fit the network (20 missing: `layer00`")
        );
        assert!(text.contains("`layer07` and 12 more;"), "{text}");
        assert!(text.contains("1 not in the network: `extra`;"), "{text}");
        assert!(
            text.contains("`a` is [2], needs [3], `b` is [2], needs [1, 2]"),
            "{text}"
        );
    }
}
