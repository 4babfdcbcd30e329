//! Convolution: `y = P(x) W + b`, dense, grouped or depthwise.
//!
//! Kernel `[kh, kw, cin / groups, cout]`, then the bias `[cout]` if there is one.

use serde::{Deserialize, Serialize};

use super::{
    Cotangent, GradientSlot, Keeps, NodeWeights, Operator, ParameterShape, Primal, Role,
    ShapeError, WindowSpec, single,
};
use crate::kernels::convolution::Convolution;
use crate::kernels::depthwise::Depthwise;
use crate::kernels::elementwise::add_to;
use crate::kernels::finish::{Finish, Part, nothing};
use crate::kernels::patches::Window;
use crate::kernels::winograd::Winograd;
use crate::tensor::{Scalar, Shape, Tensor, View};

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Kernel size, stride, dilation, padding.
    pub window: WindowSpec,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Groups; `cin` for a depthwise convolution.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// The kernel that serves a convolution on images of a known size.
enum Kernel {
    Dense(Convolution),
    Winograd(Winograd),
    Depthwise(Depthwise),
}

impl Conv2d {
    /// Whether every channel has a kernel of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.cin && self.cout == self.cin && self.groups > 1
    }

    /// The window on images of shape `x`.
    ///
    /// # Errors
    /// When the channels or the size do not fit.
    pub fn window_on(&self, x: Shape) -> Result<Window, ShapeError> {
        let Self {
            cin, cout, groups, ..
        } = *self;
        if groups == 0 || cin % groups != 0 || cout % groups != 0 {
            return Err(ShapeError(format!(
                "{groups} groups do not divide {cin} and {cout} channels"
            )));
        }
        if x.c != cin {
            return Err(ShapeError(format!("convolution of {cin} channels on {x}")));
        }
        self.window.on(x)
    }

    /// The kernel for a shape that the graph has already checked.
    fn kernel(&self, x: Shape) -> Option<Kernel> {
        let window = self.window_on(x).ok()?;
        let Self {
            cin, cout, groups, ..
        } = *self;
        if self.is_depthwise() {
            let channels = cin;
            return Some(Kernel::Depthwise(Depthwise { window, channels }));
        }
        if groups == 1
            && let Some(fast) = Winograd::new(window, cin, cout, x.n)
        {
            return Some(Kernel::Winograd(fast));
        }
        self.dense(x).map(Kernel::Dense)
    }

    /// The direct sum, for a shape that the graph has already checked.
    fn dense(&self, x: Shape) -> Option<Convolution> {
        Some(Convolution {
            window: self.window_on(x).ok()?,
            cin: self.cin,
            cout: self.cout,
            groups: self.groups,
        })
    }

    pub(crate) fn kernel_len(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1] * self.cin / self.groups * self.cout
    }

    /// `bias` added to whole pixels, if there is one.
    fn add_bias<T: Scalar>(&self, parameters: &[T], z: &mut [T]) {
        if self.bias {
            let bias = &parameters[self.kernel_len()..];
            for z in z.chunks_exact_mut(self.cout) {
                add_to(z, bias);
            }
        }
    }

    /// `z = P(x) W + b` and, where it has a place, its tangent, and what `finish` makes of them.
    pub(crate) fn run_then<T: Scalar>(
        &self,
        (w, dw): (NodeWeights<'_, T>, Option<&[T]>),
        (x, dx): (View<'_, T>, Option<View<'_, T>>),
        (z, dz): (&mut Tensor<T>, Option<&mut Tensor<T>>),
        y: Option<&mut [T]>,
        finish: &Finish<'_, T>,
    ) {
        let len = self.kernel_len();
        let primal = (x.data, &w.parameters[..len]);
        let tangent = (dx.map(|dx| dx.data), dw.map(|dw| &dw[..len]));
        let result = (z.data_mut(), dz.map(Tensor::data_mut));
        let finish = |part: Part<'_, T>| {
            self.add_bias(w.parameters, part.z);
            if let Some(dw) = dw {
                self.add_bias(dw, part.dz);
            }
            finish(part);
        };
        match self.kernel(x.shape) {
            Some(Kernel::Dense(k)) => k.run(primal, tangent, result, y, &finish),
            Some(Kernel::Winograd(k)) => k.run(primal, tangent, result, y, &finish),
            Some(Kernel::Depthwise(k)) => k.run(primal, tangent, result, y, &finish),
            None => {}
        }
    }

    /// The gradient at inputs of shape `x`, for the kernel at the front of `w`.
    pub(crate) fn adjoint_image<T: Scalar>(
        &self,
        w: &[T],
        x: Shape,
        g: View<'_, T>,
        slot: &mut GradientSlot<'_, T>,
    ) {
        let w = &w[..self.kernel_len()];
        let (g, gx) = (g.data, slot.gx.data_mut());
        match self.kernel(x) {
            Some(Kernel::Dense(k)) => k.adjoint_input(g, w, slot.accumulate, gx),
            Some(Kernel::Winograd(k)) => k.adjoint_input(g, w, slot.accumulate, gx),
            Some(Kernel::Depthwise(k)) => k.adjoint_input(g, w, slot.accumulate, gx),
            None => {}
        }
    }

    /// `gw += P(x)' g`, without the bias.
    pub(crate) fn adjoint_kernel<T: Scalar>(
        &self,
        x: View<'_, T>,
        g: Cotangent<'_, T>,
        gw: &mut [T],
    ) {
        match self.kernel(x.shape) {
            Some(Kernel::Winograd(k)) if k.pays_for_weights(x.shape.n) => {
                k.adjoint_weights(x.data, g.g.data, g.repeat, gw);
            }
            Some(Kernel::Depthwise(k)) => k.adjoint_weights(x.data, g.g.data, g.repeat, gw),
            Some(Kernel::Dense(_) | Kernel::Winograd(_)) => {
                if let Some(k) = self.dense(x.shape) {
                    k.adjoint_weights(x.data, g.g.data, g.repeat, gw);
                }
            }
            None => {}
        }
    }
}

