//! `spectrum` and `tune` from end to end.

mod common;

use common::cases::{case, check};
use common::tables::{close, number};
use common::{Place, text};
use serde_json::Value;

const FIT: &str = "fit photos --weights=weights.safetensors --json";

fn fitted(place: &Place, more: &str) -> Value {
    place.told(&format!("{FIT} -o m.safetensors {more}"))
}

fn array<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key]
        .as_array()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

/// Both ways, for a copy of the weights for every class, shared weights, and a head alone.
#[test]
fn exact_and_lanczos_agree_on_the_spectrum() {
    let place = Place::new();
    for (more, copies) in [
        ("", 3.0),
        ("--head-init=random --linearize-from=layer3.2", 1.0),
        ("--method=lqf-fc", 3.0),
    ] {
        let report = fitted(&place, more);
        let of = |method: &str| {
            place.told(&format!(
                "spectrum m.safetensors photos --eigenvalues=4 --json --method={method}"
            ))
        };
        let (exact, lanczos) = (of("exact"), of("lanczos"));
        assert_eq!(
            (&exact["method"], &lanczos["method"]),
            (&"exact".into(), &"lanczos".into())
        );
        let lambda = number(&report, "lambda_total");
        for found in [&exact, &lanczos] {
            close(number(found, "lambda"), lambda, 1e-12);
            close(number(found, "multiplicity"), copies, 1e-12);
            let counted: f64 = array(found, "density")
                .iter()
                .map(|bin| number(bin, "count"))
                .sum();
            close(
                counted + number(found, "at_lambda"),
                number(found, "weights"),
                1e-9,
            );
            let values = array(found, "eigenvalues");
            assert_eq!(values.len(), 4);
            let value = |k: usize| number(&values[k], "value");
            assert!((1..4).all(|k| value(k) <= value(k - 1)) && value(3) >= lambda);
            assert!(
                values
                    .iter()
                    .all(|v| number(v, "residual_bound") <= 2e-3 * number(v, "value"))
            );
            close(number(found, "condition_number"), value(0) / lambda, 1e-9);
        }
        for (a, b) in array(&exact, "eigenvalues")
            .iter()
            .zip(array(&lanczos, "eigenvalues"))
        {
            close(number(b, "value"), number(a, "value"), 1e-4);
        }
        if more.is_empty() {
            // N = 18: 17 eigenvalues a class.
            let counted: f64 = array(&exact, "density")
                .iter()
                .map(|bin| number(bin, "count"))
                .sum();
            close(counted, 51.0, 1e-9);
            assert_eq!(of("auto"), exact);
        }
        let preconditioned = &exact["condition_number_preconditioned"];
        assert_eq!(preconditioned.is_null(), more.contains("lqf-fc"));
    }
}

