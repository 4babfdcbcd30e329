//! Pages for tests: made-up contents that fill every section, and a checker of HTML.

use convextune::page::{
    ClassCount, Contents, Curve, DataCard, DecayPath, Eigenvalues, ErrorExplained, Informative,
    Listing, ModelCard, Picture, Scored, Spectrum, Suspect, Tested,
};
use convextune_model::images::Thumbnail;
use image::codecs::jpeg::JpegEncoder;
use serde_json::json;

use super::{Numbers, picture};

/// A class name that would break a page that does not escape.
pub const NASTY: &str = "<b class=\"x\">&'cats'</b><script>alert(1)</script>";

/// The record of a fit that took 40 iterations.
pub fn record(classes: usize) -> convextune::report::FitReport {
    let descent: Vec<_> = (0..40)
        .map(|i| {
            let gradient = (i % 8 == 7 || i == 39).then(|| 0.8 * 0.7f64.powi(i));
            json!({"iteration": i, "relative_bound": 0.55f64.powi(i), "relative_gradient_norm": gradient})
        })
        .collect();
    let record = json!({
        "method": "lqf", "backbone": "efficientnet-lite0", "image_size": 224, "classes": classes,
        "train_samples": 60 * classes, "test_samples": 20 * classes, "accuracy": 0.9,
        "test_error": 0.1, "train_error": 0.012, "leave_one_out_error": 0.094,
        "objective": 1234.5, "relative_gradient_norm": 7.3e-7,
        "suboptimality_bound_relative": 4.1e-11, "status": "Converged", "lambda_total": 33.2,
        "weight_decay": 0.055, "lambda_source": "leave-one-out", "backbone_scale": 0.31,
        "backbone_share": 0.5, "kernel_mean_diagonal": 110.0,
        "plan": {"solver": "pcg", "precondition": "sketch", "sketch_size": 8192, "expected_cost": 40.0},
        "iterations": 39, "descent": descent, "passes": 88.0, "jvps": 41, "vjps": 42,
        "solver_work": {"passes": 80.0, "jvps": 40, "vjps": 41, "normal_products": 39,
                        "preconditioner_applications": 40},
        "preconditioner_cost": 12.0, "prior_cost": 3.0, "seconds": 71.4,
        "peak_memory_bytes": 900_000_000u64, "skipped": ["photos/a/broken.jpg: is empty"],
    });
    serde_json::from_value(record).unwrap()
}

/// Names such as a folder of clothes has; `NASTY` is the second.
pub fn names(classes: usize) -> Vec<String> {
    const SOME: [&str; 10] = [
        "dress",
        NASTY,
        "longsleeve",
        "outwear",
        "pants",
        "shirt",
        "shoes",
        "shorts",
        "skirt",
        "t-shirt",
    ];
    (0..classes)
        .map(|c| match SOME.get(c) {
            Some(name) => (*name).to_owned(),
            None => format!("class_{c:03}_of_many"),
        })
        .collect()
}

/// A picture of a class.
pub fn image(class: usize, name: &str, seed: u32) -> Picture {
    let mut jpeg = Vec::new();
    let square = picture(class, seed);
    let large = image::imageops::resize(&square, 96, 72, image::imageops::FilterType::Triangle);
    JpegEncoder::new(&mut jpeg).encode_image(&large).unwrap();
    Picture {
        name: format!("train/{name}/3fa85f64-5717-4562-b3fc-{seed:012}.jpg"),
        class: name.to_owned(),
        thumbnail: Some(Thumbnail {
            width: 96,
            height: 72,
            jpeg,
        }),
    }
}

fn scored(class: usize, name: &str, seed: u32, count: u32, first: f64) -> Vec<Scored> {
    (0..count)
        .map(|k| Scored {
            image: image(class, name, seed + k),
            score: first * 0.8f64.powi(k as i32),
        })
        .collect()
}

/// Made-up contents that fill every section.
pub fn sample(classes: usize) -> Contents {
    let names = names(classes);
    let mut numbers = Numbers::new(classes as u32);
    let mut counts = vec![vec![0; classes]; classes];
    for (c, row) in counts.iter_mut().enumerate() {
        row[c] = 14 + c % 5;
        for _ in 0..(c % 7) {
            row[((f64::from(numbers.next()) + 1.0) * 0.5 * classes as f64) as usize % classes] += 1;
        }
    }
    let listing = |how: &str| (how.to_owned(), 3 * classes);
    let (how, total) = listing("The number is how much larger the predicted class's output is.");
    let errors = (0..4)
        .map(|k| ErrorExplained {
            image: image(k % classes, &names[k % classes], 500 + k as u32),
            predicted: names[(k + 1) % classes].clone(),
            margin: 0.9 - 0.2 * k as f64,
            responsible: scored(1, &names[(k + 1) % classes], 40 * k as u32, 5, 0.21),
        })
        .collect();
    let each = if classes > 24 { 1 } else { 4 };
    let informative = names
        .iter()
        .enumerate()
        .map(|(c, name)| Informative {
            class: name.clone(),
            most: scored(c, name, 9000 + 10 * c as u32, each, 0.013),
            least: scored(c, name, 7000 + 10 * c as u32, each, 2e-7),
        })
        .collect();
    let suspects = (0..6)
        .map(|k| Suspect {
            image: image(k % classes, &names[k % classes], 300 + k as u32),
            likely: names[(k + 2) % classes].clone(),
            score: 1.3 - 0.1 * k as f64,
        })
        .collect();
    let exact = "Exact: the dual system was solved to a relative residual of 2e-9.";
    Contents {
        model: Some(ModelCard {
            first_trainable: "head.conv".into(),
            trained_weights: 412_000 * classes,
            copies: classes,
            options: convextune::finetune::FitOptions::default(),
            changes: Vec::new(),
            written_by: "convextune 0.0.0".into(),
        }),
        data: Some(DataCard {
            folder: "/home/me/photos of 2024/".into(),
            classes: names
                .iter()
                .map(|class| ClassCount {
                    class: class.clone(),
                    train: 60,
                    test: 20,
                })
                .collect(),
            split: "train/ and test/".into(),
            training_set: "0123456789abcdef".repeat(4),
            skipped: vec!["photos/a/<broken>.jpg: is empty".into()],
        }),
        tested: Some(Tested {
            on: "the folder test/".into(),
            classes: names.clone(),
            counts,
        }),
        errors: Some(Listing {
            how,
            total,
            items: errors,
        }),
        informative: Some(Listing {
            how: format!("Mean squared change of the test outputs without the image. {exact}"),
            total: classes,
            items: informative,
        }),
        suspects: Some(Listing {
            how: format!("Leave-one-out margin of the other class. {exact}"),
            total: 60 * classes,
            items: suspects,
        }),
        spectrum: Some(spectrum()),
        path: Some(path()),
        ..Contents::new("flowers & <co>.safetensors".into(), record(classes))
    }
}

