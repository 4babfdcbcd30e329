use super::*;

/// Weights shared among the classes.
fn shared() -> FitOptions {
    FitOptions {
        head_init: HeadInit::Random,
        ..FitOptions::default()
    }
}

fn sizes(samples: usize, classes: usize) -> Sizes {
    Sizes {
        samples,
        classes,
        copies: 1,
        weights: 3_400_000,
        forward: 4e8,
        kernel_runs: samples * classes / 140 + 1,
        largest_kernel: 20_000,
    }
}

#[test]
fn few_rows_take_the_closed_form_and_more_the_sketch_that_the_prior_needs() {
    let options = shared();
    assert_eq!(plan(&sizes(10, 2), &options).solver, SolverChoice::Dual);
    let larger = plan(&sizes(200, 10), &options);
    assert_eq!(
        (larger.solver, larger.precondition),
        (SolverChoice::Pcg, PreconditionerChoice::Sketch)
    );
}

/// One kernel for all classes is formed whatever it costs, up to a size.
#[test]
fn copies_of_the_weights_take_the_closed_form() {
    let solver = |samples| plan(&sizes(samples, 1), &FitOptions::default()).solver;
    assert_eq!(solver(LARGEST_COMMON), SolverChoice::Dual);
    assert_eq!(solver(LARGEST_COMMON + 1), SolverChoice::Pcg);
}

fn found(plain: usize, features: usize, freedom: f64) -> Iterations {
    Iterations {
        rows: 5000,
        plain,
        features,
        freedom,
    }
}

#[test]
fn many_rows_wait_for_the_prior_and_take_what_is_cheapest_under_it() {
    let (sizes, options) = (sizes(2000, 100), shared());
    let open = plan(&sizes, &options);
    assert_eq!(open.precondition, PreconditionerChoice::Auto);
    let with = |plain, features, freedom| {
        let found = found(plain, features, freedom);
        open.settled(&sizes, found, &options).precondition
    };
    assert_eq!(with(20, 6, 20.0), PreconditionerChoice::Features);
    assert_eq!(with(6, 6, 20.0), PreconditionerChoice::None);
    assert_eq!(with(200, 100, 20.0), PreconditionerChoice::Sketch);
    assert_eq!(with(200, 100, 100.0), PreconditionerChoice::Features);
}

fn last_layer() -> Sizes {
    Sizes {
        copies: 100,
        weights: 400_000,
        forward: 1.6e6,
        ..sizes(13_000, 1)
    }
}

/// Beyond the size up to which it always is, the kernel is formed where every other way is dearer, memory holds it and
/// nothing was asked for.
#[test]
fn a_large_kernel_is_formed_where_that_is_cheap() {
    let last_layer = last_layer();
    let options = FitOptions::default();
    let with = |sizes: &Sizes, freedom, options: &FitOptions| {
        let plan = plan(sizes, options).settled(sizes, found(300, 300, freedom), options);
        (plan.solver, plan.precondition)
    };
    let (sketch, none) = (PreconditionerChoice::Sketch, PreconditionerChoice::None);
    let dual = (SolverChoice::Dual, none);
    assert_eq!(with(&last_layer, 4900.0, &options), dual);
    assert_eq!(
        with(&last_layer, 50.0, &options),
        (SolverChoice::Pcg, sketch)
    );
    let too_large = Sizes {
        largest_kernel: 12_999,
        ..last_layer
    };
    assert_ne!(with(&too_large, 4900.0, &options), dual);
    let asked = FitOptions {
        solver: SolverChoice::Pcg,
        ..options
    };
    assert_ne!(with(&last_layer, 4900.0, &asked), dual);
}

