//! Finding a backbone by what a user calls it.

use super::{Backbone, BackboneError, all};

/// The backbone called `name`, by its canonical name or an alias; case does not matter, and `_`
/// is as good as `-`.
///
/// # Errors
/// [`BackboneError::Unknown`], which lists the known names and suggests the nearest.
pub fn by_name(name: &str) -> Result<&'static Backbone, BackboneError> {
    let wanted = normalised(name);
    let is_called = |backbone: &&Backbone| names_of(backbone).any(|n| normalised(n) == wanted);
    all()
        .iter()
        .find(is_called)
        .ok_or_else(|| BackboneError::Unknown {
            name: name.to_owned(),
            nearest: nearest(&wanted),
            known: all().iter().map(Backbone::name).collect(),
        })
}

fn names_of(backbone: &Backbone) -> impl Iterator<Item = &'static str> {
    [backbone.name()]
        .into_iter()
        .chain(backbone.aliases().iter().copied())
}

fn normalised(name: &str) -> String {
    name.trim().to_lowercase().replace('_', "-")
}

/// The canonical name of the backbone one of whose names is nearest to `wanted`, if it is near.
fn nearest(wanted: &str) -> Option<&'static str> {
    let distance = |b: &Backbone| names_of(b).map(|n| edits(wanted, &normalised(n))).min();
    let candidates = all().iter().filter_map(|b| Some((distance(b)?, b.name())));
    let (edits, name) = candidates.min_by_key(|(edits, _)| *edits)?;
    (edits <= 2.max(wanted.chars().count() / 3)).then_some(name)
}

/// Insertions, deletions and replacements that turn `a` into `b` (Levenshtein 1966).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_case_and_underscores_are_accepted() {
        for name in [
            "efficientnet-lite0",
            "tf_efficientnet_lite0",
            "EfficientNet_Lite0",
        ] {
            assert_eq!(by_name(name).unwrap().name(), "efficientnet-lite0");
        }
        assert_eq!(by_name("mobilenet_v2").unwrap().name(), "mobilenetv2");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones_and_the_nearest() {
        let message = by_name("eficientnet-lite3").unwrap_err().to_string();
        assert!(
            message.contains("did you mean `efficientnet-lite3`"),
            "{message}"
        );
        assert!(message.contains("mobilenetv2"), "{message}");
        let message = by_name("swin-transformer-large").unwrap_err().to_string();
        assert!(!message.contains("did you mean"), "{message}");
    }

    #[test]
    fn no_two_backbones_share_a_name() {
        let mut names: Vec<_> = all().iter().flat_map(names_of).map(normalised).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
