//! Demands as rows `G f(X) <= h`.

use convextune_model::images::Item;
use convextune_solve::SolveError;
use convextune_solve::faer::Mat;

use crate::error::Error;

/// What a picture's outputs must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The picture.
    pub item: Item,
    /// Its outputs.
    pub wish: Wish,
}

/// What the scores of a picture must be (a score is an output over alpha).
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// A class's score is above that of every other by at least so much.
    Class {
        /// The class.
        class: usize,
        /// By how much.
        margin: f64,
    },
    /// Scores of some classes are these, give or take so much; 0 for exactly.
    Scores {
        /// Class and score.
        scores: Vec<(usize, f64)>,
        /// Half the width.
        within: f64,
    },
}

/// One row of `G f(X) <= h`: the outputs of one picture in at most two classes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Index of the picture among those with demands.
    pub picture: usize,
    /// Class and factor.
    pub terms: Vec<(usize, f64)>,
    /// h.
    pub bound: f64,
    /// Whether it is `= h`.
    pub equality: bool,
}

impl Row {
    /// `G f - h`, without its sign for an equality.
    pub(super) fn excess(&self, outputs: &Mat<f64>) -> f64 {
        let excess = self.value(outputs);
        if self.equality { excess.abs() } else { excess }
    }

    /// `G f - h` of outputs without f0, `n x C`.
    pub(super) fn value(&self, outputs: &Mat<f64>) -> f64 {
        let term = |(class, factor): &(usize, f64)| factor * outputs[(self.picture, *class)];
        self.terms.iter().map(term).sum::<f64>() - self.bound
    }
}

/// That there are demands, and on classes that there are.
pub(super) fn check(demands: &[Demand], classes: usize) -> Result<(), Error> {
    if demands.is_empty() {
        return Err(Error::Usage("no picture has a demand to meet".into()));
    }
    let named = |wish: &Wish| match wish {
        Wish::Class { class, .. } => *class,
        Wish::Scores { scores, .. } => scores.iter().map(|s| s.0).max().unwrap_or(0),
    };
    match demands.iter().find(|d| named(&d.wish) >= classes) {
        Some(demand) => Err(Error::Usage(format!(
            "{}: its demand names a class that the model does not have",
            demand.item.path.display()
        ))),
        None => Ok(()),
    }
}

/// All rows, for outputs less `f0` (`nC`).
pub(super) fn rows(demands: &[Demand], alpha: f64, f0: &[f64]) -> Vec<Row> {
    let classes = f0.len() / demands.len().max(1);
    let mut rows = Vec::new();
    for (picture, demand) in demands.iter().enumerate() {
        let f0 = &f0[picture * classes..(picture + 1) * classes];
        let row = |terms: &[(usize, f64)], bound: f64, equality| Row {
            picture,
            terms: terms.to_vec(),
            bound: bound - terms.iter().map(|(c, factor)| factor * f0[*c]).sum::<f64>(),
            equality,
        };
        match &demand.wish {
            Wish::Class { class, margin } => {
                let others = (0..classes).filter(|other| other != class);
                rows.extend(
                    others.map(|c| row(&[(c, 1.0), (*class, -1.0)], -margin * alpha, false)),
                );
            }
            Wish::Scores { scores, within } if *within <= 0.0 => {
                rows.extend(
                    scores
                        .iter()
                        .map(|(c, s)| row(&[(*c, 1.0)], s * alpha, true)),
                );
            }
            Wish::Scores { scores, within } => rows.extend(scores.iter().flat_map(|(c, s)| {
                let side = |sign: f64| row(&[(*c, sign)], (sign * s + within) * alpha, false);
                [side(1.0), side(-1.0)]
            })),
        }
    }
    rows
}

/// The demands depend on each other.
pub(super) fn contradiction(demands: &[Demand], error: &SolveError) -> Error {
    Error::Usage(format!(
        "no model of this kind meets the demands on the {} pictures, or they are nearly the same picture ({error}); \
         give fewer of them, or allow more with --within",
        demands.len()
    ))
}

/// The demands are not met.
pub(super) fn unmet(demands: &[Demand], violation: f64) -> Error {
    Error::Usage(format!(
        "the demands on the {} pictures can only be met to {violation:.1e} of a score: nearly the same picture with \
         different demands may be among them; give fewer of them, or allow more with --within",
        demands.len()
    ))
}
