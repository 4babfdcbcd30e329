//! The page about a model: its structure on made-up contents, and the command that writes it.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::cases::{case, check, fit_model};
use common::page::{NASTY, problems, record, sample};
use common::{Place, listing, text};
use convextune::finetune::LambdaSource;
use convextune::page::{Contents, render};
use convextune::update::{Change, What};
use serde_json::Value;

const SECTIONS: [&str; 10] = [
    "certificate",
    "confusion",
    "classes",
    "errors",
    "informative",
    "labels",
    "spectrum",
    "weight-decay",
    "data",
    "model",
];

fn has(page: &str, section: &str) -> bool {
    let anchor = format!("<section id=\"{section}\"");
    let link = format!("href=\"#{section}\"");
    assert_eq!(page.contains(&anchor), page.contains(&link), "{section}");
    page.contains(&anchor)
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let wrong = |body: &str| problems(&format!("<!DOCTYPE html><p>{body}</p>"));
    assert_eq!(wrong("a <b>c</b> <img alt=\"x\">"), Vec::<String>::new());
    for body in [
        "<b>",
        "</b>",
        "<b></i></b>",
        "a > b",
        "<b x=y></b>",
        "<b x=\"></b>",
        "<img src=\"x\">",
        "<b id=\"a\"></b><b id=\"a\"></b>",
        "<a href=\"#gone\"></a>",
        "<a href=\"https://x\"></a>",
        "<b onclick=\"x\"></b>",
        "<script></script>",
        "<",
    ] {
        assert!(!wrong(body).is_empty(), "{body}");
    }
}

#[test]
fn a_full_page_is_well_formed_and_complete() {
    for classes in [2, 3, 24, 25, 101] {
        let page = render(&sample(classes));
        assert_eq!(problems(&page), Vec::<String>::new(), "{classes}");
        for section in SECTIONS {
            assert!(has(&page, section), "{section} of {classes}");
        }
    }
}

#[test]
fn names_are_shown_and_never_obeyed() {
    let page = render(&sample(3));
    let escaped = NASTY
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;");
    assert!(page.contains(&escaped));
    assert!(!page.contains("<script") && !page.contains("<b class"));
    assert!(page.contains("<title>Report on flowers &amp; &lt;co&gt;.safetensors</title>"));
    assert!(page.contains("&lt;broken&gt;.jpg"));
}

/// Takes a part away.
type Remove = fn(&mut Contents);

#[test]
fn what_there_is_no_data_for_is_left_out() {
    let bare = render(&Contents::new("m".into(), record(3)));
    assert_eq!(problems(&bare), Vec::<String>::new());
    let there: Vec<&str> = SECTIONS.into_iter().filter(|s| has(&bare, s)).collect();
    assert_eq!(there, ["certificate"]);
    assert!(!bare.contains("<dt>Test error</dt>"));

    let without: [(&str, Remove); 7] = [
        ("errors", |c| c.errors = None),
        ("informative", |c| c.informative = None),
        ("labels", |c| c.suspects = None),
        ("spectrum", |c| c.spectrum = None),
        ("weight-decay", |c| c.path = None),
        ("data", |c| c.data = None),
        ("model", |c| c.model = None),
    ];
    for (section, remove) in without {
        let mut contents = sample(3);
        remove(&mut contents);
        let page = render(&contents);
        let gone: Vec<&str> = SECTIONS.into_iter().filter(|s| !has(&page, s)).collect();
        assert_eq!(gone, [section]);
        assert_eq!(problems(&page), Vec::<String>::new(), "{section}");
    }
}

