//! From a dual point to a minimum: what is told of it, and what it takes.

use convextune_solve::quadratic::RidgeProblem;
use convextune_solve::{Centred, Certificate, Scaled};

use super::*;

/// From a wrong dual point, conjugate gradients find the minimum, and what they report is true.
#[test]
fn a_point_that_misses_the_tolerance_is_improved() {
    for options in kinds() {
        let setting = setting(&options);
        let (linearised, dual) = posterior_of(&setting, &without(&[]));
        let mut solution = DualSolution::of(&dual);
        let mut rng = Rng::new(8);
        let size = solution.a.norm_max();
        for c in 0..solution.a.ncols() {
            let column = solution.a.col_as_slice_mut(c);
            column
                .iter_mut()
                .for_each(|a| *a += 0.3 * size * rng.normal());
        }
        let found = minimum(&linearised, &setting, &solution, &options, &Silent).unwrap();
        assert!(found.iterations > 0);
        assert!(found.certificate.relative_gradient_norm <= options.tolerance);
        let truth = fit(&without(&[]), &options);
        let error = relative_error(
            &weights(&body(&setting, options.method, &found)),
            &weights(&truth),
        );
        assert!(error < 1e-4, "{error:e}");
    }
}

/// At a point far from the minimum the certificate's gradient, taken through the kernel, is that of fresh products.
#[test]
fn the_certificate_is_that_of_the_point() {
    for options in kinds() {
        let setting = setting(&options);
        let (mut linearised, dual) = posterior_of(&setting, &without(&[]));
        let group = GROUPS[1];
        let mut solution = DualSolution::without(&dual, group).unwrap();
        linearised.retain(&(0..N).map(|i| !group.contains(&i)).collect::<Vec<_>>());
        let (q, rows) = (dual.rows(), solution.a.nrows());
        for c in 0..solution.a.ncols() {
            // Twice the solution plus a wave without class means.
            let a = solution.a.col_as_slice_mut(c);
            let wave = |r: usize| {
                (((r / q) % 2) as f64 - 0.5) * f64::from(u8::from(r / q < rows / q / 2 * 2))
            };
            a.iter_mut()
                .enumerate()
                .for_each(|(r, a)| *a = 2.0 * *a + 0.01 * wave(r));
        }
        let anything = FitOptions {
            tolerance: f64::INFINITY,
            ..options.clone()
        };
        let found = minimum(&linearised, &setting, &solution, &anything, &Silent).unwrap();
        assert_eq!(found.iterations, 0);
        let fresh = linearised.with(&Silent, |lin| {
            let jacobian = Copies::new(lin, setting.copies)?;
            let scaled = Scaled::new(&jacobian, jacobian.backbone_range(), setting.scale)?;
            let centred = Centred::new(&scaled, setting.classes)?;
            let target = centred.target(&flat(solution.target.as_ref()))?;
            let problem = RidgeProblem::new(&centred, target, setting.lambda)?;
            let mut v = found.u.clone();
            let backbone = jacobian.backbone_range();
            v[backbone].iter_mut().for_each(|v| *v /= setting.scale);
            Ok(Certificate::compute(&problem, &v)?)
        });
        let (told, fresh) = (found.certificate, fresh.unwrap());
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-4, "{a} {b}");
        near(told.objective, fresh.objective);
        near(told.gradient_norm, fresh.gradient_norm);
        near(told.relative_gradient_norm, fresh.relative_gradient_norm);
        assert!(told.relative_gradient_norm > 0.01);
    }
}

#[test]
fn work_is_counted() {
    let options = &kinds()[0];
    let (linearised, dual) = posterior_of(&setting(options), &without(&[]));
    let kernel = linearised.work();
    assert!(kernel.passes > 0.0 && kernel.vjps > 0);
    let solution = DualSolution::of(&dual);
    let found = minimum(&linearised, &setting(options), &solution, options, &Silent).unwrap();
    let work = found.solver_work;
    assert_eq!((work.passes, work.jvps, work.vjps), (2.0, 1, 1));
    let all = linearised.work() - kernel;
    assert_eq!((all.passes, all.jvps, all.vjps), (2.0, 1, 1));
}
