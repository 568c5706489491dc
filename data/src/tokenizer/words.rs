//! The tokenizer of words and punctuation from Raschka, "Build a Large Language Model (From
//! Scratch)", 2024, chapter 2 (`SimpleTokenizerV2`).
//!
//! Text is split at `[,.:;?_!"()']`, at `--` and at whitespace, and the whitespace is dropped. The
//! vocabulary holds the words of the corpus, sorted by code point, and then `<|endoftext|>` and
//! `<|unk|>`. It loses information (spaces, unknown words), which is why it is for teaching.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, bail};

use super::bpe::END_OF_TEXT;

/// The replacement of a word outside the vocabulary.
pub(crate) const UNKNOWN: &str = "<|unk|>";

/// Characters that are separate words.
const MARKS: &str = ",.:;?_!\"()'";
/// Those of them that decoding joins to the word before them.
pub(crate) const CLOSING_MARKS: &str = ",.:;?!\"()'";

/// A vocabulary of words.
#[derive(Debug)]
pub(crate) struct Words {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    unknown: u32,
    end_of_text: Option<u32>,
}

impl Words {
    /// All words in order of ids. `<|unk|>` must be among them.
    pub fn from_list(words: Vec<String>) -> Result<Self> {
        let mut ids = HashMap::with_capacity(words.len());
        for (id, word) in (0_u32..).zip(&words) {
            if let Some(earlier) = ids.insert(word.clone(), id) {
                bail!("the words {earlier} and {id} of the vocabulary are both {word:?}");
            }
        }
        let Some(&unknown) = ids.get(UNKNOWN) else {
            bail!("the vocabulary has no {UNKNOWN}, which stands for words that it does not know");
        };
        let end_of_text = ids.get(END_OF_TEXT).copied();
        Ok(Words { words, ids, unknown, end_of_text })
    }

    /// All words in order of ids.
    pub fn list(&self) -> &[String] {
        &self.words
    }

    /// The id of `<|endoftext|>`, if the vocabulary has it.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The id of `<|unk|>`.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Appends the tokens of `text` to `out`. Special tokens are not recognised.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) {
        for_each_word(text, |word| {
            let id = self.ids.get(word).copied().filter(|&id| Some(id) != self.end_of_text);
            out.push(id.unwrap_or(self.unknown));
        });
    }

    /// Words with spaces between them, except before punctuation.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        for (position, &id) in ids.iter().enumerate() {
            let word = self.words.get(id as usize).map_or(UNKNOWN, String::as_str);
            if position > 0 && !word.starts_with(|c| CLOSING_MARKS.contains(c)) {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }
}

/// Collects the words of a corpus that may come in parts.
#[derive(Debug, Default)]
pub(crate) struct WordsBuilder(BTreeSet<String>);

impl WordsBuilder {
    /// Adds the words of a text.
    pub fn add(&mut self, text: &str) {
        for_each_word(text, |word| {
            if !self.0.contains(word) {
                self.0.insert(word.to_owned());
            }
        });
    }

    /// The vocabulary of all added words.
    pub fn finish(mut self) -> Words {
        self.0.remove(END_OF_TEXT);
        self.0.remove(UNKNOWN);
        let mut words: Vec<String> = self.0.into_iter().collect();
        let end_of_text = words.len() as u32;
        words.extend([END_OF_TEXT.to_owned(), UNKNOWN.to_owned()]);
        let ids = words.iter().cloned().zip(0..).collect();
        Words { words, ids, unknown: end_of_text + 1, end_of_text: Some(end_of_text) }
    }
}

/// Calls `visit` with each word and each punctuation mark of `text`, in order.
fn for_each_word(text: &str, mut visit: impl FnMut(&str)) {
    let mut start = 0;
    let mut word = |start: usize, end: usize| {
        if start < end {
            visit(&text[start..end]);
        }
    };
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        if c.is_whitespace() {
            word(start, at);
            start = end;
        } else if MARKS.contains(c) {
            word(start, at);
            word(at, end);
            start = end;
        } else if c == '-' && chars.next_if(|&(_, next)| next == '-').is_some() {
            word(start, at);
            word(at, end + 1);
            start = end + 1;
        }
    }
    word(start, text.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for_each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn splits_as_the_book_does() {
        assert_eq!(
            split("Hello, world. Is this-- a test?"),
            ["Hello", ",", "world", ".", "Is", "this", "--", "a", "test", "?"]
        );
        assert_eq!(
            split("a---b _x_\n\n'y'-z"),
            ["a", "--", "-b", "_", "x", "_", "'", "y", "'", "-z"]
        );
        assert_eq!(split(" \n "), [""; 0]);
    }

    #[test]
    fn unknown_words_and_spaces_before_punctuation() {
        let mut builder = WordsBuilder::default();
        builder.add("the sea, the <|unk|> sea");
        let words = builder.finish();
        assert_eq!(words.list(), [",", "sea", "the", END_OF_TEXT, UNKNOWN]);
        let mut ids = Vec::new();
        words.encode("the sky, the sea", &mut ids);
        assert_eq!(ids, [2, 4, 0, 2, 1]);
        assert_eq!(words.decode(&ids), "the <|unk|>, the sea");
        assert_eq!(words.decode(&[99]), UNKNOWN);
    }

    #[test]
    fn a_list_without_the_unknown_word_or_with_a_word_twice_is_refused() {
        let list = |words: &[&str]| Words::from_list(words.iter().map(|&w| w.to_owned()).collect());
        assert!(list(&["a"]).unwrap_err().to_string().contains(UNKNOWN));
        assert!(list(&["a", "a", UNKNOWN]).unwrap_err().to_string().contains("both \"a\""));
    }
}
