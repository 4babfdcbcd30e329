//! Influence by products against the closed form.

use convextune_solve::quadratic::PcgOptions;
use convextune_testkit::relative_error;
use faer::Mat;

use super::super::{Curved, Dual, Linearised, Setting};
use super::refit::{fit, of, options, queries, setting};
use super::{N, QUERIES, flat};
use crate::finetune::HeadInit;
use crate::linearize::CurvatureOptions;
use crate::linearize::tests::samples;
use crate::progress::Silent;

const GROUPS: [&[usize]; 3] = [&[3], &[12], &[1, 4, 6, 10]];

/// A copy of the weights for every class; shared weights.
fn settings() -> Vec<Setting> {
    let all: Vec<usize> = (0..N).collect();
    let of = |head_init| {
        let options = options(head_init, false);
        Setting {
            lambda: 0.02,
            ..setting(&fit(&all, &options), &options)
        }
    };
    vec![of(HeadInit::Common), of(HeadInit::Random)]
}

/// The head of a setting alone, as for `lqf-fc`.
fn head_alone(setting: &Setting) -> Setting {
    Setting {
        first_trainable: setting.network.graph().output(),
        ..setting.clone()
    }
}

fn curved(setting: &Setting, dual: &Dual, rescale: Option<bool>, most: usize) -> Curved {
    let all: Vec<usize> = (0..N).collect();
    let picked = samples(N + QUERIES).pick(&all).unwrap();
    let curvature = rescale.map(|rescale| CurvatureOptions {
        probes: 1,
        seed: 3,
        rescale,
    });
    let effort = PcgOptions {
        tolerance: 1e-5,
        max_iterations: most,
    };
    Curved::new(
        setting,
        picked,
        dual.residuals(),
        (curvature, effort),
        &Silent,
    )
    .unwrap()
}

/// Changes at the queries without a group, sample-major.
fn changes(curved: &Curved, group: &[usize]) -> Vec<f64> {
    let asked = curved.directions(&queries(), &Silent).unwrap();
    let own = curved.own_directions(group, &Silent).unwrap();
    let left_out = curved.left_out(group, &own).unwrap();
    let q = curved.rows();
    let of = |x: usize| {
        let one = asked.of(x * q..(x + 1) * q);
        curved.change(&curved.between(&own, &one), &left_out)
    };
    (0..QUERIES).flat_map(of).collect()
}

fn exact(setting: &Setting) -> (Linearised, Dual) {
    of(setting)
}

#[test]
fn solved_systems_give_the_closed_form() {
    for setting in settings() {
        let (linearised, dual) = exact(&setting);
        let cross = linearised.cross_kernel(&queries(), &Silent).unwrap();
        let asked = dual.queries(cross).unwrap();
        for rescale in [Some(true), Some(false), None] {
            let curved = curved(&setting, &dual, rescale, 2000);
            for group in GROUPS {
                let change = changes(&curved, group);
                let removal = dual.removed(group).unwrap();
                let truth = flat(dual.change(&asked, &removal).as_ref());
                let error = relative_error(&change, &truth);
                assert!(error < 1e-3, "{rescale:?} {group:?}: {error:e}");
            }
            let directions = curved.directions(&queries(), &Silent).unwrap();
            assert!(directions.residuals.iter().all(|r| *r < 1e-3));
            let weights = curved.weights(&directions, &Silent).unwrap();
            let error = relative_error(&flat(weights.as_ref()), &flat(asked.weights.as_ref()));
            assert!(error < 1e-3, "{error:e}");
            let truth = Mat::from_fn(N, 1, |i, _| {
                let q = curved.rows();
                let row = |r: usize| {
                    asked.weights[(i * q + r, 0)] * dual.residuals()[(i, r * dual.classes() / q)]
                };
                (0..q).map(row).sum()
            });
            let first = weights.subcols(0, curved.rows()).to_owned();
            let error = relative_error(&curved.first_order(&first, 0), truth.col_as_slice(0));
            assert!(error < 1e-3, "{error:e}");
        }
    }
}

/// Stopped early, leverages stay below the true ones, and the residual says how far it is.
#[test]
fn an_approximation_is_no_more_than_that() {
    for setting in settings() {
        let (_, dual) = exact(&setting);
        let q = dual.rows();
        for most in [1, 3] {
            let curved = curved(&setting, &dual, Some(true), most);
            let own = curved.own_directions(&[3], &Silent).unwrap();
            assert!(
                own.residuals.iter().all(|r| *r > 1e-3),
                "{:?}",
                own.residuals
            );
            let h = curved.leverages(&own);
            for r in 0..q {
                let truth = 1.0 - dual.lambda() * dual.inverse()[(3 * q + r, 3 * q + r)];
                assert!(
                    h[(r, r)] > 0.2 * truth && h[(r, r)] < truth * (1.0 + 1e-6),
                    "{} {truth}",
                    h[(r, r)]
                );
            }
        }
    }
}

/// The curvature of a head alone is its Hessian.
#[test]
fn one_iteration_is_exact_for_a_head_alone() {
    let setting = head_alone(&settings()[0]);
    let (linearised, dual) = exact(&setting);
    let cross = linearised.cross_kernel(&queries(), &Silent).unwrap();
    let asked = dual.queries(cross).unwrap();
    let curved = curved(&setting, &dual, Some(false), 1);
    assert!(
        curved
            .directions(&queries(), &Silent)
            .unwrap()
            .residuals
            .iter()
            .all(|r| *r < 1e-4)
    );
    for group in GROUPS {
        let truth = flat(dual.change(&asked, &dual.removed(group).unwrap()).as_ref());
        assert!(relative_error(&changes(&curved, group), &truth) < 1e-3);
    }
}

/// Where both systems are solved a little, the errors of the two multiply.
#[test]
fn two_halves_are_better_than_one() {
    let setting = &settings()[1];
    let (linearised, dual) = exact(setting);
    let cross = linearised.cross_kernel(&queries(), &Silent).unwrap();
    let truth = flat(dual.queries(cross).unwrap().weights.as_ref());
    let curved = curved(setting, &dual, Some(true), 2);
    let asked = curved.directions(&queries(), &Silent).unwrap();
    let all: Vec<usize> = (0..N).collect();
    let own = curved.own_directions(&all, &Silent).unwrap();
    let error = |w: &Mat<f64>| relative_error(&flat(w.as_ref()), &truth);
    let one = error(&curved.weights(&asked, &Silent).unwrap());
    let two = error(&curved.products(&own, &asked, true));
    assert!(one > 1e-3 && two < one / 3.0, "{two:e} {one:e}");
}
