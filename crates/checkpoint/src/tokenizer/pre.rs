//! How byte-level BPE cuts a text before it merges: Hugging Face's definition and llama.cpp's
//! name for it (`tokenizer.ggml.pre`).
//!
//! llama.cpp's converter tells pre-tokenizers apart by the hash of what they make of one text.
//! Here the definition itself is compared, and only those are known whose definition and
//! whose counterpart in llama.cpp (`llm_tokenizer_bpe` in `llama-vocab.cpp`) are the same.

use serde_json::{Value, json};

use super::document::Document;
use super::refuse;
use crate::CheckpointError;

/// Llama 3's pattern: numbers in groups of up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen2's: every digit by itself.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// One step of cutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// `ByteLevel` with GPT-2's pattern.
    Gpt2,
    /// `ByteLevel` that only writes bytes as letters.
    Bytes,
    /// `Digits`, each by itself.
    Digits,
    /// `Split` at the matches of a pattern, each of them a piece.
    Split(&'static str),
}

/// A way of cutting that both sides know.
#[derive(Debug, PartialEq, Eq)]
pub struct PreTokenizer {
    /// llama.cpp's name for it.
    pub name: &'static str,
    steps: &'static [Step],
    /// Whether Hugging Face's file may bring the text into normal form C first. llama.cpp does
    /// not; text that is in this form already, as almost all is, gives the same tokens.
    nfc: bool,
    /// A piece that is a token as a whole is not merged.
    ignore_merges: bool,
    /// Whether llama.cpp puts the first token before a text where the file does not say.
    pub(super) add_bos: bool,
}

const fn plain(name: &'static str, steps: &'static [Step]) -> PreTokenizer {
    PreTokenizer { name, steps, nfc: false, ignore_merges: false, add_bos: false }
}

/// All that are known. Of several with one definition the first is meant.
const KNOWN: [PreTokenizer; 6] = [
    plain("gpt-2", &[Step::Gpt2]),
    PreTokenizer { nfc: true, ..plain("olmo", &[Step::Gpt2]) },
    plain("smollm", &[Step::Digits, Step::Gpt2]),
    PreTokenizer {
        ignore_merges: true,
        add_bos: true,
        ..plain("llama-bpe", &[Step::Split(LLAMA3), Step::Bytes])
    },
    plain("smaug-bpe", &[Step::Split(LLAMA3), Step::Bytes]),
    PreTokenizer { nfc: true, ..plain("qwen2", &[Step::Split(QWEN2), Step::Bytes]) },
];

impl PreTokenizer {
    /// GPT-2's.
    pub const GPT2: &'static PreTokenizer = &KNOWN[0];

    /// By llama.cpp's name.
    pub(super) fn by_name(name: &str) -> Option<&'static PreTokenizer> {
        KNOWN.iter().find(|known| known.name == name)
    }

    /// llama.cpp's names of all that are known.
    pub(super) fn names() -> String {
        KNOWN.map(|known| known.name).join(", ")
    }

    /// The one that a `tokenizer.json` defines.
    pub(super) fn of(document: &Document) -> Result<&'static PreTokenizer, CheckpointError> {
        let definition = document.pre_tokenizer.as_ref();
        let definition = definition.ok_or_else(|| refuse("it has no pre_tokenizer".to_owned()))?;
        let steps = steps(definition)?;
        let nfc = match &document.normalizer {
            None => false,
            Some(normalizer) if normalizer["type"] == "NFC" => true,
            Some(normalizer) => {
                return Err(refuse(format!(
                    "it has a normalizer ({}), and a GGUF cannot say so",
                    normalizer["type"].as_str().unwrap_or("of no type")
                )));
            }
        };
        let ignore_merges = document.model.ignore_merges;
        let same = |known: &&PreTokenizer| {
            known.steps == steps && known.ignore_merges == ignore_merges && (known.nfc || !nfc)
        };
        KNOWN.iter().find(same).ok_or_else(|| {
            refuse(format!(
                "its pre-tokenizer ({}{}{}) is none of those that are known: {}",
                definition["type"].as_str().unwrap_or("of no type"),
                if nfc { ", after NFC" } else { "" },
                if ignore_merges { ", with ignore_merges" } else { "" },
                Self::names()
            ))
        })
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub fn definition(&self) -> Value {
        let mut steps: Vec<Value> = self.steps.iter().map(Step::definition).collect();
        match steps.len() {
            1 => steps.swap_remove(0),
            _ => json!({ "type": "Sequence", "pretokenizers": steps }),
        }
    }

    /// The model's `ignore_merges` of a `tokenizer.json`.
    pub fn ignore_merges(&self) -> bool {
        self.ignore_merges
    }
}

impl Step {
    fn definition(&self) -> Value {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        match self {
            Step::Gpt2 => byte_level(true),
            Step::Bytes => byte_level(false),
            Step::Digits => json!({ "type": "Digits", "individual_digits": true }),
            Step::Split(pattern) => json!({
                "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated",
                "invert": false,
            }),
        }
    }
}

/// The steps of a definition, in order.
fn steps(definition: &Value) -> Result<Vec<Step>, CheckpointError> {
    let kind = definition["type"].as_str().unwrap_or("of no type");
    // What is left out has Hugging Face's default.
    let switch = |key: &str, default: bool| definition[key].as_bool().unwrap_or(default);
    let unknown = |what: &str| Err(refuse(format!("pre-tokenizer {kind:?} {what}")));
    match kind {
        "Sequence" => {
            let parts = definition["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
            let parts: Vec<Vec<Step>> = parts.iter().map(steps).collect::<Result<_, _>>()?;
            Ok(parts.concat())
        }
        "ByteLevel" if switch("add_prefix_space", true) => {
            unknown("has add_prefix_space, and a GGUF cannot say so")
        }
        "ByteLevel" if switch("use_regex", true) => Ok(vec![Step::Gpt2]),
        "ByteLevel" => Ok(vec![Step::Bytes]),
        "Digits" if switch("individual_digits", false) => Ok(vec![Step::Digits]),
        "Split" => {
            let pattern = definition["pattern"]["Regex"].as_str().unwrap_or("");
            let known = [LLAMA3, QWEN2].into_iter().find(|known| *known == pattern);
            match known {
                Some(known) if definition["behavior"] == "Isolated" && !switch("invert", false) => {
                    Ok(vec![Step::Split(known)])
                }
                _ => unknown("splits at a pattern that is not known"),
            }
        }
        _ => unknown("is not supported, expected byte-level BPE's or SentencePiece's"),
    }
}
