//! The fingerprint changes with every kind of edit and with nothing else.

use std::fs;

use super::super::folder::ImageFolder;
use super::super::testing::{folder, png, write};
use super::*;

fn of(dir: &Path) -> Fingerprint {
    let folder = ImageFolder::open(dir).unwrap();
    fingerprint(&folder.items, &folder.classes).unwrap()
}

#[test]
fn place_and_order_do_not_matter() {
    let classes = [("a", 3), ("b", 2)];
    let (one, other) = (folder(&classes), folder(&classes));
    assert_eq!(of(one.path()), of(other.path()));
    let mut found = ImageFolder::open(one.path()).unwrap();
    found.items.reverse();
    assert_eq!(
        fingerprint(&found.items, &found.classes).unwrap(),
        of(one.path())
    );
    assert_eq!(of(one.path()).as_str().len(), 64);
}

#[test]
fn every_edit_matters() {
    let dir = folder(&[("a", 3), ("b", 2)]);
    let original = of(dir.path());
    let file = |name: &str| dir.path().join(name);

    write(dir.path(), "a/000.png", &png(200)); // the same length, another colour
    let altered = of(dir.path());
    fs::rename(file("a/001.png"), file("a/renamed.png")).unwrap();
    let renamed = of(dir.path());
    fs::rename(file("a/002.png"), file("b/002.png")).unwrap();
    let moved = of(dir.path());
    fs::remove_file(file("b/002.png")).unwrap();
    let removed = of(dir.path());
    let all = [original, altered, renamed, moved, removed];
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), 5);
}

#[test]
fn the_definition_is_pinned() {
    // sha256(prefix, then per item: len name, name, len class, class, sha256(content)), computed
    // with Python's hashlib.
    let dir = folder(&[]);
    let path = write(dir.path(), "x.png", b"abc");
    let item = Item {
        path,
        name: "k/x.png".to_owned(),
        label: 0,
    };
    let (items, classes) = ([item], ["k".to_owned()]);
    let found = fingerprint(&items, &classes).unwrap();
    assert_eq!(
        found.to_string(),
        "36c7507e876f87d63b4bbe138a5d08d02f1ddbf4706ee5a4f720dc5fb6a94836"
    );
    let digest = ImageDigest {
        member: "338dd36f8efa00eb99a4d2b8f44bfaa81103ad835ebfb07c24a6f528bb83d8c7".to_owned(),
        content: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned(),
    };
    assert_eq!(digests(&items, &classes).unwrap(), [digest]);
}

#[test]
fn a_missing_file_and_a_label_without_class_are_errors() {
    let item = |label| Item {
        path: "/nonexistent.png".into(),
        name: "a/x.png".to_owned(),
        label,
    };
    let missing = fingerprint(&[item(0)], &["a".to_owned()])
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("/nonexistent.png cannot be read"),
        "{missing}"
    );
    assert!(fingerprint(&[item(1)], &["a".to_owned()]).is_err());
}