impl<T: Scalar> Operator<T> for Conv2d {
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let x = single("convolution", inputs)?;
        let [h, w] = self.window_on(x)?.output;
        Ok(Shape::new(x.n, h, w, self.cout))
    }

    fn parameters(&self) -> Vec<ParameterShape> {
        let [kh, kw] = self.window.kernel;
        let kernel = [kh, kw, self.cin / self.groups.max(1), self.cout];
        let mut all = vec![ParameterShape::new(Role::Kernel, &kernel)];
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
        self.run_then((w, None), (x[0], None), (y, None), None, &nothing);
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
        self.run_then((w, dw), (x[0], dx[0]), (y, Some(dy)), None, &nothing);
    }

    fn adjoint_input(
        &self,
        w: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        cotangent: Cotangent<'_, T>,
        slots: &mut [Option<GradientSlot<'_, T>>],
    ) {
        if let Some(slot) = &mut slots[0] {
            let x = primal.inputs[0].shape;
            let x = x.with_n(x.n * cotangent.repeat);
            self.adjoint_image(w.parameters, x, cotangent.g, slot);
        }
    }

    fn adjoint_weights(
        &self,
        _: NodeWeights<'_, T>,
        primal: Primal<'_, T>,
        g: Cotangent<'_, T>,
        gw: &mut [T],
    ) {
        let (gw, gb) = gw.split_at_mut(self.kernel_len());
        self.adjoint_kernel(primal.inputs[0], g, gw);
        if self.bias {
            for g in g.g.data.chunks_exact(self.cout) {
                add_to(gb, g);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Padding;
    use crate::ops::testing::{check_operator, forward};

    fn conv(window: WindowSpec, cin: usize, cout: usize, groups: usize, bias: bool) -> Conv2d {
        Conv2d {
            window,
            cin,
            cout,
            groups,
            bias,
        }
    }

    #[test]
    fn passes_agree_over_the_grid_of_parameters() {
        for (kernel, stride, dilation) in [
            (1, 1, 1),
            (1, 2, 1),
            (3, 1, 1),
            (3, 2, 1),
            (3, 1, 2),
            (5, 2, 1),
        ] {
            for (cin, cout, groups) in [(4, 6, 1), (4, 6, 2), (4, 4, 4), (35, 35, 35)] {
                for padding in [Padding::Same, Padding::all(kernel / 2)] {
                    let window = WindowSpec {
                        dilation: [dilation; 2],
                        ..WindowSpec::square(kernel, stride, padding)
                    };
                    let op = conv(window, cin, cout, groups, stride == 1);
                    check_operator(&op, &[Shape::new(2, 6, 7, cin)]);
                }
            }
        }
    }

    #[test]
    fn a_large_weight_gradient_agrees() {
        for kernel in [1, 3] {
            let window = WindowSpec::square(kernel, 1, Padding::Same);
            check_operator(
                &conv(window, 270, 250, 1, false),
                &[Shape::new(1, 2, 2, 270)],
            );
        }
    }

    /// y[oh, ow, co] = sum_{kh, kw, ci} x[oh s + kh d - p, ...] w[kh, kw, ci, co], by seven loops.
    #[test]
    fn equals_the_definition() {
        for (cin, cout, groups) in [(3, 4, 1), (4, 6, 2), (5, 5, 5)] {
            let window = WindowSpec {
                kernel: [3, 2],
                stride: [2, 1],
                dilation: [1, 2],
                padding: Padding::Explicit {
                    top: 1,
                    bottom: 0,
                    left: 2,
                    right: 1,
                },
            };
            let op = conv(window, cin, cout, groups, true);
            let shape = Shape::new(2, 5, 6, cin);
            let (w, x, y) = forward(&op, &[shape]);
            let o = y.shape();
            let cg = cin / groups;
            for (i, &value) in y.data().iter().enumerate() {
                let (n, oh) = (i / o.image_len(), i % o.image_len() / (o.w * o.c));
                let (ow, co) = (i % (o.w * o.c) / o.c, i % o.c);
                let mut want = w[6 * cg * cout + co];
                for (kh, kw, ci) in (0..6 * cg).map(|k| (k / (2 * cg), k / cg % 2, k % cg)) {
                    let (ih, iw) = (oh * 2 + kh, ow + 2 * kw);
                    if !(1..=5).contains(&ih) || !(2..=7).contains(&iw) {
                        continue;
                    }
                    let c = co / (cout / groups) * cg + ci;
                    let xi = x[0].data()[((n * 5 + ih - 1) * 6 + iw - 2) * cin + c];
                    want += xi * w[((kh * 2 + kw) * cg + ci) * cout + co];
                }
                assert!((value - want).abs() < 1e-12, "{value} is not {want}");
            }
        }
    }
}
