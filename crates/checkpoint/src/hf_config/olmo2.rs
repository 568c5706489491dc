//! `Olmo2ForCausalLM`.
//!
//! Source: `configuration_olmo2.py` of transformers.

use config::{Architecture, Attention, ModelConfig};
use serde_json::{Value, json};

use super::{Reader, rope, short};
use crate::CheckpointError;

pub(super) fn read(reader: &Reader) -> Result<ModelConfig, CheckpointError> {
    // Two names of one function.
    reader.expect_text("hidden_act", "silu", &["silu", "swish"])?;
    reader.expect_switch("attention_bias", false, false)?;
    let n_head = reader.size_or("num_attention_heads", 32)?;
    let context_length = reader.size_or("max_position_embeddings", 2048)?;
    let (rope_base, rope_scaling) = rope::read(reader, &rope::LLAMA, context_length)?;
    let head_width = reader.get("head_dim").map(|_| reader.size("head_dim")).transpose()?;
    Ok(ModelConfig {
        architecture: Architecture::Olmo2,
        vocab_size: reader.size_or("vocab_size", 50304)?,
        context_length,
        n_layer: reader.size_or("num_hidden_layers", 32)?,
        n_head,
        n_kv_head: reader.size_or("num_key_value_heads", n_head)?,
        n_embd: reader.size_or("hidden_size", 4096)?,
        n_inner: reader.size_or("intermediate_size", 11008)?,
        norm_epsilon: reader.float("rms_norm_eps", 1e-5)?,
        rope_base,
        qkv_bias: false,
        tie_embeddings: reader.switch("tie_word_embeddings", false)?,
        dropout: reader.float("attention_dropout", 0.0)?,
        attention: Attention { head_width, rope_scaling, ..Attention::PLAIN },
        experts: None,
    }
    .with_plain_attention_left_out())
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let mut value = json!({
        "architectures": ["Olmo2ForCausalLM"],
        "model_type": "olmo2",
        "attention_bias": false,
        "attention_dropout": short(config.dropout),
        "hidden_act": "silu",
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
    super::extend(&mut value, rope::write(config));
    value
}
