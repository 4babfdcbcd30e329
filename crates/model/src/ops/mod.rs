//! The operators of a network: each with its shape rule, forward pass, tangent and adjoints.
//!
//! An operator y = F(x; w) is asked for four things (shapes NHWC, weights flat):
//!
//! ```text
//! forward       y  = F(x; w)
//! dual          y  and  dy = dF/dx dx + dF/dw dw
//! adjoint_input     gx = (dF/dx)' g
//! adjoint_weights   gw += (dF/dw)' g
//! ```
//!
//! Adjoint passes may carry several gradients per sample: `g` then holds `repeat` images for
//! every image of `x` (images of one sample in a run), which share the primal pass.
//! The derivative of an activation is read off the operator's output, so that forward, tangent
//! and adjoint agree on every mask to the bit.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tensor::{Scalar, Shape, Tensor, View};

mod activation;
mod add;
mod batch_norm;
mod chain;
mod channel_pad;
mod concat;
mod conv2d;
mod flatten;
mod linear;
mod pooling;
#[cfg(test)]
pub(crate) mod testing;
mod window;

pub use activation::{Activate, Activation, Slopes};
pub use add::Add;
pub use batch_norm::BatchNorm;
pub use chain::{ConvolutionChain, Normalisation};
pub use channel_pad::ChannelPad;
pub use concat::Concat;
pub use conv2d::Conv2d;
pub use flatten::Flatten;
pub use linear::Linear;
pub use pooling::{AveragePool, GlobalAveragePool, MaxPool};
pub use window::{Padding, WindowSpec};

/// Inputs that do not fit an operator; the sentence names what was wanted and what came.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ShapeError(pub String);

/// What a trainable array of an operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Convolution kernel `[kh, kw, cin / groups, cout]` or matrix `[cin, cout]`.
    Kernel,
    /// One number per output channel, added.
    Bias,
    /// BatchNorm's scale, one number per channel.
    Gamma,
    /// BatchNorm's shift, one number per channel.
    Beta,
}

/// One trainable array of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterShape {
    /// What it is.
    pub role: Role,
    /// Its dimensions, the last one fastest.
    pub dims: Vec<usize>,
}

impl ParameterShape {
    /// An array of `role` and `dims`.
    pub fn new(role: Role, dims: &[usize]) -> Self {
        Self {
            role,
            dims: dims.to_vec(),
        }
    }

    /// Numbers in the array.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether the array holds no number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The numbers of one operator: its trainable arrays in order, and its frozen statistics.
#[derive(Clone, Copy, Debug)]
pub struct NodeWeights<'a, T> {
    /// Trainable numbers.
    pub parameters: &'a [T],
    /// Frozen numbers.
    pub buffers: &'a [T],
}

/// What an adjoint pass may read of the primal pass. A tensor that the operator did not ask to
/// keep ([`Operator::keeps`]) has no data, only its shape.
#[derive(Clone, Copy, Debug)]
pub struct Primal<'a, T> {
    /// The inputs.
    pub inputs: &'a [View<'a, T>],
    /// The output.
    pub output: View<'a, T>,
}

/// The primal activations that an operator's adjoint pass reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// Its inputs.
    pub inputs: bool,
    /// Its output.
    pub output: bool,
}

/// Gradients with respect to an output: `repeat` images for each sample.
#[derive(Clone, Copy, Debug)]
pub struct Cotangent<'a, T> {
    /// The gradients.
    pub g: View<'a, T>,
    /// Gradients per sample.
    pub repeat: usize,
}

/// Where the gradient with respect to an input goes.
#[derive(Debug)]
pub struct GradientSlot<'a, T> {
    /// Its storage, the shape of the input with `repeat` images a sample.
    pub gx: &'a mut Tensor<T>,
    /// Add to what is there instead of overwriting it.
    pub accumulate: bool,
}

/// One operator in number type `T`. See the module's documentation for the four passes.
pub trait Operator<T: Scalar>: Sync {
    /// The output shape for these inputs.
    ///
    /// # Errors
    /// When the inputs do not fit the operator.
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError>;

    /// The trainable arrays, in the order in which they lie in [`NodeWeights::parameters`].
    fn parameters(&self) -> Vec<ParameterShape> {
        Vec::new()
    }

