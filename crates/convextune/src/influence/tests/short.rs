//! Influence by short rows against the closed form.

use convextune_solve::faer::Mat;
use convextune_testkit::relative_error;

use super::super::short::Short;
use super::super::{Dual, Linearised, Nearest, Setting};
use super::refit::{fit, of, options, queries, setting};
use super::{N, QUERIES, flat};
use crate::error::Error;
use crate::finetune::HeadInit;
use crate::linearize::tests::samples;
use crate::progress::Silent;

/// A copy of the weights for every class, with a Lambda at which leverages are about a half.
fn whole() -> Setting {
    let all: Vec<usize> = (0..N).collect();
    let options = options(HeadInit::Common, false);
    Setting {
        lambda: 2e-2,
        scale: 10.0,
        ..setting(&fit(&all, &options), &options)
    }
}

/// The head of the same network alone, as for `lqf-fc`.
fn head_alone() -> Setting {
    let whole = whole();
    Setting {
        first_trainable: whole.network.graph().output(),
        ..whole
    }
}

fn short_of(setting: &Setting, dual: &Dual, sketch: (usize, u64)) -> Result<Short, Error> {
    let all: Vec<usize> = (0..N).collect();
    let picked = samples(N + QUERIES).pick(&all).unwrap();
    let linearised = Linearised::new(setting, picked, &Silent).unwrap();
    let fit = (&dual.targets(), &dual.residuals());
    Short::new(setting, linearised, fit, sketch, &Silent)
}

/// Relative errors of all that is told, and the error that is told of it.
fn errors(setting: &Setting, buckets: usize) -> Vec<f64> {
    let (linearised, dual) = of(setting);
    let short = short_of(setting, &dual, (buckets, 3)).unwrap();
    let cross = linearised.cross_kernel(&queries(), &Silent).unwrap();
    let asked = dual.queries(cross).unwrap();
    let mean = dual.leverages().iter().sum::<f64>() / N as f64;
    assert!((0.05..0.95).contains(&mean), "{mean}");
    let rows = |m: &Mat<f64>| flat(m.as_ref());
    let cosines =
        |nearest: Vec<Nearest>| -> Vec<f64> { nearest.iter().map(|n| n.cosine).collect() };
    let pairs = [
        (
            rows(short.leave_one_out_residuals()),
            rows(&dual.leave_one_out_residuals()),
        ),
        (
            short.informativeness(&queries(), &Silent).unwrap(),
            dual.informativeness(&asked),
        ),
        (
            short.informativeness_among(&Silent),
            dual.informativeness_among(),
        ),
        (
            short.variances(&queries(), &Silent).unwrap(),
            asked.variances(),
        ),
        (cosines(short.nearest(&Silent)), cosines(dual.nearest())),
    ];
    let told = pairs.iter().map(|(a, b)| relative_error(a, b));
    told.chain([short.error()]).collect()
}

#[test]
fn a_head_alone_is_exact() {
    let setting = head_alone();
    let errors = errors(&setting, 16);
    assert!(errors.iter().all(|e| *e < 1e-4), "{errors:?}");
    let dual = of(&setting).1;
    let short = short_of(&setting, &dual, (16, 3)).unwrap();
    let partners =
        |nearest: Vec<Nearest>| -> Vec<usize> { nearest.iter().map(|n| n.sample).collect() };
    assert_eq!(partners(short.nearest(&Silent)), partners(dual.nearest()));
}

/// With so many buckets hardly any two weights of the small network meet; with few many do, and that is told.
#[test]
fn a_sketched_backbone_is_as_near_as_its_buckets_are_many() {
    let many = errors(&whole(), 1024);
    assert!(many.iter().all(|e| *e < 1e-3), "{many:?}");
    let few = errors(&whole(), 32);
    assert!(few.iter().all(|e| *e < 0.3), "{few:?}");
    assert!(few.iter().all(|e| *e > 3e-3), "{few:?}");
}
