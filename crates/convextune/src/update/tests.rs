//! Forgetting against true fits without the samples, in f32 as the program computes.

use convextune_model::graph::Network;
use convextune_solve::faer::{Mat, MatRef, Scale};
use convextune_solve::quadratic::Preconditioner;
use convextune_testkit::{Rng, relative_error};

use super::changed::body;
use super::iterated::{Iterated, tolerance};
use super::minimum::{DualSolution, Minimum, minimum};
use crate::finetune::features::{Features, targets};
use crate::finetune::{
    BackboneWeight, FitOptions, HeadInit, LambdaSource, LqfModel, Method, NoCheckpoints, Plan,
    PreconditionerChoice, Prior, SolverChoice, TrainingSet, WeightDecay, error_rate, fit_lqf,
    fit_lqf_fc,
};
use crate::influence::{Dual, Linearised, Setting, posterior};
use crate::linearize::tests::{CLASSES, network, samples};
use crate::linearize::{Copies, Linearization};
use crate::model_file::HEAD;
use crate::progress::Silent;

mod minimum;

const N: usize = 20;
/// Samples that are never trained on.
const OTHERS: usize = 5;
const LAMBDA: f64 = 0.02;
const SCALE: f64 = 0.6;
/// 1 sample, 10 %, 20 % and nearly all.
const GROUPS: [&[usize]; 4] = [
    &[7],
    &[3, 11],
    &[0, 5, 9, 16],
    &[0, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 19],
];

fn backbone() -> Network<f32> {
    let network = network();
    network.truncated(network.graph().output() - 1)
}

fn labels(kept: &[usize]) -> Vec<usize> {
    kept.iter().map(|i| (i * i + i / 7) % CLASSES).collect()
}

fn without(group: &[usize]) -> Vec<usize> {
    (0..N).filter(|i| !group.contains(i)).collect()
}

fn kinds() -> Vec<FitOptions> {
    let kind = |method, head_init, keep_f0| FitOptions {
        method,
        head_init,
        keep_f0,
        weight_decay: WeightDecay::Total(LAMBDA),
        backbone_weight: BackboneWeight::Scale(SCALE),
        solver: SolverChoice::Dual,
        tolerance: 1e-5,
        ..FitOptions::default()
    };
    vec![
        kind(Method::Lqf, HeadInit::Common, false),
        kind(Method::Lqf, HeadInit::Random, false),
        kind(Method::Lqf, HeadInit::Random, true),
        kind(Method::LqfFc, HeadInit::Common, false),
    ]
}

/// A true fit to some samples.
fn fit(kept: &[usize], options: &FitOptions) -> LqfModel {
    let picked = samples(N + OTHERS).pick(kept).unwrap();
    let labels = labels(kept);
    if options.method == Method::LqfFc {
        let features = Features::of(&backbone(), &picked, 4, &Silent).unwrap();
        let head = fit_lqf_fc(&features, (&labels, CLASSES), options).unwrap();
        let w = head.head.weights;
        let weights: Vec<f32> = (0..w.nrows() * CLASSES)
            .map(|i| w[(i / CLASSES, i % CLASSES)] as f32)
            .collect();
        let network = backbone().with_head(HEAD, CLASSES, &weights);
        return LqfModel {
            first_trainable: network.graph().output(),
            network,
            u: Vec::new(),
            bias: head.head.bias,
            keep_f0: true,
        };
    }
    let data = TrainingSet {
        samples: &picked,
        labels: &labels,
        classes: CLASSES,
    };
    let fit = fit_lqf(&backbone(), data, options, &mut NoCheckpoints, &Silent);
    fit.unwrap().model
}

fn setting(options: &FitOptions) -> Setting {
    let common = Setting {
        network: backbone().with_head(HEAD, 1, &[1.0; 6]),
        first_trainable: backbone().graph().nodes().len(),
        copies: CLASSES,
        classes: CLASSES,
        keep_f0: false,
        alpha: options.alpha,
        lambda: LAMBDA,
        scale: SCALE,
        batch: 4,
        largest_kernel: 1000,
        kept: None,
    };
    if options.method == Method::LqfFc {
        return common;
    }
    let fitted = fit(&without(&[]), options);
    Setting {
        network: fitted.network,
        first_trainable: fitted.first_trainable,
        copies: options.copies(CLASSES),
        keep_f0: options.keep_f0,
        ..common
    }
}

fn posterior_of(setting: &Setting, kept: &[usize]) -> (Linearised, Dual) {
    let picked = samples(N + OTHERS).pick(kept).unwrap();
    posterior(setting, picked, &labels(kept), &Silent).unwrap()
}

