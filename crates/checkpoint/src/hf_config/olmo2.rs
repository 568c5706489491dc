//! `Olmo2ForCausalLM`.
//!
//! Source: `configuration_olmo2.py` of transformers.

use config::{Architecture, ModelConfig};
use serde_json::{Value, json};

use super::common::{self, Defaults};
use super::{Reader, rope};
use crate::CheckpointError;

const DEFAULTS: Defaults = Defaults {
    architecture: Architecture::Olmo2,
    vocab_size: 50304,
    norm_epsilon: 1e-5,
    ..common::LLAMA
};

pub(super) fn read(reader: &Reader) -> Result<ModelConfig, CheckpointError> {
    // Two names of one function.
    reader.expect_text("hidden_act", "silu", &["silu", "swish"])?;
    reader.expect_switch("attention_bias", false, false)?;
    let mut config = common::read(reader, &DEFAULTS)?;
    let (base, scaling) = rope::read(reader, &rope::LLAMA, config.context_length)?;
    config.rope_base = base;
    config.attention.rope_scaling = scaling;
    Ok(config.with_plain_attention_left_out())
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let own = json!({
        "architectures": ["Olmo2ForCausalLM"],
        "model_type": "olmo2",
        "attention_bias": false,
        "hidden_act": "silu",
    });
    let mut value = common::write(config, own);
    super::extend(&mut value, rope::write(config));
    value
}
