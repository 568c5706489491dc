//! GPT-2's pattern as a hand-written scanner, and the positions where a text may be split in two.
//!
//! ```text
//! '(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s
//! ```
//!
//! As a scanner, it accepts: a contraction; or an optional space and a run of one class; or
//! whitespace, whose last character belongs to the next word unless the text ends there. The
//! lookahead of the pattern needs a backtracking engine, in which tiktoken spends most of its time;
//! this scanner needs one pass. The tests compare it with the regex itself.
//!
//! SmolLM, StarCoder and others first make every digit a piece, and apply the pattern to what is
//! between digits ([`Digits::Single`]): a text ends before each digit as far as the pattern can see.

use super::classes::{Class, Classes};

/// The pattern of GPT-2 in the form that tiktoken uses, for messages and for tests.
#[cfg(test)]
pub(crate) const GPT2_PATTERN: &str =
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";

/// What becomes of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digits {
    /// A run of them is a piece, with the space before it.
    Runs,
    /// Each is a piece.
    Single,
}

impl Classes {
    /// The end of the piece that starts at byte `start`; `start` must be inside of `text`.
    #[inline]
    pub fn piece_end(&self, text: &str, start: usize, digits: Digits) -> usize {
        let bytes = text.as_bytes();
        match bytes[start] {
            b'\'' => {
                if let Some(letters) = contraction(&bytes[start + 1..]) {
                    return start + 1 + letters;
                }
            }
            b' ' => match self.at(text, start + 1) {
                Some((Class::Number, _)) if digits == Digits::Single => return start + 1,
                Some((class, len)) if class != Class::Space => {
                    return self.run_end(text, start + 1 + len, class);
                }
                _ => {}
            },
            _ => {}
        }
        match self.at(text, start) {
            Some((Class::Space, _)) => self.whitespace_end(text, start, digits),
            Some((Class::Number, len)) if digits == Digits::Single => start + len,
            Some((class, len)) => self.run_end(text, start + len, class),
            None => start,
        }
    }

    /// A run of whitespace up to the end of the text is one piece; elsewhere its last character
    /// belongs to the next piece, unless it is the only one.
    fn whitespace_end(&self, text: &str, start: usize, digits: Digits) -> usize {
        let mut last = start;
        let mut end = start;
        let next = loop {
            match self.at(text, end) {
                Some((Class::Space, len)) => {
                    last = end;
                    end += len;
                }
                next => break next,
            }
        };
        let ends_text = match next {
            None => true,
            Some((class, _)) => class == Class::Number && digits == Digits::Single,
        };
        if ends_text || last == start { end } else { last }
    }

    /// Whether a text may be split between two neighbours of these classes, so that the pieces of
    /// both parts are the pieces of the whole.
    ///
    /// No alternative of the pattern matches a character that is not a space followed by another
    /// class, except the contraction (`'` is [`Class::Other`], then letters). Such a position is
    /// therefore always the end of one match and the start of the next, and a match does not depend
    /// on anything to its left. The left part can no longer look ahead to the right, but only
    /// whitespace looks ahead, and the left part does not end in whitespace.
    ///
    /// Where digits are single there are more such positions, and these remain.
    pub fn may_cut(left: Class, right: Class) -> bool {
        left != Class::Space && left != right && !(left == Class::Other && right == Class::Letter)
    }

    /// The last position in `text` where it may be split, if there is one.
    pub fn last_cut(&self, text: &str) -> Option<usize> {
        let mut right = None;
        for (at, c) in text.char_indices().rev() {
            let left = self.of(c);
            if right.is_some_and(|right| Self::may_cut(left, right)) {
                return Some(at + c.len_utf8());
            }
            right = Some(left);
        }
        None
    }

    /// The first position from byte `from` on where `text` may be split; its end if there is none.
    pub fn next_cut(&self, text: &str, from: usize) -> usize {
        let mut at = text.floor_char_boundary(from);
        let mut left = text[..at].chars().next_back().map(|c| self.of(c));
        while let Some((right, len)) = self.at(text, at) {
            if left.is_some_and(|left| Self::may_cut(left, right)) {
                return at;
            }
            left = Some(right);
            at += len;
        }
        text.len()
    }
}

