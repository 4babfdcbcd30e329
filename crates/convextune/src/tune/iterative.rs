//! By conjugate gradients: no kernel is formed.
//!
//! In the unknowns v of `min 1/2 ||P t - A v||^2 + (Lambda/2) ||v||^2`, `A = P J S`, the minimum moves with
//! Lambda by `H dv/dLambda = -v`. As `v = A' a` with `Lambda a = P t - A v`, that is the ridge problem of the
//! same operator with the target `-a`:
//!
//! ```text
//!     dv/dLambda = argmin 1/2 || -a - A w ||^2 + (Lambda/2) ||w||^2 .                        (1)
//! ```
//!
//! So one more solve a Lambda gives the slope: f = J S v + b and df = J S w + db at the held-out images,
//! with b and db the class means of `t - J S v` and `-J S w` over the training images. Both solves start
//! from their solutions at the Lambda before.

use std::ops::Range;

use convextune_solve::quadratic::tuning::CriterionPoint;
use convextune_solve::quadratic::{
    FeaturePreconditioner, Intercept, PcgOptions, RidgeProblem, Start,
};
use convextune_solve::{Centred, LinearOperator, Quiet, Scaled};

use super::closed::targets;
use super::{Criterion, Data, TuneMethod, Tuned};
use crate::error::Error;
use crate::finetune::features::Features;
use crate::finetune::{
    PreconditionerChoice, Prepared, SolverChoice, Statistics, plan, sizes, statistics,
};
use crate::linearize::{Copies, Linearization};

/// Relative gradient norm of each solve.
const PRECISION: f64 = 1e-6;
/// Slope to reach, relative to the criterion.
const SLOPE: f64 = 1e-4;

/// By held-out images.
pub(super) fn by_validation(data: &Data<'_>, lin: &Linearization<'_>) -> Result<Tuned, Error> {
    let (images, labels) = data.job.test().ok_or(Error::NothingToTrain)?;
    let (part, reporter) = (data.part, data.reporter);
    let through = part.through(images, reporter)?;
    let held_out = part.over(through.as_ref().unwrap_or(images), reporter)?;
    let statistics = statistics_of_fit(data, lin)?;
    let (jacobian, theirs) = (
        Copies::new(lin, part.copies)?,
        Copies::new(&held_out, part.copies)?,
    );
    let (prepared, features) = match statistics {
        Statistics::Features(features) => (Prepared::Nothing, Some(features)),
        others => (others.prepare(lin, &part.prior)?, None),
    };
    let mut path = Path {
        prepared: &prepared,
        features: features.map(|features| (features, lin.outputs(), part.prior.backbone_unit)),
        options: PcgOptions {
            tolerance: PRECISION,
            max_iterations: data.model.header.options.max_passes / 2,
        },
        copies: part.copies,
        backbone: jacobian.backbone_range(),
        scale: part.prior.scale,
        classes: data.job.classes().len(),
        target: targets(data, lin, data.job.train_labels())?,
        held_out: targets(data, &held_out, labels)?,
        starts: [None, None],
    };
    let unit = part.prior.unit.max(f64::MIN_POSITIVE);
    let (before, minimum) = data.search(unit, SLOPE, |lambda| {
        path.evaluate((&jacobian, &theirs), lambda)
    })?;
    Ok(Tuned {
        criterion: Criterion::Validation,
        method: TuneMethod::Pcg,
        images: labels.len(),
        before,
        minimum,
        passes: lin.work().passes,
    })
}

/// What the preconditioner of the fit is made of.
fn statistics_of_fit(data: &Data<'_>, lin: &Linearization<'_>) -> Result<Statistics, Error> {
    let options = &data.model.header.options;
    let mut plan = data
        .model
        .header
        .report
        .plan
        .unwrap_or_else(|| plan(&sizes(lin, data.part.copies), options));
    plan.solver = SolverChoice::Pcg;
    if plan.precondition == PreconditionerChoice::Auto {
        plan.precondition = PreconditionerChoice::Features;
    }
    statistics(lin, &plan, options, data.reporter)
}

/// Solutions along a path of Lambda.
struct Path<'a> {
    prepared: &'a Prepared,
    /// What is made anew for every Lambda in place of `prepared`: the features, with the outputs of the network
    /// and the backbone's unit.
    features: Option<(Features, usize, f64)>,
    options: PcgOptions,
    copies: usize,
    /// The backbone's unknowns, and the prior's scale of them.
    backbone: Range<usize>,
    scale: f64,
    classes: usize,
    /// Of the training images, and of those held out.
    target: Vec<f64>,
    held_out: Vec<f64>,
    /// Where the two solves begin.
    starts: [Option<Vec<f64>>; 2],
}

