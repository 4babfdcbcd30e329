//! The confusion matrix: a table of numbers for few classes, a drawing for many.

use super::contents::Tested;
use super::html::Html;
use super::number::count;
use super::parts::{note, paragraph, scrolling, table};

/// Classes in a table of numbers, at most.
const TABLE: usize = 24;
/// Confusions that are listed, at most.
const LISTED: usize = 25;
/// Side of a cell of the drawing.
const CELL: f64 = 9.0;
/// Letters of a class's name beside the drawing.
const LETTERS: usize = 24;
/// Width of a letter, roughly.
const LETTER: f64 = 4.6;

pub(super) fn section(tested: &Tested) -> Html {
    let mut h = Html::default();
    let (images, wrong) = (tested.images(), tested.wrong());
    paragraph(
        &mut h,
        format!(
            "{} of {} ({}) were classified wrongly.",
            wrong,
            count(images, "image", "images"),
            tested.on
        ),
    );
    if tested.classes.len() <= TABLE {
        matrix(&mut h, tested);
    } else {
        drawing(&mut h, tested);
    }
    let confusions = tested.confusions();
    if confusions.is_empty() {
        return h;
    }
    let name = |c: usize| tested.classes[c].clone();
    let rows: Vec<Vec<String>> = confusions
        .iter()
        .take(LISTED)
        .map(|(c, p, n)| vec![name(*c), name(*p), n.to_string()])
        .collect();
    let columns = [("Class", false), ("Taken for", false), ("Images", true)];
    let caption = format!(
        "Most frequent confusions, {} of {}",
        rows.len(),
        confusions.len()
    );
    table(&mut h, &caption, &columns, &rows);
    h
}

/// How strongly a cell is coloured: its share of its class's images.
fn share(tested: &Tested, c: usize, p: usize) -> f64 {
    let images: usize = tested.counts[c].iter().sum();
    tested.counts[c][p] as f64 / images.max(1) as f64
}

fn matrix(h: &mut Html, tested: &Tested) {
    let caption = "Confusion matrix: images by class (rows) and predicted class (columns)";
    scrolling(h, caption, |h| {
        h.element("table", &[("class", &"confusion")], |h| {
            h.leaf("caption", &[], caption);
            h.element("thead", &[], |h| {
                h.element("tr", &[], |h| {
                    h.leaf("th", &[("scope", &"col")], "Class");
                    for class in &tested.classes {
                        h.element("th", &[("scope", &"col")], |h| {
                            h.leaf("span", &[("class", &"turned"), ("title", class)], class);
                        });
                    }
                });
            });
            h.element("tbody", &[], |h| {
                for (c, class) in tested.classes.iter().enumerate() {
                    h.element("tr", &[], |h| {
                        h.leaf("th", &[("scope", &"row")], class);
                        for (p, n) in tested.counts[c].iter().enumerate() {
                            let class = match (p == c, *n) {
                                (true, _) => "number hit",
                                (false, 0) => "number zero",
                                (false, _) => "number miss",
                            };
                            let style = format!("--share:{:.3}", share(tested, c, p));
                            h.leaf("td", &[("class", &class), ("style", &style)], n);
                        }
                    });
                }
            });
        });
    });
    note(h, "The colour of a cell is its share of its row.");
}

/// A square for every pair that occurs; the names of the classes along two sides.
fn drawing(h: &mut Html, tested: &Tested) {
    let short: Vec<String> = tested.classes.iter().map(|c| shortened(c)).collect();
    let longest = short.iter().map(|c| c.chars().count()).max().unwrap_or(0);
    let margin = 10.0 + LETTER * longest as f64;
    let side = CELL * tested.classes.len() as f64;
    let whole = margin + side + 2.0;
    let (view, width) = (format!("0 0 {whole:.1} {whole:.1}"), format!("{whole:.0}"));
    let label = "Confusion matrix: images by class (rows) and predicted class (columns)";
    scrolling(h, label, |h| {
        h.element(
            "svg",
            &[
                ("class", &"heat"),
                ("viewBox", &view),
                ("width", &width),
                ("height", &width),
                ("role", &"img"),
                ("aria-labelledby", &"heat-title heat-desc"),
            ],
            |h| {
                h.leaf("title", &[("id", &"heat-title")], label);
                let text = "The same counts are in the tables of confusions and of classes.";
                h.leaf("desc", &[("id", &"heat-desc")], text);
                guides(h, tested.classes.len(), (margin, side));
                for (k, name) in short.iter().enumerate() {
                    names(h, name, margin, margin + (k as f64 + 0.5) * CELL);
                }
                for c in 0..tested.classes.len() {
                    for p in 0..tested.classes.len() {
                        cell(h, tested, (c, p), margin);
                    }
                }
            },
        );
    });
    note(
        h,
        "Rows are classes, columns predictions; the colour of a cell is its share of its row. Pointing at a \
         cell shows its count.",
    );
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LETTERS {
        return name.to_owned();
    }
    let start: String = name.chars().take(LETTERS - 1).collect();
    format!("{start}\u{2026}")
}

/// A frame, and a line every ten classes to follow with the eye.
fn guides(h: &mut Html, classes: usize, (margin, side): (f64, f64)) {
    for k in (0..=classes).filter(|k| k % 10 == 0 || *k == classes) {
        let at = margin + CELL * k as f64;
        let (start, end) = (margin, margin + side);
        let d = format!("M{start:.1} {at:.1}H{end:.1}M{at:.1} {start:.1}V{end:.1}");
        h.leaf("path", &[("class", &"grid"), ("d", &d)], "");
    }
}

/// A class's name beside its row and above its column.
fn names(h: &mut Html, name: &str, margin: f64, at: f64) {
    let (x, y) = (format!("{:.1}", margin - 4.0), format!("{at:.1}"));
    let place: [super::html::Attribute<'_>; 4] =
        [("x", &x), ("y", &y), ("dy", &"0.35em"), ("class", &"end")];
    h.leaf("text", &place, name);
    let turned = format!("translate({at:.1} {:.1}) rotate(-90)", margin - 4.0);
    h.leaf("text", &[("transform", &turned), ("dy", &"0.35em")], name);
}

fn cell(h: &mut Html, tested: &Tested, (c, p): (usize, usize), margin: f64) {
    let n = tested.counts[c][p];
    if n == 0 {
        return;
    }
    let at = |k: usize| format!("{:.1}", margin + k as f64 * CELL + 0.5);
    let class = if c == p { "hit" } else { "miss" };
    let opacity = format!("{:.2}", 0.4 + 0.6 * share(tested, c, p));
    let side = CELL - 1.0;
    h.element(
        "rect",
        &[
            ("class", &class),
            ("x", &at(p)),
            ("y", &at(c)),
            ("width", &side),
            ("height", &side),
            ("fill-opacity", &opacity),
        ],
        |h| {
            let (class, taken) = (&tested.classes[c], &tested.classes[p]);
            let images = count(n, "image", "images");
            h.leaf(
                "title",
                &[],
                format!("{class}, predicted {taken}: {images}"),
            );
        },
    );
}
