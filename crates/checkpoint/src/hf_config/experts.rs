//! The experts of `MixtralForCausalLM` and `Qwen3MoeForCausalLM`.
//!
//! Source: `configuration_mixtral.py` and `configuration_qwen3_moe.py` of transformers.

use config::{Experts, HasExperts, ModelConfig};
use serde_json::{Value, json};

use super::{Family, Reader};
use crate::CheckpointError;

/// The number of experts; transformers reads either name.
const COUNT: [&str; 2] = ["num_experts", "num_local_experts"];
/// Experts that a token uses.
const USED: &str = "num_experts_per_tok";
/// Width of one expert in a Qwen3-MoE.
pub(super) const WIDTH: &str = "moe_intermediate_size";
/// Whether the weights of a token's experts are scaled to a sum of 1.
const NORMALISED: &str = "norm_topk_prob";
/// Layers without experts in a Qwen3-MoE: those of a list, and all except every `n`-th.
const DENSE_LAYERS: &str = "mlp_only_layers";
const SPARSE_EVERY: &str = "decoder_sparse_step";
/// The name that other classes use for experts that every token uses.
const SHARED: [&str; 4] = [
    "shared_expert_intermediate_size",
    "n_shared_experts",
    "num_shared_experts",
    "shared_intermediate_size",
];

/// The experts that a configuration requires; unsupported computations are refused.
pub(super) fn read(reader: &Reader, family: Family) -> Result<Option<Experts>, CheckpointError> {
    let [count, used] = match family {
        Family::Mixtral => [8, 2],
        Family::Qwen3Moe => [128, 8],
        _ => return Ok(None),
    };
    let key = COUNT.into_iter().find(|key| reader.get(key).is_some()).unwrap_or(COUNT[0]);
    let experts = Experts { count: reader.size_or(key, count)?, used: reader.size_or(USED, used)? };
    for key in SHARED {
        if reader.size_or(key, 0)? != 0 {
            let expected = "null: experts that every token uses are not computed here";
            return Err(reader.refuse(key, expected));
        }
    }
    if family == Family::Qwen3Moe {
        check_qwen3(reader)?;
    }
    Ok(Some(experts))
}

/// Checks for settings of which llama.cpp supports only one (`src/models/qwen3moe.cpp`), so that a
/// GGUF cannot store another.
fn check_qwen3(reader: &Reader) -> Result<(), CheckpointError> {
    if !reader.switch(NORMALISED, false)? {
        let without =
            if reader.get(NORMALISED).is_none() { "; left out it means false" } else { "" };
        let expected =
            format!("true: llama.cpp always makes the weights of experts add up to 1{without}");
        return Err(reader.refuse(NORMALISED, &expected));
    }
    let in_every_layer = "llama.cpp has experts in every layer";
    let has_dense = |value: &Value| value.as_array().is_none_or(|layers| !layers.is_empty());
    if reader.get(DENSE_LAYERS).is_some_and(has_dense) {
        return Err(reader.refuse(DENSE_LAYERS, &format!("[]: {in_every_layer}")));
    }
    if reader.size_or(SPARSE_EVERY, 1)? != 1 {
        return Err(reader.refuse(SPARSE_EVERY, &format!("1: {in_every_layer}")));
    }
    Ok(())
}

/// The keys of a model with experts.
pub(super) fn write(config: &ModelConfig, experts: Experts) -> Value {
    match config.architecture.block().experts {
        HasExperts::Always => json!({
            "architectures": ["Qwen3MoeForCausalLM"],
            "model_type": "qwen3_moe",
            "attention_bias": false,
            COUNT[0]: experts.count,
            USED: experts.used,
            WIDTH: config.n_inner,
            NORMALISED: true,
            DENSE_LAYERS: [],
            SPARSE_EVERY: 1,
            "use_sliding_window": false,
        }),
        HasExperts::Never | HasExperts::Sometimes => json!({
            "architectures": ["MixtralForCausalLM"],
            "model_type": "mixtral",
            COUNT[1]: experts.count,
            USED: experts.used,
            "sliding_window": null,
        }),
    }
}
