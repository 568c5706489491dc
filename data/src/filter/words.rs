//! The words of a text in any language, as the rules count them.

/// A word: its hash and its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub hash: u64,
    /// In characters.
    pub chars: usize,
}

impl Word {
    pub fn of(text: &str) -> Self {
        Word { hash: hash(text.as_bytes()), chars: text.chars().count() }
    }
}

/// What is between white space; in scripts that are written without spaces, each character.
pub(super) fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::with_capacity(text.len() / 6 + 1);
    let mut start = None;
    for (at, c) in text.char_indices() {
        if c.is_whitespace() || is_unspaced(c) {
            words.extend(start.take().map(|start| &text[start..at]));
            if is_unspaced(c) {
                words.push(&text[at..at + c.len_utf8()]);
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// Whether a character is of a script without spaces between words: Thai, Lao, Burmese, Khmer, kana and
/// Han.
fn is_unspaced(c: char) -> bool {
    matches!(
        u32::from(c),
        0x0E00..=0x0EFF
            | 0x1000..=0x109F
            | 0x1780..=0x17FF
            | 0x3040..=0x30FF
            | 0x3400..=0x4DBF
            | 0x4E00..=0x9FFF
            | 0xF900..=0xFAFF
            | 0x20000..=0x3FFFF
    )
}

/// A hash of 64 bits all of which depend on all of the bytes. Not for enemies: who writes texts to
/// collide is left out, which is no harm to others.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut state = bytes.len() as u64;
    for chunk in &mut chunks {
        state = combine(state, chunk.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)));
    }
    combine(state, chunks.remainder().iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
}

/// The hash of a sequence whose last member is `next`: the finalizer of SplitMix64 (Steele, Lea and
/// Flood, 2014).
pub(super) fn combine(state: u64, next: u64) -> u64 {
    let mut mixed = state.rotate_left(23).wrapping_add(next).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_between_spaces_or_single_characters() {
        assert_eq!(words("  the sea,\u{A0}blue\n"), ["the", "sea,", "blue"]);
        assert_eq!(
            words("\u{4E2D}\u{6587}, GPT\u{306E}"),
            ["\u{4E2D}", "\u{6587}", ",", "GPT", "\u{306E}"]
        );
        assert_eq!(words(" \n"), [""; 0]);
    }

    #[test]
    fn no_two_words_of_a_story_have_one_hash() {
        let mut found: std::collections::HashMap<u64, &str> = std::collections::HashMap::new();
        for word in words(crate::BUILTIN_STORY) {
            assert_eq!(*found.entry(hash(word.as_bytes())).or_insert(word), word);
        }
        assert!(found.len() > 1000);
        assert_ne!(hash(b"a"), hash(b"a\0"));
    }
}
