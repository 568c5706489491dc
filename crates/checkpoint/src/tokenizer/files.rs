//! The text of a folder's `tokenizer.json`; for a folder that has only older files, what
//! transformers would make of those.
//!
//! | files | classes | source in transformers |
//! |---|---|---|
//! | `vocab.json`, `merges.txt` | GPT2, CodeGen, Qwen2 | `tokenization_gpt2.py`, `tokenization_qwen2.py` |
//! | `tokenizer.model` | Llama, Gemma | `tokenization_llama.py`, `tokenization_gemma.py` |
//! | `tokenizer.model` | none is named | `SpmConverter.build_tokenizer_from_spm_proto` |

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::special::{TOKENIZER_CONFIG_BYTES, read_json};
use super::spm_model::{PieceType, SpmModel};
use super::{PreTokenizer, splits};
use crate::limits::{SMALL_JSON_BYTES, TOKENIZER_BYTES, read_text};
use crate::{
    CONFIG_FILE, CheckpointError, SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE,
};

/// Tokens to ids of byte-level BPE, in older folders.
const VOCAB_FILE: &str = "vocab.json";
/// Merges of byte-level BPE, best first, in older folders.
const MERGES_FILE: &str = "merges.txt";
/// SentencePiece's own file.
const SPM_FILE: &str = "tokenizer.model";
/// Tokens that were added to an older vocabulary, by id.
const ADDED_FILE: &str = "added_tokens.json";

/// The text of the `tokenizer.json` of a folder, or one made from the files that stand for it;
/// nothing where the folder has no tokenizer.
///
/// # Errors
/// When a file cannot be read or is malformed, or belongs to a tokenizer class that is not in the
/// table above.
pub fn tokenizer_json(dir: &Path) -> Result<Option<String>, CheckpointError> {
    let has = |name: &str| dir.join(name).is_file();
    if has(TOKENIZER_FILE) {
        return read_text(&dir.join(TOKENIZER_FILE), TOKENIZER_BYTES).map(Some);
    }
    let beside = Beside::read(dir)?;
    let mut file = if has(VOCAB_FILE) && has(MERGES_FILE) {
        from_vocab_and_merges(dir, &beside)?
    } else if has(SPM_FILE) {
        from_sentencepiece(dir, &beside)?
    } else {
        return Ok(None);
    };
    file["post_processor"] = beside.post_processor(&file);
    Ok(Some(file.to_string()))
}

/// What stands beside the vocabulary.
struct Beside {
    config: Value,
    special: Value,
    added: Value,
    /// Without `Fast` at its end.
    class: String,
}

