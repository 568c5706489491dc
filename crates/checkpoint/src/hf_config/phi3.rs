//! `Phi3ForCausalLM`: Phi-3 and Phi-4-mini.
//!
//! Source: `configuration_phi3.py` of transformers, and `_compute_longrope_parameters` in its
//! `modeling_rope_utils.py`.

use config::{Architecture, ModelConfig, ROPE_BASE, RopeScaling, Window};
use serde_json::{Value, json};

use super::common::{self, Defaults};
use super::{Reader, rope, short};
use crate::CheckpointError;

const DEFAULTS: Defaults = Defaults {
    architecture: Architecture::Phi3,
    vocab_size: 32064,
    context_length: 4096,
    n_embd: 3072,
    n_inner: 8192,
    norm_epsilon: 1e-5,
    ..common::LLAMA
};

/// Share of a head that is rotated.
const SHARE: &str = "partial_rotary_factor";

/// The kind of scaling, and its two lists of factors.
const LONGROPE: &str = "longrope";
const SHORT: &str = "short_factor";
const LONG: &str = "long_factor";

pub(super) fn read(reader: &Reader) -> Result<ModelConfig, CheckpointError> {
    // Two names of one function.
    reader.expect_text("hidden_act", "silu", &["silu", "swish"])?;
    for key in ["attention_bias", "mlp_bias", "lm_head_bias"] {
        reader.expect_switch(key, false, false)?;
    }
    let mut config = common::read(reader, &DEFAULTS)?;
    // A window as long as the context has no effect.
    let size = reader.size_or("sliding_window", usize::MAX)?;
    let window = Window { size, global_every: 0, rope_base: None };
    config.attention.window = (size < config.context_length).then_some(window);
    read_rotation(reader, &mut config)?;
    Ok(config.with_plain_attention_left_out())
}

fn read_rotation(reader: &Reader, config: &mut ModelConfig) -> Result<(), CheckpointError> {
    let nested = rope::nested(reader)?;
    let place = |key| rope::holder(reader, nested.as_ref(), key, key).0;
    config.rope_base = place("rope_theta").float("rope_theta", ROPE_BASE)?;
    let share = match place(SHARE).get(SHARE) {
        Some(share) => share.as_f64().ok_or_else(|| place(SHARE).refuse(SHARE, "a number"))?,
        None => 1.0,
    };
    // Rounded down in f64, as there; a value that is too large is refused by the limits.
    config.attention.rotated_width = Some((config.head_width() as f64 * share) as usize);
    if let Some(nested) = nested {
        config.attention.rope_scaling = scaling(reader, &nested, config.context_length)?;
    }
    Ok(())
}

fn scaling(
    reader: &Reader,
    nested: &Reader,
    context_length: usize,
) -> Result<RopeScaling, CheckpointError> {
    // Older names of the second one.
    if rope::check_kind(nested, &["default", LONGROPE, "su", "yarn"])? == "default" {
        rope::check_keys(nested, &[SHORT, LONG, rope::ORIGINAL_CONTEXT])?;
        return Ok(RopeScaling::None);
    }
    let optional = ["factor", "attention_factor"];
    rope::check_keys(nested, &[SHORT, LONG, rope::ORIGINAL_CONTEXT, optional[0], optional[1]])?;
    // The class has its own key, which replaces the nested one even if it is missing.
    let original = reader.size_or(rope::ORIGINAL_CONTEXT, 4096)?;
    let factor = match nested.get(optional[0]) {
        Some(_) => f64::from(nested.float(optional[0], 1.0)?),
        None => context_length as f64 / original as f64,
    };
    let magnitude = match nested.get(optional[1]) {
        Some(_) => nested.float(optional[1], 1.0)?,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + libm::log(factor) / libm::log(original as f64)).sqrt() as f32,
    };
    Ok(RopeScaling::LongRope {
        short: numbers(nested, SHORT)?,
        long: numbers(nested, LONG)?,
        original_context: original,
        magnitude,
    })
}

fn numbers(nested: &Reader, key: &str) -> Result<Vec<f32>, CheckpointError> {
    let expected = "a list of numbers, one for each pair of rotated channels";
    let refuse = || nested.refuse(key, expected);
    let list = nested.require(key, expected)?.as_array().ok_or_else(refuse)?;
    list.iter().map(|x| x.as_f64().map(|x| x as f32).ok_or_else(refuse)).collect()
}

pub(super) fn write(config: &ModelConfig) -> Value {
    let (rotated, width) = (config.rotated_width(), config.head_width() as f64);
    // Readers round the product down.
    let share = match rotated as f64 / width {
        share if ((share * width) as usize) < rotated => share.next_up(),
        share => share,
    };
    let mut rotation = json!({
        "rope_type": "default",
        "rope_theta": short(config.rope_base),
        SHARE: share,
    });
    let mut original = config.context_length;
    if let RopeScaling::LongRope { short: few, long, original_context, magnitude } =
        &config.attention.rope_scaling
    {
        original = *original_context;
        let list = |factors: &[f32]| factors.iter().map(|&x| short(x)).collect::<Vec<f64>>();
        let scaling = json!({
            "rope_type": LONGROPE,
            SHORT: list(few),
            LONG: list(long),
            rope::ORIGINAL_CONTEXT: original,
            "attention_factor": short(*magnitude),
        });
        super::extend(&mut rotation, scaling);
    }
    let own = json!({
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "attention_bias": false,
        "embd_pdrop": 0.0,
        "hidden_act": "silu",
        rope::ORIGINAL_CONTEXT: original,
        // The class's own default is outside of small vocabularies, and then the class refuses
        // them.
        "pad_token_id": null,
        SHARE: share,
        "resid_pdrop": 0.0,
        "rope_parameters": rotation,
        "rope_theta": short(config.rope_base),
        "sliding_window": config.attention.window.map(|window| window.size),
    });
    common::write(config, own)
}
