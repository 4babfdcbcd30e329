//! Preconditioners against elimination on the matrices they stand for.
#![allow(missing_docs, clippy::unwrap_used, clippy::float_cmp)]

mod common;

use common::{Matrix, ridge, ridge_with_bias};
use convextune_solve::faer::Mat;
use convextune_solve::quadratic::{
    Block, BlockPreconditioner, ChannelBlocks, Identity, Intercept, KroneckerBlock, PcgOptions,
    Preconditioner, RidgeProblem, Sketch, SketchForm, SketchedKernel, Start, solve_dual,
    solve_primal,
};
use convextune_solve::{Centred, Quiet, SolveError, Status};
use convextune_testkit::{Rng, dot, relative_error};

fn apply(preconditioner: &dyn Preconditioner, r: &[f64]) -> Vec<f64> {
    let mut z = vec![f64::NAN; r.len()];
    preconditioner.apply(r, &mut z);
    z
}

fn sketch_of(z: &Matrix, classes: usize) -> Sketch {
    let rows = z.entries.iter().map(|x| *x as f32).collect();
    Sketch {
        rows,
        width: z.cols,
        classes,
    }
}

/// Rounded to single precision, so that a sketch holds it exactly.
fn single(m: &Matrix) -> Matrix {
    Matrix::from_fn(m.rows, m.cols, |i, j| f64::from(m.at(i, j) as f32))
}

fn projection(samples: usize, classes: usize) -> Matrix {
    let mean = 1.0 / samples as f64;
    Matrix::from_fn(samples, samples, |i, j| f64::from(u8::from(i == j)) - mean)
        .kron_identity(classes)
}

fn sum(a: &Matrix, b: &Matrix) -> Matrix {
    Matrix::from_fn(a.rows, a.cols, |i, j| a.at(i, j) + b.at(i, j))
}

#[test]
fn both_forms_invert_the_sketched_kernel() {
    let rng = &mut Rng::new(1);
    let (samples, classes) = (6, 2);
    for width in [3, 5, 20] {
        let z = single(&Matrix::random(samples * classes, width, rng));
        let phi = Matrix::random(samples, 4, rng);
        let r = rng.normals(samples * classes);
        for (with_head, bias, lambda) in [
            (false, Intercept::None, 0.5),
            (true, Intercept::None, 0.5),
            (false, Intercept::Free, 2.0),
            (true, Intercept::Free, 0.05),
        ] {
            let mut kernel = z.times(&z.transpose());
            if with_head {
                kernel = sum(&kernel, &phi.times(&phi.transpose()).kron_identity(classes));
            }
            if bias == Intercept::Free {
                let p = projection(samples, classes);
                kernel = p.times(&kernel).times(&p);
            }
            let expected = kernel.plus_diagonal(lambda).solve(&r);
            for form in [SketchForm::Auto, SketchForm::Gram, SketchForm::Woodbury] {
                let head = phi.faer();
                let head = with_head.then_some(head.as_ref());
                let sketched =
                    SketchedKernel::new(sketch_of(&z, classes), head, bias, form).unwrap();
                let z = apply(sketched.factorise(lambda).unwrap().as_ref(), &r);
                assert!(
                    relative_error(&z, &expected) < 1e-4,
                    "{form:?}, in single precision"
                );
            }
        }
    }
}

#[test]
fn without_rounding_woodbury_is_exact() {
    // Small integers: single precision loses nothing, and neither form may.
    let z = Matrix::from_fn(12, 4, |i, j| ((i * 5 + j * 3) % 7) as f64 - 3.0);
    let r: Vec<f64> = (0..12).map(|i| f64::from(i) - 4.0).collect();
    let expected = z.times(&z.transpose()).plus_diagonal(0.25).solve(&r);
    for form in [SketchForm::Gram, SketchForm::Woodbury] {
        let sketched = SketchedKernel::new(sketch_of(&z, 3), None, Intercept::None, form).unwrap();
        assert!(relative_error(&apply(&*sketched.factorise(0.25).unwrap(), &r), &expected) < 1e-11);
    }
}

