//! The program under demands against dense normal equations in f64.

use convextune_model::images::Item;
use convextune_solve::LinearOperator;
use convextune_solve::faer::Mat;
use convextune_solve::faer::linalg::solvers::Solve;
use convextune_testkit::relative_error;

use super::demands::rows;
use super::{Demand, Solved, Wish, solve};
use crate::finetune::features::targets;
use crate::influence::Setting;
use crate::linearize::Linearization;
use crate::linearize::tests::{CLASSES, network, samples};
use crate::progress::Silent;
use crate::samples::Samples;

const N: usize = 13;
const ASKED: usize = 4;
const LAMBDA: f64 = 0.7;
const SCALE: f64 = 0.6;

fn setting(copies: usize, keep_f0: bool) -> Setting {
    let whole = network();
    let outputs = CLASSES / copies;
    let head: Vec<f32> = (0..6 * outputs).map(|i| (i as f32 * 1.3).sin()).collect();
    let network = whole
        .truncated(whole.graph().output() - 1)
        .with_head("head", outputs, &head);
    Setting {
        first_trainable: network.graph().find("blocks.0").unwrap(),
        network,
        copies,
        classes: CLASSES,
        keep_f0,
        alpha: 15.0,
        lambda: LAMBDA,
        scale: SCALE,
        batch: 4,
        largest_kernel: 1000,
        kept: None,
    }
}

fn labels() -> Vec<usize> {
    (0..N).map(|i| (i * i) % CLASSES).collect()
}

fn demand(i: usize, wish: Wish) -> Demand {
    let name = format!("{i}.png");
    let path = name.clone().into();
    Demand {
        item: Item {
            path,
            name,
            label: 0,
        },
        wish,
    }
}

fn class(i: usize, class: usize, margin: f64) -> Demand {
    demand(i, Wish::Class { class, margin })
}

fn scores(i: usize, scores: &[(usize, f64)], within: f64) -> Demand {
    let scores = scores.to_vec();
    demand(i, Wish::Scores { scores, within })
}

fn solved(setting: &Setting, demands: &[Demand]) -> Solved {
    solve(setting, (samples(N + ASKED), &labels()), demands, &Silent)
        .unwrap()
        .0
}

/// `[J S, B]` of all samples, a row an output, columns of a copy of the weights after the other; and f0.
fn dense(setting: &Setting) -> (Mat<f64>, Vec<f64>) {
    let network = setting.network.cast::<f64>();
    let all = samples(N + ASKED);
    let values = all.values().unwrap().iter().map(|x| f64::from(*x));
    let all = Samples::memory(all.shape(), values.collect());
    let lin = Linearization::new(&network, setting.first_trainable, &all, 4, &Silent).unwrap();
    let (q, d) = (lin.rows() / (N + ASKED), lin.cols());
    let p = CLASSES / q;
    let mut j = Mat::<f64>::zeros((N + ASKED) * CLASSES, p * d + CLASSES);
    for r in 0..lin.rows() {
        let (mut unit, mut row) = (vec![0.0; lin.rows()], vec![0.0; d]);
        unit[r] = 1.0;
        lin.apply_adjoint(&unit, &mut row).unwrap();
        row[lin.backbone_range()]
            .iter_mut()
            .for_each(|x| *x *= SCALE);
        for c in 0..p {
            let output = (r % q) * p + c;
            let place = r / q * CLASSES + output;
            (0..d).for_each(|k| j[(place, c * d + k)] = row[k]);
            j[(place, p * d + output)] = 1.0;
        }
    }
    let f0 = lin.f0().unwrap();
    let of = |k: usize| f0[k / CLASSES * q + k % CLASSES / p];
    (j, (0..(N + ASKED) * CLASSES).map(of).collect())
}

