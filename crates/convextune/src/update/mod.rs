//! Changing the training set of a fitted model: forgetting images and adding some.
//!
//! The result is the minimum of the training problem over the changed set, with the model's Lambda and s,
//! as a fit that had never seen the others would find it; not a correction of the old weights. Up to the size
//! of a kernel that can be held they are not used at all, and what makes it short is the dual; beyond, they are where
//! conjugate gradients begin (`iterated`).
//!
//! **Forgetting** a group G. The dual unknowns a solve a saddle system
//! ([`convextune_solve::quadratic::dual`]) whose inverse has the block M. A principal part of a matrix
//! has the inverse
//!
//! ```text
//!     M_{-G} = M_RR - M_RG (M_GG)^-1 M_GR ,      a_{-G} = a_R - M_RG (M_GG)^-1 a_G                (1)
//! ```
//!
//! with R all other rows: the bias belongs to R, so this is the system without G, the bias free in it.
//! M is formed from all images; of G nothing is left in M_{-G} and a_{-G}, which are functions of the
//! images that remain (to rounding: (1) is an identity).
//!
//! **Adding** needs the kernel of the new images with the old ones and among themselves: one pass over the
//! union forms it whole, and one Cholesky factor gives M and a.
//!
//! Either way the weights are then `u = S^2 J' a`, the bias is fitted again, and the certificate's duality gap
//! is that of fresh products over the images of the new set (`minimum`). Where it does not meet the
//! model's tolerance, conjugate gradients go on from a, preconditioned by M.
//!
//! **What stays.** Lambda and s. If they were chosen by leave-one-out, then with the images that are
//! forgotten among them: two numbers, which a fit from the beginning might choose otherwise. w0: the
//! backbone, and the head where it is drawn from the seed. A head that was fitted (`ridge`, `split`)
//! remembers what it was fitted on: such a model forgets only uncertified, and cannot be added to.
//!
//! `docs/math/forgetting.md`.

mod add;
pub(crate) mod changed;
mod forget;
mod iterated;
mod list;
mod manifest;
pub(crate) mod minimum;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use convextune_model::images::Item;

use crate::finetune::{BackboneWeight, LambdaSource, Method};
use crate::influence::head_has_seen_labels;
use crate::model_file::{Header, Model};

pub use add::{AddOptions, add};
pub use forget::{Forgotten, forget};
pub use list::SampleList;
pub use manifest::{Manifest, Removal};

/// One change of a model after its fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What was done.
    pub what: What,
    /// To, or on, how many images.
    pub samples: usize,
    /// Whether the model is proved to be that of a fit to the changed set from the beginning, with
    /// Lambda and s given: its head has seen no label, and the certificate meets the tolerance.
    pub certified: bool,
}

/// What was done to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Images were taken out.
    Forgotten,
    /// Images were put in.
    Added,
    /// Demands were made on predictions ([`crate::constrain`]); the training set stayed.
    Constrained,
}

/// A model after images were added.
#[derive(Clone, Debug)]
pub struct Added {
    /// The model; its last change is this one.
    pub model: Model,
    /// The images, with the labels of the new model.
    pub items: Vec<Item>,
    /// Classes that the model did not have before.
    pub new_classes: Vec<String>,
}

/// Whether the head has seen labels, so that a change of the training set leaves w0 behind.
pub fn head_is_fitted(header: &Header) -> bool {
    head_has_seen_labels(&header.options)
}

/// Whether Lambda or s, which stay, were chosen by looking at training images.
pub fn prior_is_chosen(header: &Header) -> bool {
    let scale = header.options.method == Method::Lqf
        && !matches!(header.options.backbone_weight, BackboneWeight::Scale(_));
    scale || header.report.lambda_source != LambdaSource::Given
}