#[test]
fn the_auto_form_follows_the_size() {
    let z = Matrix::from_fn(6, 5, |i, j| (i + j) as f64);
    let new = |z: &Matrix| {
        SketchedKernel::new(sketch_of(z, 2), None, Intercept::None, SketchForm::Auto).unwrap()
    };
    assert!(new(&z).kernel().is_none());
    let wide = new(&Matrix::from_fn(6, 7, |i, j| (i + j) as f64));
    assert_eq!(wide.kernel().unwrap().nrows(), 6);
}

#[test]
fn an_exact_sketch_solves_at_once_and_a_rough_one_saves_iterations() {
    let rng = &mut Rng::new(2);
    let (samples, classes, features) = (20, 2, 12);
    let phi = Matrix::random(samples, features, rng);
    let body = single(&Matrix::from_fn(40, 60, |i, j| {
        ((i * 31 + j * 17) as f64).sin() * 4.0 / (1.0 + j as f64)
    }));
    // A = [body, Phi (x) I_C]: columns of the body first.
    let head = phi.kron_identity(classes);
    let a = Matrix::from_fn(40, 60 + head.cols, |i, j| {
        if j < 60 {
            body.at(i, j)
        } else {
            head.at(i, j - 60)
        }
    });
    let t = rng.normals(40);
    let lambda = 0.02;
    let (u, _) = ridge_with_bias(&a, &t, lambda, classes);
    let inner = a.operator();
    let centred = Centred::new(&inner, classes).unwrap();
    let problem = RidgeProblem::new(&centred, centred.target(&t).unwrap(), lambda).unwrap();
    let options = PcgOptions {
        tolerance: 1e-9,
        max_iterations: 300,
    };
    let run = |preconditioner: &dyn Preconditioner| {
        let solution = solve_dual(&problem, preconditioner, &options, Start::Zero, &mut Quiet);
        let solution = solution.unwrap();
        assert_eq!(solution.status, Status::Converged);
        assert!(relative_error(&solution.x, &u) < 1e-7);
        solution.iterations
    };
    let plain = run(&Identity(40));
    let rough = Matrix::from_fn(40, 8, |i, j| body.at(i, j));
    for form in [SketchForm::Gram, SketchForm::Woodbury] {
        let with = |z: &Matrix| {
            let (sketch, head) = (sketch_of(z, classes), phi.faer());
            let bias = Intercept::Free;
            let kernel = SketchedKernel::new(sketch, Some(head.as_ref()), bias, form).unwrap();
            run(kernel.factorise(lambda).unwrap().as_ref())
        };
        assert!(
            with(&body) <= 5,
            "the sketch is the operator itself, but for single precision"
        );
        assert!(with(&rough) < plain, "a few columns already help");
    }
}

/// A random symmetric positive definite matrix.
fn spd(n: usize, rng: &mut Rng) -> Matrix {
    let root = Matrix::random(n, n + 2, rng);
    root.times(&root.transpose())
}

/// The matrix of `W -> A W G` on row-major `W`.
fn kronecker(a: &Matrix, g: &Matrix) -> Matrix {
    let (m, n) = (a.rows, g.rows);
    Matrix::from_fn(m * n, m * n, |p, q| a.at(p / n, q / n) * g.at(p % n, q % n))
}

#[test]
fn kronecker_blocks_invert_exactly_with_their_lambda() {
    let rng = &mut Rng::new(3);
    let (a, g) = (spd(4, rng), spd(3, rng));
    let block = KroneckerBlock::new(a.faer().as_ref(), g.faer().as_ref()).unwrap();
    let r = rng.normals(12);
    for lambda in [0.1, 10.0] {
        let blocks = vec![(0..12, Block::Kronecker(block.clone()))];
        let preconditioner = BlockPreconditioner::new(blocks, lambda).unwrap();
        let expected = kronecker(&a, &g).plus_diagonal(lambda).solve(&r);
        assert!(relative_error(&apply(&preconditioner, &r), &expected) < 1e-10);
    }
}

