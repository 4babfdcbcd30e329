//! Errors of models that have not seen the images they are judged by, from one matrix.
//!
//! **Leave-one-out** takes an image from one class and none from the others. Among n images a class, the class in
//! question is one short, which puts it at a disadvantage against every other, and a test image's class has none. With
//! few images a class and many classes that is felt: 35.9 % where the test says 33.2 % (flowers89, ten images a class, 64 px).
//!
//! **Leaving one of each class out**: with every image i one image of every other class is left out as well, drawn at
//! random. No class is short of an image then, and the error is that of n - 1 images a class: 33.4 % there. A group G costs one
//! Cholesky factor of size C: with M and a of the dual ([`convextune_solve::quadratic::dual`]) its residuals are
//! `(M_GG)^-1 a_G`.

use convextune_solve::faer::linalg::solvers::{Llt, Solve};
use convextune_solve::faer::{Mat, MatRef, Side};

use super::head_only::{error_rate, predicted};
use crate::rng::Rng;

/// Draws of groups over which the error is averaged.
const DRAWS: usize = 5;
/// Multiply-adds of one draw (of Cholesky factors of size C), at most: some seconds.
const WORK: f64 = 1e11;

/// Both errors, shares of the training images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LeftOut {
    pub leave_one_out: f64,
    /// Where every class has two images.
    pub one_of_each: Option<f64>,
}

impl LeftOut {
    /// Of a fit with one row a sample: M, the dual unknowns `a` (`N x C`), and the targets of the outputs (`y`, `N x C`).
    pub fn of(
        m: MatRef<'_, f64>,
        a: MatRef<'_, f64>,
        (y, labels): (&Mat<f64>, &[usize]),
        seed: u64,
    ) -> Self {
        let output = |i, c| y[(i, c)] - a[(i, c)] / m[(i, i)];
        let outputs = Mat::from_fn(y.nrows(), y.ncols(), output);
        let block = |group: &[usize]| {
            Mat::from_fn(group.len(), group.len(), |i, j| m[(group[i], group[j])])
        };
        Self {
            leave_one_out: error_rate(&outputs, labels),
            one_of_each: one_of_each_out(y, a, labels, seed, block),
        }
    }
}

/// The share of images that the fit without them and without one of every other class gets wrong; `None` where a class
/// has one image only, where it would take too long ([`WORK`]), and where a block of M is singular to rounding. `y`:
/// targets of the outputs, `N x C`; `a`: dual unknowns, `N x C`; `block`: rows and columns of M.
pub(super) fn one_of_each_out(
    y: &Mat<f64>,
    a: MatRef<'_, f64>,
    labels: &[usize],
    seed: u64,
    block: impl Fn(&[usize]) -> Mat<f64>,
) -> Option<f64> {
    let mut members = vec![Vec::new(); y.ncols()];
    labels
        .iter()
        .enumerate()
        .for_each(|(i, c)| members[*c].push(i));
    let rounds = members.iter().map(Vec::len).max().unwrap_or(0);
    let work = rounds as f64 * (members.len() as f64).powi(3);
    if members.iter().any(|class| class.len() < 2) || work > WORK {
        return None;
    }
    let mut rng = Rng::new(seed, "left out");
    let mut wrong = 0;
    for _ in 0..DRAWS {
        members.iter_mut().for_each(|class| rng.shuffle(class));
        for round in 0..rounds {
            let group: Vec<usize> = members.iter().map(|c| c[round % c.len()]).collect();
            let residuals = residuals(&block(&group), a, &group)?;
            let outputs = Mat::from_fn(group.len(), y.ncols(), |i, c| {
                y[(group[i], c)] - residuals[(i, c)]
            });
            // A class that has had all its turns is there so that no class is short.
            let judged = (0..group.len()).filter(|c| round < members[*c].len());
            wrong += judged.filter(|c| predicted(&outputs, *c) != *c).count();
        }
    }
    Some(wrong as f64 / (DRAWS * labels.len()) as f64)
}