fn forget(setting: &Setting, group: &[usize], options: &FitOptions) -> (LqfModel, Minimum) {
    let (mut linearised, dual) = posterior_of(setting, &without(&[]));
    let solution = DualSolution::without(&dual, group).unwrap();
    let keep: Vec<bool> = (0..N).map(|i| !group.contains(&i)).collect();
    linearised.retain(&keep);
    let minimum = minimum(&linearised, setting, &solution, options, &Silent).unwrap();
    (body(setting, options.method, &minimum), minimum)
}

/// The trained numbers.
fn weights(model: &LqfModel) -> Vec<f64> {
    let network = &model.network;
    let numbers = match model.u.as_slice() {
        [] => network.node_weights(network.graph().output()).parameters,
        u => u,
    };
    let all = numbers.iter().map(|u| f64::from(*u));
    all.chain(model.bias.iter().copied()).collect()
}

/// Outputs at all samples: trained on, forgotten, and never seen.
fn outputs(model: &LqfModel, options: &FitOptions) -> Vec<f64> {
    let all = samples(N + OTHERS);
    let lin = Linearization::new(&model.network, model.first_trainable, &all, 4, &Silent).unwrap();
    let mut out = if model.u.is_empty() {
        lin.f0().unwrap()
    } else {
        let u: Vec<f64> = model.u.iter().map(|u| f64::from(*u)).collect();
        let copies = Copies::new(&lin, options.copies(CLASSES)).unwrap();
        let (f0, mut ju) = copies.outputs_at(&u).unwrap();
        if model.keep_f0 {
            ju.iter_mut().zip(f0).for_each(|(ju, f)| *ju += f);
        }
        ju
    };
    for (r, f) in out.iter_mut().enumerate() {
        *f += model.bias[r % CLASSES];
    }
    out
}

fn flat(m: MatRef<'_, f64>) -> Vec<f64> {
    m.row_iter()
        .flat_map(|row| row.iter().copied().collect::<Vec<_>>())
        .collect()
}

/// Weights, and outputs at the forgotten samples themselves, as at all others; from the closed form
/// alone. The true fits are in f32 and end at a relative gradient of 1e-5.
#[test]
fn forgetting_equals_refitting() {
    for options in kinds() {
        let setting = setting(&options);
        let usual = FitOptions {
            tolerance: 1e-3,
            ..options.clone()
        };
        let before = fit(&without(&[]), &options);
        for group in GROUPS {
            let (forgotten, found) = forget(&setting, group, &usual);
            let refitted = fit(&without(group), &options);
            let what = format!("{:?} {:?} {group:?}", options.method, options.head_init);
            let near = |a: &[f64], b: &[f64]| {
                let error = relative_error(a, b);
                println!("{what}: {error:e}");
                assert!(error < 5e-5, "{what}: {error:e}");
            };
            near(&weights(&forgotten), &weights(&refitted));
            let (told, truth) = (outputs(&forgotten, &options), outputs(&refitted, &options));
            near(&told, &truth);
            let trained: Vec<f64> = without(group)
                .iter()
                .flat_map(|i| truth[i * CLASSES..(i + 1) * CLASSES].to_vec())
                .collect();
            near(&flat(found.outputs.as_ref()), &trained);
            assert_eq!(found.iterations, 0, "{what}");
            let gradient = found.certificate.relative_gradient_norm;
            assert!(gradient < 1e-4, "{what}: {gradient:e}");
            let moved = relative_error(&outputs(&before, &options), &truth);
            assert!(moved > 1e-3, "{what}: nothing was forgotten, {moved:e}");
        }
    }
}

/// By conjugate gradients from the old weights, with every preconditioner and none.
fn iterate(
    (setting, options): (&Setting, &FitOptions),
    (before, precondition): (Option<&LqfModel>, PreconditionerChoice),
    group: &[usize],
) -> Minimum {
    let kept = without(group);
    let picked = samples(N + OTHERS).pick(&kept).unwrap();
    let linearised = Linearised::new(setting, picked, &Silent).unwrap();
    let iterated = Iterated {
        warm: before.map(|model| model.trained().to_vec()),
        plan: Plan {
            solver: SolverChoice::Pcg,
            precondition,
            sketch_size: 4096,
            expected_cost: 0.0,
        },
        prior: Prior {
            lambda: LAMBDA,
            scale: SCALE,
            source: LambdaSource::Given,
            unit: 0.0,
            backbone_unit: 0.0,
        },
        tolerance: 1e-5,
    };
    let labels = labels(&kept);
    let found = iterated.minimum(&linearised, setting, &labels, options, &Silent);
    found.unwrap()
}