#[test]
fn ekfac_eigenvalues_replace_the_products() {
    let rng = &mut Rng::new(4);
    let (a, g) = (spd(3, rng), spd(2, rng));
    let block = KroneckerBlock::new(a.faer().as_ref(), g.faer().as_ref()).unwrap();
    // The matrix U of the basis: column p of U is what rotate's adjoint makes of unit vector p.
    let unit = |p: usize| {
        (0..6)
            .map(|q| f64::from(u8::from(p == q)))
            .collect::<Vec<_>>()
    };
    let columns: Vec<Vec<f64>> = (0..6).map(|q| block.rotate(&unit(q)).unwrap()).collect();
    let rotation = Matrix::from_fn(6, 6, |p, q| columns[q][p]);
    let s = [0.5, 0.0, 2.0, 7.0, 1.0, 3.0];
    let diagonal = Matrix::from_fn(6, 6, |p, q| if p == q { s[p] } else { 0.0 });
    let f = rotation.transpose().times(&diagonal).times(&rotation);
    let r = rng.normals(6);
    let block = block.with_eigenvalues(s.to_vec()).unwrap();
    let blocks = vec![(0..6, Block::Kronecker(block.clone()))];
    let preconditioner = BlockPreconditioner::new(blocks, 0.3).unwrap();
    let expected = f.plus_diagonal(0.3).solve(&r);
    assert!(relative_error(&apply(&preconditioner, &r), &expected) < 1e-10);
    assert!(block.clone().with_eigenvalues(vec![-1.0; 6]).is_err());
    assert!(block.with_eigenvalues(vec![1.0; 5]).is_err());
}

#[test]
fn channel_blocks_are_strided() {
    let rng = &mut Rng::new(5);
    let (channels, size, lambda) = (3, 4, 0.2);
    let blocks: Vec<Matrix> = (0..channels).map(|_| spd(size, rng)).collect();
    let r = rng.normals(channels * size);
    let mut expected = vec![0.0; r.len()];
    for (c, block) in blocks.iter().enumerate() {
        let part: Vec<f64> = (0..size).map(|j| r[j * channels + c]).collect();
        for (j, x) in block
            .plus_diagonal(lambda)
            .solve(&part)
            .into_iter()
            .enumerate()
        {
            expected[j * channels + c] = x;
        }
    }
    let matrices: Vec<Mat<f64>> = blocks.iter().map(Matrix::faer).collect();
    let block = Block::Channels(ChannelBlocks::new(&matrices).unwrap());
    let preconditioner = BlockPreconditioner::new(vec![(0..12, block)], lambda).unwrap();
    assert!(relative_error(&apply(&preconditioner, &r), &expected) < 1e-11);
}

#[test]
fn blocks_are_put_together_and_lambda_changes_for_free() {
    let blocks = || {
        vec![
            (0..2, Block::Diagonal(vec![1.0, 3.0])),
            (
                2..4,
                Block::Scaled {
                    len: 2,
                    curvature: 0.0,
                },
            ),
        ]
    };
    let preconditioner = BlockPreconditioner::new(blocks(), 1.0).unwrap();
    assert_eq!(
        apply(&preconditioner, &[2.0, 4.0, 5.0, 6.0]),
        vec![1.0, 1.0, 5.0, 6.0]
    );
    let preconditioner = preconditioner.with_lambda(5.0).unwrap();
    assert_eq!(
        apply(&preconditioner, &[6.0, 8.0, 5.0, 10.0]),
        vec![1.0, 1.0, 1.0, 2.0]
    );
    let mut gap = blocks();
    gap[1].0 = 3..5;
    assert!(matches!(
        BlockPreconditioner::new(gap, 1.0),
        Err(SolveError::Shape { .. })
    ));
    let mut short = blocks();
    short[1].0 = 2..3;
    assert!(matches!(
        BlockPreconditioner::new(short, 1.0),
        Err(SolveError::Shape { .. })
    ));
    let negative = vec![(0..1, Block::Diagonal(vec![-1.0]))];
    assert!(BlockPreconditioner::new(negative, 1.0).is_err());
}

