//! Axes: where values lie, and which are written beside them.

use super::number::{number, power_of_ten};

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// What an axis shows, and where.
#[derive(Clone, Debug)]
pub(super) struct Range {
    scale: Scale,
    /// Ends, on the axis's own scale: logarithms to base ten on a logarithmic one.
    low: f64,
    high: f64,
    /// Where they lie in the drawing.
    from: f64,
    to: f64,
}

impl Range {
    /// Around all values that the scale can show, with a little room.
    pub fn of(scale: Scale, values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter_map(|v| scale.apply(v)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low {
            0.04 * (high - low)
        } else {
            0.5 * low.abs().max(1.0)
        };
        Self {
            scale,
            low: low - room,
            high: high + room,
            from,
            to,
        }
    }

    /// Where a value lies in the drawing; `None` when the scale cannot show it.
    pub fn place(&self, value: f64) -> Option<f64> {
        let share = (self.scale.apply(value)? - self.low) / (self.high - self.low);
        Some(self.from + share * (self.to - self.from))
    }

    /// Places in the drawing and what is written there.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => linear_ticks(self.low, self.high),
            Scale::Log => log_ticks(self.low, self.high),
        };
        let tick = |(value, label)| Some((self.place(value)?, label));
        values.into_iter().filter_map(tick).collect()
    }
}

impl Scale {
    fn apply(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear => value.is_finite().then_some(value),
            Self::Log => (value.is_finite() && value > 0.0).then(|| value.log10()),
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, about five of them.
fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 5.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * unit)
        .find(|s| *s >= rough)
        .unwrap_or(rough);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    let label = |v: f64| {
        if decimals > 4 || v.abs() >= 1e5 {
            number(v)
        } else {
            format!("{v:.decimals$}")
        }
    };
    // Adding zero turns a negative zero into zero.
    (first..=last)
        .map(|k| k as f64 * step + 0.0)
        .map(|v| (v, label(v)))
        .collect()
}

/// Powers of ten between the logarithms `low` and `high`, at most seven; over less than two decades
/// twice and five times those as well.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let step = (1 + (last - first) / 7) as usize;
    let inside = |v: f64| (low..=high).contains(&v.log10());
    let mut ticks: Vec<(f64, String)> = (first..=last)
        .filter(|e| e.rem_euclid(step as i32) == 0)
        .map(|e| (10f64.powi(e), power_of_ten(e)))
        .filter(|(v, _)| inside(*v))
        .collect();
    if ticks.len() < 2 {
        let between = (first..=last).flat_map(|e| [2.0, 5.0].map(|m| m * 10f64.powi(e)));
        ticks.extend(between.filter(|v| inside(*v)).map(|v| (v, number(v))));
    }
    if ticks.is_empty() {
        let middle = 10f64.powf(f64::midpoint(low, high));
        ticks.push((middle, number(middle)));
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |t: Vec<(f64, String)>| t.into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(labels(linear_ticks(-0.02, 0.52)), ["0.0", "0.2", "0.4"]);
        assert_eq!(
            labels(linear_ticks(0.0, 47.0)),
            ["0", "10", "20", "30", "40"]
        );
        assert_eq!(
            labels(log_ticks(-2.1, 0.1)),
            ["10\u{207b}\u{b2}", "10\u{207b}\u{b9}", "10\u{2070}"]
        );
        for (low, high) in [(-16.0, 3.0), (0.0, 0.1), (-3.2, -3.1), (0.3, 0.30001)] {
            let ticks = log_ticks(low, high).len();
            assert!((1..=8).contains(&ticks), "{low} {high}: {ticks}");
        }
    }

    #[test]
    fn points_lie_where_their_values_say() {
        let range = Range {
            scale: Scale::Log,
            low: -2.0,
            high: 2.0,
            from: 100.0,
            to: 0.0,
        };
        assert_eq!(range.place(1.0), Some(50.0));
        assert_eq!(range.place(0.01), Some(100.0));
        assert_eq!(range.place(0.0), None);
        assert_eq!(range.place(f64::NAN), None);
    }
}
