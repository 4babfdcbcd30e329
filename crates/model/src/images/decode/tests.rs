//! Every format and every kind of damage, on small images made here.

use convextune_testkit::Rng;
use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba, RgbaImage};

use super::super::testing::{encode, formula, real_data, write};
use super::*;

const FORMATS: [ImageFormat; 4] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Gif,
];

fn refusal(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().to_string()
}

#[test]
fn every_format_decodes_to_about_what_was_encoded() {
    let image = RgbImage::from_pixel(20, 12, Rgb([200, 40, 90]));
    for format in FORMATS {
        let decoded = decode(&encode(image.clone(), format)).unwrap();
        assert_eq!(decoded.dimensions(), (20, 12), "{format:?}");
        let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 4;
        assert!(
            decoded.as_raw().iter().zip(image.as_raw()).all(near),
            "{format:?}"
        );
    }
    let exact = formula(31, 17);
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        assert_eq!(decode(&encode(exact.clone(), format)).unwrap(), exact);
    }
}

#[test]
fn the_content_decides_and_not_the_ending() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "really-a.jpg",
        &encode(formula(9, 5), ImageFormat::Png),
    );
    assert_eq!(read(&path).unwrap(), formula(9, 5));
    let text = write(
        dir.path(),
        "x.jpg",
        b"this is a text file, whatever its name says",
    );
    let expected = format!("{} is not a JPEG, PNG, WebP or GIF image", text.display());
    assert_eq!(read(&text).unwrap_err().to_string(), expected);
    let empty = write(dir.path(), "y.jpg", b"");
    assert_eq!(
        read(&empty).unwrap_err().to_string(),
        format!("{} is empty", empty.display())
    );
    let missing = dir.path().join("z.jpg");
    let message = read(&missing).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("{} cannot be read: ", missing.display())),
        "{message}"
    );
    assert!(read(dir.path()).is_err());
}

