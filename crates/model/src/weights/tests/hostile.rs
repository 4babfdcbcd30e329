//! Files that must be refused: damaged ones, and containers that ask for the absurd.

use zip::CompressionMethod;

use super::fixtures::*;
use crate::weights::{WeightFile, WeightsError};

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let body = |legacy| ordered_dict(&[("fc.bias", float_vector("0", 2, legacy))]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let data = f32_bytes(&[1.0, bad]);
        let header = r#"{"fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        for bytes in [
            safetensors_of(header, &data),
            torch_zip(&body(false), &[("0", data.clone())]),
            torch_legacy(&body(true), &[("0", 2, data.clone())]),
        ] {
            match read(&bytes) {
                Err(WeightsError::NotFinite { tensor, .. }) => assert_eq!(tensor, "fc.bias"),
                other => panic!("{other:?}"),
            }
        }
    }
    let header = r#"{"x":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#;
    let text = refusal(&safetensors_of(header, &1e300f64.to_le_bytes()));
    assert!(
        text.contains("tensor `x`: holds NaN, an infinity or a value that is too large"),
        "{text}"
    );
}

#[test]
fn other_files_are_told_apart() {
    let text = refusal(b"");
    assert!(text.contains("is empty (0 bytes)"), "{text}");
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: [(&[u8], &str); 7] = [
        (
            b"these are not the weights you look for\n",
            "it looks like text",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x80\x02}.", "a pickle or the damaged start"),
        (&tar, "a tar archive"),
        (&[0xff; 40], "unknown content"),
    ];
    for (bytes, hint) in cases {
        let text = refusal(bytes);
        assert!(
            text.contains(hint) && text.contains("is not a weight file"),
            "{text}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        WeightFile::read(folder.path()),
        Err(WeightsError::NotAFile { .. })
    ));
    let absent = WeightFile::read(&folder.path().join("absent"))
        .unwrap_err()
        .to_string();
    assert!(absent.contains("cannot open it ("), "{absent}");
}