impl Beside {
    fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let config = read_json(&dir.join(TOKENIZER_CONFIG_FILE), TOKENIZER_CONFIG_BYTES)?;
        let class = config["tokenizer_class"].as_str().unwrap_or_default();
        let mut class = class.strip_suffix("Fast").unwrap_or(class).to_owned();
        if class.is_empty() {
            let model = read_json(&dir.join(CONFIG_FILE), SMALL_JSON_BYTES)?;
            class = match model["model_type"].as_str().unwrap_or_default() {
                "gpt2" => "GPT2Tokenizer",
                "phi" => "CodeGenTokenizer",
                "qwen2" | "qwen3" | "qwen2_moe" | "qwen3_moe" => "Qwen2Tokenizer",
                _ => "",
            }
            .to_owned();
        }
        Ok(Beside {
            config,
            special: read_json(&dir.join(SPECIAL_TOKENS_FILE), SMALL_JSON_BYTES)?,
            added: read_json(&dir.join(ADDED_FILE), TOKENIZER_CONFIG_BYTES)?,
            class,
        })
    }

    /// The spelling of `bos_token` and its like.
    fn named(&self, key: &str) -> Option<&str> {
        [&self.config[key], &self.special[key]]
            .into_iter()
            .find_map(|value| value.as_str().or_else(|| value["content"].as_str()))
    }

    /// What a class calls a token that no file names.
    fn default(&self, key: &str) -> Option<&'static str> {
        let by_key = |names: [&'static str; 5]| {
            let keys = ["bos_token", "eos_token", "unk_token", "pad_token", "mask_token"];
            let place = keys.into_iter().position(|other| other == key)?;
            Some(names[place]).filter(|name| !name.is_empty())
        };
        const END: &str = super::END_OF_TEXT;
        match self.class.as_str() {
            "GPT2Tokenizer" | "CodeGenTokenizer" => by_key([END, END, END, "", ""]),
            "Qwen2Tokenizer" => by_key(["", END, END, END, ""]),
            "GemmaTokenizer" => by_key(["<bos>", "<eos>", "<unk>", "<pad>", "<mask>"]),
            _ => by_key(["<s>", "</s>", "<unk>", "", ""]),
        }
    }

    fn switch(&self, key: &str, default: bool) -> bool {
        self.config[key].as_bool().unwrap_or(default)
    }

    /// The entries of `added_tokens`, in the order of their ids: `first` of the class, those that
    /// the files list with ids, and the special ones that they name.
    fn added_tokens(&self, first: Vec<Value>) -> Vec<Value> {
        let mut listed: Vec<(u64, Value)> = Vec::new();
        for (id, token) in self.config["added_tokens_decoder"].as_object().into_iter().flatten() {
            let special = token["special"].as_bool().unwrap_or(false);
            let mut entry = added_token(token["content"].as_str().unwrap_or_default(), special);
            for flag in ["lstrip", "rstrip", "single_word", "normalized"] {
                if let Some(value) = token[flag].as_bool() {
                    entry[flag] = value.into();
                }
            }
            listed.push((id.parse().unwrap_or(u64::MAX), entry));
        }
        let names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "mask_token"];
        let named = |key| self.named(key).or_else(|| self.default(key));
        let mut special: Vec<&str> = names.into_iter().filter_map(named).collect();
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            for token in self.config[key].as_array().into_iter().flatten() {
                special.extend(token.as_str().or_else(|| token["content"].as_str()));
            }
        }
        for (text, id) in self.added.as_object().into_iter().flatten() {
            let entry = added_token(text, special.contains(&text.as_str()));
            listed.push((id.as_u64().unwrap_or(u64::MAX), entry));
        }
        listed.sort_by_key(|(id, _)| *id);
        let named = special.iter().map(|text| added_token(text, true));
        let all = first.into_iter().chain(listed.into_iter().map(|(_, entry)| entry)).chain(named);
        let mut seen = HashSet::new();
        all.filter(|entry| {
            let text = entry["content"].as_str().unwrap_or_default();
            !text.is_empty() && seen.insert(text.to_owned())
        })
        .collect()
    }

    /// Puts the token that begins a text before it, where `add_bos_token` asks for that.
    fn post_processor(&self, file: &Value) -> Value {
        let bos = self.named("bos_token").or_else(|| self.default("bos_token"));
        let bos = bos.filter(|_| self.switch("add_bos_token", false));
        let id = bos.and_then(|bos| file["model"]["vocab"][bos].as_u64());
        let (Some(bos), Some(id)) = (bos, id) else { return Value::Null };
        json!({
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": bos, "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { bos: { "id": bos, "ids": [id], "tokens": [bos] } },
        })
    }

    fn refuse(&self, dir: &Path, files: &str) -> CheckpointError {
        let class = match self.class.as_str() {
            "" => "a tokenizer of no stated class",
            class => class,
        };
        CheckpointError::Tokenizer {
            reason: format!(
                "{} has {files} of {class} and no tokenizer.json; write one with transformers: \
                 AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                dir.display()
            ),
        }
    }
}

/// As `AddedToken` has it where nothing else is said.
fn added_token(content: &str, special: bool) -> Value {
    json!({ "id": 0, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": !special, "special": special })
}

fn from_vocab_and_merges(dir: &Path, beside: &Beside) -> Result<Value, CheckpointError> {
    let (normalizer, mut cut) = match beside.class.as_str() {
        "GPT2Tokenizer" | "CodeGenTokenizer" => (Value::Null, PreTokenizer::GPT2.definition()),
        "Qwen2Tokenizer" => (json!({ "type": "NFC" }), PreTokenizer::QWEN2.definition()),
        _ => return Err(beside.refuse(dir, "vocab.json and merges.txt")),
    };
    let prefix = Value::from(beside.switch("add_prefix_space", false));
    match cut["pretokenizers"].as_array_mut().and_then(|steps| steps.last_mut()) {
        Some(bytes) => bytes["add_prefix_space"] = prefix,
        None => cut["add_prefix_space"] = prefix,
    }
    let vocab = read_json(&dir.join(VOCAB_FILE), TOKENIZER_BYTES)?;
    let merges = read_text(&dir.join(MERGES_FILE), TOKENIZER_BYTES)?;
    let lines = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
        "use_regex": true });
    Ok(file(
        beside.added_tokens(Vec::new()),
        [normalizer, cut, byte_level],
        json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": lines.collect::<Vec<_>>(),
        }),
    ))
}

fn from_sentencepiece(dir: &Path, beside: &Beside) -> Result<Value, CheckpointError> {
    let path = dir.join(SPM_FILE);
    let size = fs::metadata(&path).map_err(CheckpointError::io(&path))?.len();
    if size > TOKENIZER_BYTES {
        return Err(CheckpointError::TooLarge { path, size, limit: TOKENIZER_BYTES });
    }
    let bytes = plain_file::read(&path).map_err(CheckpointError::io(&path))?;
    let model = SpmModel::parse(&bytes)
        .map_err(|reason| CheckpointError::Content { path: path.clone(), reason })?;
    let prefix = beside.switch("add_prefix_space", true);
    let scheme = match (prefix, beside.switch("legacy", false)) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    let pieces = pieces_as_added(&model);
    Ok(match beside.class.as_str() {
        "LlamaTokenizer" => file(
            beside.added_tokens(pieces),
            [Value::Null, metaspace(scheme), pieces_decoder(true, prefix)],
            bpe(&model, Value::Null, true, false),
        ),
        "GemmaTokenizer" => file(
            beside.added_tokens(pieces),
            [
                replace(json!({ "String": " " }), "\u{2581}"),
                json!({ "type": "Split", "pattern": { "String": " " },
                    "behavior": "MergedWithPrevious", "invert": false }),
                pieces_decoder(true, false),
            ],
            bpe(&model, "<unk>".into(), true, false),
        ),
        // A class that says nothing of its own, or none: the model's own settings.
        "" | "PreTrainedTokenizer" | "TokenizersBackend" => generic(&model, beside, pieces),
        _ => return Err(beside.refuse(dir, SPM_FILE)),
    })
}

