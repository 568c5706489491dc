//! How byte-level BPE splits a text before it merges: Hugging Face's definition and llama.cpp's
//! name for it (`tokenizer.ggml.pre`).
//!
//! llama.cpp's converter identifies pre-tokenizers by the hash of their output for one text. Here
//! the definition itself is compared with those of the models that llama.cpp supports
//! (`llm_tokenizer_bpe` in `llama-vocab.cpp`). A normalizer (NFC) does not need a separate row:
//! llama.cpp does not apply any.

use serde_json::{Value, json};

use super::document::Document;
use super::form::Unfit;

/// Llama 3's pattern: numbers in groups of up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen2's: every digit separately.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen3.5's: marks belong to the letters before them.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's (Tekken): words end before capital letters.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o's, which Phi-4-mini has: Tekken's with contractions and groups of three digits.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// All supported patterns of a `Split`. Each matches every text from start to end.
const PATTERNS: [&str; 5] = [LLAMA3, QWEN2, QWEN35, TEKKEN, GPT4O];

/// One step of splitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// `ByteLevel` with GPT-2's pattern.
    Gpt2,
    /// `ByteLevel` that only writes bytes as letters.
    Bytes,
    /// `Digits`, each separately.
    Digits,
    /// `Split` at the matches of a pattern, each of them a piece.
    Split(&'static str),
}

/// A pre-tokenizer that both sides support.
#[derive(Debug, PartialEq, Eq)]
pub struct PreTokenizer {
    /// llama.cpp's name for it.
    pub name: &'static str,
    /// Other names that llama.cpp has for the same one.
    aliases: &'static [&'static str],
    steps: &'static [Step],
    /// Whether a piece that is a token as a whole is not merged.
    ignore_merges: bool,
    /// Whether llama.cpp adds the first token before a text if the file does not say.
    pub(super) add_bos: bool,
    /// Where llama.cpp's own pattern splits differently.
    differs: Option<&'static str>,
}

const fn plain(name: &'static str, steps: &'static [Step]) -> PreTokenizer {
    let (aliases, differs) = (&[], None);
    PreTokenizer { name, aliases, steps, ignore_merges: false, add_bos: false, differs }
}

/// llama.cpp's replacement for the pattern of Tekken and GPT-4o recognises only ASCII capitals, and
/// no marks.
const ASCII_CAPITALS: Option<&str> =
    Some("it cuts words with accents and other letters beyond ASCII elsewhere");

