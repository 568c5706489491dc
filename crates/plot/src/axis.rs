//! Maps numbers to positions on the page, and chooses round numbers for the ticks.

/// How values are spread along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal differences have equal lengths.
    #[default]
    Linear,
    /// Equal ratios have equal lengths. Values that are not above 0 cannot be shown and are
    /// skipped.
    Log,
}

/// Magnitudes beyond this (or, on a log scale, below its inverse) count as missing: their sums
/// and differences would overflow.
const LARGEST: f64 = 1e300;

/// A round value and its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The value itself.
    pub value: f64,
    /// Its label, for example `250k`.
    pub label: String,
}

/// A range of values that is mapped to a range of drawing units.
#[derive(Debug, Clone)]
pub struct Axis {
    scale: Scale,
    /// Ends of the range, after [`Scale::project`].
    low: f64,
    high: f64,
    /// Positions of `low` and `high`.
    from: i32,
    to: i32,
}

impl Scale {
    /// Whether this scale can show `value`.
    pub fn shows(self, value: f64) -> bool {
        match self {
            Scale::Linear => value.abs() <= LARGEST,
            Scale::Log => (1.0 / LARGEST..=LARGEST).contains(&value),
        }
    }

    fn project(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
        }
    }

    fn unproject(self, place: f64) -> f64 {
        match self {
            Scale::Linear => place,
            Scale::Log => 10_f64.powf(place),
        }
    }
}

impl Axis {
    /// An axis that shows every value of `values` that the scale can show, with the share `padding`
    /// of their range left free at both ends. `pixels` are the positions of the two ends, the lower
    /// end first.
    pub fn over(
        values: impl Iterator<Item = f64>,
        scale: Scale,
        padding: f64,
        pixels: (i32, i32),
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|&value| scale.shows(value)) {
            let place = scale.project(value);
            low = low.min(place);
            high = high.max(place);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low <= low.abs().max(high.abs()) * 1e-9 {
            let around = if low == 0.0 || scale == Scale::Log { 0.5 } else { low.abs() * 0.1 };
            (low, high) = (low - around, high + around);
        } else {
            let free = (high - low) * padding;
            (low, high) = (low - free, high + free);
        }
        Axis { scale, low, high, from: pixels.0, to: pixels.1 }
    }

    /// The position of `value`, in drawing units; `None` if the scale cannot show it.
    pub fn place(&self, value: f64) -> Option<i32> {
        if !self.scale.shows(value) {
            return None;
        }
        let share = (self.scale.project(value) - self.low) / (self.high - self.low);
        let length = f64::from(self.to - self.from);
        // Values can be outside of the axis; they must not overflow either.
        Some(self.from + (share.clamp(-1.0, 2.0) * length).round() as i32)
    }

    /// About `wanted` round values inside the range, in ascending order.
    pub fn ticks(&self, wanted: usize) -> Vec<Tick> {
        let (low, high) = (self.scale.unproject(self.low), self.scale.unproject(self.high));
        if self.scale == Scale::Log {
            let values = log_ticks(self.low, self.high, wanted);
            if values.len() >= 3 {
                return values.into_iter().map(|v| Tick { value: v, label: short(v, v) }).collect();
            }
        }
        let step = nice_step(high - low, wanted);
        let (first, last) = ((low / step).ceil(), (high / step).floor());
        let count = (last - first).clamp(0.0, 100.0) as usize;
        let largest = (first * step).abs().max((last * step).abs());
        (0..=count)
            .map(|i| (first + i as f64) * step)
            .filter(|&value| self.scale.shows(value))
            .map(|value| Tick { value, label: rounded(value, step, largest) })
            .collect()
    }
}

/// The smallest of 1, 2 or 5 times a power of ten that divides `range` into at most `wanted` parts.
fn nice_step(range: f64, wanted: usize) -> f64 {
    let rough = range / wanted.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough * 0.999);
    factor.unwrap_or(10.0) * power
}

/// Powers of ten between `10^low` and `10^high`: only some of them if there are many, and also 2
/// and 5 times each if there are few.
fn log_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let decades = high - low;
    let every = (decades / wanted.max(1) as f64).ceil().max(1.0) as i32;
    let factors: &[f64] = if decades < wanted as f64 / 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut values = Vec::new();
    for exponent in low.floor() as i32..=high.ceil() as i32 {
        if exponent.rem_euclid(every) != 0 {
            continue;
        }
        for factor in factors {
            let value = factor * 10_f64.powi(exponent);
            let place = value.log10();
            if Scale::Log.shows(value) && place >= low - 1e-12 && place <= high + 1e-12 {
                values.push(value);
            }
        }
    }
    values
}

