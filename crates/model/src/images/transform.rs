//! From an RGB image of any size to the square of numbers that a network was trained on.
//!
//! Geometry and rounding are those of Pillow and torchvision, because that is what the published
//! weights have seen: `Resize` to `int(short * long / short)`, filters widened when shrinking,
//! `CenterCrop` at `round((length - size) / 2)` with halves to even.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};

use super::decode::MAX_DECODED_BYTES;
use super::error::{ImageProblem, ImagesError};

/// Largest accepted side of the network's input, in pixels.
const MAX_SIZE: usize = 4096;

/// How an image of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Scale until the short side has this many pixels, then cut the central square (torchvision's
    /// `Resize` and `CenterCrop`). At least the transform's size.
    ShortSide(usize),
    /// Cut the central square whose side is `size / (size + padding)` of the short side, then
    /// scale it (the EfficientNet family; padding 32).
    CentralCrop {
        /// Pixels around the crop, at the scale of the result.
        padding: usize,
    },
    /// Scale both sides to the size and cut nothing; the aspect ratio is lost.
    Exact,
}

/// The filter that resizing uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Linear, support 1.
    Bilinear,
    /// Cubic convolution with a = -1/2, support 2.
    Bicubic,
}

/// `(pixel - mean) / std` per channel (red, green, blue), in units of 8-bit pixels: 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Subtracted from every pixel; 0 to 255.
    pub mean: [f32; 3],
    /// Divides the difference; above 0.
    pub std: [f32; 3],
}

impl Normalisation {
    /// The means and deviations of ImageNet, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)
    /// times 255.
    pub const IMAGENET: Self = Self {
        mean: [123.675, 116.28, 103.53],
        std: [58.395, 57.12, 57.375],
    };
    /// (pixel - 127) / 128, as TensorFlow's EfficientNet-Lite has it.
    pub const SYMMETRIC: Self = Self {
        mean: [127.0; 3],
        std: [128.0; 3],
    };
}

/// Resizing, cropping and normalising; a value of this type is always valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Transform(Fields);

/// What a model file stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    size: usize,
    resize: Resize,
    interpolation: Interpolation,
    antialias: bool,
    normalisation: Normalisation,
}

impl From<Transform> for Fields {
    fn from(transform: Transform) -> Self {
        transform.0
    }
}

impl TryFrom<Fields> for Transform {
    type Error = ImagesError;

    fn try_from(fields: Fields) -> Result<Self, ImagesError> {
        let refuse = |reason: String| Err(ImagesError::Transform(reason));
        let size = fields.size;
        if !(1..=MAX_SIZE).contains(&size) {
            return refuse(format!("the size is {size} pixels, not 1 to {MAX_SIZE}"));
        }
        match fields.resize {
            Resize::ShortSide(short) if !(size..=2 * MAX_SIZE).contains(&short) => {
                return refuse(format!(
                    "the short side is {short} pixels, not {size} (the crop) to {}",
                    2 * MAX_SIZE
                ));
            }
            Resize::CentralCrop { padding } if padding > MAX_SIZE => {
                return refuse(format!(
                    "the padding is {padding} pixels, more than {MAX_SIZE}"
                ));
            }
            _ => {}
        }
        let Normalisation { mean, std } = fields.normalisation;
        if !mean.iter().all(|mean| mean.is_finite()) {
            return refuse(format!("the means are {mean:?}, which are not all finite"));
        }
        if !std.iter().all(|std| std.is_finite() && *std >= 1e-3) {
            return refuse(format!(
                "the deviations are {std:?}, not all finite and at least 0.001"
            ));
        }
        Ok(Self(fields))
    }
}

impl Transform {
    /// A transform to `size` x `size` pixels; `antialias` widens the filter when shrinking, as
    /// Pillow always does.
    ///
    /// # Errors
    /// A size of 0 or above 4096, a short side below `size`, a deviation that is not positive,
    /// numbers that are not finite.
    pub fn new(
        size: usize,
        resize: Resize,
        interpolation: Interpolation,
        antialias: bool,
        normalisation: Normalisation,
    ) -> Result<Self, ImagesError> {
        Fields {
            size,
            resize,
            interpolation,
            antialias,
            normalisation,
        }
        .try_into()
    }

