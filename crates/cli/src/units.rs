//! Human-readable numbers.

/// `1.5 MiB`, `312 B`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `0.62 s`, `12.4 s`, `3 min 05 s`, `1 h 02 min`.
pub fn seconds(s: f64) -> String {
    let whole = s.round() as u64;
    match whole {
        0..10 => format!("{s:.2} s"),
        10..100 => format!("{s:.1} s"),
        100..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_well() {
        assert_eq!(bytes(312), "312 B");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(count(0), "0");
        assert_eq!(count(163_009_536), "163,009,536");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(seconds(0.617), "0.62 s");
        assert_eq!(seconds(185.0), "3 min 05 s");
        assert_eq!(seconds(3725.0), "1 h 02 min");
    }
}
