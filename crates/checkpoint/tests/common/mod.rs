//! A small model whose matrices are not square, with every weight different.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod torch;

use std::borrow::Cow;

use checkpoint::{CheckpointContents, GgufView, NamedTensor, TrainerState, names, save};
use config::{Architecture, ModelConfig};
use gguf::{GgufError, Metadata, TensorInfo, TensorSource};

pub const TOKENIZER: &str = r#"{
    "added_tokens": [{"id": 4, "content": "<|endoftext|>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "model": {"type": "BPE", "merges": [["a", "b"]],
        "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "<|endoftext|>": 4}}}"#;

pub fn config() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: 5,
        context_length: 7,
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 4,
        n_inner: 6,
        norm_epsilon: 1e-5,
        rope_base: config::ROPE_BASE,
        qkv_bias: true,
        tie_embeddings: false,
        dropout: 0.1,
        attention: config::Attention::default(),
        experts: None,
    }
}

/// The same for every family, with grouped queries if the family has them.
pub fn family(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        architecture,
        n_head: 4,
        n_kv_head: if architecture.is_gated() { 2 } else { 4 },
        n_embd: 16,
        n_inner: 10,
        rope_base: if architecture == Architecture::Gpt2 { config::ROPE_BASE } else { 5000.0 },
        qkv_bias: architecture.block().qkv_bias,
        experts: (architecture == Architecture::Qwen3Moe)
            .then_some(config::Experts { count: 3, used: 2 }),
        ..config()
    }
}

/// Weights that count up over the whole model, so that all are different. Those that the model does
/// not have are omitted.
pub fn weights(config: &ModelConfig) -> Vec<NamedTensor> {
    let mut next = 0.0;
    let mut count = || {
        next += 0.25;
        next
    };
    let table = names::tensors(config).into_iter().filter(|row| row.in_model());
    table
        .map(|row| NamedTensor {
            data: (0..row.elements()).map(|_| count()).collect(),
            name: row.hugging_face,
            shape: row.shape,
        })
        .collect()
}

pub fn write(dir: &std::path::Path, config: &ModelConfig) -> Vec<NamedTensor> {
    let weights = weights(config);
    write_weights(dir, config, &weights);
    weights
}

pub fn write_weights(dir: &std::path::Path, config: &ModelConfig, weights: &Vec<NamedTensor>) {
    let contents = CheckpointContents {
        config,
        weights,
        tokenizer_json: TOKENIZER,
        tokenizer_folder: None,
        optimizer: None,
        trainer: &TrainerState::default(),
        golden: None,
    };
    save(dir, contents).unwrap();
}

/// A view with other keys or another list of tensors.
pub struct Altered<'a> {
    pub view: &'a GgufView,
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
}

impl<'a> Altered<'a> {
    pub fn new(view: &'a GgufView) -> Self {
        Altered { view, metadata: view.metadata().clone(), tensors: view.tensors().to_vec() }
    }
}

impl TensorSource for Altered<'_> {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, tensor: &TensorInfo) -> Result<Cow<'_, [u8]>, GgufError> {
        self.view.read(tensor)
    }
}