/// Outputs at all samples without f0, and L, of the minimum under demands: the conditions of optimality with dense
/// normal equations, one row after the other joining or leaving those that bind.
fn oracle(setting: &Setting, demands: &[Demand]) -> (Vec<f64>, f64) {
    let (j, mut f0) = dense(setting);
    if !setting.keep_f0 {
        f0.fill(0.0);
    }
    let rows = rows(demands, setting.alpha, &f0[N * CLASSES..]);
    let t = targets(&labels(), CLASSES, setting.alpha);
    let (own, d) = (N * CLASSES, j.ncols());
    let a = j.subrows(0, own);
    let t = Mat::from_fn(own, 1, |k, _| t[(k / CLASSES, k % CLASSES)] - f0[k]);
    let g = Mat::from_fn(rows.len(), d, |r, k| {
        let terms = rows[r].terms.iter();
        let place = |c: &usize| own + rows[r].picture * CLASSES + c;
        terms.map(|(c, f)| f * j[(place(c), k)]).sum::<f64>()
    });
    let mut normal = a.transpose() * a;
    (0..d - CLASSES).for_each(|k| normal[(k, k)] += LAMBDA);
    let factor = normal.partial_piv_lu();
    let (free, pull) = (
        factor.solve(a.transpose() * &t),
        factor.solve(g.transpose()),
    );
    let (at_free, gram) = (&g * &free, &g * &pull);
    let mut binding: Vec<bool> = rows.iter().map(|row| row.equality).collect();
    for _ in 0..500 {
        let set: Vec<usize> = (0..rows.len()).filter(|r| binding[*r]).collect();
        let mut mu = Mat::<f64>::zeros(rows.len(), 1);
        if !set.is_empty() {
            let block = Mat::from_fn(set.len(), set.len(), |i, k| gram[(set[i], set[k])]);
            let over = |r: usize| at_free[(r, 0)] - rows[r].bound;
            let solved = block
                .partial_piv_lu()
                .solve(Mat::from_fn(set.len(), 1, |i, _| over(set[i])));
            set.iter()
                .enumerate()
                .for_each(|(i, r)| mu[(*r, 0)] = solved[(i, 0)]);
        }
        let image = &at_free - &gram * &mu;
        // A multiplier below 0 in the unit of what its row then violates.
        let wrong = |r: usize| match (binding[r], rows[r].equality) {
            (true, true) => 0.0,
            (true, false) => -mu[(r, 0)] * gram[(r, r)],
            (false, _) => image[(r, 0)] - rows[r].bound,
        };
        let worst = (0..rows.len()).max_by(|r, s| wrong(*r).total_cmp(&wrong(*s)));
        if let Some(r) = worst.filter(|r| wrong(*r) > 1e-9) {
            binding[r] = !binding[r];
            continue;
        }
        let w = &free - &pull * &mu;
        let f = &j * &w;
        let residual = (&t - f.subrows(0, own)).squared_norm_l2();
        let weights = w.subrows(0, d - CLASSES).squared_norm_l2();
        let outputs = f.col_as_slice(0).to_vec();
        return (outputs, 0.5 * (residual + LAMBDA * weights));
    }
    panic!("the set of binding rows did not settle");
}

fn flat(m: &Mat<f64>) -> Vec<f64> {
    m.row_iter()
        .flat_map(|row| row.iter().copied().collect::<Vec<_>>())
        .collect()
}

fn settings() -> [Setting; 4] {
    [
        setting(CLASSES, false),
        setting(1, false),
        setting(1, true),
        setting(CLASSES, true),
    ]
}