    /// ResNet, VGG and most of torchvision and timm: 256, cropped to 224, bilinear.
    pub fn imagenet() -> Self {
        Self(Fields {
            size: 224,
            resize: Resize::ShortSide(256),
            interpolation: Interpolation::Bilinear,
            antialias: true,
            normalisation: Normalisation::IMAGENET,
        })
    }

    /// EfficientNet-Lite0: a central crop with a padding of 32, bicubic to 224.
    pub fn efficientnet_lite() -> Self {
        Self(Fields {
            size: 224,
            resize: Resize::CentralCrop { padding: 32 },
            interpolation: Interpolation::Bicubic,
            antialias: true,
            normalisation: Normalisation::SYMMETRIC,
        })
    }

    /// CIFAR's 32 x 32 pixels as they are, normalised with the numbers of ImageNet as the usual
    /// CIFAR ResNets are.
    pub fn cifar() -> Self {
        Self(Fields {
            size: 32,
            resize: Resize::Exact,
            interpolation: Interpolation::Bilinear,
            antialias: true,
            normalisation: Normalisation::IMAGENET,
        })
    }

    /// The same transform to another size. What is cut off stays the same share of the image:
    /// 256 cropped to 224 becomes 146 cropped to 128.
    ///
    /// # Errors
    /// A size of 0 or above 4096.
    pub fn with_size(&self, size: usize) -> Result<Self, ImagesError> {
        let scale = |length: usize| length.saturating_mul(size) / self.0.size;
        let resize = match self.0.resize {
            Resize::ShortSide(short) => Resize::ShortSide(scale(short)),
            Resize::CentralCrop { padding } => Resize::CentralCrop {
                padding: scale(padding),
            },
            Resize::Exact => Resize::Exact,
        };
        Fields {
            size,
            resize,
            ..self.0.clone()
        }
        .try_into()
    }

    /// Side of the result, in pixels.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Values in one result: `size * size * 3`.
    pub fn values(&self) -> usize {
        self.0.size * self.0.size * 3
    }

    /// How an image becomes a square.
    pub fn resize(&self) -> Resize {
        self.0.resize
    }

    /// The filter that resizing uses.
    pub fn interpolation(&self) -> Interpolation {
        self.0.interpolation
    }

    /// Whether the filter widens when shrinking.
    pub fn antialias(&self) -> bool {
        self.0.antialias
    }

    /// Means and deviations, in units of 8-bit pixels.
    pub fn normalisation(&self) -> Normalisation {
        self.0.normalisation
    }

    /// Resizes, crops and normalises `rgb` into `out`, [size, size, 3].
    ///
    /// # Errors
    /// An `out` that is not [`Self::values`] long; an image too elongated to be scaled.
    pub fn apply(&self, rgb: &RgbImage, out: &mut [f32]) -> Result<(), ImagesError> {
        if out.len() != self.values() {
            return Err(ImagesError::BufferLength {
                given: out.len(),
                needed: self.values(),
            });
        }
        let square = self
            .square(rgb)
            .map_err(|problem| ImagesError::image("the image", problem))?;
        self.normalise(square.as_raw(), false, out);
        Ok(())
    }

    /// Resizes and crops `rgb` to `size` x `size` pixels.
    ///
    /// # Errors
    /// An image so elongated that scaling it would need much memory.
    pub fn square(&self, rgb: &RgbImage) -> Result<RgbImage, ImageProblem> {
        let (width, height) = rgb.dimensions();
        let (short, long) = (width.min(height), width.max(height));
        if short == 0 {
            return Err(ImageProblem::Damaged("it has no pixels".to_owned()));
        }
        let size = self.0.size as u32;
        match self.0.resize {
            Resize::Exact => self.scaled(rgb, size, size),
            Resize::CentralCrop { padding } => {
                let side = (u64::from(size) * u64::from(short) / (u64::from(size) + padding as u64))
                    .max(1) as u32;
                // TensorFlow's crop rounds halves up.
                let (left, top) = ((width - side).div_ceil(2), (height - side).div_ceil(2));
                let crop = imageops::crop_imm(rgb, left, top, side, side).to_image();
                self.scaled(&crop, size, size)
            }
            Resize::ShortSide(target) => {
                let other = target as u64 * u64::from(long) / u64::from(short);
                let other = u32::try_from(other).unwrap_or(u32::MAX); // refused when scaling
                let target = target as u32;
                let (width, height) = if width <= height {
                    (target, other)
                } else {
                    (other, target)
                };
                let scaled = self.scaled(rgb, width, height)?;
                let (left, top) = (centred(width, size), centred(height, size));
                Ok(imageops::crop_imm(&scaled, left, top, size, size).to_image())
            }
        }
    }

