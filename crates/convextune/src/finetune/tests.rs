//! Every way to the minimum, on a small network.

use convextune_model::graph::Network;
use convextune_solve::faer::Mat;
use convextune_testkit::{Rng, relative_error};

use super::evidence::gather;
use super::plan::Plan;
use super::prepared::{Statistics, statistics};
use super::*;
use crate::linearize::tests::{CLASSES, network, samples};
use crate::linearize::{Copies, Linearization};
use crate::progress::Silent;

const N: usize = 15;

fn backbone() -> Network<f32> {
    let network = network();
    network.truncated(network.graph().output() - 1)
}

fn fit(options: &FitOptions) -> LqfFit {
    let (samples, labels) = (samples(N), (0..N).map(|i| i % CLASSES).collect::<Vec<_>>());
    let data = TrainingSet {
        samples: &samples,
        labels: &labels,
        classes: CLASSES,
    };
    fit_lqf(&backbone(), data, options, &mut NoCheckpoints, &Silent).unwrap()
}

/// Lambda, about a third of the kernel's mean diagonal.
const LAMBDA: f64 = 3e-4;

fn given() -> FitOptions {
    FitOptions {
        weight_decay: WeightDecay::Total(LAMBDA),
        backbone_weight: BackboneWeight::Scale(0.6),
        tolerance: 1e-4,
        sketch_size: Some(64),
        ..FitOptions::default()
    }
}

fn outputs(fit: &LqfFit) -> Vec<f64> {
    (0..N * CLASSES)
        .map(|r| fit.outputs[(r / CLASSES, r % CLASSES)])
        .collect()
}

#[test]
fn every_way_reaches_the_same_minimum() {
    for head_init in [HeadInit::Common, HeadInit::Random] {
        every_way_from(head_init);
    }
}

fn every_way_from(head_init: HeadInit) {
    let given = || FitOptions {
        head_init,
        ..given()
    };
    let dual = fit(&FitOptions {
        solver: SolverChoice::Dual,
        ..given()
    });
    for precondition in [
        PreconditionerChoice::Features,
        PreconditionerChoice::Sketch,
        PreconditionerChoice::Kfac,
        PreconditionerChoice::Ekfac,
        PreconditionerChoice::None,
        PreconditionerChoice::Auto,
    ] {
        let other = fit(&FitOptions {
            solver: SolverChoice::Pcg,
            precondition,
            ..given()
        });
        let apart = relative_error(&outputs(&other), &outputs(&dual));
        assert!(apart < 1e-4, "{precondition:?}: {apart:e}");
        assert_eq!(other.record.status, convextune_solve::Status::Converged);
    }
}

/// The certificate's objective is `1/2 ||t - f||^2 + (Lambda/2) (||u_head||^2 + ||u_back||^2/s^2)`.
#[test]
fn the_objective_is_that_of_the_stated_problem() {
    for (keep_f0, head_init) in [
        (false, HeadInit::Random),
        (true, HeadInit::Random),
        (true, HeadInit::Common),
    ] {
        let options = FitOptions {
            keep_f0,
            head_init,
            linearize_from: Some("stem".into()),
            ..given()
        };
        let fit = fit(&options);
        let target = |r: usize| {
            if (r / CLASSES) % CLASSES == r % CLASSES {
                options.alpha
            } else {
                0.0
            }
        };
        let f = outputs(&fit);
        let loss: f64 = f
            .iter()
            .enumerate()
            .map(|(r, f)| (target(r) - f).powi(2))
            .sum();
        let head = fit.model.network.graph().output();
        let copies = fit.model.u.len() / fit.model.network.parameters().len();
        let start = fit.model.network.parameter_range(head).start;
        let (backbone, head) = fit.model.u.split_at(start * copies);
        let square = |u: &[f32]| u.iter().map(|u| f64::from(*u).powi(2)).sum::<f64>();
        let expected = 0.5 * (loss + LAMBDA * (square(head) + square(backbone) / 0.36));
        let stated = fit.record.certificate.objective;
        assert!(
            (expected / stated - 1.0).abs() < 1e-4,
            "{expected} {stated}"
        );
    }
}

#[test]
fn what_is_left_open_is_chosen_and_what_is_given_is_kept() {
    let of = |head_init, backbone_weight| {
        fit(&FitOptions {
            head_init,
            backbone_weight,
            ..FitOptions::default()
        })
        .record
    };
    for head_init in [HeadInit::Common, HeadInit::Random] {
        let chosen = of(head_init, BackboneWeight::Auto);
        assert_eq!(chosen.lambda_source, LambdaSource::LeaveOneOut);
        let near = |share: f64| (chosen.backbone_share / share - 1.0).abs() < 1e-6;
        assert!(
            prior::SHARES.into_iter().any(near),
            "{}",
            chosen.backbone_share
        );
    }
    let each = fit(&FitOptions {
        weight_decay: WeightDecay::PerSample(LAMBDA),
        ..given()
    })
    .record;
    assert_eq!(each.lambda_source, LambdaSource::Given);
    assert!((each.lambda / (N as f64 * LAMBDA) - 1.0).abs() < 1e-12);
    let given = of(HeadInit::Split, BackboneWeight::Share(0.5));
    assert!((given.backbone_share - 0.5).abs() < 1e-6);
    let fitted = of(HeadInit::Ridge, BackboneWeight::Auto);
    assert_eq!(fitted.lambda_source, LambdaSource::HeadLeaveOneOut);
    assert!((fitted.backbone_share - prior::DEFAULT_SHARE).abs() < 1e-6);
}

