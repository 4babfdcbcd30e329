//! Elements that several sections use.

use std::fmt::Display;

use super::contents::{Picture, Scored};
use super::html::{Base64, Html};

/// A column of a table: its heading, and whether it holds numbers.
pub(super) type Column = (&'static str, bool);

/// A paragraph.
pub(super) fn paragraph(h: &mut Html, text: impl Display) {
    h.leaf("p", &[], text);
}

/// A paragraph in smaller print, on how something was computed.
pub(super) fn note(h: &mut Html, text: impl Display) {
    h.leaf("p", &[("class", &"note")], text);
}

/// A box that scrolls sideways, by keyboard as well, so that the page does not.
pub(super) fn scrolling(h: &mut Html, label: &str, inside: impl FnOnce(&mut Html)) {
    h.element(
        "div",
        &[
            ("class", &"scroll"),
            ("role", &"region"),
            ("aria-label", &label),
            ("tabindex", &"0"),
        ],
        inside,
    );
}

/// A table; the first cell of a row is its heading.
pub(super) fn table(h: &mut Html, caption: &str, columns: &[Column], rows: &[Vec<String>]) {
    scrolling(h, caption, |h| {
        h.element("table", &[], |h| {
            h.leaf("caption", &[], caption);
            head(h, columns);
            h.element("tbody", &[], |h| {
                for row in rows {
                    h.element("tr", &[], |h| {
                        for (cell, (_, number)) in row.iter().zip(columns).take(1) {
                            let class = if *number { "number" } else { "" };
                            h.leaf("th", &[("scope", &"row"), ("class", &class)], cell);
                        }
                        for (cell, (_, number)) in row.iter().zip(columns).skip(1) {
                            let class = if *number { "number" } else { "" };
                            h.leaf("td", &[("class", &class)], cell);
                        }
                    });
                }
            });
        });
    });
}

/// The row of headings.
pub(super) fn head(h: &mut Html, columns: &[Column]) {
    h.element("thead", &[], |h| {
        h.element("tr", &[], |h| {
            for (title, number) in columns {
                let class = if *number { "number" } else { "" };
                h.leaf("th", &[("scope", &"col"), ("class", &class)], title);
            }
        });
    });
}

/// Names and values.
pub(super) fn pairs(h: &mut Html, caption: &str, rows: &[(&str, String)]) {
    h.element("table", &[("class", &"pairs")], |h| {
        h.leaf("caption", &[], caption);
        h.element("tbody", &[], |h| {
            for (name, value) in rows {
                h.element("tr", &[], |h| {
                    h.leaf("th", &[("scope", &"row")], name);
                    h.leaf("td", &[], value);
                });
            }
        });
    });
}

/// Numbers behind a plot, folded away.
pub(super) fn numbers(h: &mut Html, caption: &str, columns: &[Column], rows: &[Vec<String>]) {
    h.element("details", &[], |h| {
        h.leaf("summary", &[], format!("{caption}, as a table"));
        table(h, caption, columns, rows);
    });
}

/// An image with lines of text below it. `what` says for those who do not see it what it is.
pub(super) fn figure(h: &mut Html, picture: &Picture, what: &str, lines: &[String]) {
    h.element("figure", &[("class", &"picture")], |h| {
        let alt = format!("{what}: {}", picture.name);
        match &picture.thumbnail {
            Some(small) => {
                let source = format!("data:image/jpeg;base64,{}", Base64(&small.jpeg));
                h.void(
                    "img",
                    &[
                        ("src", &source),
                        ("width", &small.width),
                        ("height", &small.height),
                        ("alt", &alt),
                        ("decoding", &"async"),
                    ],
                );
            }
            None => h.leaf("span", &[("class", &"missing")], "no picture"),
        }
        h.element("figcaption", &[], |h| {
            let file = picture.name.rsplit('/').next().unwrap_or_default();
            h.leaf(
                "span",
                &[("class", &"file"), ("title", &picture.name)],
                file,
            );
            for line in lines {
                h.leaf("span", &[], line);
            }
        });
    });
}

/// Training images with what is said about each.
pub(super) fn strip(h: &mut Html, images: &[Scored], lines: impl Fn(&Scored) -> Vec<String>) {
    h.element("ul", &[("class", &"strip")], |h| {
        for scored in images {
            let what = format!("Training image of class {}", scored.image.class);
            h.element("li", &[], |h| {
                figure(h, &scored.image, &what, &lines(scored));
            });
        }
    });
}
