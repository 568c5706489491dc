//! The parts of a `tokenizer.json` that determine the tokens of a text.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::form::Unfit;
use super::{TokenType, refuse};
use crate::CheckpointError;

/// Limit of the ids, so that an invalid file cannot use up all memory.
const MAX_TOKENS: usize = 1 << 24;

/// The parts of Hugging Face's file that are read.
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

/// A token that is recognised in the text before any other processing. Its `id` in the file is not
/// read: see [`Document::added`].
#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub content: String,
    #[serde(default)]
    pub special: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub normalized: bool,
}

#[derive(Deserialize)]
pub(super) struct Model {
    pub r#type: Option<String>,
    pub vocab: ModelVocab,
    #[serde(default)]
    pub merges: Vec<Merge>,
    #[serde(default)]
    pub unk_token: Option<String>,
    #[serde(default)]
    unk_id: Option<usize>,
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

/// The model's own tokens: an object from text to id, or for Unigram a list of pieces with scores.
pub(super) struct ModelVocab {
    pub ids: HashMap<String, u32>,
    /// The size according to the tokenizers crate: ids of added tokens begin there.
    size: usize,
}

impl<'de> Deserialize<'de> for ModelVocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ModelVocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tokens to ids, or a list of pieces with their scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ModelVocab, A::Error> {
                let mut ids = HashMap::new();
                while let Some((text, id)) = map.next_entry::<String, u32>()? {
                    ids.insert(text, id);
                }
                Ok(ModelVocab { size: ids.len(), ids })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ModelVocab, A::Error> {
                let (mut ids, mut size) = (HashMap::new(), 0);
                while let Some((text, _)) = list.next_element::<(String, f64)>()? {
                    ids.insert(text, u32::try_from(size).map_err(serde::de::Error::custom)?);
                    size += 1;
                }
                Ok(ModelVocab { ids, size })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Older files write `"a b"`, newer ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Merge {
    Text(String),
    Pair([String; 2]),
}

impl Merge {
    /// Both parts; in a GGUF, a part with a space in it could not be distinguished from two parts.
    pub fn parts(&self) -> Result<(&str, &str), Unfit> {
        let whole = |part: &str| !part.is_empty() && !part.contains(' ');
        match self {
            Merge::Text(text) => {
                let parts = text.split_once(' ');
                let parts = parts.filter(|(left, right)| whole(left) && whole(right));
                let broken = || refuse(format!("merge {text:?}: expected two tokens and a space"));
                parts.ok_or_else(|| broken().into())
            }
            Merge::Pair([left, right]) if whole(left) && whole(right) => Ok((left, right)),
            Merge::Pair(pair) => {
                Err(Unfit::Gguf(format!("the merge {pair:?} has a token with a space in it")))
            }
        }
    }
}

/// The result of [`Document::tokens`].
pub(super) struct Tokens {
    /// Texts by id. An id without a token has a text `[PAD...]`, as in llama.cpp's converter.
    pub texts: Vec<String>,
    /// The type of each; the kinds of model add their own types.
    pub types: Vec<TokenType>,
    /// A token that shares its id with another, which `texts` cannot represent.
    pub second: Option<String>,
}

impl Document {
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        serde_json::from_str(text).map_err(|error| refuse(error.to_string()))
    }

    /// The added tokens with the ids that the tokenizers crate assigns, whatever id the file
    /// states: the model's own id for a text that it contains, the following ids in order for
    /// others (`AddedVocabulary::add_tokens`).
    pub fn added(&self) -> Vec<(u32, &AddedToken)> {
        let mut next = self.model.vocab.size as u32;
        let mut new: HashMap<&str, u32> = HashMap::new();
        let tokens = self.added_tokens.iter().filter(|token| !token.content.is_empty());
        let with_id = tokens.map(|token| {
            let text = token.content.as_str();
            let id = self.model.vocab.ids.get(text).or_else(|| new.get(text)).copied();
            let id = id.unwrap_or_else(|| {
                new.insert(text, next);
                next = next.saturating_add(1);
                next - 1
            });
            (id, token)
        });
        with_id.collect()
    }

    /// Every token by its id.
    ///
    /// # Errors
    /// When an id exceeds the limit.
    pub fn tokens(&self) -> Result<Tokens, CheckpointError> {
        let added = self.added();
        let mut own: Vec<(u32, &str)> =
            self.model.vocab.ids.iter().map(|(text, &id)| (id, text.as_str())).collect();
        own.sort_unstable();
        // If both have an id, it decodes to the added token.
        let all = added.iter().map(|(id, token)| (*id, token.content.as_str())).chain(own);
        let all: Vec<(u32, &str)> = all.collect();
        let count = all.iter().map(|(id, _)| *id as usize + 1).max().unwrap_or(0);
        let count = count.max(self.model.vocab.size);
        if count > MAX_TOKENS {
            return Err(refuse(format!(
                "a token has the id {}: expected less than {MAX_TOKENS}",
                count - 1
            )));
        }
        let mut texts: Vec<Option<&str>> = vec![None; count];
        let mut second = None;
        for (id, text) in all {
            match &mut texts[id as usize] {
                Some(first) if *first != text && second.is_none() => {
                    second = Some(format!("{first:?} and {text:?} are both token {id}"));
                }
                Some(_) => {}
                free => *free = Some(text),
            }
        }
        let mut types: Vec<TokenType> = texts
            .iter()
            .map(|text| if text.is_some() { TokenType::Normal } else { TokenType::Unused })
            .collect();
        let unknown = self.unknown();
        for (id, token) in added {
            let is_unknown = unknown == Some(&token.content) && token.content != super::END_OF_TEXT;
            types[id as usize] = match token.special {
                true if is_unknown => TokenType::Unknown,
                true => TokenType::Control,
                false => TokenType::UserDefined,
            };
        }
        let mut fill = Fill::new(texts.iter().flatten().copied());
        let texts = texts.into_iter().enumerate();
        let texts = texts.map(|(id, text)| text.map_or_else(|| fill.name(id), str::to_owned));
        Ok(Tokens { texts: texts.collect(), types, second })
    }

    /// The token for text that the vocabulary lacks. It need not be in the vocabulary.
    pub fn unknown(&self) -> Option<&str> {
        let by_id = |id: usize| {
            let mut all = self.model.vocab.ids.iter();
            all.find(|(_, other)| **other as usize == id).map(|(text, _)| text.as_str())
        };
        self.model.unk_token.as_deref().or_else(|| self.model.unk_id.and_then(by_id))
    }

    /// Settings of a BPE model that readers of GGUF files do not support.
    pub fn check_model(&self) -> Result<(), Unfit> {
        let model = &self.model;
        let is_some = |affix: &Option<String>| affix.as_ref().is_some_and(|text| !text.is_empty());
        for (differs, what) in [
            (is_some(&model.continuing_subword_prefix), "a continuing_subword_prefix"),
            (is_some(&model.end_of_word_suffix), "an end_of_word_suffix"),
            (model.dropout.is_some_and(|share| share > 0.0), "dropout"),
        ] {
            if differs {
                return Err(Unfit::Gguf(format!("it has {what}")));
            }
        }
        Ok(())
    }

    /// The special tokens that the file's own template adds before and after a text
    /// (`TemplateProcessing`, `RobertaProcessing`, `BertProcessing`).
    pub fn around(&self) -> (Vec<&str>, Vec<&str>) {
        let Some(processor) = self.post_processor.as_ref() else { return Default::default() };
        let list = processor["processors"].as_array();
        let all = list.map_or(std::slice::from_ref(processor), Vec::as_slice);
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        for step in all {
            if let (Some(first), Some(last)) = (step["cls"][0].as_str(), step["sep"][0].as_str()) {
                before.push(first);
                behind.push(last);
            }
            let mut side = &mut before;
            for piece in step["single"].as_array().into_iter().flatten() {
                match piece["SpecialToken"]["id"].as_str() {
                    Some(token) => side.push(token),
                    None => side = &mut behind,
                }
            }
        }
        (before, behind)
    }
}

/// Names for ids without a token, different from all tokens.
pub(super) struct Fill(HashSet<String>);

impl Fill {
    pub fn new<'a>(taken: impl Iterator<Item = &'a str>) -> Self {
        Fill(taken.filter(|text| text.starts_with("[PAD")).map(str::to_owned).collect())
    }

    /// `[PAD7]`, as llama.cpp's converter names it; with more underscores if the name is taken.
    pub fn name(&mut self, id: usize) -> String {
        let mut name = format!("[PAD{id}]");
        while !self.0.insert(name.clone()) {
            name.insert(name.len() - 1, '_');
        }
        name
    }
}
