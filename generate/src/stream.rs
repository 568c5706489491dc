//! Decodes bytes of tokens to text as early as possible: a character may be split over tokens.

/// Collects bytes and returns complete characters.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Adds bytes and returns the text that is complete. An unfinished character at the end is
    /// kept; bytes that can never become a character are replaced by U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let certain = self.held.len() - unfinished(&self.held);
        let text = String::from_utf8_lossy(&self.held[..certain]).into_owned();
        self.held.drain(..certain);
        text
    }

    /// The rest at the end: U+FFFD for an unfinished character.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }
}

/// Bytes at the end that may be the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(last) if is_beginning(last.invalid()) => last.invalid().len(),
        _ => 0,
    }
}

/// Whether `bytes`, which are not a character, can become one if the right bytes follow.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_arrives_whole_however_it_is_cut() {
        let text = "naïve – 日本語 🦀!";
        for size in 1..=5 {
            let mut stream = Utf8Stream::default();
            let mut shown = String::new();
            for piece in text.as_bytes().chunks(size) {
                let part = stream.push(piece);
                assert!(!part.contains('\u{fffd}'));
                shown.push_str(&part);
            }
            assert_eq!(shown, text);
            assert_eq!(stream.finish(), "");
        }
    }

    #[test]
    fn a_character_is_held_back_until_it_is_whole() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"a\xf0\x9f"), "a");
        assert_eq!(stream.push(b"\xa6"), "");
        assert_eq!(stream.push(b"\x80b"), "🦀b");
    }

    #[test]
    fn bytes_that_are_no_text_become_the_replacement_character() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(stream.push(b"\xe6\x97"), "");
        assert_eq!(stream.push(b"x"), "\u{fffd}x");
        assert_eq!(stream.push(b"\xe6"), "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }
}