/// `(M_GG)^-1 a_G`.
fn residuals(block: &Mat<f64>, a: MatRef<'_, f64>, group: &[usize]) -> Option<Mat<f64>> {
    let factor = Llt::new(block.as_ref(), Side::Lower).ok()?;
    Some(factor.solve(Mat::from_fn(group.len(), a.ncols(), |i, c| {
        a[(group[i], c)]
    })))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use convextune_solve::faer::linalg::solvers::PartialPivLu;
    use convextune_solve::quadratic::{Intercept, KernelRidge};

    use super::*;

    const LAMBDA: f64 = 0.3;

    /// Outputs at `asked` of the fit to the other samples, bias included, by elimination.
    fn refitted(k: &Mat<f64>, y: &Mat<f64>, asked: &[usize]) -> Mat<f64> {
        let rest: Vec<usize> = (0..y.nrows()).filter(|i| !asked.contains(i)).collect();
        let n = rest.len();
        let system = Mat::from_fn(n + 1, n + 1, |i, j| match (i < n, j < n) {
            (true, true) => k[(rest[i], rest[j])] + if i == j { LAMBDA } else { 0.0 },
            (false, false) => 0.0,
            _ => 1.0,
        });
        let right = |i: usize, c| if i < n { y[(rest[i], c)] } else { 0.0 };
        let right = Mat::from_fn(n + 1, y.ncols(), right);
        let solution = PartialPivLu::new(system.as_ref()).solve(right);
        let across = |i: usize, j: usize| if j < n { k[(asked[i], rest[j])] } else { 1.0 };
        Mat::from_fn(asked.len(), n + 1, across) * solution
    }

    /// Features of three overlapping classes of three, four and six samples.
    fn problem() -> (Mat<f64>, Vec<usize>, Mat<f64>) {
        let labels: Vec<usize> = [vec![0; 3], vec![1; 4], vec![2; 6]].concat();
        let mut rng = Rng::new(5, "test");
        let phi = Mat::from_fn(labels.len(), 4, |i, j| {
            rng.normal() + if labels[i] == j { 1.0 } else { 0.0 }
        });
        let y = Mat::from_fn(
            labels.len(),
            3,
            |i, c| if labels[i] == c { 15.0 } else { 0.0 },
        );
        (&phi * phi.transpose(), labels, y)
    }

    #[test]
    fn errors_are_those_of_fits_without_the_groups() {
        let (k, labels, y) = problem();
        let ridge = KernelRidge::new(k.clone(), 1, Intercept::Free).unwrap();
        let inverse = ridge.cholesky(LAMBDA).unwrap().inverse();
        let m = inverse.matrix();
        let a = m * &y;
        let groups = RefCell::new(Vec::new());
        let block = |group: &[usize]| {
            groups.borrow_mut().push(group.to_vec());
            Mat::from_fn(group.len(), group.len(), |i, j| m[(group[i], group[j])])
        };
        let told = one_of_each_out(&y, a.as_ref(), &labels, 3, block);
        let groups = groups.into_inner();
        assert_eq!(groups.len(), DRAWS * 6);
        let (mut wrong, mut turns) = (0, vec![0; labels.len()]);
        for draw in groups.chunks(6) {
            let mut seen = vec![false; labels.len()];
            for group in draw {
                let classes: Vec<usize> = group.iter().map(|i| labels[*i]).collect();
                assert_eq!(classes, [0, 1, 2]);
                let outputs = refitted(&k, &y, group);
                for (row, i) in group.iter().enumerate().filter(|(_, i)| !seen[**i]) {
                    wrong += usize::from(predicted(&outputs, row) != labels[*i]);
                    turns[*i] += 1;
                }
                group.iter().for_each(|i| seen[*i] = true);
            }
        }
        assert!(turns.iter().all(|turns| *turns == DRAWS), "{turns:?}");
        assert!(wrong > 0 && wrong < DRAWS * labels.len());
        assert_eq!(told, Some(wrong as f64 / (DRAWS * labels.len()) as f64));

        let alone = (0..labels.len()).filter(|i| {
            let outputs = refitted(&k, &y, &[*i]);
            predicted(&outputs, 0) != labels[*i]
        });
        let both = LeftOut::of(m, a.as_ref(), (&y, &labels), 3);
        let alone = alone.count() as f64 / labels.len() as f64;
        assert_eq!(
            (Some(both.leave_one_out), both.one_of_each),
            (Some(alone), told)
        );
    }

    #[test]
    fn a_class_of_one_image_and_a_singular_block_have_no_such_error() {
        let (k, mut labels, y) = problem();
        let singular = |group: &[usize]| Mat::zeros(group.len(), group.len());
        assert_eq!(one_of_each_out(&y, k.as_ref(), &labels, 3, singular), None);
        labels[..2].fill(1);
        let block = |_: &[usize]| -> Mat<f64> { unreachable!() };
        assert_eq!(one_of_each_out(&y, k.as_ref(), &labels, 3, block), None);
    }
}
