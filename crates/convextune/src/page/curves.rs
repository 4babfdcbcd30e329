//! Spectrum and weight-decay path.

use super::contents::{DecayPath, Spectrum};
use super::html::Html;
use super::number::{number, small};
use super::parts::{numbers, paragraph, table};
use super::plot::{Axis, Mark, Plot, Series};
use super::scale::Scale;

/// Values of a curve over more than this ratio are drawn on a logarithmic axis.
const WIDE: f64 = 20.0;

/// Eigenvalues on a logarithmic axis, and condition numbers.
pub(super) fn spectrum(spectrum: &Spectrum) -> Html {
    let mut h = Html::default();
    paragraph(&mut h, &spectrum.how);
    let series = |o: &'_ super::contents::Eigenvalues| {
        o.values
            .iter()
            .enumerate()
            .map(|(k, v)| ((k + 1) as f64, *v))
            .collect()
    };
    let description: Vec<String> = spectrum
        .operators
        .iter()
        .filter_map(|o| {
            let (first, last) = (o.values.first()?, o.values.last()?);
            Some(format!(
                "{}: from {} down to {}.",
                o.name,
                small(*first),
                small(*last)
            ))
        })
        .collect();
    Plot {
        id: "eigenvalues",
        title: "Eigenvalues, largest first",
        description: &description.join(" "),
        x: Axis {
            label: "number of the eigenvalue",
            scale: Scale::Linear,
        },
        y: Axis {
            label: "eigenvalue",
            scale: Scale::Log,
        },
        series: spectrum
            .operators
            .iter()
            .map(|o| Series {
                name: &o.name,
                points: series(o),
                line: true,
            })
            .collect(),
        marks: spectrum
            .lambda
            .iter()
            .map(|l| Mark::Level(*l, "Lambda"))
            .collect(),
    }
    .write(&mut h);
    let rows: Vec<Vec<String>> = spectrum
        .operators
        .iter()
        .map(|o| {
            let ends = [o.values.first(), o.values.last()];
            let ends = ends.map(|v| v.map_or("\u{2013}".to_owned(), |v| small(*v)));
            let condition = o.condition_number.map_or("\u{2013}".to_owned(), number);
            [vec![o.name.clone()], ends.to_vec(), vec![condition]].concat()
        })
        .collect();
    let columns = [
        ("Operator", false),
        ("Largest eigenvalue", true),
        ("Smallest shown", true),
        ("Condition number", true),
    ];
    table(&mut h, "Condition", &columns, &rows);
    h
}

/// A number over Lambda.
pub(super) fn path(path: &DecayPath) -> Html {
    let mut h = Html::default();
    paragraph(&mut h, &path.how);
    let values = || path.curves.iter().flat_map(|c| &c.points).map(|p| p.1);
    let (low, high) = values().fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), v| {
        (l.min(v), h.max(v))
    });
    let scale = if low > 0.0 && high > WIDE * low {
        Scale::Log
    } else {
        Scale::Linear
    };
    let description: Vec<String> = path
        .curves
        .iter()
        .filter_map(|c| {
            let best = c.points.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
            let (lambda, value) = (number(best.0), number(best.1));
            Some(format!("{}: least, {value}, at Lambda {lambda}.", c.name))
        })
        .collect();
    Plot {
        id: "path",
        title: "Weight-decay path",
        description: &description.join(" "),
        x: Axis {
            label: "Lambda",
            scale: Scale::Log,
        },
        y: Axis {
            label: &path.measure,
            scale,
        },
        series: path
            .curves
            .iter()
            .map(|c| Series {
                name: &c.name,
                points: c.points.clone(),
                line: true,
            })
            .collect(),
        marks: path
            .chosen
            .iter()
            .map(|l| Mark::Place(*l, "chosen"))
            .collect(),
    }
    .write(&mut h);
    let rows: Vec<Vec<String>> = path
        .curves
        .iter()
        .flat_map(|c| {
            let row = |(l, v): &(f64, f64)| vec![number(*l), c.name.clone(), number(*v)];
            c.points.iter().map(row).collect::<Vec<_>>()
        })
        .collect();
    let columns = [("Lambda", true), ("Of", false), ("Value", true)];
    numbers(&mut h, "Weight-decay path", &columns, &rows);
    h
}
