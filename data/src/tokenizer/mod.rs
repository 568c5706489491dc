//! Text to token ids and back.
//!
//! | tokenizer | splits into | vocabulary |
//! |---|---|---|
//! | `gpt2` | GPT-2's byte-level BPE | 50,257 tokens, embedded in tiktoken-rs |
//! | `simple` | words and punctuation (Raschka, 2024, ch. 2) | what the corpus contains |
//! | `trained` | as `gpt2` | byte-level BPE learnt from the corpus ([`crate::train_tokenizer`]) |
//! | `huggingface` | what its `tokenizer.json` says | its own |
//! | of a GGUF | what its metadata says | its own |
//!
//! A file whose kind is GPT-2's or SmolLM's, SentencePiece's BPE or `simple` runs through code of our own;
//! every other one (Llama 3, Qwen2, Unigram, WordPiece, ...) through Hugging Face's `tokenizers`.
//!
//! `<|endoftext|>` in a text is ordinary text unless asked for ([`Tokenizer::encode_with_specials`]):
//! a corpus must not be able to end a document by spelling it.

mod alphabet;
mod bpe;
mod classes;
mod encoder;
mod foreign;
mod guarded;
mod json;
mod long;
mod merge;
mod missing;
mod named;
mod open;
mod parallel;
mod parts;
mod sentencepiece;
mod split;
mod train;
mod words;

use std::borrow::Cow;

use anyhow::Result;
use checkpoint::{PreTokenizer, SpacePrefix};

pub use bpe::END_OF_TEXT;
pub use missing::MissingToken;
pub use parts::Part;
pub use train::train_tokenizer;

pub(crate) use parallel::ParallelEncoder;
pub(crate) use words::WordsBuilder;

use bpe::Bpe;
use encoder::{Encoder, Pieces};
use foreign::Foreign;
use named::{Fragment, Named};
use sentencepiece::SentencePiece;
use words::Words;

/// A vocabulary and the rules that go with it. It can be shared between threads.
#[derive(Debug)]
pub struct Tokenizer {
    kind: Kind,
    /// Found in every text as they are spelled.
    user_defined: Named,
    /// Found only where special tokens are asked for.
    controls: Named,
    bos: Option<u32>,
    /// Whether `bos` goes before a text.
    adds_bos: bool,
    end_of_text: Option<u32>,
    /// All tokens that end a text.
    ends: Vec<u32>,
    chat_template: Option<Box<str>>,
    /// The `tokenizer.json` that it was read from.
    source: Option<Box<str>>,
}

#[derive(Debug)]
enum Kind {
    Bpe(Box<Bpe>),
    SentencePiece(Box<SentencePiece>),
    Words(Words),
    Foreign(Box<Foreign>),
}

impl Tokenizer {
    /// GPT-2's tokenizer: 50,257 tokens, the last one `<|endoftext|>`.
    ///
    /// # Errors
    /// Only if the vocabulary inside of tiktoken-rs is not GPT-2's.
    pub fn gpt2() -> Result<Self> {
        let bpe = Bpe::gpt2()?;
        let end_of_text = bpe.tokens().len() as u32 - 1;
        Ok(Self::from_bpe(bpe, end_of_text))
    }

    /// The words and punctuation of `corpus`, sorted, then `<|endoftext|>` and `<|unk|>`.
    pub fn simple(corpus: &str) -> Self {
        let mut builder = WordsBuilder::default();
        builder.add(corpus);
        Self::from_words(builder.finish())
    }

    pub(crate) fn from_words(words: Words) -> Self {
        let end_of_text = words.end_of_text();
        let unknown = words.unknown();
        Tokenizer {
            kind: Kind::Words(words),
            user_defined: Named::default(),
            controls: end_of_text
                .map(|id| (END_OF_TEXT, id))
                .into_iter()
                .chain([(words::UNKNOWN, unknown)])
                .collect(),
            bos: None,
            adds_bos: false,
            chat_template: None,
            end_of_text,
            ends: end_of_text.into_iter().collect(),
            source: None,
        }
    }

    fn from_bpe(bpe: Bpe, end_of_text: u32) -> Self {
        Tokenizer {
            kind: Kind::Bpe(Box::new(bpe)),
            user_defined: Named::default(),
            controls: [(END_OF_TEXT, end_of_text)].into_iter().collect(),
            bos: None,
            adds_bos: false,
            chat_template: None,
            end_of_text: Some(end_of_text),
            ends: vec![end_of_text],
            source: None,
        }
    }

