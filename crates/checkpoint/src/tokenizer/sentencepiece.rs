//! SentencePiece's BPE as Hugging Face writes it (LLaMA, Mistral, TinyLlama): characters are
//! merged, `▁` represents a space, and text without a piece is spelled in byte tokens.
//!
//! llama.cpp stores a score for each token and no merges: of all neighbours that spell a token,
//! those with the highest score merge first (`llm_tokenizer_spm` in `llama-vocab.cpp`). Hugging
//! Face's file lists merges, made from the scores by `generate_merges` of transformers: every pair
//! of tokens that forms a token, best score first. The scores can therefore be restored, up to
//! their scale, if and only if the list is complete; a list that was trained as merges is not.

use std::collections::HashMap;

use serde_json::Value;

use super::document::Document;
use super::form::Unfit;
use super::{TokenType, refuse};

/// The character that represents a space.
pub const SPACE_MARK: char = '\u{2581}';

/// When a mark is added before a text, so that its first word looks like all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpacePrefix {
    /// Never.
    Never,
    /// At the beginning and after every special token (`Prepend`; llama.cpp's rule).
    Always,
    /// The same, unless a space is there already (`Metaspace`, `always`).
    Missing,
    /// At the beginning only, unless a space is there already (`Metaspace`, `first`).
    MissingFirst,
}

/// The value of a byte token such as `<0x0A>`.
pub fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Whether a file is of this kind, by the one setting that only this kind has.
pub(super) fn is_sentencepiece(document: &Document) -> bool {
    document.model.byte_fallback
}

/// Marks byte tokens and the unknown token, which some files do not list as added tokens.
pub(super) fn refine_types(document: &Document, tokens: &[String], types: &mut [TokenType]) {
    let unknown = document.unknown();
    for (token, kind) in tokens.iter().zip(types) {
        if byte_token(token).is_some() {
            *kind = TokenType::Byte;
        } else if unknown == Some(token.as_str()) {
            *kind = TokenType::Unknown;
        }
    }
}

/// Reads the treatment of spaces from the normalizer or the pre-tokenizer; one of them defines it.
pub(super) fn space_prefix(document: &Document) -> Result<SpacePrefix, Unfit> {
    let unknown = |part: &str, value: &Value| {
        let kind = value["type"].as_str().unwrap_or("of no type");
        Err(Unfit::Gguf(format!(
            "its {part} {kind:?} beside byte_fallback does something else with spaces than \
             \"Prepend\" and \"Replace\" by \"▁\", or \"Metaspace\" without split"
        )))
    };
    match (&document.normalizer, &document.pre_tokenizer) {
        (None, Some(metaspace)) => match metaspace_prefix(metaspace) {
            Some(prefix) => Ok(prefix),
            None => unknown("pre_tokenizer", metaspace),
        },
        (Some(normalizer), None) => match normalizer_prefix(normalizer) {
            Some(prefix) => Ok(prefix),
            None => unknown("normalizer", normalizer),
        },
        (Some(normalizer), Some(pre_tokenizer)) => match normalizer_prefix(normalizer) {
            Some(prefix) if splits_at_spaces(pre_tokenizer) => Ok(prefix),
            _ => unknown("pre_tokenizer", pre_tokenizer),
        },
        (None, None) => unknown("normalizer", &Value::Null),
    }
}

fn metaspace_prefix(metaspace: &Value) -> Option<SpacePrefix> {
    let whole = metaspace["type"] == "Metaspace"
        && metaspace["replacement"] == "\u{2581}"
        && metaspace["split"] == Value::Bool(false);
    let scheme = metaspace["prepend_scheme"].as_str().unwrap_or("always");
    match scheme {
        _ if !whole => None,
        "always" => Some(SpacePrefix::Missing),
        "first" => Some(SpacePrefix::MissingFirst),
        "never" => Some(SpacePrefix::Never),
        _ => None,
    }
}

/// Gemma's files split at spaces, but the normalizer has already replaced all of them.
fn splits_at_spaces(pre_tokenizer: &Value) -> bool {
    pre_tokenizer["type"] == "Split" && pre_tokenizer["pattern"]["String"] == " "
}

fn normalizer_prefix(normalizer: &Value) -> Option<SpacePrefix> {
    let replaces = |step: &Value| {
        step["type"] == "Replace"
            && step["pattern"]["String"] == " "
            && step["content"] == "\u{2581}"
    };
    let prepends = |step: &Value| step["type"] == "Prepend" && step["prepend"] == "\u{2581}";
    let steps = match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"].as_array()?.as_slice(),
        _ => std::slice::from_ref(normalizer),
    };
    match steps {
        [first, second] if prepends(first) && replaces(second) => Some(SpacePrefix::Always),
        [only] if replaces(only) => Some(SpacePrefix::Never),
        _ => None,
    }
}

/// The merges of a file as ids, in its order.
pub(super) fn merge_ids(document: &Document, tokens: &[String]) -> Result<Vec<(u32, u32)>, Unfit> {
    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    let id = |text: &str| {
        let missing = || refuse(format!("a merge has {text:?}, which is not in the vocabulary"));
        ids.get(text).copied().ok_or_else(missing)
    };
    document
        .model
        .merges
        .iter()
        .map(|merge| {
            let (left, right) = merge.parts()?;
            id(&format!("{left}{right}"))?;
            Ok((id(left)?, id(right)?))
        })
        .collect()
}

/// The score of each token: minus the position of its first merge.
///
/// # Errors
/// When the merges are not all that such scores would give, so that llama.cpp would make other
/// tokens than Hugging Face.
pub(super) fn scores(
    tokens: &[String],
    types: &[TokenType],
    merges: &[(u32, u32)],
) -> Result<Vec<f32>, Unfit> {
    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    // After all tokens that merge, like single characters.
    let mut scores: Vec<f32> = types
        .iter()
        .map(|kind| if *kind == TokenType::Normal { -(merges.len() as f32) } else { 0.0 })
        .collect();
    let mut made = vec![0_usize; tokens.len()];
    let mut previous = None;
    for (rank, &(left, right)) in merges.iter().enumerate() {
        let text = [tokens[left as usize].as_str(), tokens[right as usize].as_str()].concat();
        let Some(&id) = ids.get(text.as_str()) else { continue };
        let place = id as usize;
        if made[place] > 0 && previous != Some(id) {
            return Err(Unfit::Gguf(format!(
                "the merges that make {text:?} do not stand together, so no order of scores says \
                 the same; only vocabularies made from a SentencePiece model can go into a GGUF"
            )));
        }
        if made[place] == 0 {
            scores[place] = -(rank as f32);
        }
        made[place] += 1;
        previous = Some(id);
    }
    for (place, text) in tokens.iter().enumerate() {
        let possible =
            splits(text).filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right));
        if types[place] == TokenType::Normal && possible.count() != made[place] {
            return Err(Unfit::Gguf(format!(
                "not every pair of tokens that spells {text:?} is a merge, but llama.cpp merges \
                 all of them; only vocabularies made from a SentencePiece model can go into a GGUF"
            )));
        }
    }
    Ok(scores)
}

/// All ways to split a text into two non-empty parts.
pub fn splits(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.char_indices().skip(1).map(|(middle, _)| text.split_at(middle))
}
