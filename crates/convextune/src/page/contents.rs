//! What a page can show, as plain values. Their JSON has no pictures, only the images' names.

use convextune_model::images::Thumbnail;
use serde::Serialize;

use crate::finetune::FitOptions;
use crate::report::FitReport;
use crate::update::Change;

/// Everything on one page. What is `None` is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Contents {
    /// What the page is about: the model file's name.
    pub name: String,
    /// The fit.
    pub record: FitReport,
    /// What was fitted how.
    pub model: Option<ModelCard>,
    /// To what it was fitted.
    pub data: Option<DataCard>,
    /// Test images, counted.
    pub tested: Option<Tested>,
    /// Test images that the model gets wrong.
    pub errors: Option<Listing<ErrorExplained>>,
    /// Training images whose absence would change the predictions most and least.
    pub informative: Option<Listing<Informative>>,
    /// Training images whose label may be wrong, the most suspected first.
    pub suspects: Option<Listing<Suspect>>,
    /// Eigenvalues.
    pub spectrum: Option<Spectrum>,
    /// How the model depends on the weight decay.
    pub path: Option<DecayPath>,
}

impl Contents {
    /// A page with nothing but a fit's record.
    pub fn new(name: String, record: FitReport) -> Self {
        Self {
            name,
            record,
            model: None,
            data: None,
            tested: None,
            errors: None,
            informative: None,
            suspects: None,
            spectrum: None,
            path: None,
        }
    }
}

/// Some of the items of a kind.
#[derive(Clone, Debug, Serialize)]
pub struct Listing<T> {
    /// One or two sentences: what the numbers are, and whether they are exact.
    pub how: String,
    /// How many there are in all.
    pub total: usize,
    /// Those that are shown, in their order.
    pub items: Vec<T>,
}

/// An image.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    /// Its path below the data folder.
    pub name: String,
    /// The class that its folder says.
    pub class: String,
    /// What it looks like.
    #[serde(skip)]
    pub thumbnail: Option<Thumbnail>,
}

/// An image and a number about it.
#[derive(Clone, Debug, Serialize)]
pub struct Scored {
    /// The image.
    pub image: Picture,
    /// The number.
    pub score: f64,
}

/// A test image that the model gets wrong.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorExplained {
    /// The image; its class is the right one.
    pub image: Picture,
    /// The class with the largest output.
    pub predicted: String,
    /// That output less the right class's, in units of the targets; above zero.
    pub margin: f64,
    /// The training images that did most for the error, the most responsible first; the score is
    /// how much smaller the margin would be without the image.
    pub responsible: Vec<Scored>,
}

/// A class's training images by how much each changes the predictions.
#[derive(Clone, Debug, Serialize)]
pub struct Informative {
    /// The class.
    pub class: String,
    /// The most informative first.
    pub most: Vec<Scored>,
    /// The least informative first.
    pub least: Vec<Scored>,
}

/// A training image whose label may be wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Suspect {
    /// The image, with the class that it was trained as.
    pub image: Picture,
    /// The class that the other images speak for.
    pub likely: String,
    /// The larger, the more suspect.
    pub score: f64,
}

/// Test images by class and predicted class.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// Where the test images come from, in words.
    pub on: String,
    /// Class names.
    pub classes: Vec<String>,
    /// `counts[right class][predicted class]`.
    pub counts: Vec<Vec<usize>>,
}

/// Eigenvalues of one or several operators.
#[derive(Clone, Debug, Serialize)]
pub struct Spectrum {
    /// What they are of and how they were computed.
    pub how: String,
    /// Lambda, below which no eigenvalue of the Hessian lies.
    pub lambda: Option<f64>,
    /// The operators, such as the Hessian without and with its preconditioner.
    pub operators: Vec<Eigenvalues>,
}

/// The eigenvalues of one operator.
#[derive(Clone, Debug, Serialize)]
pub struct Eigenvalues {
    /// The operator.
    pub name: String,
    /// Largest first.
    pub values: Vec<f64>,
    /// Largest over smallest of the whole operator, where it is known.
    pub condition_number: Option<f64>,
}

/// A number as a function of Lambda.
#[derive(Clone, Debug, Serialize)]
pub struct DecayPath {
    /// What was computed at every Lambda, and how.
    pub how: String,
    /// What is on the vertical axis, with its unit.
    pub measure: String,
    /// One or several such numbers.
    pub curves: Vec<Curve>,
    /// The Lambda that was chosen.
    pub chosen: Option<f64>,
}

/// One number as a function of Lambda.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// What it is, such as "validation images".
    pub name: String,
    /// (Lambda, the number), by Lambda.
    pub points: Vec<(f64, f64)>,
}

/// What a model was fitted to.
#[derive(Clone, Debug, Serialize)]
pub struct DataCard {
    /// The folder.
    pub folder: String,
    /// Images of every class.
    pub classes: Vec<ClassCount>,
    /// How training and test images were told apart, in words.
    pub split: String,
    /// SHA-256 of the training set.
    pub training_set: String,
    /// Images that could not be read and were left out, each with the reason.
    pub skipped: Vec<String>,
}

/// Images of a class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassCount {
    /// The class.
    pub class: String,
    /// To train on.
    pub train: usize,
    /// To test on.
    pub test: usize,
}

/// What was fitted how; the figures are in the record.
#[derive(Clone, Debug, Serialize)]
pub struct ModelCard {
    /// First node whose weights are trained.
    pub first_trainable: String,
    /// Trained weights, all copies counted.
    pub trained_weights: usize,
    /// Copies of the trained weights.
    pub copies: usize,
    /// All options.
    pub options: FitOptions,
    /// What was done to the model after its fit, in order.
    pub changes: Vec<Change>,
    /// Version of the program that wrote the page.
    pub written_by: String,
}
