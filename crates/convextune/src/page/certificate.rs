//! How near the fit is to the minimum, and how it got there.

use super::contents::Contents;
use super::html::Html;
use super::number::{bound, number, small};
use super::parts::{note, numbers, pairs, paragraph};
use super::plot::{Axis, Mark, Plot, Series};
use super::scale::Scale;
use super::words;
use crate::finetune::{DescentPoint, Method};
use crate::report::FitReport;
use convextune_solve::Status;

pub(super) fn section(contents: &Contents) -> Html {
    let r = &contents.record;
    let mut h = Html::default();
    paragraph(&mut h, statement(r));
    if r.status != Status::Converged {
        paragraph(
            &mut h,
            format!(
                "The solver {} before its tolerance was reached. The bound holds all the same.",
                words::status(r.status)
            ),
        );
    }
    let mut rows = vec![
        ("Objective L", number(r.objective)),
        (
            "Above its minimum, at most",
            format!("{} of L", bound(r.suboptimality_bound_relative)),
        ),
        ("Relative gradient norm", small(r.relative_gradient_norm)),
        (
            "Lambda",
            format!(
                "{}, {}; {} per training image",
                number(r.lambda_total),
                words::source(r.lambda_source),
                number(r.weight_decay)
            ),
        ),
    ];
    if let Some(plan) = &r.plan {
        rows.push(("Solved by", words::plan(plan)));
    }
    if r.iterations > 0 {
        rows.push(("Iterations", r.iterations.to_string()));
    }
    rows.push(("Passes over the training data", number(r.passes)));
    rows.push(("Seconds", number(r.seconds)));
    pairs(&mut h, "The certificate and what it cost", &rows);
    descent(&mut h, contents);
    h
}

/// What is proved, in words.
fn statement(r: &FitReport) -> String {
    let proof = match r.method {
        Method::Lqf | Method::LqfFc => {
            "The objective is strongly convex, so its gradient at the fitted weights bounds how far they \
             are above the minimum"
        }
        Method::Fc => {
            "The objective is convex, and a point of its dual problem bounds its minimum from below"
        }
    };
    format!(
        "{proof}. No choice of the trained weights has an objective smaller than this one's by more than \
         {} of it. The bound was computed at the returned weights, not taken from the solver.",
        bound(r.suboptimality_bound_relative)
    )
}

/// How the solver came down, where it took more than one step.
fn descent(h: &mut Html, contents: &Contents) {
    let points = &contents.record.descent;
    let positive = points.iter().filter(|p| p.relative_bound > 0.0).count();
    if positive < 2 {
        if contents.record.method != Method::Fc {
            note(
                h,
                "There is no learning curve: the minimum was computed in closed form.",
            );
        }
        return;
    }
    let bounded = |p: &DescentPoint| (p.iteration as f64, p.relative_bound);
    let gradient = |p: &DescentPoint| Some((p.iteration as f64, p.relative_gradient_norm?));
    let gradients: Vec<(f64, f64)> = points.iter().filter_map(gradient).collect();
    let mut series = vec![Series {
        name: "bound on the distance to the minimum, relative to L",
        points: points.iter().map(bounded).collect(),
        line: true,
    }];
    let mut marks = Vec::new();
    if !gradients.is_empty() {
        series.push(Series {
            name: "relative gradient norm",
            line: gradients.len() > points.len() / 2,
            points: gradients,
        });
        if let Some(model) = &contents.model {
            marks.push(Mark::Level(
                model.options.tolerance,
                "tolerance of the gradient norm",
            ));
        }
    }
    let (first, last) = (points[0], points[points.len() - 1]);
    let description = format!(
        "The bound falls from {} after {} iterations to {} after {}.",
        small(first.relative_bound),
        first.iteration,
        small(last.relative_bound),
        last.iteration
    );
    let plot = Plot {
        id: "descent",
        title: "Learning curve of the certificate",
        description: &description,
        x: Axis {
            label: "iteration",
            scale: Scale::Linear,
        },
        y: Axis {
            label: "relative size",
            scale: Scale::Log,
        },
        series,
        marks,
    };
    h.leaf("h3", &[], "Learning curve of the certificate");
    plot.write(h);
    note(
        h,
        "These figures come from the solver's recurrences; those of the table above from passes over the \
         data at the returned weights.",
    );
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|p| {
            let gradient = p
                .relative_gradient_norm
                .map_or("\u{2013}".to_owned(), small);
            vec![p.iteration.to_string(), small(p.relative_bound), gradient]
        })
        .collect();
    let columns = [
        ("Iteration", true),
        ("Bound, relative", true),
        ("Gradient norm, relative", true),
    ];
    numbers(h, "Learning curve", &columns, &rows);
}
