//! Sizes, colours and line patterns, chosen for print and for colour-blind readers.

use plotters::style::RGBColor;

/// Drawing units of one PDF point. plotters places everything at whole units, so a unit must be too
/// small to be visible.
pub const UNITS_PER_POINT: i32 = 3;

/// Width of a figure in units: 600 pt, a little more than a printed column.
pub const FIGURE_WIDTH: i32 = 600 * UNITS_PER_POINT;
/// Height of a figure in units.
pub const FIGURE_HEIGHT: i32 = 360 * UNITS_PER_POINT;

/// Text sizes in units.
pub const TITLE_SIZE: i32 = 14 * UNITS_PER_POINT;
/// Axis titles, legend and notes.
pub const LABEL_SIZE: i32 = 11 * UNITS_PER_POINT;
/// Numbers at the ticks, names of bar groups.
pub const TICK_SIZE: i32 = 10 * UNITS_PER_POINT;

/// Nearly black.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Axis lines and ticks.
pub const AXIS: RGBColor = RGBColor(0x66, 0x66, 0x66);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xE2, 0xE2, 0xE2);

/// Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is hardly visible on
/// paper.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x22, 0x22, 0x22),
];

/// Lengths of a line's dashes and gaps in units; `None` is a solid line.
pub type Dash = Option<(i32, i32)>;

/// Line patterns, so that curves differ also in a grey print. The numbers of patterns (4) and
/// colours (7) are coprime, so the first 28 series all differ.
const DASHES: [Dash; 4] = [None, Some((24, 12)), Some((6, 9)), Some((42, 15))];

/// Colour of the series at `index`.
pub fn color(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// Line pattern of the series at `index`.
pub fn dash(index: usize) -> Dash {
    DASHES[index % DASHES.len()]
}

/// Estimated width of `text` at `size`, both in units.
///
/// The mean advance of Ubuntu Light is 0.52 em over English text; wide and narrow letters are
/// distinguished so that a row of `W` or of digits is not too long.
pub fn text_width(text: &str, size: i32) -> i32 {
    let em: f64 = text.chars().map(advance).sum();
    (em * f64::from(size)).ceil() as i32
}

fn advance(letter: char) -> f64 {
    match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.27,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.88,
        'f' | 't' | 'r' | '(' | ')' | '/' | '-' => 0.38,
        'A'..='Z' => 0.66,
        _ if letter.is_ascii() => 0.55,
        _ => 1.0,
    }
}

/// `text` on one line: control characters are escaped, and a text of more than `limit` characters
/// is cut and ends in an ellipsis.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for (index, letter) in text.chars().enumerate() {
        if index >= limit {
            line.push('…');
            break;
        }
        match letter {
            // XML has no way to write these.
            '\u{FFFE}' | '\u{FFFF}' => line.push('\u{FFFD}'),
            _ if letter.is_control() => line.extend(letter.escape_default()),
            _ => line.push(letter),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out_and_long_text_is_cut() {
        assert_eq!(one_line("a\nb\0", 10), "a\\nb\\u{0}");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(one_line("\u{FFFF}", 3), "\u{FFFD}");
    }

    #[test]
    fn the_first_28_series_look_different() {
        let looks: std::collections::HashSet<_> = (0..28)
            .map(|i| {
                let RGBColor(r, g, b) = color(i);
                (r, g, b, dash(i))
            })
            .collect();
        assert_eq!(looks.len(), 28);
    }
}
