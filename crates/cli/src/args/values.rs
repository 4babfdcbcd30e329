//! Parsers of single values: what is out of range never gets past the command line.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use convextune::convexnet::GateChoice;
use convextune_model::backbones::{Backbone, by_name};
use convextune_model::images::Holdout;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One of `names`, which are the kebab-case names that the library's type serialises to.
pub fn choice<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names.iter().copied())
        .try_map(|name| serde_json::from_value::<T>(serde_json::Value::String(name)))
}

/// The name among `names` under which the library knows `value`; for defaults in help texts.
pub fn name_of<T: Serialize>(names: &[&'static str], value: &T) -> &'static str {
    let name = serde_json::to_value(value).ok();
    let is_it = |n: &&&'static str| name.as_ref().is_some_and(|v| v == **n);
    names.iter().find(is_it).copied().unwrap_or("")
}

/// A backbone by name.
pub fn backbone(text: &str) -> Result<&'static Backbone, String> {
    by_name(text).map_err(|e| e.to_string())
}

/// A finite number above zero.
pub fn positive(text: &str) -> Result<f64, String> {
    within(text, |x| x > 0.0, "a finite number above 0")
}

/// A number that is not below 0.
pub fn not_negative(text: &str) -> Result<f64, String> {
    within(text, |x| x >= 0.0, "a finite number, 0 or more")
}

/// A number strictly between 0 and 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| x > 0.0 && x < 1.0,
        "a number between 0 and 1, both excluded",
    )
}

/// A slope from 0 to 1, 1 excluded.
pub fn slope(text: &str) -> Result<f64, String> {
    within(
        text,
        |x| (0.0..1.0).contains(&x),
        "a number from 0 to 1, 1 excluded",
    )
}

fn within(text: &str, good: impl Fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && good(x) => Ok(x),
        _ => Err(format!("it must be {wanted}")),
    }
}

/// A whole number of at least 1 and at most `LIMIT`.
pub fn count<const LIMIT: usize>(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if (1..=LIMIT).contains(&n) => Ok(n),
        _ => Err(format!("it must be a whole number from 1 to {LIMIT}")),
    }
}

/// A share to hold out, or `none`.
pub fn holdout(text: &str) -> Result<Holdout, String> {
    if text == "none" {
        return Ok(Holdout::Nothing);
    }
    fraction(text)
        .map(Holdout::Fraction)
        .map_err(|e| format!("{e}, or `none`"))
}

/// Which gates: a number of sampled ones, `all` or `adaptive`.
pub fn gates(text: &str) -> Result<GateChoice, String> {
    match text {
        "adaptive" => Ok(GateChoice::Adaptive),
        _ => more_gates(text).map_err(|e| format!("{e}, or `adaptive`")),
    }
}

/// A number of sampled gates, or `all`.
pub fn more_gates(text: &str) -> Result<GateChoice, String> {
    match text {
        "all" => Ok(GateChoice::All),
        _ => count::<1_000_000>(text)
            .map(GateChoice::Sampled)
            .map_err(|e| format!("{e}, or `all`")),
    }
}

/// A number of bytes such as `2GiB`, `500MB` or `1000000`.
pub fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, f64); 9] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
    ];
    let unit = UNITS
        .iter()
        .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1.0));
    match number.trim().parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 && x * size < 9e15 => Ok((x * size) as usize),
        _ => Err("it must be a number of bytes such as 2GiB, 500MB or 1000000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("1.5 kB"), Ok(1500));
        assert_eq!(bytes("0"), Ok(0));
        for wrong in ["", "-1", "1e300", "2 gigs", "NaN"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for wrong in ["0", "-1", "NaN", "inf", "x"] {
            assert!(positive(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "1", "NaN"] {
            assert!(
                fraction(wrong).is_err() && holdout(wrong).is_err(),
                "{wrong}"
            );
        }
        assert_eq!(holdout("none"), Ok(Holdout::Nothing));
        assert!(count::<10>("0").is_err() && count::<10>("11").is_err());
        assert_eq!(count::<10>("10"), Ok(10));
        assert_eq!(slope("0"), Ok(0.0));
        assert!(gates("0").is_err() && gates("some").is_err() && more_gates("adaptive").is_err());
        assert_eq!(gates("7"), Ok(GateChoice::Sampled(7)));
        assert_eq!(gates("all"), Ok(GateChoice::All));
    }
}
