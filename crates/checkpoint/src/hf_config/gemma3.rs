//! `Gemma3ForCausalLM`, the text model.
//!
//! Source: `configuration_gemma3.py` of transformers: its `convert_rope_params_to_dict` for the two
//! rotations, in the form of transformers 5 (`rope_parameters` by kind of layer) and in the older
//! one (`rope_theta` and `rope_scaling` for layers that see all positions, `rope_local_base_freq`
//! for those with a window).

use config::{Architecture, ModelConfig, ROPE_BASE, RopeScaling, Window};
use serde_json::{Value, json};

use super::common::{self, Defaults};
use super::{Reader, TANH_GELU, rope, short};
use crate::CheckpointError;

const DEFAULTS: Defaults = Defaults {
    architecture: Architecture::Gemma3,
    vocab_size: 262_208,
    context_length: 131_072,
    n_layer: 26,
    n_head: 8,
    n_kv_head: Some(4),
    n_embd: 2304,
    n_inner: 9216,
    head_width: Some(256),
    tie_embeddings: true,
    ..common::LLAMA
};

/// The names of the kinds of layers.
const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";

/// Base of the wavelengths in layers that see all positions.
const GLOBAL_BASE: f32 = 1e6;

pub(super) fn read(reader: &Reader) -> Result<ModelConfig, CheckpointError> {
    check_mathematics(reader)?;
    let mut config = common::read(reader, &DEFAULTS)?;
    let rotations = Rotations::read(reader)?;
    let size = reader.size_or("sliding_window", 4096)?;
    let rope_base = Some(rotations.local_base);
    config.rope_base = rotations.global_base;
    config.attention.rope_scaling = rotations.scaling;
    config.attention.window = global_every(reader, config.n_layer)?.map(|global_every| Window {
        size,
        global_every,
        rope_base,
    });
    let config = config.with_plain_attention_left_out();
    let divisor = config.attention_divisor();
    if reader.float("query_pre_attn_scalar", 256.0)? != divisor as f32 {
        let expected = format!("{divisor}, which llama.cpp has for a model of these sizes");
        return Err(reader.refuse("query_pre_attn_scalar", &expected));
    }
    Ok(config)
}

/// Refuses settings of this class that require an unsupported computation.
fn check_mathematics(reader: &Reader) -> Result<(), CheckpointError> {
    reader.expect_text("hidden_activation", "gelu_pytorch_tanh", &TANH_GELU)?;
    reader.expect_switch("attention_bias", false, false)?;
    reader.expect_switch("use_bidirectional_attention", false, false)?;
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if reader.get(key).is_some() {
            return Err(reader.refuse(key, "null: scores and logits are not capped here"));
        }
    }
    Ok(())
}

/// The interval of layers that attend to all positions, 0 if no layer does; `None` if all do.
fn global_every(reader: &Reader, n_layer: usize) -> Result<Option<usize>, CheckpointError> {
    let Some(kinds) = reader.get("layer_types") else {
        return match reader.size_or("sliding_window_pattern", 6)? {
            0 => Err(reader.refuse("sliding_window_pattern", "a positive integer")),
            1 => Ok(None),
            every => Ok(Some(every)),
        };
    };
    let refuse = || {
        let expected = format!(
            "{n_layer} of \"{SLIDING}\" and \"{FULL}\", as many of the first before each of the \
             second"
        );
        reader.refuse("layer_types", &expected)
    };
    let kinds = kinds.as_array().filter(|kinds| kinds.len() == n_layer).ok_or_else(refuse)?;
    let every = kinds.iter().position(|kind| kind == FULL).map_or(0, |first| first + 1);
    let is_global = |layer: usize| every > 0 && (layer + 1).is_multiple_of(every);
    let expected = |layer| if is_global(layer) { FULL } else { SLIDING };
    if !kinds.iter().enumerate().all(|(layer, kind)| kind == expected(layer)) {
        return Err(refuse());
    }
    Ok((every != 1).then_some(every))
}

