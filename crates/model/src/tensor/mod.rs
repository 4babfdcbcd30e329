//! Dense NHWC tensors: `[n, h, w, c]`, the channel fastest.
//!
//! Every activation is four-dimensional; a vector of features is `[n, 1, 1, c]`. Views borrow a
//! run of whole images, so that an operator can be applied to one sample of a batch.

use std::fmt;

mod scalar;
pub use scalar::Scalar;

/// The size of an activation: images, rows, columns, channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Images.
    pub n: usize,
    /// Rows of an image.
    pub h: usize,
    /// Columns of an image.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// `[n, h, w, c]`.
    pub const fn new(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self { n, h, w, c }
    }

    /// Numbers in the whole tensor.
    pub const fn len(&self) -> usize {
        self.n * self.image_len()
    }

    /// Whether the tensor holds no number.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in one image.
    pub const fn image_len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Pixels in all images, that is rows of the matrix `[n h w, c]`.
    pub const fn pixels(&self) -> usize {
        self.n * self.h * self.w
    }

    /// The same image size with another number of images.
    pub const fn with_n(self, n: usize) -> Self {
        Self { n, ..self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}, {}]", self.n, self.h, self.w, self.c)
    }
}

/// An owned NHWC tensor.
#[derive(Debug)]
pub struct Tensor<T> {
    shape: Shape,
    /// The numbers, and perhaps some behind them that belong to the buffer only.
    data: Vec<T>,
}

impl<T: Scalar> Clone for Tensor<T> {
    fn clone(&self) -> Self {
        Self {
            shape: self.shape,
            data: self.data().to_vec(),
        }
    }
}

impl<T: Scalar> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data() == other.data()
    }
}

impl<T: Scalar> Tensor<T> {
    /// A tensor of zeros.
    pub fn zeros(shape: Shape) -> Self {
        Self {
            shape,
            data: vec![T::ZERO; shape.len()],
        }
    }

    /// Wraps `data`, which lies in NHWC order.
    ///
    /// # Panics
    /// When `data` does not hold exactly `shape.len()` numbers.
    pub fn from_vec(shape: Shape, data: Vec<T>) -> Self {
        assert_eq!(
            shape.len(),
            data.len(),
            "tensor of shape {shape} from {} numbers",
            data.len()
        );
        Self { shape, data }
    }

    /// A tensor with unspecified contents in a buffer that may be longer than it.
    ///
    /// # Panics
    /// When the buffer is too short.
    pub(crate) fn in_buffer(shape: Shape, data: Vec<T>) -> Self {
        assert!(shape.len() <= data.len(), "a buffer too short for {shape}");
        Self { shape, data }
    }

    /// The buffer.
    pub(crate) fn into_buffer(self) -> Vec<T> {
        self.data
    }

    /// The size.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All numbers in NHWC order.
    pub fn data(&self) -> &[T] {
        &self.data[..self.shape.len()]
    }

    /// All numbers in NHWC order, mutable.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.shape.len()]
    }

    /// The numbers in NHWC order.
    pub fn into_vec(self) -> Vec<T> {
        let (len, mut data) = (self.shape.len(), self.data);
        data.truncate(len);
        data
    }

    /// The whole tensor, borrowed.
    pub fn view(&self) -> View<'_, T> {
        View {
            shape: self.shape,
            data: self.data(),
        }
    }

    /// The same numbers in another precision.
    pub fn cast<U: Scalar>(&self) -> Tensor<U> {
        Tensor {
            shape: self.shape,
            data: self
                .data()
                .iter()
                .map(|x| U::from_f64(x.to_f64()))
                .collect(),
        }
    }
}

/// A borrowed run of whole images.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    /// The size.
    pub shape: Shape,
    /// The numbers in NHWC order.
    pub data: &'a [T],
}

impl<'a, T: Scalar> View<'a, T> {
    /// Image `i` alone, `[1, h, w, c]`.
    pub fn image(&self, i: usize) -> View<'a, T> {
        self.images(i, 1)
    }

    /// The `count` images from `first` on.
    pub fn images(&self, first: usize, count: usize) -> View<'a, T> {
        let len = self.shape.image_len();
        View {
            shape: self.shape.with_n(count),
            data: &self.data[first * len..(first + count) * len],
        }
    }
}
