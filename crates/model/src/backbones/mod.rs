//! Pre-trained networks by name: their graphs, their preprocessing, and their weights.
//!
//! ```text
//! by_name ─► Backbone ── locate / pull ─► file ─► WeightFile::read ─┐
//!               └───────────────── load ◄────────────────────────┘
//!                                   └─► LoadedBackbone { network, classifier }
//! ```
//!
//! A network ends in its pooled features, `[n, 1, 1, d]` (VGG: its last hidden layer); the last layer of the file comes apart
//! from it. Nodes have names of their own ([`Graph::find`] takes their beginnings), whatever the
//! file calls them: each family knows several naming schemes and takes the one of which the file
//! has most names.
//!
//! | Family | Nodes | Files |
//! |---|---|---|
//! | EfficientNet-Lite | `stem`, `blocks.0` ..., `head`, `pool` | `efficientnet_lite_pytorch`, timm's `tf_efficientnet_lite*` |
//! | MobileNetV2 | `features.0` ... `features.18`, `pool` | torchvision (two schemes), timm |
//! | ResNet | `stem`, `layer1.0` ... `layer4.2`, `pool` | torchvision and timm |
//! | ResNet for CIFAR | `stem`, `layer1.0` ... `layer3.8`, `pool` | `pytorch_resnet_cifar10` |
//! | VGG | `features.0` ..., `flatten`, `classifier.0` ... `classifier.4` | torchvision, timm |
//!
//! What a file does not tell is fixed here: the paddings, the epsilons of the variances, and the
//! preprocessing are those with which the usual weights were trained.

mod blueprint;
mod cache;
mod cifar_resnet;
mod efficientnet_lite;
mod error;
mod hub;
mod inverted_residual;
mod load;
mod mobilenet_v2;
mod names;
mod resnet;
mod table;
mod vgg;

use blueprint::Blueprint;
use efficientnet_lite::Scaling;
use resnet::Layers;

pub use cache::{cache_dir, locate};
pub use error::BackboneError;
pub use hub::pull;
pub use load::{Classifier, LoadedBackbone, detect};
pub use names::by_name;
pub use table::all;

use crate::graph::Graph;
use crate::images::{Interpolation, Normalisation, Resize, Transform};
use crate::weights::WeightFile;

/// A network that convextune knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backbone {
    name: &'static str,
    aliases: &'static [&'static str],
    description: &'static str,
    family: Family,
    source: Option<Source>,
    files: &'static [PublishedFile],
}

/// What a backbone's graph is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    EfficientNetLite(Scaling),
    MobileNetV2,
    ResNet(Layers),
    CifarResNet { blocks: usize },
    Vgg16,
}

/// Where weights can be fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Repository on the Hugging Face hub, `owner/name`.
    pub repo: &'static str,
    /// File in the repository.
    pub file: &'static str,
    /// Branch, tag or commit.
    pub revision: &'static str,
    /// SHA-256 of the file, 64 lowercase hexadecimal digits, where it is known.
    pub sha256: Option<&'static str>,
    /// Licence of the weights, as the repository states it.
    pub licence: &'static str,
    /// Who trained them, on what.
    pub origin: &'static str,
}

/// A weight file that others have published and that can be put into the cache by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// The name it was published under.
    pub name: &'static str,
    /// Its SHA-256 or the beginning of it, lowercase hexadecimal digits.
    pub sha256: &'static str,
}

impl Backbone {
    /// The canonical name, such as `efficientnet-lite0`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Other names that [`by_name`] accepts.
    pub fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// One line about it.
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// Where its weights can be fetched from.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Weight files of others that fit.
    pub fn files(&self) -> &'static [PublishedFile] {
        self.files
    }

    /// Length d of the pooled features.
    pub fn features(&self) -> usize {
        match self.family {
            Family::EfficientNetLite(_) => efficientnet_lite::FEATURES,
            Family::MobileNetV2 => mobilenet_v2::FEATURES,
            Family::ResNet(layers) => layers.features(),
            Family::CifarResNet { .. } => cifar_resnet::FEATURES,
            Family::Vgg16 => vgg::FEATURES,
        }
    }

    /// The preprocessing that its weights were evaluated with.
    pub fn transform(&self) -> Transform {
        match self.family {
            Family::EfficientNetLite(Scaling { size, .. }) => Transform::new(
                size,
                Resize::CentralCrop { padding: 32 },
                Interpolation::Bicubic,
                true,
                Normalisation::SYMMETRIC,
            )
            .unwrap_or_else(|_| Transform::efficientnet_lite()),
            Family::MobileNetV2 | Family::ResNet(_) | Family::Vgg16 => Transform::imagenet(),
            Family::CifarResNet { .. } => Transform::cifar(),
        }
    }

    /// The network, from images `[n, h, w, 3]` to pooled features `[n, 1, 1, d]`.
    pub fn graph(&self) -> Graph {
        self.blueprint().graph
    }

    /// The network with the weights of `file`, and the file's classifier if it has one.
    ///
    /// Counters of training batches, and a classifier of another width or none at all, are no
    /// errors.
    ///
    /// # Errors
    /// [`BackboneError::OtherBackbone`] when these are the weights of another known network;
    /// [`BackboneError::Weights`] with all missing, surplus and mis-shaped tensors.
    pub fn load(&self, file: &WeightFile) -> Result<LoadedBackbone, BackboneError> {
        load::load(self, file)
    }

    fn blueprint(&self) -> Blueprint {
        match self.family {
            Family::EfficientNetLite(scaling) => efficientnet_lite::blueprint(scaling),
            Family::MobileNetV2 => mobilenet_v2::blueprint(),
            Family::ResNet(layers) => resnet::blueprint(layers),
            Family::CifarResNet { blocks } => cifar_resnet::blueprint(blocks),
            Family::Vgg16 => vgg::blueprint(),
        }
    }
}
