//! Window parameters shared by convolutions and poolings.

use serde::{Deserialize, Serialize};

use super::ShapeError;
use crate::kernels::patches::Window;
use crate::tensor::Shape;

/// How an image is extended at its borders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// Rows before and after, columns before and after.
    Explicit {
        /// Rows above.
        top: usize,
        /// Rows below.
        bottom: usize,
        /// Columns to the left.
        left: usize,
        /// Columns to the right.
        right: usize,
    },
    /// TensorFlow's "SAME": the output has `ceil(size / stride)` pixels; of an odd number of
    /// padding pixels the extra one comes last.
    Same,
}

impl Padding {
    /// `p` pixels on every side.
    pub const fn all(p: usize) -> Self {
        Self::Explicit {
            top: p,
            bottom: p,
            left: p,
            right: p,
        }
    }
}

/// Kernel, stride, dilation and padding of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Steps between taps.
    pub dilation: [usize; 2],
    /// Border.
    pub padding: Padding,
}

impl WindowSpec {
    /// A square window without dilation.
    pub const fn square(kernel: usize, stride: usize, padding: Padding) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            padding,
        }
    }

    /// The geometry on images of shape `x`.
    ///
    /// # Errors
    /// When a parameter is zero or the padded image is smaller than the window.
    pub fn on(&self, x: Shape) -> Result<Window, ShapeError> {
        let positive = |v: [usize; 2]| v[0] > 0 && v[1] > 0;
        if !(positive(self.kernel) && positive(self.stride) && positive(self.dilation)) {
            return Err(ShapeError(
                "kernel, stride and dilation must be at least 1".into(),
            ));
        }
        let input = [x.h, x.w];
        let (mut output, mut pad) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            (output[axis], pad[axis]) = self.axis(axis, input[axis]).ok_or_else(|| {
                let [h, w] = self.kernel;
                ShapeError(format!(
                    "a window of {h}x{w} does not fit an image of {}x{}",
                    x.h, x.w
                ))
            })?;
        }
        let Self {
            kernel,
            stride,
            dilation,
            ..
        } = *self;
        Ok(Window {
            input,
            output,
            kernel,
            stride,
            pad,
            dilation,
        })
    }

    /// Output size and leading padding along one axis.
    fn axis(&self, axis: usize, size: usize) -> Option<(usize, usize)> {
        let extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
        let stride = self.stride[axis];
        if size == 0 {
            return None;
        }
        match self.padding {
            Padding::Explicit {
                top,
                bottom,
                left,
                right,
            } => {
                let (before, after) = if axis == 0 {
                    (top, bottom)
                } else {
                    (left, right)
                };
                let room = (size + before + after).checked_sub(extent)?;
                Some((room / stride + 1, before))
            }
            Padding::Same => {
                let output = size.div_ceil(stride);
                let total = ((output - 1) * stride + extent).saturating_sub(size);
                Some((output, total / 2))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_follows_tensorflow() {
        let x = Shape::new(1, 224, 7, 1);
        let w = WindowSpec::square(3, 2, Padding::Same).on(x).unwrap();
        assert_eq!((w.output, w.pad), ([112, 4], [0, 1]));
        let w = WindowSpec::square(5, 1, Padding::Same).on(x).unwrap();
        assert_eq!((w.output, w.pad), ([224, 7], [2, 2]));
    }

    #[test]
    fn explicit_padding_follows_the_usual_formula() {
        let w = WindowSpec::square(7, 2, Padding::all(3))
            .on(Shape::new(1, 224, 224, 3))
            .unwrap();
        assert_eq!((w.output, w.pad), ([112, 112], [3, 3]));
    }

    #[test]
    fn a_window_larger_than_the_image_is_refused() {
        let spec = WindowSpec::square(7, 1, Padding::all(0));
        assert!(spec.on(Shape::new(1, 5, 9, 3)).is_err());
        assert!(
            WindowSpec::square(1, 0, Padding::Same)
                .on(Shape::new(1, 5, 9, 3))
                .is_err()
        );
    }
}
