//! Progress on standard error: bars on a terminal, now and then a line elsewhere, nothing when
//! asked to be quiet.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use convextune::progress::Reporter;
use convextune_solve::Record;
use indicatif::{ProgressBar, ProgressStyle};

/// A stage shorter than this leaves no line.
const QUIET_FOR: Duration = Duration::from_secs(2);
/// At most one line in this time.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Name of the stage in which iterations come.
const SOLVER: &str = "solver";
/// Steps of the solver's bar, from a relative gradient of 1 to the tolerance.
const STEPS: u64 = 1000;

/// Where progress goes.
enum Sink {
    Nowhere,
    Lines { last: Option<Instant> },
    Bar(Option<ProgressBar>),
}

/// The current stage.
struct Stage {
    name: String,
    total: u64,
    done: u64,
    began: Instant,
    /// The latest figure of the solver, in words.
    figure: String,
}

struct State {
    sink: Sink,
    stage: Option<Stage>,
    /// Put before every stage's name, such as the method that is being compared.
    prefix: String,
}

/// Shows progress.
pub struct Terminal {
    tolerance: f64,
    quiet: bool,
    state: Mutex<State>,
}

impl Terminal {
    /// Shows how a solver comes down to `tolerance`.
    pub fn new(quiet: bool, tolerance: f64) -> Self {
        let sink = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Sink::Nowhere,
            (false, true) => Sink::Bar(None),
            (false, false) => Sink::Lines { last: None },
        };
        let state = Mutex::new(State {
            sink,
            stage: None,
            prefix: String::new(),
        });
        Self {
            tolerance,
            quiet,
            state,
        }
    }

    /// Puts `prefix` before the names of all stages to come.
    pub fn set_prefix(&self, prefix: &str) {
        self.finish();
        self.lock().prefix = format!("{prefix}: ");
    }

    /// Ends the current stage and clears its bar.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.stage = None;
        if let Sink::Bar(bar) = &mut state.sink
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows that an iteration ended with `figure`, which comes down from 1 to the tolerance.
    fn figure(&self, iteration: usize, what: &str, figure: f64) {
        let state = &mut *self.lock();
        let Some(stage) = &mut state.stage else {
            return;
        };
        stage.figure = format!("iteration {iteration}, {what} {figure:.1e}");
        match &mut state.sink {
            Sink::Bar(Some(bar)) => {
                if bar.length() == Some(STEPS) {
                    bar.set_position(self.position(figure));
                }
                bar.set_message(stage.figure.clone());
            }
            Sink::Bar(None) | Sink::Nowhere => {}
            Sink::Lines { last } => line(stage, last),
        }
    }

    /// Where a figure between 1 and the tolerance lies on the solver's bar.
    fn position(&self, figure: f64) -> u64 {
        let share = figure.max(f64::MIN_POSITIVE).ln() / self.tolerance.ln();
        (share.clamp(0.0, 1.0) * STEPS as f64) as u64
    }
}

impl Reporter for Terminal {
    fn stage(&self, name: &str, total: u64) {
        self.finish();
        let state = &mut *self.lock();
        let name = format!("{}{name}", state.prefix);
        if let Sink::Bar(bar) = &mut state.sink {
            *bar = Some(new_bar(&name, total));
        }
        let began = Instant::now();
        state.stage = Some(Stage {
            name,
            total,
            done: 0,
            began,
            figure: String::new(),
        });
    }

    fn advance(&self, items: u64) {
        let state = &mut *self.lock();
        let Some(stage) = &mut state.stage else {
            return;
        };
        stage.done += items;
        match &mut state.sink {
            Sink::Bar(Some(bar)) if stage.total > 0 => {
                bar.set_position(stage.done.min(stage.total));
            }
            Sink::Bar(_) | Sink::Nowhere => {}
            Sink::Lines { last } => line(stage, last),
        }
    }

    fn iteration(&self, record: &Record) {
        let (what, figure) = match record.relative_gradient_norm {
            Some(norm) => ("relative gradient norm", norm),
            None => ("relative residual", record.relative_residual),
        };
        self.figure(record.iteration, what, figure);
    }

    fn residual(&self, iteration: usize, relative_residual: f64) {
        self.figure(iteration, "relative residual", relative_residual);
    }

    fn gap(&self, iteration: usize, relative_duality_gap: f64) {
        self.figure(iteration, "relative duality gap", relative_duality_gap);
    }

    fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        let say = || eprintln!("convextune: note: {}", crate::failure::one_line(text));
        match &self.lock().sink {
            Sink::Bar(Some(bar)) => bar.suspend(say),
            _ => say(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.finish();
    }
}

fn new_bar(name: &str, total: u64) -> ProgressBar {
    let solver = total == 0 && name.ends_with(SOLVER);
    let template = if solver {
        "{prefix:<24} {bar:30} {msg} ({elapsed})"
    } else if total > 0 {
        "{prefix:<24} {bar:30} {pos}/{len} {msg} ({eta} left)"
    } else {
        "{prefix:<24} {spinner} {msg} ({elapsed})"
    };
    let length = if solver { STEPS } else { total };
    let bar = if length > 0 {
        ProgressBar::new(length)
    } else {
        ProgressBar::new_spinner()
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// A line about a stage that takes long, if the last one is old enough.
fn line(stage: &Stage, last: &mut Option<Instant>) {
    let took = stage.began.elapsed();
    if took < QUIET_FOR || last.is_some_and(|at| at.elapsed() < BETWEEN_LINES) {
        return;
    }
    *last = Some(Instant::now());
    let Stage {
        name,
        total,
        done,
        figure,
        ..
    } = stage;
    let progress = match (figure.is_empty(), total) {
        (false, 0) => figure.clone(),
        (false, total) => format!("{done} of {total}, {figure}"),
        (true, 0) => "working".to_owned(),
        (true, total) => format!("{done} of {total}"),
    };
    eprintln!("{name}: {progress} ({:.0} s)", took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solvers_bar_is_logarithmic() {
        let terminal = Terminal::new(true, 1e-4);
        assert_eq!(terminal.position(1.0), 0);
        assert_eq!(terminal.position(1e-2), STEPS / 2);
        assert_eq!(terminal.position(1e-9), STEPS);
        assert_eq!(terminal.position(7.0), 0);
        assert_eq!(terminal.position(0.0), STEPS);
    }
}
