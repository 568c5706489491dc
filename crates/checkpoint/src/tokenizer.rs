//! From a `tokenizer.json` to the tokenizer keys of a GGUF.
//!
//! llama.cpp splits text by itself, so it needs to know which way (`gpt2` with `gpt-2`), the
//! vocabulary in the order of the ids, and the merges in the order of their rank. It has no
//! tokenizer of words: for one the file says `no_vocab` and how many tokens there are
//! (`llama-vocab.cpp`); the tokens are written all the same, for readers that can use them.

use std::collections::HashMap;

use config::Architecture;
use gguf::{Array, Metadata, Value};
use serde::Deserialize;

use crate::CheckpointError;

/// The token that begins and ends a text.
const END_OF_TEXT: &str = "<|endoftext|>";

/// `llama_token_attr` in its GGUF form: `enum llama_token_type` of `llama.h`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// How text is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VocabularyKind {
    /// Byte-level BPE; merges as `"left right"`, best first.
    Bpe {
        /// The merges.
        merges: Vec<String>,
    },
    /// Whole words.
    Words,
}

/// The tokens of a tokenizer, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// How text is split.
    pub kind: VocabularyKind,
    /// Token texts; the place is the id. Byte-level BPE writes bytes as GPT-2's letters for them.
    pub tokens: Vec<String>,
    types: Vec<i32>,
}

#[derive(Deserialize)]
struct Document {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizer>,
}

/// With the defaults of Hugging Face's `ByteLevel`.
#[derive(Deserialize)]
struct PreTokenizer {
    r#type: String,
    #[serde(default = "yes")]
    add_prefix_space: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    r#type: Option<String>,
    vocab: HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// Older files write `"a b"`, newer ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

impl Vocabulary {
    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is malformed, of another kind than byte-level BPE or words, or has an id twice or
    /// not at all.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let kind = document.kind()?;
        let tokens = document.tokens()?;
        let types = document.types(&tokens);
        Ok(Vocabulary { kind, tokens, types })
    }

    /// The id of `<|endoftext|>`, if the tokenizer has it.
    pub fn end_of_text(&self) -> Option<u32> {
        let id = self.tokens.iter().position(|token| token == END_OF_TEXT)?;
        u32::try_from(id).ok()
    }

    /// Adds the `tokenizer.*` keys, for an embedding of `rows` rows.
    pub(crate) fn describe(
        self,
        architecture: Architecture,
        rows: usize,
        metadata: &mut Metadata,
    ) -> Result<(), CheckpointError> {
        if self.tokens.len() != rows {
            return Err(refuse(format!(
                "{} tokens, but the model's embedding has {rows} rows; they must be equal",
                self.tokens.len()
            )));
        }
        let end_of_text = self.end_of_text();
        let text = |text: &str| Value::String(text.to_owned());
        let merges = match self.kind {
            VocabularyKind::Bpe { merges } => {
                metadata.set("tokenizer.ggml.model", text("gpt2"));
                metadata.set("tokenizer.ggml.pre", text("gpt-2"));
                Some(merges)
            }
            VocabularyKind::Words => {
                // The limits on a model keep the vocabulary far below 2^32.
                let size = Value::U32(self.tokens.len() as u32);
                metadata.set(format!("{}.vocab_size", architecture.name()), size);
                metadata.set("tokenizer.ggml.model", text("no_vocab"));
                None
            }
        };
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(self.tokens)));
        metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(self.types)));
        if let Some(merges) = merges {
            metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
        }
        if let Some(id) = end_of_text {
            metadata.set("tokenizer.ggml.bos_token_id", Value::U32(id));
            metadata.set("tokenizer.ggml.eos_token_id", Value::U32(id));
        }
        metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
        Ok(())
    }
}

