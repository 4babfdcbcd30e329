//! Every way in which a folder can be wrong, and what is said about it.

use super::super::testing::{folder, png, write};
use super::*;

fn refusal(dir: &Path) -> String {
    ImageFolder::open(dir).unwrap_err().to_string()
}

#[test]
fn classes_and_images_are_sorted_by_bytes() {
    let dir = folder(&[("zebra", 1), ("ant", 0), ("Bee", 1)]);
    for name in [
        "ant/b.PNG",
        "ant/a.jpeg",
        "ant/B.webp",
        "ant/c.GIF",
        "ant/d.Jpg",
    ] {
        write(dir.path(), name, &png(1));
    }
    let found = ImageFolder::open(dir.path()).unwrap();
    assert_eq!(found.classes, ["Bee", "ant", "zebra"]);
    let names: Vec<_> = found.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Bee/000.png",
            "ant/B.webp",
            "ant/a.jpeg",
            "ant/b.PNG",
            "ant/c.GIF",
            "ant/d.Jpg",
            "zebra/000.png"
        ]
    );
    let labels: Vec<_> = found.items.iter().map(|item| item.label).collect();
    assert_eq!(labels, [0, 1, 1, 1, 1, 1, 2]);
    assert!(
        found
            .items
            .iter()
            .all(|item| item.path == dir.path().join(&item.name))
    );
}

#[test]
fn hidden_deeper_and_foreign_files_are_left_out() {
    let dir = folder(&[("a", 1), ("b", 1), (".cache", 3)]);
    for name in [
        "a/.hidden.png",
        "a/notes.txt",
        "a/png",
        "a/deeper/x.png",
        "README.md",
        "x.png",
    ] {
        write(dir.path(), name, &png(1));
    }
    fs::create_dir(dir.path().join("b/folder.png")).unwrap();
    let found = ImageFolder::open(dir.path()).unwrap();
    assert_eq!((found.classes.len(), found.items.len()), (2, 2));
}

#[test]
fn a_missing_folder_is_named() {
    let dir = folder(&[]);
    let missing = dir.path().join("nowhere");
    assert_eq!(
        refusal(&missing),
        format!("{} does not exist; check the path", missing.display())
    );
}

#[test]
fn a_file_is_not_a_folder() {
    let dir = folder(&[]);
    let file = write(dir.path(), "x.png", &png(1));
    let expected = format!(
        "{} is a file; give a folder with one folder of images per class",
        file.display()
    );
    assert_eq!(refusal(&file), expected);
}

#[test]
fn images_without_class_folders_are_counted() {
    let dir = folder(&[]);
    for name in ["x.png", "y.jpg", "z.txt"] {
        write(dir.path(), name, &png(1));
    }
    let expected = format!(
        "found 2 images directly in {}; put them in one folder per class",
        dir.path().display()
    );
    assert_eq!(refusal(dir.path()), expected);
}

#[test]
fn an_empty_folder_has_no_classes() {
    assert!(refusal(folder(&[]).path()).contains("holds no class folders"));
}

#[test]
fn an_empty_class_is_named_with_its_foreign_files() {
    let dir = folder(&[("cat", 2), ("dog", 0), ("eel", 1)]);
    assert!(refusal(dir.path()).contains("the class \"dog\" in"));
    assert!(!refusal(dir.path()).contains("ignored"));
    write(dir.path(), "dog/1.heic", b"x");
    assert!(refusal(dir.path()).contains("(1 other files were ignored)"));
}

#[test]
fn one_class_is_not_enough() {
    let dir = folder(&[("cat", 3)]);
    assert!(
        refusal(dir.path()).ends_with("holds only one class, \"cat\"; training needs at least two")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn classes_that_differ_in_case_are_refused() {
    let dir = folder(&[("Cat", 1), ("dog", 1), ("cat", 1)]);
    assert!(refusal(dir.path()).contains("the classes \"Cat\" and \"cat\""));
}

#[cfg(target_os = "linux")]
#[test]
fn names_must_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(&[("a", 1), ("b", 1)]);
    let name = std::ffi::OsStr::from_bytes(b"a/caf\xe9.png");
    fs::write(dir.path().join(name), png(1)).unwrap();
    assert!(refusal(dir.path()).ends_with("is not valid UTF-8; rename it"));
}

#[cfg(unix)]
#[test]
fn a_link_to_nowhere_is_listed_so_that_it_is_reported() {
    let dir = folder(&[("a", 1), ("b", 1)]);
    std::os::unix::fs::symlink("/nonexistent/x.png", dir.path().join("a/link.png")).unwrap();
    assert_eq!(ImageFolder::open(dir.path()).unwrap().items.len(), 3);
}

#[cfg(unix)]
#[test]
fn an_unreadable_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder(&[("a", 1), ("b", 1)]);
    let locked = dir.path().join("b");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&locked).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    assert!(
        refusal(dir.path()).contains(&format!("the folder {} cannot be read", locked.display()))
    );
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn any_io_error_of_a_folder_names_it() {
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let message = unreadable(Path::new("/data/x"), denied).to_string();
    assert!(
        message.starts_with("the folder /data/x cannot be read: "),
        "{message}"
    );
}

#[test]
fn prediction_takes_files_as_given_and_folders_sorted() {
    let dir = folder(&[("in", 2)]);
    let odd = write(dir.path(), "photo.bin", &png(1));
    let list = list_images(&[odd.clone(), dir.path().join("in")]).unwrap();
    let expected = [
        odd,
        dir.path().join("in/000.png"),
        dir.path().join("in/001.png"),
    ];
    assert_eq!(list, expected);
    let missing = list_images(&[dir.path().join("no.png")]).unwrap_err();
    assert!(missing.to_string().contains("no.png does not exist"));
    let empty = list_images(&[dir.path().to_path_buf()]).unwrap_err();
    assert!(
        empty
            .to_string()
            .ends_with("holds no JPEG, PNG, WebP or GIF images")
    );
}