/// Length of `s`, `d`, `m`, `t`, `ll`, `ve`, `re` at the beginning of `rest`.
fn contraction(rest: &[u8]) -> Option<usize> {
    match rest {
        [b's' | b'd' | b'm' | b't', ..] => Some(1),
        [b'l', b'l', ..] | [b'v', b'e', ..] | [b'r', b'e', ..] => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static CLASSES: LazyLock<Classes> = LazyLock::new(|| Classes::new().unwrap());
    static PATTERN: LazyLock<fancy_regex::Regex> =
        LazyLock::new(|| fancy_regex::Regex::new(GPT2_PATTERN).unwrap());

    fn pieces(text: &str, digits: Digits) -> Vec<&str> {
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let end = CLASSES.piece_end(text, start, digits);
            pieces.push(&text[start..end]);
            start = end;
        }
        pieces
    }

    fn expected(text: &str, digits: Digits) -> Vec<&str> {
        fn pieces(text: &str) -> impl Iterator<Item = &str> {
            PATTERN.find_iter(text).map(|piece| piece.unwrap().as_str())
        }
        match digits {
            Digits::Runs => pieces(text).collect(),
            // `Digits` of Hugging Face's `tokenizers` with `individual_digits`, then the pattern.
            Digits::Single => text
                .split_inclusive(char::is_numeric)
                .flat_map(|part| {
                    let digit = part.chars().next_back().filter(|c| c.is_numeric());
                    let (before, digit) =
                        part.split_at(part.len() - digit.map_or(0, char::len_utf8));
                    pieces(before).chain((!digit.is_empty()).then_some(digit))
                })
                .collect(),
        }
    }

    /// Texts that combine every rule of the pattern with every other one.
    fn tricky() -> impl Strategy<Value = String> {
        let atoms = prop::sample::select(vec![
            "'",
            "'s",
            "'ll",
            "'r",
            "e",
            "re",
            "ve",
            "a",
            "Z",
            "\u{E4}",
            "\u{4E2D}",
            "7",
            "\u{BD}",
            "\u{661}",
            " ",
            "  ",
            "\n",
            "\t",
            "\r\n",
            "\u{A0}",
            "\u{3000}",
            "\u{2028}",
            ".",
            "--",
            "\u{301}",
            "\u{200D}",
            "\u{1F600}",
            "\u{24B6}",
            "\u{7F}",
            "\u{10FFFF}",
            "\u{1D7D9}",
        ]);
        prop::collection::vec(atoms, 0..24).prop_map(|atoms| atoms.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn splits_as_the_regex_does(text in prop_oneof![tricky(), any::<String>(), ".{0,40}"]) {
            for digits in [Digits::Runs, Digits::Single] {
                prop_assert_eq!(pieces(&text, digits), expected(&text, digits));
            }
        }

        #[test]
        fn a_cut_changes_nothing(text in prop_oneof![tricky(), any::<String>()], at in 0_usize..60) {
            for digits in [Digits::Runs, Digits::Single] {
                let whole = pieces(&text, digits);
                let next = CLASSES.next_cut(&text, at.min(text.len()));
                for cut in [Some(next), CLASSES.last_cut(&text)] {
                    let (left, right) = text.split_at(cut.unwrap_or(0));
                    let parts = [pieces(left, digits), pieces(right, digits)].concat();
                    prop_assert_eq!(&parts, &whole, "cut at {:?}", cut);
                }
            }
        }
    }

    #[test]
    fn every_place_that_counts_as_a_cut_is_one() {
        let text = "don't  stop \u{4E2D}\u{6587}\u{3002}7a --'re\u{A0}\n\n x'y  ";
        let whole = pieces(text, Digits::Runs);
        let mut cuts = 0;
        for (at, c) in text.char_indices().skip(1) {
            let left = text[..at].chars().next_back().unwrap();
            if Classes::may_cut(CLASSES.of(left), CLASSES.of(c)) {
                let parts = [&text[..at], &text[at..]].map(|part| pieces(part, Digits::Runs));
                assert_eq!(parts.concat(), whole);
                cuts += 1;
            }
        }
        assert!(cuts > 6, "only {cuts}");
    }
}