#[test]
fn a_preconditioner_is_judged_on_the_system_it_is_for() {
    let place = Place::new();
    fitted(&place, "--lambda-total=0.02");
    let of = |precondition: &str| {
        place.told(&format!(
            "spectrum m.safetensors photos --json --precondition={precondition}"
        ))
    };
    for (precondition, system) in [("features", "dual"), ("sketch", "dual"), ("kfac", "primal")] {
        let found = of(precondition);
        let p = &found["preconditioned"];
        assert_eq!(
            (&p["precondition"], &p["system"]),
            (&precondition.into(), &system.into())
        );
        let condition =
            |end: &str| number(&p[end]["largest"], "value") / number(&p[end]["smallest"], "value");
        close(
            number(&found, "condition_number_preconditioned"),
            condition("after"),
            1e-12,
        );
        assert!(condition("before") <= number(&found, "condition_number") * 1.001);
        if precondition == "sketch" {
            assert!(condition("after") < 0.1 * condition("before"), "{found}");
        }
    }
    assert!(of("none")["preconditioned"].is_null());
    let table = text(
        &place
            .does("spectrum m.safetensors photos --precondition kfac")
            .stdout,
    );
    let judged = table
        .lines()
        .find(|line| line.starts_with("preconditioned"));
    let judged = judged.unwrap_or_default();
    assert!(
        judged.contains("condition number at least") && judged.matches(" within ").count() == 2,
        "{table}"
    );
    for part in [
        "condition number",
        "with K-FAC",
        "3 times each",
        "####",
        "equal to lambda",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

/// The model written is the fit at the Lambda found, and no Lambda of a grid leaves a smaller error.
#[test]
fn tuning_by_leave_one_out_ends_at_slope_zero_and_is_written() {
    let place = Place::new();
    for more in ["--lambda-total=0.3", "--lambda-total=3 --method=lqf-fc"] {
        fitted(&place, more);
        let tuned =
            place.told("tune m.safetensors photos --weight-decay -o better.safetensors --json");
        let best = &tuned["best"];
        assert_eq!(
            (&tuned["criterion"], &tuned["method"]),
            (&"leave-one-out".into(), &"exact".into())
        );
        assert!(
            tuned["converged"] == true || tuned["at_end"] == true,
            "{tuned}"
        );
        if tuned["converged"] == true {
            assert!(number(best, "slope").abs() <= 1e-6 * number(best, "value"));
        }
        let least = array(&tuned, "points").iter().map(|p| number(p, "value"));
        close(
            least.fold(f64::INFINITY, f64::min),
            number(best, "value"),
            1e-9,
        );
        close(
            number(&tuned["before"], "lambda"),
            if more.contains("fc") { 3.0 } else { 0.3 },
            1e-12,
        );
        let report = &tuned["report"];
        close(
            number(report, "lambda_total"),
            number(best, "lambda"),
            1e-12,
        );
        assert_eq!(report["lambda_source"], "leave-one-out");
        let table = place.does("tune m.safetensors photos --weight-decay -o again.safetensors -q");
        let table = text(&table.stdout);
        let written = |line: &str| line.starts_with("model") && line.ends_with("again.safetensors");
        assert!(table.lines().any(written), "{table}");
        let info = place.told("info better.safetensors --json");
        assert_eq!(info["report"]["objective"], report["objective"]);
        let scale = match report["backbone_scale"].as_f64() {
            Some(scale) => format!("--backbone-scale={scale}"),
            None => "--method=lqf-fc".to_owned(),
        };
        let again = fitted(
            &place,
            &format!("--lambda-total={} {scale}", number(best, "lambda")),
        );
        close(
            number(&again, "objective"),
            number(report, "objective"),
            1e-6,
        );
    }
}

/// Slopes are those of the values between the points of the search, and both ways agree.
#[test]
fn tuning_by_held_out_images_is_the_same_with_and_without_the_kernel() {
    let place = Place::new();
    let tuned = |more: &str| {
        fitted(
            &place,
            &format!("--lambda-total=0.3 --backbone-share=0.5 {more}"),
        );
        place.told("tune m.safetensors photos --weight-decay --by validation --json")
    };
    let (exact, pcg) = (tuned("--solver=dual"), tuned("--solver=pcg"));
    assert_eq!(
        (&exact["method"], &pcg["method"]),
        (&"exact".into(), &"pcg".into())
    );
    assert_eq!(exact["images"], 9);
    for key in ["value", "lambda"] {
        close(
            number(&pcg["before"], key),
            number(&exact["before"], key),
            1e-3,
        );
    }
    let slope = |t: &Value| number(&t["before"], "slope");
    let scale = number(&exact["before"], "value");
    assert!((slope(&pcg) - slope(&exact)).abs() < 1e-2 * slope(&exact).abs() + 1e-3 * scale);
    close(
        number(&pcg["best"], "value"),
        number(&exact["best"], "value"),
        1e-3,
    );
    assert!(exact["output"].is_null() && exact["report"].is_null());
    let table = place.does("tune m.safetensors photos --weight-decay --by=validation");
    assert!(
        text(&table.stdout).contains("slope there"),
        "{}",
        text(&table.stdout)
    );
    assert!(
        text(&table.stderr).contains("nothing was written"),
        "{}",
        text(&table.stderr)
    );
    let other = place.told(
        "tune m.safetensors photos --weight-decay --by validation --test photos/train --json",
    );
    assert_eq!(other["images"], 18);
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let place = Place::new();
    place.told(&format!("{FIT} -o fc.safetensors --method=fc"));
    place.told(&format!(
        "{FIT} -o ridge.safetensors --head-init=ridge --linearize-from=layer3.2"
    ));
    fitted(&place, "--holdout=none");
    place.photos("less/train", &["blue", "green", "red"], 5);
    place.photos("other/train", &["blue", "red"], 6);
    let with = |command: &str, photos: &str, model: &str| {
        format!("{command} {model}.safetensors {photos}")
    };
    let tune =
        |photos: &str, model: &str| with("tune --weight-decay -o out.safetensors", photos, model);
    check(
        &place,
        1,
        &[
            case(&with("spectrum", "photos", "fc"), "--method fc + lqf-fc"),
            case(&tune("photos", "fc"), "--method fc + lqf-fc"),
            case(&tune("photos", "ridge"), "--by validation"),
            case(
                &format!("{} --by validation", tune("photos", "m")),
                "--test FOLDER",
            ),
            case(
                &with("spectrum", "less", "m"),
                "less + 15 of them + fitted on 18",
            ),
            case(&tune("other", "m"), "other + its classes are others"),
            case(&with("spectrum", "nowhere", "m"), "nowhere"),
            case(&with("spectrum", "photos", "weights"), "weight file"),
        ],
    );
    check(
        &place,
        2,
        &[
            case("tune m.safetensors photos", "--weight-decay"),
            case(
                &format!("{} --by luck", tune("photos", "m")),
                "leave-one-out",
            ),
            case(
                "spectrum m.safetensors photos --eigenvalues 0",
                "from 1 to 1000",
            ),
            case("spectrum m.safetensors photos --method guess", "lanczos"),
        ],
    );
}
