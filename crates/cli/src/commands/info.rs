//! `convextune info`.

use anyhow::Result;
use convextune::model_file::{Model, is_convex_network};
use convextune::update::What;

use super::{nn, summary};
use crate::args::InfoArgs;
use crate::output::{print, print_json};
use crate::table::pairs;

/// Shows a model file's header.
pub fn run(args: &InfoArgs) -> Result<()> {
    if is_convex_network(&args.model)? {
        return nn::info(&args.model, args.json);
    }
    let model = Model::load(&args.model)?;
    let header = &model.header;
    if args.json {
        return print_json(header);
    }
    let options = &header.options;
    let mut rows = vec![
        ("model", args.model.display().to_string()),
        ("format version", header.format_version.to_string()),
        ("trained from", header.first_trainable.clone()),
        ("trained weights", trained(&model)),
        ("training set", header.training_set.clone()),
        ("split", summary::split(&header.split)),
        ("seed", options.seed.to_string()),
        ("target scale", options.alpha.to_string()),
        ("leaky slope", options.leaky_slope.to_string()),
    ];
    rows.extend(header.changes.iter().map(|change| {
        let what = match change.what {
            What::Forgotten => "forgotten",
            What::Added => "added",
            What::Constrained => "demands met on",
        };
        let certified = if change.certified {
            ""
        } else {
            ", not certified"
        };
        (what, format!("{} images{certified}", change.samples))
    }));
    rows.extend(summary::rows(&header.report));
    rows.push(("classes", header.classes.join(", ")));
    print(&pairs(&rows))
}

/// How many weights were trained, and in how many copies.
fn trained(model: &Model) -> String {
    let classes = model.header.classes.len();
    let copies = model.header.options.copies(classes);
    let count = model.body.u.len() / copies.max(1);
    if copies == 1 {
        count.to_string()
    } else {
        format!("{count}, a copy for each of {classes} classes")
    }
}
