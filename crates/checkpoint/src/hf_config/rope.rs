//! Rotary positions in a `config.json`, in the form of transformers 5 (`rope_parameters`) and in
//! the older one (`rope_theta` or `rotary_emb_base`, `rope_scaling`, `rotary_pct`).
//!
//! Source: `standardize_rope_params` in `modeling_rope_utils.py` of transformers, and
//! `convert_rope_params_to_dict` in `configuration_gpt_neox.py`.

use config::{ModelConfig, ROPE_BASE, RopeScaling};
use serde_json::{Value, json};

use super::{Reader, extend, short};
use crate::CheckpointError;

/// Context that a model was first trained with, before its rotation was scaled.
pub(super) const ORIGINAL_CONTEXT: &str = "original_max_position_embeddings";

/// The names of a family's settings before `rope_parameters`, and their defaults.
pub(super) struct OldKeys {
    pub base: &'static str,
    /// The default of the base.
    pub default_base: f32,
    pub share: &'static str,
    /// The default share of a head that rotates.
    pub default_share: f32,
}

/// The settings of LLaMA and the families derived from it.
pub(super) const LLAMA: OldKeys = OldKeys {
    base: "rope_theta",
    default_base: ROPE_BASE,
    share: "partial_rotary_factor",
    default_share: 1.0,
};

/// The base of the wavelengths. Only the plain rotation of all channels is accepted.
pub(super) fn base(reader: &Reader, old: &OldKeys) -> Result<f32, CheckpointError> {
    let nested = nested(reader)?;
    if let Some(nested) = nested {
        check_kind(&nested, &["default"])?;
        check_keys(&nested, &[])?;
    }
    check_share(reader, nested.as_ref(), old)?;
    read_base(reader, nested.as_ref(), old)
}

/// The base of the wavelengths, and how they are scaled. A rotation of some channels only is
/// refused. `context_length` is the default of the original context.
pub(super) fn read(
    reader: &Reader,
    old: &OldKeys,
    context_length: usize,
) -> Result<(f32, RopeScaling), CheckpointError> {
    let nested = nested(reader)?;
    let Some(nested) = nested else {
        check_share(reader, None, old)?;
        return Ok((read_base(reader, None, old)?, RopeScaling::None));
    };
    let number = |key: &str| {
        nested.require(key, "a number")?;
        nested.float(key, 0.0)
    };
    let scaling = match check_kind(&nested, &["default", "linear", "llama3"])? {
        "linear" => {
            check_keys(&nested, &["factor"])?;
            RopeScaling::Linear { factor: number("factor")? }
        }
        "llama3" => {
            let keys = ["factor", "low_freq_factor", "high_freq_factor", ORIGINAL_CONTEXT];
            check_keys(&nested, &keys)?;
            // transformers prefers the outer one.
            let place = if reader.get(ORIGINAL_CONTEXT).is_some() { reader } else { &nested };
            RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: place.size_or(ORIGINAL_CONTEXT, context_length)?,
            }
        }
        _ => {
            check_keys(&nested, &[])?;
            RopeScaling::None
        }
    };
    check_share(reader, Some(&nested), old)?;
    Ok((read_base(reader, Some(&nested), old)?, scaling))
}

/// The keys of a rotation of whole heads; a scaled one in both forms.
pub(super) fn write(config: &ModelConfig) -> Value {
    let base = short(config.rope_base);
    let scaling = match config.attention.rope_scaling {
        // Factors without a rule cannot be stored here, and were refused before; LongRoPE belongs
        // to another family.
        RopeScaling::None | RopeScaling::Factors { .. } | RopeScaling::LongRope { .. } => {
            let parameters = json!({ "rope_theta": base, "rope_type": "default" });
            return json!({ "rope_parameters": parameters, "rope_theta": base });
        }
        RopeScaling::Linear { factor } => {
            json!({ "rope_type": "linear", "factor": short(factor) })
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            json!({
                "rope_type": "llama3",
                "factor": short(factor),
                "low_freq_factor": short(low_freq_factor),
                "high_freq_factor": short(high_freq_factor),
                ORIGINAL_CONTEXT: original_context,
            })
        }
    };
    let mut parameters = scaling.clone();
    extend(&mut parameters, json!({ "rope_theta": base }));
    json!({ "rope_parameters": parameters, "rope_scaling": scaling, "rope_theta": base })
}

/// The object that holds the settings, if there is one.
pub(super) fn nested<'a>(reader: &Reader<'a>) -> Result<Option<Reader<'a>>, CheckpointError> {
    // transformers prefers the older form if both are given.
    match reader.object("rope_scaling", "rope_scaling.")? {
        Some(scaling) if scaling.keys().next().is_some() => Ok(Some(scaling)),
        _ => reader.object("rope_parameters", "rope_parameters."),
    }
}

/// The location of a setting: in the nested object, or under its old name beside it.
pub(super) fn holder<'a>(
    reader: &Reader<'a>,
    nested: Option<&Reader<'a>>,
    key: &'static str,
    old_key: &'static str,
) -> (Reader<'a>, &'static str) {
    match nested {
        Some(nested) if nested.get(key).is_some() => (*nested, key),
        _ => (*reader, old_key),
    }
}

fn read_base(
    reader: &Reader,
    nested: Option<&Reader>,
    old: &OldKeys,
) -> Result<f32, CheckpointError> {
    let (place, key) = holder(reader, nested, "rope_theta", old.base);
    place.float(key, old.default_base)
}

fn check_share(
    reader: &Reader,
    nested: Option<&Reader>,
    old: &OldKeys,
) -> Result<(), CheckpointError> {
    let (place, key) = holder(reader, nested, "partial_rotary_factor", old.share);
    if place.float(key, old.default_share)? == 1.0 {
        return Ok(());
    }
    let expected = match place.get(key) {
        Some(_) => "1.0: all channels of a head are rotated".to_owned(),
        None => format!("1.0; left out it means {}", old.default_share),
    };
    Err(place.refuse(key, &expected))
}

/// The kind of scaling, which must be one of `known`.
pub(super) fn check_kind<'k>(
    nested: &Reader,
    known: &[&'k str],
) -> Result<&'k str, CheckpointError> {
    let mut kind = known[0];
    // `rope_type` counts if both are given, and neither may be unknown.
    for key in ["type", "rope_type"] {
        let Some(value) = nested.get(key) else { continue };
        let found = known.iter().find(|known| value == **known);
        kind = found.copied().ok_or_else(|| {
            let known: Vec<String> = known.iter().map(|kind| format!("\"{kind}\"")).collect();
            let expected = format!("{}: no other scaling is computed here", known.join(" or "));
            nested.refuse(key, &expected)
        })?;
    }
    Ok(kind)
}

/// Refuses settings of single layers, and settings that the kind of scaling does not have.
pub(super) fn check_keys(nested: &Reader, own: &[&str]) -> Result<(), CheckpointError> {
    let known = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
    let is_known = |key: &&str| known.contains(key) || own.contains(key);
    match nested.keys().find(|key| !is_known(key) && nested.get(key).is_some()) {
        Some(key) => Err(nested.refuse(key, "null: this rotation has no such setting")),
        None => Ok(()),
    }
}
