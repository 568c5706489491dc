//! How completely the keys of a GGUF can describe a tokenizer.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::document::{AddedToken, Document};
use super::{SpacePrefix, VocabularyKind, byte_token};
use crate::CheckpointError;

/// How completely llama.cpp's keys of a GGUF can describe a tokenizer. If they are not complete,
/// the file also holds the whole `tokenizer.json` under [`TOKENIZER_JSON_KEY`], which is read here
/// instead of the keys; llama.cpp does not read it. Every tokenizer can therefore be stored in a
/// GGUF, and from it this project makes the same tokens as transformers. The forms differ in
/// whether llama.cpp (and with it the web chat) does so too.
///
/// | form | in the GGUF | llama.cpp and the web chat |
/// |---|---|---|
/// | [`Exact`](GgufForm::Exact) | the keys | make the same tokens |
/// | [`Approximate`](GgufForm::Approximate) | the keys and the file | make other tokens of some texts |
/// | [`JsonOnly`](GgufForm::JsonOnly) | a list of tokens and the file | run the model on ids, but tokenize no text |
///
/// [`Vocabulary::gguf_form`](super::Vocabulary::gguf_form) classifies a tokenizer. A stage that
/// only needs ids (training, export, quantization, evaluation, `generate`) works with all three; a
/// bundle needs a device that tokenizes, so it cannot use `JsonOnly`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GgufForm {
    /// The keys are complete.
    Exact,
    /// The keys are nearly complete; the text says what llama.cpp does differently.
    Approximate(String),
    /// llama.cpp has no tokenizer of this kind; the text says why.
    JsonOnly(String),
}

/// The text of a `tokenizer.json` in a GGUF, by the GGUF specification.
pub const TOKENIZER_JSON_KEY: &str = "tokenizer.huggingface.json";

impl GgufForm {
    /// Whether llama.cpp, and so the web chat, can tokenize text.
    pub fn llama_cpp_encodes(&self) -> bool {
        !matches!(self, GgufForm::JsonOnly(_))
    }
}

impl fmt::Display for GgufForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GgufForm::Exact => f.write_str("a GGUF holds this tokenizer exactly"),
            GgufForm::Approximate(differs) => {
                write!(f, "llama.cpp makes other tokens of some texts: {differs}")
            }
            GgufForm::JsonOnly(reason) => {
                write!(f, "llama.cpp has no such tokenizer, so it needs token ids: {reason}")
            }
        }
    }
}

/// Why no kind of tokenizer of llama.cpp fits a file.
pub(super) enum Unfit {
    /// None does the same.
    Gguf(String),
    /// The file is invalid.
    File(CheckpointError),
}

impl From<CheckpointError> for Unfit {
    fn from(error: CheckpointError) -> Self {
        Unfit::File(error)
    }
}

/// What llama.cpp does differently with added tokens and around a text.
pub(super) fn added_difference(document: &Document) -> Option<String> {
    let find = |odd: fn(&AddedToken) -> bool| document.added_tokens.iter().find(|token| odd(token));
    if let Some(token) = find(|token| token.lstrip || token.rstrip || token.single_word) {
        let what = match (token.lstrip, token.rstrip) {
            (true, _) => "lstrip",
            (_, true) => "rstrip",
            _ => "single_word",
        };
        return Some(format!("the added token {:?} has {what}", token.content));
    }
    let normalized = find(|token| token.normalized && !token.content.is_empty());
    if let (Some(token), Some(normalizer)) = (normalized, &document.normalizer) {
        let kind = normalizer["type"].as_str().unwrap_or("of no type");
        return Some(format!(
            "the added token {:?} is looked for in what the normalizer ({kind}) made",
            token.content
        ));
    }
    overlapping(document)
}

/// Two added tokens of which the longer begins within the shorter: Hugging Face takes the one that
/// begins first, llama.cpp searches the whole text for the longest first.
fn overlapping(document: &Document) -> Option<String> {
    let texts = document.added_tokens.iter().map(|token| token.content.as_str());
    let mut longest: HashMap<&str, &str> = HashMap::new();
    for text in texts.clone() {
        for (at, _) in text.char_indices().skip(1) {
            let token = longest.entry(&text[..at]).or_insert(text);
            if text.len() > token.len() {
                *token = text;
            }
        }
    }
    // In runs of one character, such as indentation, both take the longest first.
    let is_run = |text: &str| text.chars().all(|letter| text.starts_with(letter));
    for first in texts.filter(|text| !is_run(text)) {
        for (at, _) in first.char_indices().skip(1) {
            if let Some(second) = longest.get(&first[at..])
                && second.len() > first.len()
            {
                return Some(format!("the added tokens {first:?} and {second:?} overlap"));
            }
        }
    }
    None
}

/// What llama.cpp does differently with the text between added tokens, for a kind that it supports.
pub(super) fn text_difference(
    document: &Document,
    kind: &VocabularyKind,
    tokens: &[String],
) -> Option<String> {
    match kind {
        VocabularyKind::Bpe { .. } if document.normalizer.is_some() => {
            Some("it does not bring text into normal form C (NFC)".to_owned())
        }
        VocabularyKind::Bpe { pre, .. } => match pre.difference() {
            None if document.unknown().is_some() && lacks_letters(tokens) => {
                Some("some bytes have no token and become the unknown one".to_owned())
            }
            difference => difference.map(str::to_owned),
        },
        VocabularyKind::SentencePiece { .. } if lacks_bytes(tokens) => {
            Some("some of the 256 byte tokens are missing, and it expects them all".to_owned())
        }
        VocabularyKind::SentencePiece { .. } | VocabularyKind::HuggingFace => None,
    }
}

/// What llama.cpp does differently with the space before a text.
pub(super) fn prefix_difference(kind: &VocabularyKind) -> Option<String> {
    let VocabularyKind::SentencePiece { prefix, .. } = kind else { return None };
    let what = match prefix {
        SpacePrefix::Never | SpacePrefix::Always => return None,
        SpacePrefix::Missing => "it puts a space before a text that begins with one (Metaspace)",
        SpacePrefix::MissingFirst => {
            "it puts a space behind each special token and before a text that begins with one \
             (Metaspace, first)"
        }
    };
    Some(what.to_owned())
}

/// Tokens that transformers adds around a text and that a GGUF has no keys for.
pub(super) fn around_difference(document: &Document) -> Option<String> {
    let (before, behind) = document.around();
    let more = before.len() > 1 || behind.len() > 1;
    more.then(|| format!("{before:?} go before a text and {behind:?} behind it"))
}

fn lacks_letters(tokens: &[String]) -> bool {
    // Letters of the byte alphabet below U+0100 represent themselves, the others follow it.
    let letters = (0x21..=0x7E).chain(0xA1..=0xAC).chain(0xAE..=0xFF).chain(0x100..=0x143);
    let present: HashSet<&str> = tokens.iter().map(String::as_str).collect();
    let mut letters = letters.filter_map(char::from_u32);
    letters.any(|letter| !present.contains(letter.encode_utf8(&mut [0; 4]) as &str))
}

fn lacks_bytes(tokens: &[String]) -> bool {
    let present: HashSet<u8> = tokens.iter().filter_map(|text| byte_token(text)).collect();
    present.len() < 256
}