impl Path<'_> {
    fn evaluate(
        &mut self,
        (jacobian, theirs): (&dyn LinearOperator, &dyn LinearOperator),
        lambda: f64,
    ) -> Result<CriterionPoint, Error> {
        let scaled = Scaled::new(jacobian, self.backbone.clone(), self.scale)?;
        let centred = Centred::new(&scaled, self.classes)?;
        let target = centred.target(&self.target)?;
        let own = self.made_for(lambda)?;
        let prepared = own.as_ref().unwrap_or(self.prepared);
        let problem = RidgeProblem::new(&centred, target.clone(), lambda)?;
        let v = self.solve(0, prepared, &problem)?;
        let mut image = vec![0.0; target.len()];
        scaled.apply(&v, &mut image)?;
        let bias = self.means(|r| self.target[r] - image[r]);
        let fitted = centred.target(&image)?;
        let minus_a = target.iter().zip(&fitted).map(|(t, f)| (f - t) / lambda);
        let problem = RidgeProblem::new(&centred, minus_a.collect(), lambda)?;
        let w = self.solve(1, prepared, &problem)?;
        scaled.apply(&w, &mut image)?;
        let slope_of_bias = self.means(|r| -image[r]);
        let theirs = Scaled::new(theirs, self.backbone.clone(), self.scale)?;
        let (mut f, mut df) = (self.held_out.clone(), self.held_out.clone());
        theirs.apply(&v, &mut f)?;
        theirs.apply(&w, &mut df)?;
        let (mut square, mut derivative) = (0.0, 0.0);
        for (r, t) in self.held_out.iter().enumerate() {
            let residual = t - f[r] - bias[r % self.classes];
            square += residual * residual;
            derivative -= 2.0 * residual * (df[r] + slope_of_bias[r % self.classes]);
        }
        let count = self.held_out.len().max(1) as f64;
        Ok(CriterionPoint {
            lambda,
            value: square / count,
            slope: lambda * derivative / count,
        })
    }

    /// The preconditioner of the features for one Lambda; the others read it from the problem.
    fn made_for(&self, lambda: f64) -> Result<Option<Prepared>, Error> {
        let Some((features, outputs, unit)) = &self.features else {
            return Ok(None);
        };
        let phi = features.phi.as_ref();
        let made = FeaturePreconditioner::new(phi, *outputs, Intercept::Free, lambda + unit)?;
        Ok(Some(Prepared::Features(made)))
    }

    /// The minimum of `problem`, from the solution of the one before it in the same place.
    fn solve(
        &mut self,
        place: usize,
        prepared: &Prepared,
        problem: &RidgeProblem<'_>,
    ) -> Result<Vec<f64>, Error> {
        let start = self.starts[place].take().map_or(Start::Zero, Start::Warm);
        let solution = prepared.solve(problem, self.copies, &self.options, start, &mut Quiet)?;
        self.starts[place] = Some(solution.dual.clone().unwrap_or_else(|| solution.x.clone()));
        Ok(solution.x)
    }

    /// Class means over the training images.
    fn means(&self, entry: impl Fn(usize) -> f64) -> Vec<f64> {
        let n = (self.target.len() / self.classes) as f64;
        let of_class = |c: usize| {
            let rows = (c..self.target.len()).step_by(self.classes);
            rows.map(&entry).sum::<f64>() / n
        };
        (0..self.classes).map(of_class).collect()
    }
}

#[cfg(test)]
mod tests {
    use convextune_solve::DenseOperator;
    use convextune_solve::faer::{Mat, MatRef};
    use convextune_solve::quadratic::KernelRidge;
    use convextune_solve::quadratic::tuning::held_out_criterion;
    use convextune_testkit::Rng;

    use super::*;

    const CLASSES: usize = 2;
    const ROWS: usize = 9 * CLASSES;
    const HELD_OUT: usize = 4 * CLASSES;
    const WEIGHTS: usize = 12;
    const BACKBONE: Range<usize> = 0..7;
    const SCALE: f64 = 0.7;

    /// Values and slopes are those of the closed form, and slopes finite differences of the values.
    #[test]
    fn value_and_slope_are_those_of_the_closed_form_and_of_finite_differences() {
        let mut rng = Rng::new(3);
        let entries = rng.normals((ROWS + HELD_OUT) * WEIGHTS);
        let (own, theirs) = entries.split_at(ROWS * WEIGHTS);
        let targets = rng.normals(ROWS + HELD_OUT);
        let (target, held_out) = targets.split_at(ROWS);
        let operator = |rows, m: &[f64]| DenseOperator::new(rows, WEIGHTS, m.to_vec()).unwrap();
        let operators = (operator(ROWS, own), operator(HELD_OUT, theirs));
        let mut path = Path {
            prepared: &Prepared::Nothing,
            features: None,
            options: PcgOptions {
                tolerance: 1e-12,
                max_iterations: 200,
            },
            copies: 1,
            backbone: BACKBONE,
            scale: SCALE,
            classes: CLASSES,
            target: target.to_vec(),
            held_out: held_out.to_vec(),
            starts: [None, None],
        };
        let mut at = |lambda| path.evaluate((&operators.0, &operators.1), lambda).unwrap();
        let scale = |j: usize| if BACKBONE.contains(&j) { SCALE } else { 1.0 };
        let j_s = Mat::from_fn(ROWS + HELD_OUT, WEIGHTS, |i, j| {
            entries[i * WEIGHTS + j] * scale(j)
        });
        let kernel = &j_s * j_s.transpose();
        let ridge = kernel.submatrix(0, 0, ROWS, ROWS).to_owned();
        let ridge = KernelRidge::new(ridge, CLASSES, Intercept::Free).unwrap();
        let spectrum = ridge.spectrum().unwrap();
        let cross: MatRef<'_, f64> = kernel.submatrix(ROWS, 0, HELD_OUT, ROWS);
        for lambda in [30.0, 3.0, 0.3] {
            let found = at(lambda);
            let both = (&ridge, &spectrum);
            let closed = held_out_criterion(both, (target, 1), cross, held_out, lambda).unwrap();
            assert!((found.value / closed.value - 1.0).abs() < 1e-9);
            assert!((found.slope / closed.slope - 1.0).abs() < 1e-7);
            let h: f64 = 1e-3;
            let [up, down] = [h, -h].map(|h| at(lambda * h.exp()).value);
            let difference = (up - down) / (2.0 * h);
            assert!(
                (found.slope / difference - 1.0).abs() < 1e-4,
                "{found:?} {difference}"
            );
        }
    }
}
