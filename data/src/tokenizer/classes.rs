//! The three character classes of GPT-2's pattern.
//!
//! The standard library's `is_alphabetic` and `is_numeric` differ from the pattern's `\p{L}` and
//! `\p{N}`, so the tables are taken from the regex engine that tiktoken-rs evaluates the pattern
//! with: both then always use the same version of Unicode.

use anyhow::{Context, Result, bail};
use regex_syntax::hir::{Class as RegexClass, HirKind};

/// The classes that GPT-2's pattern distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// None of the others: punctuation, marks, symbols, controls.
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
}

/// The class of every code point, one byte each (1.1 MB; text uses only a few pages of it).
#[derive(Debug, Clone)]
pub(crate) struct Classes(Box<[Class]>);

impl Classes {
    /// Reads the members of the three classes from the regex engine.
    pub fn new() -> Result<Self> {
        let mut table = vec![Class::Other; char::MAX as usize + 1];
        for (pattern, class) in
            [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)]
        {
            let parsed =
                regex_syntax::parse(pattern).with_context(|| format!("class {pattern}"))?;
            let HirKind::Class(RegexClass::Unicode(members)) = parsed.kind() else {
                bail!("the regex engine reads {pattern} as something else than a class");
            };
            for range in members.iter() {
                table[range.start() as usize..=range.end() as usize].fill(class);
            }
        }
        Ok(Classes(table.into_boxed_slice()))
    }

    /// The class of `c`.
    pub fn of(&self, c: char) -> Class {
        self.0[c as usize]
    }

    /// The class of the character at byte `at` and its length in bytes; `None` at the end.
    #[inline]
    pub fn at(&self, text: &str, at: usize) -> Option<(Class, usize)> {
        let byte = *text.as_bytes().get(at)?;
        if byte.is_ascii() {
            return Some((self.0[usize::from(byte)], 1));
        }
        let c = text[at..].chars().next()?;
        Some((self.of(c), c.len_utf8()))
    }

    /// The end of the run of `class` that continues at byte `from`.
    #[inline]
    pub fn run_end(&self, text: &str, from: usize, class: Class) -> usize {
        let mut at = from;
        while let Some((found, len)) = self.at(text, at) {
            if found != class {
                break;
            }
            at += len;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_library_would_not_do() {
        let classes = Classes::new().unwrap();
        let circled_letter = '\u{24B6}';
        assert!(circled_letter.is_alphabetic());
        assert_eq!(classes.of(circled_letter), Class::Other);
        assert_eq!(classes.of('\u{BD}'), Class::Number);
        assert_eq!(classes.of('\u{3000}'), Class::Space);
        assert_eq!(classes.of('\u{200B}'), Class::Other);
    }

    #[test]
    fn every_character_is_where_the_regex_engine_puts_it() {
        let classes = Classes::new().unwrap();
        let sets =
            [(r"^\p{L}$", Class::Letter), (r"^\p{N}$", Class::Number), (r"^\s$", Class::Space)]
                .map(|(pattern, class)| (fancy_regex::Regex::new(pattern).unwrap(), class));
        let mut buffer = [0; 4];
        for c in '\0'..=char::MAX {
            let text: &str = c.encode_utf8(&mut buffer);
            let expected = sets
                .iter()
                .find(|(regex, _)| regex.is_match(text).unwrap())
                .map_or(Class::Other, |&(_, class)| class);
            assert_eq!(classes.of(c), expected, "U+{:04X}", c as u32);
        }
    }
}
