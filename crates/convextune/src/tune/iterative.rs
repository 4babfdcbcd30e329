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

use convextune_solve::quadratic::tuning::CriterionPoint;
use convextune_solve::quadratic::{PcgOptions, RidgeProblem, Start};
use convextune_solve::{Centred, LinearOperator, Quiet, Scaled};

use super::closed::targets;
use super::{Criterion, Data, TuneMethod, Tuned};
use crate::error::Error;
use crate::finetune::{PreconditionerChoice, Prepared, SolverChoice, plan, sizes, statistics};
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
    let prepared = prepared(data, lin)?;
    let (jacobian, theirs) = (
        Copies::new(lin, part.copies)?,
        Copies::new(&held_out, part.copies)?,
    );
    let mut path = Path {
        prepared: &prepared,
        options: PcgOptions {
            tolerance: PRECISION,
            max_iterations: data.model.header.options.max_passes / 2,
        },
        copies: part.copies,
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

/// The preconditioner of the fit.
fn prepared(data: &Data<'_>, lin: &Linearization<'_>) -> Result<Prepared, Error> {
    let options = &data.model.header.options;
    let mut plan = data
        .model
        .header
        .report
        .plan
        .unwrap_or_else(|| plan(&sizes(lin), options));
    plan.solver = SolverChoice::Pcg;
    if plan.precondition == PreconditionerChoice::Auto {
        plan.precondition = PreconditionerChoice::Features;
    }
    statistics(lin, &plan, options, data.reporter)?.prepare(lin, &data.part.prior)
}

/// Solutions along a path of Lambda.
struct Path<'a> {
    prepared: &'a Prepared,
    options: PcgOptions,
    copies: usize,
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
        (jacobian, theirs): (&Copies<'_, '_>, &Copies<'_, '_>),
        lambda: f64,
    ) -> Result<CriterionPoint, Error> {
        let scaled = Scaled::new(jacobian, jacobian.backbone_range(), self.scale)?;
        let centred = Centred::new(&scaled, self.classes)?;
        let target = centred.target(&self.target)?;
        let v = self.solve(0, RidgeProblem::new(&centred, target.clone(), lambda)?)?;
        let mut image = vec![0.0; target.len()];
        scaled.apply(&v, &mut image)?;
        let bias = self.means(|r| self.target[r] - image[r]);
        let fitted = centred.target(&image)?;
        let minus_a = target.iter().zip(&fitted).map(|(t, f)| (f - t) / lambda);
        let w = self.solve(1, RidgeProblem::new(&centred, minus_a.collect(), lambda)?)?;
        scaled.apply(&w, &mut image)?;
        let slope_of_bias = self.means(|r| -image[r]);
        let theirs = Scaled::new(theirs, jacobian.backbone_range(), self.scale)?;
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

    /// The minimum of `problem`, from the solution of the one before it in the same place.
    fn solve(&mut self, place: usize, problem: RidgeProblem<'_>) -> Result<Vec<f64>, Error> {
        let start = self.starts[place].take().map_or(Start::Zero, Start::Warm);
        let solution =
            self.prepared
                .solve(&problem, self.copies, &self.options, start, &mut Quiet)?;
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
    use convextune_solve::quadratic::tuning::held_out_criterion;
    use convextune_solve::quadratic::{Intercept, KernelRidge};

    use super::*;
    use crate::finetune::{LambdaSource, Prior};
    use crate::linearize::tests::{CLASSES, network, samples};
    use crate::progress::Silent;
    use crate::spectrum::TrainedPart;

    const N: usize = 12;
    const ALL: usize = 18;

    /// One network with weights shared by the classes, and one with a copy for each.
    fn parts() -> [TrainedPart; 2] {
        let prior = Prior {
            lambda: 0.3,
            scale: 0.7,
            source: LambdaSource::Given,
            unit: 3.0,
            backbone_unit: 1.0,
        };
        let whole = network();
        let body = whole.truncated(whole.graph().output() - 1);
        let common = body.with_head("head", 1, &[0.3, -0.3, 0.3, 0.3, -0.3, 0.3]);
        let train = samples(ALL).pick(&(0..N).collect::<Vec<_>>()).unwrap();
        let part = |network, copies| {
            TrainedPart::new((network, 0), (copies, 4), prior, (&train, &Silent)).unwrap()
        };
        [part(whole, 1), part(common, CLASSES)]
    }

    /// Values and slopes are those of the closed form, and slopes finite differences of the values.
    #[test]
    fn value_and_slope_are_those_of_the_closed_form_and_of_finite_differences() {
        let all = samples(ALL);
        let pick = |range: std::ops::Range<usize>| all.pick(&range.collect::<Vec<_>>()).unwrap();
        let (train, rest) = (pick(0..N), pick(N..ALL));
        let target = |i: usize| {
            let entry = move |c: usize| {
                (i as f64 * 0.7 + c as f64).sin() + f64::from(u8::from(i % CLASSES == c))
            };
            (0..CLASSES).map(entry)
        };
        let targets: Vec<f64> = (0..ALL).flat_map(target).collect();
        let (own, held_out) = targets.split_at(N * CLASSES);
        for part in parts() {
            let (lin, theirs) = (
                part.over(&train, &Silent).unwrap(),
                part.over(&rest, &Silent).unwrap(),
            );
            let prepared = crate::finetune::Prepared::Nothing;
            let mut path = Path {
                prepared: &prepared,
                options: PcgOptions {
                    tolerance: 1e-9,
                    max_iterations: 200,
                },
                copies: part.copies,
                scale: part.prior.scale,
                classes: CLASSES,
                target: own.to_vec(),
                held_out: held_out.to_vec(),
                starts: [None, None],
            };
            let jacobians = (
                Copies::new(&lin, part.copies).unwrap(),
                Copies::new(&theirs, part.copies).unwrap(),
            );
            let mut at = |lambda| path.evaluate((&jacobians.0, &jacobians.1), lambda).unwrap();
            let whole = part.over(&all, &Silent).unwrap();
            let kernel = whole.kernel(1 << 20).unwrap().kernel(part.prior.scale);
            let rows = lin.rows();
            let own_kernel = kernel.submatrix(0, 0, rows, rows).to_owned();
            let cross = kernel.submatrix(rows, 0, kernel.nrows() - rows, rows);
            let ridge = KernelRidge::new(own_kernel, lin.outputs(), Intercept::Free).unwrap();
            let spectrum = ridge.spectrum().unwrap();
            for lambda in [30.0, 3.0, 0.3] {
                let found = at(lambda);
                let columns = (own, part.copies);
                let closed =
                    held_out_criterion((&ridge, &spectrum), columns, cross, held_out, lambda)
                        .unwrap();
                assert!((found.value / closed.value - 1.0).abs() < 1e-5);
                let apart = (found.slope - closed.slope).abs();
                assert!(
                    apart < 1e-4 * closed.slope.abs() + 1e-6 * closed.value,
                    "{found:?} {closed:?}"
                );
                let h: f64 = 0.01;
                let [up, down] = [h, -h].map(|h| at(lambda * h.exp()).value);
                let difference = (up - down) / (2.0 * h);
                let error = (found.slope - difference).abs();
                assert!(
                    error < 1e-4 * difference.abs() + 1e-5 * closed.value,
                    "{found:?} {difference}"
                );
            }
        }
    }
}
