//! The vocabulary of a tokenizer: read from a `tokenizer.json` and the other files of its folder,
//! or from the keys of a GGUF, and written as those keys.
//!
//! | kind | `tokenizer.json` | `tokenizer.ggml.model` |
//! |---|---|---|
//! | byte-level BPE | `BPE` behind a pre-tokenizer of [`PreTokenizer`] | `gpt2`, `pre` says which |
//! | SentencePiece's BPE | `BPE` with `byte_fallback` | `llama`, scores in place of merges |
//! | any other | what the `tokenizers` crate loads | `no_vocab` |
//!
//! llama.cpp splits text itself, so it needs the name of the pre-tokenizer, the vocabulary in the
//! order of the ids, and the merges in the order of their rank. For kinds that it does not have,
//! the file holds `no_vocab` and the number of tokens (`llama-vocab.cpp`). If the keys are not
//! complete, the text of the `tokenizer.json` is stored as well: see [`GgufForm`].

pub(crate) mod chat_template;
mod document;
mod ends;
mod files;
mod form;
mod from_gguf;
mod llama2c;
mod pre;
mod sentencepiece;
mod special;
mod spm_model;
#[cfg(test)]
mod tests;
mod with_template;

use std::collections::HashSet;
use std::path::Path;

use config::Architecture;
use gguf::{Array, Metadata, Value};

use crate::CheckpointError;
use document::{Document, Fill, Tokens};
use form::Unfit;

pub use files::tokenizer_json;
pub use form::{GgufForm, TOKENIZER_JSON_KEY};
pub use pre::PreTokenizer;
pub use sentencepiece::{SPACE_MARK, SpacePrefix, byte_token, splits};
pub use special::SpecialTokens;
pub use with_template::{NewTemplate, write_with_template};

/// The token that begins and ends a text.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The type of a token: `enum llama_token_type` of `llama.h`, as a GGUF stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenType {
    /// A piece of text.
    Normal = 1,
    /// Represents text that has no token.
    Unknown = 2,
    /// Has a meaning but no text: never produced from user input.
    Control = 3,
    /// Text that is recognised before any other processing.
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
        /// How text is split before it is merged.
        pre: &'static PreTokenizer,
        /// Merges as `"left right"`, best first.
        merges: Vec<String>,
    },
    /// SentencePiece's BPE over characters.
    SentencePiece {
        /// One for each token; of two neighbouring pairs that spell a token, the one with the
        /// highest score merges first.
        scores: Vec<f32>,
        /// The same as pairs of ids, best first; empty if only scores are known.
        merges: Vec<(u32, u32)>,
        /// Whether a space is added before a text.
        prefix: SpacePrefix,
    },
    /// Described by the `tokenizer.json` only: words, Unigram, WordPiece, any other pattern.
    HuggingFace,
}

/// The tokens of a tokenizer, in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// How text is split.
    pub kind: VocabularyKind,
    /// Token texts, indexed by id. Byte-level BPE writes bytes as GPT-2's letters for them.
    pub tokens: Vec<String>,
    /// The type of each token.
    pub types: Vec<TokenType>,
    /// The special tokens.
    pub special: SpecialTokens,
    /// A Jinja template that renders a conversation in the format that the model was trained on.
    pub chat_template: Option<String>,
    /// How completely a GGUF can describe it.
    pub form: GgufForm,
    /// Whether the fields above determine every token of a text. Otherwise only `json` does.
    pub is_complete: bool,
    /// The text of the `tokenizer.json`, if it was read from one.
    pub json: Option<Box<str>>,
}

