//! Cards: what the model was fitted to, what it is, and what is guaranteed.

use super::contents::{Contents, DataCard, ModelCard};
use super::html::Html;
use super::number::{bound, count, number};
use super::parts::{pairs, paragraph, table};
use super::words;
use crate::finetune::{HeadInit, LambdaSource, Method};
use crate::update::What;

/// The data card.
pub(super) fn data(card: &DataCard, contents: &Contents) -> Html {
    let mut h = Html::default();
    let sum = |of: fn(&super::contents::ClassCount) -> usize| -> usize {
        card.classes.iter().map(of).sum()
    };
    let mut rows = vec![
        ("Folder", card.folder.clone()),
        ("Classes", card.classes.len().to_string()),
        ("Training images", sum(|c| c.train).to_string()),
        ("Test images", sum(|c| c.test).to_string()),
        ("Split", card.split.clone()),
        ("Training set, SHA-256", card.training_set.clone()),
    ];
    if let Some(tested) = &contents.tested {
        rows.push(("Tested on", tested.on.clone()));
    }
    pairs(&mut h, "The data", &rows);
    paragraph(
        &mut h,
        "The fingerprint is that of names, classes and contents of the training images; the folder's are \
         the same as those that the model was fitted on.",
    );
    if contents.tested.is_none() {
        let rows: Vec<Vec<String>> = card
            .classes
            .iter()
            .map(|c| vec![c.class.clone(), c.train.to_string(), c.test.to_string()])
            .collect();
        let columns = [
            ("Class", false),
            ("Training images", true),
            ("Test images", true),
        ];
        table(&mut h, "Images of every class", &columns, &rows);
    }
    if !card.skipped.is_empty() {
        let left_out = count(card.skipped.len(), "file", "files");
        h.leaf(
            "h3",
            &[],
            format!("Left out: {left_out} that could not be read"),
        );
        h.element("ul", &[], |h| {
            for skipped in &card.skipped {
                h.leaf("li", &[], skipped);
            }
        });
    }
    h
}

/// The model card.
pub(super) fn model(card: &ModelCard, contents: &Contents) -> Html {
    let mut h = Html::default();
    let r = &contents.record;
    let options = &card.options;
    let trained = if card.copies > 1 {
        let each = card.trained_weights / card.copies;
        format!(
            "{}: {each} for each of {} classes",
            card.trained_weights, card.copies
        )
    } else {
        card.trained_weights.to_string()
    };
    let mut rows = vec![
        (
            "Backbone",
            format!(
                "{}, {} \u{d7} {} pixels",
                r.backbone, r.image_size, r.image_size
            ),
        ),
        (
            "Method",
            format!(
                "{}: {}",
                words::method(r.method),
                words::method_in_full(r.method)
            ),
        ),
        ("Trained from", card.first_trainable.clone()),
        ("Trained weights", trained),
        ("Lambda", number(r.lambda_total)),
        ("Scale of the targets", number(options.alpha)),
        ("Seed", options.seed.to_string()),
    ];
    if options.leaky_slope > 0.0 {
        rows.push(("Slope of the activations", number(options.leaky_slope)));
    }
    if let (Method::Lqf, Some(scale)) = (r.method, r.backbone_scale) {
        rows.push((
            "Head for linearising",
            words::head(options.head_init).to_owned(),
        ));
        rows.push(("Scale of the backbone's weights", number(scale)));
    }
    rows.extend(card.changes.iter().map(|change| {
        let certified = if change.certified {
            ""
        } else {
            ", not certified"
        };
        let images = count(change.samples, "image", "images");
        let what = words::what(change.what);
        ("After the fit", format!("{images} {what}{certified}"))
    }));
    rows.push(("Page written by", card.written_by.clone()));
    pairs(&mut h, "The model", &rows);
    h.leaf("h3", &[], "What is guaranteed");
    list(&mut h, &guaranteed(contents));
    h.leaf("h3", &[], "What is not");
    list(&mut h, &not_guaranteed(card, contents));
    h
}

fn list(h: &mut Html, items: &[String]) {
    h.element("ul", &[], |h| {
        for item in items {
            h.leaf("li", &[], item);
        }
    });
}

fn guaranteed(contents: &Contents) -> Vec<String> {
    let r = &contents.record;
    let bound = bound(r.suboptimality_bound_relative);
    let mut items = vec![
        format!(
            "For this training set, this Lambda and the options above, no other trained weights have a \
             training objective smaller than this model's by more than {bound} of it."
        ),
        "The minimum is a single one: neither the order of the images nor the start of the solver decides \
         which model comes out."
            .to_owned(),
    ];
    if r.leave_one_out_error.is_some() {
        items.push(
            "The leave-one-out error is that of models fitted without one training image each, with the \
             same Lambda, in closed form; it is not an estimate of them."
                .to_owned(),
        );
    }
    if r.leave_one_of_each_out_error.is_some() {
        items.push(
            "With few images a class, leaving one out puts its class at a disadvantage, and the error is mostly too \
             large; where one image of every other class is left out too, drawn at random, it is nearer to the test \
             error."
                .to_owned(),
        );
    }
    items
}

fn not_guaranteed(card: &ModelCard, contents: &Contents) -> Vec<String> {
    let r = &contents.record;
    let mut items = vec![
        "Errors on images of another kind than the test images."
            .to_owned(),
        "That this problem is the best one to solve: another backbone, Lambda or method may do better."
            .to_owned(),
        "That an output is a probability; outputs only rank the classes.".to_owned(),
        "Digits beyond those of floating point: the network runs in single precision, the sums over the \
         data in double precision, and the file keeps the weights in single precision."
            .to_owned(),
    ];
    if matches!(r.lambda_source, LambdaSource::LeaveOneOut) && r.leave_one_out_error.is_some() {
        let changed = card.changes.iter().any(|c| c.what != What::Constrained);
        let images = if changed {
            "the images of the fit, before some were forgotten or added"
        } else {
            "the same images"
        };
        items.push(format!(
            "That the leave-one-out error is free of choice: Lambda was chosen by leave-one-out on {images}, \
             which makes it a little too small."
        ));
    }
    if r.method == Method::Lqf {
        match card.options.head_init {
            HeadInit::Ridge => items.push(
                "Leave-one-out and removal of images: the head at which the network is linearised was \
                 fitted to all training images and remembers them."
                    .to_owned(),
            ),
            HeadInit::Split => items.push(
                "Leave-one-out and removal of the images of the seeded half to which the head at which \
                 the network is linearised was fitted."
                    .to_owned(),
            ),
            HeadInit::Common | HeadInit::Random => {}
        }
    }
    if contents.tested.is_none() {
        items.push("Any error on new images: there were no test images.".to_owned());
    }
    items
}
