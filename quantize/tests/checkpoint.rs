//! A checkpoint folder and its F32 GGUF give the same file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::borrow::Cow;
use std::fs::{self, File};
use std::path::Path;

use checkpoint::{
    Checkpoint, CheckpointContents, CheckpointError, GgufView, Tensors, TrainerState, names,
};
use config::{Architecture, ModelConfig};
use gguf::{TensorSource, TensorType, Writer};
use quantize::{QuantizeJob, Recipe, quantize_file};

const TOKENIZER: &str = r#"{
    "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"type": "BPE", "merges": ["a b"],
        "vocab": {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}}}"#;

const CONFIG: ModelConfig = ModelConfig {
    architecture: Architecture::Gpt2,
    vocab_size: 4,
    context_length: 8,
    n_layer: 2,
    n_head: 4,
    n_kv_head: 4,
    n_embd: 256,
    n_inner: 512,
    norm_epsilon: 1e-5,
    rope_base: config::ROPE_BASE,
    qkv_bias: true,
    tie_embeddings: true,
    dropout: 0.0,
    attention: config::Attention::PLAIN,
    experts: None,
};

/// Weights that differ in all rows.
struct Made;

impl Tensors for Made {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        names::tensors(&CONFIG).into_iter().map(|row| (row.hugging_face, row.shape)).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let table = names::tensors(&CONFIG);
        let elements = table.iter().find(|row| row.hugging_face == name).unwrap().elements();
        Ok(Cow::Owned((0..elements).map(|i| (i % 1013) as f32 / 512.0 - 1.0).collect()))
    }
}

fn write_gguf(checkpoint: &Path, path: &Path) {
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    let name = checkpoint.default_name();
    let view = GgufView::new(checkpoint, TensorType::F32, &name).unwrap();
    let tensors: Vec<_> =
        view.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.tensor_type)).collect();
    let mut writer = Writer::new(File::create(path).unwrap(), view.metadata(), &tensors).unwrap();
    for tensor in view.tensors() {
        writer.write_tensor(&tensor.name, &view.read(tensor).unwrap()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_checkpoint_and_its_gguf_give_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("step-000001");
    let contents = CheckpointContents {
        config: &CONFIG,
        weights: &Made,
        tokenizer_json: TOKENIZER,
        tokenizer_folder: None,
        optimizer: None,
        trainer: &TrainerState::default(),
        golden: None,
    };
    checkpoint::save(&folder, contents).unwrap();
    let plain = dir.path().join("plain-F32.gguf");
    write_gguf(&folder, &plain);

    let quantized = |input: &Path| {
        let job = QuantizeJob::new(input, Recipe::Q4_K_M);
        fs::read(quantize_file(&job).unwrap().output).unwrap()
    };
    assert!(quantized(&folder) == quantized(&plain));
    assert!(dir.path().join("plain-Q4_K_M.gguf").exists());
    assert!(dir.path().join("step-000001-Q4_K_M.gguf").exists());
}
