//! Checkpoints of any size, generated without holding their weights.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use checkpoint::{CheckpointContents, CheckpointError, Tensors, TrainerState, names, save};
use config::{Architecture, ModelConfig};

pub const TOKENIZER: &str = r#"{
    "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"type": "BPE", "merges": ["a b"],
        "vocab": {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}}}"#;

pub fn config(n_layer: usize, n_embd: usize, n_inner: usize) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 4,
        context_length: 8,
        n_layer,
        n_head: 2,
        n_kv_head: 2,
        n_embd,
        n_inner,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: true,
        dropout: 0.0,
        attention: config::Attention::default(),
        experts: None,
    }
}

/// Weights that are generated on request.
struct Made<'a>(&'a ModelConfig);

impl Tensors for Made<'_> {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        names::tensors(self.0).into_iter().map(|row| (row.hugging_face, row.shape)).collect()
    }

    fn data(&self, name: &str) -> Result<Cow<'_, [f32]>, CheckpointError> {
        let table = names::tensors(self.0);
        let elements = table.iter().find(|row| row.hugging_face == name).unwrap().elements();
        Ok(Cow::Owned((0..elements).map(|i| (i % 1013) as f32 / 512.0 - 1.0).collect()))
    }
}

pub fn write_checkpoint(dir: &Path, config: &ModelConfig) {
    let contents = CheckpointContents {
        config,
        weights: &Made(config),
        tokenizer_json: TOKENIZER,
        tokenizer_folder: None,
        optimizer: Some(&Made(config)),
        trainer: &TrainerState::default(),
        golden: None,
    };
    save(dir, contents).unwrap();
}

/// A file of the shared test data, or `None` after printing what is skipped.
pub fn test_data(test: &str, file: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let folder = std::env::var_os("POCKETGPT_TEST_DATA").map_or(default.into(), PathBuf::from);
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    println!("{test} skipped: {} not found", path.display());
    None
}