    /// What kind of tokenizer this is, for people: `byte-level BPE` for example.
    pub fn kind(&self) -> &'static str {
        match &self.kind {
            Kind::Bpe(_) => "byte-level BPE",
            Kind::SentencePiece(_) => "SentencePiece",
            Kind::Words(_) => "simple",
            Kind::Foreign(_) => "Hugging Face",
        }
    }

    /// The tokens of `text`, on this thread. Special tokens are not looked for, and none goes
    /// before it ([`Tokenizer::begin_of_text`]).
    ///
    /// # Errors
    /// When the vocabulary lacks something of the text, and has no unknown token for it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, MissingToken> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        self.worker(text.len()).encode(text, true, &mut ids)?;
        Ok(ids)
    }

    /// The tokens of `text` on all threads of the current rayon pool: the same as
    /// [`Tokenizer::encode`], sooner.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_parallel(&self, text: &str) -> Result<Vec<u32>, MissingToken> {
        Ok(ParallelEncoder::new(self).encode(text, true)?.concat())
    }

    /// The tokens of `text`, where each special token that it spells is that token.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_with_specials(&self, text: &str) -> Result<Vec<u32>, MissingToken> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        if let Kind::Foreign(foreign) = &self.kind {
            foreign.encode_with_specials(text, &mut ids)?;
            return Ok(ids);
        }
        let mut worker = self.worker(text.len());
        for fragment in self.controls.split(text) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(start, plain) => {
                    let encoded = worker.encode_fragment(plain, start == 0, &mut ids);
                    encoded.map_err(|missing| missing.behind(start as u64))?;
                }
            }
        }
        Ok(ids)
    }

    /// Refuses ids that a model with `rows` rows in its embedding has no row for.
    ///
    /// # Errors
    /// Names the first such token.
    pub fn check_rows(&self, ids: &[u32], rows: usize) -> Result<()> {
        let Some(&id) = ids.iter().find(|&&id| id as usize >= rows) else { return Ok(()) };
        let text = self.token_bytes(id).map(String::from_utf8_lossy).unwrap_or_default();
        anyhow::bail!(
            "token {id} ({text:?}) has no row in the model's embedding of {rows}: the tokenizer has \
             {} tokens; leave this token out of the text, or use the tokenizer of this model",
            self.vocab_size()
        )
    }

    /// The bytes that the tokens stand for. Ids outside of the vocabulary stand for nothing, or
    /// for `<|unk|>` where the vocabulary has that.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let join = |tokens: &[Box<[u8]>]| -> Vec<u8> {
            ids.iter().filter_map(|&id| tokens.get(id as usize)).flatten().copied().collect()
        };
        match &self.kind {
            Kind::Words(words) => words.decode(ids).into_bytes(),
            Kind::Bpe(bpe) => join(bpe.tokens()),
            Kind::Foreign(foreign) => foreign.decode(ids),
            Kind::SentencePiece(pieces) => {
                let mut bytes = join(pieces.tokens());
                // The space that encoding put there.
                if pieces.prefix() != SpacePrefix::Never && bytes.first() == Some(&b' ') {
                    bytes.remove(0);
                }
                bytes
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

    /// The bytes of one token; `None` if the vocabulary has no such id. Joining these is not
    /// decoding: with `simple` the spaces between words belong to no token, and SentencePiece's
    /// first word has a space that was not in the text.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        match &self.kind {
            Kind::Words(words) => words.list().get(id as usize).map(String::as_bytes),
            Kind::Bpe(bpe) => bpe.tokens().get(id as usize).map(AsRef::as_ref),
            Kind::SentencePiece(pieces) => pieces.tokens().get(id as usize).map(AsRef::as_ref),
            Kind::Foreign(foreign) => foreign.tokens().get(id as usize).map(AsRef::as_ref),
        }
    }

    /// Number of tokens, special ones included: ids run from 0 to one less.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Words(words) => words.list().len(),
            Kind::Bpe(bpe) => bpe.tokens().len(),
            Kind::SentencePiece(pieces) => pieces.tokens().len(),
            Kind::Foreign(foreign) => foreign.tokens().len(),
        }
    }

    /// The token that goes before a text, where the model was trained with one there.
    pub fn begin_of_text(&self) -> Option<u32> {
        self.bos.filter(|_| self.adds_bos)
    }

    /// The token that begins a text, whether or not it goes before every one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id of the special token that is spelled so, where there is one.
    pub fn special(&self, spelling: &str) -> Option<u32> {
        self.controls.iter().find(|(text, _)| *text == spelling).map(|(_, id)| id)
    }

    /// The Jinja template that writes a conversation as the model was trained to read it.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// The token that ends a text (GPT-2: `<|endoftext|>`), where there is one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
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
        add(&self.special(END_OF_TEXT).map_or([0xFF; 4], u32::to_le_bytes));
        let mut add_pairs = |tokens: &[Box<[u8]>], merges: &[(u32, u32)]| {
            tokens.iter().for_each(|token| add(token));
            for (left, right) in merges {
                add(&[left.to_le_bytes(), right.to_le_bytes()].concat());
            }
        };
        match &self.kind {
            Kind::Bpe(bpe) => {
                add_pairs(bpe.tokens(), bpe.merges());
                // GPT-2's is what a hash without a name stands for.
                if bpe.pre_tokenizer() != PreTokenizer::GPT2 {
                    add(bpe.pre_tokenizer().name.as_bytes());
                }
            }
            Kind::SentencePiece(pieces) => {
                add_pairs(pieces.tokens(), pieces.merges());
                add(format!("{:?}", pieces.prefix()).as_bytes());
            }
            Kind::Words(words) => words.list().iter().for_each(|word| add(word.as_bytes())),
            Kind::Foreign(foreign) => add(foreign.json().as_bytes()),
        }
        for (text, id) in self.user_defined.iter() {
            add(&[text.as_bytes(), &id.to_le_bytes()].concat());
        }
        *hasher.finalize().as_bytes()
    }

    /// What encodes on one thread; `text_len` bytes are about what it will be given.
    fn worker(&self, text_len: usize) -> Worker<'_> {
        let encoding = match &self.kind {
            Kind::Bpe(bpe) => Encoding::Bpe(Encoder::new(bpe, text_len)),
            Kind::SentencePiece(pieces) => Encoding::SentencePiece(Encoder::new(pieces, text_len)),
            Kind::Words(words) => Encoding::Words(words),
            Kind::Foreign(foreign) => Encoding::Foreign(foreign),
        };
        Worker { encoding, user_defined: &self.user_defined }
    }

    /// The last place where `text` may be cut so that its parts encode as the whole does.
    pub(crate) fn last_cut(&self, text: &str) -> Option<usize> {
        match &self.kind {
            _ if !self.cuts() => None,
            Kind::Words(_) => text.rfind(char::is_whitespace),
            Kind::SentencePiece(pieces) => pieces.last_cut(text),
            Kind::Bpe(bpe) if self.user_defined.is_empty() => bpe.classes().last_cut(text),
            Kind::Bpe(_) | Kind::Foreign(_) => {
                let mut marks = text.rmatch_indices(is_cut_mark);
                marks.find(|&(at, _)| text[..at].ends_with(char::is_alphabetic)).map(|(at, _)| at)
            }
        }
    }

    /// The first such place at or behind byte `from`; the end of `text` if there is none.
    pub(crate) fn next_cut(&self, text: &str, from: usize) -> usize {
        let from = text.floor_char_boundary(from);
        match &self.kind {
            _ if !self.cuts() => text.len(),
            Kind::Words(_) => {
                text[from..].find(char::is_whitespace).map_or(text.len(), |at| from + at)
            }
            Kind::SentencePiece(pieces) => pieces.next_cut(text, from),
            Kind::Bpe(bpe) if self.user_defined.is_empty() => bpe.classes().next_cut(text, from),
            Kind::Bpe(_) | Kind::Foreign(_) => {
                let mut marks = text[from..].match_indices(is_cut_mark).map(|(at, _)| from + at);
                let behind_letter = |at: &usize| text[..*at].ends_with(char::is_alphabetic);
                marks.find(behind_letter).unwrap_or(text.len())
            }
        }
    }

    /// Whether there are places to cut: a token that is found by its spelling must not reach over one.
    fn cuts(&self) -> bool {
        let whole = self.user_defined.iter().all(|(text, _)| !reaches_over_cut(text));
        match &self.kind {
            Kind::Foreign(foreign) => foreign.cuts_at_words(),
            Kind::SentencePiece(_) => self.user_defined.is_empty(),
            Kind::Bpe(_) | Kind::Words(_) => whole,
        }
    }
}

