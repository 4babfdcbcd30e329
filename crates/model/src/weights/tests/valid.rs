//! Files that must be read, and read right.

use super::fixtures::*;
use crate::weights::Format;

#[test]
fn the_format_is_told_by_the_bytes_whatever_the_extension() {
    let formats = [Format::Safetensors, Format::TorchZip, Format::TorchLegacy];
    for (bytes, format) in samples().iter().zip(formats) {
        let file = read(bytes).unwrap();
        assert_eq!(file.format, format);
        assert_eq!(file.tensors, sample_tensors());
        assert!(file.metadata.is_empty());
    }
}

/// A storage 0, 1, ..., 11 seen through strides and offsets.
fn seen(shape: &[i64], strides: &[i64], offset: i64) -> Vec<f32> {
    let storage = Storage {
        class: "FloatStorage",
        key: "s",
        numel: 12,
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
    let values: Vec<f32> = (0..12u8).map(f32::from).collect();
    let bytes = torch_zip(
        &ordered_dict(&[("t", tensor)]),
        &[("s", f32_bytes(&values))],
    );
    let mut file = read(&bytes).unwrap();
    let tensor = file.tensors.remove("t").unwrap();
    assert_eq!(
        tensor.shape,
        shape.iter().map(|&size| size as usize).collect::<Vec<_>>()
    );
    tensor.data
}

#[test]
fn strides_and_offsets_are_followed() {
    assert_eq!(seen(&[2, 3], &[3, 1], 0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(seen(&[2, 3], &[1, 2], 0), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    assert_eq!(seen(&[2, 3], &[6, 2], 1), [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
    assert_eq!(
        seen(&[3, 1, 2], &[4, 99, 1], 2),
        [2.0, 3.0, 6.0, 7.0, 10.0, 11.0]
    );
    assert_eq!(seen(&[2, 2], &[0, 1], 5), [5.0, 6.0, 5.0, 6.0]);
    assert_eq!(seen(&[1, 2, 1], &[i64::MAX, 3, i64::MAX], 1), [1.0, 4.0]);
    assert_eq!(seen(&[], &[], 7), [7.0]);
    assert_eq!(seen(&[0, 4], &[4, 1], 0), [0.0; 0]);
}

#[test]
fn tensors_may_share_a_storage() {
    for legacy in [false, true] {
        let storage = Storage {
            class: "FloatStorage",
            key: "s",
            numel: 4,
        };
        let part = |offset| {
            let view = View {
                offset,
                shape: &[2],
                strides: &[1],
            };
            Pickle::default().tensor(&storage, &view, legacy)
        };
        let body = ordered_dict(&[("low", part(0)), ("high", part(2)), ("low.tied", part(0))]);
        let data = f32_bytes(&[1.0, 2.0, 3.0, 4.0]);
        let bytes = if legacy {
            torch_legacy(&body, &[("s", 4, data)])
        } else {
            torch_zip(&body, &[("s", data)])
        };
        let file = read(&bytes).unwrap();
        assert_eq!(file.tensors["low"].data, [1.0, 2.0]);
        assert_eq!(file.tensors["low.tied"].data, [1.0, 2.0]);
        assert_eq!(file.tensors["high"].data, [3.0, 4.0]);
    }
}

#[test]
fn a_view_of_a_legacy_storage_starts_at_its_offset() {
    let id = Pickle::default()
        .raw(b"(")
        .text("storage")
        .global("torch", "FloatStorage");
    let id = id
        .text("s")
        .text("cpu")
        .int(5)
        .raw(b"(")
        .text("v")
        .int(2)
        .int(3)
        .raw(b"ttQ");
    let tensor = Pickle::default()
        .global("torch._utils", "_rebuild_tensor")
        .raw(b"(");
    let tensor = tensor.raw(&id.0).int(1).ints(&[2]).ints(&[1]).raw(b"tR");
    let data = f32_bytes(&[0.0, 1.0, 2.0, 3.0, 4.0]);
    let file = read(&torch_legacy(
        &ordered_dict(&[("t", tensor)]),
        &[("s", 5, data)],
    ))
    .unwrap();
    assert_eq!(file.tensors["t"].data, [3.0, 4.0]);
}

#[test]
fn every_storage_class_is_converted() {
    let cases: [(&str, Vec<u8>, [f32; 2]); 10] = [
        (
            "DoubleStorage",
            [0.1f64, -2.0].map(f64::to_le_bytes).concat(),
            [0.1, -2.0],
        ),
        ("FloatStorage", f32_bytes(&[0.5, -1.0]), [0.5, -1.0]),
        ("HalfStorage", vec![0x00, 0x3c, 0x00, 0xc0], [1.0, -2.0]),
        ("BFloat16Storage", vec![0x80, 0x3f, 0x00, 0xc0], [1.0, -2.0]),
        (
            "LongStorage",
            [7i64, -9].map(i64::to_le_bytes).concat(),
            [7.0, -9.0],
        ),
        (
            "IntStorage",
            [7i32, -9].map(i32::to_le_bytes).concat(),
            [7.0, -9.0],
        ),
        (
            "ShortStorage",
            [7i16, -9].map(i16::to_le_bytes).concat(),
            [7.0, -9.0],
        ),
        ("CharStorage", vec![7, 0xf7], [7.0, -9.0]),
        ("ByteStorage", vec![7, 0xf7], [7.0, 247.0]),
        ("BoolStorage", vec![1, 0], [1.0, 0.0]),
    ];
    for (class, bytes, values) in cases {
        for legacy in [false, true] {
            let storage = Storage {
                class,
                key: "s",
                numel: 2,
            };
            let view = View {
                offset: 0,
                shape: &[2],
                strides: &[1],
            };
            let tensor = Pickle::default().tensor(&storage, &view, legacy);
            let body = ordered_dict(&[("t", tensor)]);
            let file = if legacy {
                torch_legacy(&body, &[("s", 2, bytes.clone())])
            } else {
                torch_zip(&body, &[("s", bytes.clone())])
            };
            assert_eq!(read(&file).unwrap().tensors["t"].data, values, "{class}");
        }
    }
}

#[test]
fn an_untyped_storage_takes_the_type_from_the_tensor() {
    let tensor = Pickle::default()
        .global("torch._utils", "_rebuild_tensor_v3")
        .raw(b"(");
    let tensor = tensor
        .storage("UntypedStorage", "s", 4, false)
        .int(0)
        .ints(&[2])
        .ints(&[1]);
    let tensor = tensor.raw(b"\x89N").global("torch", "float16").raw(b"tR");
    let bytes = torch_zip(
        &ordered_dict(&[("t", tensor)]),
        &[("s", vec![0, 0x3c, 0, 0xc0])],
    );
    assert_eq!(read(&bytes).unwrap().tensors["t"].data, [1.0, -2.0]);
}

#[test]
fn safetensors_types_are_converted_and_metadata_is_kept() {
    let header = r#"{"__metadata__":{"format":"pt"},
        "f16":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
        "bf16":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]},
        "f64":{"dtype":"F64","shape":[],"data_offsets":[4,12]},
        "i64":{"dtype":"I64","shape":[1],"data_offsets":[12,20]}}"#;
    let mut data = vec![0x00, 0x3c, 0x80, 0x3f];
    data.extend(0.1f64.to_le_bytes());
    data.extend(3i64.to_le_bytes());
    let file = read(&safetensors_of(header, &data)).unwrap();
    let values: Vec<_> = file
        .tensors
        .iter()
        .map(|(n, t)| (n.as_str(), t.data[0]))
        .collect();
    assert_eq!(
        values,
        [("bf16", 1.0), ("f16", 1.0), ("f64", 0.1), ("i64", 3.0)]
    );
    assert_eq!(file.metadata["format"], "pt");
}

#[test]
fn a_checkpoint_is_searched_and_its_wrapper_stripped() {
    let parameter = Pickle::default()
        .global("torch._utils", "_rebuild_parameter")
        .raw(b"(");
    let parameter = parameter.raw(&float_vector("0", 3, false).0).raw(b"\x88");
    let parameter = parameter.global("collections", "OrderedDict").raw(b")RtR");
    let inner = ordered_dict(&[
        ("module.a", parameter),
        ("module.b", float_vector("1", 2, false)),
        ("note", Pickle::default().text("no tensor")),
    ]);
    // The attribute `_metadata` that state_dict() sets through BUILD.
    let inner = inner.raw(b"}").text("_metadata").raw(b"}sb");
    let options = Pickle::default()
        .global("argparse", "Namespace")
        .raw(b")R}");
    let options = options
        .text("lr")
        .raw(b"G\x3f\xb9\x99\x99\x99\x99\x99\x9asb");
    let body = Pickle::default()
        .raw(b"}(")
        .text("epoch")
        .int(3)
        .text("args")
        .raw(&options.0);
    let body = body.text("state_dict").raw(&inner.0).raw(b"u");
    let data = [
        ("0", f32_bytes(&[1.0, -2.0, 3.5])),
        ("1", f32_bytes(&[0.25, 8.0])),
    ];
    let file = read(&torch_zip(&body, &data)).unwrap();
    assert_eq!(file.tensors, sample_tensors());
}

#[test]
fn a_prefix_that_not_all_names_share_is_kept() {
    let body = ordered_dict(&[
        ("module.a", float_vector("0", 1, false)),
        ("b", float_vector("0", 1, false)),
    ]);
    let file = read(&torch_zip(&body, &[("0", f32_bytes(&[1.0]))])).unwrap();
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["b", "module.a"]);
}

#[test]
fn later_pickle_protocols_and_python_2_names_are_read() {
    // Protocol 4: FRAME, SHORT_BINUNICODE, MEMOIZE, STACK_GLOBAL.
    let four = Pickle(vec![0x80, 4, 0x95])
        .raw(&[0; 8])
        .raw(b"}(\x8c\x01a\x94");
    let mut tensor = Pickle::default()
        .text("torch._utils")
        .raw(b"\x94")
        .text("_rebuild_tensor");
    tensor = tensor.raw(b"\x93(").storage("FloatStorage", "0", 3, false);
    let four = four
        .raw(&tensor.int(0).ints(&[3]).ints(&[1]).raw(b"tR").0)
        .raw(b"u");
    // Python 2: OrderedDict([['b', tensor]]) with byte strings.
    let two = Pickle::default()
        .global("collections", "OrderedDict")
        .raw(b"(](](U\x01b");
    let two = two.raw(&float_vector("0", 3, false).0).raw(b"eetR");
    for (body, name) in [(four, "a"), (two, "b")] {
        let file = read(&torch_zip(&body, &[("0", f32_bytes(&[1.0, 2.0, 3.0]))])).unwrap();
        assert_eq!(file.tensors[name].data, [1.0, 2.0, 3.0]);
    }
}
