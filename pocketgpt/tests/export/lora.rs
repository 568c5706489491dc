//! `--merge-lora`: an adapter of rank 1, whose product is known, is found in the exported weights.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use super::common;
use std::fs;
use std::path::Path;

use super::{export, refusal};
use checkpoint::lora::{AdapterSettings, factors};
use checkpoint::{
    AdapterContents, Checkpoint, CheckpointContents, NamedTensor, TrainerState, names, open_source,
    save_adapted,
};
use config::{Architecture, ModelConfig};
use gguf::read_f32;

const TARGET: &str = "model.layers.1.self_attn.v_proj.weight";

fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        n_kv_head: 1,
        qkv_bias: false,
        ..common::config(2, 8, 12)
    }
}

/// `base`, and `tuned` with an adapter beside its weights: A is 1, 2, 3, ..., B is 1, -1, 1, ...
fn write(dir: &Path) {
    common::write_checkpoint(&dir.join("base"), &config());
    let base = Checkpoint::open(&dir.join("base")).unwrap();
    let row = names::tensors(&config()).into_iter().find(|row| row.hugging_face == TARGET).unwrap();
    let [a, b] = factors(&row, 1);
    let adapter = vec![
        NamedTensor {
            data: (1..=a.elements()).map(|i| i as f32).collect(),
            name: a.hugging_face,
            shape: a.shape,
        },
        NamedTensor {
            data: (0..b.elements()).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect(),
            name: b.hugging_face,
            shape: b.shape,
        },
    ];
    let contents = CheckpointContents {
        config: &config(),
        weights: base.weights(),
        tokenizer_json: common::TOKENIZER,
        tokenizer_folder: None,
        optimizer: None,
        trainer: &TrainerState::default(),
        golden: None,
    };
    let settings =
        AdapterSettings { rank: 1, alpha: 0.5, rslora: false, base_model: "base".to_owned() };
    let adapter = AdapterContents { settings: &settings, tensors: &adapter };
    save_adapted(&dir.join("tuned"), contents, Some(adapter)).unwrap();
}

#[test]
fn the_product_is_added_to_its_matrix_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write(dir);
    for rest in [["--output", "a.gguf"].as_slice(), &["--to", "huggingface", "--output", "hf"]] {
        let args = [&["--input", "base", "--merge-lora", "tuned/adapter"], rest].concat();
        let output = export(dir, &args);
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(fs::read_dir(dir).unwrap().count(), 4, "base, tuned, a.gguf and hf");

    let base = open_source(&dir.join("base")).unwrap();
    for merged in ["a.gguf", "hf"] {
        let merged = open_source(&dir.join(merged)).unwrap();
        for tensor in base.tensors() {
            let mut expected = read_f32(&*base, tensor).unwrap();
            if tensor.name == "blk.1.attn_v.weight" {
                for (i, value) in expected.iter_mut().enumerate() {
                    let (output, input) = (i / 8, i % 8);
                    let sign = if output % 2 == 0 { 0.5 } else { -0.5 };
                    *value += sign * (input + 1) as f32;
                }
            }
            let found = read_f32(&*merged, merged.tensor(&tensor.name).unwrap()).unwrap();
            assert_eq!(found, expected, "{}", tensor.name);
        }
    }
}

#[test]
fn nothing_is_merged_twice_or_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write(dir);
    let error = refusal(dir, &["--input", "tuned", "--merge-lora", "tuned/adapter"]);
    assert!(error.contains("has an adapter merged in already"), "{error}");
    fs::write(dir.join("a.gguf"), "precious").unwrap();
    let args = ["--input", "base", "--merge-lora", "tuned/adapter", "--output", "a.gguf"];
    assert!(refusal(dir, &args).contains("a.gguf exists already; use --force"));
    assert_eq!(fs::read_dir(dir).unwrap().count(), 3, "nothing is left behind");
}
