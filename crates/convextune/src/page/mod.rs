//! One self-contained HTML page about a fit.
//!
//! [`render`] is a pure function of [`Contents`]: what is there is shown, what is not is left out.
//! The page loads nothing and runs no script (its own content security policy forbids both); it
//! follows the reader's light or dark mode, is usable by keyboard, narrow and in print. Plots are
//! SVG and pictures are JPEG, both inside the page. All text is escaped (`html.rs`), since
//! class and file names can be anything.

mod cards;
mod certificate;
mod confusion;
mod contents;
mod curves;
mod html;
mod number;
mod parts;
mod pictures;
mod plot;
mod scale;
mod tested;
pub mod words;

pub use contents::{
    ClassCount, Contents, Curve, DataCard, DecayPath, Eigenvalues, ErrorExplained, Informative,
    Listing, ModelCard, Picture, Scored, Spectrum, Suspect, Tested,
};

use html::Html;
use number::{count, percent};

/// A part of the page with a heading.
struct Section {
    id: &'static str,
    title: &'static str,
    body: Html,
}

/// The page.
pub fn render(contents: &Contents) -> String {
    let sections = sections(contents);
    let title = format!("Report on {}", contents.name);
    let mut h = Html::default();
    h.raw("<!DOCTYPE html>\n");
    h.element("html", &[("lang", &"en")], |h| {
        h.element("head", &[], |h| document_head(h, &title));
        h.element("body", &[], |h| {
            h.leaf(
                "a",
                &[("class", &"skip"), ("href", &"#content")],
                "Skip to the content",
            );
            h.element("header", &[], |h| {
                h.leaf("h1", &[], &title);
                h.leaf("p", &[("class", &"lead")], lead(contents));
            });
            h.element("nav", &[("aria-label", &"On this page")], |h| {
                h.element("ul", &[], |h| {
                    for section in &sections {
                        let target = format!("#{}", section.id);
                        h.element("li", &[], |h| {
                            h.leaf("a", &[("href", &target)], section.title);
                        });
                    }
                });
            });
            h.element("main", &[("id", &"content"), ("tabindex", &"-1")], |h| {
                figures(h, contents);
                for section in sections {
                    let heading = format!("{}-heading", section.id);
                    let labelled: [html::Attribute<'_>; 2] =
                        [("id", &section.id), ("aria-labelledby", &heading)];
                    h.element("section", &labelled, |h| {
                        h.leaf("h2", &[("id", &heading)], section.title);
                        h.raw(&section.body.finish());
                    });
                }
            });
        });
    });
    h.finish()
}

fn document_head(h: &mut Html, title: &str) {
    const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
    h.void("meta", &[("charset", &"utf-8")]);
    h.void(
        "meta",
        &[
            ("http-equiv", &"Content-Security-Policy"),
            ("content", &POLICY),
        ],
    );
    h.void(
        "meta",
        &[
            ("name", &"viewport"),
            ("content", &"width=device-width, initial-scale=1"),
        ],
    );
    h.void(
        "meta",
        &[("name", &"color-scheme"), ("content", &"light dark")],
    );
    h.void("link", &[("rel", &"icon"), ("href", &"data:,")]);
    h.leaf("title", &[], title);
    h.element("style", &[], |h| h.raw(include_str!("style.css")));
}

/// The sections that there is something to say in.
fn sections(contents: &Contents) -> Vec<Section> {
    let all = [
        (
            "certificate",
            "The minimum",
            Some(certificate::section(contents)),
        ),
        (
            "confusion",
            "Confusions",
            contents.tested.as_ref().map(confusion::section),
        ),
        ("classes", "Classes", tested::section(contents)),
        (
            "errors",
            "Errors on test images",
            contents.errors.as_ref().map(pictures::errors),
        ),
        (
            "informative",
            "Most and least informative images",
            contents.informative.as_ref().map(pictures::informative),
        ),
        (
            "labels",
            "Labels that may be wrong",
            contents.suspects.as_ref().map(pictures::suspects),
        ),
        (
            "spectrum",
            "Spectrum",
            contents.spectrum.as_ref().map(curves::spectrum),
        ),
        (
            "weight-decay",
            "Weight decay",
            contents.path.as_ref().map(curves::path),
        ),
        (
            "data",
            "Data card",
            contents.data.as_ref().map(|d| cards::data(d, contents)),
        ),
        (
            "model",
            "Model card",
            contents.model.as_ref().map(|m| cards::model(m, contents)),
        ),
    ];
    let present = |(id, title, body): (_, _, Option<Html>)| {
        Some(Section {
            id,
            title,
            body: body?,
        })
    };
    all.into_iter().filter_map(present).collect()
}

/// One sentence on what was fitted to what.
fn lead(contents: &Contents) -> String {
    let r = &contents.record;
    format!(
        "{} fitted to {} in {}: {}.",
        r.backbone,
        count(r.train_samples, "image", "images"),
        count(r.classes, "class", "classes"),
        words::method_in_full(r.method),
    )
}

/// The figures that matter most.
fn figures(h: &mut Html, contents: &Contents) {
    let r = &contents.record;
    let mut figures = Vec::new();
    if let Some(tested) = &contents.tested {
        let (wrong, images) = (tested.wrong(), tested.images());
        let share = wrong as f64 / images.max(1) as f64;
        let detail = format!(
            "{wrong} of {images}; 95 % interval {}",
            number::interval_text(wrong, images)
        );
        figures.push(("Test error", percent(share), detail));
    }
    if let Some(error) = r.leave_one_out_error {
        let mut detail = "each training image by the model fitted without it, exactly".to_owned();
        if let Some(error) = r.leave_one_of_each_out_error {
            let of_each = percent(error);
            let too = "with one image of every other class left out too";
            detail = format!("{detail}; {of_each} {too}");
        }
        figures.push(("Leave-one-out error", percent(error), detail));
    }
    let detail = count(r.train_samples, "image", "images");
    figures.push(("Training error", percent(r.train_error), detail));
    let detail = "of the objective, at most; proved".to_owned();
    let bound = number::bound(r.suboptimality_bound_relative);
    figures.push(("Above the minimum", bound, detail));
    h.element("dl", &[("class", &"figures")], |h| {
        for (name, value, detail) in figures {
            h.element("div", &[], |h| {
                h.leaf("dt", &[], name);
                h.leaf("dd", &[("class", &"value")], value);
                h.leaf("dd", &[], detail);
            });
        }
    });
}
