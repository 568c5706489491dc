//! Tokenizers that a GGUF cannot hold: training saves them as they are.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::fs;

use crate::common::{Fixture, resume, train};
use checkpoint::Checkpoint;
use config::TokenizerKind;
use serde_json::{Value, json};

/// Each with a name for messages. All know the letters of the text and encode every other character
/// as one token.
fn tokenizers() -> Vec<(&'static str, Value)> {
    let letters: Vec<String> = ('a'..='z').chain(['.']).map(String::from).collect();
    let ids = |from: usize| -> Value {
        let known =
            letters.iter().enumerate().map(|(i, letter)| (letter.clone(), Value::from(i + from)));
        known.chain([("[UNK]".to_owned(), Value::from(0))]).collect()
    };
    let scored: Vec<Value> = std::iter::once(json!(["<unk>", 0.0]))
        .chain(letters.iter().map(|letter| json!([letter, -1.0])))
        .collect();
    let file = |normalizer: Value, pre: Value, model: Value| {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": null,
            "decoder": null, "model": model,
        })
    };
    let bpe = |vocab: Value| {
        json!({
            "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
            "merges": [],
        })
    };
    let whitespace = json!({ "type": "Whitespace" });
    vec![
        ("BPE behind Whitespace", file(Value::Null, whitespace.clone(), bpe(ids(1)))),
        ("BPE with an id that has no token", file(Value::Null, whitespace.clone(), bpe(ids(5)))),
        (
            "ByteLevel with add_prefix_space",
            file(
                Value::Null,
                json!({
                    "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                    "use_regex": true,
                }),
                bpe(ids(1)),
            ),
        ),
        (
            "another Split pattern",
            file(
                Value::Null,
                json!({
                    "type": "Split", "pattern": { "Regex": "[aeiou]" }, "behavior": "Isolated",
                    "invert": false,
                }),
                bpe(ids(1)),
            ),
        ),
        (
            "WordPiece",
            file(
                json!({
                    "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": null, "lowercase": true,
                }),
                json!({ "type": "BertPreTokenizer" }),
                json!({
                    "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 100, "vocab": ids(1),
                }),
            ),
        ),
        (
            "Unigram",
            file(
                Value::Null,
                whitespace,
                json!({ "type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": false }),
            ),
        ),
    ]
}

#[test]
fn a_training_is_saved_whatever_its_tokenizer_is() {
    for (name, tokenizer) in tokenizers() {
        let mut fixture = Fixture::new();
        let path = fixture.path().join("tokenizer.json");
        let text = tokenizer.to_string();
        fs::write(&path, &text).unwrap();
        let settings = &mut fixture.run_file;
        settings.data.tokenizer = TokenizerKind::HuggingFace;
        settings.data.tokenizer_path = Some(path);
        settings.train.max_steps = Some(3);
        let report = train(settings);
        assert_eq!(report.steps, 3, "{name}");
        let checkpoint = Checkpoint::open(&report.checkpoint).unwrap();
        assert_eq!(checkpoint.tokenizer_json().unwrap(), text, "{name}");
        let class = fs::read_to_string(report.checkpoint.join("tokenizer_config.json")).unwrap();
        assert!(class.contains("PreTrainedTokenizerFast"), "{name}: {class}");
        settings.train.max_steps = Some(4);
        assert_eq!(resume(settings).resumed_from, Some(3), "{name}");
    }
}

/// The folder of a tokenizer defines which token ends a text, and its other files are copied.
#[test]
fn what_a_folder_says_beside_such_a_tokenizer_is_kept() {
    let mut fixture = Fixture::new();
    let folder = fixture.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let (_, tokenizer) = tokenizers().pop().unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.join("config.json"), r#"{"eos_token_id": 3}"#).unwrap();
    fs::write(folder.join("tokenizer_config.json"), r#"{"eos_token": "c"}"#).unwrap();
    let settings = &mut fixture.run_file;
    settings.data.tokenizer = TokenizerKind::HuggingFace;
    settings.data.tokenizer_path = Some(folder);
    settings.train.max_steps = Some(3);
    let report = train(settings);
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(report.checkpoint.join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("config.json")["eos_token_id"], 3);
    assert_eq!(read("tokenizer_config.json"), json!({ "eos_token": "c" }));
}