/// What begins a piece behind a letter in every pattern that is known: a space, and the marks that end
/// phrases in Chinese and Japanese, which have no spaces. No pattern has a match that goes on from a
/// letter to one of them (to an apostrophe some have), and none looks back.
fn is_cut_mark(c: char) -> bool {
    matches!(
        c,
        ' ' | '\u{3001}'
            | '\u{3002}'
            | '\u{FF01}'
            | '\u{FF0C}'
            | '\u{FF1A}'
            | '\u{FF1B}'
            | '\u{FF1F}'
    )
}

/// Whether a token may lie on both sides of a place where a text is cut.
fn reaches_over_cut(token: &str) -> bool {
    let mut before = None;
    token.trim_start().contains(' ')
        || token.chars().any(|c| {
            let is_behind_letter = before.replace(c).is_some_and(char::is_alphabetic);
            is_behind_letter && is_cut_mark(c)
        })
}

/// The part of encoding that belongs to one thread.
#[derive(Debug)]
struct Worker<'a> {
    encoding: Encoding<'a>,
    user_defined: &'a Named,
}

#[derive(Debug)]
enum Encoding<'a> {
    Bpe(Encoder<'a, Bpe>),
    SentencePiece(Encoder<'a, SentencePiece>),
    Words(&'a Words),
    Foreign(&'a Foreign),
}

impl Worker<'_> {
    /// Appends the tokens of a text, or of a part of one: only the first part begins it.
    fn encode(&mut self, text: &str, begins: bool, out: &mut Vec<u32>) -> Result<(), MissingToken> {
        match &mut self.encoding {
            // It finds tokens by their spelling itself.
            Encoding::Foreign(foreign) => foreign.encode(text, out),
            Encoding::SentencePiece(_) if !begins => self.encode_plain(text, None, out),
            _ => self.encode_fragment(text, begins, out),
        }
    }

    /// Appends the tokens of the text between two special tokens.
    fn encode_fragment(
        &mut self,
        text: &str,
        at_beginning: bool,
        out: &mut Vec<u32>,
    ) -> Result<(), MissingToken> {
        if self.user_defined.is_empty() {
            return self.encode_plain(text, Some(at_beginning), out);
        }
        for fragment in self.user_defined.split(text) {
            match fragment {
                Fragment::Token(id) => out.push(id),
                Fragment::Text(start, plain) => {
                    let encoded = self.encode_plain(plain, Some(at_beginning && start == 0), out);
                    encoded.map_err(|missing| missing.behind(start as u64))?;
                }
            }
        }
        Ok(())
    }

    /// `at_beginning` is none where a text goes on, so that no space can go before it.
    fn encode_plain(
        &mut self,
        text: &str,
        at_beginning: Option<bool>,
        out: &mut Vec<u32>,
    ) -> Result<(), MissingToken> {
        match &mut self.encoding {
            Encoding::Bpe(encoder) => {
                encoder.encode(text, out).map_err(|at| MissingToken::byte(text, at))
            }
            Encoding::Words(words) => {
                words.encode(text, out);
                Ok(())
            }
            Encoding::Foreign(foreign) => foreign.encode(text, out),
            Encoding::SentencePiece(encoder) => {
                let pieces = encoder.vocabulary();
                let adds_space = at_beginning.is_some_and(|first| pieces.adds_space(text, first));
                let first = if adds_space { pieces.piece_end(text, 0) } else { 0 };
                let (first, rest) = text.split_at(first);
                let prefixed = match adds_space {
                    true => encoder
                        .encode_piece(format!(" {first}").as_bytes(), out)
                        .map_err(|at| at.saturating_sub(1)),
                    false => Ok(()),
                };
                let encoded = prefixed
                    .and_then(|()| encoder.encode(rest, out).map_err(|at| first.len() + at));
                encoded.map_err(|at| MissingToken::character(text, at))
            }
        }
    }
}
