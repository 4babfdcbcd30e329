//! From a file to 8-bit RGB.
//!
//! - The format (JPEG, PNG, WebP or GIF) is taken from the bytes, never from the file's ending.
//! - The orientation that a camera notes in EXIF is applied, all eight of them.
//! - Transparent pixels are laid over white, as they look on a page. (Pillow's `convert("RGB")`
//!   drops alpha instead and shows whatever colour lies under it, often black.)
//! - Grey is repeated over the channels, 16 bits are rounded to 8, CMYK is converted; colour
//!   profiles are ignored, as everywhere in this field.
//! - Of an animation the first frame is taken.
//! - Sizes are checked before memory is set aside.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::error::{ImageProblem, ImagesError};

/// Longest accepted side, in pixels.
pub const MAX_SIDE: u32 = 20_000;
/// Most memory for one decoded image, in bytes.
pub const MAX_DECODED_BYTES: u64 = 1 << 29;
/// Longest accepted file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 28;

/// Reads and decodes the image at `path`.
///
/// # Errors
/// [`ImagesError::Image`], which names the file and what is wrong with it.
pub fn read(path: &Path) -> Result<RgbImage, ImagesError> {
    read_file(path).map_err(|problem| ImagesError::image(path, problem))
}

/// As [`read`], with the bare problem.
pub(crate) fn read_file(path: &Path) -> Result<RgbImage, ImageProblem> {
    decode(&read_bytes(path)?)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ImageProblem> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ImageProblem::FileTooLong {
            limit: MAX_FILE_BYTES,
        });
    }
    Ok(bytes)
}

/// Decodes the content of an image file to an upright RGB image.
///
/// # Errors
/// What is wrong with the content; see [`ImageProblem`].
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageProblem> {
    let format = supported_format(bytes)?;
    if format == ImageFormat::Jpeg && !jpeg_has_an_end(bytes) {
        return Err(ImageProblem::Damaged(
            "the end of the image is missing".to_owned(),
        ));
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(problem)?;
    check_size(decoder.dimensions())?;
    limits.reserve(decoder.total_bytes()).map_err(problem)?;
    decoder.set_limits(limits).map_err(problem)?;

    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(problem)?;
    image.apply_orientation(orientation);
    Ok(if image.color().has_alpha() {
        over_white(image)
    } else {
        image.into_rgb8()
    })
}

fn supported_format(bytes: &[u8]) -> Result<ImageFormat, ImageProblem> {
    if bytes.is_empty() {
        return Err(ImageProblem::Empty);
    }
    let looks_like = match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif),
        ) => return Ok(format),
        Ok(ImageFormat::Tiff) => Some("TIFF"),
        Ok(ImageFormat::Bmp) => Some("BMP"),
        Ok(ImageFormat::Avif) => Some("AVIF"),
        _ => match bytes.get(4..12) {
            Some(b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1") => Some("HEIC"),
            _ => None,
        },
    };
    Err(ImageProblem::NotAnImage { looks_like })
}

fn check_size((width, height): (u32, u32)) -> Result<(), ImageProblem> {
    if width == 0 || height == 0 {
        return Err(ImageProblem::Damaged("it has no pixels".to_owned()));
    }
    if width.max(height) > MAX_SIDE {
        return Err(ImageProblem::TooManyPixels {
            width,
            height,
            limit: MAX_SIDE,
        });
    }
    Ok(())
}

/// Whether the JPEG's end marker is there. The decoder fills what a cut file lacks with grey and
/// calls it a success; training on grey is worse than stopping.
///
/// Segments are stepped over by their stated lengths, so that the end of a thumbnail inside one
/// is not taken for the image's own.
fn jpeg_has_an_end(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut at = 2; // behind the start-of-image marker
    while let (Some(&first), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) {
        match (first, marker) {
            (0xFF, END_OF_IMAGE) => return true,
            // Fill, stuffing, restarts and the parameterless markers have no length.
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => at += 2,
            (0xFF, 0x02..=0xFE) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
            // Entropy-coded bytes, or stray bytes between segments.
            _ => at += 1,
        }
    }
    false
}

fn over_white(image: DynamicImage) -> RgbImage {
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        let (alpha, rest) = (u32::from(alpha), u32::from(255 - alpha));
        let blend = |value: u8| ((u32::from(value) * alpha + 255 * rest + 127) / 255) as u8;
        image::Rgb([blend(red), blend(green), blend(blue)])
    })
}

fn problem(error: ImageError) -> ImageProblem {
    match error {
        ImageError::Limits(_) => ImageProblem::TooMuchMemory {
            limit: MAX_DECODED_BYTES,
        },
        ImageError::Unsupported(error) => ImageProblem::Unsupported(error.to_string()),
        ImageError::IoError(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            ImageProblem::Io(error)
        }
        ImageError::IoError(_) => ImageProblem::Damaged("the file ends too early".to_owned()),
        error => ImageProblem::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
