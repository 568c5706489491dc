//! The vocabulary of a tokenizer: read from a `tokenizer.json` and the files beside it, or from
//! the keys of a GGUF, and written as those keys.
//!
//! | kind | `tokenizer.json` | `tokenizer.ggml.model` |
//! |---|---|---|
//! | byte-level BPE | `BPE` behind a pre-tokenizer of [`PreTokenizer`] | `gpt2`, `pre` says which |
//! | SentencePiece's BPE | `BPE` with `byte_fallback` | `llama`, scores in place of merges |
//! | whole words | `WordLevel` | `no_vocab` |
//!
//! llama.cpp splits text by itself, so it needs to know which way, the vocabulary in the order of
//! the ids, and the merges in the order of their rank. It has no tokenizer of words: for one the
//! file says `no_vocab` and how many tokens there are (`llama-vocab.cpp`); the tokens are written
//! all the same, for readers that can use them. Every other kind is refused by name.

pub(crate) mod chat_template;
mod document;
mod from_gguf;
mod llama2c;
mod pre;
mod sentencepiece;
mod special;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;

use config::Architecture;
use gguf::{Array, Metadata, Value};

use crate::CheckpointError;
use document::Document;

pub use pre::PreTokenizer;
pub use sentencepiece::{SPACE_MARK, SpacePrefix, byte_token, splits};
pub use special::SpecialTokens;

/// The token that begins and ends a text.
const END_OF_TEXT: &str = "<|endoftext|>";

/// What a token is: `enum llama_token_type` of `llama.h`, as a GGUF stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenType {
    /// A piece of text.
    Normal = 1,
    /// Stands for what has no token.
    Unknown = 2,
    /// Has a meaning and no text: never made from what a user writes.
    Control = 3,
    /// Text that is found before anything else is done to it.
    UserDefined = 4,
    /// Fills the vocabulary up to the size of the embedding.
    Unused = 5,
    /// One byte of a character that has no token.
    Byte = 6,
}

/// How text is split.
#[derive(Debug, Clone, PartialEq)]
pub enum VocabularyKind {
    /// Byte-level BPE.
    Bpe {
        /// How text is cut before it is merged.
        pre: &'static PreTokenizer,
        /// Merges as `"left right"`, best first.
        merges: Vec<String>,
    },
    /// SentencePiece's BPE over characters.
    SentencePiece {
        /// One for each token; of two neighbours that spell a token, the highest merge first.
        scores: Vec<f32>,
        /// The same as pairs of ids, best first; empty where only scores are known.
        merges: Vec<(u32, u32)>,
        /// Whether a space goes before a text.
        prefix: SpacePrefix,
    },
    /// Whole words.
    Words,
}

/// The tokens of a tokenizer, in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// How text is split.
    pub kind: VocabularyKind,
    /// Token texts; the place is the id. Byte-level BPE writes bytes as GPT-2's letters for them.
    pub tokens: Vec<String>,
    /// What each token is.
    pub types: Vec<TokenType>,
    /// Tokens with a meaning of their own.
    pub special: SpecialTokens,
    /// A Jinja template that writes a conversation as the model was trained to read it.
    pub chat_template: Option<String>,
}

