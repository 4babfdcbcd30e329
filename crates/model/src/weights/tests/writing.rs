//! Our own model files: written whole or not at all.

use std::collections::BTreeMap;
use std::fs;

use super::fixtures::*;
use crate::weights::{
    NamedTensor, WeightsError, read_safetensors_metadata, read_safetensors_with_metadata,
    sha256_of, write_safetensors,
};

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let mut tensors = sample_tensors();
    tensors.insert(
        "module.Ü \"x\"".to_owned(),
        NamedTensor {
            shape: vec![],
            data: vec![-0.0],
        },
    );
    tensors.insert(
        "empty".to_owned(),
        NamedTensor {
            shape: vec![0, 3],
            data: vec![],
        },
    );
    let metadata = [("convextune", "{\"v\":1}"), ("b", "2")];
    let metadata = metadata
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    write_safetensors(&path, &tensors, &metadata).unwrap();
    assert_eq!(
        read_safetensors_with_metadata(&path).unwrap(),
        (tensors.clone(), metadata.clone())
    );
    let before = sha256_of(&path).unwrap();
    write_safetensors(&path, &tensors, &metadata).unwrap();
    assert_eq!(
        sha256_of(&path).unwrap(),
        before,
        "equal tensors give equal bytes"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn metadata_are_read_without_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let long = [("convextune".to_owned(), "x".repeat(5000))].into();
    write_safetensors(&path, &sample_tensors(), &long).unwrap();
    assert_eq!(read_safetensors_metadata(&path).unwrap(), long);
    let bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    fs::write(&path, &bytes[..header]).unwrap();
    assert_eq!(read_safetensors_metadata(&path).unwrap(), long);
    assert!(read_safetensors_with_metadata::<f32>(&path).is_err());
    for cut in [header - 1, 600, 100] {
        fs::write(&path, &bytes[..cut]).unwrap();
        let error = read_safetensors_metadata(&path).unwrap_err();
        assert!(matches!(error, WeightsError::Corrupt { .. }), "{error}");
    }
    fs::write(&path, b"a,b\n1,2\n").unwrap();
    let error = read_safetensors_metadata(&path).unwrap_err();
    assert!(
        matches!(error, WeightsError::UnknownFormat { .. }),
        "{error}"
    );
    write_safetensors(&path, &sample_tensors(), &no_metadata()).unwrap();
    assert!(read_safetensors_metadata(&path).unwrap().is_empty());
}

#[test]
fn double_precision_comes_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let data = vec![0.1, -1e300, f64::MIN_POSITIVE / 8.0, 1.0 + f64::EPSILON];
    let tensor = NamedTensor {
        shape: vec![2, 2],
        data,
    };
    let tensors = [("a".to_owned(), tensor)].into();
    write_safetensors(&path, &tensors, &no_metadata()).unwrap();
    assert_eq!(read_safetensors_with_metadata(&path).unwrap().0, tensors);
    // Into single precision, one value is too large.
    let error = read_safetensors_with_metadata::<f32>(&path).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[test]
fn no_tensors_at_all_are_a_valid_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    write_safetensors::<f32>(&path, &BTreeMap::new(), &no_metadata()).unwrap();
    assert!(
        read_safetensors_with_metadata::<f32>(&path)
            .unwrap()
            .0
            .is_empty()
    );
}

#[test]
fn a_pytorch_file_is_no_model_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, &samples()[1]).unwrap();
    let error = read_safetensors_with_metadata::<f32>(&path)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a PyTorch checkpoint where a safetensors"),
        "{error}"
    );
}

#[test]
fn a_tensor_that_no_file_can_hold_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, "old").unwrap();
    let cases = [
        ("a", vec![2], vec![1.0], "the product of its shape"),
        (
            "a",
            vec![usize::MAX, 2],
            vec![1.0],
            "the product of its shape",
        ),
        ("a", vec![1], vec![f32::NAN], "NaN"),
        ("__metadata__", vec![1], vec![1.0], "reserves this name"),
    ];
    for (name, shape, data, reason) in cases {
        let tensors = [(name.to_owned(), NamedTensor { shape, data })].into();
        let error = write_safetensors(&path, &tensors, &no_metadata())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains("nothing was written"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}

#[cfg(unix)]
#[test]
fn folders_and_devices_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path(), "/dev/null".as_ref()] {
        let error = write_safetensors(path, &sample_tensors(), &no_metadata());
        assert!(
            matches!(error, Err(WeightsError::NotAFile { .. })),
            "{error:?}"
        );
    }
    let absent = folder.path().join("absent/model");
    let error = write_safetensors(&absent, &sample_tensors(), &no_metadata()).unwrap_err();
    assert!(error.to_string().contains("cannot write it"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn new_files_are_readable_like_any_other_and_links_are_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    let (plain, path) = (folder.path().join("plain"), folder.path().join("model"));
    fs::write(&plain, "x").unwrap();
    write_safetensors(&path, &sample_tensors(), &no_metadata()).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
    let link = folder.path().join("link");
    symlink(&plain, &link).unwrap();
    write_safetensors(&link, &sample_tensors(), &no_metadata()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&plain).unwrap(), fs::read(&path).unwrap());
}

#[cfg(unix)]
#[test]
fn a_folder_without_write_permission_keeps_its_file() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let result = write_safetensors(&path, &sample_tensors(), &no_metadata());
    let listed = fs::read_dir(folder.path()).unwrap().count();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if result.is_ok() {
        println!("skipped: permissions do not bind this user");
        return;
    }
    assert_eq!((fs::read(&path).unwrap(), listed), (b"old".to_vec(), 1));
}
