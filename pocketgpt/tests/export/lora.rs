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
use gguf::{GgufFile, TensorSource, TensorType, read_f32};

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
    let settings = AdapterSettings {
        rank: 1,
        alpha: 0.5,
        rslora: false,
        dropout: 0.0,
        base_model: "base".into(),
    };
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

/// The keys and the shapes are those of llama.cpp's `convert_lora_to_gguf.py`;
/// `tests/peers/lora_gguf.py` compares with it, and llama.cpp's logits with the merged model's.
#[test]
fn an_adapter_is_a_gguf_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write(dir);
    for (args, tensor_type) in [
        (["--input", "tuned", "--adapter", "--output", "own.gguf"].as_slice(), TensorType::F32),
        (
            &[
                "--input",
                "base",
                "--adapter",
                "tuned/adapter",
                "--type",
                "F16",
                "--output",
                "b.gguf",
            ],
            TensorType::F16,
        ),
    ] {
        let output = export(dir, args);
        assert!(output.status.success(), "{output:?}");
        let file = GgufFile::open(&dir.join(args.last().unwrap())).unwrap();
        let metadata = file.metadata();
        for (key, value) in [
            ("general.type", "adapter"),
            ("adapter.type", "lora"),
            ("general.architecture", "llama"),
        ] {
            assert_eq!(metadata.string(key).unwrap(), value);
        }
        assert_eq!(metadata.float("adapter.lora.alpha").unwrap(), 0.5);
        let names: Vec<_> =
            file.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        let [a, b] = ["blk.1.attn_v.weight.lora_a", "blk.1.attn_v.weight.lora_b"];
        assert_eq!(names, [(a, [8, 1].as_slice()), (b, &[1, 4])]);
        assert!(file.tensors().iter().all(|tensor| tensor.tensor_type == tensor_type));
        let values = |name: &str| read_f32(&file, file.tensor(name).unwrap()).unwrap();
        assert_eq!(values(a), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(values(b), [1.0, -1.0, 1.0, -1.0]);
    }
    let error = refusal(dir, &["--input", "base", "--adapter", "--output", "c.gguf"]);
    assert!(error.contains("base has no adapter of its own"), "{error}");
    let error =
        refusal(dir, &["--input", "tuned", "--type", "Q8_0", "--output", "c.gguf", "--adapter"]);
    assert!(error.contains("expected F32, F16 or BF16"), "{error}");
    assert!(!dir.join("c.gguf").exists());
}