    /// Frozen numbers in [`NodeWeights::buffers`].
    fn buffers(&self) -> usize {
        0
    }

    /// What the adjoint passes read.
    fn keeps(&self) -> Keeps;

    /// `y = F(x; w)`.
    fn forward(&self, w: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>);

    /// `y = F(x; w)` and `dy = dF/dx dx + dF/dw dw`; missing tangents are zero.
    fn dual(
        &self,
        w: NodeWeights<'_, T>,
        dw: Option<&[T]>,
        x: &[View<'_, T>],
        dx: &[Option<View<'_, T>>],
        y: &mut Tensor<T>,
        dy: &mut Tensor<T>,
    );

    /// `gx = (dF/dx)' g` for every input that has a slot.
    fn adjoint_input(
        &self,
        w: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    );

    /// `gw += (dF/dw)' g`.
    fn adjoint_weights(
        &self,
        _w: NodeWeights<'_, T>,
        _primal: Primal<'_, T>,
        _g: Cotangent<'_, T>,
        _gw: &mut [T],
    ) {
    }
}

/// An operator of a graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// The images.
    Input,
    /// Convolution.
    Conv2d(Conv2d),
    /// Frozen normalisation, with a fused activation.
    BatchNorm(BatchNorm),
    /// An activation by itself.
    Activate(Activate),
    /// Maximum over windows.
    MaxPool(MaxPool),
    /// Mean over windows.
    AveragePool(AveragePool),
    /// Mean over the image.
    GlobalAveragePool(GlobalAveragePool),
    /// Fully connected.
    Linear(Linear),
    /// Sum of two tensors, with a fused activation.
    Add(Add),
    /// Channels side by side.
    Concat(Concat),
    /// An image as one vector.
    Flatten(Flatten),
    /// Zero channels before and after.
    ChannelPad(ChannelPad),
}

impl Op {
    /// The operator's passes in number type `T`; `None` for the input.
    pub fn operator<T: Scalar>(&self) -> Option<&dyn Operator<T>> {
        Some(match self {
            Self::Input => return None,
            Self::Conv2d(op) => op,
            Self::BatchNorm(op) => op,
            Self::Activate(op) => op,
            Self::MaxPool(op) => op,
            Self::AveragePool(op) => op,
            Self::GlobalAveragePool(op) => op,
            Self::Linear(op) => op,
            Self::Add(op) => op,
            Self::Concat(op) => op,
            Self::Flatten(op) => op,
            Self::ChannelPad(op) => op,
        })
    }

    /// The activation that the operator applies to its result.
    pub(crate) fn activation(&self) -> Activation {
        match self {
            Self::BatchNorm(op) => op.activation,
            Self::Add(op) => op.activation,
            Self::Activate(op) => op.activation,
            _ => Activation::IDENTITY,
        }
    }

    /// The activation that the operator applies to its result, for surgery.
    pub fn activation_mut(&mut self) -> Option<&mut Activation> {
        match self {
            Self::BatchNorm(op) => Some(&mut op.activation),
            Self::Add(op) => Some(&mut op.activation),
            Self::Activate(op) => Some(&mut op.activation),
            _ => None,
        }
    }
}

/// The dual pass of an operator that is linear in its one input and has no weights: the tangent
/// goes the way of the input.
pub(crate) fn dual_of_linear<T: Scalar>(
    op: &dyn Operator<T>,
    w: NodeWeights<'_, T>,
    x: &[View<'_, T>],
    dx: Option<View<'_, T>>,
    y: &mut Tensor<T>,
    dy: &mut Tensor<T>,
) {
    op.forward(w, x, y);
    match dx {
        Some(dx) => op.forward(w, &[dx], dy),
        None => dy.data_mut().fill(T::ZERO),
    }
}

/// The only input of an operator with one input.
///
/// # Errors
/// When there is not exactly one.
pub(crate) fn single(name: &str, inputs: &[Shape]) -> Result<Shape, ShapeError> {
    match inputs {
        [x] => Ok(*x),
        _ => Err(ShapeError(format!(
            "{name} takes one input, not {}",
            inputs.len()
        ))),
    }
}
