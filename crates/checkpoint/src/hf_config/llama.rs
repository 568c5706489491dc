//! `LlamaForCausalLM` and the classes derived from it, as far as they are the same model.
//!
//! Source: `configuration_llama.py`, `configuration_mistral.py`, `configuration_qwen2.py`,
//! `configuration_qwen3.py` and `configuration_smollm3.py` of transformers.

use config::{Architecture, ModelConfig};
use serde_json::{Value, json};

use super::common::{self, Defaults, LLAMA};
use super::rope::{self, OldKeys};
use super::{Family, Reader, SizeKeys, experts};
use crate::CheckpointError;

fn defaults(family: Family) -> Defaults {
    let qwen2 = Defaults {
        architecture: Architecture::Qwen2,
        vocab_size: 151_936,
        n_inner: 22016,
        n_kv_head: Some(32),
        context_length: 32768,
        ..LLAMA
    };
    match family {
        Family::Mistral => {
            Defaults { n_inner: 14336, n_kv_head: Some(8), context_length: 131_072, ..LLAMA }
        }
        Family::Mixtral => Defaults {
            n_inner: 14336,
            n_kv_head: Some(8),
            context_length: 131_072,
            norm_epsilon: 1e-5,
            ..LLAMA
        },
        Family::Qwen3Moe => Defaults {
            architecture: Architecture::Qwen3Moe,
            n_layer: 24,
            n_embd: 2048,
            n_inner: 768,
            inner_key: experts::WIDTH,
            n_kv_head: Some(4),
            ..qwen2
        },
        Family::Qwen2 => qwen2,
        Family::Qwen3 => {
            Defaults { architecture: Architecture::Qwen3, head_width: Some(128), ..qwen2 }
        }
        Family::SmolLm3 => Defaults {
            architecture: Architecture::SmolLm3,
            vocab_size: 128_256,
            n_layer: 36,
            n_head: 16,
            n_embd: 2048,
            n_kv_head: Some(4),
            context_length: 32768,
            tie_embeddings: true,
            ..LLAMA
        },
        _ => LLAMA,
    }
}

fn rotation_keys(family: Family) -> OldKeys {
    let default_base = match family {
        Family::Mixtral => 1e6,
        Family::SmolLm3 => 2e6,
        _ => rope::LLAMA.default_base,
    };
    OldKeys { default_base, ..rope::LLAMA }
}

/// For each layer, whether it rotates.
const UNROTATED: &str = "no_rope_layers";
/// The interval of layers that do not rotate, if the list is missing.
const UNROTATED_EVERY: &str = "no_rope_layer_interval";

pub(super) fn keys() -> SizeKeys {
    common::keys("rms_norm_eps", "attention_dropout")
}

pub(super) fn read(reader: &Reader, family: Family) -> Result<ModelConfig, CheckpointError> {
    let mut config = common::read(reader, &defaults(family))?;
    let (base, scaling) = rope::read(reader, &rotation_keys(family), config.context_length)?;
    config.rope_base = base;
    config.attention.rope_scaling = scaling;
    config.qkv_bias = family == Family::Qwen2 && reader.switch("qkv_bias", true)?;
    config.experts = experts::read(reader, family)?;
    let config = config.with_plain_attention_left_out();
    check_mathematics(reader, family, &config)?;
    Ok(config)
}

/// Refuses settings of these classes that require an unsupported computation.
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
    if family == Family::SmolLm3 {
        check_unrotated(reader, config)?;
    }
    check_window(reader, family, config.context_length)
}

/// Layers without a rotation, which are fixed in llama.cpp.
fn check_unrotated(reader: &Reader, config: &ModelConfig) -> Result<(), CheckpointError> {
    let rotates = |layer| u64::from(config.layer_attention(layer).rotation.is_some());
    match (reader.get(UNROTATED), config.architecture.block().unrotated_every) {
        (Some(value), _) => {
            // A value larger than the number of layers is valid and has no effect. Zero layers and
            // too many are refused by the limits.
            let count = config.n_layer.min(config::limits::N_LAYER);
            let listed = value.as_array().map_or(&[][..], Vec::as_slice);
            let is_as_here =
                |layer| listed.get(layer).and_then(Value::as_u64) == Some(rotates(layer));
            match (0..count).all(is_as_here) {
                true => Ok(()),
                false => {
                    Err(reader.refuse(UNROTATED, "0 for every fourth layer, 1 for the others"))
                }
            }
        }
        (None, Some(every)) if reader.size_or(UNROTATED_EVERY, every)? != every => {
            Err(reader.refuse(UNROTATED_EVERY, &every.to_string()))
        }
        (None, _) => Ok(()),
    }
}

/// A window as long as the context has no effect.
fn check_window(reader: &Reader, family: Family, context: usize) -> Result<(), CheckpointError> {
    let is_full = |value: &Value| {
        value.as_array().is_some_and(|all| all.iter().all(|one| one == "full_attention"))
    };
    if reader.get("layer_types").is_some_and(|value| !is_full(value)) {
        return Err(reader.refuse("layer_types", "\"full_attention\" for every layer"));
    }
    if matches!(family, Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe | Family::SmolLm3) {
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
    let common = json!({ "head_dim": config.head_width(), "hidden_act": "silu" });
    let mut value = common::write(config, common);
    let design = config.architecture.block();
    let own = match config.architecture {
        Architecture::SmolLm3 => {
            let rotates = |layer| u8::from(config.layer_attention(layer).rotation.is_some());
            json!({
                "architectures": ["SmolLM3ForCausalLM"],
                "model_type": "smollm3",
                "attention_bias": false,
                "mlp_bias": false,
                UNROTATED: (0..config.n_layer).map(rotates).collect::<Vec<_>>(),
                UNROTATED_EVERY: design.unrotated_every,
                "use_sliding_window": false,
                // The defaults are those of SmolLM3 3B, which smaller vocabularies do not have.
                "bos_token_id": null,
                "eos_token_id": null,
                "pad_token_id": null,
            })
        }
        Architecture::Qwen3 => json!({
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": false,
            "use_sliding_window": false,
        }),
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
    super::extend(&mut value, rope::write(config));
    super::extend(&mut value, own);
    if let Some(experts) = config.experts {
        super::extend(&mut value, experts::write(config, experts));
    }
    value
}
