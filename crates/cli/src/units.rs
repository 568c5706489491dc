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

/// The bytes of a text such as `500MB` (10^6), `20GiB` (2^30) or `1000000`.
///
/// # Errors
/// When it is not a whole number with one of the units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB.
pub fn parse_bytes(text: &str) -> anyhow::Result<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: Option<u64> = match text[digits..].trim_start() {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    let number = text[..digits].parse::<u64>().ok();
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or_else(|| anyhow::anyhow!("{text:?}: expected a size such as 500MB, 20GB or 4GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        for (text, bytes) in [("0", 0), ("12 B", 12), ("500MB", 500_000_000), ("4GiB", 4 << 30)] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "MB", "1.5GB", "-1", "5 parsecs", "99999999999TB"] {
            assert!(parse_bytes(text).unwrap_err().to_string().contains("expected"), "{text}");
        }
    }

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
