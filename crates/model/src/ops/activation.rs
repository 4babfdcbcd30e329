//! Piecewise linear activations: identity, ReLU, ReLU6, Leaky-ReLU and its capped form.
//!
//! ```text
//! act(z) = below z             for z < 0
//!        = z                   for 0 <= z <= cap
//!        = cap + above (z-cap) for z > cap
//! ```
//!
//! With `below, above >= 0` the output determines the piece, so derivatives are read off the
//! output: they are the same in every pass, whatever the rounding of z.

use serde::{Deserialize, Serialize};

use super::{Cotangent, GradientSlot, Keeps, NodeWeights, Operator, Primal, ShapeError, single};
use crate::kernels::elementwise::{affine_adjoint, generate};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// The parameters of a piecewise linear activation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activation {
    /// Slope below zero.
    pub below: f32,
    /// Where the second kink lies; `None` for no cap.
    pub cap: Option<f32>,
    /// Slope beyond the cap.
    pub above: f32,
}

impl Activation {
    /// z.
    pub const IDENTITY: Self = Self {
        below: 1.0,
        cap: None,
        above: 1.0,
    };
    /// max(z, 0).
    pub const RELU: Self = Self {
        below: 0.0,
        cap: None,
        above: 1.0,
    };
    /// min(max(z, 0), 6).
    pub const RELU6: Self = Self {
        below: 0.0,
        cap: Some(6.0),
        above: 0.0,
    };

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        *self == Self::IDENTITY
    }

    /// The same activation with every zero slope replaced by `slope`: ReLU becomes Leaky-ReLU,
    /// ReLU6 keeps its cap and leaks on both sides.
    #[must_use]
    pub fn leaky(self, slope: f32) -> Self {
        let leak = |s: f32| if s == 0.0 { slope } else { s };
        Self {
            below: leak(self.below),
            cap: self.cap,
            above: leak(self.above),
        }
    }

    /// The coefficients in number type `T`.
    pub fn slopes<T: Scalar>(&self) -> Slopes<T> {
        Slopes {
            below: T::from_f64(self.below.into()),
            cap: T::from_f64(self.cap.map_or(f64::MAX, f64::from)),
            above: T::from_f64(self.above.into()),
        }
    }
}

/// [`Activation`] in the number type of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Slopes<T> {
    below: T,
    cap: T,
    above: T,
}

impl<T: Scalar> Slopes<T> {
    /// act(z).
    #[inline(always)]
    pub fn value(self, z: T) -> T {
        let low = if z < T::ZERO { self.below * z } else { z };
        if z > self.cap {
            self.cap + self.above * (z - self.cap)
        } else {
            low
        }
    }

    /// act'(z), from y = act(z).
    #[inline(always)]
    pub fn derivative(self, y: T) -> T {
        let low = if y > T::ZERO { T::ONE } else { self.below };
        if y >= self.cap { self.above } else { low }
    }
}

/// An activation as a node of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activate {
    /// Which one.
    pub activation: Activation,
}

impl<T: Scalar> Operator<T> for Activate {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        single("activation", inputs)
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: false,
            output: true,
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        let slopes = self.activation.slopes::<T>();
        let x = x[0].data;
        generate(
            y.data_mut(),
            #[inline(always)]
            |i| slopes.value(x[i]),
        );
    }

    fn dual(
        &self,
        w: NodeWeights<'_, T>,
        _: Option<&[T]>,
        x: &[View<'_, T>],
        dx: &[Option<View<'_, T>>],
        y: &mut Tensor<T>,
        dy: &mut Tensor<T>,
    ) {
        self.forward(w, x, y);
        let slopes = self.activation.slopes::<T>();
        let y = y.data();
        match dx[0] {
            Some(dx) => generate(
                dy.data_mut(),
                #[inline(always)]
                |i| slopes.derivative(y[i]) * dx.data[i],
            ),
            None => dy.data_mut().fill(T::ZERO),
        }
    }

    fn adjoint_input(
        &self,
        _: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        if let Some(slot) = &mut slots[0] {
            let ones = vec![T::ONE; g.g.shape.c];
            let image = (g.g.shape.image_len(), g.repeat);
            let (y, gx) = (primal.output.data, slot.gx.data_mut());
            affine_adjoint(
                &ones,
                self.activation,
                y,
                g.g.data,
                image,
                slot.accumulate,
                gx,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::check_operator;

    #[test]
    fn values_and_derivatives_on_each_piece() {
        let s = Activation::RELU6.leaky(0.1).slopes::<f64>();
        let slope = 0.1f32 as f64;
        for (z, y, d) in [
            (-2.0, -2.0 * slope, slope),
            (3.0, 3.0, 1.0),
            (8.0, 6.0 + 2.0 * slope, slope),
        ] {
            assert!((s.value(z) - y).abs() < 1e-12);
            assert!((s.derivative(s.value(z)) - d).abs() < 1e-12);
        }
        let id = Activation::IDENTITY.slopes::<f32>();
        assert_eq!(
            (id.value(-3.0), id.derivative(-3.0), id.derivative(1e30)),
            (-3.0, 1.0, 1.0)
        );
    }

    #[test]
    fn passes_agree() {
        for activation in [
            Activation::RELU,
            Activation::RELU6,
            Activation::RELU6.leaky(0.1),
        ] {
            check_operator(&Activate { activation }, &[Shape::new(2, 3, 4, 5)]);
        }
    }
}
