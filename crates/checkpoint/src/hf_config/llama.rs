//! `LlamaForCausalLM`, `MistralForCausalLM` and `Qwen2ForCausalLM`, as far as they are one model.
//!
//! Source: `configuration_llama.py`, `configuration_mistral.py` and `configuration_qwen2.py` of
//! transformers.

use config::{Architecture, ModelConfig};
use serde_json::{Value, json};

use super::rope::{self, OldKeys};
use super::{Family, Reader, SizeKeys, common_keys, short};
use crate::CheckpointError;

const ROPE: OldKeys =
    OldKeys { base: "rope_theta", share: "partial_rotary_factor", default_share: 1.0 };

/// Sizes that a configuration may leave out.
struct Defaults {
    vocab_size: usize,
    n_inner: usize,
    /// Where the key is not there at all; `null` means as many as heads.
    n_kv_head: Option<usize>,
    context_length: usize,
}

impl Defaults {
    fn of(family: Family) -> Self {
        match family {
            Family::Mistral => Defaults {
                vocab_size: 32000,
                n_inner: 14336,
                n_kv_head: Some(8),
                context_length: 131_072,
            },
            Family::Qwen2 => Defaults {
                vocab_size: 151_936,
                n_inner: 22016,
                n_kv_head: Some(32),
                context_length: 32768,
            },
            _ => Defaults {
                vocab_size: 32000,
                n_inner: 11008,
                n_kv_head: None,
                context_length: 2048,
            },
        }
    }
}

pub(super) fn keys() -> SizeKeys {
    common_keys("rms_norm_eps", "attention_dropout")
}

pub(super) fn read(reader: &Reader, family: Family) -> Result<ModelConfig, CheckpointError> {
    let defaults = Defaults::of(family);
    let n_head = reader.size_or("num_attention_heads", 32)?;
    let n_kv_head = match defaults.n_kv_head {
        Some(default) if reader.lacks("num_key_value_heads") => default,
        _ => reader.size_or("num_key_value_heads", n_head)?,
    };
    let is_qwen2 = family == Family::Qwen2;
    let config = ModelConfig {
        architecture: if is_qwen2 { Architecture::Qwen2 } else { Architecture::Llama },
        vocab_size: reader.size_or("vocab_size", defaults.vocab_size)?,
        context_length: reader.size_or("max_position_embeddings", defaults.context_length)?,
        n_layer: reader.size_or("num_hidden_layers", 32)?,
        n_head,
        n_kv_head,
        n_embd: reader.size_or("hidden_size", 4096)?,
        n_inner: reader.size_or("intermediate_size", defaults.n_inner)?,
        norm_epsilon: reader.float("rms_norm_eps", 1e-6)?,
        rope_base: rope::base(reader, &ROPE)?,
        qkv_bias: is_qwen2 && reader.switch("qkv_bias", true)?,
        tie_embeddings: reader.switch("tie_word_embeddings", false)?,
        dropout: reader.float("attention_dropout", 0.0)?,
    };
    check_mathematics(reader, family, &config)?;
    Ok(config)
}

/// Refuses what these classes can be told to compute and is not computed here.
fn check_mathematics(
    reader: &Reader,
    family: Family,
    config: &ModelConfig,
) -> Result<(), CheckpointError> {
    // Two names of one function.
    reader.expect_text("hidden_act", "silu", &["silu", "swish"])?;
    reader.expect_switch("mlp_bias", false, false)?;
    if family != Family::Qwen2 && reader.switch("attention_bias", false)? {
        let expected = "false: a bias on the output projection is not computed here";
        return Err(reader.refuse("attention_bias", expected));
    }
    // Zero heads are for the limits to refuse.
    let width = config.n_embd.checked_div(config.n_head).unwrap_or(0);
    if reader.size_or("head_dim", width)? != width {
        let expected = format!("hidden_size / num_attention_heads = {width}");
        return Err(reader.refuse("head_dim", &expected));
    }
    check_window(reader, family, config.context_length)
}

/// A window as long as the context is none.
fn check_window(reader: &Reader, family: Family, context: usize) -> Result<(), CheckpointError> {
    let is_full = |value: &Value| {
        value.as_array().is_some_and(|all| all.iter().all(|one| one == "full_attention"))
    };
    if reader.get("layer_types").is_some_and(|value| !is_full(value)) {
        return Err(reader.refuse("layer_types", "\"full_attention\" for every layer"));
    }
    if family == Family::Qwen2 {
        return reader.expect_switch("use_sliding_window", false, false);
    }
    let window = match reader.lacks("sliding_window") {
        true if family == Family::Mistral => 4096,
        _ => reader.size_or("sliding_window", usize::MAX)?,
    };
    if window < context {
        let expected = match reader.lacks("sliding_window") {
            true => format!("null; left out it means {window}, which is below {context}"),
            false => format!("null or at least max_position_embeddings = {context}"),
        };
        return Err(reader.refuse("sliding_window", &expected));
    }
    Ok(())
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let mut value = json!({
        "attention_dropout": short(config.dropout),
        "head_dim": config.head_width(),
        "hidden_act": "silu",
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "max_position_embeddings": config.context_length,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.n_kv_head,
        "rms_norm_eps": short(config.norm_epsilon),
        "rope_parameters": { "rope_theta": short(config.rope_base), "rope_type": "default" },
        "rope_theta": short(config.rope_base),
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": config.vocab_size,
    });
    let own = match config.architecture {
        Architecture::Qwen2 => json!({
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "qkv_bias": config.qkv_bias,
            "use_sliding_window": false,
        }),
        _ => json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": false,
            "mlp_bias": false,
        }),
    };
    super::extend(&mut value, own);
    value
}
