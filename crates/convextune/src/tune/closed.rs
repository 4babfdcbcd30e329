//! Through the eigendecomposition of the kernel: value and slope at any Lambda without a pass.

use convextune_solve::faer::Mat;
use convextune_solve::quadratic::tuning::held_out_criterion;
use convextune_solve::quadratic::{Intercept, KernelRidge};
use convextune_solve::{LinearOperator, faer};

use super::{Criterion, Data, TOLERANCE, TuneMethod, Tuned};
use crate::error::Error;
use crate::finetune::KERNEL_BYTES;
use crate::linearize::{Copies, Linearization};
use crate::samples::Samples;

/// By the exact leave-one-out residuals of `samples`.
pub(super) fn by_leave_one_out(
    data: &Data<'_>,
    lin: &Linearization<'_>,
    samples: &[usize],
) -> Result<Tuned, Error> {
    let copies = data.part.copies;
    let targets = targets(data, lin, data.job.train_labels())?;
    let kernel = data.part.kernel(lin, data.reporter)?;
    data.reporter.stage("eigenvalues of the kernel", 0);
    let spectrum = kernel.spectrum()?;
    let (before, minimum) = data.search(kernel.mean_diagonal(), TOLERANCE, |lambda| {
        Ok(spectrum.leave_one_out_criterion((&targets, copies), samples, lambda)?)
    })?;
    Ok(Tuned {
        criterion: Criterion::LeaveOneOut,
        method: TuneMethod::Exact,
        images: samples.len(),
        before,
        minimum,
        passes: lin.work().passes,
    })
}

/// By held-out images, whose kernel with the training images is a block of the kernel of both.
pub(super) fn by_validation(data: &Data<'_>, lin: &Linearization<'_>) -> Result<Tuned, Error> {
    let (images, labels) = data.job.test().ok_or(Error::NothingToTrain)?;
    let (part, reporter) = (data.part, data.reporter);
    let through = part.through(images, reporter)?;
    let held_out = through.as_ref().unwrap_or(images);
    let both = joined(lin.samples(), held_out)?;
    let lin_of_both = part.over(&both, reporter)?;
    let runs = lin_of_both.kernel_passes(KERNEL_BYTES);
    reporter.stage("dual kernel", (both.len() * runs) as u64);
    let kernel = lin_of_both.kernel(KERNEL_BYTES)?.kernel(part.prior.scale);
    let (rows, others) = (lin.rows(), kernel.nrows() - lin.rows());
    let own: Mat<f64> = kernel.submatrix(0, 0, rows, rows).to_owned();
    let cross: faer::MatRef<'_, f64> = kernel.submatrix(rows, 0, others, rows);
    let ridge = KernelRidge::new(own, lin.outputs(), Intercept::Free)?;
    reporter.stage("eigenvalues of the kernel", 0);
    let spectrum = ridge.spectrum()?;
    let all: Vec<usize> = [data.job.train_labels(), labels].concat();
    let targets = targets(data, &lin_of_both, &all)?;
    let (train, held_out) = targets.split_at(rows * part.copies);
    let (before, minimum) = data.search(ridge.mean_diagonal(), TOLERANCE, |lambda| {
        let targets = (train, part.copies);
        Ok(held_out_criterion(
            (&ridge, &spectrum),
            targets,
            cross,
            held_out,
            lambda,
        )?)
    })?;
    Ok(Tuned {
        criterion: Criterion::Validation,
        method: TuneMethod::Exact,
        images: labels.len(),
        before,
        minimum,
        passes: lin_of_both.work().passes,
    })
}

/// The targets of all samples of `lin`, whose labels are given.
pub(super) fn targets(
    data: &Data<'_>,
    lin: &Linearization<'_>,
    labels: &[usize],
) -> Result<Vec<f64>, Error> {
    let f0 = || {
        data.reporter.stage("initial outputs", labels.len() as u64);
        Copies::new(lin, data.part.copies)?.f0()
    };
    Ok(data.targets(labels, data.keeps_f0().then(f0).transpose()?))
}

/// The samples of both sets, in memory.
fn joined(a: &Samples, b: &Samples) -> Result<Samples, Error> {
    let mut numbers = Vec::with_capacity((a.len() + b.len()) * a.shape().len());
    for (samples, i) in (0..a.len())
        .map(|i| (a, i))
        .chain((0..b.len()).map(|i| (b, i)))
    {
        numbers.extend_from_slice(samples.batch(i..i + 1)?.data());
    }
    Ok(Samples::memory(a.shape(), numbers))
}
