//! Numbers for people.

/// Relative to a sum of many terms in double precision, smaller differences are rounding.
const RESOLUTION: f64 = 1e-15;

/// A number of any size, in four digits; a large exponent is written as a power of ten.
pub(super) fn number(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if !x.is_finite() {
        "not finite".to_owned()
    } else if x.fract() == 0.0 && x.abs() < 1e5 {
        format!("{x}")
    } else if (1e-3..1e5).contains(&x.abs()) {
        let before = 1 + x.abs().log10().floor() as i32;
        format!("{x:.*}", (4 - before).max(0) as usize)
    } else {
        scientific(x, 2)
    }
}

/// A very small number, in two digits.
pub(super) fn small(x: f64) -> String {
    if (1e-2..1e3).contains(&x.abs()) || !x.is_finite() {
        number(x)
    } else if x == 0.0 {
        "0".to_owned()
    } else {
        scientific(x, 1)
    }
}

/// A proven relative bound; what the arithmetic cannot resolve is not claimed.
pub(super) fn bound(x: f64) -> String {
    if x < RESOLUTION {
        power_of_ten(-15)
    } else {
        small(x)
    }
}

/// A number with its sign, as a change is written.
pub(super) fn signed(x: f64) -> String {
    let sign = if x < 0.0 { "\u{2212}" } else { "+" };
    format!("{sign}{}", number(x.abs()))
}

/// `1.2 × 10⁻⁷`.
fn scientific(x: f64, decimals: usize) -> String {
    let text = format!("{x:.decimals$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent = exponent.parse().unwrap_or(0);
            format!("{digits}\u{a0}\u{d7}\u{a0}{}", power_of_ten(exponent))
        }
        None => text,
    }
}

/// `10⁻³`.
pub(super) fn power_of_ten(exponent: i32) -> String {
    let raised = |c: char| match c {
        '-' => '\u{207b}',
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        digit => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    };
    let digits = exponent.to_string();
    format!("10{}", digits.chars().map(raised).collect::<String>())
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", 100.0 * share)
}

/// `1 image`, `2 images`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The 95 % interval for a probability of which `k` successes in `n` independent trials were seen
/// (Wilson, J. Am. Stat. Assoc. 22, 1927): with p = k/n and z = 1.96,
///
/// ```text
///     ( p + z^2/2n  -+  z sqrt( p (1 - p)/n + z^2/4n^2 ) ) / ( 1 + z^2/n )
/// ```
pub(super) fn interval(k: usize, n: usize) -> (f64, f64) {
    const Z2: f64 = 1.959_964 * 1.959_964;
    let n = n.max(1) as f64;
    let p = k as f64 / n;
    let centre = p + Z2 / (2.0 * n);
    let half = (Z2 * (p * (1.0 - p) / n + Z2 / (4.0 * n * n))).sqrt();
    let scale = 1.0 + Z2 / n;
    let bound = |x: f64| (x / scale).clamp(0.0, 1.0);
    (bound(centre - half), bound(centre + half))
}

/// The interval as text.
pub(super) fn interval_text(k: usize, n: usize) -> String {
    let (low, high) = interval(k, n);
    format!("{:.1} to {:.1}\u{a0}%", 100.0 * low, 100.0 * high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.123_456), "0.1235");
        assert_eq!(number(1234.56), "1235");
        assert_eq!(number(-1.0e-9), "-1.00\u{a0}\u{d7}\u{a0}10\u{207b}\u{2079}");
        assert_eq!(
            small(3.21e-12),
            "3.2\u{a0}\u{d7}\u{a0}10\u{207b}\u{b9}\u{b2}"
        );
        assert_eq!(signed(-0.5), "\u{2212}0.5000");
        assert_eq!(number(15.0), "15");
        assert_eq!(
            (bound(1e-28), bound(2e-9)),
            (power_of_ten(-15), small(2e-9))
        );
        assert_eq!(count(1, "image", "images"), "1 image");
    }

    #[test]
    fn the_interval_is_wilsons() {
        // Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, and 0 of 20.
        let (low, high) = interval(81, 263);
        assert!(
            (low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4,
            "{low} {high}"
        );
        let (low, high) = interval(0, 20);
        assert!(low < 1e-12 && (high - 0.1611).abs() < 1e-4, "{low} {high}");
    }
}
