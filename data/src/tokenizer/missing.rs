//! What a text needs and a vocabulary lacks.

use std::fmt;

/// A character, a byte or a word that a vocabulary has no token for, and no unknown token either.
/// transformers drops such a character without a word where the model is BPE, and fails elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingToken {
    /// The character or word, and which byte of it where the vocabulary is of bytes.
    pub what: String,
    /// Where it begins in the text, in bytes.
    pub offset: u64,
}

impl fmt::Display for MissingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingToken { what, offset } = self;
        write!(
            f,
            "the vocabulary has no token for {what}, at byte {offset} of the text, and no unknown token"
        )
    }
}

impl std::error::Error for MissingToken {}

impl MissingToken {
    /// The byte at `at` of `text`, for a vocabulary of bytes.
    pub(super) fn byte(text: &str, at: usize) -> Self {
        let start = text.floor_char_boundary(at);
        let byte = text.as_bytes().get(at).copied().unwrap_or_default();
        let what = match text[start..].chars().next() {
            Some(letter) if letter.len_utf8() > 1 => {
                format!("the byte 0x{byte:02X} of {}", named(letter))
            }
            _ => format!("the byte 0x{byte:02X}"),
        };
        MissingToken { what, offset: start as u64 }
    }

    /// The character at `at` of `text`.
    pub(super) fn character(text: &str, at: usize) -> Self {
        let letter = text[at..].chars().next().map_or_else(|| "its end".to_owned(), named);
        MissingToken { what: letter, offset: at as u64 }
    }

    /// The same in a text that has `bytes` before the one that was looked at.
    pub(crate) fn behind(mut self, bytes: u64) -> Self {
        self.offset += bytes;
        self
    }
}

/// `'é' (U+00E9)`.
fn named(letter: char) -> String {
    format!("{letter:?} (U+{:04X})", letter as u32)
}
