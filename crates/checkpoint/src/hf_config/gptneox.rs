//! `GPTNeoXForCausalLM` with attention and feed-forward one after the other.
//!
//! Source: `configuration_gpt_neox.py` of transformers.

use config::{Architecture, Attention, ModelConfig, ROPE_BASE};
use serde_json::{Value, json};

use super::rope::{self, OldKeys};
use super::{Reader, SizeKeys, TANH_GELU, common, short};
use crate::CheckpointError;

const ROPE: OldKeys = OldKeys {
    base: "rotary_emb_base",
    default_base: ROPE_BASE,
    share: "rotary_pct",
    default_share: 0.25,
};

pub(super) fn keys() -> SizeKeys {
    SizeKeys {
        n_kv_head: "num_attention_heads".to_owned(),
        ..common::keys("layer_norm_eps", "hidden_dropout")
    }
}

pub(super) fn read(reader: &Reader) -> Result<ModelConfig, CheckpointError> {
    if reader.switch("use_parallel_residual", true)? {
        let expected = "false: attention and feed-forward one after the other; left out it means \
                        true";
        return Err(reader.refuse("use_parallel_residual", expected));
    }
    // `gelu` is another function, and llama.cpp always computes the one with tanh.
    reader.expect_text("hidden_act", "gelu", &TANH_GELU)?;
    reader.expect_switch("attention_bias", true, true)?;
    let n_head = reader.size_or("num_attention_heads", 64)?;
    Ok(ModelConfig {
        architecture: Architecture::GptNeox,
        vocab_size: reader.size_or("vocab_size", 50432)?,
        context_length: reader.size_or("max_position_embeddings", 2048)?,
        n_layer: reader.size_or("num_hidden_layers", 44)?,
        n_head,
        n_kv_head: n_head,
        n_embd: reader.size_or("hidden_size", 6144)?,
        n_inner: reader.size_or("intermediate_size", 24576)?,
        norm_epsilon: reader.float("layer_norm_eps", 1e-5)?,
        rope_base: rope::base(reader, &ROPE)?,
        qkv_bias: reader.switch("qkv_bias", true)?,
        tie_embeddings: reader.switch("tie_word_embeddings", false)?,
        dropout: reader.float("hidden_dropout", 0.0)?,
        attention: Attention::default(),
        experts: None,
    })
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let (dropout, base) = (short(config.dropout), short(config.rope_base));
    json!({
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "attention_bias": true,
        "attention_dropout": dropout,
        "hidden_act": "gelu_new",
        "hidden_dropout": dropout,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "layer_norm_eps": short(config.norm_epsilon),
        "max_position_embeddings": config.context_length,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "qkv_bias": config.qkv_bias,
        "rope_parameters": {
            "partial_rotary_factor": 1.0,
            "rope_theta": base,
            "rope_type": "default",
        },
        "rotary_emb_base": base,
        "rotary_pct": 1.0,
        "tie_word_embeddings": config.tie_embeddings,
        "use_parallel_residual": false,
        "vocab_size": config.vocab_size,
    })
}
