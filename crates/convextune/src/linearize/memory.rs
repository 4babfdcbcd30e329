//! How many images may travel together in a given memory.
//!
//! The network is a sum over images in every pass (its normalisation is frozen), so a smaller batch
//! saves memory without computing anything twice. What activations and their gradients take is
//! measured and depends on nothing but the network and the size: passes of one and of two images
//! give a first guess, and since buffers are shared unevenly, a pass of so many images the proof.

use convextune_model::graph::{Executor, Network, NodeId};
use convextune_model::tensor::{Scalar, Shape, Tensor};

use super::gradients::DIRECTIONS;
use crate::error::Error;

/// The largest batch, `most` at most, whose passes take no more than `limit` bytes for activations
/// and their gradients; images have the size of `shape`.
///
/// # Errors
/// When one image is too much already.
pub fn batch_within<T: Scalar>(
    network: &Network<T>,
    first_trainable: NodeId,
    shape: Shape,
    (limit, most): (usize, usize),
) -> Result<usize, Error> {
    let one = pass_bytes(network, first_trainable, shape.with_n(1))?;
    if one > limit {
        return Err(Error::Usage(format!(
            "a pass of one image takes {} MiB, more than `--memory` allows; allow more, train from a \
             later node on (`--linearize-from`) or use smaller images (`--image-size`)",
            one.div_ceil(1 << 20)
        )));
    }
    let two = pass_bytes(network, first_trainable, shape.with_n(2))?;
    let each = two.saturating_sub(one).max(1);
    let most = most.max(1);
    let mut batch = (1 + (limit - one) / each).min(most);
    let fits =
        |n| Ok::<bool, Error>(pass_bytes(network, first_trainable, shape.with_n(n))? <= limit);
    while batch > 1 && !fits(batch)? {
        batch -= 1;
    }
    while batch < most && fits(batch + 1)? {
        batch += 1;
    }
    Ok(batch)
}

/// Bytes that the largest pass of some images takes.
fn pass_bytes<T: Scalar>(
    network: &Network<T>,
    first_trainable: NodeId,
    shape: Shape,
) -> Result<usize, Error> {
    let mut executor = Executor::new(network, first_trainable);
    let v = vec![T::ZERO; executor.trainable_len()];
    let mut gw = v.clone();
    let ones = |like: &Tensor<T>, repeat: usize| {
        let shape = like.shape().with_n(repeat * like.shape().n);
        Tensor::from_vec(shape, vec![T::ONE; shape.len()])
    };
    let recording = executor.record(Tensor::zeros(shape), Some(&v))?;
    let g = ones(&recording.output, 1);
    executor.vjp(recording, g, &mut gw);
    let recording = executor.record_layers(Tensor::zeros(shape))?;
    let g = ones(recording.output(), DIRECTIONS);
    executor.adjoint(&recording, g, (DIRECTIONS, 0), |_| {});
    executor.recycle_layers(recording);
    Ok(executor.buffer_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linearize::tests::{network, samples};

    #[test]
    fn the_batch_fills_the_memory_and_no_more() {
        let (network, shape) = (network(), samples(1).shape());
        let bytes = |n| pass_bytes(&network, 0, shape.with_n(n)).unwrap();
        for n in [1, 3, 8, 50, 200, 700] {
            let got = batch_within(&network, 0, shape, (bytes(n), 1 << 20)).unwrap();
            assert!(bytes(got) <= bytes(n), "{got} for the memory of {n}");
            assert!(bytes(got + 1) > bytes(n), "{got} for the memory of {n}");
        }
        assert_eq!(
            batch_within(&network, 0, shape, (usize::MAX, 5)).unwrap(),
            5
        );
        let error = batch_within(&network, 0, shape, (bytes(1) - 1, 64)).unwrap_err();
        assert!(error.to_string().contains("--memory"), "{error}");
    }
}
