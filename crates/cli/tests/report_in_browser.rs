//! The page in a real browser: it loads, complains of nothing, shows every picture, and does not scroll
//! sideways. Skipped, with a message, where no Chromium is installed. Pages and screenshots stay in
//! `target/tmp/pages`.

// Helpers are outside of test functions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cases::fit_model;
use common::page::sample;
use common::{Place, text};
use convextune::page::render;

const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
/// A phone, a tablet, a desktop.
const WIDTHS: [u32; 3] = [360, 800, 1400];
/// What is seen of a page, in pixels.
const HEIGHT: u32 = 3000;

/// A headless browser with a profile of its own.
struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    /// The first browser in PATH, or a message that there is none.
    fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path)
            .flat_map(|folder| BROWSERS.map(|name| folder.join(name)))
            .find(|program| program.is_file());
        let Some(program) = found else {
            eprintln!(
                "skipped: no Chromium in PATH (one of {})",
                BROWSERS.join(", ")
            );
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        Some(Self { program, profile })
    }

    /// What the browser prints and what it complains of.
    fn run(&self, args: &[&str], page: &Path) -> (String, Vec<String>) {
        let output = Command::new(&self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-extensions",
                "--hide-scrollbars",
            ])
            .args(["--allow-file-access-from-files", "--enable-logging=stderr"])
            .arg("--virtual-time-budget=10000")
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .args(args)
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        let messages = text(&output.stderr);
        assert!(output.status.success(), "{messages}");
        let console = messages.lines().filter(|line| line.contains("CONSOLE"));
        (text(&output.stdout), console.map(str::to_owned).collect())
    }
}

/// Where pages and screenshots stay.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A page that shows another at every width and writes down what it finds: width, title, how much of the
/// page is hidden to the right, pictures, pictures that did not load.
fn harness(page: &str) -> String {
    let frame = |width| {
        format!(
            "<iframe src=\"{page}\" width=\"{width}\" height=\"{HEIGHT}\" style=\"border:0\"></iframe>"
        )
    };
    let frames = WIDTHS.map(frame).concat();
    let script = "
        addEventListener('load', () => {
          const found = [...document.querySelectorAll('iframe')].map(f => {
            const d = f.contentDocument, e = d.documentElement, pictures = [...d.images];
            const broken = pictures.filter(p => !p.complete || p.naturalWidth === 0).length;
            return [f.width, d.title, e.scrollWidth - e.clientWidth, pictures.length, broken].join(', ');
          });
          document.getElementById('found').textContent = found.join('; ');
        });";
    format!(
        "<!DOCTYPE html><html><body style=\"margin:0;white-space:nowrap\"><p id=\"found\">nothing</p>\
         {frames}<script>{script}</script></body></html>"
    )
}

/// Opens a page at every width, looks at it, and takes a screenshot.
fn look(browser: &Browser, name: &str, title: &str, page: &str) {
    let (file, frames) = (
        folder().join(format!("{name}.html")),
        folder().join(format!("{name}-frames.html")),
    );
    fs::write(&file, page).unwrap();
    fs::write(&frames, harness(&format!("{name}.html"))).unwrap();
    let (dom, complaints) = browser.run(&["--dump-dom"], &frames);
    assert_eq!(complaints, Vec::<String>::new(), "{name}");
    let found = dom.split("<p id=\"found\">").nth(1).unwrap();
    let pictures = page.matches("<img ").count();
    let expected = WIDTHS.map(|width| format!("{width}, {title}, 0, {pictures}, 0"));
    assert_eq!(
        found.split("</p>").next().unwrap(),
        expected.join("; "),
        "{name}: width, title, hidden to the right, pictures, broken ones"
    );
    let shot = folder().join(format!("{name}.png"));
    let _ = fs::remove_file(&shot);
    let to = format!("--screenshot={}", shot.display());
    let window = format!("--window-size={},{HEIGHT}", WIDTHS.iter().sum::<u32>() + 20);
    browser.run(&[&to, &window], &frames);
    assert!(
        fs::metadata(&shot).unwrap().len() > 20_000,
        "{}",
        shot.display()
    );
}

#[test]
fn a_browser_would_complain_of_what_is_wrong() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("wrong.html");
    let wrong = render(&sample(3)).replace(
        "</main>",
        "<script>1</script><img src=\"https://127.0.0.1/x.png\" alt=\"x\"></main>",
    );
    fs::write(&page, wrong).unwrap();
    let (_, complaints) = browser.run(&["--dump-dom"], &page);
    assert!(
        complaints.len() >= 2,
        "the page's own policy forbids both: {complaints:?}"
    );
}

#[test]
fn a_full_page_is_readable_at_every_width() {
    let Some(browser) = Browser::find() else {
        return;
    };
    for classes in [3, 101] {
        let (name, page) = (format!("made-up-{classes}"), render(&sample(classes)));
        let title = "Report on flowers &amp; &lt;co&gt;.safetensors";
        look(&browser, &name, title, &page);
    }
}

#[test]
fn a_page_about_a_model_is_readable() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let place = Place::new();
    fit_model(&place);
    place.photos("swapped", &["green"], 4);
    fs::rename(place.path("swapped/green"), place.path("swapped/red")).unwrap();
    let output = place.run(&[
        "report",
        "m.safetensors",
        "photos",
        "--test=swapped",
        "-o",
        "r.html",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = fs::read_to_string(place.path("r.html")).unwrap();
    look(&browser, "fitted", "Report on m.safetensors", &page);
}
