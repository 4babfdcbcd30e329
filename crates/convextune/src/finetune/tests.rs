//! Every way to the minimum, on a small network.

use convextune_model::graph::{Graph, Network};
use convextune_model::ops::{
    Activation, BatchNorm, Conv2d, GlobalAveragePool, Op, Padding, WindowSpec,
};
use convextune_model::tensor::Shape;
use convextune_testkit::{Rng, relative_error};

use super::*;
use crate::progress::Silent;
use crate::samples::Samples;

const CLASSES: usize = 3;
const N: usize = 15;
const WIDTH: usize = 24;

fn backbone() -> Network<f32> {
    let mut g = Graph::new(3);
    let conv = |cin, cout, k| {
        let window = WindowSpec::square(k, 1, Padding::Same);
        let (groups, bias) = (1, false);
        Op::Conv2d(Conv2d {
            window,
            cin,
            cout,
            groups,
            bias,
        })
    };
    let bn = |channels| {
        let activation = Activation::RELU;
        Op::BatchNorm(BatchNorm {
            channels,
            eps: 1e-5,
            activation,
        })
    };
    let x = g.push("stem.conv", conv(3, 8, 3), &[0]);
    let x = g.push("stem.bn", bn(8), &[x]);
    let x = g.push("blocks.0.conv", conv(8, WIDTH, 1), &[x]);
    let x = g.push("blocks.0.bn", bn(WIDTH), &[x]);
    g.push("pool", Op::GlobalAveragePool(GlobalAveragePool), &[x]);
    let count: usize = g.parameters().iter().map(|p| p.range.len()).sum();
    let mut rng = Rng::new(31);
    let parameters = (0..count).map(|_| 0.5 * rng.normal() as f32).collect();
    let buffers = (0..2 * (8 + WIDTH)).map(|_| 0.5 + rng.uniform() as f32);
    Network::new(g, parameters, buffers.collect())
}

fn samples() -> Samples {
    let shape = Shape::new(1, 4, 5, 3);
    let data = Rng::new(32).normals(N * shape.len());
    Samples::memory(shape, data.iter().map(|x| *x as f32).collect())
}

fn fit(options: &FitOptions) -> LqfFit {
    let (samples, labels) = (samples(), (0..N).map(|i| i % CLASSES).collect::<Vec<_>>());
    let data = TrainingSet {
        samples: &samples,
        labels: &labels,
        classes: CLASSES,
    };
    fit_lqf(&backbone(), data, options, &mut NoCheckpoints, &Silent).unwrap()
}

fn given() -> FitOptions {
    FitOptions {
        weight_decay: WeightDecay::Total(0.5),
        backbone_weight: BackboneWeight::Scale(0.6),
        tolerance: 1e-5,
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
    for keep_f0 in [false, true] {
        let options = FitOptions { keep_f0, ..given() };
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
        let (backbone, head) = fit.model.u.split_at(fit.model.u.len() - WIDTH * CLASSES);
        let square = |u: &[f32]| u.iter().map(|u| f64::from(*u).powi(2)).sum::<f64>();
        let expected = 0.5 * loss + 0.25 * (square(head) + square(backbone) / 0.36);
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
    let chosen = of(HeadInit::Random, BackboneWeight::Auto);
    assert_eq!(chosen.lambda_source, LambdaSource::LeaveOneOut);
    let near = |share: f64| (chosen.backbone_share / share - 1.0).abs() < 1e-6;
    assert!(
        prior::SHARES.into_iter().any(near),
        "{}",
        chosen.backbone_share
    );
    let given = of(HeadInit::Split, BackboneWeight::Share(0.5));
    assert!((given.backbone_share - 0.5).abs() < 1e-6);
    let fitted = of(HeadInit::Ridge, BackboneWeight::Auto);
    assert_eq!(fitted.lambda_source, LambdaSource::HeadLeaveOneOut);
    assert!((fitted.backbone_share - prior::DEFAULT_SHARE).abs() < 1e-6);
}
