//! Folders without a `tokenizer.json`: the result must equal that of transformers, written by
//! `golden/make_older_files.py`.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use checkpoint::{CheckpointError, Vocabulary};
use data::Tokenizer;
use gguf::Metadata;
use serde_json::Value;

const PIECES: &[u8] = include_bytes!("golden/pieces.model");

#[test]
fn older_files_make_the_ids_of_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/older_files.json")).unwrap();
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).unwrap();
    for (name, case) in golden["cases"].as_object().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in case["files"].as_object().unwrap() {
            std::fs::write(folder.path().join(file), text.as_str().unwrap()).unwrap();
        }
        if case["has_pieces"] == true {
            std::fs::write(folder.path().join("tokenizer.model"), PIECES).unwrap();
        }
        let from_folder = Tokenizer::from_folder(folder.path()).unwrap();
        let before: Vec<u32> = serde_json::from_value(case["before"].clone()).unwrap();
        assert_eq!(from_folder.begin_of_text().as_slice(), before, "{name}");
        // The same through a GGUF, which can hold less.
        let json = checkpoint::tokenizer_json(folder.path()).unwrap().unwrap();
        let vocabulary = Vocabulary::of_folder(folder.path(), &json).unwrap();
        let rows = vocabulary.tokens.len();
        let mut keys = Metadata::new();
        vocabulary.describe(config::Architecture::Llama, rows, &mut keys);
        let from_gguf = Tokenizer::from_gguf(&keys).unwrap();
        for (text, expected) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
            for tokenizer in [&from_folder, &from_gguf] {
                let ours = tokenizer.encode_with_specials(text).unwrap();
                assert_eq!(ours, expected, "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn classes_that_are_not_known_are_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
    let refused = || format!("{:#}", Tokenizer::from_folder(folder.path()).unwrap_err());
    assert!(refused().contains("no tokenizer here; expected tokenizer.json"));
    assert!(checkpoint::tokenizer_json(folder.path()).unwrap().is_none());
    write("tokenizer.model", PIECES);
    write("tokenizer_config.json", br#"{"tokenizer_class": "T5Tokenizer"}"#);
    let error = refused();
    assert!(error.contains("tokenizer.model of T5Tokenizer"), "{error}");
    assert!(error.contains("save_pretrained"), "{error}");
    write("vocab.json", b"{}");
    write("merges.txt", b"");
    assert!(refused().contains("vocab.json and merges.txt of T5Tokenizer"));
    std::fs::remove_file(folder.path().join("vocab.json")).unwrap();
    write("tokenizer_config.json", br#"{"tokenizer_class": "LlamaTokenizer"}"#);
    write("tokenizer.model", b"{\"not\": \"a protobuf\"}");
    assert!(refused().contains("no field of a SentencePiece model at byte 0"));
    write("tokenizer.json", b"version https://git-lfs.github.com/spec/v1");
    let error =
        Vocabulary::parse(&std::fs::read_to_string(folder.path().join("tokenizer.json")).unwrap());
    assert!(matches!(error, Err(CheckpointError::Tokenizer { .. })));
}
