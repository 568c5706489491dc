//! Which release a bundle is, and until which day it counts: the rules that the run file, the
//! command line and `bundle.json` share.

use std::ops::RangeInclusive;

/// Numbers of a release: from the first to the largest that browsers, which read JSON numbers as
/// doubles, count exactly.
pub const RELEASES: RangeInclusive<u64> = 1..=(1 << 53) - 1;

/// What [`is_day`] expects, in words.
pub const DAY_FORM: &str = "a day that exists, as YYYY-MM-DD";

/// Whether `text` is a day of the calendar in the one form `YYYY-MM-DD`: days in it are ordered as
/// their texts are.
pub fn is_day(text: &str) -> bool {
    let form = text.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    form && text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_day;

    #[test]
    fn days_are_those_of_the_calendar_in_one_form() {
        for day in ["2027-06-30", "2028-02-29", "0001-01-01", "9999-12-31"] {
            assert!(is_day(day), "{day}");
        }
        for other in [
            "",
            "2027-02-29",
            "2027-6-30",
            "2027-13-01",
            "2027-00-10",
            "2027-06-31",
            "20270630",
            "2027-06-30T00:00:00Z",
            "+02027-06-30",
            "-027-06-30",
            "２027-06-30",
            " 2027-06-30",
        ] {
            assert!(!is_day(other), "{other}");
        }
    }
}
