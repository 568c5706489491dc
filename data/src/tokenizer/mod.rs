//! Text to token ids and back.
//!
//! | tokenizer | splits into | vocabulary |
//! |---|---|---|
//! | `gpt2` | GPT-2's byte-level BPE | 50,257 tokens, embedded in tiktoken-rs |
//! | `simple` | words and punctuation (Raschka, 2024, ch. 2) | what the corpus contains |
//! | any `tokenizer.json` or GGUF vocabulary of these two kinds | | its own |
//!
//! `<|endoftext|>` in a text is ordinary text unless asked for ([`Tokenizer::encode_with_specials`]):
//! a corpus must not be able to end a document by spelling it.

mod alphabet;
mod bpe;
mod classes;
mod gguf;
mod json;
mod merge;
mod parallel;
mod split;
mod words;

use std::borrow::Cow;

use anyhow::Result;

pub use bpe::END_OF_TEXT;

pub(crate) use parallel::ParallelEncoder;
pub(crate) use words::WordsBuilder;

use bpe::{Bpe, Encoder};
use words::Words;

/// A vocabulary and the rules that go with it. It can be shared between threads.
#[derive(Debug)]
pub struct Tokenizer {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bpe(Box<Bpe>),
    Words(Words),
}

impl Tokenizer {
    /// GPT-2's tokenizer: 50,257 tokens, the last one `<|endoftext|>`.
    ///
    /// # Errors
    /// Only if the vocabulary inside of tiktoken-rs is not GPT-2's.
    pub fn gpt2() -> Result<Self> {
        Ok(Tokenizer { kind: Kind::Bpe(Box::new(Bpe::gpt2()?)) })
    }

    /// The words and punctuation of `corpus`, sorted, then `<|endoftext|>` and `<|unk|>`.
    pub fn simple(corpus: &str) -> Self {
        let mut builder = WordsBuilder::default();
        builder.add(corpus);
        Self::from_words(builder.finish())
    }

    pub(crate) fn from_words(words: Words) -> Self {
        Tokenizer { kind: Kind::Words(words) }
    }

    fn from_bpe(bpe: Bpe) -> Self {
        Tokenizer { kind: Kind::Bpe(Box::new(bpe)) }
    }

    /// What kind of tokenizer this is, for people: `byte-level BPE` or `simple`.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Bpe(_) => "byte-level BPE",
            Kind::Words(_) => "simple",
        }
    }

    /// The tokens of `text`, on this thread. Special tokens are not looked for.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        self.worker(text.len()).encode(text, &mut ids);
        ids
    }

    /// The tokens of `text` on all threads of the current rayon pool: the same as
    /// [`Tokenizer::encode`], sooner.
    pub fn encode_parallel(&self, text: &str) -> Vec<u32> {
        ParallelEncoder::new(self).encode(text).concat()
    }

    /// The tokens of `text`, where each `<|endoftext|>` that it spells is the special token.
    pub fn encode_with_specials(&self, text: &str) -> Vec<u32> {
        let Some(end_of_text) = self.end_of_text() else {
            return self.encode(text);
        };
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        let mut worker = self.worker(text.len());
        for (part, plain) in text.split(END_OF_TEXT).enumerate() {
            if part > 0 {
                ids.push(end_of_text);
            }
            worker.encode(plain, &mut ids);
        }
        ids
    }

    /// The bytes that the tokens stand for. Ids outside of the vocabulary stand for nothing, or
    /// for `<|unk|>` where the vocabulary has that.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        match &self.kind {
            Kind::Words(words) => words.decode(ids).into_bytes(),
            Kind::Bpe(bpe) => {
                let tokens = bpe.tokens();
                ids.iter().filter_map(|&id| tokens.get(id as usize)).flatten().copied().collect()
            }
        }
    }

    /// The text that the tokens stand for; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        match String::from_utf8_lossy(&self.decode_bytes(ids)) {
            Cow::Borrowed(text) => text.to_owned(),
            Cow::Owned(text) => text,
        }
    }

    /// The bytes of one token; `None` if the vocabulary has no such id. With `simple`, the
    /// spaces between words belong to no token, so joining these is not decoding.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.tokens().get(id as usize).map(AsRef::as_ref),
            Kind::Words(words) => words.list().get(id as usize).map(String::as_bytes),
        }
    }

    /// Number of tokens, special ones included: ids run from 0 to one less.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.tokens().len(),
            Kind::Words(words) => words.list().len(),
        }
    }

    /// The id of `<|endoftext|>`, where the vocabulary has it.
    pub fn end_of_text(&self) -> Option<u32> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.end_of_text(),
            Kind::Words(words) => words.end_of_text(),
        }
    }

    /// BLAKE3 of everything that decides which ids a text becomes: kind, tokens, merges, special
    /// token. Equal hashes mean that token files are interchangeable.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(self.kind().as_bytes());
        add(&self.end_of_text().map_or([0xFF; 4], u32::to_le_bytes));
        match &self.kind {
            Kind::Bpe(bpe) => {
                bpe.tokens().iter().for_each(|token| add(token));
                for (left, right) in bpe.merges() {
                    add(&[left.to_le_bytes(), right.to_le_bytes()].concat());
                }
            }
            Kind::Words(words) => words.list().iter().for_each(|word| add(word.as_bytes())),
        }
        *hasher.finalize().as_bytes()
    }

    /// What encodes on one thread; `text_len` bytes are about what it will be given.
    fn worker(&self, text_len: usize) -> Worker<'_> {
        match &self.kind {
            Kind::Bpe(bpe) => Worker::Bpe(bpe.encoder(text_len)),
            Kind::Words(words) => Worker::Words(words),
        }
    }

    /// The last place where `text` may be cut so that its parts encode as the whole does.
    pub(crate) fn last_cut(&self, text: &str) -> Option<usize> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.classes().last_cut(text),
            Kind::Words(_) => text.rfind(char::is_whitespace),
        }
    }

    /// The first such place at or behind byte `from`; the end of `text` if there is none.
    pub(crate) fn next_cut(&self, text: &str, from: usize) -> usize {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.classes().next_cut(text, from),
            Kind::Words(_) => {
                let from = text.floor_char_boundary(from);
                text[from..].find(char::is_whitespace).map_or(text.len(), |at| from + at)
            }
        }
    }
}

/// The part of encoding that belongs to one thread.
#[derive(Debug)]
enum Worker<'a> {
    Bpe(Encoder<'a>),
    Words(&'a Words),
}

impl Worker<'_> {
    fn encode(&mut self, text: &str, out: &mut Vec<u32>) {
        match self {
            Worker::Bpe(encoder) => encoder.encode(text, out),
            Worker::Words(words) => words.encode(text, out),
        }
    }
}