impl Vocabulary {
    /// Reads the text of a `tokenizer.json` of any kind. The tokens that begin and end a text are
    /// recognised by their usual names only.
    ///
    /// # Errors
    /// When it is malformed, or an id exceeds the limit. This does not check whether the
    /// `tokenizers` crate loads a file of a kind that is not in the table above.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        Self::from_document(&Document::parse(text)?, text)
    }

    /// Reads the text of the `tokenizer.json` of a folder, and the other files that describe it:
    /// `tokenizer_config.json`, the chat template, the ids in `config.json` and
    /// `generation_config.json`.
    ///
    /// # Errors
    /// As for [`Vocabulary::parse`]; and when one of these files is malformed or names a token
    /// that does not exist.
    pub fn of_folder(dir: &Path, tokenizer_json: &str) -> Result<Self, CheckpointError> {
        let document = Document::parse(tokenizer_json)?;
        let mut vocabulary = Self::from_document(&document, tokenizer_json)?;
        let beside = special::Beside::read(dir)?;
        let guess = std::mem::take(&mut vocabulary.special);
        vocabulary.special = beside.special(guess, &document, &vocabulary.tokens)?;
        vocabulary.chat_template = beside.chat_template();
        Ok(vocabulary)
    }

    fn from_document(document: &Document, text: &str) -> Result<Self, CheckpointError> {
        let Tokens { texts: tokens, mut types, second } = document.tokens()?;
        let (kind, form, is_complete) = match ggml_kind(document, &tokens, &mut types) {
            Ok(kind) => {
                let of_text = second
                    .or_else(|| form::added_difference(document))
                    .or_else(|| form::text_difference(document, &kind, &tokens));
                let is_complete = of_text.is_none();
                let difference = of_text
                    .or_else(|| form::prefix_difference(&kind))
                    .or_else(|| form::around_difference(document));
                (kind, difference.map_or(GgufForm::Exact, GgufForm::Approximate), is_complete)
            }
            Err(Unfit::Gguf(reason)) => {
                (VocabularyKind::HuggingFace, GgufForm::JsonOnly(reason), false)
            }
            Err(Unfit::File(error)) => return Err(error),
        };
        let special = SpecialTokens::guess(document, &tokens);
        let json = Some(text.into());
        Ok(Vocabulary {
            kind,
            tokens,
            types,
            special,
            chat_template: None,
            form,
            is_complete,
            json,
        })
    }

    /// How completely a GGUF of a model with `rows` rows in its embedding can describe the
    /// tokenizer.
    pub fn gguf_form(&self, rows: usize) -> GgufForm {
        match &self.form {
            GgufForm::Exact if self.tokens.len() > rows => GgufForm::Approximate(format!(
                "it does not know the {} tokens beyond the {rows} rows of the embedding, the first \
                 of which is {:?}",
                self.tokens.len() - rows,
                self.tokens[rows]
            )),
            form => form.clone(),
        }
    }

    /// The id of the token that ends a text, if the tokenizer has one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.special.eos
    }

    /// Adds the `tokenizer.*` keys, for an embedding of `rows` rows. Rows without a token get a
    /// token that is never used, as in llama.cpp's converter (`get_vocab_base`); tokens without a
    /// row are omitted and only stored in the `tokenizer.json`.
    pub fn describe(mut self, architecture: Architecture, rows: usize, metadata: &mut Metadata) {
        let form = self.gguf_form(rows);
        self.fit(rows);
        let (model, pre) = match &self.kind {
            VocabularyKind::Bpe { pre, .. } => ("gpt2", Some(pre.name)),
            VocabularyKind::SentencePiece { .. } => ("llama", Some("default")),
            VocabularyKind::HuggingFace => {
                // The limits on a model keep the vocabulary far below 2^32.
                let size = Value::U32(self.tokens.len() as u32);
                metadata.set(format!("{}.vocab_size", architecture.name()), size);
                ("no_vocab", None)
            }
        };
        let ends = ends::keys(&self.special, &self.tokens);
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
            VocabularyKind::HuggingFace => {}
        }
        self.special.describe(rows, metadata);
        for (key, id) in ends.into_iter().filter(|(_, id)| (*id as usize) < rows) {
            metadata.set(format!("tokenizer.ggml.{key}_token_id"), Value::U32(id));
        }
        if let Some(template) = self.chat_template {
            metadata.set("tokenizer.chat_template", Value::String(template));
        }
        if let Some(json) = self.json.filter(|_| form != GgufForm::Exact) {
            metadata.set(TOKENIZER_JSON_KEY, Value::String(json.into()));
        }
    }

    /// As many tokens as rows.
    fn fit(&mut self, rows: usize) {
        let cut = rows < self.tokens.len();
        let mut fill = Fill::new(self.tokens.iter().map(String::as_str));
        self.tokens.truncate(rows);
        self.types.truncate(rows);
        for id in self.tokens.len()..rows {
            self.tokens.push(fill.name(id));
        }
        self.types.resize(rows, TokenType::Unused);
        match &mut self.kind {
            VocabularyKind::SentencePiece { scores, .. } => scores.resize(rows, UNUSED_SCORE),
            VocabularyKind::Bpe { merges, .. } if cut => {
                // llama.cpp looks up the result of every merge.
                let known: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
                merges.retain(|merge| known.contains(merge.replacen(' ', "", 1).as_str()));
            }
            VocabularyKind::Bpe { .. } | VocabularyKind::HuggingFace => {}
        }
    }
}

