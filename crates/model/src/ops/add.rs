//! Sum of two tensors of one shape, with a fused activation: the joint of a residual block.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Activation, Cotangent, GradientSlot, Keeps, NodeWeights, Operator, Primal, ShapeError,
};
use crate::kernels::ELEMENTWISE_TASK;
use crate::kernels::elementwise::{affine_adjoint, generate, update};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Add {
    /// Applied to the sum.
    pub activation: Activation,
}

impl<T: Scalar> Operator<T> for Add {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        match inputs {
            [a, b] if a == b => Ok(*a),
            [a, b] => Err(ShapeError(format!("cannot add {a} and {b}"))),
            _ => Err(ShapeError(format!(
                "add takes two inputs, not {}",
                inputs.len()
            ))),
        }
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: false,
            output: !self.activation.is_identity(),
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        let slopes = self.activation.slopes::<T>();
        let (a, b) = (x[0].data, x[1].data);
        generate(
            y.data_mut(),
            #[inline(always)]
            |i| slopes.value(a[i] + b[i]),
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
        match (dx[0], dx[1]) {
            (Some(a), Some(b)) => {
                let (a, b) = (a.data, b.data);
                generate(
                    dy.data_mut(),
                    #[inline(always)]
                    |i| slopes.derivative(y[i]) * (a[i] + b[i]),
                );
            }
            (Some(one), None) | (None, Some(one)) => {
                let one = one.data;
                generate(
                    dy.data_mut(),
                    #[inline(always)]
                    |i| slopes.derivative(y[i]) * one[i],
                );
            }
            (None, None) => dy.data_mut().fill(T::ZERO),
        }
    }

    fn adjoint_input(
        &self,
        _: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        // Both inputs have the gradient g' = act'(y) g; what the first slot got is read again for
        // the second unless it was added to something.
        let mut ready: Option<&[T]> = self.activation.is_identity().then_some(g.g.data);
        for slot in slots.iter_mut().flatten() {
            let (gx, accumulate) = (slot.gx.data_mut(), slot.accumulate);
            match ready {
                Some(ready) if accumulate => update(
                    gx,
                    ready,
                    #[inline(always)]
                    |gx, g| gx + g,
                ),
                Some(ready) => gx
                    .par_chunks_mut(ELEMENTWISE_TASK)
                    .zip(ready.par_chunks(ELEMENTWISE_TASK))
                    .for_each(|(gx, g)| gx.copy_from_slice(g)),
                None => {
                    let ones = vec![T::ONE; g.g.shape.c];
                    let (act, image) = (self.activation, (g.g.shape.image_len(), g.repeat));
                    let y = primal.output.data;
                    affine_adjoint(&ones, act, y, g.g.data, image, accumulate, gx);
                    ready = (!accumulate).then_some(&*gx);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::check_operator;

    #[test]
    fn passes_agree() {
        let shape = Shape::new(2, 3, 4, 5);
        for activation in [Activation::IDENTITY, Activation::RELU.leaky(0.01)] {
            check_operator(&Add { activation }, &[shape, shape]);
        }
    }

    #[test]
    fn refuses_different_shapes() {
        let op: &dyn Operator<f32> = &Add {
            activation: Activation::IDENTITY,
        };
        assert!(
            op.output_shape(&[Shape::new(1, 2, 2, 3), Shape::new(1, 2, 2, 4)])
                .is_err()
        );
    }
}
