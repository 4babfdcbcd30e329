//! Batches, the cache's bound, and what happens to unusable files.

use std::fs;
use std::sync::Mutex;

use super::super::folder::ImageFolder;
use super::super::testing::{folder, real_data, write};
use super::super::transform::{Interpolation, Normalisation, Resize};
use super::*;

const SIZE: usize = 4;
const VALUES: usize = SIZE * SIZE * 3;

fn transform() -> Transform {
    let plain = Normalisation {
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    Transform::new(SIZE, Resize::Exact, Interpolation::Bilinear, true, plain).unwrap()
}

/// Two classes of four one-colour images whose red value is their number in the class.
fn eight(cache_bytes: usize, skip: bool) -> (tempfile::TempDir, ImageSource) {
    let dir = folder(&[("a", 4), ("b", 4)]);
    let items = ImageFolder::open(dir.path()).unwrap().items;
    let source = ImageSource::new(items, transform(), cache_bytes, skip);
    (dir, source)
}

fn reds(batch: &[f32]) -> Vec<f32> {
    batch.chunks(VALUES).map(|image| image[0]).collect()
}

#[test]
fn a_batch_follows_the_indices() {
    let (_dir, source) = eight(0, false);
    let mut batch = vec![7.0; 3];
    source.load(&[6, 1, 1], &mut batch).unwrap();
    assert_eq!(
        (batch.len(), reds(&batch)),
        (3 * VALUES, vec![2.0, 1.0, 1.0])
    );
    assert_eq!(batch[..3], [2.0, 10.0, 20.0]);
    source.load_range(2..4, &mut batch).unwrap();
    assert_eq!(reds(&batch), [2.0, 3.0]);
    source.load(&[], &mut batch).unwrap();
    assert!(batch.is_empty());
    assert_eq!(source.labels(), [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!((source.label(3), source.label(4), source.len()), (0, 1, 8));
}

#[test]
fn the_first_images_are_kept_and_no_more_than_fit() {
    let (dir, mut source) = eight(3 * VALUES + 1, false);
    source.preload(&|_, _| ()).unwrap();
    let kept = source
        .kept
        .iter()
        .filter(|slot| slot.get().is_some())
        .count();
    assert_eq!((source.kept.len(), kept), (3, 3));
    // With the files gone, exactly the kept ones still load.
    for item in source.items() {
        fs::remove_file(&item.path).unwrap();
    }
    let mut batch = Vec::new();
    source.load(&[2, 0, 1], &mut batch).unwrap();
    assert_eq!(reds(&batch), [2.0, 0.0, 1.0]);
    let message = source.load(&[0, 3], &mut batch).unwrap_err().to_string();
    let path = dir.path().join("a/003.png");
    assert!(
        message.starts_with(&format!("{} cannot be read", path.display())),
        "{message}"
    );
}

#[test]
fn retained_images_move_up_with_their_squares() {
    for cache in [0, 5 * VALUES, 8 * VALUES] {
        let (dir, mut source) = eight(cache, false);
        source.preload(&|_, _| ()).unwrap();
        source.retain(&[true, false, true, false, false, true, true, true]);
        assert_eq!(source.labels(), [0, 0, 1, 1, 1]);
        let mut batch = Vec::new();
        source.load_range(0..5, &mut batch).unwrap();
        assert_eq!(reds(&batch), [0.0, 2.0, 1.0, 2.0, 3.0]);
        if cache > 5 * VALUES {
            drop(dir);
            source.load_range(0..5, &mut batch).unwrap();
        }
    }
}

#[test]
fn kept_and_fresh_images_are_the_same() {
    let (_first, fresh) = eight(0, false);
    let (_second, mut kept) = eight(usize::MAX, false);
    kept.preload(&|_, _| ()).unwrap();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let all: Vec<_> = (0..8).collect();
    fresh.load(&all, &mut one).unwrap();
    kept.load(&all, &mut other).unwrap();
    assert_eq!(one, other);
}

#[test]
fn a_mirrored_batch_is_mirrored() {
    let dir = folder(&[]);
    let image = image::RgbImage::from_fn(4, 4, |x, _| image::Rgb([x as u8, 0, 9]));
    let png = super::super::testing::encode(image, image::ImageFormat::Png);
    let path = write(dir.path(), "x.png", &png);
    let item = Item {
        path,
        name: "x.png".to_owned(),
        label: 0,
    };
    let source = ImageSource::new(vec![item], transform(), 0, false);
    let mut batch = Vec::new();
    source.load_mirrored(&[0], &mut batch).unwrap();
    assert_eq!(batch[..6], [3.0, 0.0, 9.0, 2.0, 0.0, 9.0]);
}

#[test]
fn an_index_out_of_range_is_an_error() {
    let (_dir, source) = eight(0, false);
    let message = source
        .load(&[0, 8], &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert_eq!(message, "image 8 was asked for, but there are 8");
}

#[test]
fn progress_counts_every_image_once() {
    let (_dir, mut source) = eight(0, false);
    let seen = Mutex::new(Vec::new());
    source
        .preload(&|done, total| seen.lock().unwrap().push((done, total)))
        .unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (1..=8).map(|done| (done, 8)).collect::<Vec<_>>());
}

#[test]
fn unusable_images_are_reported_together() {
    let (dir, mut source) = eight(usize::MAX, false);
    for name in [
        "a/000.png",
        "a/001.png",
        "a/002.png",
        "b/000.png",
        "b/001.png",
        "b/002.png",
    ] {
        write(dir.path(), name, b"");
    }
    let message = source.preload(&|_, _| ()).unwrap_err().to_string();
    assert!(
        message.starts_with("6 of 8 images cannot be used: "),
        "{message}"
    );
    assert!(message.contains("a/000.png is empty; "), "{message}");
    assert!(
        message.contains("b/001.png is empty; and 1 more; repair or remove"),
        "{message}"
    );
    assert!(!message.contains("b/002.png"), "{message}");
    assert_eq!(source.len(), 8);
}

#[test]
fn unusable_images_are_skipped_on_request_and_listed() {
    for cache_bytes in [0, 2 * VALUES, usize::MAX] {
        let (dir, mut source) = eight(cache_bytes, true);
        write(dir.path(), "a/001.png", b"text");
        write(dir.path(), "b/000.png", b"");
        source.preload(&|_, _| ()).unwrap();
        assert_eq!(source.labels(), [0, 0, 0, 1, 1, 1]);
        let skipped: Vec<_> = source
            .skipped()
            .iter()
            .map(|(path, _)| path.clone())
            .collect();
        assert_eq!(
            skipped,
            [dir.path().join("a/001.png"), dir.path().join("b/000.png")]
        );
        let mut batch = Vec::new();
        source.load_range(0..6, &mut batch).unwrap();
        assert_eq!(
            reds(&batch),
            [0.0, 2.0, 3.0, 1.0, 2.0, 3.0],
            "cache {cache_bytes}"
        );
    }
}

#[test]
fn skipping_everything_is_an_error() {
    let (_dir, mut source) = eight(0, true);
    for item in source.items() {
        fs::write(&item.path, b"").unwrap();
    }
    assert!(
        source
            .preload(&|_, _| ())
            .unwrap_err()
            .to_string()
            .starts_with("8 of 8 images")
    );
}

#[test]
fn an_elongated_image_is_named() {
    let dir = folder(&[]);
    let line =
        super::super::testing::encode(image::RgbImage::new(20_000, 1), image::ImageFormat::Png);
    let path = write(dir.path(), "line.png", &line);
    let item = Item {
        path,
        name: "line.png".to_owned(),
        label: 0,
    };
    let source = ImageSource::new(vec![item], Transform::imagenet(), 0, false);
    let message = source.load(&[0], &mut Vec::new()).unwrap_err().to_string();
    assert!(
        message.contains("line.png is 20000 x 1 pixels, too elongated"),
        "{message}"
    );
}

#[test]
fn real_photographs_load() {
    let Some(data) = real_data() else { return };
    let items = ImageFolder::open(&data.join("images/clothing10/test"))
        .unwrap()
        .items;
    let few: Vec<_> = items.into_iter().step_by(40).collect();
    let count = few.len();
    let mut source = ImageSource::new(few, Transform::efficientnet_lite(), 1 << 24, false);
    source.preload(&|_, _| ()).unwrap();
    let mut batch = Vec::new();
    source.load_range(0..count, &mut batch).unwrap();
    assert!(
        batch
            .iter()
            .all(|value| (-127.0 / 128.0..=1.0).contains(value))
    );
    assert!(batch.iter().any(|value| *value > 0.5) && batch.iter().any(|value| *value < -0.5));
}