#[test]
fn the_exact_kronecker_preconditioner_solves_a_kronecker_problem_at_once() {
    let rng = &mut Rng::new(6);
    let (x, y) = (Matrix::random(7, 4, rng), Matrix::random(5, 3, rng));
    let a = Matrix::from_fn(35, 12, |p, q| x.at(p / 5, q / 3) * y.at(p % 5, q % 3));
    let gram = |m: &Matrix| m.transpose().times(m).faer();
    let block = KroneckerBlock::new(gram(&x).as_ref(), gram(&y).as_ref()).unwrap();
    let preconditioner =
        BlockPreconditioner::new(vec![(0..12, Block::Kronecker(block))], 0.1).unwrap();
    let (operator, t) = (a.operator(), rng.normals(35));
    let problem = RidgeProblem::new(&operator, t.clone(), 0.1).unwrap();
    let options = PcgOptions {
        tolerance: 1e-10,
        max_iterations: 50,
    };
    let solution =
        solve_primal(&problem, &preconditioner, &options, Start::Zero, &mut Quiet).unwrap();
    assert!(solution.iterations <= 2);
    assert!(relative_error(&solution.x, &ridge(&a, &t, 0.1)) < 1e-9);
}

#[test]
fn every_preconditioner_is_symmetric() {
    let rng = &mut Rng::new(7);
    let z = Matrix::random(12, 5, rng);
    let phi = Matrix::random(6, 3, rng).faer();
    for form in [SketchForm::Gram, SketchForm::Woodbury] {
        let (sketch, head) = (sketch_of(&z, 2), Some(phi.as_ref()));
        let kernel = SketchedKernel::new(sketch, head, Intercept::Free, form).unwrap();
        let preconditioner = kernel.factorise(0.1).unwrap();
        let (p, q) = (rng.normals(12), rng.normals(12));
        let left = dot(&p, &apply(preconditioner.as_ref(), &q));
        let right = dot(&q, &apply(preconditioner.as_ref(), &p));
        assert!((left - right).abs() < 1e-10 * left.abs().max(1.0));
    }
}

/// Several columns at once, of more rows than are multiplied at a time, are as each by itself.
#[test]
fn columns_together_are_as_one_by_one() {
    let (rng, columns) = (&mut Rng::new(8), 3);
    let (samples, classes) = (650, 2);
    let z = Matrix::random(samples * classes, 5, rng);
    let phi = Matrix::random(samples, 3, rng).faer();
    let r = Mat::from_fn(samples * classes, columns, |_, _| rng.normal());
    let check = |m: &dyn Preconditioner| {
        let mut together = r.clone();
        m.apply_columns(together.as_mut());
        for j in 0..columns {
            let one = apply(m, r.col_as_slice(j));
            assert!(relative_error(together.col_as_slice(j), &one) < 1e-12);
        }
    };
    for form in [SketchForm::Gram, SketchForm::Woodbury] {
        let (sketch, head) = (sketch_of(&z, classes), Some(phi.as_ref()));
        let kernel = SketchedKernel::new(sketch, head, Intercept::Free, form).unwrap();
        check(kernel.factorise(0.1).unwrap().as_ref());
    }
    check(&Identity(samples * classes));
}

#[test]
fn malformed_sketches_are_refused() {
    let new = |rows: Vec<f32>, width: usize, classes: usize| {
        let sketch = Sketch {
            rows,
            width,
            classes,
        };
        SketchedKernel::new(sketch, None, Intercept::None, SketchForm::Auto)
    };
    assert!(new(vec![1.0; 12], 3, 2).is_ok());
    assert!(new(vec![1.0; 12], 5, 1).is_err());
    assert!(new(vec![1.0; 12], 4, 2).is_err());
    assert!(new(vec![], 3, 2).is_err());
    assert!(new(vec![1.0; 12], 0, 2).is_err());
    assert!(new(vec![f32::NAN; 12], 3, 2).is_err());
}
