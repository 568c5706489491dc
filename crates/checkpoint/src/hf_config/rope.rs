//! Rotary positions in a `config.json`, in the form of transformers 5 (`rope_parameters`) and in
//! the older one (`rope_theta` or `rotary_emb_base`, `rope_scaling`, `rotary_pct`).
//!
//! Source: `standardize_rope_params` in `modeling_rope_utils.py` of transformers, and
//! `convert_rope_params_to_dict` in `configuration_gpt_neox.py`.

use config::ROPE_BASE;

use super::Reader;
use crate::CheckpointError;

/// What a family called its settings before `rope_parameters`.
pub(super) struct OldKeys {
    pub base: &'static str,
    pub share: &'static str,
    /// Share of a head that rotates where nothing says.
    pub default_share: f32,
}

/// The base of the wavelengths. Anything but the plain rotation of all channels is refused.
pub(super) fn base(reader: &Reader, old: &OldKeys) -> Result<f32, CheckpointError> {
    // transformers prefers the older form where both say something.
    let nested = match reader.object("rope_scaling", "rope_scaling.")? {
        Some(scaling) if scaling.keys().next().is_some() => Some(scaling),
        _ => reader.object("rope_parameters", "rope_parameters.")?,
    };
    let holder = |key: &'static str, old_key: &'static str| match nested {
        Some(nested) if nested.get(key).is_some() => (nested, key),
        _ => (*reader, old_key),
    };
    if let Some(nested) = nested {
        check_plain(&nested)?;
    }
    let (place, key) = holder("partial_rotary_factor", old.share);
    if place.float(key, old.default_share)? != 1.0 {
        let expected = match place.get(key) {
            Some(_) => "1.0: all channels of a head are rotated".to_owned(),
            None => format!("1.0; left out it means {}", old.default_share),
        };
        return Err(place.refuse(key, &expected));
    }
    let (place, key) = holder("rope_theta", old.base);
    place.float(key, ROPE_BASE)
}

/// Refuses every kind of scaling, and settings of single layers.
fn check_plain(nested: &Reader) -> Result<(), CheckpointError> {
    for key in ["rope_type", "type"] {
        if nested.get(key).is_some_and(|value| value != "default") {
            return Err(nested.refuse(key, "\"default\": positions are not scaled here"));
        }
    }
    let known = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
    match nested.keys().find(|key| !known.contains(key) && nested.get(key).is_some()) {
        Some(key) => Err(nested.refuse(key, "null: positions are not scaled here")),
        None => Ok(()),
    }
}
