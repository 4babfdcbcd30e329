//! Maximum and average pooling over windows, and the mean over the whole image.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Cotangent, GradientSlot, Keeps, NodeWeights, Operator, Primal, ShapeError, WindowSpec,
    dual_of_linear, single,
};
use crate::kernels::patches::Window;
use crate::kernels::pooling as kernel;
use crate::tensor::{Scalar, Shape, Tensor, View};

/// Maximum over each window; padding never wins. The tangent is gathered at the first maximum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaxPool {
    /// Kernel size, stride, padding.
    pub window: WindowSpec,
}

/// Mean over each window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AveragePool {
    /// Kernel size, stride, padding.
    pub window: WindowSpec,
    /// Whether padding pixels count as zeros in the mean.
    pub count_padding: bool,
}

/// Mean over the image: `[n, h, w, c]` to `[n, 1, 1, c]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GlobalAveragePool;

fn pooled_shape(name: &str, spec: &WindowSpec, inputs: &[Shape]) -> Result<Shape, ShapeError> {
    let x = single(name, inputs)?;
    let [h, w] = spec.on(x)?.output;
    Ok(Shape::new(x.n, h, w, x.c))
}

impl<T: Scalar> Operator<T> for MaxPool {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        pooled_shape("max pooling", &self.window, inputs)
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: true,
            output: true,
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        if let Ok(window) = self.window.on(x[0].shape) {
            kernel::max_forward(&window, x[0].shape.c, x[0].data, y.data_mut());
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
        match (self.window.on(x[0].shape), dx[0]) {
            (Ok(window), Some(dx)) => {
                let (x, c) = (x[0].data, x[0].shape.c);
                kernel::max_tangent(&window, c, x, dx.data, y.data(), dy.data_mut());
            }
            _ => dy.data_mut().fill(T::ZERO),
        }
    }

    fn adjoint_input(
        &self,
        _: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        let x = primal.inputs[0];
        if let (Ok(window), Some(slot)) = (self.window.on(x.shape), &mut slots[0]) {
            let (xy, gr) = ((x.data, primal.output.data), (g.g.data, g.repeat));
            kernel::max_adjoint(
                &window,
                x.shape.c,
                xy,
                gr,
                slot.accumulate,
                slot.gx.data_mut(),
            );
        }
    }
}

impl AveragePool {
    /// One over the number of pixels that output pixel `p` averages.
    fn weight<T: Scalar>(&self, window: &Window, p: usize) -> T {
        let mut count = window.taps();
        if !self.count_padding {
            let mut taps = Vec::new();
            window.list_taps(p, &mut taps);
            count = taps.len();
        }
        T::from_f64(1.0 / count.max(1) as f64)
    }
}

impl<T: Scalar> Operator<T> for AveragePool {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        pooled_shape("average pooling", &self.window, inputs)
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: false,
            output: false,
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        if let Ok(window) = self.window.on(x[0].shape) {
            let weight = |p| self.weight(&window, p);
            kernel::sum_forward(&window, x[0].shape.c, x[0].data, weight, y.data_mut());
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
        let x = primal.inputs[0].shape;
        if let (Ok(window), Some(slot)) = (self.window.on(x), &mut slots[0]) {
            let weight = |p| self.weight(&window, p);
            let gx = slot.gx.data_mut();
            kernel::sum_adjoint(&window, x.c, g.g.data, weight, slot.accumulate, gx);
        }
    }
}

impl<T: Scalar> Operator<T> for GlobalAveragePool {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let x = single("global average pooling", inputs)?;
        if x.image_len() == 0 {
            return Err(ShapeError(format!(
                "global average pooling of an empty image {x}"
            )));
        }
        Ok(Shape::new(x.n, 1, 1, x.c))
    }

    fn keeps(&self) -> Keeps {
        Keeps {
            inputs: false,
            output: false,
        }
    }

    fn forward(&self, _: NodeWeights<'_, T>, x: &[View<'_, T>], y: &mut Tensor<T>) {
        let (c, image) = (x[0].shape.c, x[0].shape.image_len());
        let scale = T::from_f64(c as f64 / image as f64);
        let images = y
            .data_mut()
            .par_chunks_mut(c)
            .zip(x[0].data.par_chunks(image));
        images.for_each(|(y, x)| {
            y.fill(T::ZERO);
            for x in x.chunks_exact(c) {
                crate::kernels::elementwise::add_to(y, x);
            }
            y.iter_mut().for_each(|y| *y *= scale);
        });
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
        let Some(slot) = &mut slots[0] else { return };
        let (c, image) = (g.g.shape.c, slot.gx.shape().image_len());
        let scale = T::from_f64(c as f64 / image as f64);
        let accumulate = slot.accumulate;
        let images = slot
            .gx
            .data_mut()
            .par_chunks_mut(image)
            .zip(g.g.data.par_chunks(c));
        images.for_each(|(gx, g)| {
            for gx in gx.chunks_exact_mut(c) {
                for (gx, &g) in gx.iter_mut().zip(g) {
                    *gx = if accumulate {
                        *gx + scale * g
                    } else {
                        scale * g
                    };
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Padding;
    use crate::ops::testing::{apply, check_operator};

    fn windows() -> impl Iterator<Item = WindowSpec> {
        let sizes = [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2), (1, 2, 0)];
        let explicit = sizes.map(|(k, s, p)| WindowSpec::square(k, s, Padding::all(p)));
        explicit
            .into_iter()
            .chain([WindowSpec::square(3, 2, Padding::Same)])
    }

    #[test]
    fn passes_agree() {
        let shape = [Shape::new(2, 6, 7, 3)];
        for window in windows() {
            check_operator(&MaxPool { window }, &shape);
            check_operator(
                &AveragePool {
                    window,
                    count_padding: true,
                },
                &shape,
            );
            check_operator(
                &AveragePool {
                    window,
                    count_padding: false,
                },
                &shape,
            );
        }
        check_operator(&GlobalAveragePool, &shape);
    }

    #[test]
    fn values_of_a_small_image() {
        let x = Tensor::from_vec(Shape::new(1, 2, 2, 1), vec![1.0, -2.0, 3.0, 4.0]);
        let window = WindowSpec::square(3, 2, Padding::all(1));
        assert_eq!(apply(&MaxPool { window }, &x).data(), [4.0]);
        let mean = |count_padding| {
            apply(
                &AveragePool {
                    window,
                    count_padding,
                },
                &x,
            )
            .data()[0]
        };
        assert!((mean(true) - 6.0 / 9.0).abs() < 1e-15 && (mean(false) - 1.5f64).abs() < 1e-15);
        assert_eq!(apply(&GlobalAveragePool, &x).data(), [1.5]);
    }
}