impl Vocabulary {
    /// Reads the text of a `tokenizer.json`. Which tokens begin and end a text is known by the
    /// usual names only.
    ///
    /// # Errors
    /// When it is malformed, of another kind than those above, or has an id twice or not at all.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let document = Document::parse(text)?;
        Self::from_document(&document)
    }

    /// Reads the text of the `tokenizer.json` of a folder, and what else the folder says about it:
    /// `tokenizer_config.json`, the chat template, the ids in `config.json` and
    /// `generation_config.json`.
    ///
    /// # Errors
    /// As for [`Vocabulary::parse`]; and when one of these files is malformed or names a token
    /// that does not exist.
    pub fn of_folder(dir: &Path, tokenizer_json: &str) -> Result<Self, CheckpointError> {
        let document = Document::parse(tokenizer_json)?;
        let mut vocabulary = Self::from_document(&document)?;
        let beside = special::Beside::read(dir)?;
        let guess = std::mem::take(&mut vocabulary.special);
        vocabulary.special = beside.special(guess, &document, &vocabulary.tokens)?;
        vocabulary.chat_template = beside.chat_template();
        Ok(vocabulary)
    }

    fn from_document(document: &Document) -> Result<Self, CheckpointError> {
        let model = document.model.r#type.as_deref();
        // Files of before 2021 do not name the only kind there was.
        let is_bpe = model == Some("BPE") || model.is_none() && !document.model.merges.is_empty();
        let tokens = document.tokens()?;
        let mut types = document.types(&tokens);
        let kind = match model {
            _ if is_bpe && sentencepiece::is_sentencepiece(document) => {
                sentencepiece::refine_types(document, &tokens, &mut types);
                sentence_pieces(document, &tokens, &types)?
            }
            _ if is_bpe => byte_level(document)?,
            Some("WordLevel") => VocabularyKind::Words,
            other => {
                return Err(refuse(format!(
                    "model type {} is not supported, expected BPE or WordLevel",
                    other.unwrap_or("(none)")
                )));
            }
        };
        let special = SpecialTokens::guess(document, &tokens);
        Ok(Vocabulary { kind, tokens, types, special, chat_template: None })
    }

    /// The id of the token that ends a text, if the tokenizer has one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.special.eos
    }

    /// Adds the `tokenizer.*` keys, for an embedding of `rows` rows. Rows without a token get one
    /// that is never used, as llama.cpp's converter does it (`get_vocab_base`).
    ///
    /// # Errors
    /// When there are more tokens than rows.
    pub fn describe(
        mut self,
        architecture: Architecture,
        rows: usize,
        metadata: &mut Metadata,
    ) -> Result<(), CheckpointError> {
        self.pad(rows)?;
        let (model, pre) = match &self.kind {
            VocabularyKind::Bpe { pre, .. } => ("gpt2", Some(pre.name)),
            VocabularyKind::SentencePiece { .. } => ("llama", Some("default")),
            VocabularyKind::Words => {
                // The limits on a model keep the vocabulary far below 2^32.
                let size = Value::U32(self.tokens.len() as u32);
                metadata.set(format!("{}.vocab_size", architecture.name()), size);
                ("no_vocab", None)
            }
        };
        metadata.set("tokenizer.ggml.model", Value::String(model.to_owned()));
        if let Some(pre) = pre {
            metadata.set("tokenizer.ggml.pre", Value::String(pre.to_owned()));
        }
        let types = self.types.iter().map(|&kind| kind as i32).collect();
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(self.tokens)));
        metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
        match self.kind {
            VocabularyKind::Bpe { merges, .. } => {
                metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
            }
            VocabularyKind::SentencePiece { scores, prefix, .. } => {
                metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
                let adds_space = Value::Bool(prefix != SpacePrefix::Never);
                metadata.set("tokenizer.ggml.add_space_prefix", adds_space);
            }
            VocabularyKind::Words => {}
        }
        self.special.describe(metadata);
        if let Some(template) = self.chat_template {
            metadata.set("tokenizer.chat_template", Value::String(template));
        }
        Ok(())
    }

    fn pad(&mut self, rows: usize) -> Result<(), CheckpointError> {
        let known = self.tokens.len();
        if known > rows {
            return Err(refuse(format!(
                "{known} tokens, but the model's embedding has {rows} rows; expected no more \
                 tokens than rows"
            )));
        }
        let words = matches!(self.kind, VocabularyKind::Words);
        if words && known < rows {
            return Err(refuse(format!(
                "{known} words, but the model's embedding has {rows} rows; they must be equal"
            )));
        }
        let is_fill = |token: &&String| token.starts_with("[PAD");
        let taken: HashSet<String> = self.tokens.iter().filter(is_fill).cloned().collect();
        for id in known..rows {
            let name = format!("[PAD{id}]");
            if taken.contains(&name) {
                return Err(refuse(format!("{name:?} is a token already and cannot fill a row")));
            }
            self.tokens.push(name);
        }
        self.types.resize(rows, TokenType::Unused);
        if let VocabularyKind::SentencePiece { scores, .. } = &mut self.kind {
            scores.resize(rows, UNUSED_SCORE);
        }
        Ok(())
    }
}

/// Of tokens that never merge, as llama.cpp's converter writes it.
const UNUSED_SCORE: f32 = -1000.0;

impl SpecialTokens {
    fn describe(&self, metadata: &mut Metadata) {
        for (key, id) in [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("unknown_token_id", self.unknown),
            ("padding_token_id", self.padding),
        ] {
            if let Some(id) = id {
                metadata.set(format!("tokenizer.ggml.{key}"), Value::U32(id));
            }
        }
        metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(self.add_bos));
        if self.add_eos {
            metadata.set("tokenizer.ggml.add_eos_token", Value::Bool(true));
        }
    }
}

/// `tokenizer.ggml.pre` promises that text is split and merged exactly as Hugging Face does it.
fn byte_level(document: &Document) -> Result<VocabularyKind, CheckpointError> {
    document.check_model()?;
    document.check_added()?;
    let pre = PreTokenizer::of(document)?;
    let line = |merge: &document::Merge| {
        let (left, right) = merge.parts()?;
        Ok(format!("{left} {right}"))
    };
    let merges = document.model.merges.iter().map(line).collect::<Result<_, CheckpointError>>()?;
    Ok(VocabularyKind::Bpe { pre, merges })
}

fn sentence_pieces(
    document: &Document,
    tokens: &[String],
    types: &[TokenType],
) -> Result<VocabularyKind, CheckpointError> {
    document.check_model()?;
    document.check_added()?;
    if document.model.ignore_merges {
        return Err(refuse("it has byte_fallback and ignore_merges at once".to_owned()));
    }
    let prefix = sentencepiece::space_prefix(document)?;
    let merges = sentencepiece::merge_ids(document, tokens)?;
    let scores = sentencepiece::scores(tokens, types, &merges)?;
    Ok(VocabularyKind::SentencePiece { scores, merges, prefix })
}

fn refuse(reason: String) -> CheckpointError {
    CheckpointError::Tokenizer { reason }
}
