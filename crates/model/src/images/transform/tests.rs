//! Pillow's pixels, torchvision's rounding, and what a model file may say.

use super::super::testing::formula;
use super::Interpolation::{Bicubic, Bilinear};
use super::*;

fn transform(size: usize, resize: Resize, interpolation: Interpolation) -> Transform {
    Transform::new(size, resize, interpolation, true, Normalisation::IMAGENET).unwrap()
}

type Case = (
    (u32, u32),
    Resize,
    usize,
    Interpolation,
    [(u32, u32, [u8; 3]); 5],
    i64,
);

/// Printed by `dev/fixtures/resize.py` (Pillow 13.0.0): source size, transform, five pixels and
/// the sum of all values.
#[rustfmt::skip]
const PILLOW: [Case; 10] = [
    ((97, 61), Resize::ShortSide(32), 28, Bilinear, [(0, 0, [166, 156, 105]), (27, 0, [20, 162, 117]), (14, 9, [151, 225, 99]), (3, 26, [99, 218, 162]), (27, 27, [174, 216, 120])], 295_143),
    ((97, 61), Resize::ShortSide(32), 28, Bicubic, [(0, 0, [166, 156, 106]), (27, 0, [17, 162, 116]), (14, 9, [151, 228, 89]), (3, 26, [99, 219, 177]), (27, 27, [174, 217, 116])], 295_131),
    ((61, 97), Resize::ShortSide(37), 32, Bilinear, [(0, 0, [92, 53, 94]), (31, 0, [194, 56, 188]), (16, 10, [71, 65, 155]), (3, 30, [21, 69, 123]), (31, 31, [94, 63, 162])], 398_381),
    ((61, 97), Resize::ShortSide(37), 32, Bicubic, [(0, 0, [91, 43, 93]), (31, 0, [193, 47, 203]), (16, 10, [70, 65, 159]), (3, 30, [20, 70, 123]), (31, 31, [93, 63, 178])], 398_469),
    ((45, 33), Resize::ShortSide(72), 63, Bilinear, [(0, 0, [61, 57, 26]), (62, 0, [64, 199, 70]), (31, 21, [190, 234, 166]), (3, 61, [155, 116, 34]), (62, 62, [89, 139, 82])], 1_588_226),
    ((45, 33), Resize::ShortSide(72), 63, Bicubic, [(0, 0, [61, 57, 26]), (62, 0, [60, 199, 70]), (31, 21, [190, 235, 183]), (3, 61, [155, 116, 13]), (62, 62, [89, 142, 82])], 1_588_427),
    ((97, 61), Resize::Exact, 24, Bilinear, [(0, 0, [16, 21, 15]), (23, 0, [150, 223, 96]), (12, 8, [157, 221, 113]), (3, 22, [67, 180, 136]), (23, 23, [68, 95, 131])], 218_911),
    ((97, 61), Resize::Exact, 24, Bicubic, [(0, 0, [13, 17, 14]), (23, 0, [151, 233, 93]), (12, 8, [157, 235, 104]), (3, 22, [57, 180, 139]), (23, 23, [71, 99, 130])], 218_892),
    ((83, 62), Resize::CentralCrop { padding: 8 }, 24, Bilinear, [(0, 0, [164, 193, 183]), (23, 0, [213, 156, 63]), (12, 8, [112, 218, 142]), (3, 22, [72, 171, 109]), (23, 23, [88, 125, 103])], 220_373),
    ((83, 62), Resize::CentralCrop { padding: 8 }, 24, Bicubic, [(0, 0, [163, 192, 179]), (23, 0, [214, 155, 47]), (12, 8, [112, 220, 148]), (3, 22, [72, 171, 102]), (23, 23, [89, 126, 97])], 220_376),
];

#[test]
fn resizes_and_crops_as_pillow_does() {
    for ((width, height), resize, size, interpolation, pixels, total) in PILLOW {
        let case = format!("{width} x {height}, {resize:?}, {size}, {interpolation:?}");
        let square = transform(size, resize, interpolation)
            .square(&formula(width, height))
            .unwrap();
        for (x, y, expected) in pixels {
            let found = square.get_pixel(x, y).0;
            let worst = found
                .iter()
                .zip(expected)
                .map(|(&a, b)| a.abs_diff(b))
                .max();
            assert!(
                worst <= Some(1),
                "{case}: ({x}, {y}) is {found:?}, not {expected:?}"
            );
        }
        // Rounding differences must not add up to a change of brightness.
        let sum: i64 = square.as_raw().iter().map(|&value| i64::from(value)).sum();
        let mean_difference = (sum - total) as f64 / square.as_raw().len() as f64;
        assert!(
            mean_difference.abs() < 0.02,
            "{case}: brighter by {mean_difference}"
        );
    }
}

#[test]
fn without_antialiasing_the_filter_stays_narrow() {
    let wide = transform(8, Resize::Exact, Bilinear);
    let narrow =
        Transform::new(8, Resize::Exact, Bilinear, false, Normalisation::IMAGENET).unwrap();
    // One bright column in 64: the wide filter sees it from afar, the narrow one only at x = 3.5,
    // between columns 27 and 28, where its weight is a half.
    let line = RgbImage::from_fn(64, 64, |x, _| {
        image::Rgb([if x == 28 { 200 } else { 0 }; 3])
    });
    assert_eq!(narrow.square(&line).unwrap().get_pixel(3, 4).0, [100; 3]);
    let spread = wide.square(&line).unwrap().get_pixel(3, 4).0[0];
    assert!((20..=26).contains(&spread), "{spread}");
}

