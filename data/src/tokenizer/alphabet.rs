//! GPT-2's encoding of bytes as printable characters, which every vocabulary file uses.
//!
//! Printable Latin-1 characters represent themselves; the other 68 bytes are numbered in order from
//! U+0100 (`bytes_to_unicode` in OpenAI's `encoder.py`), so that a space is `Ġ` and a newline `Ċ`.

use std::collections::HashMap;

/// The table and its inverse.
#[derive(Debug)]
pub(crate) struct Alphabet {
    to_char: [char; 256],
    to_byte: HashMap<char, u8>,
}

impl Alphabet {
    /// Builds both directions.
    pub fn new() -> Self {
        let mut to_char = ['\0'; 256];
        let mut next = 0x100;
        for byte in 0..=255_u8 {
            let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            to_char[usize::from(byte)] = if printable {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
            };
        }
        let to_byte = (0..=255_u8).map(|byte| (to_char[usize::from(byte)], byte)).collect();
        Alphabet { to_char, to_byte }
    }

    /// Bytes in the spelling of a vocabulary file.
    pub fn write(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|&byte| self.to_char[usize::from(byte)]).collect()
    }

    /// The bytes that `text` represents. A token with a character outside the alphabet (an added
    /// token, written plainly) represents its own UTF-8.
    pub fn read(&self, text: &str) -> Vec<u8> {
        text.chars()
            .map(|c| self.to_byte.get(&c).copied())
            .collect::<Option<Vec<u8>>>()
            .unwrap_or_else(|| text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters_and_the_way_back() {
        let alphabet = Alphabet::new();
        assert_eq!(alphabet.write(b" a\n\xAD"), "\u{120}a\u{10A}\u{143}");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(alphabet.read(&alphabet.write(&all)), all);
        assert_eq!(alphabet.read("<|a b|>"), b"<|a b|>");
    }
}
