//! Preconditioned conjugate gradients for several right-hand sides of one system, side by side.
//!
//! The iteration of [`super::pcg`] for every column of `H X = B`, with step lengths of its own; one product with H
//! serves all columns, which is what it is for: where a product is a pass over the data, k systems cost the passes of
//! the slowest. Columns are stored entry by entry (`n x k`, row-major), as [`super::Columns`] has them, which makes a
//! preconditioner of one column one of all.
//!
//! From the start at zero `<b, x>` grows from iteration to iteration towards `<b, H^-1 b>` and never beyond (Hestenes
//! and Stiefel 1952, theorem 6:1): a leverage computed so is never too large, however early the iteration is stopped.

use super::pcg::SymmetricOperator;
use super::preconditioner::Preconditioner;
use super::ridge::PcgOptions;
use crate::dense::ratio;
use crate::error::{SolveError, check_finite, check_len};

/// The columns that were reached.
#[derive(Clone, Debug)]
pub struct Several {
    /// X, `n x k`, row-major.
    pub x: Vec<f64>,
    /// `B - H X`, `n x k`, by a product of its own at the end.
    pub r: Vec<f64>,
    /// `||b - H x|| / ||b||` of every column.
    pub residuals: Vec<f64>,
    /// Iterations, the same for all.
    pub iterations: usize,
}

/// Solves `H X = B` for the `columns` columns of `b`, from zero, with a preconditioner for all of them, until every relative residual is at most the
/// tolerance, or for as many iterations as are allowed. `watch` is told the iterations done and the largest relative residual.
///
/// # Errors
/// When lengths disagree, an entry is not finite, or the operator fails.
pub fn solve_several(
    operator: &dyn SymmetricOperator,
    preconditioner: &dyn Preconditioner,
    b: &[f64],
    columns: usize,
    options: &PcgOptions,
    watch: &mut dyn FnMut(usize, f64),
) -> Result<Several, SolveError> {
    let k = columns.max(1);
    check_len("right-hand sides", operator.dim(), b.len())?;
    check_len("right-hand sides", preconditioner.dim(), b.len())?;
    check_finite("right-hand sides", b)?;
    let reference = norms(b, k);
    let mut x = vec![0.0; b.len()];
    let mut r = b.to_vec();
    let mut z = vec![0.0; b.len()];
    preconditioner.apply(&r, &mut z);
    let mut p = z.clone();
    let mut rho = inner(&r, &z, k);
    let mut q = vec![0.0; b.len()];
    let mut iterations = 0;
    loop {
        let relative: Vec<f64> = relative(&r, &reference).collect();
        watch(iterations, relative.iter().copied().fold(0.0, f64::max));
        let ended = relative.iter().all(|r| *r <= options.tolerance);
        if ended || iterations >= options.max_iterations {
            break;
        }
        operator.apply(&p, &mut q)?;
        let alpha = divided(&rho, &inner(&p, &q, k));
        add(&mut x, &alpha, &p);
        let back: Vec<f64> = alpha.iter().map(|a| -a).collect();
        add(&mut r, &back, &q);
        preconditioner.apply(&r, &mut z);
        let next = inner(&r, &z, k);
        let beta = divided(&next, &rho);
        for (p, z) in p.chunks_exact_mut(k).zip(z.chunks_exact(k)) {
            for ((p, z), beta) in p.iter_mut().zip(z).zip(&beta) {
                *p = z + beta * *p;
            }
        }
        rho = next;
        iterations += 1;
    }
    check_finite("solution", &x)?;
    operator.apply(&x, &mut q)?;
    r.iter_mut()
        .zip(b.iter().zip(&q))
        .for_each(|(r, (b, q))| *r = b - q);
    Ok(Several {
        residuals: relative(&r, &reference).collect(),
        x,
        r,
        iterations,
    })
}

/// `<x_j, y_j>` of every column.
fn inner(x: &[f64], y: &[f64], k: usize) -> Vec<f64> {
    let mut sums = vec![0.0; k];
    for (x, y) in x.chunks_exact(k).zip(y.chunks_exact(k)) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums
}

fn norms(x: &[f64], k: usize) -> Vec<f64> {
    inner(x, x, k).into_iter().map(f64::sqrt).collect()
}

/// `x_j += alpha_j p_j`.
fn add(x: &mut [f64], alpha: &[f64], p: &[f64]) {
    let k = alpha.len();
    for (x, p) in x.chunks_exact_mut(k).zip(p.chunks_exact(k)) {
        for ((x, p), alpha) in x.iter_mut().zip(p).zip(alpha) {
            *x += alpha * p;
        }
    }
}

/// `a / b`, 0 for a column that has ended.
fn divided(a: &[f64], b: &[f64]) -> Vec<f64> {
    let quotient = |(a, b): (&f64, &f64)| if *b > 0.0 { a / b } else { 0.0 };
    a.iter().zip(b).map(quotient).collect()
}

