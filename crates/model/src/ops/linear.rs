//! Fully connected: `y = x W + b` on features `[n, 1, 1, cin]`.
//!
//! Matrix `[cin, cout]`, then the bias `[cout]` if there is one.

use serde::{Deserialize, Serialize};

use super::{
    Cotangent, GradientSlot, Keeps, NodeWeights, Operator, ParameterShape, Primal, Role,
    ShapeError, single,
};
use crate::kernels::elementwise::add_to;
use crate::kernels::gemm::{Mat, MatMut, gemm_parallel};
use crate::tensor::{Scalar, Shape, Tensor, View};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Input features.
    pub cin: usize,
    /// Output features.
    pub cout: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Linear {
    fn product<T: Scalar>(&self, x: View<'_, T>, w: &[T], accumulate: bool, y: &mut [T]) {
        let n = x.shape.n;
        let w = Mat::new(w, self.cin, self.cout);
        gemm_parallel(
            MatMut::new(y, n, self.cout),
            accumulate,
            Mat::new(x.data, n, self.cin),
            w,
        );
    }

    fn add_bias<T: Scalar>(&self, parameters: &[T], y: &mut [T]) {
        if self.bias {
            let bias = &parameters[self.cin * self.cout..];
            y.chunks_exact_mut(self.cout).for_each(|y| add_to(y, bias));
        }
    }
}

impl<T: Scalar> Operator<T> for Linear {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let x = single("fully connected layer", inputs)?;
        if (x.h, x.w, x.c) == (1, 1, self.cin) {
            Ok(Shape::new(x.n, 1, 1, self.cout))
        } else {
            Err(ShapeError(format!(
                "fully connected layer of {} features on {x}",
                self.cin
            )))
        }
    }

    fn parameters(&self) -> Vec<ParameterShape> {
        let mut all = vec![ParameterShape::new(Role::Kernel, &[self.cin, self.cout])];
        if self.bias {
            all.push(ParameterShape::new(Role::Bias, &[self.cout]));
        }
        all
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: true,
            output: false,
        }
    }

    fn forward(&self, w: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        self.product(
            x[0],
            &w.parameters[..self.cin * self.cout],
            false,
            y.data_mut(),
        );
        self.add_bias(w.parameters, y.data_mut());
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
        self.forward(w, x, y);
        let len = self.cin * self.cout;
        match dx[0] {
            Some(dx) => self.product(dx, &w.parameters[..len], false, dy.data_mut()),
            None => dy.data_mut().fill(T::ZERO),
        }
        if let Some(dw) = dw {
            self.product(x[0], &dw[..len], true, dy.data_mut());
            self.add_bias(dw, dy.data_mut());
        }
    }

    fn adjoint_input(
        &self,
        w: NodeWeights<'_, T>,
        _: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        let Some(slot) = &mut slots[0] else { return };
        let n = g.g.shape.n;
        let w = Mat::new(&w.parameters[..self.cin * self.cout], self.cin, self.cout);
        let gx = MatMut::new(slot.gx.data_mut(), n, self.cin);
        gemm_parallel(gx, slot.accumulate, Mat::new(g.g.data, n, self.cout), w.t());
    }

    fn adjoint_weights(
        &self,
        _: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        gw: &mut [T],
    ) {
        // Gradients of one sample share its features: their sum is what meets x.
        let (n, c, r) = (primal.inputs[0].shape.n, self.cout, g.repeat);
        let mut summed = vec![T::ZERO; n * c];
        for (i, g) in g.g.data.chunks_exact(c).enumerate() {
            add_to(&mut summed[(i / r) * c..][..c], g);
        }
        let (gw, gb) = gw.split_at_mut(self.cin * c);
        let x = Mat::new(primal.inputs[0].data, n, self.cin);
        gemm_parallel(
            MatMut::new(gw, self.cin, c),
            true,
            x.t(),
            Mat::new(&summed, n, c),
        );
        if self.bias {
            summed.chunks_exact(c).for_each(|g| add_to(gb, g));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::check_operator;

    #[test]
    fn passes_agree() {
        for bias in [false, true] {
            check_operator(
                &Linear {
                    cin: 5,
                    cout: 3,
                    bias,
                },
                &[Shape::new(4, 1, 1, 5)],
            );
        }
    }
}