/// Control pieces are special, user-defined ones are found in every text.
fn pieces_as_added(model: &SpmModel) -> Vec<Value> {
    let added = model.pieces.iter().filter_map(|piece| {
        let special = match piece.kind {
            PieceType::Control => true,
            PieceType::UserDefined => false,
            PieceType::Normal | PieceType::Other => return None,
        };
        let mut entry = added_token(&piece.text, special);
        entry["normalized"] = false.into();
        Some(entry)
    });
    added.collect()
}

/// A model of no class that transformers knows is used as SentencePiece itself would.
fn generic(model: &SpmModel, beside: &Beside, pieces: Vec<Value>) -> Value {
    let regex = |pattern: &str, content: &str| replace(json!({ "Regex": pattern }), content);
    let mut normalizers = Vec::new();
    if !model.charsmap.is_empty() {
        let tables = STANDARD.encode(&model.charsmap);
        normalizers.push(json!({ "type": "Precompiled", "precompiled_charsmap": tables }));
    }
    if model.remove_extra_whitespaces {
        normalizers.extend([regex(r"\A +| +\z", ""), regex(" {2,}", " ")]);
    }
    if model.escape_whitespaces {
        normalizers.push(replace(json!({ "String": " " }), "\u{2581}"));
    }
    let mut steps = Vec::new();
    if model.add_dummy_prefix {
        normalizers.push(regex("\\A\u{2581}", "\u{2581}\u{2581}"));
        steps.push(metaspace("always"));
    }
    let user_defined: Vec<&Value> =
        pieces.iter().filter(|piece| piece["special"] == false).collect();
    if !user_defined.is_empty() {
        let mut texts: Vec<&str> =
            user_defined.iter().filter_map(|piece| piece["content"].as_str()).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
        let pattern: Vec<String> = texts.into_iter().map(escape).collect();
        steps.push(json!({ "type": "Split", "pattern": { "Regex": pattern.join("|") },
            "behavior": "Isolated", "invert": false }));
    }
    let ignore_merges = !user_defined.is_empty();
    let model_json = match model.is_bpe {
        true => bpe(model, model.unk_piece.as_str().into(), model.byte_fallback, ignore_merges),
        false => unigram(model),
    };
    let steps = match steps.is_empty() {
        true => Value::Null,
        false => json!({ "type": "Sequence", "pretokenizers": steps }),
    };
    file(
        beside.added_tokens(pieces),
        [
            json!({ "type": "Sequence", "normalizers": normalizers }),
            steps,
            pieces_decoder(model.byte_fallback, model.add_dummy_prefix),
        ],
        model_json,
    )
}

fn file(added: Vec<Value>, steps: [Value; 3], model: Value) -> Value {
    let [normalizer, pre_tokenizer, decoder] = steps;
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": decoder, "model": model,
    })
}

fn bpe(model: &SpmModel, unknown: Value, byte_fallback: bool, ignore_merges: bool) -> Value {
    let ids = (0_u32..).zip(&model.pieces);
    let vocab: Map<String, Value> =
        ids.map(|(id, piece)| (piece.text.clone(), Value::from(id))).collect();
    // `generate_merges` of transformers: all pairs that spell a piece, those of the first piece
    // first.
    let mut merges = Vec::new();
    for piece in &model.pieces {
        let pairs = splits(&piece.text);
        let known = |half: &str| vocab.contains_key(half);
        merges.extend(pairs.filter(|(a, b)| known(a) && known(b)).map(|(a, b)| json!([a, b])));
    }
    json!({
        "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges,
    })
}

fn unigram(model: &SpmModel) -> Value {
    let vocab: Vec<Value> =
        model.pieces.iter().map(|piece| json!([piece.text, f64::from(piece.score)])).collect();
    json!({ "type": "Unigram", "unk_id": model.unk_id, "vocab": vocab,
        "byte_fallback": model.byte_fallback })
}

fn metaspace(scheme: &str) -> Value {
    json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme,
        "split": false })
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": pattern, "content": content })
}

fn pieces_decoder(byte_fallback: bool, strips: bool) -> Value {
    let mut steps = vec![replace(json!({ "String": "\u{2581}" }), " ")];
    if byte_fallback {
        steps.push(json!({ "type": "ByteFallback" }));
    }
    if byte_fallback || strips {
        steps.push(json!({ "type": "Fuse" }));
    }
    if strips {
        steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}

/// A text as a pattern that matches it.
fn escape(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if r"()[]{}?*+-|^$\.&~# ".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
