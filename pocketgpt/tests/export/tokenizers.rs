//! With any tokenizer, the weights of a folder become a GGUF: what llama.cpp's keys cannot express
//! is stored as the `tokenizer.json`, and the report explains the limitation.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use super::common;
use std::fs;
use std::path::Path;

use super::{export, refusal};
use gguf::{GgufFile, TensorSource};

fn exported(dir: &Path, args: &[&str]) -> (GgufFile, serde_json::Value) {
    let output = dir.join("model.gguf");
    let args =
        [&["--input", "model", "--output", "model.gguf", "--json", "--force"], args].concat();
    let done = export(dir, &args);
    assert!(done.status.success(), "{done:?}");
    (GgufFile::open(&output).unwrap(), serde_json::from_slice(&done.stdout).unwrap())
}

#[test]
fn a_tokenizer_that_llama_cpp_does_not_have_goes_along_as_its_file() {
    let pre = r#""pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},"#;
    for (from, to, model, note) in [
        (r#""type": "BPE""#, r#""type": "WordPiece""#, "no_vocab", "its model is WordPiece"),
        (r#""type": "ByteLevel""#, r#""type": "Whitespace""#, "no_vocab", "Whitespace"),
        (pre, r#""normalizer": {"type": "Lowercase"},"#, "no_vocab", "it has no pre_tokenizer"),
        (r#""special": true"#, r#""special": true, "rstrip": true"#, "gpt2", "has rstrip"),
        (r#""b": 1"#, r#""b": 1, "c": 4"#, "gpt2", "beyond the 4 rows"),
        // An id without a token does not require the file.
        (r#""ab": 2,"#, "", "gpt2", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        common::write_checkpoint(&folder.path().join("model"), &common::config(2, 8, 12));
        let text = common::TOKENIZER.replace(from, to).replace(r#"["a b"]"#, "[]");
        fs::write(folder.path().join("model/tokenizer.json"), &text).unwrap();
        let (file, report) = exported(folder.path(), &[]);
        let keys = file.metadata();
        assert_eq!(keys.string("tokenizer.ggml.model").unwrap(), model, "{to}");
        let said = report["tokenizer"].as_str().unwrap_or_default();
        assert!(said.contains(note), "{to}: {said}");
        assert_eq!(said.is_empty(), note.is_empty());
        let along = keys.string("tokenizer.huggingface.json").unwrap_or_default();
        assert_eq!(along, if note.is_empty() { "" } else { &text });
    }
}

#[test]
fn a_folder_without_a_tokenizer_is_exported_without_one_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    common::write_checkpoint(&dir.join("model"), &common::config(2, 8, 12));
    let text = fs::read_to_string(dir.join("model/tokenizer.json")).unwrap();
    fs::remove_file(dir.join("model/tokenizer.json")).unwrap();
    let error = refusal(dir, &["--input", "model", "--output", "model.gguf"]);
    assert!(error.contains("no tokenizer here; expected tokenizer.json, vocab.json"), "{error}");

    let (file, report) = exported(dir, &["--tokenizer", "none"]);
    assert_eq!(file.metadata().string("tokenizer.ggml.model").unwrap(), "no_vocab");
    assert_eq!(file.metadata().unsigned("gpt2.vocab_size").unwrap(), 4);
    assert!(report["tokenizer"].as_str().unwrap().contains("runs on token ids only"));

    fs::write(dir.join("other.json"), text).unwrap();
    let (file, report) = exported(dir, &["--tokenizer", "other.json"]);
    assert_eq!(file.metadata().string("tokenizer.ggml.pre").unwrap(), "gpt-2");
    assert!(report["tokenizer"].is_null());

    let into = ["--input", "model", "--to", "huggingface", "--output", "copy"];
    let error = refusal(dir, &[&into[..], &["--tokenizer", "other.json"]].concat());
    assert!(error.contains("--tokenizer none leaves it out"), "{error}");
}