#[test]
fn every_truncation_is_refused() {
    for bytes in samples() {
        for length in 0..bytes.len() {
            assert!(
                read(&bytes[..length]).is_err(),
                "{length} of {} bytes",
                bytes.len()
            );
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        if !bytes.starts_with(b"PK") {
            assert!(read(&longer).is_err(), "a byte too many");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_zip_storage_is_found() {
    let [_, mut bytes, _] = samples();
    let values = f32_bytes(&[1.0, -2.0, 3.5]);
    let at = bytes
        .windows(12)
        .position(|window| window == values)
        .unwrap();
    bytes[at] ^= 1;
    let text = refusal(&bytes);
    assert!(
        text.contains("zip entry `net/data/0`: cannot be read"),
        "{text}"
    );
}

#[test]
fn repeated_names_are_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let twice = ordered_dict(&[
        ("a", float_vector("0", 1, false)),
        ("a", float_vector("0", 1, false)),
    ]);
    let data = f32_bytes(&[1.0]);
    for bytes in [
        safetensors_of(header, &data),
        torch_zip(&twice, &[("0", data.clone())]),
    ] {
        let text = refusal(&bytes);
        assert!(
            text.contains("tensor `a`: the name appears twice"),
            "{text}"
        );
    }
    let body = ordered_dict(&[("a", float_vector("0", 1, true))]);
    let text = refusal(&torch_legacy(
        &body,
        &[("0", 1, data.clone()), ("0", 1, data)],
    ));
    assert!(text.contains("storage `0`: is listed twice"), "{text}");
}

/// A zip checkpoint with one tensor of the given geometry over a storage of four elements.
fn geometry(shape: &[i64], strides: &[i64], offset: i64, numel: i64) -> String {
    let storage = Storage {
        class: "FloatStorage",
        key: "s",
        numel,
    };
    let tensor = Pickle::default().tensor(
        &storage,
        &View {
            offset,
            shape,
            strides,
        },
        false,
    );
    refusal(&torch_zip(
        &ordered_dict(&[("t", tensor)]),
        &[("s", f32_bytes(&[0.0; 4]))],
    ))
}

#[test]
fn absurd_geometry_is_refused_before_memory_is_taken() {
    let huge = i64::MAX;
    let beyond = "beyond the 4 elements of its storage";
    assert!(geometry(&[5], &[1], 0, 4).contains(beyond));
    assert!(geometry(&[2, 2], &[3, 1], 0, 4).contains(beyond));
    assert!(geometry(&[1], &[1], 4, 4).contains(beyond));
    assert!(geometry(&[1], &[1], huge, 4).contains(beyond));
    assert!(geometry(&[2], &[huge], huge, 4).contains(beyond));
    assert!(geometry(&[huge, huge], &[0, 0], 0, 4).contains("more elements than can be counted"));
    assert!(geometry(&[1 << 40], &[0], 0, 4).contains("16 times the file's"));
    assert!(geometry(&[2, 2], &[1], 0, 4).contains("2 dimensions and 1 strides"));
    assert!(geometry(&[1; 65], &[1; 65], 0, 4).contains("65 dimensions"));
    assert!(geometry(&[-1], &[1], 0, 4).contains("rebuilt from wrong arguments"));
    assert!(geometry(&[1], &[1], 0, huge).contains("the pickle says"));
    assert!(geometry(&[1], &[1], 0, 3).contains("holds 16 bytes"));
    assert!(geometry(&[1], &[1], 0, 5).contains("holds 16 bytes"));
    assert!(geometry(&[1], &[1], 0, -1).contains("does not name a storage"));
}

#[test]
fn a_legacy_storage_larger_than_the_file_is_refused() {
    for numel in [i64::MAX, 1 << 40, 3] {
        let body = ordered_dict(&[("a", float_vector("0", numel, true))]);
        let text = refusal(&torch_legacy(
            &body,
            &[("0", numel, f32_bytes(&[0.0, 0.0]))],
        ));
        assert!(
            text.contains("storage `0`: needs") && text.contains("8 bytes left"),
            "{text}"
        );
    }
    let body = ordered_dict(&[("a", float_vector("0", 2, true))]);
    let text = refusal(&torch_legacy(&body, &[("0", -2, f32_bytes(&[0.0, 0.0]))]));
    assert!(
        text.contains("holds -2 elements where the pickle says 2"),
        "{text}"
    );
    let text = refusal(&torch_legacy(&body, &[("9", 2, f32_bytes(&[0.0, 0.0]))]));
    assert!(
        text.contains("storage `9`: is in the file but not named"),
        "{text}"
    );
    let text = refusal(&torch_legacy(&body, &[]));
    assert!(
        text.contains("storage `0`: is used by a tensor but not in the file"),
        "{text}"
    );
}

#[test]
fn compressed_zips_are_refused_and_so_bombs() {
    let body = ordered_dict(&[("a", float_vector("0", 1 << 20, false))]);
    let entries = [
        ("net/data.pkl".to_owned(), Pickle::new().raw(&body.0).stop()),
        ("net/data/0".to_owned(), vec![0; 4 << 20]),
    ];
    let text = refusal(&zip_of(&entries, CompressionMethod::Deflated));
    assert!(text.contains("is compressed or encrypted"), "{text}");
    let text = refusal(&zip_of(
        &[("word/document.xml".to_owned(), vec![1])],
        CompressionMethod::Stored,
    ));
    assert!(
        text.contains("a zip file but no PyTorch checkpoint"),
        "{text}"
    );
    let big = [
        entries[0].clone(),
        ("net/byteorder".to_owned(), b"big".to_vec()),
    ];
    let text = refusal(&zip_of(&big, CompressionMethod::Stored));
    assert!(
        text.contains("zip entry `net/byteorder`: is not `little`"),
        "{text}"
    );
}

#[test]
fn absurd_safetensors_headers_are_refused() {
    let cases = [
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,4]}}"#,
            "header",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#,
            "do not fill the file's",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            "tensor `a`: its data",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            "header",
        ),
        (
            r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#,
            "F8_E4M3 is not understood",
        ),
        (
            r#"{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,4]}}"#,
            "header: cannot be read",
        ),
        (r#"{"a":"#, "header: cannot be read"),
    ];
    for (header, reason) in cases {
        let text = refusal(&safetensors_of(header, &[0; 4]));
        assert!(text.contains(reason), "{text}");
    }
    let deep = format!("{{\"a\":{}", "[".repeat(200_000));
    assert!(refusal(&safetensors_of(&deep, &[])).contains("header: cannot be read"));
}

#[test]
fn many_views_of_one_storage_cannot_multiply_it() {
    let storage = Storage {
        class: "FloatStorage",
        key: "s",
        numel: 10_000,
    };
    let view = View {
        offset: 0,
        shape: &[10_000],
        strides: &[1],
    };
    let names: Vec<String> = (0..100).map(|i| format!("t{i}")).collect();
    let tensor = Pickle::default().tensor(&storage, &view, false);
    let entries: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), tensor.clone()))
        .collect();
    let text = refusal(&torch_zip(
        &ordered_dict(&entries),
        &[("s", vec![0; 40_000])],
    ));
    assert!(text.contains("over 16 times the file's"), "{text}");
}
