//! The parts of a page that need the influence of training images, the spectrum or refitting. None of
//! them is gathered yet, so a page does not have them.

#![expect(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "each will use the model and may fail"
)]

use super::Gathered;
use crate::error::Error;
use crate::page::{DecayPath, Informative, Listing, Scored, Spectrum, Suspect};

impl Gathered<'_> {
    /// For every test error (index, predicted class, margin) the training images that did most for
    /// it, the most responsible first.
    pub(super) fn responsible(
        &self,
        wrong: &[(usize, usize, f64)],
    ) -> Result<Vec<Vec<Scored>>, Error> {
        Ok(vec![Vec::new(); wrong.len()])
    }

    /// The most and least informative training images of every class.
    pub(super) fn informative(&self) -> Result<Option<Listing<Informative>>, Error> {
        Ok(None)
    }

    /// Training images whose label may be wrong.
    pub(super) fn suspects(&self) -> Result<Option<Listing<Suspect>>, Error> {
        Ok(None)
    }

    /// Eigenvalues of the Hessian.
    pub(super) fn spectrum(&self) -> Result<Option<Spectrum>, Error> {
        Ok(None)
    }

    /// The model over the weight decay.
    pub(super) fn path(&self) -> Result<Option<DecayPath>, Error> {
        Ok(None)
    }
}