/// All supported ones. Of several with the same definition the first is used.
const KNOWN: [PreTokenizer; 10] = [
    PreTokenizer {
        aliases: &[
            "phi-2", "jina-es", "jina-de", "gigachat", "a.x-4.0", "mellum", "mpt", "exaone4",
        ],
        ..plain("gpt-2", &[Step::Gpt2])
    },
    plain("olmo", &[Step::Gpt2]),
    PreTokenizer {
        aliases: &["starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        ..plain("smollm", &[Step::Digits, Step::Gpt2])
    },
    PreTokenizer {
        aliases: &["llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        ignore_merges: true,
        add_bos: true,
        ..plain("llama-bpe", &[Step::Split(LLAMA3), Step::Bytes])
    },
    plain("dbrx", &[Step::Split(LLAMA3), Step::Bytes]),
    plain("smaug-bpe", &[Step::Split(LLAMA3), Step::Bytes]),
    PreTokenizer {
        aliases: &["deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan"],
        ..plain("qwen2", &[Step::Split(QWEN2), Step::Bytes])
    },
    plain("qwen35", &[Step::Split(QWEN35), Step::Bytes]),
    PreTokenizer {
        ignore_merges: true,
        add_bos: true,
        differs: ASCII_CAPITALS,
        ..plain("tekken", &[Step::Split(TEKKEN), Step::Bytes])
    },
    PreTokenizer {
        aliases: &["llama4", "kanana2"],
        differs: ASCII_CAPITALS,
        ..plain("gpt-4o", &[Step::Split(GPT4O), Step::Bytes])
    },
];

impl PreTokenizer {
    /// GPT-2's.
    pub const GPT2: &'static PreTokenizer = &KNOWN[0];
    /// SmolLM's and StarCoder's: GPT-2's, in which every digit is a piece.
    pub const SMOLLM: &'static PreTokenizer = &KNOWN[2];
    /// Qwen2's.
    pub(super) const QWEN2: &'static PreTokenizer = &KNOWN[6];

    /// By llama.cpp's name.
    pub(super) fn by_name(name: &str) -> Option<&'static PreTokenizer> {
        KNOWN.iter().find(|known| known.name == name || known.aliases.contains(&name))
    }

    /// llama.cpp's names of all supported ones.
    pub(super) fn names() -> String {
        KNOWN.map(|known| known.name).join(", ")
    }

    /// The one that a `tokenizer.json` defines.
    pub(super) fn of(document: &Document) -> Result<&'static PreTokenizer, Unfit> {
        let definition = document.pre_tokenizer.as_ref();
        let definition =
            definition.ok_or_else(|| Unfit::Gguf("it has no pre_tokenizer".to_owned()))?;
        let steps = steps(definition)?;
        if let Some(normalizer) = &document.normalizer {
            let kind = normalizer["type"].as_str().unwrap_or("of no type");
            if kind != "NFC" {
                return Err(Unfit::Gguf(format!("it has a normalizer ({kind})")));
            }
        }
        let ignore_merges = document.model.ignore_merges;
        let same =
            |known: &&PreTokenizer| known.steps == steps && known.ignore_merges == ignore_merges;
        KNOWN.iter().find(same).ok_or_else(|| {
            Unfit::Gguf(format!(
                "its pre-tokenizer ({}{}) is none of those that are known: {}",
                definition["type"].as_str().unwrap_or("of no type"),
                if ignore_merges { ", with ignore_merges" } else { "" },
                Self::names()
            ))
        })
    }

    /// Where llama.cpp splits text differently from the definition.
    pub(super) fn difference(&self) -> Option<&'static str> {
        self.differs
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
fn steps(definition: &Value) -> Result<Vec<Step>, Unfit> {
    let kind = definition["type"].as_str().unwrap_or("of no type");
    // A missing setting has Hugging Face's default.
    let switch = |key: &str, default: bool| definition[key].as_bool().unwrap_or(default);
    let unknown = |what: &str| Err(Unfit::Gguf(format!("its pre-tokenizer {kind:?} {what}")));
    match kind {
        "Sequence" => {
            let parts = definition["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
            let parts: Vec<Vec<Step>> = parts.iter().map(steps).collect::<Result<_, _>>()?;
            Ok(parts.concat())
        }
        "ByteLevel" if switch("add_prefix_space", true) => unknown("has add_prefix_space"),
        "ByteLevel" if switch("use_regex", true) => Ok(vec![Step::Gpt2]),
        "ByteLevel" => Ok(vec![Step::Bytes]),
        "Digits" if switch("individual_digits", false) => Ok(vec![Step::Digits]),
        "Split" => {
            let pattern = definition["pattern"]["Regex"].as_str().unwrap_or("");
            let known = PATTERNS.into_iter().find(|known| *known == pattern);
            let behavior = definition["behavior"].as_str().unwrap_or("");
            // A pattern that matches everything leaves no text between its matches, so keeping the
            // matches as pieces is the same as removing the text between them.
            match (known, behavior, switch("invert", false)) {
                (Some(known), "Isolated", _) | (Some(known), "Removed", true) => {
                    Ok(vec![Step::Split(known)])
                }
                _ => unknown("splits at a pattern that is not known"),
            }
        }
        _ => unknown("is neither byte-level BPE's nor SentencePiece's"),
    }
}
