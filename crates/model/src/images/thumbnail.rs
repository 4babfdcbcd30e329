//! Small pictures of images, for people to look at.

use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};

use super::decode;
use super::error::{ImageProblem, ImagesError};

/// JPEG quality: at this size, differences are hard to see beyond it.
const QUALITY: u8 = 82;

/// A small upright picture of an image, as JPEG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The file's content.
    pub jpeg: Vec<u8>,
}

impl Thumbnail {
    /// The image at `path`, whole and upright as [`decode::read`] gives it, scaled down until its
    /// longer side has at most `side` pixels; never scaled up.
    ///
    /// # Errors
    /// What [`decode::read`] refuses.
    pub fn of(path: &Path, side: u32) -> Result<Self, ImagesError> {
        let image = decode::read(path)?;
        let longer = image.width().max(image.height()).max(side);
        let scaled = |length: u32| {
            let scaled = (u64::from(length) * u64::from(side)).div_ceil(u64::from(longer));
            (scaled as u32).max(1)
        };
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        let small = imageops::resize(&image, width, height, FilterType::Triangle);
        let mut jpeg = Vec::new();
        let written = JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small);
        let problem = |e: image::ImageError| ImageProblem::Resize(e.to_string());
        written.map_err(|e| ImagesError::image(path, problem(e)))?;
        Ok(Self {
            width,
            height,
            jpeg,
        })
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    /// A red left half and a blue right half.
    fn halves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, _| {
            if x < width / 2 {
                Rgb([250, 10, 10])
            } else {
                Rgb([10, 10, 250])
            }
        })
    }

    #[test]
    fn the_longer_side_shrinks_to_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        for (size, expected) in [
            ((400, 200), (96, 48)),
            ((100, 300), (32, 96)),
            ((32, 20), (32, 20)),
            ((2000, 1), (96, 1)),
        ] {
            halves(size.0, size.1).save(&path).unwrap();
            let small = Thumbnail::of(&path, 96).unwrap();
            assert_eq!((small.width, small.height), expected, "{size:?}");
            let decoded = decode::decode(&small.jpeg).unwrap();
            assert_eq!(decoded.dimensions(), expected);
        }
    }

    #[test]
    fn a_picture_taken_sideways_stands_upright() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, 95)
            .encode_image(&halves(200, 100))
            .unwrap();
        // EXIF with orientation 6: to be turned a quarter clockwise, so that left becomes top.
        let mut exif = b"\xff\xe1\0\0Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
        exif.extend(b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0");
        let length = (exif.len() as u16 - 2).to_be_bytes();
        exif[2..4].copy_from_slice(&length);
        std::fs::write(&path, [&jpeg[..2], &exif, &jpeg[2..]].concat()).unwrap();
        let small = Thumbnail::of(&path, 50).unwrap();
        assert_eq!((small.width, small.height), (25, 50));
        let decoded = decode::decode(&small.jpeg).unwrap();
        let [top, bottom] = [5, 45].map(|y| decoded.get_pixel(12, y).0);
        assert!(top[0] > 200 && top[2] < 60, "{top:?}");
        assert!(bottom[2] > 200 && bottom[0] < 60, "{bottom:?}");
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        std::fs::write(&path, b"no image").unwrap();
        let error = Thumbnail::of(&path, 50).unwrap_err().to_string();
        assert!(error.contains("a.jpg"), "{error}");
    }
}