#[test]
fn other_formats_are_named() {
    assert!(refusal(b"\0\0\0\x18ftypheic\0\0\0\0").ends_with("(it looks like HEIC; convert it)"));
    assert!(refusal(b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0").contains("it looks like BMP"));
    assert!(refusal(b"\xff").starts_with("is not a JPEG"));
}

#[test]
fn cut_files_are_refused_wherever_they_are_cut() {
    for format in FORMATS {
        let bytes = encode(formula(64, 48), format);
        for percent in [10, 40, 70, 95] {
            let cut = &bytes[..bytes.len() * percent / 100];
            let message = refusal(cut);
            assert!(
                message.starts_with("is damaged or cut short: "),
                "{format:?} at {percent} %: {message}"
            );
        }
    }
}

#[test]
fn a_thumbnails_end_is_not_the_images_end() {
    let bytes = encode(formula(64, 48), ImageFormat::Jpeg);
    let segment = [0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD8, 0xFF, 0xD9];
    let with_thumbnail = [&bytes[..2], &segment, &bytes[2..]].concat();
    assert!(decode(&with_thumbnail).is_ok());
    assert!(decode(&with_thumbnail[..with_thumbnail.len() / 2]).is_err());
}

#[test]
fn bytes_behind_the_image_do_no_harm() {
    for format in FORMATS {
        let mut bytes = encode(formula(16, 16), format);
        bytes.extend_from_slice(b"appended by some camera");
        assert!(decode(&bytes).is_ok(), "{format:?}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut rng = Rng::new(1);
    for format in FORMATS {
        let good = encode(formula(40, 30), format);
        for _ in 0..300 {
            let mut bytes = good.clone();
            for _ in 0..=rng.next_u64() % 8 {
                let at = (rng.next_u64() % bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            if let Ok(image) = decode(&bytes) {
                assert!(image.width().max(image.height()) <= MAX_SIDE);
            }
        }
    }
}

#[test]
fn transparency_lies_over_white() {
    let colours = [
        [10, 20, 30, 255],
        [10, 20, 30, 0],
        [0, 100, 255, 128],
        [255, 255, 255, 7],
    ]
    .map(Rgba);
    let image = RgbaImage::from_fn(4, 1, |x, _| colours[x as usize]);
    let expected = [[10, 20, 30], [255; 3], [127, 177, 255], [255; 3]];
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let decoded = decode(&encode(image.clone(), format)).unwrap();
        let found: Vec<_> = decoded.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(found, expected, "{format:?}");
    }
    let grey = GrayAlphaImage::from_pixel(2, 2, LumaA([0, 51]));
    assert_eq!(
        decode(&encode(grey, ImageFormat::Png))
            .unwrap()
            .get_pixel(0, 0)
            .0,
        [204; 3]
    );
}

#[test]
fn grey_and_sixteen_bits_become_eight_bit_rgb() {
    let grey = GrayImage::from_fn(3, 1, |x, _| Luma([x as u8 * 100]));
    let decoded = decode(&encode(grey, ImageFormat::Png)).unwrap();
    assert_eq!(
        decoded.as_raw().as_slice(),
        [0, 0, 0, 100, 100, 100, 200, 200, 200]
    );
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_pixel(1, 1, Rgb([0, 257 * 77 + 128, u16::MAX]));
    let decoded = decode(&encode(deep, ImageFormat::Png))
        .unwrap()
        .get_pixel(0, 0)
        .0;
    assert!(
        decoded[0] == 0 && decoded[1].abs_diff(77) <= 1 && decoded[2] == 255,
        "{decoded:?}"
    );
}

/// 16 x 16 CMYK pixels, four flat quadrants (white, red, green, black), written by Pillow 13.0.0:
/// `Image.save(..., "JPEG", quality=95, optimize=True)`.
const CMYK: &str = "ffd8ffee000e41646f626500640000000000ffdb0043000201010101010201010102020202020403020202020504040304060506060605060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affc000140800100010044311004d11005911004b1100ffc4001600010101000000000000000000000000000a0009ffc40014100100000000000000000000000000000000ffda000e0443004d0059004b00003f00dfc6fe37f1bf8800c00d0019fe247f88ff00000dffd9";

#[test]
fn cmyk_becomes_rgb() {
    let bytes: Vec<_> = (0..CMYK.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&CMYK[at..at + 2], 16).unwrap())
        .collect();
    let decoded = decode(&bytes).unwrap();
    let expected = [
        ((3, 3), [255; 3]),
        ((12, 3), [255, 0, 0]),
        ((3, 12), [0, 255, 0]),
        ((12, 12), [0; 3]),
    ];
    for ((x, y), colour) in expected {
        let found = decoded.get_pixel(x, y).0;
        assert!(
            found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 3),
            "{found:?}"
        );
    }
}

/// A JPEG, 32 x 64, whose quadrants are grey 0, 80, 160 and 240 (left to right, top to bottom),
/// with the EXIF orientation `orientation`.
fn oriented(orientation: u8) -> Vec<u8> {
    let image = GrayImage::from_fn(32, 64, |x, y| Luma([(x / 16 * 80 + y / 32 * 160) as u8]));
    let bytes = encode(image, ImageFormat::Jpeg);
    let mut segment = vec![0xFF, 0xE1, 0x00, 34];
    segment.extend_from_slice(b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0");
    segment.extend_from_slice(&[
        0x12,
        0x01,
        3,
        0,
        1,
        0,
        0,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    [&bytes[..2], &segment, &bytes[2..]].concat()
}

#[test]
fn all_orientations_are_made_upright() {
    // What the quadrants of the upright picture show, as numbers of the stored quadrants.
    let upright = [
        (1, [0, 1, 2, 3]),
        (2, [1, 0, 3, 2]),
        (3, [3, 2, 1, 0]),
        (4, [2, 3, 0, 1]),
        (5, [0, 2, 1, 3]),
        (6, [2, 0, 3, 1]),
        (7, [3, 1, 2, 0]),
        (8, [1, 3, 0, 2]),
        (0, [0, 1, 2, 3]), // not an orientation: left as it is
        (9, [0, 1, 2, 3]),
    ];
    for (orientation, expected) in upright {
        let image = decode(&oriented(orientation)).unwrap();
        let (width, height) = image.dimensions();
        let sides = if (5..=8).contains(&orientation) {
            (64, 32)
        } else {
            (32, 64)
        };
        assert_eq!((width, height), sides, "orientation {orientation}");
        let found = [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| {
            let grey = image.get_pixel(x * width / 4, y * height / 4).0[0];
            (f32::from(grey) / 80.0).round() as usize
        });
        assert_eq!(found, expected, "orientation {orientation}");
    }
}

#[test]
fn very_wide_images_are_refused() {
    let wide = encode(GrayImage::new(30_000, 1), ImageFormat::Png);
    let expected = "is 30000 x 1 pixels; at most 20000 a side are accepted, so scale it down";
    assert_eq!(refusal(&wide), expected);
    assert!(decode(&encode(GrayImage::new(1, 20_000), ImageFormat::Png)).is_ok());

    let mut jpeg = encode(formula(16, 16), ImageFormat::Jpeg);
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0, 16, 0xEA, 0x60]);
    assert!(
        refusal(&jpeg).starts_with("is 60000 x 16 pixels"),
        "{}",
        refusal(&jpeg)
    );
}

#[test]
fn a_claimed_size_beyond_memory_is_refused() {
    let mut png = encode(RgbaImage::new(4, 4), ImageFormat::Png);
    // The header chunk: length, "IHDR", width, height, five bytes, check sum.
    png[16..20].copy_from_slice(&20_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&20_000_u32.to_be_bytes());
    let sum = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&sum);
    let expected = "would need more than 536870912 bytes of memory to decode, so scale it down";
    assert_eq!(refusal(&png), expected);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0xEDB8_8320
            } else {
                sum >> 1
            }
        })
    })
}

#[test]
fn real_photographs_decode() {
    let Some(data) = real_data() else { return };
    let class = data.join("images/clothing10/test/hat");
    let names = super::super::folder::images_in(&class).unwrap();
    for name in names.iter().take(5) {
        let image = read(&class.join(name)).unwrap();
        assert_eq!(image.width().min(image.height()), 256, "{name}");
    }
}