/// The score of tokens that never merge, as llama.cpp's converter writes it.
const UNUSED_SCORE: f32 = -1000.0;

impl SpecialTokens {
    /// llama.cpp must not read that a tokenizer adds `eos` after a text: it would end every prompt
    /// before it is answered, and its own programs abort on such a file.
    fn describe(&self, rows: usize, metadata: &mut Metadata) {
        let present = |id: &u32| (*id as usize) < rows;
        for (key, id) in [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("unknown_token_id", self.unknown),
            ("padding_token_id", self.padding),
        ] {
            if let Some(id) = id.filter(present) {
                metadata.set(format!("tokenizer.ggml.{key}"), Value::U32(id));
            }
        }
        let add_bos = self.add_bos && self.bos.as_ref().is_some_and(present);
        metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(add_bos));
    }
}

/// The kind of llama.cpp's tokenizers that does the same as a file, or nearly the same.
fn ggml_kind(
    document: &Document,
    tokens: &[String],
    types: &mut [TokenType],
) -> Result<VocabularyKind, Unfit> {
    let model = document.model.r#type.as_deref();
    // Files from before 2021 do not name the kind, since there was only one.
    match model {
        Some("BPE") => {}
        None if !document.model.merges.is_empty() => {}
        other => {
            let name = other.unwrap_or("(none)");
            return Err(Unfit::Gguf(format!("its model is {name}, not BPE")));
        }
    }
    document.check_model()?;
    match sentencepiece::is_sentencepiece(document) {
        true => sentence_pieces(document, tokens, types),
        false => byte_level(document),
    }
}

/// `tokenizer.ggml.pre` must only be written if text is split and merged exactly as in Hugging
/// Face.
fn byte_level(document: &Document) -> Result<VocabularyKind, Unfit> {
    let pre = PreTokenizer::of(document)?;
    let line = |merge: &document::Merge| {
        let (left, right) = merge.parts()?;
        Ok(format!("{left} {right}"))
    };
    let merges = document.model.merges.iter().map(line).collect::<Result<_, Unfit>>()?;
    Ok(VocabularyKind::Bpe { pre, merges })
}

fn sentence_pieces(
    document: &Document,
    tokens: &[String],
    types: &mut [TokenType],
) -> Result<VocabularyKind, Unfit> {
    sentencepiece::refine_types(document, tokens, types);
    if document.model.ignore_merges {
        return Err(Unfit::Gguf("it has byte_fallback and ignore_merges at once".to_owned()));
    }
    let prefix = sentencepiece::space_prefix(document)?;
    let merges = sentencepiece::merge_ids(document, tokens)?;
    let scores = sentencepiece::scores(tokens, types, &merges)?;
    Ok(VocabularyKind::SentencePiece { scores, merges, prefix })
}

fn refuse(reason: String) -> CheckpointError {
    CheckpointError::Tokenizer { reason }
}
