//! Checkpoints of nanoGPT: to a GGUF and to a Hugging Face folder, with PyTorch's own logits.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

use super::common::TOKENIZER;
use super::{export, refusal};
use checkpoint::{Checkpoint, open_source};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../export/tests/golden/nanogpt").join(name)
}

/// Relative root mean square of the difference.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (error / expected.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

#[test]
fn the_logits_are_those_of_pytorch() {
    let text = fs::read_to_string(golden("logits.json")).unwrap();
    let values: Value = serde_json::from_str(&text).unwrap();
    let tokens: Vec<u32> = serde_json::from_value(values["tokens"].clone()).unwrap();
    // The first was saved from a compiled model, and has biases.
    for name in ["bias", "no_bias"] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::create_dir(dir.join("out-tiny")).unwrap();
        fs::copy(golden(&format!("{name}.pt")), dir.join("out-tiny/ckpt.pt")).unwrap();
        fs::write(dir.join("tokenizer.json"), TOKENIZER).unwrap();
        let input = ["--input", "out-tiny/ckpt.pt", "--tokenizer", "tokenizer.json"];
        for rest in [["--to", "gguf"].as_slice(), &["--to", "huggingface", "--output", "hf"]] {
            let output = export(dir, &[&input, rest].concat());
            assert!(output.status.success(), "{output:?}");
        }
        for path in [dir.join("out-tiny/out-tiny-F32.gguf"), dir.join("hf")] {
            let source = open_source(&path).unwrap();
            assert_eq!(source.metadata().string("general.architecture").unwrap(), "gpt2");
            let found = reference::Model::load(&*source).unwrap().logits(&tokens).unwrap();
            let expected = |how: &str| -> Vec<f32> {
                serde_json::from_value(values[name][how].clone()).unwrap()
            };
            let tanh = difference(&found, &expected("tanh"));
            let exact = difference(&found, &expected("none"));
            assert!(tanh <= 1e-6, "{name}: {tanh:.1e} from the same GELU");
            assert!(exact <= 1e-3, "{name}: {exact:.1e} from the exact GELU");
        }
        let checkpoint = Checkpoint::open(&dir.join("hf")).unwrap();
        assert_eq!(checkpoint.config().qkv_bias, name == "bias");
        assert!(checkpoint.config().tie_embeddings);
    }
}

/// For example a vocabulary of characters, for which there is no tokenizer.json.
#[test]
fn without_a_tokenizer_the_weights_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::copy(golden("bias.pt"), dir.join("ckpt.pt")).unwrap();
    let args = ["--input", "ckpt.pt", "--tokenizer", "none", "--output", "model.gguf"];
    let output = export(dir, &args);
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(golden("logits.json")).unwrap();
    let values: Value = serde_json::from_str(&text).unwrap();
    let numbers = |value: &Value| serde_json::from_value::<Vec<f32>>(value.clone()).unwrap();
    let tokens: Vec<u32> = serde_json::from_value(values["tokens"].clone()).unwrap();
    let source = open_source(&dir.join("model.gguf")).unwrap();
    let found = reference::Model::load(&*source).unwrap().logits(&tokens).unwrap();
    assert!(difference(&found, &numbers(&values["bias"]["tanh"])) <= 1e-6);
}

#[test]
fn files_that_are_not_nanogpts_are_refused_with_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::copy(golden("bias.pt"), dir.join("ckpt.pt")).unwrap();
    let error = refusal(dir, &["--input", "ckpt.pt"]);
    assert!(error.contains("a vocabulary of 7 tokens is not GPT-2's"), "{error}");
    assert!(error.contains("--tokenizer"), "{error}");
    let views = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/checkpoint/tests/golden/torch/views.bin");
    fs::copy(views, dir.join("pytorch_model.bin")).unwrap();
    let error = refusal(dir, &["--input", "pytorch_model.bin"]);
    assert!(error.contains("a dictionary with \"plain\", \"tied\""), "{error}");
    assert!(error.contains("\"model_args\""), "{error}");
    let error = refusal(dir, &["--input", "ckpt.pt", "--output", "ckpt.pt", "--force"]);
    assert!(error.contains("tokenizer"), "{error}");
    fs::write(dir.join("tokenizer.json"), TOKENIZER).unwrap();
    let input = ["--input", "ckpt.pt", "--tokenizer", "tokenizer.json", "--force", "--output"];
    for own in ["ckpt.pt", "tokenizer.json"] {
        let output = export(dir, &[&input, [own].as_slice()].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&format!("{own} is part of the model itself")), "{error}");
    }
    // A setting that nanoGPT does not have.
    let mut bytes = fs::read(dir.join("ckpt.pt")).unwrap();
    let at = bytes.windows(7).position(|bytes| bytes == b"dropout").unwrap();
    bytes[at..at + 7].copy_from_slice(b"dropped");
    fs::write(dir.join("ckpt.pt"), bytes).unwrap();
    let error = refusal(dir, &["--input", "ckpt.pt"]);
    assert!(error.contains("zip") || error.contains("model_args.dropped"), "{error}");
}
