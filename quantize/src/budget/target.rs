//! The target size of a file.

use std::str::FromStr;

use anyhow::{Context, bail, ensure};

/// The size of a whole file, header included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Bytes.
    Bytes(u64),
    /// Bits per weight.
    Bits(f64),
}

impl Target {
    /// The largest size in bytes of a file with this number of weights.
    pub fn bytes(self, weights: u64) -> u64 {
        match self {
            Target::Bytes(bytes) => bytes,
            Target::Bits(bits) => (bits * weights as f64 / 8.0) as u64,
        }
    }

    /// A number of bits per weight, for example `4.25`.
    ///
    /// # Errors
    /// For anything except a number above 0 and at most 32.
    pub fn from_bits(text: &str) -> anyhow::Result<Self> {
        let bits: f64 = text.parse().with_context(|| format!("{text}: expected a number"))?;
        ensure!(
            bits > 0.0 && bits <= 32.0,
            "{text} bits per weight: expected more than 0, at most 32"
        );
        Ok(Target::Bits(bits))
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    /// Reads a number of bytes with a unit: `80MB`, `76.5MiB`, `1GB`, `900kB`, `123456`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(number_len);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" | "k" => 1e3,
            "mb" | "m" => 1e6,
            "gb" | "g" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => bail!("{text}: expected bytes with one of the units kB, MB, GB, KiB, MiB, GiB"),
        };
        let number: f64 =
            number.parse().with_context(|| format!("{text}: expected a size, for example 80MB"))?;
        let bytes = number * factor;
        ensure!((1.0..1e18).contains(&bytes), "{text}: no size of a file");
        Ok(Target::Bytes(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("80MB", 80_000_000),
            ("76.5 MiB", 80_216_064),
            ("1g", 1_000_000_000),
            ("900kB", 900_000),
            ("123456", 123_456),
        ] {
            assert_eq!(text.parse::<Target>().unwrap(), Target::Bytes(bytes), "{text}");
        }
        for text in ["", "MB", "-5MB", "5 parsecs", "1e3", "0", "1.2.3MB"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        assert_eq!(Target::from_bits("4.25").unwrap().bytes(800), 425);
        assert!(Target::from_bits("0").is_err() && Target::from_bits("nan").is_err());
    }
}
