//! Layouts, stratified draws, and mismatched folders.

use super::super::testing::{folder, png, real_data, write};
use super::*;

fn held_per_class(data: &Dataset) -> Vec<usize> {
    (0..data.classes.len())
        .map(|label| {
            data.held_out
                .iter()
                .filter(|item| item.label == label)
                .count()
        })
        .collect()
}

#[test]
fn a_plain_folder_gives_a_fifth_of_every_class() {
    let dir = folder(&[("a", 10), ("b", 5), ("c", 20)]);
    let data = Dataset::open(dir.path(), Holdout::Auto, 7).unwrap();
    assert_eq!(held_per_class(&data), [2, 1, 4]);
    assert_eq!(data.train.len() + data.held_out.len(), 35);
    assert_eq!(
        data.split.origin,
        SplitOrigin::Seeded {
            fraction: 0.2,
            seed: 7
        }
    );
    let recorded: Vec<_> = data.held_out.iter().map(|item| item.name.clone()).collect();
    assert_eq!(data.split.held_out, recorded);
    assert!(data.train.iter().all(|item| !recorded.contains(&item.name)));
}

#[test]
fn the_split_depends_on_names_and_seed_only() {
    let classes = [("a", 30), ("b", 30)];
    let (one, other) = (folder(&classes), folder(&classes));
    let split = |dir: &Path, seed| Dataset::open(dir, Holdout::Auto, seed).unwrap().split;
    assert_eq!(split(one.path(), 1), split(other.path(), 1));
    assert_ne!(split(one.path(), 1).held_out, split(one.path(), 2).held_out);
    // Pinned: a change of the rule would silently change what published results were measured on.
    let dir = folder(&[("a", 6), ("b", 4)]);
    assert_eq!(split(dir.path(), 0).held_out, PINNED);
}

const PINNED: [&str; 2] = ["a/002.png", "b/000.png"];

#[test]
fn the_record_survives_json() {
    let dir = folder(&[("a", 4), ("b", 4)]);
    let split = Dataset::open(dir.path(), Holdout::Fraction(0.5), 3)
        .unwrap()
        .split;
    let json = serde_json::to_string(&split).unwrap();
    assert_eq!(serde_json::from_str::<Split>(&json).unwrap(), split);
}

#[test]
fn small_classes_share_the_remainder_and_keep_an_image() {
    // Ten classes of two: a fifth of 20 is 4, from four different classes.
    let names: Vec<_> = (0..10).map(|class| format!("c{class}")).collect();
    let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let data = Dataset::open(folder(&pairs).path(), Holdout::Auto, 5).unwrap();
    assert_eq!(data.held_out.len(), 4);
    assert!(held_per_class(&data).iter().all(|&held| held <= 1));

    let greedy = folder(&[("one", 1), ("two", 2), ("ten", 10)]);
    let data = Dataset::open(greedy.path(), Holdout::Fraction(0.99), 5).unwrap();
    assert_eq!(data.classes, ["one", "ten", "two"]);
    assert_eq!(held_per_class(&data), [0, 9, 1]);
}

#[test]
fn nothing_may_be_held_out() {
    let dir = folder(&[("a", 3), ("b", 3)]);
    let data = Dataset::open(dir.path(), Holdout::Nothing, 0).unwrap();
    assert_eq!((data.train.len(), data.held_out.len()), (6, 0));
    assert_eq!(data.split.origin, SplitOrigin::Nothing);
}

#[test]
fn fractions_outside_the_unit_interval_are_refused() {
    let dir = folder(&[("a", 3), ("b", 3)]);
    for fraction in [0.0, 1.0, -0.5, 20.0, f64::NAN] {
        let error = Dataset::open(dir.path(), Holdout::Fraction(fraction), 0).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("it must lie strictly between 0 and 1"),
            "{error}"
        );
    }
}

#[test]
fn test_folders_are_labelled_by_the_training_classes() {
    let dir = folder(&[
        ("train/a", 2),
        ("train/b", 3),
        ("train/c", 2),
        ("test/c", 2),
        ("val/a", 1),
    ]);
    let data = Dataset::open(dir.path(), Holdout::Auto, 0).unwrap();
    assert_eq!(data.train.len(), 7);
    assert!(data.held_out.iter().all(|item| item.label == 2));
    assert_eq!(data.split.held_out, ["test/c/000.png", "test/c/001.png"]);
    assert_eq!(data.split.train[0], "train/a/000.png");
    let origin = SplitOrigin::Folders {
        held_out: "test".to_owned(),
        unused: vec!["val".to_owned()],
    };
    assert_eq!(data.split.origin, origin);
}

#[test]
fn val_serves_where_there_is_no_test() {
    let dir = folder(&[("train/a", 2), ("train/b", 3), ("val/b", 2)]);
    let data = Dataset::open(dir.path(), Holdout::Auto, 0).unwrap();
    assert_eq!(data.held_out.len(), 2);
    assert_eq!(
        Dataset::open(dir.path(), Holdout::Nothing, 0)
            .unwrap()
            .held_out,
        []
    );
}

#[test]
fn train_alone_is_drawn_from() {
    let dir = folder(&[("train/a", 5), ("train/b", 5)]);
    let data = Dataset::open(dir.path(), Holdout::Auto, 0).unwrap();
    assert_eq!((data.train.len(), data.held_out.len()), (8, 2));
    assert!(data.split.held_out[0].starts_with("train/"));
}

#[test]
fn a_test_class_without_training_images_is_named() {
    let dir = folder(&[("train/a", 2), ("train/b", 3), ("test/cow", 2)]);
    let message = Dataset::open(dir.path(), Holdout::Auto, 0)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("test has the class \"cow\", which"),
        "{message}"
    );
}

#[test]
fn an_empty_test_folder_is_refused() {
    let dir = folder(&[("train/a", 2), ("train/b", 3), ("test/a", 0)]);
    let message = Dataset::open(dir.path(), Holdout::Auto, 0)
        .unwrap_err()
        .to_string();
    assert!(message.contains("test holds no JPEG"), "{message}");
}

#[test]
fn a_fraction_beside_a_test_folder_is_refused() {
    let dir = folder(&[("train/a", 2), ("train/b", 3), ("test/a", 1)]);
    let message = Dataset::open(dir.path(), Holdout::Fraction(0.1), 0)
        .unwrap_err()
        .to_string();
    assert!(message.contains("is the held-out set already"), "{message}");
}

#[test]
fn a_class_may_be_called_train() {
    let dir = folder(&[("train", 5), ("car", 5), ("tram", 5)]);
    let data = Dataset::open(dir.path(), Holdout::Auto, 0).unwrap();
    assert_eq!(data.classes, ["car", "train", "tram"]);
}

#[test]
fn a_train_folder_without_classes_is_named() {
    let dir = folder(&[("test/a", 1)]);
    write(dir.path(), "train/x.png", &png(1));
    let message = Dataset::open(dir.path(), Holdout::Auto, 0)
        .unwrap_err()
        .to_string();
    assert!(message.contains("found 1 images directly in"), "{message}");
}

#[test]
fn real_data_opens() {
    let Some(data) = real_data() else { return };
    let clothing = Dataset::open(&data.join("images/clothing10"), Holdout::Auto, 0).unwrap();
    assert_eq!(clothing.classes.len(), 10);
    assert!(clothing.train.len() > clothing.held_out.len() && !clothing.held_out.is_empty());
}