#[test]
fn the_minimum_under_demands_meets_the_dense_conditions() {
    for setting in settings() {
        let mixed = mixed(&setting);
        for demands in [&mixed[..], &mixed[..1], &mixed[1..2], &mixed[2..]] {
            // A demand asks about the sample of its place.
            let first = demands[0].item.name.clone();
            let name = format!(
                "{} {} {first} {}",
                setting.copies,
                setting.keep_f0,
                demands.len()
            );
            let padded = in_place(demands);
            let Solved { point, met } = solved(&setting, &padded);
            let (expected, objective) = oracle(&setting, &padded);
            let error = relative_error(&flat(&point.asked), &expected[N * CLASSES..]);
            assert!(error < 1e-4, "{name}: {error:e}");
            let (f0, own) = (dense(&setting).1, N * CLASSES);
            let f0 = |k: usize| if setting.keep_f0 { f0[k] } else { 0.0 };
            let fitted: Vec<f64> = (0..own).map(|k| expected[k] + f0(k)).collect();
            let error = relative_error(&flat(&point.minimum.outputs), &fitted);
            assert!(error < 1e-4, "{name}: {error:e}");
            assert!(met.violation < 1e-4, "{name} {met:?}");
            assert!(met.unmet_before > 0 && met.binding > 0, "{name} {met:?}");
            assert!(met.relative_duality_gap.abs() < 1e-5, "{name} {met:?}");
            let found = point.minimum.certificate.objective;
            assert!(
                (found / objective - 1.0).abs() < 1e-5,
                "{name}: {found} {objective}"
            );
            assert!(
                met.objective_before < objective,
                "{name} {met:?} {objective}"
            );
        }
    }
}

/// Demands of all kinds, near what the model says without them.
fn mixed(setting: &Setting) -> Vec<Demand> {
    let free = solved(setting, &in_place(&[])).point.asked;
    let f0 = dense(setting).1;
    let score = |x: usize, c: usize| {
        let kept = if setting.keep_f0 {
            f0[(N + x) * CLASSES + c]
        } else {
            0.0
        };
        (free[(x, c)] + kept) / setting.alpha
    };
    let second = |x: usize| {
        let mut order: Vec<usize> = (0..CLASSES).collect();
        order.sort_by(|a, b| score(x, *b).total_cmp(&score(x, *a)));
        order[1]
    };
    let near = |x: usize, c: usize, by: f64| (c, score(x, c) + by);
    vec![
        class(0, second(0), 0.02),
        scores(1, &[near(1, 0, 0.1), near(1, 2, -0.05)], 0.0),
        scores(
            2,
            &[near(2, 0, 0.1), near(2, 1, -0.1), near(2, 2, 0.01)],
            0.05,
        ),
        class(3, second(3), 0.0),
    ]
}

/// The demands, and none but what always holds on the other pictures.
fn in_place(demands: &[Demand]) -> Vec<Demand> {
    let anything = |i: usize| scores(i, &[(0, 0.0)], 1e6);
    let of = |i: usize| {
        demands
            .iter()
            .find(|d| d.item.name == format!("{i}.png"))
            .cloned()
    };
    (0..ASKED)
        .map(|i| of(i).unwrap_or_else(|| anything(i)))
        .collect()
}

#[test]
fn demands_that_are_met_change_nothing() {
    for setting in settings() {
        let nothing: Vec<Demand> = in_place(&[]);
        let free = solved(&setting, &nothing);
        assert_eq!(
            (free.met.binding, free.met.unmet_before),
            (0, 0),
            "{:?}",
            free.met
        );
        let best = |x: usize| {
            (0..CLASSES)
                .max_by(|a, b| free.point.asked[(x, *a)].total_cmp(&free.point.asked[(x, *b)]))
        };
        // With f0, the best class is another question.
        if setting.keep_f0 {
            continue;
        }
        let said: Vec<Demand> = (0..ASKED)
            .map(|i| class(i, best(i).unwrap(), 0.0))
            .collect();
        let same = solved(&setting, &said);
        assert_eq!(same.met.binding, 0, "{:?}", same.met);
        let found = same.point.minimum.certificate.objective;
        assert!(
            (found / same.met.objective_before - 1.0).abs() < 1e-5,
            "{:?} {found}",
            same.met
        );
        assert!(
            (same.met.dual_value / found - 1.0).abs() < 1e-6,
            "{:?} {found}",
            same.met
        );
    }
}

#[test]
fn demands_that_cannot_be_met_are_refused() {
    let setting = setting(CLASSES, false);
    let both = [scores(0, &[(0, 0.2), (0, 0.8)], 0.0)];
    let data = samples(N + 1);
    let refused = solve(&setting, (data, &labels()), &both, &Silent);
    let Err(error) = refused else { panic!("met") };
    assert!(error.to_string().contains("demands"), "{error}");
}
