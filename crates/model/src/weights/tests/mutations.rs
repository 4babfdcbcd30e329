//! Random damage: reading never panics, and what it reads stays in proportion to the file.

use std::path::Path;

use proptest::prelude::*;

use super::fixtures::*;
use crate::weights::read_bytes;

/// Reads damaged bytes; any error is fine, a panic or an outsized result is not.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    match read_bytes(Path::new("damaged"), bytes) {
        Ok(file) => {
            let held: usize = file
                .tensors
                .values()
                .map(|tensor| tensor.data.len() * 4)
                .sum();
            prop_assert!(
                held <= 16 * bytes.len(),
                "{held} bytes from {}",
                bytes.len()
            );
            for tensor in file.tensors.values() {
                prop_assert_eq!(tensor.shape.iter().product::<usize>(), tensor.data.len());
                prop_assert!(tensor.data.iter().all(|value| value.is_finite()));
            }
        }
        Err(error) => prop_assert!(error.to_string().starts_with("damaged: ")),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = samples()[which].clone();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes)?;
    }

    #[test]
    fn moved_pieces(
        which in 0usize..3,
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        length in 1usize..64,
    ) {
        let mut bytes = samples()[which].clone();
        let from = from.index(bytes.len());
        let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
        let to = to.index(bytes.len());
        bytes.splice(to..to, piece);
        survives(&bytes)?;
    }

    /// Random opcodes behind a valid start, where damage to the container cannot hide them.
    #[test]
    fn random_pickles(body in prop::collection::vec(
        prop::sample::select(&b"((NKM}]))ttlduuseaa0012qhr\x85\x86\x87\x88\x8c\x94\x93RbQX.\x01\x00"[..]),
        0..80,
    )) {
        survives(&torch_zip(&Pickle(body.clone()), &[]))?;
        survives(&torch_legacy(&Pickle(body), &[]))?;
    }
}