impl Document {
    fn kind(&self) -> Result<VocabularyKind, CheckpointError> {
        match self.model.r#type.as_deref() {
            Some("BPE") => {
                self.check_is_gpt2()?;
                let merges = self.model.merges.iter().map(Merge::text).collect::<Result<_, _>>()?;
                Ok(VocabularyKind::Bpe { merges })
            }
            Some("WordLevel") => Ok(VocabularyKind::Words),
            other => Err(refuse(format!(
                "model type {} is not supported, expected BPE or WordLevel",
                other.unwrap_or("(none)")
            ))),
        }
    }

    /// `gpt-2` in a GGUF promises that text is split and merged exactly as GPT-2 does it: with
    /// any of these differences llama.cpp would make other tokens than the model was trained on.
    fn check_is_gpt2(&self) -> Result<(), CheckpointError> {
        let pre = self.pre_tokenizer.as_ref();
        let kind = pre.map_or("(none)", |pre| pre.r#type.as_str());
        if kind != "ByteLevel" {
            return Err(refuse(format!(
                "pre-tokenizer {kind:?} is not supported, expected ByteLevel (GPT-2's)"
            )));
        }
        let model = &self.model;
        let is_some = |affix: &Option<String>| affix.as_ref().is_some_and(|text| !text.is_empty());
        for (differs, what) in [
            (self.normalizer.is_some(), "a normalizer"),
            (pre.is_some_and(|pre| pre.add_prefix_space), "add_prefix_space, which is the default"),
            (pre.is_some_and(|pre| !pre.use_regex), "use_regex = false"),
            (is_some(&model.continuing_subword_prefix), "a continuing_subword_prefix"),
            (is_some(&model.end_of_word_suffix), "an end_of_word_suffix"),
            (model.byte_fallback, "byte_fallback"),
            (model.ignore_merges, "ignore_merges"),
        ] {
            if differs {
                return Err(refuse(format!(
                    "it has {what}; GPT-2's tokenizer has not, and a GGUF cannot say so"
                )));
            }
        }
        Ok(())
    }

    /// Texts by id, every id from 0 on exactly once.
    fn tokens(&self) -> Result<Vec<String>, CheckpointError> {
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

    fn types(&self, tokens: &[String]) -> Vec<i32> {
        let mut types = vec![NORMAL; tokens.len()];
        for token in &self.added_tokens {
            let unknown = self.model.unk_token.as_ref() == Some(&token.content)
                && token.content != END_OF_TEXT;
            // Every id was found to have its token, so it is in range.
            types[token.id as usize] = match token.special {
                true if unknown => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
        }
        types
    }
}

impl Merge {
    /// `"left right"`; a part with a space in it could not be told apart from two parts.
    fn text(&self) -> Result<String, CheckpointError> {
        let (text, parts) = match self {
            Merge::Text(text) => (text.clone(), text.split(' ').collect::<Vec<_>>()),
            Merge::Pair([a, b]) => (format!("{a} {b}"), vec![a.as_str(), b.as_str()]),
        };
        match parts.as_slice() {
            [a, b] if !a.is_empty() && !b.is_empty() && !a.contains(' ') && !b.contains(' ') => {
                Ok(text)
            }
            _ => Err(refuse(format!("merge {text:?}: expected two tokens without spaces"))),
        }
    }
}

fn refuse(reason: String) -> CheckpointError {
    CheckpointError::Tokenizer { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BPE: &str = r#"{
        "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "model": {"type": "BPE", "unk_token": null,
            "vocab": {"a": 0, "ab": 2, "<|endoftext|>": 3, "b": 1}, "merges": [["a", "b"]]}}"#;

    const WORDS: &str = r#"{
        "added_tokens": [{"id": 2, "content": "<|unk|>", "special": true},
                         {"id": 1, "content": "<|endoftext|>", "special": true}],
        "model": {"type": "WordLevel", "unk_token": "<|unk|>",
            "vocab": {"a": 0, "<|endoftext|>": 1, "<|unk|>": 2}}}"#;

    fn describe(text: &str, rows: usize) -> Result<Metadata, String> {
        let mut metadata = Metadata::new();
        Vocabulary::parse(text)
            .and_then(|v| v.describe(Architecture::Gpt2, rows, &mut metadata))
            .map_err(|error| error.to_string())?;
        Ok(metadata)
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn bpe_becomes_the_keys_that_llama_cpp_reads() {
        let metadata = describe(BPE, 4).unwrap();
        let expected = [
            ("tokenizer.ggml.model", Value::String("gpt2".into())),
            ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
            (
                "tokenizer.ggml.tokens",
                Value::Array(Array::String(strings(&["a", "b", "ab", "<|endoftext|>"]))),
            ),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1, 1, 3]))),
            ("tokenizer.ggml.merges", Value::Array(Array::String(strings(&["a b"])))),
            ("tokenizer.ggml.bos_token_id", Value::U32(3)),
            ("tokenizer.ggml.eos_token_id", Value::U32(3)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ];
        let found: Vec<(&str, Value)> = metadata.iter().map(|(k, v)| (k, v.clone())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn both_forms_of_a_merge_are_the_same() {
        let old = BPE.replace(r#"["a", "b"]"#, r#""a b""#);
        assert_eq!(describe(&old, 4), describe(BPE, 4));
    }

    #[test]
    fn words_are_no_vocabulary_to_llama_cpp() {
        let metadata = describe(WORDS, 3).unwrap();
        assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), "no_vocab");
        assert_eq!(metadata.unsigned("gpt2.vocab_size").unwrap(), 3);
        assert_eq!(metadata.get("tokenizer.ggml.merges"), None);
        assert_eq!(
            metadata.get("tokenizer.ggml.token_type"),
            Some(&Value::Array(Array::I32(vec![1, 3, 2])))
        );
    }

    #[test]
    fn a_byte_level_bpe_that_is_not_gpt2s_is_refused() {
        let pre = "\"add_prefix_space\": false";
        let unknown = "\"unk_token\": null";
        for (place, instead, expected) in [
            (pre, "\"add_prefix_space\": true".to_owned(), "add_prefix_space"),
            (pre, "\"trim_offsets\": true".to_owned(), "add_prefix_space"),
            (pre, format!("{pre}, \"use_regex\": false"), "use_regex = false"),
            (unknown, "\"continuing_subword_prefix\": \"##\"".to_owned(), "continuing_subword"),
            (unknown, "\"end_of_word_suffix\": \"</w>\"".to_owned(), "end_of_word_suffix"),
            (unknown, "\"byte_fallback\": true".to_owned(), "byte_fallback"),
            (unknown, "\"ignore_merges\": true".to_owned(), "ignore_merges"),
            ("{", "{\"normalizer\": {\"type\": \"NFC\"},".to_owned(), "a normalizer"),
        ] {
            let text = BPE.replacen(place, &instead, 1);
            assert_ne!(text, BPE);
            let error = describe(&text, 4).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        // What they are when they are written out.
        let explicit = format!(
            "{unknown}, \"continuing_subword_prefix\": \"\", \"end_of_word_suffix\": null, \
             \"byte_fallback\": false, \"ignore_merges\": false"
        );
        let explicit = BPE.replace(unknown, &explicit).replacen('{', "{\"normalizer\": null,", 1);
        assert_eq!(describe(&explicit, 4), describe(BPE, 4));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let refusals = [
            (BPE.to_owned(), 5, "4 tokens, but the model's embedding has 5 rows"),
            (BPE.replace("\"b\": 1", "\"b\": 7"), 4, "id 1 has no token"),
            (BPE.replace("\"b\": 1", "\"b\": 0"), 4, "id 0 has two tokens"),
            (BPE.replace("\"a\", \"b\"", "\"a\", \"b c\""), 4, "expected two tokens"),
            (BPE.replace("[\"a\", \"b\"]", "\"ab\""), 4, "expected two tokens"),
            (BPE.replace("ByteLevel", "Metaspace"), 4, "pre-tokenizer \"Metaspace\""),
            (BPE.replace("\"BPE\"", "\"Unigram\""), 4, "model type Unigram"),
            (BPE.replace("\"id\": 3", "\"id\": 4"), 4, "is token 3 in the vocabulary and 4"),
            (WORDS.replace("\"id\": 2", "\"id\": 4000000000"), 3, "4000000000 among the added"),
            ("{".to_owned(), 4, "EOF"),
        ];
        for (text, rows, expected) in refusals {
            let error = describe(&text, rows).unwrap_err();
            assert!(error.starts_with("tokenizer.json: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }
}