fn spectrum() -> Spectrum {
    let values = |first: f64, factor: f64| (0..50).map(|k| first * f64::powi(factor, k)).collect();
    Spectrum {
        how: "The 50 largest eigenvalues of the Hessian by Lanczos iteration.".into(),
        lambda: Some(33.2),
        operators: vec![
            Eigenvalues {
                name: "Hessian".into(),
                values: values(2.4e6, 0.8),
                condition_number: Some(7.2e4),
            },
            Eigenvalues {
                name: "Hessian, preconditioned".into(),
                values: values(2.1, 0.98),
                condition_number: Some(3.4),
            },
        ],
    }
}

fn path() -> DecayPath {
    let curve = |name: &str, floor: f64| Curve {
        name: name.into(),
        points: (-8..9)
            .map(|k| (33.2 * 2f64.powi(k), floor + 0.002 * f64::from(k * k)))
            .collect(),
    };
    DecayPath {
        how: "The minimum at every Lambda, each from the one before.".into(),
        measure: "mean squared error".into(),
        curves: vec![curve("leave-one-out", 0.05), curve("test images", 0.061)],
        chosen: Some(33.2),
    }
}

/// What is wrong with a page: tags that do not nest, attributes that are not quoted, identifiers that
/// are missing or double, pictures without words, anything that would be loaded or run.
pub fn problems(page: &str) -> Vec<String> {
    const VOID: [&str; 3] = ["img", "link", "meta"];
    let mut problems = Vec::new();
    let (mut open, mut ids, mut references) = (Vec::new(), Vec::new(), Vec::new());
    let Some(mut rest) = page.strip_prefix("<!DOCTYPE html>") else {
        return vec!["no document type".into()];
    };
    while let Some(at) = rest.find(['<', '>']) {
        if rest.as_bytes()[at] == b'>' && open.last() != Some(&"style") {
            problems.push(format!("stray > before {:?}", &rest[..at.min(20)]));
        }
        let Some(tag) = rest[at..].strip_prefix('<') else {
            rest = &rest[at + 1..];
            continue;
        };
        let Some(end) = tag.find('>') else {
            problems.push("a tag has no end".into());
            break;
        };
        rest = &tag[end + 1..];
        let tag = &tag[..end];
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(opened) if opened == name => {}
                other => problems.push(format!("</{name}> closes {other:?}")),
            }
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let attributes = match parse(attributes) {
            Ok(attributes) => attributes,
            Err(why) => {
                problems.push(format!("<{tag}>: {why}"));
                continue;
            }
        };
        for (key, value) in &attributes {
            match *key {
                "id" => ids.push(*value),
                "aria-labelledby" => references.extend(value.split(' ')),
                "href" => references.extend(value.strip_prefix('#')),
                _ if key.starts_with("on") => problems.push(format!("{key} would run")),
                _ => {}
            }
        }
        let words = attributes.iter().find(|(key, _)| *key == "alt");
        if name == "img" && words.is_none_or(|(_, text)| text.is_empty()) {
            problems.push(format!("no words for <{}>", &tag[..tag.len().min(60)]));
        }
        if !VOID.contains(&name) {
            open.push(name);
        }
    }
    problems.extend(open.iter().map(|name| format!("<{name}> is not closed")));
    let missing = references.iter().filter(|r| !ids.contains(r));
    problems.extend(missing.map(|r| format!("there is no {r}")));
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < count {
        problems.push("an identifier occurs twice".into());
    }
    for loading in [
        "http:",
        "https:",
        "<script",
        "javascript:",
        "url(",
        "@import",
        "<iframe",
    ] {
        if page.contains(loading) {
            problems.push(format!("contains {loading}"));
        }
    }
    problems
}

/// Attributes, all in double quotes.
fn parse(mut text: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut attributes = Vec::new();
    while !text.trim().is_empty() {
        let (name, rest) = text
            .trim_start()
            .split_once("=\"")
            .ok_or("no quoted value")?;
        let (value, rest) = rest.split_once('"').ok_or("a quote is open")?;
        if !name
            .chars()
            .all(|c| c.is_ascii_alphabetic() || c == '-' || c == ':')
        {
            return Err(format!("{name:?} is no attribute"));
        }
        attributes.push((name, value));
        text = rest;
    }
    Ok(attributes)
}
