//! Cells and columns.

use std::collections::HashMap;

/// What stands in one place of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing that is known.
    Missing,
    /// A number; not NaN, but infinite when the file says so.
    Number(f64),
    /// Anything else.
    Text(&'a str),
}

/// How a missing cell is written.
const MISSING: [&str; 11] = [
    "", "?", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "null", "NULL",
];

impl<'a> Cell<'a> {
    /// What a cell's text says.
    pub fn parse(text: &'a str) -> Self {
        let text = text.trim();
        if MISSING.contains(&text) {
            return Self::Missing;
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_nan() => Self::Missing,
            Ok(value) => Self::Number(value),
            Err(_) => Self::Text(text),
        }
    }

    /// The name of the category that the cell stands for: its text; a number's shortest one, so that `1`,
    /// `01` and `1.0` are the same. `None` when missing.
    pub(super) fn category(self) -> Option<String> {
        match self {
            Self::Missing => None,
            // Zero has one name, not two.
            Self::Number(value) => Some(format!("{}", value + 0.0)),
            Self::Text(text) => Some(text.to_owned()),
        }
    }
}

/// Whether a text is a number but for commas, be they decimal (`3,14`, `1.234,5`) or between thousands
/// (`1,234.5`): which of the two is not to be told from `1,234`.
pub(super) fn has_commas(text: &str) -> bool {
    let is_number = |text: &str| matches!(Cell::parse(text), Cell::Number(_));
    let decimal = text
        .split_once(',')
        .is_some_and(|(whole, rest)| is_number(&format!("{}.{rest}", whole.replace('.', ""))));
    let (whole, _) = text.split_once('.').unwrap_or((text, ""));
    let groups = |whole: &str| whole.split(',').skip(1).all(|group| group.len() == 3);
    decimal || whole.contains(',') && groups(whole) && is_number(&text.replace(',', ""))
}

/// That the texts of a column are not all numbers written with commas, which would be taken for categories.
///
/// # Errors
/// The first one's index, and the reason.
pub(super) fn check_commas(cells: &[Cell<'_>]) -> Result<(), (usize, String)> {
    let mut texts = cells.iter().enumerate().filter_map(|(i, cell)| match cell {
        Cell::Text(text) => Some((i, *text)),
        _ => None,
    });
    let Some((first, text)) = texts.next() else {
        return Ok(());
    };
    if !has_commas(text) || texts.any(|(_, text)| !has_commas(text)) {
        return Ok(());
    }
    let reason = format!(
        "{} is a number with a comma, as are all the texts of its column: write decimal points, and thousands \
         without commas; categories as words",
        shown(text)
    );
    Err((first, reason))
}

/// Names of categories, numbers first and ascending, then texts.
pub(super) fn ordered(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    let number = |name: &String| match Cell::parse(name) {
        Cell::Number(value) => value,
        _ => f64::INFINITY,
    };
    names.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
    names
}

/// A column as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Column {
    /// Numbers, NaN where missing.
    Numbers(Vec<f64>),
    /// Texts, of which some may be numbers: `levels` are the different ones, and row `i` holds
    /// `levels[codes[i]]`.
    Texts {
        levels: Vec<String>,
        codes: Vec<usize>,
    },
}

impl Column {
    pub fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Numbers(values) if values[row].is_nan() => Cell::Missing,
            Self::Numbers(values) => Cell::Number(values[row]),
            Self::Texts { levels, codes } => Cell::parse(&levels[codes[row]]),
        }
    }
}

/// A column of texts in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct TextBuilder {
    seen: HashMap<String, usize>,
    levels: Vec<String>,
    codes: Vec<usize>,
}

impl TextBuilder {
    /// Adds a row.
    pub fn push(&mut self, text: &str) {
        let code = self.seen.get(text).copied().unwrap_or_else(|| {
            self.seen.insert(text.to_owned(), self.levels.len());
            self.levels.push(text.to_owned());
            self.levels.len() - 1
        });
        self.codes.push(code);
    }

    pub fn column(self) -> Column {
        let Self { levels, codes, .. } = self;
        Column::Texts { levels, codes }
    }
}

/// A name or a cell as messages show it: shortened, and without control characters.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 40;
    let short: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    let rest = if text.chars().nth(LONGEST).is_some() {
        "..."
    } else {
        ""
    };
    format!("`{short}{rest}`")
}

/// The first of a list of names as messages show them.
pub(super) fn listed<S: AsRef<str>>(names: &[S], at_most: usize) -> String {
    let first: Vec<String> = names
        .iter()
        .take(at_most)
        .map(|name| shown(name.as_ref()))
        .collect();
    match names.len().saturating_sub(at_most) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
