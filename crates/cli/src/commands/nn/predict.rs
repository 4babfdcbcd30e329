//! `convextune nn predict`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use convextune::convexnet::table::Table;
use convextune::convexnet::{NetModel, Predictions, targets};
use convextune::progress::Reporter;
use convextune_model::weights::write_atomically;
use convextune_solve::faer::MatRef;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{data, summary};
use crate::args::nn::NetPredictArgs;
use crate::output::{check_writable, print, print_json};
use crate::progress::Terminal;

/// The JSON object of `nn predict --json`.
#[derive(Serialize)]
struct Outcome<'a> {
    model: &'a Path,
    table: &'a Path,
    target: &'a str,
    rows: usize,
    /// If the table holds the target in every row.
    error: Option<f64>,
    predictions: Vec<Value>,
}

/// Predicts the target for all rows of a table.
pub fn run(args: &NetPredictArgs) -> Result<()> {
    if let Some(output) = &args.output {
        check_writable(output)?;
    }
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = NetModel::load(&args.model)?;
    let table = data::read(&args.table, &reporter)?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    let outputs = model.outputs(&table, &rows)?;
    let answers = model.answers(outputs.as_ref());
    reporter.finish();
    let error = match error(&model, &table, &rows, outputs.as_ref()) {
        None => None,
        Some(Ok(error)) => Some(error),
        Some(Err(why)) => {
            reporter.note(&format!(
                "the table has the target's column, but no error is given: {why}"
            ));
            None
        }
    };
    if let Some(output) = &args.output {
        let text = csv(&model, &answers);
        write_atomically(output, |out| out.write_all(text.as_bytes()))?;
    }
    if args.run.json {
        return print_json(&Outcome {
            model: &args.model,
            table: &args.table,
            target: model.header.encoder.target(),
            rows: rows.len(),
            error,
            predictions: objects(&model, &answers),
        });
    }
    if let Some(error) = error {
        reporter.note(&format!(
            "the table holds the target: error {} on {} rows, {}",
            summary::error(error, model.header.encoder.task()),
            rows.len(),
            summary::measure(&model.header.encoder)
        ));
    }
    match args.output {
        Some(_) => Ok(()),
        None => print(&csv(&model, &answers)),
    }
}

/// How wrong the outputs are, if the table has the target's column; it may hold what cannot be compared.
fn error(
    model: &NetModel,
    table: &Table,
    rows: &[usize],
    outputs: MatRef<'_, f64>,
) -> Option<Result<f64, convextune::Error>> {
    let encoder = &model.header.encoder;
    encoder.has_target(table).then(|| {
        let labels = encoder.labels(table, rows)?;
        Ok(targets::error(outputs, &labels))
    })
}

/// A header, and a line a row.
fn csv(model: &NetModel, answers: &Predictions) -> String {
    let (encoder, mut text) = (&model.header.encoder, String::new());
    match answers {
        Predictions::Values(values) => {
            let _ = writeln!(text, "{}", quoted(encoder.target()));
            for value in values {
                let _ = writeln!(text, "{value}");
            }
        }
        Predictions::Classes { classes, scores } => {
            let names = encoder.classes();
            let _ = write!(text, "{}", quoted(encoder.target()));
            for name in names {
                let _ = write!(text, ",{}", quoted(&format!("score of {name}")));
            }
            text.push('\n');
            for (s, class) in classes.iter().enumerate() {
                text.push_str(&quoted(&names[*class]));
                for c in 0..scores.ncols() {
                    // Zero has no sign.
                    let _ = write!(text, ",{}", scores[(s, c)] + 0.0);
                }
                text.push('\n');
            }
        }
    }
    text
}

/// A cell of a CSV file (RFC 4180).
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) || cell.trim() != cell {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// An object a row.
fn objects(model: &NetModel, answers: &Predictions) -> Vec<Value> {
    let names = model.header.encoder.classes();
    match answers {
        Predictions::Values(values) => {
            let object = |value: &f64| serde_json::json!({ "value": value });
            values.iter().map(object).collect()
        }
        Predictions::Classes { classes, scores } => {
            let object = |(s, class): (usize, &usize)| {
                let score = |c: usize| (names[c].clone(), scores[(s, c)].into());
                let all: Map<String, Value> = (0..scores.ncols()).map(score).collect();
                serde_json::json!({ "class": names[*class], "scores": all })
            };
            classes.iter().enumerate().map(object).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(quoted("setosa"), "setosa");
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(quoted(" x"), "\" x\"");
    }
}
