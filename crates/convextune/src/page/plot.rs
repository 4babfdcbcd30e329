//! Line plots as SVG, coloured by the page's style sheet so that they follow its light or dark mode.

use std::fmt::Write as _;

use super::html::Html;
use super::number::{number, power_of_ten};

/// The drawing, in units of the view box.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
/// Left, right, top and bottom of the plotting area.
const AREA: [f64; 4] = [76.0, 470.0, 14.0, 250.0];
/// Series with a colour of their own.
const COLOURS: usize = 4;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis<'a> {
    pub label: &'a str,
    pub scale: Scale,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(super) struct Series<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
    /// Whether a line joins them.
    pub line: bool,
}

/// A line across the plot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark<'a> {
    /// At a height.
    Level(f64, &'a str),
    /// At a place of the horizontal axis.
    Place(f64, &'a str),
}

/// A plot.
#[derive(Clone, Debug)]
pub(super) struct Plot<'a> {
    /// Unique on the page.
    pub id: &'a str,
    /// For those who do not see it: what it is, and what it shows.
    pub title: &'a str,
    pub description: &'a str,
    pub x: Axis<'a>,
    pub y: Axis<'a>,
    pub series: Vec<Series<'a>>,
    pub marks: Vec<Mark<'a>>,
}

impl Plot<'_> {
    /// Writes the plot; points that an axis cannot show are left out.
    pub fn write(&self, h: &mut Html) {
        let all = || self.series.iter().flat_map(|s| &s.points);
        let marked = |level: bool| {
            self.marks.iter().filter_map(move |mark| match mark {
                Mark::Level(at, _) if level => Some(*at),
                Mark::Place(at, _) if !level => Some(*at),
                _ => None,
            })
        };
        let [left, right, top, bottom] = AREA;
        let x = Range::of(
            self.x.scale,
            all().map(|p| p.0).chain(marked(false)),
            (left, right),
        );
        let y = Range::of(
            self.y.scale,
            all().map(|p| p.1).chain(marked(true)),
            (bottom, top),
        );
        let names = [format!("{}-title", self.id), format!("{}-desc", self.id)];
        let labelled = names.join(" ");
        let view = format!("0 0 {WIDTH} {HEIGHT}");
        h.element(
            "svg",
            &[
                ("class", &"plot"),
                ("viewBox", &view),
                ("role", &"img"),
                ("aria-labelledby", &labelled),
            ],
            |h| {
                h.leaf("title", &[("id", &names[0])], self.title);
                h.leaf("desc", &[("id", &names[1])], self.description);
                self.axes(h, &x, &y);
                for (k, series) in self.series.iter().enumerate() {
                    draw(h, series, k % COLOURS, &x, &y);
                }
                for mark in &self.marks {
                    across(h, mark, &x, &y);
                }
            },
        );
        if self.series.len() > 1 {
            self.legend(h);
        }
    }

    fn axes(&self, h: &mut Html, x: &Range, y: &Range) {
        let [left, right, top, bottom] = AREA;
        for (at, label) in y.ticks() {
            line(h, "grid", (left, at), (right, at));
            h.leaf(
                "text",
                &[
                    ("x", &(left - 7.0)),
                    ("y", &px(at)),
                    ("dy", &"0.35em"),
                    ("class", &"end"),
                ],
                label,
            );
        }
        for (at, label) in x.ticks() {
            line(h, "grid", (at, top), (at, bottom));
            h.leaf(
                "text",
                &[
                    ("x", &px(at)),
                    ("y", &(bottom + 18.0)),
                    ("class", &"middle"),
                ],
                label,
            );
        }
        line(h, "axis", (left, bottom), (right, bottom));
        line(h, "axis", (left, top), (left, bottom));
        let middle = f64::midpoint(left, right);
        h.leaf(
            "text",
            &[
                ("x", &middle),
                ("y", &(HEIGHT - 8.0)),
                ("class", &"middle label"),
            ],
            self.x.label,
        );
        let turned = format!("translate(15 {}) rotate(-90)", f64::midpoint(top, bottom));
        h.leaf(
            "text",
            &[("transform", &turned), ("class", &"middle label")],
            self.y.label,
        );
    }

    fn legend(&self, h: &mut Html) {
        h.element("ul", &[("class", &"legend")], |h| {
            for (k, series) in self.series.iter().enumerate() {
                h.element("li", &[], |h| {
                    let shape = if series.line { "key" } else { "key dots" };
                    let key = format!("{shape} s{}", k % COLOURS);
                    h.leaf("span", &[("class", &key), ("aria-hidden", &"true")], "");
                    h.text(series.name);
                });
            }
        });
    }
}

