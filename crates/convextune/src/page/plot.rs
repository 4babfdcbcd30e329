//! Line plots as SVG, coloured by the page's style sheet so that they follow its light or dark mode.

use std::fmt::Write as _;

use super::html::Html;
use super::scale::{Range, Scale};

/// The drawing, in units of the view box.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
/// Left, right, top and bottom of the plotting area.
const AREA: [f64; 4] = [76.0, 470.0, 14.0, 250.0];
/// Series with a colour of their own.
const COLOURS: usize = 4;

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

#[cfg(test)]
mod tests {
    use super::*;

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
