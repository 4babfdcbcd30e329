//! A table of cases that must fail well.

use super::{Place, text};

/// What was given, and parts of the message that comes of it.
pub struct Case {
    pub args: Vec<String>,
    /// What the message must contain, with ` + ` between the parts.
    pub parts: &'static str,
}

pub fn case(args: &str, parts: &'static str) -> Case {
    Case {
        args: args.split_whitespace().map(str::to_owned).collect(),
        parts,
    }
}

/// Runs all cases in one place: each ends with the exit code `code`, and leaves the folder as it was.
pub fn check(place: &Place, code: i32, cases: &[Case]) {
    let before = place.names();
    let mut wrong = Vec::new();
    for Case { args, parts } in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = place.run(&args);
        let message = text(&output.stderr);
        let last = message.lines().last().unwrap_or_default();
        println!("| `{}` | {code} | {last} |", args.join(" "));
        let errors = message
            .lines()
            .filter(|l| l.starts_with("convextune: error: "))
            .count();
        let good = output.status.code() == Some(code)
            && errors == 1
            && message.lines().count() == 1
            && parts.split(" + ").all(|part| last.contains(part))
            && output.stdout.is_empty();
        if !good {
            wrong.push(format!(
                "{args:?}: {:?}, wanted {code} and {parts:?}:\n{message}",
                output.status
            ));
        }
        assert_eq!(place.names(), before, "{args:?} left something behind");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A fit of the usual photos that would write `out.safetensors`.
pub fn fit(more: &str) -> String {
    format!("fit photos -o out.safetensors {more}")
}

/// Fits the head alone and writes `m.safetensors`.
pub fn fit_model(place: &Place) {
    let fit = "fit photos --weights=weights.safetensors --method=lqf-fc -om.safetensors --json";
    place.json(&fit.split_whitespace().collect::<Vec<_>>());
}

pub const GOOD: &str = "--weights weights.safetensors";
