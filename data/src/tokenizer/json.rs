//! `tokenizer.json`, the file format of Hugging Face's `tokenizers` and programs based on it.
//!
//! Byte-level BPE is `ByteLevel` + `BPE`; SentencePiece's is `BPE` with `byte_fallback`; `simple`
//! is `Split` + `WhitespaceSplit` + `WordLevel`, with a decoder that joins words as
//! [`Words::decode`](super::words::Words::decode) does. [`checkpoint::Vocabulary`] interprets
//! files; this module writes them.

use anyhow::Result;
use checkpoint::{SpacePrefix, TokenType, Vocabulary};
use serde_json::{Value, json};

use super::bpe::Bpe;
use super::sentencepiece::SentencePiece;
use super::words::{CLOSING_MARKS, UNKNOWN};
use super::{Kind, Tokenizer};

/// The separators of `simple` that are kept; whitespace is removed by the next step.
const WORD_MARKS: &str = r#"[,.:;?_!"()']|--"#;

impl Tokenizer {
    /// The tokenizer in Hugging Face's format: the text that it was read from, if it was read.
    ///
    /// # Errors
    /// If JSON cannot express it, which does not happen with our vocabularies.
    pub fn tokenizer_json(&self) -> Result<String> {
        if let Some(source) = &self.source {
            return Ok(source.to_string());
        }
        let (mut vocabulary, mut file) = match &self.kind {
            Kind::Bpe(bpe) => (bpe.names(), bpe_file(bpe)),
            Kind::SentencePiece(pieces) => (pieces.names().to_vec(), pieces_file(pieces)),
            Kind::Words(words) => (words.list().to_vec(), words_file()),
            Kind::Foreign(foreign) => return Ok(foreign.json().to_owned()),
        };
        let mut added: Vec<(u32, &str, bool)> = self
            .controls
            .iter()
            .map(|(text, id)| (id, text, true))
            .chain(self.user_defined.iter().map(|(text, id)| (id, text, false)))
            .collect();
        added.sort_unstable();
        for &(id, text, _) in &added {
            vocabulary[id as usize] = text.to_owned();
        }
        file["added_tokens"] =
            added.into_iter().map(|(id, text, special)| added_token(id, text, special)).collect();
        file["model"]["vocab"] =
            vocabulary.into_iter().zip(0_u32..).map(|(name, id)| (name, Value::from(id))).collect();
        let mut text = serde_json::to_string_pretty(&file)?;
        text.push('\n');
        Ok(text)
    }
}

/// An entry of `added_tokens`.
pub(crate) fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": special,
    })
}

/// Whether a file is one of words as [`words_file`] writes them, without missing ids.
pub(crate) fn is_simple(text: &str, vocabulary: &Vocabulary) -> bool {
    let file: Value = serde_json::from_str(text).unwrap_or_default();
    let ours = words_file();
    let same = |part: &str| file[part] == ours[part];
    let model = |key: &str| file["model"][key] == ours["model"][key];
    let has_unknown = vocabulary.tokens.iter().any(|token| token == UNKNOWN);
    same("normalizer")
        && same("pre_tokenizer")
        && model("type")
        && model("unk_token")
        && has_unknown
        && !vocabulary.types.contains(&TokenType::Unused)
}

fn bpe_file(bpe: &Bpe) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": bpe.pre_tokenizer().definition(),
        "post_processor": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "merges": bpe.merge_lines(),
        },
    })
}

fn pieces_file(pieces: &SentencePiece) -> Value {
    let names = pieces.names();
    let merges: Vec<String> = pieces
        .merges()
        .iter()
        .map(|&(left, right)| format!("{} {}", names[left as usize], names[right as usize]))
        .collect();
    let prepend = json!({ "type": "Prepend", "prepend": "\u{2581}" });
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" });
    let prefixed = pieces.prefix() != SpacePrefix::Never;
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefixed {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "normalizer": match prefixed {
            true => json!({ "type": "Sequence", "normalizers": [prepend, replace] }),
            false => replace,
        },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "merges": merges,
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