#[test]
fn the_crop_is_centred_with_pythons_rounding() {
    // int(round((length - size) / 2.0)) in Python, for margins 0 to 9.
    let python = [0, 0, 1, 2, 2, 2, 3, 4, 4, 4];
    let found: Vec<_> = (0..10).map(|margin| centred(7 + margin, 7)).collect();
    assert_eq!(found, python);
}

#[test]
fn an_image_of_the_right_size_is_left_as_it_is() {
    let image = formula(32, 32);
    assert_eq!(Transform::cifar().square(&image).unwrap(), image);
}

#[test]
fn one_pixel_and_upscaling_work() {
    for resize in [
        Resize::Exact,
        Resize::ShortSide(20),
        Resize::CentralCrop { padding: 4 },
    ] {
        let image = RgbImage::from_pixel(1, 1, image::Rgb([9, 80, 255]));
        let square = transform(16, resize, Bicubic).square(&image).unwrap();
        assert!(
            square.pixels().all(|pixel| pixel.0 == [9, 80, 255]),
            "{resize:?}"
        );
    }
}

#[test]
fn values_are_normalised_by_channel_and_row() {
    let transform = transform(2, Resize::Exact, Bilinear);
    let image = RgbImage::from_raw(2, 2, (0..12).map(|value| value * 20).collect()).unwrap();
    let mut out = vec![0.0; 12];
    transform.apply(&image, &mut out).unwrap();
    let Normalisation { mean, std } = Normalisation::IMAGENET;
    for (index, value) in out.iter().enumerate() {
        let expected = ((index * 20) as f32 - mean[index % 3]) / std[index % 3];
        assert!(
            (value - expected).abs() < 1e-6,
            "at {index}: {value}, not {expected}"
        );
    }
    assert!((Normalisation::IMAGENET.mean[1] / 255.0 - 0.456).abs() < 1e-6);
    assert!((Normalisation::IMAGENET.std[2] / 255.0 - 0.225).abs() < 1e-6);
}

#[test]
fn mirroring_swaps_columns_and_keeps_channels() {
    let transform = transform(5, Resize::Exact, Bilinear);
    let image = formula(5, 5);
    let (mut mirrored, mut flipped) = (vec![0.0; 75], vec![0.0; 75]);
    transform.normalise(image.as_raw(), true, &mut mirrored);
    transform
        .apply(&imageops::flip_horizontal(&image), &mut flipped)
        .unwrap();
    assert_eq!(mirrored, flipped);
}

#[test]
fn another_size_keeps_the_share_that_is_cut() {
    let small = Transform::imagenet().with_size(128).unwrap();
    assert_eq!(
        (small.size(), small.resize()),
        (128, Resize::ShortSide(146))
    );
    let lite = Transform::efficientnet_lite().with_size(112).unwrap();
    assert_eq!(lite.resize(), Resize::CentralCrop { padding: 16 });
    assert!(Transform::imagenet().with_size(0).is_err());
    assert!(Transform::imagenet().with_size(usize::MAX).is_err());
}

#[test]
fn elongated_images_are_refused_before_memory_is_set_aside() {
    let line = RgbImage::new(20_000, 1);
    let problem = Transform::imagenet().square(&line).unwrap_err().to_string();
    assert_eq!(
        problem,
        "is 20000 x 1 pixels, too elongated for a square of 224 pixels; crop it"
    );
    assert!(Transform::efficientnet_lite().square(&line).is_ok());
    assert!(Transform::imagenet().square(&RgbImage::new(0, 5)).is_err());
}

#[test]
fn a_buffer_of_the_wrong_length_is_refused() {
    let error = Transform::cifar()
        .apply(&formula(9, 9), &mut [0.0; 3])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the buffer holds 3 values; this image size needs 3072"
    );
}

#[test]
fn model_files_keep_the_transform_exactly() {
    for transform in [
        Transform::imagenet(),
        Transform::efficientnet_lite(),
        Transform::cifar(),
    ] {
        let json = serde_json::to_string(&transform).unwrap();
        assert_eq!(
            serde_json::from_str::<Transform>(&json).unwrap(),
            transform,
            "{json}"
        );
    }
}

#[test]
fn model_files_with_impossible_transforms_are_refused() {
    let good = serde_json::to_value(Transform::imagenet()).unwrap();
    let refused = |key: &str, value: serde_json::Value| {
        let mut bad = good.clone();
        bad[key] = value;
        serde_json::from_value::<Transform>(bad)
            .unwrap_err()
            .to_string()
    };
    let norm = |std: f32| serde_json::json!({"mean": [0.0, 0.0, 0.0], "std": [1.0, std, 1.0]});
    assert!(refused("size", 0.into()).contains("the size is 0 pixels"));
    assert!(refused("size", 1_000_000.into()).contains("not 1 to 4096"));
    assert!(refused("size", 257.into()).contains("the short side is 256 pixels"));
    assert!(
        refused("resize", serde_json::json!({"short_side": 1e9 as u64})).contains("short side")
    );
    assert!(refused("normalisation", norm(0.0)).contains("deviations"));
    assert!(refused("normalisation", norm(-1.0)).contains("deviations"));
    assert!(refused("shear", 3.into()).contains("unknown field"));
    let padding = Resize::CentralCrop {
        padding: usize::MAX,
    };
    assert!(Transform::new(8, padding, Bilinear, true, Normalisation::SYMMETRIC).is_err());
    let infinite = Normalisation {
        mean: [f32::NAN; 3],
        std: [1.0; 3],
    };
    assert!(Transform::new(8, Resize::Exact, Bilinear, true, infinite).is_err());
}
