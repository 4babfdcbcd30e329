//! A convolution and what follows it, in one sweep over its result: a frozen normalisation, a
//! shortcut, an activation. The graph finds such chains ([`crate::graph`]); the arithmetic is that
//! of the operators one after the other.

use super::{Activation, BatchNorm, Conv2d, NodeWeights};
use crate::kernels::finish::{Chain, Part};
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
