//! Channels of several tensors side by side.

use serde::{Deserialize, Serialize};

use super::{Cotangent, GradientSlot, Keeps, NodeWeights, Operator, Primal, ShapeError};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concat;

/// Copies `x` (width `c`) to the columns from `first` on of `y` (width `total`).
fn place<T: Scalar>(x: &[T], c: usize, y: &mut [T], first: usize, total: usize) {
    for (y, x) in y.chunks_exact_mut(total).zip(x.chunks_exact(c)) {
        y[first..first + c].copy_from_slice(x);
    }
}

impl<T: Scalar> Operator<T> for Concat {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let first = *inputs
            .first()
            .ok_or_else(|| ShapeError("concat of nothing".into()))?;
        let mut c = 0;
        for x in inputs {
            if (x.n, x.h, x.w) != (first.n, first.h, first.w) {
                return Err(ShapeError(format!(
                    "cannot put {first} and {x} side by side"
                )));
            }
            c += x.c;
        }
        Ok(Shape { c, ..first })
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: false,
            output: false,
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        let (mut first, total) = (0, y.shape().c);
        for x in x {
            place(x.data, x.shape.c, y.data_mut(), first, total);
            first += x.shape.c;
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
        self.forward(w, x, y);
        dy.data_mut().fill(T::ZERO);
        let (mut first, total) = (0, y.shape().c);
        for (x, dx) in x.iter().zip(dx) {
            if let Some(dx) = dx {
                place(dx.data, x.shape.c, dy.data_mut(), first, total);
            }
            first += x.shape.c;
        }
    }

    fn adjoint_input(
        &self,
        _: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        let mut first = 0;
        for (x, slot) in primal.inputs.iter().zip(slots) {
            let c = x.shape.c;
            if let Some(slot) = slot {
                let pixels = slot.gx.data_mut().chunks_exact_mut(c);
                for (gx, g) in pixels.zip(g.g.data.chunks_exact(g.g.shape.c)) {
                    for (gx, &g) in gx.iter_mut().zip(&g[first..first + c]) {
                        *gx = if slot.accumulate { *gx + g } else { g };
                    }
                }
            }
            first += c;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::check_operator;

    #[test]
    fn passes_agree() {
        check_operator(&Concat, &[2, 3, 1].map(|c| Shape::new(2, 3, 2, c)));
    }
}