    /// Writes `(pixel - mean) / std` of an 8-bit RGB square, optionally mirrored left to right.
    ///
    /// # Panics
    /// If `pixels` or `out` is not [`Self::values`] long.
    pub fn normalise(&self, pixels: &[u8], mirror: bool, out: &mut [f32]) {
        assert_eq!((pixels.len(), out.len()), (self.values(), self.values()));
        let Normalisation { mean, std } = self.0.normalisation;
        let table: [[f32; 256]; 3] = std::array::from_fn(|channel| {
            std::array::from_fn(|value| (value as f32 - mean[channel]) / std[channel])
        });
        let normalised = |rgb: &[u8], out: &mut [f32]| {
            for channel in 0..3 {
                out[channel] = table[channel][usize::from(rgb[channel])];
            }
        };
        let row = self.0.size * 3;
        for (pixels, out) in pixels.chunks_exact(row).zip(out.chunks_exact_mut(row)) {
            let (pixels, out) = (pixels.chunks_exact(3), out.chunks_exact_mut(3));
            if mirror {
                pixels
                    .rev()
                    .zip(out)
                    .for_each(|(rgb, out)| normalised(rgb, out));
            } else {
                pixels.zip(out).for_each(|(rgb, out)| normalised(rgb, out));
            }
        }
    }

    /// Scales to `width` x `height`: rows first, then columns, each rounded to 8 bits, as Pillow
    /// does it.
    fn scaled(&self, rgb: &RgbImage, width: u32, height: u32) -> Result<RgbImage, ImageProblem> {
        let tallest = u64::from(height.max(rgb.height()));
        if u64::from(width).saturating_mul(3 * tallest) > MAX_DECODED_BYTES {
            let (width, height) = rgb.dimensions();
            return Err(ImageProblem::Elongated {
                width,
                height,
                size: self.0.size,
            });
        }
        let rows = self.scaled_once(rgb, width, rgb.height())?;
        self.scaled_once(&rows, width, height)
    }

    fn scaled_once(&self, rgb: &RgbImage, w: u32, h: u32) -> Result<RgbImage, ImageProblem> {
        let filter = match self.0.interpolation {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
        };
        let algorithm = if self.0.antialias {
            ResizeAlg::Convolution(filter)
        } else {
            ResizeAlg::Interpolation(filter)
        };
        let refuse = |error: &dyn std::fmt::Display| ImageProblem::Resize(error.to_string());
        // Typed, so that the resizer is compiled for this kind of pixel only.
        let source = TypedImageRef::<U8x3>::from_buffer(rgb.width(), rgb.height(), rgb.as_raw())
            .map_err(|error| refuse(&error))?;
        let mut target = RgbImage::new(w, h);
        let mut view =
            TypedImage::<U8x3>::from_buffer(w, h, &mut target).map_err(|error| refuse(&error))?;
        Resizer::new()
            .resize_typed(
                &source,
                &mut view,
                &ResizeOptions::new().resize_alg(algorithm),
            )
            .map_err(|error| refuse(&error))?;
        Ok(target)
    }
}

/// Where a centred window of `size` starts in `length`: torchvision's `int(round((length - size)
/// / 2.0))`, in which Python rounds halves to even.
fn centred(length: u32, size: u32) -> u32 {
    let margin = length - size;
    let half = margin / 2;
    half + (margin % 2) * (half % 2)
}

#[cfg(test)]
mod tests;