/// A line across the plot, and its name.
fn across(h: &mut Html, mark: &Mark<'_>, x: &Range, y: &Range) {
    let [left, right, top, bottom] = AREA;
    match mark {
        Mark::Level(at, label) => {
            let Some(at) = y.place(*at) else { return };
            line(h, "mark", (left, at), (right, at));
            h.leaf(
                "text",
                &[
                    ("x", &(left + 6.0)),
                    ("y", &px(at + 16.0)),
                    ("class", &"note"),
                ],
                label,
            );
        }
        Mark::Place(at, label) => {
            let Some(at) = x.place(*at) else { return };
            line(h, "mark", (at, top), (at, bottom));
            let (at, class) = if at > f64::midpoint(left, right) {
                (at - 5.0, "end note")
            } else {
                (at + 5.0, "note")
            };
            h.leaf(
                "text",
                &[("x", &px(at)), ("y", &(top + 12.0)), ("class", &class)],
                label,
            );
        }
    }
}

fn line(h: &mut Html, class: &str, from: (f64, f64), to: (f64, f64)) {
    let d = format!("M{:.1} {:.1}L{:.1} {:.1}", from.0, from.1, to.0, to.1);
    h.leaf("path", &[("class", &class), ("d", &d)], "");
}

fn draw(h: &mut Html, series: &Series<'_>, colour: usize, x: &Range, y: &Range) {
    let place = |p: &(f64, f64)| Some((x.place(p.0)?, y.place(p.1)?));
    let points: Vec<(f64, f64)> = series.points.iter().filter_map(place).collect();
    if series.line {
        let mut d = String::new();
        for (k, (x, y)) in points.iter().enumerate() {
            let step = if k == 0 { 'M' } else { 'L' };
            let _ = write!(d, "{step}{x:.1} {y:.1}");
        }
        let class = format!("curve s{colour}");
        h.leaf("path", &[("class", &class), ("d", &d)], "");
    }
    if !series.line || points.len() <= 60 {
        let radius = if points.len() > 100 { 1.6 } else { 2.6 };
        let class = format!("point s{colour}");
        for (x, y) in points {
            h.leaf(
                "circle",
                &[
                    ("class", &class),
                    ("cx", &px(x)),
                    ("cy", &px(y)),
                    ("r", &radius),
                ],
                "",
            );
        }
    }
}

/// A length in the drawing.
fn px(x: f64) -> String {
    format!("{x:.1}")
}

/// What an axis shows, and where.
#[derive(Clone, Debug)]
struct Range {
    scale: Scale,
    /// Ends, on the axis's own scale: logarithms to base ten on a logarithmic one.
    low: f64,
    high: f64,
    /// Where they lie in the drawing.
    from: f64,
    to: f64,
}

impl Range {
    /// Around all values that the scale can show, with a little room.
    fn of(scale: Scale, values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter_map(|v| scale.apply(v)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low {
            0.04 * (high - low)
        } else {
            0.5 * low.abs().max(1.0)
        };
        Self {
            scale,
            low: low - room,
            high: high + room,
            from,
            to,
        }
    }

    /// Where a value lies in the drawing; `None` when the scale cannot show it.
    fn place(&self, value: f64) -> Option<f64> {
        let share = (self.scale.apply(value)? - self.low) / (self.high - self.low);
        Some(self.from + share * (self.to - self.from))
    }

    /// Places in the drawing and what is written there.
    fn ticks(&self) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => linear_ticks(self.low, self.high),
            Scale::Log => log_ticks(self.low, self.high),
        };
        let tick = |(value, label)| Some((self.place(value)?, label));
        values.into_iter().filter_map(tick).collect()
    }
}