/// Twelve classes make two parts: each is cut out of the whole sketch, made for itself, or cut out
/// of the exact kernel, and all three are the same kernel (the sketch: an estimate of it).
#[test]
fn a_part_of_the_kernel_is_the_same_from_every_source() {
    const MANY: usize = 12;
    let head: Vec<f32> = Rng::new(41)
        .normals(6 * MANY)
        .iter()
        .map(|w| *w as f32)
        .collect();
    let network = backbone().with_head("head", MANY, &head);
    let (samples, labels) = (samples(24), (0..24).map(|i| i % MANY).collect::<Vec<_>>());
    let data = TrainingSet {
        samples: &samples,
        labels: &labels,
        classes: MANY,
    };
    let lin = Linearization::new(&network, 0, &samples, 4, &Silent).unwrap();
    let options = FitOptions {
        head_init: HeadInit::Random,
        ..FitOptions::default()
    };
    let of = |statistics: &Statistics| {
        let evidence = gather(&lin, statistics, data, &options, &Silent).unwrap();
        assert_eq!(evidence.len(), 2);
        let entries = |k: Mat<f64>| {
            k.col_iter()
                .flat_map(|c| c.iter().copied().collect::<Vec<_>>())
                .collect()
        };
        let kernel = |part: &evidence::Evidence| entries(part.parts.kernel(1.0));
        evidence.iter().map(kernel).collect::<Vec<Vec<f64>>>()
    };
    let whole = Plan {
        solver: SolverChoice::Pcg,
        precondition: PreconditionerChoice::Sketch,
        sketch_size: 8192,
        expected_cost: 0.0,
    };
    let exact = Plan {
        solver: SolverChoice::Dual,
        ..whole
    };
    let from = |plan: &Plan| of(&statistics(&lin, plan, &options, &Silent).unwrap());
    let (cut, exact, own) = (from(&whole), from(&exact), of(&Statistics::Nothing));
    for part in 0..2 {
        assert!(relative_error(&cut[part], &own[part]) < 1e-5);
        assert!(relative_error(&cut[part], &exact[part]) < 0.1);
    }
}

/// Training begins with the last convolution where every class has a copy, else at the input.
#[test]
fn the_default_stage_depends_on_the_head() {
    let first = |head_init| {
        let options = FitOptions {
            head_init,
            ..FitOptions::default()
        };
        let model = fit(&options).model;
        model.network.graph().nodes()[model.first_trainable]
            .name
            .clone()
    };
    assert_eq!(first(HeadInit::Common), "blocks.1.grouped");
    assert_eq!(first(HeadInit::Random), "input");
}

/// The leave-one-out error is that of fits without each sample in turn, everything else kept.
#[test]
fn the_leave_one_out_error_is_that_of_fits_without_each_sample() {
    let (samples, labels) = (samples(N), (0..N).map(|i| i % CLASSES).collect::<Vec<_>>());
    let whole = fit(&given_copies());
    let mut wrong = 0;
    for left in 0..N {
        let kept: Vec<usize> = (0..N).filter(|i| *i != left).collect();
        let (part, its_labels) = (
            samples.pick(&kept).unwrap(),
            kept.iter().map(|i| labels[*i]).collect::<Vec<_>>(),
        );
        let data = TrainingSet {
            samples: &part,
            labels: &its_labels,
            classes: CLASSES,
        };
        let options = given_copies();
        let fit = fit_lqf(&backbone(), data, &options, &mut NoCheckpoints, &Silent).unwrap();
        let LqfModel {
            network,
            first_trainable,
            u,
            bias,
            ..
        } = &fit.model;
        let alone = samples.pick(&[left]).unwrap();
        let lin = Linearization::new(network, *first_trainable, &alone, 1, &Silent).unwrap();
        let u: Vec<f64> = u.iter().map(|u| f64::from(*u)).collect();
        let copies = Copies::new(&lin, CLASSES).unwrap();
        let (_, ju) = copies.outputs_at(&u).unwrap();
        let outputs = Mat::from_fn(1, CLASSES, |_, c| ju[c] + bias[c]);
        wrong += usize::from(error_rate(&outputs, &[labels[left]]) > 0.5);
    }
    let expected = wrong as f64 / N as f64;
    assert!((whole.record.leave_one_out_error.unwrap() - expected).abs() < 1e-12);
    assert!(wrong > 0 && wrong < N, "{wrong}");
}

fn given_copies() -> FitOptions {
    FitOptions {
        head_init: HeadInit::Common,
        ..given()
    }
}
