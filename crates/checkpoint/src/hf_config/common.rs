//! The keys that all classes with a gated feed-forward layer share.

use config::{Architecture, Attention, ModelConfig, ROPE_BASE};
use serde_json::{Value, json};

use super::{Reader, SizeKeys, short};
use crate::CheckpointError;

/// The defaults of one class for missing keys.
pub(super) struct Defaults {
    pub architecture: Architecture,
    pub vocab_size: usize,
    pub context_length: usize,
    pub n_layer: usize,
    pub n_head: usize,
    /// If the key is missing; `null` means as many as heads, and so does `None` here.
    pub n_kv_head: Option<usize>,
    pub n_embd: usize,
    pub n_inner: usize,
    /// The key that holds `n_inner`.
    pub inner_key: &'static str,
    /// `hidden_size / num_attention_heads` if this is `None`.
    pub head_width: Option<usize>,
    pub norm_epsilon: f32,
    pub tie_embeddings: bool,
}

/// LLaMA's.
pub(super) const LLAMA: Defaults = Defaults {
    architecture: Architecture::Llama,
    vocab_size: 32000,
    context_length: 2048,
    n_layer: 32,
    n_head: 32,
    n_kv_head: None,
    n_embd: 4096,
    n_inner: 11008,
    inner_key: "intermediate_size",
    head_width: None,
    norm_epsilon: 1e-6,
    tie_embeddings: false,
};

/// The names of the keys, for errors.
pub(super) fn keys(norm_epsilon: &str, dropout: &str) -> SizeKeys {
    SizeKeys {
        vocab_size: "vocab_size".to_owned(),
        context_length: "max_position_embeddings".to_owned(),
        n_layer: "num_hidden_layers".to_owned(),
        n_head: "num_attention_heads".to_owned(),
        n_kv_head: "num_key_value_heads".to_owned(),
        n_embd: "hidden_size".to_owned(),
        n_inner: "intermediate_size".to_owned(),
        head_width: "head_dim".to_owned(),
        rotated_width: "partial_rotary_factor".to_owned(),
        rope_scaling: "rope_parameters".to_owned(),
        window: "sliding_window".to_owned(),
        experts: "num_experts".to_owned(),
        experts_used: "num_experts_per_tok".to_owned(),
        norm_epsilon: norm_epsilon.to_owned(),
        rope_base: "rope_theta".to_owned(),
        dropout: dropout.to_owned(),
    }
}

/// The model that the common keys describe: without a scaled rotation, windows, biases or experts,
/// which each class reads separately.
pub(super) fn read(reader: &Reader, defaults: &Defaults) -> Result<ModelConfig, CheckpointError> {
    let n_head = reader.size_or("num_attention_heads", defaults.n_head)?;
    let n_kv_head = match defaults.n_kv_head {
        Some(default) if reader.lacks("num_key_value_heads") => default,
        _ => reader.size_or("num_key_value_heads", n_head)?,
    };
    let head_width = match reader.get("head_dim") {
        Some(_) => Some(reader.size("head_dim")?),
        None => defaults.head_width,
    };
    Ok(ModelConfig {
        architecture: defaults.architecture,
        vocab_size: reader.size_or("vocab_size", defaults.vocab_size)?,
        context_length: reader.size_or("max_position_embeddings", defaults.context_length)?,
        n_layer: reader.size_or("num_hidden_layers", defaults.n_layer)?,
        n_head,
        n_kv_head,
        n_embd: reader.size_or("hidden_size", defaults.n_embd)?,
        n_inner: reader.size_or(defaults.inner_key, defaults.n_inner)?,
        norm_epsilon: reader.float("rms_norm_eps", defaults.norm_epsilon)?,
        rope_base: ROPE_BASE,
        qkv_bias: false,
        tie_embeddings: reader.switch("tie_word_embeddings", defaults.tie_embeddings)?,
        dropout: reader.float("attention_dropout", 0.0)?,
        attention: Attention { head_width, ..Attention::PLAIN },
        experts: None,
    })
}

/// The same keys with the values of `config`; `own` are the keys that only its class has.
pub(super) fn write(config: &ModelConfig, own: Value) -> Value {
    let mut value = json!({
        "attention_dropout": short(config.dropout),
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "max_position_embeddings": config.context_length,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.n_kv_head,
        "rms_norm_eps": short(config.norm_epsilon),
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": config.vocab_size,
    });
    super::extend(&mut value, own);
    value
}