#[test]
fn iterations_end_at_the_same_minimum_and_sooner_from_the_old_weights() {
    let ways = [
        PreconditionerChoice::None,
        PreconditionerChoice::Features,
        PreconditionerChoice::Sketch,
        PreconditionerChoice::Kfac,
    ];
    for options in kinds() {
        let setting = setting(&options);
        let before = fit(&without(&[]), &options);
        for (group, way) in GROUPS.iter().zip(ways) {
            let refitted = fit(&without(group), &options);
            let at = (&setting, &options);
            let found = iterate(at, (Some(&before), way), group);
            let what = format!("{:?} {:?} {group:?}", options.method, options.head_init);
            let gradient = found.certificate.relative_gradient_norm;
            assert!(gradient <= 1e-5, "{what}: {gradient:e}");
            // The minimum itself is a start from which there is nowhere to go.
            let there = iterate(at, (Some(&refitted), way), group);
            let most = if way == PreconditionerChoice::Kfac {
                4
            } else {
                1
            };
            assert!(
                there.iterations <= most,
                "{what} {way:?}: {}",
                there.iterations
            );
            let (told, truth) = (body(&setting, options.method, &found), refitted);
            let error = relative_error(&weights(&told), &weights(&truth));
            assert!(error < 5e-5, "{what} {way:?}: {error:e}");
            let (told, truth) = (outputs(&told, &options), outputs(&truth, &options));
            let error = relative_error(&told, &truth);
            assert!(error < 5e-5, "{what} {way:?}: {error:e}");
            let cold = iterate(at, (None, way), group);
            println!(
                "{what} {way:?}: {} of {}",
                found.iterations, cold.iterations
            );
            let sooner = found.iterations <= cold.iterations;
            assert!(sooner || group.len() > N / 2, "{what} {way:?}");
        }
    }
}

/// Nothing is called forgotten because little of it was there.
#[test]
fn one_image_of_many_is_forgotten_too() {
    assert!(tolerance(1e-3, 1, 100) <= 1e-5);
    assert!(tolerance(1e-3, 1, 100_000) >= 1e-5);
    assert!(tolerance(1e-8, 50, 100) <= 1e-8);
}

/// Equation 1 against a factorisation of the kernel of what remains.
#[test]
fn the_inverse_without_a_group_is_that_of_the_rest() {
    for options in kinds() {
        let setting = setting(&options);
        let (_, dual) = posterior_of(&setting, &without(&[]));
        let q = dual.rows();
        for group in GROUPS {
            let found = DualSolution::without(&dual, group).unwrap();
            let kept = without(group);
            let row = |r: usize| kept[r / q] * q + r % q;
            let (rows, p) = (kept.len() * q, dual.target().ncols());
            let kernel = Mat::from_fn(rows, rows, |r, s| dual.kernel()[(row(r), row(s))]);
            let target = Mat::from_fn(rows, p, |r, c| dual.target()[(row(r), c)]);
            let rest = Dual::new(kernel, q, target, LAMBDA).unwrap();
            let near = |a: MatRef<'_, f64>, b: MatRef<'_, f64>| {
                let error = relative_error(&flat(a), &flat(b));
                assert!(error < 1e-8, "{group:?}: {error:e}");
            };
            near(found.inverse.as_ref(), rest.inverse());
            near(found.a.as_ref(), rest.a());
            let labels = labels(&kept);
            let y = targets(&labels, CLASSES, options.alpha);
            let left_out = found.left_out(&y, &labels, 0);
            assert_eq!(left_out.is_some(), q == 1);
            if let Some(left_out) = left_out {
                let outputs = y - rest.leave_one_out_residuals();
                let truth = error_rate(&outputs, &labels);
                assert!((left_out.leave_one_out - truth).abs() < 1e-12);
            }
            let diagonal = (0..rows).map(|r| rest.kernel()[(r, r)]).sum::<f64>() / rows as f64;
            assert!((found.mean_diagonal / diagonal - 1.0).abs() < 1e-9);

            let x = Rng::new(3).normals(rows);
            let column = Mat::from_fn(rows, 1, |r, _| x[r]);
            let image = rest.kernel() * &column + &column * Scale(LAMBDA);
            let mut back = vec![0.0; rows];
            found.apply(&flat(image.as_ref()), &mut back);
            assert!(relative_error(&back, &x) < 1e-8);
        }
    }
}
