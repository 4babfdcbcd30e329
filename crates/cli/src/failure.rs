//! Failures and their exit codes; the codes themselves belong to `main`.

use std::fmt;
use std::io;

use clap::error::ErrorKind;
use convextune_model::images::ImagesError;

/// The command line asks for something that cannot be.
#[derive(Debug)]
pub struct WrongUsage(String);

impl fmt::Display for WrongUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUsage {}

/// An error that ends with the exit code for wrong usage.
pub fn wrong_usage(text: String) -> anyhow::Error {
    WrongUsage(text).into()
}

/// What an error means for the exit code.
pub enum Kind {
    /// Wrong usage.
    Usage,
    /// The work failed.
    Work,
    /// Whoever read our output has had enough; no failure.
    ReaderGone,
}

/// The kind of an error.
pub fn kind(error: &anyhow::Error) -> Kind {
    let reader_gone = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.is::<WrongUsage>() {
        Kind::Usage
    } else if error.downcast_ref::<io::Error>().is_some_and(reader_gone) {
        Kind::ReaderGone
    } else {
        Kind::Work
    }
}

/// An error's sentence, with the option that helps where the library cannot know it.
pub fn sentence(error: &anyhow::Error) -> String {
    let option = match error.downcast_ref() {
        Some(convextune::Error::Images(ImagesError::Undecodable { .. })) => {
            " with --skip-unreadable"
        }
        _ => "",
    };
    format!("{error}{option}")
}

/// The text of an error on one line, with nothing in it that a terminal would obey.
pub fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().map(plain).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sentence of a parse error, without its decoration and usage lines.
pub fn parse_error(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "say what to do: a command is missing (see --help)".into();
    }
    let text = error.render().to_string();
    let decoration = ["Usage:", "For more information"];
    let paragraphs = text
        .split("\n\n")
        .filter(|p| !decoration.iter().any(|d| p.starts_with(d)));
    let text = one_line(&paragraphs.collect::<Vec<_>>().join("; "));
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let hint = match error.kind() {
        ErrorKind::MissingRequiredArgument if text.contains("--target") => {
            "; --target names the column to predict, in a .npy file f1, f2, ... by its place"
        }
        _ => "",
    };
    format!("{text}{hint} (see --help)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_harmless_line() {
        assert_eq!(one_line("a\n  b\x1b[31mc"), "a b [31mc");
    }
}
