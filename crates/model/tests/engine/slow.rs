//! The reference as an engine: products with J' are made of tangents, weight by weight.

use convextune_model::graph::{Engine, GraphError, Network, SummedPass};
use convextune_model::tensor::{Shape, Tensor};

use crate::reference::{Field, evaluate};

/// All weights are trained.
pub struct Slow<'a>(pub &'a Network<f64>);

/// A pass of it: the images and what they gave.
struct Pass<'a> {
    network: &'a Network<f64>,
    x: Tensor<f64>,
    output: Tensor<f64>,
    tangent: Option<Tensor<f64>>,
}

fn at(network: &Network<f64>, x: &Tensor<f64>, v: &[f64]) -> Field {
    evaluate(network, v, Field::constant(x.shape(), x.data()))
}

fn tensors(field: &Field) -> (Tensor<f64>, Tensor<f64>) {
    let Shape { n, h, w, c } = field.shape;
    let tensor = |numbers| Tensor::from_vec(Shape::new(n, h, w, c), numbers);
    (tensor(field.values()), tensor(field.slopes()))
}

impl Engine<f64> for Slow<'_> {
    fn trainable_len(&self) -> usize {
        self.0.parameters().len()
    }

    fn forward(&mut self, x: Tensor<f64>) -> Result<Tensor<f64>, GraphError> {
        Ok(tensors(&at(self.0, &x, &vec![0.0; self.trainable_len()])).0)
    }

    fn dual(
        &mut self,
        x: Tensor<f64>,
        v: &[f64],
    ) -> Result<(Tensor<f64>, Tensor<f64>), GraphError> {
        Ok(tensors(&at(self.0, &x, v)))
    }

    fn record_sum<'s>(
        &'s mut self,
        x: Tensor<f64>,
        v: Option<&[f64]>,
    ) -> Result<Box<dyn SummedPass<f64> + 's>, GraphError> {
        let zeros = vec![0.0; self.trainable_len()];
        let (output, slopes) = tensors(&at(self.0, &x, v.unwrap_or(&zeros)));
        Ok(Box::new(Pass {
            network: self.0,
            x,
            output,
            tangent: v.map(|_| slopes),
        }))
    }

    fn recycle(&mut self, _: Tensor<f64>) {}
}

impl SummedPass<f64> for Pass<'_> {
    fn output(&self) -> &Tensor<f64> {
        &self.output
    }

    fn tangent(&self) -> Option<&Tensor<f64>> {
        self.tangent.as_ref()
    }

    /// Column j of J is the tangent in the direction of weight j alone.
    fn vjp(self: Box<Self>, g: Tensor<f64>, gw: &mut [f64]) {
        let mut unit = vec![0.0; gw.len()];
        for (j, gw) in gw.iter_mut().enumerate() {
            unit[j] = 1.0;
            let column = at(self.network, &self.x, &unit).slopes();
            *gw += column.iter().zip(g.data()).map(|(a, b)| a * b).sum::<f64>();
            unit[j] = 0.0;
        }
    }
}