/// `value` with as many decimals as a multiple of `step` needs, in the unit that suits `largest`.
fn rounded(value: f64, step: f64, largest: f64) -> String {
    let (unit, suffix) = unit_of(largest);
    if unit == 0.0 || (step < 1e-5 && value != 0.0) {
        return format!("{value:.1e}");
    }
    let step = step / unit;
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    if value == 0.0 && unit > 1.0 {
        return "0".to_owned();
    }
    // Adding zero turns -0 into 0.
    format!("{:.decimals$}{suffix}", value / unit + 0.0)
}

/// `value` with a unit of its own, as short as possible.
fn short(value: f64, largest: f64) -> String {
    let (unit, suffix) = unit_of(largest);
    if unit == 0.0 || value < 1e-3 {
        return format!("{value:.0e}");
    }
    // 5 * 10^-1 is not exactly 0.5: a tick of this kind has at most two digits.
    let digits = format!("{:.4}", value / unit);
    format!("{}{suffix}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// The unit in which numbers up to `largest` are written; 0 means powers of ten.
fn unit_of(largest: f64) -> (f64, &'static str) {
    match largest {
        x if x < 1e4 => (1.0, ""),
        x if x < 1e6 => (1e3, "k"),
        x if x < 1e9 => (1e6, "M"),
        x if x < 1e12 => (1e9, "G"),
        x if x < 1e15 => (1e12, "T"),
        _ => (0.0, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], scale: Scale, wanted: usize) -> Vec<String> {
        let axis = Axis::over(values.iter().copied(), scale, 0.0, (0, 1000));
        axis.ticks(wanted).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_and_in_range() {
        assert_eq!(labels(&[0.0, 10.0], Scale::Linear, 5), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(&[0.0, 52_000.0], Scale::Linear, 6),
            ["0", "10k", "20k", "30k", "40k", "50k"]
        );
        assert_eq!(
            labels(&[-0.1, 0.1], Scale::Linear, 4),
            ["-0.10", "-0.05", "0.00", "0.05", "0.10"]
        );
        assert_eq!(
            labels(&[1.0, 1e6], Scale::Log, 8),
            ["1", "10", "100", "1000", "10k", "100k", "1M"]
        );
        assert_eq!(labels(&[1.0, 11.0], Scale::Log, 8), ["1", "2", "5", "10"]);
    }

    #[test]
    fn a_narrow_log_range_still_has_ticks() {
        let found = labels(&[1.31, 1.92], Scale::Log, 6);
        assert!(found.len() >= 3, "{found:?}");
    }

    #[test]
    fn places_are_exact_at_the_ends_and_refuse_what_has_none() {
        let axis = Axis::over([1.0, 100.0].into_iter(), Scale::Log, 0.0, (500, 100));
        assert_eq!(axis.place(1.0), Some(500));
        assert_eq!(axis.place(10.0), Some(300));
        assert_eq!(axis.place(100.0), Some(100));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(axis.place(bad), None);
        }
    }

    #[test]
    fn any_range_gives_finite_ticks() {
        let ranges = [
            vec![],
            vec![5.0],
            vec![0.0],
            vec![f64::NAN, f64::INFINITY],
            vec![-1e300, 1e300],
            vec![1e-300, 1e300],
            vec![1.0, 1.0 + 1e-15],
            vec![f64::MIN_POSITIVE / 4.0],
            vec![1e15, 1e15 + 1.0],
        ];
        for values in ranges {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::over(values.iter().copied(), scale, 0.05, (0, 1000));
                let ticks = axis.ticks(8);
                assert!(ticks.len() <= 40, "{values:?} {scale:?}: {} ticks", ticks.len());
                for tick in ticks {
                    assert!(tick.value.is_finite(), "{values:?} {scale:?}");
                    let place = axis.place(tick.value);
                    assert!(place.is_some_and(|p| (-1..=1001).contains(&p)), "{values:?} {tick:?}");
                }
            }
        }
    }
}
