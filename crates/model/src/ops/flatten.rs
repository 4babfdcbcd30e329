//! An image `[n, h, w, c]` as one vector `[n, 1, 1, h w c]`, in NHWC order.

use serde::{Deserialize, Serialize};

use super::{
    Cotangent, GradientSlot, Keeps, NodeWeights, Operator, Primal, ShapeError, dual_of_linear,
    single,
};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flatten;

impl<T: Scalar> Operator<T> for Flatten {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let x = single("flatten", inputs)?;
        Ok(Shape::new(x.n, 1, 1, x.image_len()))
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: false,
            output: false,
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        y.data_mut().copy_from_slice(x[0].data);
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
        dual_of_linear(self, w, x, dx[0], y, dy);
    }

    fn adjoint_input(
        &self,
        _: NodeWeights<'_, T>,
        _: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        if let Some(slot) = &mut slots[0] {
            let accumulate = slot.accumulate;
            crate::kernels::elementwise::update(
                slot.gx.data_mut(),
                g.g.data,
                #[inline(always)]
                |gx, g| {
                    if accumulate { gx + g } else { g }
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::check_operator;

    #[test]
    fn passes_agree() {
        check_operator(&Flatten, &[Shape::new(3, 2, 4, 5)]);
    }
}
