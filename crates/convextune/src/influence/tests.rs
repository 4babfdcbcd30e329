//! Leaving out against fitting again, in f64 against the dense primal and in f32 against the fit.

mod curved;
mod refit;
mod short;

use convextune_model::graph::Network;
use convextune_solve::LinearOperator;
use convextune_testkit::{dot, relative_error};
use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef};

use super::dual::Dual;
use crate::linearize::tests::{CLASSES, network, samples};
use crate::linearize::{CrossKernel, Linearization};
use crate::progress::Silent;
use crate::samples::Samples;

const N: usize = 13;
const QUERIES: usize = 4;
/// About a third of the kernel's mean diagonal.
const LAMBDA: f64 = 0.7;
const SCALE: f64 = 0.6;

/// The small network with `outputs` outputs, in f64.
fn wide(outputs: usize) -> Network<f64> {
    let network = network();
    let body = network.truncated(network.graph().output() - 1);
    let head: Vec<f32> = (0..6 * outputs).map(|i| (i as f32 * 1.3).sin()).collect();
    body.with_head("head", outputs, &head).cast()
}

fn wide_samples(n: usize) -> Samples<f64> {
    let samples = samples(n);
    let values = samples.values().unwrap().iter();
    Samples::memory(samples.shape(), values.map(|x| f64::from(*x)).collect())
}

/// A problem whose Jacobian is at hand: `J S` of the samples and of the queries.
struct Dense {
    j: Mat<f64>,
    queries: Mat<f64>,
    /// q.
    rows: usize,
    target: Mat<f64>,
    kernel: Mat<f64>,
    cross: CrossKernel,
}

impl Dense {
    /// From the first trained node, with `rows` outputs of the network.
    fn new(stage: &str, rows: usize) -> Self {
        let network = wide(rows);
        let all = wide_samples(N + QUERIES);
        let pick = |range: std::ops::Range<usize>| all.pick(&range.collect::<Vec<_>>()).unwrap();
        let (train, asked) = (pick(0..N), pick(N..N + QUERIES));
        let first = network.graph().find(stage).unwrap();
        let over = |samples| Linearization::new(&network, first, samples, 4, &Silent).unwrap();
        let (lin, asked) = (over(&train), over(&asked));
        let p = CLASSES / rows;
        let noise = |r: usize, c: usize| ((7 * r + 3 * c) as f64).sin();
        let right = |r: usize, c: usize| (r / rows) % CLASSES == (r % rows) * p + c;
        Self {
            j: jacobian(&lin),
            queries: jacobian(&asked),
            rows,
            target: Mat::from_fn(N * rows, p, |r, c| {
                15.0 * f64::from(u8::from(right(r, c))) + noise(r, c)
            }),
            kernel: lin.kernel(1 << 12).unwrap().kernel(SCALE),
            cross: lin.cross_kernel(&asked, SCALE, 1 << 12).unwrap(),
        }
    }

    fn dual(&self) -> Dual {
        let (kernel, target) = (self.kernel.clone(), self.target.clone());
        Dual::new(kernel, self.rows, target, LAMBDA).unwrap()
    }

    /// `[J, B]` and the penalised normal matrix of some samples, the bias last.
    fn normal(&self, kept: &[usize]) -> (Mat<f64>, Mat<f64>, Vec<usize>) {
        let q = self.rows;
        let rows: Vec<usize> = kept.iter().flat_map(|i| i * q..(i + 1) * q).collect();
        let d = self.j.ncols();
        let a = with_bias(self.j.as_ref(), q);
        let a = Mat::from_fn(rows.len(), d + q, |r, k| a[(rows[r], k)]);
        let mut normal = a.transpose() * &a;
        (0..d).for_each(|k| normal[(k, k)] += LAMBDA);
        (a, normal, rows)
    }

    /// Outputs of the fit of some samples, at all samples and at the queries, by dense primal
    /// normal equations.
    fn refit(&self, kept: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let (a, normal, rows) = self.normal(kept);
        let t = Mat::from_fn(rows.len(), self.target.ncols(), |r, c| {
            self.target[(rows[r], c)]
        });
        let u = normal.partial_piv_lu().solve(a.transpose() * t);
        let at = |j: &Mat<f64>| flat((with_bias(j.as_ref(), self.rows) * &u).as_ref());
        (at(&self.j), at(&self.queries))
    }
}

fn with_bias(j: MatRef<'_, f64>, q: usize) -> Mat<f64> {
    let d = j.ncols();
    Mat::from_fn(j.nrows(), d + q, |r, k| {
        if k < d {
            j[(r, k)]
        } else {
            f64::from(u8::from(r % q == k - d))
        }
    })
}

/// `J S`, row by row.
fn jacobian(lin: &Linearization<'_, f64>) -> Mat<f64> {
    let (rows, d) = (lin.rows(), lin.cols());
    let mut j = Mat::zeros(rows, d);
    for r in 0..rows {
        let mut unit = vec![0.0; rows];
        unit[r] = 1.0;
        let mut row = vec![0.0; d];
        lin.apply_adjoint(&unit, &mut row).unwrap();
        row[lin.backbone_range()]
            .iter_mut()
            .for_each(|x| *x *= SCALE);
        (0..d).for_each(|k| j[(r, k)] = row[k]);
    }
    j
}

