//! `export inspect` as a user meets it.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use super::common;
use std::fs;
use std::path::Path;

use super::{export, refusal};
use serde_json::Value;

/// Files of other programs, with the script that generated them.
fn raw_files() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/gguf/tests/golden/raw"))
}

fn inspect(folder: &Path, args: &[&str]) -> String {
    let output = export(folder, &[&["inspect"], args].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn inspect_json(folder: &Path, file: &str) -> Value {
    serde_json::from_str(&inspect(folder, &[file, "--json"])).unwrap()
}

#[test]
fn our_own_file_is_usable_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let config = common::config(2, 8, 12);
    common::write_checkpoint(&folder.path().join("model"), &config);
    let args = ["--input", "model", "--type", "F16", "--output", "a.gguf"];
    assert!(export(folder.path(), &args).status.success());

    let found = inspect_json(folder.path(), "a.gguf");
    assert_eq!(found["version"], 3);
    assert_eq!(found["byte_order"], "little");
    assert_eq!(found["architecture"], "gpt2");
    assert_eq!(found["refusal"], Value::Null);
    assert_eq!(found["parameters"], config.parameter_count());
    let formats = found["formats"].as_array().unwrap();
    let bytes: u64 = formats.iter().map(|format| format["bytes"].as_u64().unwrap()).sum();
    assert_eq!(found["tensor_bytes"], bytes);
    let bits = 8.0 * bytes as f64 / config.parameter_count() as f64;
    assert!((found["bits_per_weight"].as_f64().unwrap() - bits).abs() < 1e-9);
    let size = fs::metadata(folder.path().join("a.gguf")).unwrap().len();
    assert_eq!(found["files"][0]["size"], size);

    let table = inspect(folder.path(), &["a.gguf"]);
    assert!(table.contains("usable here   yes"), "{table}");
    assert!(!table.contains("blk.0.attn_qkv.weight"), "tensors are listed on request only");
    let table = inspect(folder.path(), &["a.gguf", "--tensors"]);
    assert!(table.contains("blk.0.attn_qkv.weight [8, 24]"), "{table}");
}

#[test]
fn files_of_the_wild_are_shown_with_the_reason_why_they_are_not_usable() {
    for (file, expected) in [
        ("v2.gguf", "GGUF version 2: expected version 3"),
        ("v3.gguf", "is stored as Q8_K (type 15)"),
        ("big-endian.gguf", "a big-endian GGUF"),
        ("split-00002-of-00003.gguf", "llama-gguf-split --merge"),
    ] {
        let found = inspect_json(raw_files(), file);
        assert_eq!(found["architecture"], "rwkv-7", "{file}");
        assert!(found["refusal"].as_str().unwrap().contains(expected), "{file}: {found}");
        let table = inspect(raw_files(), &[file, "--tensors"]);
        assert!(table.contains("rwkv-7.block-count"), "{table}");
        assert!(table.contains("usable here   no: "), "{table}");
    }
    let v3 = inspect_json(raw_files(), "v3.gguf");
    let mxfp4 = v3["formats"].as_array().unwrap().iter().find(|f| f["format"] == "MXFP4").unwrap();
    assert_eq!((&mxfp4["block_weights"], &mxfp4["block_bytes"]), (&32.into(), &17.into()));
    assert_eq!(mxfp4["computed"], false);
}

#[test]
fn all_parts_of_a_split_model_count_together() {
    let found = inspect_json(raw_files(), "split-00003-of-00003.gguf");
    assert_eq!(found["files"].as_array().unwrap().len(), 3);
    let places: Vec<u64> =
        found["tensors"].as_array().unwrap().iter().map(|t| t["file"].as_u64().unwrap()).collect();
    assert_eq!(places, [0, 0, 1, 1, 2]);

    let folder = tempfile::tempdir().unwrap();
    let name = "split-00001-of-00003.gguf";
    fs::copy(raw_files().join(name), folder.path().join(name)).unwrap();
    let found = inspect_json(folder.path(), name);
    assert_eq!(found["problems"].as_array().unwrap().len(), 2, "{found}");
    assert!(inspect(folder.path(), &[name]).contains("00003-of-00003.gguf is missing"));
}

#[test]
fn what_is_no_gguf_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.gguf"), "GGUF\u{3}\0\0\0").unwrap();
    fs::write(folder.path().join("b.gguf"), "<html>").unwrap();
    for (file, expected) in [
        ("nowhere.gguf", "nowhere.gguf: No such file"),
        ("a.gguf", "a.gguf: cut short"),
        ("b.gguf", "an HTML or XML page"),
        (".", "is a directory"),
    ] {
        let error = refusal(folder.path(), &["inspect", file]);
        assert!(error.to_lowercase().contains(&expected.to_lowercase()), "{error}");
    }
}
