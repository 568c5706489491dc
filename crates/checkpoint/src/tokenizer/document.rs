//! The parts of a `tokenizer.json` that decide which tokens a text becomes.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{TokenType, refuse};
use crate::CheckpointError;

/// Hugging Face's file, as far as it is looked at.
#[derive(Deserialize)]
pub(super) struct Document {
    pub model: Model,
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub normalizer: Option<Value>,
    #[serde(default)]
    pub pre_tokenizer: Option<Value>,
    #[serde(default)]
    pub post_processor: Option<Value>,
}

/// A token that is found in the text before anything else is done to it.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub special: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub single_word: bool,
}

#[derive(Deserialize)]
pub(super) struct Model {
    pub r#type: Option<String>,
    pub vocab: HashMap<String, u32>,
    #[serde(default)]
    pub merges: Vec<Merge>,
    #[serde(default)]
    pub unk_token: Option<String>,
    #[serde(default)]
    pub continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub dropout: Option<f64>,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
}

/// Older files write `"a b"`, newer ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Merge {
    Text(String),
    Pair([String; 2]),
}

impl Merge {
    /// Both parts; one with a space in it could not be told apart from two parts.
    pub fn parts(&self) -> Result<(&str, &str), CheckpointError> {
        let parts = match self {
            Merge::Text(text) => text.split_once(' '),
            Merge::Pair([left, right]) => Some((left.as_str(), right.as_str())),
        };
        let whole = |part: &str| !part.is_empty() && !part.contains(' ');
        parts.filter(|(left, right)| whole(left) && whole(right)).ok_or_else(|| {
            let shown = match self {
                Merge::Text(text) => text.clone(),
                Merge::Pair(pair) => pair.join(" "),
            };
            refuse(format!("merge {shown:?}: expected two tokens without spaces"))
        })
    }
}

impl Document {
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        serde_json::from_str(text).map_err(|error| refuse(error.to_string()))
    }

    /// Texts by id, every id from 0 on exactly once.
    pub fn tokens(&self) -> Result<Vec<String>, CheckpointError> {
        for AddedToken { id, content, .. } in &self.added_tokens {
            if let Some(other) = self.model.vocab.get(content).filter(|other| *other != id) {
                return Err(refuse(format!(
                    "{content:?} is token {other} in the vocabulary and {id} among the added ones"
                )));
            }
        }
        let model = self.model.vocab.iter().map(|(text, &id)| (id, text));
        let added = self.added_tokens.iter().map(|token| (token.id, &token.content));
        let mut all: Vec<(u32, &String)> = model.chain(added).collect();
        all.sort();
        // An added token is usually part of the vocabulary as well.
        all.dedup();
        for (expected, &(id, text)) in all.iter().enumerate() {
            if id as usize > expected {
                return Err(refuse(format!("id {expected} has no token")));
            }
            if (id as usize) < expected {
                return Err(refuse(format!("id {id} has two tokens, the second is {text:?}")));
            }
        }
        Ok(all.into_iter().map(|(_, text)| text.clone()).collect())
    }

    /// What each of `tokens` is; the kinds of model add to this what only they have.
    pub fn types(&self, tokens: &[String]) -> Vec<TokenType> {
        let mut types = vec![TokenType::Normal; tokens.len()];
        for token in &self.added_tokens {
            let unknown = self.model.unk_token.as_ref() == Some(&token.content)
                && token.content != super::END_OF_TEXT;
            // Every id was found to have its token, so it is in range.
            types[token.id as usize] = match token.special {
                true if unknown => TokenType::Unknown,
                true => TokenType::Control,
                false => TokenType::UserDefined,
            };
        }
        types
    }

    /// llama.cpp finds a user-defined token as it is spelled and nothing around it.
    pub fn check_added(&self) -> Result<(), CheckpointError> {
        let strips = |token: &&AddedToken| token.lstrip || token.rstrip || token.single_word;
        match self.added_tokens.iter().filter(|token| !token.special).find(strips) {
            None => Ok(()),
            Some(token) => Err(refuse(format!(
                "the added token {:?} has lstrip, rstrip or single_word; a GGUF cannot say so",
                token.content
            ))),
        }
    }

    /// Settings of a BPE model that no reader of GGUF files knows.
    pub fn check_model(&self) -> Result<(), CheckpointError> {
        let model = &self.model;
        let is_some = |affix: &Option<String>| affix.as_ref().is_some_and(|text| !text.is_empty());
        for (differs, what) in [
            (is_some(&model.continuing_subword_prefix), "a continuing_subword_prefix"),
            (is_some(&model.end_of_word_suffix), "an end_of_word_suffix"),
            (model.dropout.is_some_and(|share| share > 0.0), "dropout"),
        ] {
            if differs {
                return Err(refuse(format!("it has {what}, and a GGUF cannot say so")));
            }
        }
        Ok(())
    }

    /// The first and the last special token that the file's own template puts around a text
    /// (`TemplateProcessing`), if there is one.
    pub fn around(&self) -> (Option<&str>, Option<&str>) {
        let Some(processor) = self.post_processor.as_ref() else { return (None, None) };
        let list = processor["processors"].as_array();
        let all = list.map_or(std::slice::from_ref(processor), Vec::as_slice);
        let template = all.iter().find(|step| step["type"] == "TemplateProcessing");
        let pieces = template.and_then(|step| step["single"].as_array());
        match pieces.map(Vec::as_slice) {
            Some([first, .., last]) => {
                (first["SpecialToken"]["id"].as_str(), last["SpecialToken"]["id"].as_str())
            }
            _ => (None, None),
        }
    }
}
