//! Reports text that a vocabulary has no token for.

use std::fmt;

/// A character, a byte or a word for which a vocabulary has neither a token nor an unknown token.
/// transformers silently drops such a character if the model is BPE, and fails otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingToken {
    /// The character or word, and the byte of it if the vocabulary consists of bytes.
    pub what: String,
    /// Its position in the text, in bytes.
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

    /// The same in a text with `bytes` before the one that was read.
    pub(crate) fn behind(mut self, bytes: u64) -> Self {
        self.offset += bytes;
        self
    }
}

/// `'é' (U+00E9)`.
fn named(letter: char) -> String {
    format!("{letter:?} (U+{:04X})", letter as u32)
}
