//! Zero channels before and after: with a subsampling it is the parameter-free ("option A")
//! shortcut of the CIFAR ResNets (He et al. 2016, section 4.2).

use serde::{Deserialize, Serialize};

use super::{
    Cotangent, GradientSlot, Keeps, NodeWeights, Operator, Primal, ShapeError, dual_of_linear,
    single,
};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelPad {
    /// Zero channels before.
    pub before: usize,
    /// Zero channels after.
    pub after: usize,
}

impl<T: Scalar> Operator<T> for ChannelPad {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let x = single("channel padding", inputs)?;
        Ok(Shape {
            c: self.before + x.c + self.after,
            ..x
        })
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: false,
            output: false,
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        let (c, total) = (x[0].shape.c, y.shape().c);
        for (y, x) in y
            .data_mut()
            .chunks_exact_mut(total)
            .zip(x[0].data.chunks_exact(c))
        {
            y[..self.before].fill(T::ZERO);
            y[self.before..self.before + c].copy_from_slice(x);
            y[self.before + c..].fill(T::ZERO);
        }
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
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        let Some(slot) = &mut slots[0] else { return };
        let c = primal.inputs[0].shape.c;
        let pixels = slot.gx.data_mut().chunks_exact_mut(c);
        for (gx, g) in pixels.zip(g.g.data.chunks_exact(g.g.shape.c)) {
            for (gx, &g) in gx.iter_mut().zip(&g[self.before..]) {
                *gx = if slot.accumulate { *gx + g } else { g };
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
        check_operator(
            &ChannelPad {
                before: 2,
                after: 1,
            },
            &[Shape::new(2, 3, 2, 4)],
        );
    }
}
