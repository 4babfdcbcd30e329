//! BatchNorm with frozen statistics and trainable gamma and beta, with a fused activation.
//!
//! ```text
//! xhat = (x - mean) / sigma,  sigma = sqrt(variance + eps)
//! z    = gamma xhat + beta,   y = act(z)
//! dz   = gamma / sigma dx + dgamma xhat + dbeta
//! ```
//!
//! Parameters `[gamma, beta]`, buffers `[mean, variance]`, each one number a channel.

use serde::{Deserialize, Serialize};

use super::{
    Activation, Cotangent, GradientSlot, Keeps, NodeWeights, Operator, ParameterShape, Primal,
    Role, ShapeError, single,
};
use crate::kernels::elementwise::{affine_adjoint, affine_weight_sums};
use crate::kernels::finish::Chain;
use crate::tensor::{Scalar, Shape, Tensor, View};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Applied to the result.
    pub activation: Activation,
}

/// The per-channel coefficients of a frozen BatchNorm.
pub(super) struct Coefficients<T> {
    /// 1 / sigma.
    inverse_sigma: Vec<T>,
    /// gamma / sigma.
    pub scale: Vec<T>,
    /// beta - gamma mean / sigma.
    pub shift: Vec<T>,
}

impl BatchNorm {
    pub(super) fn coefficients<T: Scalar>(&self, w: NodeWeights<'_, T>) -> Coefficients<T> {
        let c = self.channels;
        let (gamma, beta) = w.parameters.split_at(c);
        let (mean, variance) = w.buffers.split_at(c);
        let inverse = |v: &T| T::from_f64(1.0 / (v.to_f64() + self.eps).sqrt());
        let inverse_sigma: Vec<T> = variance.iter().map(inverse).collect();
        let scale: Vec<T> = (0..c).map(|j| gamma[j] * inverse_sigma[j]).collect();
        let shift = (0..c).map(|j| beta[j] - scale[j] * mean[j]).collect();
        Coefficients {
            inverse_sigma,
            scale,
            shift,
        }
    }

    /// The tangents of scale and shift; zeros where `dw` is missing.
    pub(super) fn tangent<T: Scalar>(
        &self,
        w: NodeWeights<'_, T>,
        dw: Option<&[T]>,
        k: &Coefficients<T>,
    ) -> (Vec<T>, Vec<T>) {
        let c = self.channels;
        let zeros = vec![T::ZERO; 2 * c];
        let (dgamma, dbeta) = dw.unwrap_or(&zeros).split_at(c);
        let dscale: Vec<T> = (0..c).map(|j| dgamma[j] * k.inverse_sigma[j]).collect();
        let dshift = (0..c)
            .map(|j| dbeta[j] - dscale[j] * w.buffers[j])
            .collect();
        (dscale, dshift)
    }

    /// `gw += ` the gradient, from the sums over pixels of z's gradient times x and by itself.
    pub(super) fn add_gradient<T: Scalar>(
        &self,
        w: NodeWeights<'_, T>,
        k: &Coefficients<T>,
        (gx, g): (&[T], &[T]),
        gw: &mut [T],
    ) {
        let (gamma, beta) = gw.split_at_mut(self.channels);
        for j in 0..self.channels {
            gamma[j] += (gx[j] - w.buffers[j] * g[j]) * k.inverse_sigma[j];
            beta[j] += g[j];
        }
    }

    fn run<T: Scalar>(
        &self,
        (w, dw): (NodeWeights<'_, T>, Option<&[T]>),
        (x, dx): (&[T], Option<&[T]>),
        y: &mut Tensor<T>,
        dy: Option<&mut Tensor<T>>,
    ) {
        let k = self.coefficients(w);
        let (dscale, dshift) = self.tangent(w, dw, &k);
        let chain = Chain {
            scale: &k.scale,
            shift: &k.shift,
            dscale: &dscale,
            dshift: &dshift,
            act: self.activation.slopes(),
            shortcut: None,
            dshortcut: None,
        };
        chain.apply_to(x, dx, y.data_mut(), dy.map(Tensor::data_mut));
    }

    /// What the derivative of the activation is read off: the output, or anything of its size
    /// where the activation is the identity.
    fn piece<'a, T: Scalar>(&self, primal: Primal<'a, T>) -> View<'a, T> {
        if self.activation.is_identity() {
            primal.inputs[0]
        } else {
            primal.output
        }
    }
}

impl<T: Scalar> Operator<T> for BatchNorm {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let x = single("batch norm", inputs)?;
        if x.c == self.channels {
            Ok(x)
        } else {
            Err(ShapeError(format!(
                "batch norm of {} channels on {x}",
                self.channels
            )))
        }
    }

    fn parameters(&self) -> Vec<ParameterShape> {
        [Role::Gamma, Role::Beta]
            .map(|r| ParameterShape::new(r, &[self.channels]))
            .to_vec()
    }

    fn buffers(&self) -> usize {
        2 * self.channels
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: true,
            output: !self.activation.is_identity(),
        }
    }

    fn forward(&self, w: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        self.run((w, None), (x[0].data, None), y, None);
    }

    fn dual(
        &self,
        w: NodeWeights<'_, T>,
        dw: Option<&[T]>,
        x: &[View<'_, T>],
        dx: &[Option<View<'_, T>>],
        y: &mut Tensor<T>,
        dy: &mut Tensor<T>,
    ) {
        let dx = dx[0].map(|dx| dx.data);
        self.run((w, dw), (x[0].data, dx), y, Some(dy));
    }

    fn adjoint_input(
        &self,
        w: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        if let Some(slot) = &mut slots[0] {
            let scale = self.coefficients(w).scale;
            let image = (g.g.shape.image_len(), g.repeat);
            let (y, gx) = (self.piece(primal).data, slot.gx.data_mut());
            affine_adjoint(
                &scale,
                self.activation,
                y,
                g.g.data,
                image,
                slot.accumulate,
                gx,
            );
        }
    }

    fn adjoint_weights(
        &self,
        w: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        gw: &mut [T],
    ) {
        let k = self.coefficients(w);
        let mut add = |x: &[T], y: &[T], g: &[T]| {
            let (gx, sum) = affine_weight_sums(self.activation, x, y, g, self.channels);
            self.add_gradient(w, &k, (&gx, &sum), gw);
        };
        let (x, y) = (primal.inputs[0], self.piece(primal));
        if g.repeat == 1 {
            return add(x.data, y.data, g.g.data);
        }
        for i in 0..g.g.shape.n {
            let n = i / g.repeat;
            add(x.image(n).data, y.image(n).data, g.g.image(i).data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::check_operator;

    #[test]
    fn passes_agree() {
        for activation in [Activation::IDENTITY, Activation::RELU6.leaky(0.01)] {
            let op = BatchNorm {
                channels: 5,
                eps: 1e-3,
                activation,
            };
            check_operator(&op, &[Shape::new(2, 3, 4, 5)]);
        }
    }
}