/// Row-major: sample-major with the classes together, for both shapes of rows and columns.
fn flat(m: MatRef<'_, f64>) -> Vec<f64> {
    m.row_iter()
        .flat_map(|row| row.iter().copied().collect::<Vec<_>>())
        .collect()
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// A copy of the weights for every class; weights that the classes share; the head alone.
fn settings() -> [Dense; 3] {
    [
        Dense::new("blocks.0", 1),
        Dense::new("stem", CLASSES),
        Dense::new("head", 1),
    ]
}

#[test]
fn kernels_are_those_of_the_dense_jacobian() {
    for dense in settings() {
        let (j, k) = (&dense.j, &dense.queries);
        let near = |a: &Mat<f64>, b: &Mat<f64>| {
            assert!(relative_error(&flat(a.as_ref()), &flat(b.as_ref())) < 1e-12);
        };
        near(&dense.kernel, &(j * j.transpose()));
        near(&dense.cross.samples, &(j * k.transpose()));
        let (q, own) = (dense.rows, k * k.transpose());
        near(
            &dense.cross.own,
            &Mat::from_fn(q, q * QUERIES, |s, x| own[(x - x % q + s, x)]),
        );
    }
}

/// Every output of the fit, and what each sample and each group adds to it, is what fitting again
/// without them shows.
#[test]
fn a_fit_without_samples_is_predicted_to_rounding() {
    for dense in settings() {
        let dual = dense.dual();
        let queries = dual.queries(dense.cross.clone()).unwrap();
        let itself = dual.itself();
        let all: Vec<usize> = (0..N).collect();
        let (train, asked) = dense.refit(&all);
        let near = |a: &[f64], b: &[f64], what: &str| {
            let error = relative_error(a, b);
            assert!(error < 1e-9, "{what}: {error:e}");
        };
        near(&flat(dual.outputs().as_ref()), &train, "outputs");
        near(
            &flat(queries.outputs.as_ref()),
            &asked,
            "outputs at queries",
        );
        assert!(dual.residual() < 1e-12);
        let mut groups: Vec<Vec<usize>> = all.iter().map(|i| vec![*i]).collect();
        groups.extend([vec![2, 9], vec![11, 0, 5, 7], (1..N).collect()]);
        for group in &groups {
            let kept: Vec<usize> = all.iter().copied().filter(|i| !group.contains(i)).collect();
            let (train_without, asked_without) = dense.refit(&kept);
            let removal = dual.removed(group).unwrap();
            assert!(removal.residual < 1e-10, "{}", removal.residual);
            let change = flat(dual.change(&queries, &removal).as_ref());
            near(&change, &minus(&asked, &asked_without), "change at queries");
            let change = flat(dual.change(&itself, &removal).as_ref());
            near(&change, &minus(&train, &train_without), "change at samples");
            let outputs = |i: usize| train_without[i * CLASSES..(i + 1) * CLASSES].to_vec();
            let left: Vec<f64> = group.iter().flat_map(|i| outputs(*i)).collect();
            let at = |i: &usize| flat(dual.targets().subrows(*i, 1));
            let targets: Vec<f64> = group.iter().flat_map(at).collect();
            near(
                &flat(removal.residuals.as_ref()),
                &minus(&targets, &left),
                "residuals",
            );
            if let [i] = group[..] {
                let alone = flat(dual.change_without(&queries, i).as_ref());
                near(&alone, &minus(&asked, &asked_without), "one sample");
                for x in 0..QUERIES {
                    let effect = flat(dual.effects(&queries, x).subrows(i, 1));
                    near(&effect, &alone[x * CLASSES..(x + 1) * CLASSES], "one query");
                }
                assert!(dual.residual_without(i) < 1e-10);
                near(
                    &flat(dual.leave_one_out().subrows(i, 1)),
                    &left,
                    "leave-one-out",
                );
            }
        }
    }
}

/// `J~ H^-1 J~' + I/N` of the primal: the block of `[J, B] (normal matrix)^-1 [J, B]'`.
#[test]
fn the_covariance_is_that_of_the_primal() {
    for dense in settings() {
        let (dual, q) = (dense.dual(), dense.rows);
        let queries = dual.queries(dense.cross.clone()).unwrap();
        let (_, normal, _) = dense.normal(&(0..N).collect::<Vec<_>>());
        let lu = normal.partial_piv_lu();
        let covariance = |j: &Mat<f64>| {
            let a = with_bias(j.as_ref(), q);
            let all = &a * lu.solve(a.transpose());
            flat(Mat::from_fn(q, a.nrows(), |s, x| all[(x - x % q + s, x)]).as_ref())
        };
        let near = |a: &Mat<f64>, b: Vec<f64>| {
            let error = relative_error(&flat(a.as_ref()), &b);
            assert!(error < 1e-9, "{error:e}");
        };
        near(&queries.covariance, covariance(&dense.queries));
        near(&dual.itself().covariance, covariance(&dense.j));
        let leverages = dual.leverages();
        assert!(relative_error(&leverages, &dual.itself().variances()) < 1e-12);
        assert!(leverages.iter().all(|h| *h > 0.0 && *h < 1.0));
    }
}

#[test]
fn scores_are_what_they_say() {
    for dense in settings() {
        let dual = dense.dual();
        let queries = dual.queries(dense.cross.clone()).unwrap();
        let all: Vec<usize> = (0..N).collect();
        let (train, asked) = dense.refit(&all);
        let labels: Vec<usize> = all.iter().map(|i| i % CLASSES).collect();
        let (told, among) = (dual.informativeness(&queries), dual.informativeness_among());
        let (own, errors) = (dual.self_influence(), dual.leave_one_out_errors());
        let suspicions = dual.suspicions(&labels);
        let mut without = Vec::new();
        for i in 0..N {
            let kept: Vec<usize> = all.iter().copied().filter(|j| *j != i).collect();
            let (train_without, asked_without) = dense.refit(&kept);
            let square = |v: &[f64]| dot(v, v);
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()), "{a} {b}");
            near(
                told[i],
                square(&minus(&asked, &asked_without)) / QUERIES as f64,
            );
            let change = minus(&train, &train_without);
            let itself = i * CLASSES..(i + 1) * CLASSES;
            near(own[i], square(&change[itself.clone()]));
            near(among[i], (square(&change) - own[i]) / (N as f64 - 1.0));
            let (f, t) = (&train_without[itself], flat(dual.targets().subrows(i, 1)));
            near(errors[i], square(&minus(&t, f)));
            let (label, other) = (labels[i], suspicions[i].class);
            near(suspicions[i].margin, f[other] - f[label]);
            assert!(other != label && (0..CLASSES).all(|c| c == label || f[c] <= f[other]));
            without.push(f.to_vec());
        }
        surprises_are_those_of_the_best_temperature(&dual, &without);
    }
}