/// The more degrees of freedom, the larger the sketch; k = d / r^2 with a factor r an iteration.
#[test]
fn a_sketch_is_as_large_as_the_fit_is_free() {
    let with = |sizes: &Sizes, freedom, options: &FitOptions| {
        plan(sizes, options).settled(sizes, found(300, 300, freedom), options)
    };
    let options = FitOptions {
        solver: SolverChoice::Pcg,
        ..FitOptions::default()
    };
    let size = |freedom| with(&last_layer(), freedom, &options).sketch_size;
    assert!(size(5.0) < size(500.0));
    let options = FitOptions {
        sketch_size: Some(1600),
        tolerance: 1e-6,
        ..shared()
    };
    // 40 times the rows of the part: d = 400, r = 1/2.
    let sizes = sizes(2000, 100);
    let cost = with(&sizes, 10.0, &options).expected_cost;
    let iterations = (cost - sizes.sketch_setup(1600)) / 6.0 - 1.0;
    assert!(
        (iterations - 1e-6f64.ln() / 0.5f64.ln()).abs() < 1e-9,
        "{iterations}"
    );
}

/// The dearer an iteration, the better the preconditioner.
#[test]
fn many_copies_take_a_larger_sketch() {
    let size = |copies| {
        let sizes = Sizes {
            copies,
            weights: 400_000,
            forward: 1.6e6,
            ..sizes(30_000, 1)
        };
        sizes.sketch_size(|k| sizes.sketch_cost(k))
    };
    assert!(size(1) < size(100));
}

#[test]
fn what_the_user_asks_for_is_done() {
    let options = FitOptions {
        precondition: PreconditionerChoice::Kfac,
        ..shared()
    };
    let chosen = plan(&sizes(10, 2), &options);
    assert_eq!(
        (chosen.solver, chosen.precondition),
        (SolverChoice::Pcg, PreconditionerChoice::Kfac)
    );
    let options = FitOptions {
        solver: SolverChoice::Dual,
        ..shared()
    };
    assert_eq!(plan(&sizes(1000, 10), &options).solver, SolverChoice::Dual);
}

#[test]
fn the_sketch_stays_within_memory() {
    let sizes = sizes(2000, 101);
    let k = sizes.sketch_size(|k| sizes.sketch_cost(k));
    assert!(k * 2000 * 101 * 4 <= SKETCH_BYTES && k >= 512);
}

/// The table above, for N = 10, C = 2, D = 1000, F = 100.
#[test]
fn costs_are_those_of_the_table() {
    let sizes = Sizes {
        samples: 10,
        classes: 2,
        copies: 1,
        weights: 1000,
        forward: 100.0,
        kernel_runs: 3,
        largest_kernel: 20_000,
    };
    let near = |cost: f64, expected: f64| assert!((cost - expected).abs() < 1e-9, "{cost}");
    // 20^2 * 1000 / (2 * 10 * 100), one iteration.
    near(sizes.dual_cost(), 3.0 * 5.0 + 200.0 + 6.0);
    // 20^2 * 100 / 2000; below 20 buckets 20 * 5^2 / 2000.
    near(sizes.sketch_setup(100), 5.0 + 20.0);
    near(sizes.sketch_setup(5), 5.0 + 0.25);
    near(sizes.sketch_iterations(5), 5.0 + 3.0 * 2.0);
    near(sizes.sketch_cost(5), 5.25 + 6.0 * 11.0);
}

/// Four times the rows of the part: twice its iterations.
#[test]
fn iterations_grow_with_the_root_of_the_rows() {
    let sizes = sizes(2000, 100);
    let open = plan(&sizes, &shared());
    let cost = |plain, features| {
        let found = Iterations {
            rows: 50_000,
            ..found(plain, features, 1e6)
        };
        open.settled(&sizes, found, &shared()).expected_cost
    };
    assert!((cost(20, 6) - (1.0 + 6.0 * 12.0)).abs() < 1e-9);
    assert!((cost(6, 6) - 6.0 * 12.0).abs() < 1e-9);
}

#[test]
fn a_pass_counts_the_products_of_every_layer() {
    let network = crate::linearize::tests::network();
    // 5 x 4 pixels; each output of a convolution reads 3, 1, 4 and 6 / 2 channels. The other
    // nodes (the input, three norms, the pool) count their outputs.
    let convolutions = 4 * 9 * 3 + 4 * 9 + 6 * 4 + 6 * 9 * 3;
    let expected = 20 * (3 + convolutions + 4 + 4 + 6) + 6 + 6 * 3;
    let counted = multiply_adds(network.graph(), Shape::new(1, 5, 4, 3));
    assert!((counted - f64::from(expected)).abs() < 0.5, "{counted}");
}
