//! Test images by class.

use super::contents::{Contents, Tested};
use super::html::Html;
use super::number::{interval_text, percent};
use super::parts::{Column, head, note, scrolling};

impl Tested {
    /// Test images.
    pub fn images(&self) -> usize {
        self.counts.iter().flatten().sum()
    }

    /// Test images classified wrongly.
    pub fn wrong(&self) -> usize {
        self.images()
            - (0..self.classes.len())
                .map(|c| self.counts[c][c])
                .sum::<usize>()
    }

    /// Pairs of classes that were confused and how often, the most frequent first, of equals the
    /// first in the order of classes.
    pub fn confusions(&self) -> Vec<(usize, usize, usize)> {
        let mut pairs = Vec::new();
        for (c, row) in self.counts.iter().enumerate() {
            let taken = row.iter().enumerate().filter(|(p, n)| *p != c && **n > 0);
            pairs.extend(taken.map(|(p, n)| (c, p, *n)));
        }
        pairs.sort_by_key(|(_, _, n)| std::cmp::Reverse(*n));
        pairs
    }
}

const COLUMNS: [Column; 7] = [
    ("Class", false),
    ("Training images", true),
    ("Test images", true),
    ("Wrong", true),
    ("Error", true),
    ("95 % interval", true),
    ("Most often taken for", false),
];

/// The table of classes, the one with the largest error first.
pub(super) fn section(contents: &Contents) -> Option<Html> {
    let tested = contents.tested.as_ref()?;
    let mut h = Html::default();
    let images = |c: usize| tested.counts[c].iter().sum::<usize>();
    let wrong = |c: usize| images(c) - tested.counts[c][c];
    let share = |c: usize| wrong(c) as f64 / images(c).max(1) as f64;
    let mut order: Vec<usize> = (0..tested.classes.len()).collect();
    order.sort_by(|a, b| share(*b).total_cmp(&share(*a)));
    let caption = "Errors by class, the largest share first";
    scrolling(&mut h, caption, |h| {
        h.element("table", &[], |h| {
            h.leaf("caption", &[], caption);
            head(h, &COLUMNS);
            h.element("tbody", &[], |h| {
                for c in order {
                    row(h, contents, tested, c, (images(c), wrong(c)));
                }
            });
        });
    });
    note(
        &mut h,
        "The interval is Wilson's, for images drawn independently of one another; with few test images \
         of a class it is wide, and so is what can be said about the class.",
    );
    Some(h)
}

fn row(h: &mut Html, contents: &Contents, tested: &Tested, c: usize, (n, wrong): (usize, usize)) {
    let name = &tested.classes[c];
    let dash = || "\u{2013}".to_owned();
    let trained = contents.data.as_ref().and_then(|d| {
        let class = d.classes.iter().find(|k| k.class == *name)?;
        Some(class.train.to_string())
    });
    let confused = (0..tested.classes.len())
        .filter(|p| *p != c && tested.counts[c][*p] > 0)
        .rev()
        .max_by_key(|p| tested.counts[c][*p]);
    let taken = confused.map(|p| format!("{} ({})", tested.classes[p], tested.counts[c][p]));
    h.element("tr", &[], |h| {
        h.leaf("th", &[("scope", &"row")], name);
        let number: [super::html::Attribute<'_>; 1] = [("class", &"number")];
        h.leaf("td", &number, trained.unwrap_or_else(dash));
        h.leaf("td", &number, n);
        if n == 0 {
            for _ in 0..3 {
                h.leaf("td", &number, dash());
            }
        } else {
            let share = wrong as f64 / n as f64;
            h.leaf("td", &number, wrong);
            h.element("td", &number, |h| {
                h.text(percent(share));
                let width = format!("--share:{share:.3}");
                h.leaf("span", &[("class", &"bar"), ("style", &width)], "");
            });
            h.leaf("td", &number, interval_text(wrong, n));
        }
        h.leaf("td", &[], taken.unwrap_or_else(dash));
    });
}