impl Scale {
    fn apply(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear => value.is_finite().then_some(value),
            Self::Log => (value.is_finite() && value > 0.0).then(|| value.log10()),
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, about five of them.
fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 5.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * unit)
        .find(|s| *s >= rough)
        .unwrap_or(rough);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    let label = |v: f64| {
        if decimals > 4 || v.abs() >= 1e5 {
            number(v)
        } else {
            format!("{v:.decimals$}")
        }
    };
    // Adding zero turns a negative zero into zero.
    (first..=last)
        .map(|k| k as f64 * step + 0.0)
        .map(|v| (v, label(v)))
        .collect()
}

/// Powers of ten between the logarithms `low` and `high`, at most seven; over less than two decades
/// twice and five times those as well.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let step = (1 + (last - first) / 7) as usize;
    let inside = |v: f64| (low..=high).contains(&v.log10());
    let mut ticks: Vec<(f64, String)> = (first..=last)
        .filter(|e| e.rem_euclid(step as i32) == 0)
        .map(|e| (10f64.powi(e), power_of_ten(e)))
        .filter(|(v, _)| inside(*v))
        .collect();
    if ticks.len() < 2 {
        let between = (first..=last).flat_map(|e| [2.0, 5.0].map(|m| m * 10f64.powi(e)));
        ticks.extend(between.filter(|v| inside(*v)).map(|v| (v, number(v))));
    }
    if ticks.is_empty() {
        let middle = 10f64.powf(f64::midpoint(low, high));
        ticks.push((middle, number(middle)));
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |t: Vec<(f64, String)>| t.into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(labels(linear_ticks(-0.02, 0.52)), ["0.0", "0.2", "0.4"]);
        assert_eq!(
            labels(linear_ticks(0.0, 47.0)),
            ["0", "10", "20", "30", "40"]
        );
        assert_eq!(
            labels(log_ticks(-2.1, 0.1)),
            ["10\u{207b}\u{b2}", "10\u{207b}\u{b9}", "10\u{2070}"]
        );
        for (low, high) in [(-16.0, 3.0), (0.0, 0.1), (-3.2, -3.1), (0.3, 0.30001)] {
            let ticks = log_ticks(low, high).len();
            assert!((1..=8).contains(&ticks), "{low} {high}: {ticks}");
        }
    }

    #[test]
    fn points_lie_where_their_values_say() {
        let range = Range {
            scale: Scale::Log,
            low: -2.0,
            high: 2.0,
            from: 100.0,
            to: 0.0,
        };
        assert_eq!(range.place(1.0), Some(50.0));
        assert_eq!(range.place(0.01), Some(100.0));
        assert_eq!(range.place(0.0), None);
        assert_eq!(range.place(f64::NAN), None);
    }

    #[test]
    fn a_plot_of_nothing_or_of_one_point_is_still_a_plot() {
        for points in [vec![], vec![(1.0, 1.0)], vec![(0.0, -1.0), (f64::NAN, 2.0)]] {
            let axis = Axis {
                label: "x",
                scale: Scale::Log,
            };
            let plot = Plot {
                id: "p",
                title: "t",
                description: "d",
                x: axis,
                y: axis,
                series: vec![Series {
                    name: "s",
                    points,
                    line: true,
                }],
                marks: vec![Mark::Level(0.0, "none")],
            };
            let mut h = Html::default();
            plot.write(&mut h);
            let svg = h.finish();
            assert!(svg.starts_with("<svg") && !svg.contains("NaN"), "{svg}");
        }
    }
}