/// Relative residuals; 0 for a right-hand side that is zero.
fn relative(r: &[f64], reference: &[f64]) -> impl Iterator<Item = f64> {
    let norms = norms(r, reference.len()).into_iter().zip(reference);
    norms.map(|(r, b)| ratio(r, *b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::OperatorError;
    use crate::quadratic::{Columns, Pcg};
    use faer::Mat;
    use faer::linalg::solvers::Solve;

    const N: usize = 9;
    const K: usize = 3;

    /// A dense matrix on every column.
    struct Dense(Mat<f64>, usize);

    impl SymmetricOperator for Dense {
        fn dim(&self) -> usize {
            N * self.1
        }
        fn apply(&self, x: &[f64], y: &mut [f64]) -> Result<(), OperatorError> {
            let k = self.1;
            for j in 0..k {
                for p in 0..N {
                    y[p * k + j] = (0..N).map(|q| self.0[(p, q)] * x[q * k + j]).sum();
                }
            }
            Ok(())
        }
    }

    struct Diagonal(Vec<f64>);

    impl Preconditioner for Diagonal {
        fn dim(&self) -> usize {
            N
        }
        fn apply(&self, r: &[f64], z: &mut [f64]) {
            z.iter_mut()
                .zip(r)
                .zip(&self.0)
                .for_each(|((z, r), d)| *z = r / d);
        }
    }

    fn matrix() -> Mat<f64> {
        let a = Mat::from_fn(N, N, |i, j| ((i * i + 3 * i * j + 5 * j) as f64).sin());
        &a * a.transpose() + Mat::<f64>::identity(N, N) * faer::Scale(0.1)
    }

    fn sides() -> Vec<f64> {
        // Of different sizes; the last is zero.
        let size = [1.0, 1e3, 0.0];
        (0..N * K)
            .map(|i| size[i % K] * (7.0 * i as f64).cos())
            .collect()
    }

    fn column(x: &[f64], j: usize) -> Vec<f64> {
        x.iter().skip(j).step_by(K).copied().collect()
    }

    #[test]
    fn every_column_is_solved_as_if_it_were_alone() {
        let (h, b) = (matrix(), sides());
        let diagonal = Diagonal((0..N).map(|i| h[(i, i)]).collect());
        for iterations in [1, 3, 40] {
            let options = PcgOptions {
                tolerance: 1e-12,
                max_iterations: iterations,
            };
            let found = solve_several(
                &Dense(h.clone(), K),
                &Columns(&diagonal, K),
                &b,
                K,
                &options,
                &mut |_, _| {},
            )
            .unwrap();
            for j in 0..2 {
                let one = Dense(h.clone(), 1);
                let mut alone = Pcg::new(&one, &diagonal, &column(&b, j), None).unwrap();
                while alone.state().iteration < found.iterations {
                    alone.step().unwrap();
                }
                let error = relative(&column(&found.x, j), &alone.state().x);
                assert!(error < 1e-6, "{iterations} {j} {error:e}");
            }
            assert!(column(&found.x, 2).iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn the_end_is_the_solution_and_its_residuals_are_measured() {
        let (h, b) = (matrix(), sides());
        let diagonal = Diagonal(vec![1.0; N]);
        let options = |max_iterations| PcgOptions {
            tolerance: 1e-10,
            max_iterations,
        };
        let watched = std::cell::RefCell::new(Vec::new());
        let solve = |n| {
            watched.borrow_mut().clear();
            solve_several(
                &Dense(h.clone(), K),
                &Columns(&diagonal, K),
                &b,
                K,
                &options(n),
                &mut |iteration, residual| watched.borrow_mut().push((iteration, residual)),
            )
            .unwrap()
        };
        let found = solve(200);
        let seen = watched.borrow().clone();
        assert!(seen.iter().map(|s| s.0).eq(0..=found.iterations));
        assert!((seen[0].1 - 1.0).abs() < 1e-12 && seen[found.iterations].1 <= 1e-10);
        let exact = h.llt(faer::Side::Lower).unwrap();
        let mut before = 0.0;
        for j in 0..2 {
            let side = column(&b, j);
            let x = exact.solve(crate::factor::column(&side));
            assert!(relative(&column(&found.x, j), x.col_as_slice(0)) < 1e-7);
        }
        assert!(found.residuals.iter().all(|r| *r < 1e-9), "{found:?}");
        let truth = inner(&b, &found.x, K)[0];
        for n in 1..6 {
            let early = solve(n);
            let leverage = inner(&b, &early.x, K)[0];
            assert!(leverage > before && leverage < truth * (1.0 + 1e-9), "{n}");
            before = leverage;
            let (x, side) = (column(&early.x, 0), column(&b, 0));
            let error = (0..N).map(|p| {
                let product: f64 = (0..N).map(|q| h[(p, q)] * x[q]).sum();
                (side[p] - product).powi(2)
            });
            let residual = (error.sum::<f64>() / norms(&side, 1)[0].powi(2)).sqrt();
            assert!((residual - early.residuals[0]).abs() < 1e-9);
        }
    }

    fn relative(a: &[f64], b: &[f64]) -> f64 {
        let error: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        norms(&error, 1)[0] / norms(b, 1)[0]
    }
}
