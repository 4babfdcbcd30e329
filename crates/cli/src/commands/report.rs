//! `convextune report`.

use std::path::Path;

use anyhow::Result;
use convextune::model_file::Model;
use convextune::page::{Contents, render};
use convextune::progress::Reporter;
use convextune::report_page::{PageOptions, gather};
use convextune_model::weights::write_atomically;

use crate::args::report::ReportArgs;
use crate::failure::wrong_usage;
use crate::output::{check_writable, print, print_json};
use crate::progress::Terminal;
use crate::table::{pairs, percent};

/// Gathers what there is to show, writes the page, and reports.
pub fn run(args: &ReportArgs) -> Result<()> {
    if let Some(output) = &args.output {
        check_writable(output)?;
        refuse_the_model(args, output)?;
    }
    let reporter = Terminal::new(args.run.quiet, 1e-3);
    let model = Model::load(&args.model)?;
    let options = PageOptions {
        folder: args.folder.clone(),
        test: args.test.clone(),
        cache_memory: args.read.cache_memory,
        skip_unreadable: args.read.skip_unreadable,
    };
    let contents = gather(name(&args.model), &model, &options, &reporter)?;
    reporter.finish();
    for skipped in contents.data.iter().flat_map(|d| &d.skipped) {
        reporter.note(&format!("{skipped}; it was left out"));
    }
    if let Some(output) = &args.output {
        let page = render(&contents);
        write_atomically(output, |out| out.write_all(page.as_bytes()))
            .map_err(convextune::Error::from)?;
    }
    if args.run.json {
        return print_json(&contents);
    }
    print(&summary(&contents, args.output.as_deref()))
}

/// That the page does not take the place of the model it is about.
fn refuse_the_model(args: &ReportArgs, output: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    };
    if same(output, &args.model) {
        return Err(wrong_usage(format!(
            "{}: is the model itself; give another name for the page",
            output.display()
        )));
    }
    Ok(())
}

/// The file's name without its folder.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn summary(contents: &Contents, output: Option<&Path>) -> String {
    let mut rows = Vec::new();
    if let Some(tested) = &contents.tested {
        let (wrong, images) = (tested.wrong(), tested.images());
        let share = wrong as f64 / images.max(1) as f64;
        let tested = format!("{} of {images} images", percent(Some(share)));
        rows.push(("test error", tested));
    } else {
        rows.push(("test error", "no test images".to_owned()));
    }
    if let Some(output) = output {
        rows.push(("page", output.display().to_string()));
    }
    pairs(&rows)
}
