//! A convolution and what follows it, in one sweep over its result: a frozen normalisation, a
//! shortcut, an activation. The graph finds such chains ([`crate::graph`]).
//!
//! ```text
//! z = P(x) W ,   y = act(scale z + shift + shortcut) ,   scale = gamma / sigma
//! ```
//!
//! The way back needs x and y but not z: with g' = act'(y) g and H = P(x)' g',
//!
//! ```text
//! gW     += H diag(scale)
//! gbeta  += sum g'                                          (over pixels)
//! ggamma += (sum g' z - mean sum g') / sigma ,   sum g' z = diag(W'H)
//! gx      = adjoint of P at g' with the kernel W diag(scale)
//! ```
//!
//! because sum_p g'[p, c] z[p, c] = sum_p g'[p, c] sum_k P(x)[p, k] W[k, c] = sum_k H[k, c] W[k, c].

use super::{Activation, BatchNorm, Conv2d, Cotangent, GradientSlot, NodeWeights};
use crate::kernels::elementwise::{add_scaled_columns, mask_and_sum, scale_columns};
use crate::kernels::finish::{Chain, Part};
use crate::kernels::scratch::scratch;
use crate::tensor::{Scalar, Tensor, View};

/// A tensor and its tangent, if it has one.
pub type Dual<'a, T> = (View<'a, T>, Option<View<'a, T>>);

/// A normalisation and its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Normalisation<'a, T> {
    /// The operator.
    pub norm: &'a BatchNorm,
    /// Its numbers.
    pub weights: NodeWeights<'a, T>,
    /// Their tangent.
    pub dweights: Option<&'a [T]>,
}

/// A convolution, its weights and tangents, and what follows.
#[derive(Debug)]
pub struct ConvolutionChain<'a, T> {
    /// The convolution.
    pub conv: &'a Conv2d,
    /// Its numbers.
    pub weights: NodeWeights<'a, T>,
    /// Their tangent.
    pub dweights: Option<&'a [T]>,
    /// The normalisation.
    pub norm: Option<Normalisation<'a, T>>,
    /// Applied last.
    pub activation: Activation,
    /// Added before the activation.
    pub shortcut: Option<Dual<'a, T>>,
}

impl<T: Scalar> ConvolutionChain<'_, T> {
    /// The result of the chain, in `y` if the convolution's own is to be kept in `z`, else in `z`;
    /// and its tangent, if there is a place for it in `dz`.
    pub fn run(
        &self,
        x: Dual<'_, T>,
        z: (&mut Tensor<T>, Option<&mut Tensor<T>>),
        y: Option<&mut Tensor<T>>,
    ) {
        let norm = self.coefficients();
        let chain = self.chain(&norm);
        let finish = |part: Part<'_, T>| chain.apply(part);
        let weights = (self.weights, self.dweights);
        let y = y.map(Tensor::data_mut);
        self.conv.run_then(weights, x, z, y, &finish);
    }

    /// Replaces `g`, the gradient at the chain's result, by g', and adds the gradients of the
    /// convolution's weights to `gw` and those of the normalisation to `gnorm`.
    pub fn adjoint_weights(
        &self,
        x: View<'_, T>,
        y: View<'_, T>,
        g: &mut Tensor<T>,
        gw: &mut [T],
        gnorm: Option<&mut [T]>,
    ) {
        let sums = mask_and_sum(self.activation, y.data, g.data_mut(), self.conv.cout);
        let (g, repeat) = (g.view(), 1);
        let (gw, gbias) = gw.split_at_mut(self.conv.kernel_len());
        let (Some(n), Some(gnorm)) = (self.norm, gnorm) else {
            self.conv.adjoint_kernel(x, Cotangent { g, repeat }, gw);
            return gbias.iter_mut().zip(sums).for_each(|(b, s)| *b += s);
        };
        let k = n.norm.coefficients(n.weights);
        let mut h = scratch::<T>(gw.len());
        h.fill(T::ZERO);
        self.conv.adjoint_kernel(x, Cotangent { g, repeat }, &mut h);
        let w = &self.weights.parameters[..gw.len()];
        let gz = add_scaled_columns(&h, &k.scale, w, gw);
        n.norm.add_gradient(n.weights, &k, (&gz, &sums), gnorm);
    }

    /// The gradient at the convolution's input, from g'.
    pub fn adjoint_input(&self, x: View<'_, T>, g: View<'_, T>, slot: &mut GradientSlot<'_, T>) {
        let Some(n) = self.norm else {
            return self
                .conv
                .adjoint_image(self.weights.parameters, x.shape, g, slot);
        };
        let scale = n.norm.coefficients(n.weights).scale;
        let w = &self.weights.parameters[..self.conv.kernel_len()];
        let mut scaled = scratch::<T>(w.len());
        scale_columns(w, &scale, &mut scaled);
        self.conv.adjoint_image(&scaled, x.shape, g, slot);
    }

    /// scale, shift, dscale, dshift.
    fn coefficients(&self) -> [Vec<T>; 4] {
        let Some(n) = &self.norm else {
            let zeros = || vec![T::ZERO; self.conv.cout];
            return [vec![T::ONE; self.conv.cout], zeros(), zeros(), zeros()];
        };
        let k = n.norm.coefficients(n.weights);
        let (dscale, dshift) = n.norm.tangent(n.weights, n.dweights, &k);
        [k.scale, k.shift, dscale, dshift]
    }

    fn chain<'a>(&'a self, [scale, shift, dscale, dshift]: &'a [Vec<T>; 4]) -> Chain<'a, T> {
        Chain {
            scale,
            shift,
            dscale,
            dshift,
            act: self.activation.slopes(),
            shortcut: self.shortcut.map(|(s, _)| s.data),
            dshortcut: self.shortcut.and_then(|(_, ds)| ds).map(|ds| ds.data),
        }
    }
}
