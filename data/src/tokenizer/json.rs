//! `tokenizer.json`, the file that Hugging Face's `tokenizers` and everything built on it reads.
//!
//! Byte-level BPE is `ByteLevel` + `BPE`; `simple` is `Split` + `WhitespaceSplit` + `WordLevel`,
//! with a decoder that joins words as [`Words::decode`] does. Files of other kinds are refused by
//! name, because guessing would give other tokens than the model was trained on.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bpe::{Bpe, END_OF_TEXT};
use super::words::{CLOSING_MARKS, UNKNOWN, Words};
use super::{Kind, Tokenizer};

/// The separators of `simple` that stay; whitespace is removed by the next step.
const WORD_MARKS: &str = r#"[,.:;?_!"()']|--"#;

impl Tokenizer {
    /// The tokenizer in Hugging Face's form.
    ///
    /// # Errors
    /// Only if JSON cannot express it, which no vocabulary of ours brings about.
    pub fn tokenizer_json(&self) -> Result<String> {
        let (vocabulary, mut file) = match &self.kind {
            Kind::Bpe(bpe) => (bpe.names(), bpe_file(bpe)),
            Kind::Words(words) => (words.list().to_vec(), words_file()),
        };
        let specials = [END_OF_TEXT, UNKNOWN].into_iter().filter_map(|special| {
            let is_special = special == END_OF_TEXT || matches!(self.kind, Kind::Words(_));
            let id = vocabulary.iter().position(|name| name == special && is_special)?;
            Some(json!({
                "id": id, "content": special, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            }))
        });
        file["added_tokens"] = specials.collect();
        file["model"]["vocab"] =
            vocabulary.into_iter().zip(0_u32..).map(|(name, id)| (name, Value::from(id))).collect();
        let mut text = serde_json::to_string_pretty(&file)?;
        text.push('\n');
        Ok(text)
    }

    /// From the text of a `tokenizer.json`: byte-level BPE with GPT-2's pattern, or the words
    /// that [`Tokenizer::tokenizer_json`] writes for `simple`.
    ///
    /// # Errors
    /// Any other kind of tokenizer, by name; malformed JSON; a vocabulary with holes or doubles.
    pub fn from_tokenizer_json(text: &str) -> Result<Self> {
        let file: File = serde_json::from_str(text).context("tokenizer.json")?;
        let tokenizer = match file.model.kind.as_str() {
            "BPE" => bpe(&file).map(Self::from_bpe),
            "WordLevel" => words(&file).map(Self::from_words),
            other => Err(anyhow::anyhow!(
                "model.type is {other:?}; expected BPE (as GPT-2 has) or WordLevel (as `simple` has)"
            )),
        };
        tokenizer.context("tokenizer.json")
    }
}

fn bpe_file(bpe: &Bpe) -> Value {
    let byte_level = |add_prefix_space: bool| json!({ "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": byte_level(false),
        "post_processor": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true },
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "merges": bpe.merge_lines(),
        },
    })
}

fn words_file() -> Value {
    // WordPiece without a real prefix puts a space before every word but the first.
    let mut decoders = vec![
        json!({ "type": "WordPiece", "prefix": "\u{0}", "cleanup": false }),
        json!({ "type": "Fuse" }),
    ];
    decoders.extend(CLOSING_MARKS.chars().map(|mark| {
        json!({ "type": "Replace", "pattern": { "String": format!(" {mark}") }, "content": mark })
    }));
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": WORD_MARKS }, "behavior": "Isolated", "invert": false },
            { "type": "WhitespaceSplit" },
        ] },
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": { "type": "WordLevel", "unk_token": UNKNOWN },
    })
}

/// The parts of the file that decide which tokens a text becomes.
#[derive(Deserialize)]
struct File {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: String,
    vocab: HashMap<String, u32>,
    #[serde(default)]
    merges: Vec<MergeLine>,
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

/// Older files have `"a b"`, newer ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeLine {
    Text(String),
    Pair([String; 2]),
}

fn bpe(file: &File) -> Result<Bpe> {
    ensure!(file.normalizer.is_none(), "it has a normalizer; GPT-2's tokenizer has none");
    let pre_tokenizer = file.pre_tokenizer.as_ref().context("it has no pre_tokenizer")?;
    let kind = pre_tokenizer["type"].as_str().unwrap_or("unnamed");
    ensure!(kind == "ByteLevel", "pre_tokenizer is {kind}; expected ByteLevel, as GPT-2 has");
    ensure!(
        pre_tokenizer["use_regex"] != Value::Bool(false),
        "pre_tokenizer has use_regex = false; expected GPT-2's pattern"
    );
    ensure!(
        pre_tokenizer["add_prefix_space"] == Value::Bool(false),
        "pre_tokenizer adds a space before the text; expected add_prefix_space = false"
    );
    let model = &file.model;
    for (key, affix) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        let affix = affix.as_deref().unwrap_or("");
        ensure!(affix.is_empty(), "model.{key} is {affix:?}; GPT-2's tokenizer has none");
    }
    ensure!(!model.byte_fallback, "model.byte_fallback is true; a byte-level BPE needs none");
    ensure!(!model.ignore_merges, "model.ignore_merges is true; GPT-2's tokenizer has false");
    let merges: Vec<String> = model
        .merges
        .iter()
        .map(|line| match line {
            MergeLine::Text(text) => text.clone(),
            MergeLine::Pair([left, right]) => format!("{left} {right}"),
        })
        .collect();
    Bpe::from_merges(&vocabulary(file)?, &merges)
}

fn words(file: &File) -> Result<Words> {
    ensure!(file.normalizer.is_none(), "it has a normalizer; the `simple` tokenizer has none");
    let steps = &file.pre_tokenizer.as_ref().context("it has no pre_tokenizer")?["pretokenizers"];
    let ours = steps[0]["type"] == "Split"
        && steps[0]["pattern"]["Regex"] == WORD_MARKS
        && steps[0]["behavior"] == "Isolated"
        && steps[1]["type"] == "WhitespaceSplit"
        && steps[2].is_null();
    if !ours {
        bail!("its pre_tokenizer is not the one of `simple`; only that one is built in for words");
    }
    let unknown = file.model.unk_token.as_deref().unwrap_or("");
    ensure!(unknown == UNKNOWN, "model.unk_token is {unknown:?}; expected {UNKNOWN:?}");
    Words::from_list(vocabulary(file)?)
}

/// The tokens in order of ids, added ones included. Ids must run from 0 without a hole.
fn vocabulary(file: &File) -> Result<Vec<String>> {
    let mut by_id: Vec<(u32, &str)> =
        file.model.vocab.iter().map(|(name, &id)| (id, name.as_str())).collect();
    for token in &file.added_tokens {
        match file.model.vocab.get(&token.content) {
            None => by_id.push((token.id, &token.content)),
            Some(&id) if id == token.id => {}
            Some(&id) => bail!(
                "{:?} is token {id} in the vocabulary and token {} among the added tokens",
                token.content,
                token.id
            ),
        }
    }
    by_id.sort_unstable();
    for (expected, &(id, name)) in (0_u32..).zip(&by_id) {
        ensure!(
            id == expected,
            "the ids must run from 0 without holes and without doubles; \
             expected a token {expected}, found {name:?} with id {id}"
        );
    }
    Ok(by_id.into_iter().map(|(_, name)| name.to_owned()).collect())
}