#[test]
fn figures_of_the_page_are_those_of_the_contents() {
    let mut contents = sample(3);
    let tested = contents.tested.as_mut().unwrap();
    tested.counts = vec![vec![18, 2, 0], vec![0, 20, 0], vec![1, 4, 15]];
    assert_eq!((tested.images(), tested.wrong()), (60, 7));
    assert_eq!(tested.confusions(), [(2, 1, 4), (0, 1, 2), (2, 0, 1)]);
    let page = render(&contents);
    for part in [
        "<dd class=\"value\">11.7\u{a0}%</dd>",
        "7 of 60; 95 % interval 5.8 to 22.2\u{a0}%",
        "<td class=\"number miss\" style=\"--share:0.200\">4</td>",
        "<td class=\"number hit\" style=\"--share:1.000\">20</td>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let rows: Vec<&str> = page
        .split("<tr>")
        .filter(|r| r.contains("class=\"bar\""))
        .collect();
    assert!(
        rows[0].contains("longsleeve") && rows[0].contains("25.0\u{a0}%"),
        "the worst class comes first"
    );
}

/// What was forgotten since the fit is on the model card, and what Lambda was chosen on.
#[test]
fn changes_after_the_fit_are_named() {
    let mut contents = sample(3);
    contents.record.lambda_source = LambdaSource::LeaveOneOut;
    contents.record.leave_one_out_error = Some(0.1);
    assert!(render(&contents).contains("by leave-one-out on the same images"));
    contents.model.as_mut().unwrap().changes.push(Change {
        what: What::Forgotten,
        samples: 2,
        certified: false,
    });
    let page = render(&contents);
    assert!(page.contains("2 images forgotten, not certified"));
    assert!(page.contains("on the images of the fit, before some were forgotten or added"));
    assert!(!page.contains("on the same images"));
    assert_eq!(problems(&page), Vec::<String>::new());
}

#[test]
fn a_closed_form_has_no_learning_curve() {
    let mut contents = sample(3);
    assert!(render(&contents).contains("id=\"descent-title\""));
    contents.record.descent.truncate(1);
    let page = render(&contents);
    assert!(!page.contains("id=\"descent-title\"") && page.contains("closed form"));
}

#[test]
fn a_page_is_written_about_a_model_and_its_folder() {
    let place = Place::new();
    fit_model(&place);
    let output = place.run(&["report", "m.safetensors", "photos", "-o", "report.html"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("report.html") && table.contains("of 9 images"),
        "{table}"
    );
    let page = fs::read_to_string(place.path("report.html")).unwrap();
    assert_eq!(problems(&page), Vec::<String>::new());
    for section in [
        "certificate",
        "confusion",
        "classes",
        "informative",
        "spectrum",
        "weight-decay",
        "data",
        "model",
    ] {
        assert!(has(&page, section), "{section}");
    }
    for part in [
        "Report on m.safetensors",
        "cifar-resnet20",
        "green",
        "train/ and test/",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn the_json_has_what_the_page_shows() {
    let place = Place::new();
    fit_model(&place);
    // Test images with wrong labels are errors.
    place.photos("swapped", &["green"], 4);
    fs::rename(place.path("swapped/green"), place.path("swapped/red")).unwrap();
    let args = [
        "report",
        "m.safetensors",
        "photos",
        "--test=swapped",
        "-o",
        "r.html",
        "--json",
    ];
    let report = place.json(&args);
    let evaluation = place.json(&["evaluate", "m.safetensors", "swapped", "--json"]);
    assert_eq!(report["name"], "m.safetensors");
    assert_eq!(report["record"]["method"], "lqf-fc");
    assert_eq!(report["tested"]["counts"][2][2], evaluation["right"]);
    let total = report["errors"]["total"].as_u64().unwrap();
    assert_eq!(total + evaluation["right"].as_u64().unwrap(), 4);
    assert!(total > 0, "{report}");
    let first = &report["errors"]["items"][0];
    assert_eq!(first["image"]["class"], "red");
    assert!(first["margin"].as_f64().unwrap() > 0.0);
    assert_eq!(
        report["data"]["classes"][0],
        serde_json::json!({"class": "blue", "train": 6, "test": 0})
    );
    let page = fs::read_to_string(place.path("r.html")).unwrap();
    let shown = |key: &str| report[key]["items"].as_array().map_or(0, Vec::len);
    let lengths = |item: &Value, keys: &[&str]| -> usize {
        keys.iter()
            .map(|k| item[*k].as_array().unwrap().len())
            .sum()
    };
    let items = |key: &str| report[key]["items"].as_array().unwrap().iter();
    let beside: usize = items("errors").map(|e| lengths(e, &["responsible"])).sum();
    let informative: usize = items("informative")
        .map(|i| lengths(i, &["most", "least"]))
        .sum();
    assert!(beside > 0 && informative == 3 * 6, "{report}");
    assert_eq!(
        page.matches("<img ").count(),
        shown("errors") + beside + informative + shown("suspects"),
        "a picture for every image"
    );
    assert!(
        !report.to_string().contains("base64"),
        "JSON has names, not pictures"
    );

    fs::remove_file(place.path("r.html")).unwrap();
    place.json(&["report", "m.safetensors", "photos", "--json"]);
    assert!(!place.path("r.html").exists());
}

#[test]
fn a_seeded_split_is_found_again_and_a_plain_folder_has_no_test_images() {
    let place = Place::new();
    let fit = |more: &str, output: &str| {
        let args = format!(
            "fit photos/train --weights=weights.safetensors --method=lqf-fc {more} -o {output} --json"
        );
        place.json(&args.split_whitespace().collect::<Vec<_>>())
    };
    let fitted = fit("--holdout=0.5 --seed=3", "half.safetensors");
    let report = place.json(&["report", "half.safetensors", "photos/train", "--json"]);
    let counts = report["tested"]["counts"].as_array().unwrap().iter();
    let images: u64 = counts
        .flat_map(|r| r.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(images, fitted["test_samples"].as_u64().unwrap());
    let wrong = report["errors"]["total"].as_u64().unwrap_or(0);
    let error = fitted["test_error"].as_f64().unwrap();
    assert!((wrong as f64 / images as f64 - error).abs() < 1e-12);

    fit("--holdout=none", "all.safetensors");
    let output = place.run(&[
        "report",
        "all.safetensors",
        "photos/train",
        "-o",
        "all.html",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = fs::read_to_string(place.path("all.html")).unwrap();
    assert_eq!(problems(&page), Vec::<String>::new());
    assert!(!has(&page, "confusion") && page.contains("there were no test images"));
}

#[test]
fn unreadable_images_are_left_out_on_request_and_listed() {
    let place = Place::new();
    fs::write(place.path("photos/train/red/bad.png"), b"").unwrap();
    fs::write(place.path("photos/test/red/bad.png"), b"no image").unwrap();
    let fit = "fit photos --weights=weights.safetensors --method=lqf-fc -om.safetensors --json --skip-unreadable";
    place.json(&fit.split_whitespace().collect::<Vec<_>>());
    check(
        &place,
        1,
        &[case(
            "report m.safetensors photos -o r.html",
            "photos/test/red/bad.png + --skip-unreadable",
        )],
    );
    let report = place.json(&[
        "report",
        "m.safetensors",
        "photos",
        "--skip-unreadable",
        "--json",
    ]);
    assert_eq!(
        report["data"]["skipped"].as_array().unwrap().len(),
        2,
        "{report}"
    );
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let place = Place::new();
    fit_model(&place);
    fs::create_dir(place.path("folder")).unwrap();
    place.photos("other", &["blue", "red"], 3);
    place.photos("strange", &["purple", "red"], 3);
    check(
        &place,
        2,
        &[
            case("report m.safetensors photos", "--output"),
            case("report m.safetensors -o r.html", "FOLDER"),
            case(
                "report m.safetensors photos -o m.safetensors",
                "m.safetensors + is the model itself",
            ),
        ],
    );
    check(
        &place,
        1,
        &[
            case(
                "report m.safetensors photos -o folder",
                "folder: is a folder",
            ),
            case(
                "report m.safetensors photos -o gone/r.html",
                "no folder gone",
            ),
            case(
                "report m.safetensors photos -o /dev/full",
                "/dev/full: is no regular file",
            ),
            case(
                "report gone.safetensors photos -o r.html",
                "gone.safetensors",
            ),
            case(
                "report weights.safetensors photos -o r.html",
                "weights.safetensors + not a model",
            ),
            case(
                "report m.safetensors gone -o r.html",
                "gone + does not exist",
            ),
            case(
                "report m.safetensors other -o r.html",
                "other + not the training images of the model + classes",
            ),
            case(
                "report m.safetensors photos --test strange -o r.html",
                "strange + `purple`",
            ),
        ],
    );
    // An unwritable output is found before a missing model: nothing long is begun.
    check(
        &place,
        1,
        &[case(
            "report gone.safetensors photos -o folder",
            "folder: is a folder",
        )],
    );
    assert!(listing(&place.path("folder")).is_empty());

    fs::write(place.path("r.html"), "precious").unwrap();
    fs::write(place.path("photos/test/red/bad.png"), b"").unwrap();
    check(
        &place,
        1,
        &[case(
            "report m.safetensors photos -o r.html",
            "bad.png + --skip-unreadable",
        )],
    );
    assert_eq!(fs::read(place.path("r.html")).unwrap(), b"precious");
}
