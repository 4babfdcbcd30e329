//! Small images and folders that the tests of this module share.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// The formula image of `dev/fixtures/resize.py`, whose pixels Pillow has resized.
pub fn formula(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            ((x * 7 + y * 3) % 256) as u8,
            ((x * 5 + y * 11) % 256) as u8,
            ((x * y + 13) % 256) as u8,
        ])
    })
}

/// The content of a file of `format`.
pub fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Writes `bytes` to `dir/name`, making the folders on the way.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A one-colour PNG that differs by `shade`.
pub fn png(shade: u8) -> Vec<u8> {
    encode(
        RgbImage::from_pixel(8, 6, Rgb([shade, 10, 20])),
        ImageFormat::Png,
    )
}

/// A fresh folder with `count` small images in each of `classes`.
pub fn folder(classes: &[(&str, usize)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (class, count) in classes {
        fs::create_dir_all(dir.path().join(class)).unwrap();
        for index in 0..*count {
            write(
                dir.path(),
                &format!("{class}/{index:03}.png"),
                &png(index as u8),
            );
        }
    }
    dir
}

/// The folder of real data, or `None` (with a note) where there is none.
pub fn real_data() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("CONVEXTUNE_DATA").map_or(default, PathBuf::from);
    if data.is_dir() {
        return Some(data);
    }
    println!("skipped: no data at {}", data.display());
    None
}