/// Labels that the fits without them mostly support, every fourth one wrong: their improbability is the least that
/// a scan of temperatures finds.
fn surprises_are_those_of_the_best_temperature(dual: &Dual, without: &[Vec<f64>]) {
    let best = |f: &Vec<f64>| (0..CLASSES).max_by(|a, b| f[*a].total_cmp(&f[*b])).unwrap();
    let shifted = |(i, f)| (best(f) + usize::from(i % 4 == 0)) % CLASSES;
    let labels: Vec<usize> = without.iter().enumerate().map(shifted).collect();
    let told: Vec<f64> = dual
        .suspicions(&labels)
        .iter()
        .map(|s| s.surprise)
        .collect();
    let surprise = |t: f64, i: usize| {
        let all: f64 = without[i].iter().map(|f| (t * f).exp()).sum();
        all.ln() - t * without[i][labels[i]]
    };
    let sum = |t: f64| (0..N).map(|i| surprise(t, i)).sum::<f64>();
    let scan = (-2000..2000).map(|k| (5e-3 * f64::from(k)).exp());
    let t = scan.min_by(|a, b| sum(*a).total_cmp(&sum(*b))).unwrap();
    assert!(sum(t) < 0.9 * sum(0.0), "the outputs support no label");
    let sum_told: f64 = told.iter().sum();
    assert!(sum_told <= sum(t) + 1e-9 && sum_told > sum(t) * (1.0 - 1e-4));
    for (i, told) in told.iter().enumerate() {
        assert!((told - surprise(t, i)).abs() < 0.02 * (1.0 + told), "{i}");
    }
}

/// A sample that is in the set twice is its own nearest, whatever else is like it.
#[test]
fn the_same_picture_twice_is_found() {
    let dense = Dense::new("stem", CLASSES);
    let twice = |r: usize| if r / CLASSES == 4 { r + 6 * CLASSES } else { r };
    let j = Mat::from_fn(dense.j.nrows(), dense.j.ncols(), |r, k| {
        dense.j[(twice(r), k)]
    });
    let dual = Dual::new(&j * j.transpose(), CLASSES, dense.target.clone(), LAMBDA).unwrap();
    let nearest = dual.nearest();
    assert_eq!((nearest[4].sample, nearest[10].sample), (10, 4));
    assert!((nearest[4].cosine - 1.0).abs() < 1e-9);
    let others = nearest
        .iter()
        .enumerate()
        .filter(|(i, _)| ![4, 10].contains(i));
    assert!(others.into_iter().all(|(_, n)| n.cosine < 1.0 - 1e-6));
}

#[test]
fn groups_that_cannot_be_are_refused() {
    let dual = Dense::new("head", 1).dual();
    for (group, part) in [
        (vec![1, 1], "twice"),
        (vec![N], "no sample 13"),
        ((0..N).collect(), "no sample would be left"),
    ] {
        let error = dual.removed(&group).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
