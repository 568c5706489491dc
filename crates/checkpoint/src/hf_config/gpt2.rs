//! `GPT2LMHeadModel`.
//!
//! Source: `configuration_gpt2.py` of transformers.

use config::{Architecture, Attention, ModelConfig, ROPE_BASE};
use serde_json::{Value, json};

use super::{Reader, SizeKeys, TANH_GELU, short};
use crate::CheckpointError;

pub(super) fn keys() -> SizeKeys {
    SizeKeys {
        vocab_size: "vocab_size".to_owned(),
        context_length: "n_positions".to_owned(),
        n_layer: "n_layer".to_owned(),
        n_head: "n_head".to_owned(),
        n_kv_head: "n_head".to_owned(),
        n_embd: "n_embd".to_owned(),
        n_inner: "n_inner".to_owned(),
        head_width: "n_embd".to_owned(),
        rotated_width: "n_embd".to_owned(),
        rope_scaling: "rope_scaling".to_owned(),
        window: "sliding_window".to_owned(),
        experts: "num_experts".to_owned(),
        experts_used: "num_experts_per_tok".to_owned(),
        norm_epsilon: "layer_norm_epsilon".to_owned(),
        rope_base: "rope_theta".to_owned(),
        dropout: "resid_pdrop".to_owned(),
    }
}

pub(super) fn read(reader: &Reader) -> Result<ModelConfig, CheckpointError> {
    reader.expect_text("activation_function", "gelu_new", &TANH_GELU)?;
    reader.expect_switch("scale_attn_weights", true, true)?;
    reader.expect_switch("scale_attn_by_inverse_layer_idx", false, false)?;
    reader.expect_switch("add_cross_attention", false, false)?;
    let n_embd = reader.size("n_embd")?;
    let n_head = reader.size("n_head")?;
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: reader.size("vocab_size")?,
        context_length: reader.size("n_positions")?,
        n_layer: reader.size("n_layer")?,
        n_head,
        n_kv_head: n_head,
        n_embd,
        n_inner: reader.size_or("n_inner", n_embd.saturating_mul(4))?,
        norm_epsilon: reader.float("layer_norm_epsilon", 1e-5)?,
        rope_base: ROPE_BASE,
        qkv_bias: reader.switch("qkv_bias", true)?,
        tie_embeddings: reader.switch("tie_word_embeddings", true)?,
        dropout: reader.float("resid_pdrop", 0.1)?,
        attention: Attention::default(),
        experts: None,
    })
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let dropout = short(config.dropout);
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "attn_pdrop": dropout,
        "embd_pdrop": dropout,
        "layer_norm_epsilon": short(config.norm_epsilon),
        "n_ctx": config.context_length,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "n_layer": config.n_layer,
        "n_positions": config.context_length,
        "qkv_bias": config.qkv_bias,
        "resid_pdrop": dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": config.vocab_size,
    })
}