/// How the two kinds of layers rotate queries and keys.
struct Rotations {
    global_base: f32,
    scaling: RopeScaling,
    local_base: f32,
}

impl Rotations {
    fn read(reader: &Reader) -> Result<Self, CheckpointError> {
        let nested = reader.object("rope_parameters", "rope_parameters.")?;
        if let Some(nested) = nested
            && let Some(key) = nested.keys().find(|key| ![SLIDING, FULL].contains(key))
        {
            let expected = format!("nothing but \"{SLIDING}\" and \"{FULL}\"");
            return Err(nested.refuse(key, &expected));
        }
        let of = |kind: &str, place: &'static str| match nested {
            Some(nested) => nested.object(kind, place),
            None => Ok(None),
        };
        let global = of(FULL, "rope_parameters.full_attention.")?;
        let local = of(SLIDING, "rope_parameters.sliding_attention.")?;
        // transformers prefers the older form if both are given.
        let scaling = match reader.object("rope_scaling", "rope_scaling.")? {
            Some(old) => scaling(&old)?,
            None => global.as_ref().map_or(Ok(RopeScaling::None), scaling)?,
        };
        if let Some(local) = &local
            && !self::scaling(local)?.is_none()
        {
            return Err(local.refuse("rope_type", "\"default\": a window is not stretched"));
        }
        let base = |nested: Option<Reader>, old: &str, default: f32| match nested {
            Some(nested) if nested.get("rope_theta").is_some() => {
                nested.float("rope_theta", default)
            }
            _ => reader.float(old, default),
        };
        Ok(Rotations {
            global_base: base(global, "rope_theta", GLOBAL_BASE)?,
            scaling,
            local_base: base(local, "rope_local_base_freq", ROPE_BASE)?,
        })
    }
}

/// `None` or one factor for all pairs; every other kind of scaling is refused.
fn scaling(nested: &Reader) -> Result<RopeScaling, CheckpointError> {
    if nested.float("partial_rotary_factor", 1.0)? != 1.0 {
        return Err(nested.refuse("partial_rotary_factor", "1.0: heads are rotated as a whole"));
    }
    match rope::check_kind(nested, &["default", "linear"])? {
        "linear" => {
            rope::check_keys(nested, &["factor"])?;
            nested.require("factor", "a number")?;
            Ok(RopeScaling::Linear { factor: nested.float("factor", 0.0)? })
        }
        _ => {
            rope::check_keys(nested, &[])?;
            Ok(RopeScaling::None)
        }
    }
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let window = config.attention.window;
    let kinds: Vec<&str> = (0..config.n_layer)
        .map(|layer| config.layer_attention(layer).window.map_or(FULL, |_| SLIDING))
        .collect();
    let pattern = match window.map(|window| window.global_every) {
        None => 1,
        Some(0) => config.n_layer + 1,
        Some(every) => every,
    };
    let local_base = window.and_then(|window| window.rope_base).unwrap_or(ROPE_BASE);
    let scaling = match config.attention.rope_scaling {
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": short(factor) }),
        _ => Value::Null,
    };
    let mut global = json!({ "rope_type": "default", "rope_theta": short(config.rope_base) });
    super::extend(&mut global, scaling.clone());
    let own = json!({
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "attention_bias": false,
        "attn_logit_softcapping": null,
        "final_logit_softcapping": null,
        "head_dim": config.head_width(),
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": kinds,
        "query_pre_attn_scalar": config.attention_divisor(),
        "rope_local_base_freq": short(local_base),
        "rope_parameters": {
            FULL: global,
            SLIDING: { "rope_type": "default", "rope_theta": short(local_base) },
        },
        "rope_scaling": scaling,
        "rope_theta": short(config.rope_base),
        "sliding_window": window.map_or(4096, |window| window.size),
        "sliding_window_pattern": pattern,
    });
    common::write(config, own)
}
