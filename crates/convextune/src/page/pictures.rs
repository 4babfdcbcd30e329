//! Sections of pictures: errors and their causes, informative images, suspected labels.

use super::contents::{ErrorExplained, Informative, Listing, Suspect};
use super::html::Html;
use super::number::{number, signed};
use super::parts::{figure, paragraph, strip};

/// Classes whose images are shown at once, at most; those of more are unfolded one by one.
const UNFOLDED: usize = 24;

/// How many of how many are shown, if not all.
fn shown<T>(h: &mut Html, listing: &Listing<T>, what: &str) {
    paragraph(h, &listing.how);
    let count = listing.items.len();
    if count < listing.total {
        paragraph(h, format!("Shown are {count} of {} {what}.", listing.total));
    }
}

/// Test images that were classified wrongly, each beside what made it so.
pub(super) fn errors(listing: &Listing<ErrorExplained>) -> Html {
    let mut h = Html::default();
    shown(&mut h, listing, "images");
    let explained = listing.items.iter().any(|e| !e.responsible.is_empty());
    let class = if explained { "explained" } else { "strip" };
    h.element("ul", &[("class", &class)], |h| {
        for error in &listing.items {
            h.element("li", &[], |h| {
                let what = format!(
                    "Test image of class {}, predicted {}",
                    error.image.class, error.predicted
                );
                let lines = [
                    format!("is {}", error.image.class),
                    format!("taken for {}", error.predicted),
                    format!("by {}", number(error.margin)),
                ];
                figure(h, &error.image, &what, &lines);
                if !error.responsible.is_empty() {
                    strip(h, &error.responsible, |s| {
                        vec![s.image.class.clone(), signed(s.score)]
                    });
                }
            });
        }
    });
    h
}

/// The ends of every class's order by informativeness.
pub(super) fn informative(listing: &Listing<Informative>) -> Html {
    let mut h = Html::default();
    shown(&mut h, listing, "classes");
    for class in &listing.items {
        if listing.items.len() > UNFOLDED {
            h.element("details", &[("class", &"ends")], |h| {
                h.leaf("summary", &[], &class.class);
                ends(h, class);
            });
        } else {
            h.element("div", &[("class", &"ends")], |h| {
                h.leaf("h3", &[], &class.class);
                ends(h, class);
            });
        }
    }
    h
}

fn ends(h: &mut Html, class: &Informative) {
    h.element("div", &[("class", &"pair")], |h| {
        for (end, images) in [("Most", &class.most), ("Least", &class.least)] {
            h.element("div", &[], |h| {
                h.leaf("p", &[("class", &"end")], end);
                strip(h, images, |s| vec![number(s.score)]);
            });
        }
    });
}

/// Training images that the others speak against.
pub(super) fn suspects(listing: &Listing<Suspect>) -> Html {
    let mut h = Html::default();
    shown(&mut h, listing, "images");
    h.element("ul", &[("class", &"strip")], |h| {
        for suspect in &listing.items {
            h.element("li", &[], |h| {
                let given = &suspect.image.class;
                let what = format!(
                    "Training image labelled {given}, perhaps {}",
                    suspect.likely
                );
                let lines = [
                    format!("labelled {given}"),
                    format!("perhaps {}", suspect.likely),
                    number(suspect.score),
                ];
                figure(h, &suspect.image, &what, &lines);
            });
        }
    });
    h
}
